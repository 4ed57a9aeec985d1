//! What known agent CLIs are told on their command lines and in their environment: which model to use, which session of
//! theirs to begin or to go on with, and not to replace themselves meanwhile. Never a flag that switches questions off. Pure.

/// Packages whose program bears another name.
const PACKAGES: [(&str, &str); 5] = [
    ("@anthropic-ai/claude-code", "claude"),
    ("@openai/codex", "codex"),
    ("@google/gemini-cli", "gemini"),
    ("@qwen-code/qwen-code", "qwen"),
    ("opencode-ai", "opencode"),
];

/// What is known of a CLI's words. Measured on Claude Code 2.1.332, Codex 0.171, Gemini CLI 0.61, opencode 1.18,
/// Qwen Code 0.24 and aider 0.86.
struct KnownCli {
    program: &'static str,
    /// What goes before the name of a model.
    model: &'static [&'static str],
    /// What its input line takes before the name of a model; empty where it only opens a menu.
    model_command: &'static str,
    /// What goes before the id of a session that begins.
    begin: &'static [&'static str],
    /// What goes before the id of a session that goes on.
    resume: &'static [&'static str],
    /// All words that choose a session, for seeing whether somebody has chosen one.
    session_words: &'static [&'static str],
    /// Each session is begun under an id of ours, so that it can go on later.
    names_sessions: bool,
    /// What keeps it from replacing itself while it runs.
    env: &'static [(&'static str, &'static str)],
}

const PLAIN: KnownCli = KnownCli {
    program: "",
    model: &["--model"],
    model_command: "",
    begin: &[],
    resume: &[],
    session_words: &[],
    names_sessions: false,
    env: &[],
};

const CLIS: [KnownCli; 6] = [
    KnownCli {
        program: "claude",
        model_command: "/model",
        begin: &["--session-id"],
        resume: &["--resume"],
        session_words: &[
            "--session-id",
            "--resume",
            "-r",
            "--continue",
            "-c",
            "--from-pr",
            "--teleport",
            "-p",
            "--print",
        ],
        names_sessions: true,
        env: &[("DISABLE_AUTOUPDATER", "1")],
        ..PLAIN
    },
    KnownCli {
        program: "codex",
        resume: &["resume"],
        session_words: &["resume", "fork", "exec"],
        ..PLAIN
    },
    KnownCli {
        program: "gemini",
        begin: &["--session-id"],
        resume: &["--resume"],
        session_words: &["--session-id", "--resume", "-r"],
        ..PLAIN
    },
    KnownCli {
        program: "opencode",
        resume: &["--session"],
        session_words: &["--session", "-s", "--continue", "-c"],
        env: &[("OPENCODE_DISABLE_AUTOUPDATE", "1")],
        ..PLAIN
    },
    KnownCli {
        program: "qwen",
        begin: &["--session-id"],
        resume: &["--resume"],
        session_words: &["--session-id", "--resume", "-r", "--continue", "-c"],
        ..PLAIN
    },
    KnownCli {
        program: "aider",
        model_command: "/model",
        ..PLAIN
    },
];

/// What is wanted of a CLI's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionWish {
    /// One that begins, under this id if the CLI takes one and nobody has said anything else.
    Any(String),
    /// One that begins under this id.
    Begin(String),
    /// This one goes on.
    Resume(String),
}

/// A command line with what was added to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CliLine {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The CLI's session, where it is known.
    pub session: Option<String>,
    /// What could not be said, for people.
    pub unsaid: Vec<String>,
}

/// A CLI that takes messages without a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadlessCli {
    /// Claude Code: one process that reads messages in lines of JSON.
    Claude,
    /// opencode: a process for each message.
    Opencode,
}

impl HeadlessCli {
    /// The one of that program's name.
    pub fn named(program: &str) -> Option<Self> {
        match program {
            "claude" => Some(Self::Claude),
            "opencode" => Some(Self::Opencode),
            _ => None,
        }
    }

