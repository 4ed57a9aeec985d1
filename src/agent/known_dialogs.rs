//! The dialogs that agent CLIs are known to have, as table rows: by which rows of the screen each is told, and how it takes
//! an answer. Where one is looked for, and when it is answered, is said in `dialog`.

use crate::wire::event::Dialog;

/// A dialog that a CLI is known to have.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownDialog {
    /// What kind it is.
    pub dialog: Dialog,
    /// How a row somewhere above `end` begins.
    pub above: &'static str,
    /// How the screen's last rows begin, marks and numbers of options left out.
    pub end: &'static [&'static str],
    /// How it is answered where a policy says so.
    pub answer: DialogAnswer,
}

/// How a CLI takes the answer that a policy gives.
#[derive(Debug, PartialEq, Eq)]
pub enum DialogAnswer {
    /// Choose the option that begins so: Enter while this mark stands before it, else its number.
    Option(&'static str, char),
    /// Escape refuses.
    Escape,
}

/// The dialogs of Claude Code.
pub const CLAUDE: &[KnownDialog] = &[
    KnownDialog {
        dialog: Dialog::TrustFolder,
        above: "Quick safety check",
        end: &["Yes, I trust this folder", "No, exit", "Enter to confirm"],
        answer: DialogAnswer::Option("Yes, I trust this folder", '❯'),
    },
    KnownDialog {
        dialog: Dialog::Permission,
        above: "Do you want to",
        end: &["No", "Esc to cancel"],
        answer: DialogAnswer::Escape,
    },
];

/// The dialogs of Codex.
pub const CODEX: &[KnownDialog] = &[KnownDialog {
    dialog: Dialog::Permission,
    above: "Would you like to",
    end: &[
        "No, and tell Codex",
        "Press enter to confirm or esc to cancel",
    ],
    answer: DialogAnswer::Escape,
}];

/// The dialogs of Gemini CLI.
pub const GEMINI: &[KnownDialog] = &[
    KnownDialog {
        dialog: Dialog::TrustFolder,
        above: "Do you trust the files in this folder?",
        end: &["Trust folder", "Trust parent folder", "Don't trust"],
        answer: DialogAnswer::Option("Trust folder", '●'),
    },
    KnownDialog {
        dialog: Dialog::Permission,
        above: "Allow once",
        end: &["No, suggest changes (esc)"],
        answer: DialogAnswer::Escape,
    },
];

/// The dialogs of OpenCode.
pub const OPENCODE: &[KnownDialog] = &[KnownDialog {
    dialog: Dialog::Permission,
    above: "Permission required",
    end: &["Allow once Allow always Reject"],
    answer: DialogAnswer::Escape,
}];
