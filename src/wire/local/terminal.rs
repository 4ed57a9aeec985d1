//! An agent's terminal, as the local API shows it ([local-api 2.5](crate::docs::local_api#2.5)).

use serde::{Deserialize, Serialize};

use crate::ids::DeliveryId;

/// `GET …/snapshot`, answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `plain` or `ansi`.
    pub format: String,
    /// Height of the terminal.
    pub rows: u16,
    /// Width of the terminal.
    pub cols: u16,
    /// Row and column, from 1.
    pub cursor: (u16, u16),
    /// Text, or base64 of escape sequences that redraw the picture on an empty terminal.
    pub screen: String,
    /// Bytes of output that the picture already holds.
    pub offset: u64,
    /// How far typing is in this terminal; absent from brokers that do not say (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Box<TerminalView>>,
}

/// What an agent's thread knows of its terminal, beside the picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalView {
    /// `starting`, `free`, `typing`, `held_up`, `entered` (Enter is pressed, and the proof is waited for) or `over`.
    pub step: TypingStep,
    /// The message that the step is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<DeliveryId>,
    /// The title that the program gave its terminal; empty where it gave none.
    pub title: String,
    /// Whether the program says by its title or status that it works.
    pub works: bool,
    /// Whether the program's own hook has told of a message.
    pub hooked: bool,
    /// Whether the kernel collects lines for the program; absent before the settings were first looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_mode: Option<bool>,
    /// Whether the kernel shows what is typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// Whether something typed was not yet read, at the last look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<bool>,
}

/// How far an agent's thread is with its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypingStep {
    /// The program is not ready yet.
    Starting,
    /// Nothing is being typed.
    Free,
    /// A message is being typed.
    Typing,
    /// A message is held up by something in the terminal.
    HeldUp,
    /// Enter is pressed, and the proof is waited for.
    Entered,
    /// The program has ended.
    Over,
}

impl TypingStep {
    /// What people read.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Starting => "the program is not ready yet",
            Self::Free => "nothing is being typed",
            Self::Typing => "a message is being typed",
            Self::HeldUp => "a message is held up",
            Self::Entered => "Enter is pressed, and it is waited for a proof",
            Self::Over => "the program has ended",
        }
    }
}
