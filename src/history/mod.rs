//! What became of messages, kept for a while: a bounded history on disk, beside the journal and never in its way. Steps come
//! over a bounded queue and are written by a thread of their own, without a sync; what the queue cannot hold is counted and
//! marked. The journal alone decides what is pending. The history only tells.

mod files;
mod reader;
mod step;
#[cfg(test)]
mod tests;
mod writer;

pub use files::{FOLDER, HistoryLimits};
pub use reader::{Remembered, read};
pub use step::{HistoryFact, HistoryStep, MessageWay};
pub use writer::{HistoryQueue, start};
