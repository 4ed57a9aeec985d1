//! What is known about each agent CLI, as table rows. A program that is in no row gets the generic one. Which row
//! an agent goes by is decided in `rows`.

use std::borrow::Cow;
use std::time::Duration;

use crate::agent::consoles;
use crate::agent::prompt::Prompt;
use crate::agent::rows;

/// Facts about one CLI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// File name of the program.
    pub program: Cow<'static, str>,
    /// It has a composer: raw mode and bracketed paste, or it is not at its prompt. Typing earlier leaves drafts whose
    /// Enter was swallowed (injection, start-up).
    pub composer: bool,
    /// It runs what it reads line by line, so a message comes as one line: each of several would be a turn of its own, and
    /// what a message says would be run as if somebody had typed it.
    pub one_line: bool,
    /// How its input line is drawn.
    pub prompt: Option<Prompt>,
    /// What puts a half-typed line aside until the next one is submitted, and then brings it back.
    pub stash: Option<Cow<'static, [u8]>>,
    /// Where it keeps what it was asked.
    pub history: Option<Source>,
    /// It takes a hook that tells what it was asked, as Claude Code does.
    pub hook: bool,
    /// It glues messages together that come while its title begins so.
    pub merges_while: Option<char>,
    /// How many Escapes interrupt what it does; 0 where Escape is the first half of some other key, and would eat the
    /// message's first letter.
    pub interrupts: u8,
    /// From the moment a paste is drawn to Enter, at least.
    pub enter_after: Duration,
    /// After this the agent counts as ready whatever it shows.
    pub ready_within: Duration,
}

/// A file in which a CLI keeps what it was asked, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Names the folder, if set in the program's environment.
    pub variable: Option<&'static str>,
    /// The folder below HOME otherwise.
    pub below_home: &'static str,
    /// The file below that; a name of `*` stands for any folder.
    pub file: &'static str,
    /// How it writes a long paste, when not in full.
    pub placeholder: Option<&'static str>,
}

/// For programs nobody measured.
pub const GENERIC: Profile = Profile {
    program: Cow::Borrowed(""),
    composer: false,
    one_line: false,
    prompt: None,
    stash: None,
    history: None,
    hook: false,
    merges_while: None,
    interrupts: 0,
    enter_after: Duration::from_millis(150),
    ready_within: Duration::from_secs(5),
};

/// The rows of the CLIs that were measured.
pub fn table() -> [Profile; 4] {
    [
        Profile {
            stash: Some(Cow::Borrowed(b"\x13")),
            hook: true,
            history: Some(Source {
                variable: Some("CLAUDE_CONFIG_DIR"),
                below_home: ".claude",
                file: "history.jsonl",
                placeholder: Some("[Pasted"),
            }),
            ..tui("claude", 60, '❯', 2)
        },
        Profile {
            history: Some(Source {
                variable: Some("CODEX_HOME"),
                below_home: ".codex",
                file: "history.jsonl",
                placeholder: None,
            }),
            ..tui("codex", 60, '›', 2)
        },
        Profile {
            merges_while: Some('✦'),
            history: Some(Source {
                variable: None,
                below_home: ".gemini",
                file: "tmp/*/logs.json",
                placeholder: None,
            }),
            ..tui("gemini", 150, '>', 2)
        },
        Profile {
            history: Some(Source {
                variable: Some("XDG_STATE_HOME"),
                below_home: ".local/state",
                file: "opencode/prompt-history.jsonl",
                placeholder: None,
            }),
            // The first only asks for the second.
            interrupts: 2,
            ..tui("opencode", 150, '┃', 3)
        },
    ]
}

fn tui(program: &'static str, enter_after_ms: u64, mark: char, gap: u16) -> Profile {
    Profile {
        program: Cow::Borrowed(program),
        composer: true,
        one_line: false,
        prompt: Some(Prompt { mark, gap }),
        stash: None,
        history: None,
        hook: false,
        merges_while: None,
        interrupts: 1,
        enter_after: Duration::from_millis(enter_after_ms),
        ready_within: Duration::from_secs(30),
    }
}

/// The row for a command line.
pub fn of(argv: &[String]) -> Profile {
    known(rows::program(argv)).unwrap_or_else(|| unlisted(argv))
}

/// The row of that name.
pub fn known(name: &str) -> Option<Profile> {
    table().into_iter().find(|row| row.program == name)
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
