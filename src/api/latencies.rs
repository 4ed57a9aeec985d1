//! Where the times that messages and the journal take are counted, for `/metrics`.

use std::sync::Arc;

use crate::sys::histogram::Histogram;

/// The times that messages take, and the disk.
#[derive(Debug, Default)]
pub struct Latencies {
    /// From a message's place in its agent's queue until it is typed, Enter too.
    pub typed: Histogram,
    /// From then until it was seen to arrive, or to be typed and nothing more.
    pub verified: Histogram,
    /// From then until the engine is told.
    pub acked: Histogram,
    /// One sync of the journal.
    pub synced: Arc<Histogram>,
}
