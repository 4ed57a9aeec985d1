//! What is known about each agent CLI, as table rows. A program that is in no row gets the generic one. Hooks, dialogs
//! and session files of each CLI belong here once they are used.

use std::time::Duration;

use crate::agent::prompt::Prompt;

/// Facts about one CLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// File name of the program.
    pub program: &'static str,
    /// It has a composer: raw mode and bracketed paste, or it is not at its prompt. Typing earlier leaves drafts whose
    /// Enter was swallowed (injection, start-up).
    pub composer: bool,
    /// It runs what it reads line by line, so a message comes as one line: each of several would be a turn of its own, and
    /// what a message says would be run as if somebody had typed it.
    pub one_line: bool,
    /// How its input line is drawn.
    pub prompt: Option<Prompt>,
    /// What puts a half-typed line aside until the next one is submitted, and then brings it back.
    pub stash: Option<&'static [u8]>,
    /// It glues messages together that come while its title begins so.
    pub merges_while: Option<char>,
    /// Escape interrupts what it does. Elsewhere Escape is the first half of some other key, and would eat the message's
    /// first letter.
    pub escape_interrupts: bool,
    /// From the moment a paste is drawn to Enter, at least.
    pub enter_after: Duration,
    /// After this the agent counts as ready whatever it shows.
    pub ready_within: Duration,
}

/// For programs nobody measured.
pub const GENERIC: Profile = Profile {
    program: "",
    composer: false,
    one_line: false,
    prompt: None,
    stash: None,
    merges_while: None,
    escape_interrupts: false,
    enter_after: Duration::from_millis(150),
    ready_within: Duration::from_secs(5),
};

const TABLE: [Profile; 4] = [
    Profile {
        stash: Some(b"\x13"),
        ..tui("claude", 60, '❯', 2)
    },
    tui("codex", 60, '›', 2),
    Profile {
        merges_while: Some('✦'),
        ..tui("gemini", 150, '>', 2)
    },
    tui("opencode", 150, '┃', 3),
];

const fn tui(program: &'static str, enter_after_ms: u64, mark: char, gap: u16) -> Profile {
    Profile {
        program,
        composer: true,
        one_line: false,
        prompt: Some(Prompt { mark, gap }),
        stash: None,
        merges_while: None,
        escape_interrupts: true,
        enter_after: Duration::from_millis(enter_after_ms),
        ready_within: Duration::from_secs(30),
    }
}

/// Shells and languages read commands, unless they are given a program to run, which may be anything: as a file, or behind
/// an option with one of these letters.
const INTERPRETERS: [(&str, &[char]); 12] = [
    ("ash", &['c']),
    ("bash", &['c']),
    ("dash", &['c']),
    ("fish", &['c']),
    ("ipython", &['c', 'm']),
    ("ksh", &['c']),
    ("node", &['e', 'p']),
    ("python", &['c', 'm']),
    ("python3", &['c', 'm']),
    ("ruby", &['e']),
    ("sh", &['c']),
    ("zsh", &['c']),
];
/// Programs that read commands, whatever they are given.
const CONSOLES: [&str; 9] = [
    "bc",
    "gdb",
    "irb",
    "lua",
    "mariadb",
    "mysql",
    "psql",
    "redis-cli",
    "sqlite3",
];
/// Options of interpreters that are followed by a value.
const WITH_VALUE: [&str; 9] = [
    "+O",
    "--import",
    "--init-file",
    "--rcfile",
    "--require",
    "-O",
    "-W",
    "-X",
    "-o",
];

/// A program that runs what it reads takes Enter as soon as it shows the line.
const fn console(program: &'static str) -> Profile {
    Profile {
        program,
        one_line: true,
        enter_after: Duration::ZERO,
        ..GENERIC
    }
}

/// The row for a command line.
pub fn of(argv: &[String]) -> Profile {
    let program = argv.first().map_or("", |path| {
        path.rsplit_once('/')
            .map_or(path.as_str(), |(_, name)| name)
    });
    if let Some(row) = TABLE.into_iter().find(|row| row.program == program) {
        return row;
    }
    let args = argv.get(1..).unwrap_or_default();
    let interpreter = INTERPRETERS
        .into_iter()
        .find(|(name, letters)| *name == program && reads_commands(args, letters));
    CONSOLES
        .into_iter()
        .find(|name| *name == program)
        .or(interpreter.map(|(name, _)| name))
        .map_or(GENERIC, console)
}

/// Whether an interpreter is given neither a file nor a text to run.
fn reads_commands(args: &[String], letters: &[char]) -> bool {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let short = arg.starts_with('-') && !arg.starts_with("--");
        if WITH_VALUE.contains(&arg.as_str()) {
            args.next();
            continue;
        }
        let long = ["--eval", "--print", "--command"];
        let given = short && arg.contains(letters) || long.iter().any(|name| arg.starts_with(name));
        if given || !arg.starts_with(['-', '+']) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_file_name() {
        assert!(of(&["/usr/local/bin/claude".into(), "--resume".into()]).composer);
        assert_eq!(of(&["cat".into()]), GENERIC);
        assert_eq!(of(&[]), GENERIC);
    }

    #[test]
    fn what_runs_each_line_it_reads_gets_one_line_and_what_runs_a_program_is_that_program() {
        let one_line = |line: &str| {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            of(&argv).one_line
        };
        for line in [
            "bash",
            "/bin/sh -i",
            "bash -e --norc --rcfile mine -o vi",
            "python3 -q",
            "node -i",
            "psql -h there base",
            "sqlite3 file.db",
        ] {
            assert!(one_line(line), "{line}");
        }
        for line in [
            "sh -c exec",
            "bash -lc exec",
            "bash agent.sh",
            "python3 -m agent",
            "node --no-warnings agent.js",
            "node --eval=1",
            "claude",
            "aider",
        ] {
            assert!(!one_line(line), "{line}");
        }
    }
}
