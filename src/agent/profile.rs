//! What is known about each agent CLI, as table rows. A program that is in no row gets the generic one. Hooks, dialogs
//! and session files of each CLI belong here once they are used.

use std::time::Duration;

/// Facts about one CLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// File name of the program.
    pub program: &'static str,
    /// It has a composer: raw mode and bracketed paste, or it is not at its prompt. Typing earlier leaves drafts whose
    /// Enter was swallowed (injection, start-up).
    pub composer: bool,
    /// Escape interrupts what it does. Elsewhere Escape is the first half of some other key, and would eat the message's
    /// first letter.
    pub escape_interrupts: bool,
    /// From the end of a paste to Enter, at least.
    pub enter_after: Duration,
    /// After this the agent counts as ready whatever it shows.
    pub ready_within: Duration,
}

/// For programs nobody measured.
pub const GENERIC: Profile = Profile {
    program: "",
    composer: false,
    escape_interrupts: false,
    enter_after: Duration::from_millis(150),
    ready_within: Duration::from_secs(5),
};

const TABLE: [Profile; 4] = [
    tui("claude", 60),
    tui("codex", 60),
    tui("gemini", 150),
    tui("opencode", 150),
];

const fn tui(program: &'static str, enter_after_ms: u64) -> Profile {
    Profile {
        program,
        composer: true,
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
        .unwrap_or(GENERIC)
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
}
