//! What is wrong, and what can be done about it.

use serde::Serialize;

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cause {
    /// For programs.
    pub(super) cause: &'static str,
    /// For people.
    pub(super) sentence: String,
    /// Whether nothing is typed as long as this is so.
    pub(super) stops: bool,
    /// What to do about it.
    pub(super) ways: Vec<WayOut>,
}

/// One thing that can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct WayOut {
    /// A line for a shell.
    pub(super) command: String,
    /// What it does.
    pub(super) does: String,
}

impl Cause {
    pub(super) fn stops(cause: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            cause,
            sentence: sentence.into(),
            stops: true,
            ways: Vec::new(),
        }
    }

    pub(super) fn beside(cause: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            stops: false,
            ..Self::stops(cause, sentence)
        }
    }

    pub(super) fn way(mut self, command: impl Into<String>, does: impl Into<String>) -> Self {
        self.ways.push(WayOut {
            command: command.into(),
            does: does.into(),
        });
        self
    }
}

/// How commands about one agent are written.
pub(super) struct Commands<'a> {
    program: &'a str,
    name: String,
}

impl<'a> Commands<'a> {
    pub(super) fn new(program: &'a str, name: &str) -> Self {
        Self {
            program,
            name: shell_words::quote(name).into_owned(),
        }
    }

    /// A command about this agent.
    pub(super) fn of(&self, word: &str) -> String {
        format!("{} {word} {}", self.program, self.name)
    }

    /// Another command.
    pub(super) fn other(&self, words: &str) -> String {
        format!("{} {words}", self.program)
    }
}