    /// Puts what makes the program do without a terminal behind it in a command line.
    pub fn line(self, argv: &[String]) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Claude => &[
                "-p",
                "--input-format",
                "stream-json",
                "--output-format",
                "stream-json",
                "--replay-user-messages",
                "--verbose",
            ],
            Self::Opencode => &["run", "--format", "json"],
        };
        let behind = program_at(argv).map_or(argv.len(), |at| at + 1);
        let mut line = argv.to_vec();
        line.splice(behind..behind, words.iter().map(ToString::to_string));
        line
    }
}

/// Adds model and session behind the program of a command line, unless its arguments name some already. `Err` when a
/// session is to go on and nothing is known of how, or when the program would take a value for a flag.
///
/// # Errors
/// A sentence that names the program or the value.
pub fn tell(argv: &[String], model: Option<&str>, session: SessionWish) -> Result<CliLine, String> {
    let (SessionWish::Any(id) | SessionWish::Begin(id) | SessionWish::Resume(id)) = &session;
    value("session", id)?;
    model.map_or(Ok(()), |model| value("model", model))?;
    let mut told = CliLine {
        argv: argv.to_vec(),
        ..CliLine::default()
    };
    let Some(at) = program_at(argv) else {
        return Ok(told);
    };
    let (name, _) = started(argv);
    let known = CLIS.iter().find(|cli| cli.program == name);
    let args = &argv[at + 1..];
    let mut more = Vec::new();
    match say_session(known, args, session) {
        SessionWords::Words(words, id) => {
            more.extend(words);
            told.session = Some(id);
        }
        SessionWords::Nothing => {}
        SessionWords::Unknown(what) => {
            return Err(format!("nothing is known of how '{name}' {what}"));
        }
    }
    if let Some(model) = model {
        match known {
            Some(_) if chosen(args, &["--model", "-m"]) => {}
            Some(cli) => {
                more.extend(cli.model.iter().map(ToString::to_string));
                more.push(model.to_owned());
            }
            None => told.unsaid.push(format!(
                "model '{model}': nothing is known of how '{name}' is told; give it in args"
            )),
        }
    }
    told.argv.splice(at + 1..at + 1, more);
    Ok(told)
}

/// Whether a program takes this for a value wherever it stands: words that begin like a flag are flags to many.
///
/// # Errors
/// A sentence that names it.
fn value(what: &str, word: &str) -> Result<(), String> {
    let trouble = match word.chars().next() {
        None => "is empty",
        Some('-') => "begins with '-', as only flags do",
        _ if !word.chars().all(|c| c.is_ascii_graphic()) => {
            "has signs that are neither letters, digits nor punctuation"
        }
        _ => return Ok(()),
    };
    Err(format!("the {what} {word:?} {trouble}"))
}

/// What there is to say of a session.
enum SessionWords {
    Words(Vec<String>, String),
    Nothing,
    Unknown(&'static str),
}

fn say_session(known: Option<&KnownCli>, args: &[String], wish: SessionWish) -> SessionWords {
    let words = |before: &[&str], id: String| {
        let before = before.iter().map(ToString::to_string);
        SessionWords::Words(before.chain([id.clone()]).collect(), id)
    };
    let free = |cli: &&KnownCli| !chosen(args, cli.session_words);
    match (wish, known) {
        (SessionWish::Resume(id), Some(cli)) if !cli.resume.is_empty() => words(cli.resume, id),
        (SessionWish::Resume(_), _) => {
            SessionWords::Unknown("goes on with a session; give it the words for that in args")
        }
        (SessionWish::Begin(id), Some(cli)) if !cli.begin.is_empty() => words(cli.begin, id),
        (SessionWish::Begin(_), Some(_)) => {
            SessionWords::Unknown("begins a session under a given id")
        }
        // Of a program that nobody knows the id is kept and shown.
        (SessionWish::Begin(_), None) => SessionWords::Nothing,
        (SessionWish::Any(id), Some(cli)) if cli.names_sessions && free(&cli) => {
            words(cli.begin, id)
        }
        (SessionWish::Any(_), _) => SessionWords::Nothing,
    }
}

/// Whether one of these words, or one with a value behind `=`, is among the arguments.
fn chosen(args: &[String], words: &[&str]) -> bool {
    let flag = |arg: &String| {
        arg.split_once('=')
            .map_or(arg.clone(), |(flag, _)| flag.to_owned())
    };
    args.iter()
        .map(flag)
        .any(|arg| words.contains(&arg.as_str()))
}

/// What the program finds in its environment besides.
pub fn environment(argv: &[String]) -> &'static [(&'static str, &'static str)] {
    let name = started(argv).0;
    CLIS.iter()
        .find(|cli| cli.program == name)
        .map_or(&[], |cli| cli.env)
}

