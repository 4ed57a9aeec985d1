//! What agents printed, on disk: a ring of small files for each name, written by one thread for all agents, so that no agent
//! and no message ever waits for the disk. What the disk does not take in time is left out, and the gap is marked. Readers
//! need no broker. Nothing here is synced: a power cut may cost the last seconds, and a killed broker the last tenth of one.

mod folder;
mod frame;
mod reader;
mod recorder;
mod tape;
mod writer;

pub use folder::{FOLDER, Recorded, recorded};
pub use frame::{OnTape, TapeFrame, TapeHead};
pub use reader::TapeReader;
pub use recorder::{BYTES, RecordSettings, Recorder};
pub use tape::Tape;

/// The least that can be asked for.
pub const BYTES_LEAST: u64 = 256 * 1024;

#[cfg(test)]
mod tests;
