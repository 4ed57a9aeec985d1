//! How a command ends when it does not end well: an exit code and one line. Nothing is printed here.

use std::fmt;

use crate::config::ConfigError;

/// A command's end other than plain success.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// 0 when something was shown instead (help), 1 for failure, 2 for usage.
    pub code: u8,
    /// One line that says what and what to do; empty when everything is said already.
    pub text: String,
}

impl Failure {
    /// The thing did not work.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            code: 1,
            text: text.into(),
        }
    }

    /// The command line or a variable cannot be meant.
    pub fn usage(text: impl Into<String>) -> Self {
        Self {
            code: 2,
            text: text.into(),
        }
    }

    /// Text for standard output, and success.
    pub fn shown(text: impl Into<String>) -> Self {
        Self {
            code: 0,
            text: text.into(),
        }
    }

    /// Only an exit code: the output has said it.
    pub fn silent(code: u8) -> Self {
        Self {
            code,
            text: String::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.0)
    }
}