/// What is typed to have a running program go on with another model.
///
/// # Errors
/// A sentence: why nothing can be.
pub fn model_command(argv: &[String], model: &str) -> Result<String, String> {
    let (name, _) = started(argv);
    match CLIS.iter().find(|cli| cli.program == name) {
        Some(cli) if !cli.model_command.is_empty() => Ok(format!("{} {model}", cli.model_command)),
        Some(_) => Err(format!(
            "'{name}' has only a menu for its model, and nobody but a person answers menus; attach to it, or start it anew with \
             the model"
        )),
        None => Err(format!(
            "nothing is known of how '{name}' changes its model; `relay-broker send --raw` types whatever does"
        )),
    }
}

/// The file name of the program that a command line starts, seen through `env` and `npx`, and its arguments.
pub fn started(argv: &[String]) -> (&str, &[String]) {
    let Some(at) = program_at(argv) else {
        return ("", &[]);
    };
    let is_package = argv[..at].iter().any(|word| file_name(word) == "npx");
    let word = match is_package {
        true => program_of(&argv[at]),
        false => &argv[at],
    };
    (file_name(word), &argv[at + 1..])
}

/// Where in a command line the program stands.
fn program_at(argv: &[String]) -> Option<usize> {
    let mut at = 0;
    if file_name(argv.first()?) == "env" {
        at = behind_env(argv)?;
    }
    if file_name(argv.get(at)?) == "npx" {
        let flag = |word: &str| matches!(word, "-y" | "--yes" | "-q" | "--quiet" | "--");
        at += 1 + argv[at + 1..].iter().position(|word| !flag(word))?;
    }
    Some(at)
}

/// Where the program stands that `env` becomes.
fn behind_env(argv: &[String]) -> Option<usize> {
    let mut at = 1;
    loop {
        match argv.get(at)?.as_str() {
            "-u" | "-C" | "--unset" | "--chdir" => at += 2,
            flag if flag.starts_with('-') || flag.contains('=') => at += 1,
            _ => return Some(at),
        }
    }
}

