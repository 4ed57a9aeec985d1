//! Senders that try to press keys: in real shells, languages' prompts and line readers, nothing of a message is run as a line
//! of its own, and all of its words arrive. The same in made-up terminals, by the thousand, is in `agent::core`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use crate::support::{Node, Scratch, until};

const MARKS: [&str; 2] = ["\x1b[200~", "\x1b[201~"];

/// What begins the names of files that only a message could have made.
const PWNED: &str = "pwned-";

/// Bodies in which every control, every half of the paste marks and every line end stands around a line that would make a
/// file, and how many such lines there are.
fn bodies(makes: fn(&str) -> String) -> (Vec<String>, usize) {
    let mut count = 0;
    let mut line = || {
        count += 1;
        makes(&format!("{PWNED}{count}-"))
    };
    let mut around = |parts: &[String]| {
        let lines = parts.iter().map(|p| format!("{p}\r{}\r{p}", line()));
        format!("look {} end", lines.collect::<String>())
    };
    let chars = |codes: std::ops::RangeInclusive<u8>| codes.map(|c| char::from(c).to_string());
    // Apart from what ends a terminal's string, or the words before it would be taken for the string.
    let end = "\u{9c}".to_owned();
    let c1: Vec<String> = chars(0x80..=0x9f).filter(|c| *c != end).collect();
    let halves: Vec<String> = MARKS
        .iter()
        .flat_map(|mark| (1..mark.len()).map(|at| mark.split_at(at)))
        .flat_map(|(head, tail)| {
            [MARKS[0], MARKS[1], "\x1b", "\u{9b}", "\r", "x"]
                .map(|inner| format!("{head}{inner}{tail}"))
        })
        .collect();
    let others = [
        "\n",
        "\r\n",
        "\t",
        "\u{2028}",
        "\u{2029}",
        "\u{202e}",
        "\u{2066}",
        "\u{2069}",
        "\x1bO",
        "\x1b(B",
        "\x1b]0;t\x07",
        "\u{9c}",
    ]
    .map(str::to_owned);
    let mut all = vec![
        around(&chars(0..=31).chain(chars(127..=127)).collect::<Vec<_>>()),
        around(&c1),
        around(&others),
    ];
    all.extend(halves.chunks(12).map(around));
    (all, count)
}

/// Files that messages have made.
fn made(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(PWNED))
        })
        .collect()
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Sends the bodies to a program that runs the lines it reads, each when the one before is verified; then a person makes it
/// make a file, so that it is known that it would have.
fn runs_nothing(argv: &[&str], makes: fn(&str) -> String) {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", argv);
    let boss = node.engine.register("boss");
    let mut took = Vec::new();
    let (bodies, _) = bodies(makes);
    for body in bodies.iter().map(String::as_str).chain(["and good night"]) {
        let begun = Instant::now();
        let id = node.engine.dm(&boss, "ada", body);
        let verified = until("delivery_verified", || {
            let events = node.events("delivery_verified");
            events.into_iter().find(|e| e["event_id"] == id.as_str())
        });
        took.push((begun.elapsed().as_millis(), verified["proof"].clone()));
        let proof = verified["proof"].as_str().expect("a word");
        assert!(["echo", "screen"].contains(&proof), "{verified}");
    }
    println!("{argv:?}: {took:?} ms and proofs");
    let data = format!("{}\r", makes("by-a-person"));
    let (status, answer) = node.call("POST", "/api/input/ada", Some(json!({"data": data})));
    assert_eq!(status, 200, "{answer}");
    until("the file of a person", || {
        folder.path().join("by-a-person").exists().then_some(())
    });
    assert_eq!(made(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_message_to_a_shell_is_one_line_and_nothing_in_it_is_a_key() {
    assert!(installed("bash"), "bash is everywhere");
    let touch = |file: &str| format!("touch {file}");
    runs_nothing(&["bash", "--norc", "-i"], touch);
    runs_nothing(&["bash", "--norc", "--noediting", "-i"], touch);
    runs_nothing(&["sh", "-i"], touch);
}

#[test]
fn a_message_that_waits_for_a_busy_shell_is_one_line_too() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let go = folder.path().join("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::RWXU).expect("fifo");
    node.spawn("ada", &["bash", "--norc", "-i"]);
    let boss = node.engine.register("boss");
    let press = |data: &str| {
        let (status, answer) = node.call("POST", "/api/input/ada", Some(json!({"data": data})));
        assert_eq!(status, 200, "{answer}");
    };
    // The terminal is in line mode while a command runs, and the shell reads lines that wait as if they were typed then.
    press("touch busy; cat go; touch done\r");
    until("the command", || {
        folder.path().join("busy").exists().then_some(())
    });
    let body = format!("look\rtouch {PWNED}1\r\n\ttouch {PWNED}2\u{2028}touch {PWNED}3\rend");
    let id = node.engine.dm(&boss, "ada", &body);
    until("the message in the terminal", || {
        let events = node.events("delivery_injected");
        let mut about = events.iter().filter(|e| e["event_id"] == id.as_str());
        about.next().map(drop)
    });
    std::fs::write(&go, "so long\n").expect("fifo");
    until("delivery_verified", || {
        let events = node.events("delivery_verified");
        events.into_iter().find(|e| e["event_id"] == id.as_str())
    });
    press("touch by-a-person\r");
    until("the file of a person", || {
        folder.path().join("by-a-person").exists().then_some(())
    });
    assert!(folder.path().join("done").exists());
    assert_eq!(made(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_message_to_a_languages_prompt_is_one_line_and_nothing_in_it_is_a_key() {
    type Makes = fn(&str) -> String;
    let all: [(&[&str], Makes); 4] = [
        (&["python3", "-q"], |file| format!("open('{file}', 'w')")),
        (&["node", "-i"], |file| {
            format!("fs.writeFileSync('{file}', '')")
        }),
        (&["irb"], |file| format!("File.write('{file}', '')")),
        (&["gdb", "-q", "-nx"], |file| format!("shell touch {file}")),
    ];
    for (argv, makes) in all {
        match installed(argv[0]) {
            true => runs_nothing(argv, makes),
            false => println!("{} is not installed, so it is not tried", argv[0]),
        }
    }
}

#[test]
fn all_words_of_a_hostile_message_reach_a_program_that_reads_lines_and_it_goes_on() {
    for settings in ["stty sane", "stty -echo"] {
        let folder = Scratch::new();
        let node = Node::up(folder.path(), &[]);
        node.spawn(
            "ada",
            &["sh", "-c", &format!("{settings}; exec cat >> got")],
        );
        let boss = node.engine.register("boss");
        let (bodies, lines) = bodies(|file| format!("touch {file}"));
        for body in &bodies {
            node.engine.dm(&boss, "ada", body);
        }
        until("all of them verified", || {
            (node.events("delivery_verified").len() == bodies.len()).then_some(())
        });
        let got = folder.path().join("got");
        let text = until("the end", || {
            let text = std::fs::read_to_string(&got).ok()?;
            (text.matches(" end\n").count() == bodies.len()).then_some(text)
        });
        assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
        for line in 1..=lines {
            let words = format!("touch {PWNED}{line}-");
            assert_eq!(text.matches(&words).count(), 1, "{words}: {text}");
        }
        assert_eq!(node.agent("ada").expect("it runs")["phase"], "ready");
    }
}
