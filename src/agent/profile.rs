//! What is known about each agent CLI, as table rows. A program that is in no row gets the generic one. Which row
//! an agent goes by is decided in `profiles`.

use std::borrow::Cow;
use std::time::Duration;

use crate::agent::known_dialogs::{CLAUDE, CODEX, GEMINI, KnownDialog, OPENCODE};
use crate::agent::prompt::Prompt;
use crate::wire::event::{Dialog, Policy};

/// What is known of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// File name of the program.
    pub program: Cow<'static, str>,
    /// It has a composer: raw mode and bracketed paste, or it is not at its prompt. Typing earlier leaves drafts whose
    /// Enter was swallowed ([injection 3](crate::docs::injection#3)).
    pub composer: bool,
    /// It takes each line that it reads for something of its own, so a message comes as one line. `None`: only as long as its
    /// terminal is in line mode; with several lines a sender could write a line in another's name there.
    pub one_line: Option<bool>,
    /// In line mode, lines that are longer than the terminal takes are cut into several instead of refused.
    pub wraps: bool,
    /// How its input line is drawn.
    pub prompt: Option<Prompt>,
    /// The dialogs it is known to have.
    pub dialogs: &'static [KnownDialog],
    /// What to do when it asks whether to trust its folder.
    pub trust_folder: Policy,
    /// What to do when it asks for permission.
    pub permission: Policy,
    /// What puts a half-typed line aside until the next one is submitted, and then brings it back.
    pub stash: Option<Cow<'static, [u8]>>,
    /// What takes away a row of the input line. Only words of ours that the program has put back are.
    pub clears: Option<&'static [u8]>,
    /// Where it keeps what it was asked.
    pub history: Option<Source>,
    /// It takes a hook that tells what it was asked, as Claude Code does.
    pub hook: bool,
    /// How it is given tools to answer with, if it takes any.
    pub tools: Option<ToolWay>,
    /// Whether its first message says how to answer; `None` for as is usual, which is where it has a composer.
    pub hint: Option<bool>,
    /// It glues messages together that come while its title begins so.
    pub merges_while: Option<char>,
    /// How many Escapes interrupt what it does; 0 where Escape is the first half of some other key. Only programs with
    /// bracketed paste get any: in others Escape would eat the message's first letter.
    pub interrupts: u8,
    /// What its screen says while it works, where its title does not: Escape is for nothing else.
    pub busy_words: Option<&'static str>,
    /// From the moment a paste is drawn to Enter, at least.
    pub enter_after: Duration,
    /// After the first message of its life it shows another view, and takes nothing until that is there.
    pub first_rest: Duration,
    /// From the moment it says that it begins to act on a message until its model has the text, at most, on an idle machine:
    /// the turn is told to have begun so much later.
    pub asks_after: Duration,
    /// After this the agent counts as ready whatever it shows.
    pub ready_within: Duration,
}

/// How a program is given tools of ours to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolWay {
    /// `--mcp-config=FILE`, as Claude Code takes it.
    ConfigFile,
    /// `-c mcp_servers.…`, as Codex takes it.
    Overrides,
    /// A settings file that a variable names, as Gemini CLI takes it.
    SettingsFile,
    /// A variable with the configuration itself, as opencode takes it.
    Content,
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
    one_line: None,
    wraps: false,
    prompt: None,
    dialogs: &[],
    trust_folder: Policy::Hold,
    permission: Policy::Hold,
    stash: None,
    clears: None,
    history: None,
    hook: false,
    tools: None,
    hint: None,
    merges_while: None,
    interrupts: 1,
    busy_words: None,
    enter_after: Duration::from_millis(150),
    first_rest: Duration::ZERO,
    asks_after: Duration::ZERO,
    ready_within: Duration::from_secs(5),
};

/// The rows of the CLIs that were measured.
pub fn table() -> [Profile; 5] {
    [
        Profile {
            stash: Some(Cow::Borrowed(b"\x13")),
            // Measured on 2.1.332.
            clears: Some(b"\x15"),
            hook: true,
            tools: Some(ToolWay::ConfigFile),
            history: Some(Source {
                variable: Some("CLAUDE_CONFIG_DIR"),
                below_home: ".claude",
                file: "history.jsonl",
                placeholder: Some("[Pasted"),
            }),
            ..tui("claude", 60, '❯', 2, CLAUDE)
        },
        Profile {
            tools: Some(ToolWay::Overrides),
            history: Some(Source {
                variable: Some("CODEX_HOME"),
                below_home: ".codex",
                file: "history.jsonl",
                placeholder: None,
            }),
            ..tui("codex", 60, '›', 2, CODEX)
        },
        Profile {
            merges_while: Some('✦'),
            tools: Some(ToolWay::SettingsFile),
            history: Some(Source {
                variable: None,
                below_home: ".gemini",
                file: "tmp/*/logs.json",
                placeholder: None,
            }),
            ..tui("gemini", 150, '>', 2, GEMINI)
        },
        Profile {
            history: Some(Source {
                variable: Some("XDG_STATE_HOME"),
                below_home: ".local/state",
                file: "opencode/prompt-history.jsonl",
                placeholder: None,
            }),
            tools: Some(ToolWay::Content),
            // The first only asks for the second.
            interrupts: 2,
            busy_words: Some("esc interrupt"),
            first_rest: Duration::from_secs(1),
            ..tui("opencode", 60, '┃', 3, OPENCODE)
        },
        // A child of Gemini CLI with ways of its own. Measured on 0.24.4.
        Profile {
            merges_while: Some('◐'),
            clears: Some(b"\x15\x7f"),
            history: Some(Source {
                variable: None,
                below_home: ".qwen",
                file: "tmp/*/logs.json",
                placeholder: None,
            }),
            // It says so, and then makes itself ready to ask.
            asks_after: Duration::from_millis(1500),
            ..tui("qwen", 150, '>', 2, &[])
        },
    ]
}

fn tui(
    program: &'static str,
    enter_after_ms: u64,
    mark: char,
    gap: u16,
    dialogs: &'static [KnownDialog],
) -> Profile {
    Profile {
        program: Cow::Borrowed(program),
        composer: true,
        prompt: Some(Prompt { mark, gap }),
        dialogs,
        enter_after: Duration::from_millis(enter_after_ms),
        // Measured: 200 ms by hook, title or status sequence, and twice that once on a machine under load.
        asks_after: Duration::from_millis(600),
        ready_within: Duration::from_secs(30),
        ..GENERIC
    }
}

/// The row of that name.
pub fn known(name: &str) -> Option<Profile> {
    table().into_iter().find(|row| row.program == name)
}