/// The program that a package brings.
fn program_of(package: &str) -> &str {
    // The first letter may be the `@` of a scope.
    let version = package.rfind('@').filter(|at| *at > 0);
    let package = &package[..version.unwrap_or(package.len())];
    let listed = PACKAGES.iter().find(|(name, _)| *name == package);
    listed.map_or(package, |(_, program)| program)
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn any() -> SessionWish {
        SessionWish::Any("u1".into())
    }

    #[test]
    fn a_cli_is_known_behind_env_and_npx_too() {
        for line in [
            "claude --resume",
            "/usr/local/bin/claude",
            "env claude",
            "/usr/bin/env A=1 B=two=3 /opt/claude -p x",
            "npx @anthropic-ai/claude-code",
            "npx -y @anthropic-ai/claude-code@2.1.197 --resume",
            "env -i A=1 claude",
            "env -u VARIABLE -C /claude claude",
            "env A=1 npx --yes claude@latest",
        ] {
            assert_eq!(started(&words(line)).0, "claude", "{line}");
        }
        for (line, name) in [
            ("", ""),
            ("env", ""),
            ("npx -p claude other", "-p"),
            ("npx opencode-ai@1", "opencode"),
            ("npx @some/tool@1", "tool"),
        ] {
            assert_eq!(started(&words(line)).0, name, "{line}");
        }
    }

    #[test]
    fn model_and_session_stand_behind_the_program_whatever_starts_it() {
        for (line, model, wish, expected) in [
            (
                "claude",
                Some("opus"),
                any(),
                "claude --session-id u1 --model opus",
            ),
            (
                "env -i A=1 /opt/claude -v",
                None,
                any(),
                "env -i A=1 /opt/claude --session-id u1 -v",
            ),
            (
                "npx -y @anthropic-ai/claude-code@2 -v",
                Some("m"),
                any(),
                "npx -y @anthropic-ai/claude-code@2 --session-id u1 --model m -v",
            ),
            (
                "claude",
                None,
                SessionWish::Resume("s9".into()),
                "claude --resume s9",
            ),
            (
                "codex -a never",
                Some("o4"),
                SessionWish::Resume("s9".into()),
                "codex resume s9 --model o4 -a never",
            ),
            (
                "opencode",
                None,
                SessionWish::Resume("s9".into()),
                "opencode --session s9",
            ),
            (
                "gemini",
                None,
                SessionWish::Begin("s1".into()),
                "gemini --session-id s1",
            ),
            ("codex", None, any(), "codex"),
            ("cat -u", None, any(), "cat -u"),
        ] {
            let told = tell(&words(line), model, wish).expect(line);
            assert_eq!(told.argv.join(" "), expected);
            assert!(told.unsaid.is_empty(), "{line}: {:?}", told.unsaid);
        }
    }

    #[test]
    fn what_the_caller_has_chosen_himself_stays_as_it_is() {
        for line in [
            "claude --resume",
            "claude -c",
            "claude --session-id=x",
            "claude -r x",
        ] {
            let told = tell(&words(line), None, any()).expect(line);
            assert_eq!((told.argv, told.session), (words(line), None));
        }
        for line in ["claude -c --model=haiku", "codex -m o4"] {
            assert_eq!(
                tell(&words(line), Some("opus"), any()).expect(line).argv,
                words(line)
            );
        }
    }

    #[test]
    fn nothing_is_dropped_in_silence() {
        let told = tell(&words("cat"), Some("opus"), any()).expect("it starts all the same");
        assert_eq!(told.argv, ["cat"]);
        assert!(told.unsaid[0].contains("'cat'"), "{:?}", told.unsaid);
        for (line, wish) in [
            ("cat", SessionWish::Resume("s".into())),
            ("aider", SessionWish::Resume("s".into())),
            ("codex", SessionWish::Begin("s".into())),
        ] {
            assert!(tell(&words(line), None, wish).is_err(), "{line}");
        }
        assert_eq!(
            model_command(&words("claude"), "opus").as_deref(),
            Ok("/model opus")
        );
        for line in ["codex", "cat", ""] {
            assert!(model_command(&words(line), "opus").is_err(), "{line}");
        }
    }

    #[test]
    fn no_value_is_taken_for_a_flag() {
        for cli in CLIS.iter().map(|cli| cli.program) {
            for word in [
                "--dangerously-skip-permissions",
                "-c",
                "",
                "a b",
                "a\u{1b}[2J",
            ] {
                let line = words(cli);
                for wish in [
                    SessionWish::Begin(word.into()),
                    SessionWish::Resume(word.into()),
                ] {
                    let why = tell(&line, None, wish).expect_err(word);
                    assert!(why.contains(&format!("{word:?}")), "{cli}: {why}");
                }
                let why = tell(&line, Some(word), any()).expect_err(word);
                assert!(why.contains("model"), "{cli}: {why}");
            }
        }
    }

    #[test]
    fn no_word_of_ours_switches_questions_off() {
        for cli in &CLIS {
            let headless = HeadlessCli::named(cli.program).map(|cli| cli.line(&[]));
            let said = [cli.model, cli.begin, cli.resume].concat();
            let env = cli.env.iter().map(|(key, _)| *key);
            let said = said.into_iter().chain(env).map(str::to_owned);
            for word in said.chain(headless.into_iter().flatten()) {
                let word = word.to_lowercase();
                assert!(
                    ![
                        "skip",
                        "bypass",
                        "yolo",
                        "danger",
                        "approve",
                        "force",
                        "permission"
                    ]
                    .iter()
                    .any(|bad| word.contains(bad)),
                    "{word}"
                );
            }
        }
    }
}
