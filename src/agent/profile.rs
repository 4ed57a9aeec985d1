//! What is known about each agent CLI, as table rows. A program that is in no row gets the generic one. Hooks, dialogs
//! and session files of each CLI belong here once they are used.

use std::time::Duration;

use crate::agent::consoles;
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

/// The row for a command line.
pub fn of(argv: &[String]) -> Profile {
    let program = argv.first().map_or("", |path| {
        path.rsplit_once('/')
            .map_or(path.as_str(), |(_, name)| name)
    });
    TABLE
        .into_iter()
        .find(|row| row.program == program)
        .unwrap_or_else(|| unlisted(argv))
}

/// The row for a program that is in no other: a console shows a line as soon as it has read it, and takes Enter then.
pub fn unlisted(argv: &[String]) -> Profile {
    match consoles::runs_lines(argv) {
        true => Profile {
            one_line: true,
            enter_after: Duration::ZERO,
            ..GENERIC
        },
        false => GENERIC,
    }
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
    fn a_console_gets_one_line_and_a_cli_several() {
        let one_line = |program: &str| of(&[program.to_owned()]).one_line;
        assert!(one_line("/bin/bash") && one_line("psql"));
        assert!(!one_line("claude") && !one_line("aider"));
    }
}
