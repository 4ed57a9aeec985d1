//! What is wrong with the settings.

use crate::sys::sysexit::Sysexit;

/// What is wrong with a flag, a variable or a file: one sentence with the way out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ConfigError {
    /// The sentence.
    pub text: String,
    /// [`Sysexit::Usage`] for what the command line itself says, [`Sysexit::Config`] for what variables and files say.
    pub exit: Sysexit,
}

impl ConfigError {
    /// The command line cannot be meant.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            exit: Sysexit::Usage,
        }
    }

    /// A variable, or a file that a variable or flag names, cannot be meant.
    pub(super) fn setting(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            exit: Sysexit::Config,
        }
    }

    /// What `origin`, a flag or a variable, says cannot be meant.
    pub(super) fn of(origin: &str, text: impl Into<String>) -> Self {
        match origin.starts_with("--") {
            true => Self::usage(text),
            false => Self::setting(text),
        }
    }
}
