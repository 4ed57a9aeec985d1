//! Every `relay-broker …` that a Markdown file shows is a command that the program has, with flags that it knows; those
//! that need nothing else are run.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use super::markdown::Code;
use super::papers;

const PROGRAM: &str = "relay-broker";

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-broker"));
    command.args(words).output().expect("the program itself")
}

/// The help of the program and of its commands, each asked for once.
#[derive(Default)]
struct Help(BTreeMap<String, String>);

impl Help {
    fn of(&mut self, command: &[&str]) -> String {
        let asked = self.0.entry(command.join(" ")).or_insert_with(|| {
            let output = run(&[command, &["--help"]].concat());
            assert!(output.status.success(), "{PROGRAM} {command:?} --help");
            String::from_utf8(output.stdout).expect("help in UTF-8")
        });
        asked.clone()
    }

    /// The commands below this one.
    fn commands(&mut self, command: &[&str]) -> Vec<String> {
        let help = self.of(command);
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let listed = listed.take_while(|line| !line.is_empty());
        let names = listed.filter_map(|line| line.split_whitespace().next());
        names.map(str::to_owned).collect()
    }

    /// Whether this command, or the program as a whole, knows the flag.
    fn knows(&mut self, command: &[&str], flag: &str) -> bool {
        let help = self.of(command);
        let mut words = help.split(|c: char| c.is_whitespace() || ",[]<>=".contains(c));
        words.any(|word| word == flag)
    }
}

/// The words of a command that begins here, up to where the shell or another program goes on.
fn words(text: &str) -> Vec<String> {
    let whole = shell_words::split(text);
    // A command inside of quotes ends with them.
    let upto = |mark: char| text.split(mark).next().unwrap_or_default();
    let words = whole
        .or_else(|_| shell_words::split(upto('\'')))
        .or_else(|_| shell_words::split(upto('"')))
        .unwrap_or_default();
    let ends = |word: &String| matches!(word.as_str(), "--" | "|" | "||" | "&&" | ";" | ">" | "#");
    let mut own: Vec<_> = words.into_iter().take_while(|word| !ends(word)).collect();
    for word in &mut own {
        // `eval "$(relay-broker env)"`
        let closed = word.trim_end_matches([')', ';', ',']).len();
        word.truncate(closed);
    }
    own
}

/// The commands that a piece of code shows, each as its words behind the program's name.
fn shown(code: &Code, known: &[String]) -> Vec<Vec<String>> {
    // `CMD ["relay-broker", "up"]` is a command line, too.
    let text = match code.text.contains(&format!("[\"{PROGRAM}\"")) {
        true => code
            .text
            .replace("\", \"", " ")
            .replace(['[', ']', '"'], " "),
        false => code.text.clone(),
    };
    let name = format!("{PROGRAM} ");
    let mut found: Vec<_> = text
        .match_indices(&name)
        .map(|(at, name)| words(&text[at + name.len()..]))
        .collect();
    // In a sentence the program's name may be left out: `up --max-pending`.
    let bare = text
        .split_once(" --")
        .is_some_and(|(command, _)| known.iter().any(|name| name == command));
    if code.language.is_none() && bare {
        found.push(words(&text));
    }
    // What is written in capitals stands for something, and the program's own lines begin with its name as well.
    let real = |words: &Vec<String>| {
        words
            .first()
            .is_some_and(|word| word.starts_with(|c: char| c.is_ascii_lowercase() || c == '-'))
    };
    found.into_iter().filter(real).collect()
}

/// Why the program would not take this command line.
fn objection(words: &[String], help: &mut Help) -> Option<String> {
    let mut command: Vec<&str> = Vec::new();
    let mut rest = words.iter().map(String::as_str).peekable();
    while let Some(word) = rest.peek() {
        let below = help.commands(&command);
        if word.starts_with('-') || below.is_empty() {
            break;
        }
        if !below.iter().any(|name| name == word) {
            return Some(format!("{command:?} has no command {word}"));
        }
        command.extend(rest.next());
    }
    let flags = rest.filter(|word| word.starts_with('-') && word.len() > 1);
    let mut names = flags.map(|flag| flag.split('=').next().unwrap_or_default());
    let strange = names.find(|flag| !help.knows(&command, flag))?;
    Some(format!("{command:?} has no flag {strange}"))
}

/// Whoever copies a command out of a Markdown file has one that the program takes.
#[test]
fn every_command_in_a_markdown_file_is_one_of_the_programs() {
    let mut help = Help::default();
    let known = help.commands(&[]);
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for paper in papers() {
        for code in paper.code() {
            for words in shown(&code, &known) {
                seen += 1;
                let what = objection(&words, &mut help);
                let place = format!("{}:{}", paper.path.display(), code.line);
                wrong.extend(
                    what.map(|what| format!("{place}: {PROGRAM} {}: {what}", words.join(" "))),
                );
            }
        }
    }
    assert!(seen > 50, "only {seen} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A command or a flag that the program does not have is found, wherever it stands.
#[test]
fn a_command_that_the_program_does_not_have_is_found() {
    let mut help = Help::default();
    let known = help.commands(&[]);
    let code = |text: &str, language: Option<&str>| Code {
        line: 1,
        text: text.to_owned(),
        language: language.map(str::to_owned),
    };
    for text in [
        "$ relay-broker fly",
        "$ relay-broker journal burn",
        "$ relay-broker send ada 'say: relay-broker send bob x --form ada' --wait",
        "$ eval \"$(relay-broker env --jason)\"",
        "CMD [\"relay-broker\", \"up\", \"--stat-dir\", \"/state\"]",
        "$ relay-broker wait ada && relay-broker sned ada x",
    ] {
        let lines = shown(&code(text, Some("console")), &known);
        assert!(
            lines
                .iter()
                .any(|words| objection(words, &mut help).is_some()),
            "{text}"
        );
    }
    assert_eq!(shown(&code("up --max-pendings 3", None), &known).len(), 1);
    let fine = shown(
        &code(
            "$ relay-broker spawn eve --task 'x --y' -- claude --model m",
            Some("console"),
        ),
        &known,
    );
    assert_eq!(
        fine.iter()
            .filter_map(|words| objection(words, &mut help))
            .next(),
        None
    );
}

/// Each command tells its help, and the program its version, with nothing set up.
#[test]
fn the_commands_that_need_nothing_else_do_what_they_say() {
    let mut help = Help::default();
    for name in help.commands(&[]) {
        if name != "help" {
            assert!(
                help.of(&[&name]).contains(&format!("{PROGRAM} {name}")),
                "{name}"
            );
        }
    }
    let version = run(&["--version"]);
    let expected = format!("{PROGRAM} {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
    assert!(version.status.success());
}
