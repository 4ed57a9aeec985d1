//! An agent's end of a recording: its thread adds what came, under a lock that is held for a copy, and goes on. Never waits
//! and never touches the disk.

use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::frame::{self, HEAD, OnTape, TapeFrame, TapeHead};
use crate::msg::Size;
use crate::time::Wall;

/// The most that waits for the disk. What comes on top of that is left out.
const PENDING_MOST: usize = 4 * 1024 * 1024;
/// When so much waits, the recorder is not to sleep any longer.
const PENDING_MUCH: usize = 256 * 1024;
/// Output within this time is one frame.
const TOGETHER_MS: u64 = 10;
/// A frame of output does not grow beyond this.
const TOGETHER_MOST: usize = 16 * 1024;

/// What wakes the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecorderWake {
    /// There is something to write.
    Soon,
    /// There is much to write.
    Now,
    /// Write everything, and end.
    Last,
}

/// What waits for the disk.
#[derive(Debug, Default)]
struct PendingFrames {
    frames: Vec<u8>,
    /// Where the last frame of output begins, if it is the last frame of all, and its time.
    last: Option<(usize, Wall)>,
    /// How many bytes of output found no room behind that.
    lost: u64,
    /// Nothing more comes.
    over: bool,
}

/// What the agent's thread and the recorder share.
#[derive(Debug)]
pub(super) struct SharedTape {
    pub(super) head: TapeHead,
    pending: Mutex<PendingFrames>,
}

/// What the recorder finds.
pub(super) struct Drained {
    pub(super) frames: Vec<u8>,
    pub(super) lost: u64,
    pub(super) over: bool,
}

impl SharedTape {
    /// Takes all that waits.
    pub(super) fn drain(&self) -> Drained {
        let mut pending = self.pending.lock();
        pending.last = None;
        Drained {
            frames: std::mem::take(&mut pending.frames),
            lost: std::mem::take(&mut pending.lost),
            over: pending.over,
        }
    }
}

/// Where one life of an agent is recorded. Dropped, it is over.
#[derive(Debug)]
pub struct Tape {
    shared: Arc<SharedTape>,
    wake: Sender<RecorderWake>,
}

impl Tape {
    pub(super) fn new(head: TapeHead, wake: Sender<RecorderWake>) -> (Self, Arc<SharedTape>) {
        let shared = Arc::new(SharedTape {
            head,
            pending: Mutex::default(),
        });
        let tape = Self {
            shared: shared.clone(),
            wake,
        };
        (tape, shared)
    }

    /// The program runs.
    pub fn begun(&self, at: Wall) {
        self.note(at, OnTape::Begun(self.shared.head.clone()));
    }

    /// The program printed this.
    pub fn output(&self, at: Wall, bytes: &[u8]) {
        let mut pending = self.shared.pending.lock();
        let before = pending.frames.len();
        // A gap is at one place: nothing is written behind it before it is marked.
        if pending.lost > 0 || before + bytes.len() > PENDING_MOST {
            pending.lost += bytes.len() as u64;
            return;
        }
        if !pending.append(at, bytes) {
            pending.last = Some((before, at));
            frame::put(&mut pending.frames, frame::OUTPUT, at, bytes);
        }
        let after = pending.frames.len();
        drop(pending);
        self.wake(before, after);
    }

    /// The terminal has another size.
    pub fn resized(&self, at: Wall, size: Size) {
        self.note(at, OnTape::Resized(size));
    }

    /// The program ended.
    pub fn ended(&self, at: Wall, how: String) {
        self.note(at, OnTape::Ended(how));
    }

    fn note(&self, at: Wall, what: OnTape) {
        let mut pending = self.shared.pending.lock();
        let before = pending.frames.len();
        let lost = std::mem::take(&mut pending.lost);
        if lost > 0 {
            let what = OnTape::Lost(lost, TOO_SLOW.to_owned());
            TapeFrame { at, what }.encode(&mut pending.frames);
        }
        TapeFrame { at, what }.encode(&mut pending.frames);
        pending.last = None;
        let after = pending.frames.len();
        drop(pending);
        self.wake(before, after);
    }

    /// A full queue holds something that wakes the recorder after this.
    fn wake(&self, before: usize, after: usize) {
        if before == 0 {
            let _ = self.wake.try_send(RecorderWake::Soon);
        }
        if before < PENDING_MUCH && after >= PENDING_MUCH {
            let _ = self.wake.try_send(RecorderWake::Now);
        }
    }
}

/// Why output is missing that the agent's thread could not hand over.
pub(super) const TOO_SLOW: &str = "it came faster than the disk took it";

impl PendingFrames {
    /// Adds to the last frame of output, if it is of the same moment; whether it was.
    fn append(&mut self, at: Wall, bytes: &[u8]) -> bool {
        let Some((begin, then)) = self.last else {
            return false;
        };
        let length = self.frames.len() - begin - HEAD + bytes.len();
        if at.0.abs_diff(then.0) > TOGETHER_MS || length > TOGETHER_MOST {
            return false;
        }
        self.frames.extend_from_slice(bytes);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.frames[begin + 1..begin + 5].copy_from_slice(&length.to_le_bytes());
        true
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.shared.pending.lock().over = true;
        let _ = self.wake.try_send(RecorderWake::Soon);
    }
}
