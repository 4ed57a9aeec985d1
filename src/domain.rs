//! Words of the domain: how a message is let in, how it is known to have arrived, how an action ended. They have no spelling
//! of their own. What crosses a socket is spelled in [`crate::wire`], what lies on disk in the journals' rooms, and neither
//! changes with the other; a field that forgets to say how it is spelled does not compile.

use serde_json::Value;

/// How urgently a message wants in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// When the agent can take it.
    #[default]
    Wait,
    /// Now, interrupting what it does.
    Steer,
}

impl Mode {
    /// `wait` or `steer`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Wait => "wait",
            Mode::Steer => "steer",
        }
    }
}

/// Whether messages are typed as they come or parked until asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Typed as they come.
    #[default]
    AutoInject,
    /// Parked; `flush` or the return to `auto_inject` types them in order.
    ManualFlush,
}

/// How we know that a delivery arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The program itself told us what it was asked.
    Hook,
    /// The program wrote it into the file in which it keeps what it was asked.
    Transcript,
    /// Its text left the input line, and the program said by its title or a status sequence that it works now.
    Osc,
    /// The terminal showed our text.
    Echo,
    /// Its text left the input line.
    Screen,
    /// The program took every byte from its terminal, and did not show them.
    Read,
    /// Nothing was seen within the window.
    None,
}

impl Proof {
    /// How a delivery ended, in the words that every place uses: `verified …` or `unverified`.
    pub fn words(self) -> &'static str {
        match self {
            Proof::Hook => "verified by the program's own hook",
            Proof::Transcript => "verified by the program's own history",
            Proof::Osc => "verified by the program's own status",
            Proof::Echo => "verified by echo",
            Proof::Screen => "verified by the screen changing",
            Proof::Read => "verified as read",
            Proof::None => "unverified",
        }
    }

    /// Whether anything was seen.
    pub fn is_seen(self) -> bool {
        self != Proof::None
    }
}

/// What is kept on disk of what an agent prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordForm {
    /// Nothing.
    Off,
    /// Its lines of text.
    Plain,
    /// Every byte, so that it can be played again.
    #[default]
    Raw,
}

impl RecordForm {
    /// All of them, as people write them.
    pub const WORDS: [&str; 3] = ["off", "plain", "raw"];

    /// `off`, `plain` or `raw`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Plain => "plain",
            Self::Raw => "raw",
        }
    }

    /// The form of that word.
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Off, Self::Plain, Self::Raw];
        all.into_iter().find(|form| form.word() == word)
    }
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Any JSON, null included.
    Output(Value),
    /// A short text.
    Error(String),
}
