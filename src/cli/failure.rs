//! How a command ends when it does not end well: an exit code and one line. Nothing is printed here.

use std::fmt;

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
