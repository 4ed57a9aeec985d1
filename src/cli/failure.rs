//! How a command ends when it does not end well: an exit code and one line. Nothing is printed here.

use std::fmt;

use serde_json::{Value, json};

use crate::broker::StartError;
use crate::config::ConfigError;
use crate::sys::sysexit::Sysexit;

/// A command's end other than plain success.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// [`Sysexit::Success`] when something was shown instead (help).
    pub code: Sysexit,
    /// One line that says what and what to do; empty when everything is said already.
    pub text: String,
    /// The kind of reason in one word for programs, where it is known better than by the exit code.
    pub word: Option<String>,
}

impl Failure {
    /// The thing did not work.
    pub fn new(text: impl Into<String>) -> Self {
        Self::with(Sysexit::Failure, text)
    }

    /// It did not work, and the exit code tells the kind of reason.
    pub fn with(code: Sysexit, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            word: None,
        }
    }

    /// The same, with a word for programs.
    pub fn named(self, word: impl Into<String>) -> Self {
        Self {
            word: Some(word.into()),
            ..self
        }
    }

    /// The command line or a variable cannot be meant.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::with(Sysexit::Usage, text)
    }

    /// Text for standard output, and success.
    pub fn shown(text: impl Into<String>) -> Self {
        Self::with(Sysexit::Success, text)
    }

    /// Only an exit code: the output has said it.
    pub fn silent(code: Sysexit) -> Self {
        Self::with(code, "")
    }

    /// What programs read of it with `--json`, in the shape of `docs/json.md`.
    pub fn facts(&self) -> Value {
        let code = self.word.as_deref().unwrap_or(match self.code {
            Sysexit::Success | Sysexit::Failure => "failed",
            Sysexit::Usage => "usage",
            Sysexit::Ambiguous => "ambiguous",
            Sysexit::Unavailable => "engine_unavailable",
            Sysexit::OsError => "limit",
            Sysexit::CantCreate => "state_folder",
            Sysexit::TempFail => "already_running",
            Sysexit::NoPermission => "no_permission",
            Sysexit::Config => "configuration",
        });
        json!({"error": {"code": code, "message": self.text, "exit_code": self.code.code()}})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::with(error.exit, error.text)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::with(error.exit, error.text)
    }
}
