//! What is known about each agent CLI, as table rows. A program that is in no row gets the generic one. Hooks and session
//! files of each CLI belong here once they are used. Which row an agent goes by is decided in `rows`.

use std::borrow::Cow;
use std::time::Duration;

use crate::agent::dialog::{self, Known};
use crate::agent::prompt::Prompt;
use crate::agent::rows;
use crate::wire::event::{Dialog, Policy};

/// Facts about one CLI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// File name of the program.
    pub program: Cow<'static, str>,
    /// It has a composer: raw mode and bracketed paste, or it is not at its prompt. Typing earlier leaves drafts whose
    /// Enter was swallowed (injection, start-up).
    pub composer: bool,
    /// How its input line is drawn.
    pub prompt: Option<Prompt>,
    /// The dialogs it is known to have.
    pub dialogs: &'static [Known],
    /// What to do when it asks whether to trust its folder.
    pub trust_folder: Policy,
    /// What to do when it asks for permission.
    pub permission: Policy,
    /// What puts a half-typed line aside until the next one is submitted, and then brings it back.
    pub stash: Option<Cow<'static, [u8]>>,
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

impl Profile {
    /// What to do about a dialog.
    pub fn policy(&self, dialog: Dialog) -> Policy {
        match dialog {
            Dialog::TrustFolder => self.trust_folder,
            Dialog::Permission => self.permission,
            Dialog::Unknown => Policy::Hold,
        }
    }
}

/// For programs nobody measured.
pub const GENERIC: Profile = Profile {
    program: Cow::Borrowed(""),
    composer: false,
    prompt: None,
    dialogs: &[],
    trust_folder: Policy::Hold,
    permission: Policy::Hold,
    stash: None,
    merges_while: None,
    escape_interrupts: false,
    enter_after: Duration::from_millis(150),
    ready_within: Duration::from_secs(5),
};

/// The rows of the CLIs that were measured.
pub fn table() -> [Profile; 4] {
    [
        Profile {
            stash: Some(Cow::Borrowed(b"\x13")),
            ..tui("claude", 60, '❯', 2, dialog::CLAUDE)
        },
        tui("codex", 60, '›', 2, dialog::CODEX),
        Profile {
            merges_while: Some('✦'),
            ..tui("gemini", 150, '>', 2, dialog::GEMINI)
        },
        tui("opencode", 150, '┃', 3, dialog::OPENCODE),
    ]
}

fn tui(
    program: &'static str,
    enter_after_ms: u64,
    mark: char,
    gap: u16,
    dialogs: &'static [Known],
) -> Profile {
    Profile {
        program: Cow::Borrowed(program),
        composer: true,
        prompt: Some(Prompt { mark, gap }),
        dialogs,
        trust_folder: Policy::Hold,
        permission: Policy::Hold,
        stash: None,
        merges_while: None,
        escape_interrupts: true,
        enter_after: Duration::from_millis(enter_after_ms),
        ready_within: Duration::from_secs(30),
    }
}

/// The row for a command line.
pub fn of(argv: &[String]) -> Profile {
    known(rows::program(argv)).unwrap_or(GENERIC)
}

/// The row of that name.
pub fn known(name: &str) -> Option<Profile> {
    table().into_iter().find(|row| row.program == name)
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
