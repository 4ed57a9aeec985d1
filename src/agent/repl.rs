//! Programs that run what they read: shells, languages' prompts, databases' consoles. Each line is a turn to them, so a
//! message must come as one. Judged by the command line alone; decides nothing else.

use std::borrow::Cow;
use std::time::Duration;

use crate::agent::profile::{GENERIC, Profile};

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
fn console(program: &'static str) -> Profile {
    Profile {
        program: Cow::Borrowed(program),
        one_line: Some(true),
        interrupts: 0,
        enter_after: Duration::ZERO,
        ..GENERIC
    }
}

/// The row of such a program; `None` for all others, and for an interpreter that is given a program to run.
pub fn of(program: &str, args: &[String]) -> Option<Profile> {
    let bare = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is = |name: &str| name == program || name == bare;
    let interpreter = INTERPRETERS
        .into_iter()
        .find(|(name, letters)| is(name) && reads_commands(args, letters));
    CONSOLES
        .into_iter()
        .find(|name| is(name))
        .or(interpreter.map(|(name, _)| name))
        .map(console)
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
    fn what_runs_each_line_it_reads_gets_one_line_and_what_runs_a_program_is_that_program() {
        let one_line = |line: &str| {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            of(&argv[0], &argv[1..]).is_some_and(|row| row.one_line == Some(true))
        };
        for line in [
            "bash",
            "sh -i",
            "bash -e --norc --rcfile mine -o vi",
            "python3 -q",
            "python3.12",
            "ipython3",
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
