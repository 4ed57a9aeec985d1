//! How much of a history is kept, and in which files.

use std::time::Duration;

/// The folder, in the state folder.
pub const FOLDER: &str = "history";
/// How many files there are: the one that is written, and older ones.
pub(super) const FILES: u32 = 4;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Of all files together, in bytes; 0 for no history.
    pub bytes: u64,
    /// How old a step may become.
    pub age: Duration,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            bytes: 16 * 1024 * 1024,
            age: Duration::from_secs(14 * 24 * 3600),
        }
    }
}

/// A file by its age: 0 is the one that is written.
pub(super) fn file_name(age: u32) -> String {
    match age {
        0 => "steps.jsonl".to_owned(),
        age => format!("steps.{age}.jsonl"),
    }
}
