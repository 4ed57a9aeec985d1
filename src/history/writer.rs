//! The thread that writes the history, and the queue that leads to it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::files::{FILES, HistoryLimits, file_name};
use super::step::{HistoryFact, HistoryStep};
use crate::sys::disk::{create_private_dir, open_private};
use crate::sys::{clock, thread};

/// How many steps may wait to be written.
const QUEUE: usize = 4096;
/// How many are written at once.
const BATCH: usize = 512;
/// Stack of the thread, in KiB.
const STACK_KIB: usize = 128;

/// Where steps are handed in. Nobody waits there: a step that finds no room is counted, and the count is written down.
#[derive(Clone, Debug, Default)]
pub struct HistoryQueue {
    steps: Option<Sender<HistoryStep>>,
    lost: Arc<AtomicU64>,
}

impl HistoryQueue {
    /// Takes one step.
    pub fn note(&self, step: HistoryStep) {
        let Some(steps) = &self.steps else {
            return;
        };
        if let Err(TrySendError::Full(_)) = steps.try_send(step) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether anything is written at all.
    pub fn is_kept(&self) -> bool {
        self.steps.is_some()
    }
}

/// Starts the thread for a folder, which is made if it is missing. It ends when the last queue is dropped and what was handed
/// in is written.
///
/// # Errors
/// When there is no folder or thread to be had.
pub fn start(dir: &Path, limits: HistoryLimits) -> io::Result<(HistoryQueue, thread::Handle)> {
    create_private_dir(dir)?;
    let (queue, steps) = queue(QUEUE);
    let lost = queue.lost.clone();
    let mut files = HistoryFiles::new(dir, limits);
    let handle = thread::start("history", STACK_KIB, move || files.follow(&steps, &lost))?;
    Ok((queue, handle))
}

/// A queue, and its end that is read.
pub(super) fn queue(room: usize) -> (HistoryQueue, Receiver<HistoryStep>) {
    let (sender, steps) = bounded(room);
    let queue = HistoryQueue {
        steps: Some(sender),
        lost: Arc::default(),
    };
    (queue, steps)
}

/// The files of a history.
pub(super) struct HistoryFiles {
    dir: PathBuf,
    limits: HistoryLimits,
    open: Option<OpenFile>,
    /// What could not be written is told once, until it can be again.
    failing: bool,
}

/// The one that is written.
struct OpenFile {
    file: File,
    bytes: u64,
    since: SystemTime,
}

impl HistoryFiles {
    pub(super) fn new(dir: &Path, limits: HistoryLimits) -> Self {
        Self {
            dir: dir.to_owned(),
            limits,
            open: None,
            failing: false,
        }
    }

    /// Writes what comes until nobody can hand in anything any more.
    fn follow(&mut self, steps: &Receiver<HistoryStep>, lost: &AtomicU64) {
        self.forget();
        while let Ok(first) = steps.recv() {
            let mut batch = vec![first];
            batch.extend(steps.try_iter().take(BATCH - 1));
            self.write(batch, lost);
        }
    }

    /// Writes some steps; those that cannot be written are counted as lost.
    pub(super) fn write(&mut self, mut batch: Vec<HistoryStep>, lost: &AtomicU64) {
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            batch.insert(0, gap(count));
        }
        let mut text = Vec::new();
        for step in &batch {
            if serde_json::to_writer(&mut text, step).is_ok() {
                text.push(b'\n');
            }
        }
        let done = self.append(&text);
        if let Err(e) = &done {
            let own = batch.len() as u64 - u64::from(count > 0);
            lost.fetch_add(count + own, Ordering::Relaxed);
            self.open = None;
            if !self.failing {
                log::warn!(event = "history_unwritable"; "the history in {} cannot be written: {e}", self.dir.display());
            }
        }
        self.failing = done.is_err();
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let each = self.limits.bytes / u64::from(FILES);
        if let Some(open) = &self.open
            && (open.bytes > 0 && open.bytes + text.len() as u64 > each || self.is_old(open.since))
        {
            self.turn()?;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let open = self.open.insert(open);
        open.file.write_all(text)?;
        open.bytes += text.len() as u64;
        Ok(())
    }

    /// Opens the file that is written. A line that a kill has cut off is closed, so that the next one can be read.
    fn begin(&self) -> io::Result<OpenFile> {
        let path = self.dir.join(file_name(0));
        drop(open_private(&path)?);
        let mut file = File::options().append(true).open(&path)?;
        let about = file.metadata()?;
        let whole = fs::read(&path)?.last().is_none_or(|last| *last == b'\n');
        if !whole {
            file.write_all(b"\n")?;
        }
        Ok(OpenFile {
            bytes: about.len(),
            since: about.created().or_else(|_| about.modified())?,
            file,
        })
    }

    /// The file that was written becomes the newest of the older ones.
    fn turn(&mut self) -> io::Result<()> {
        self.open = None;
        for age in (0..FILES).rev() {
            let from = self.dir.join(file_name(age));
            let done = match age + 1 {
                FILES => fs::remove_file(from),
                older => fs::rename(from, self.dir.join(file_name(older))),
            };
            match done {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.forget();
        Ok(())
    }

    /// Removes files whose last step is too old. What cannot be removed is tried again when the next file is begun.
    fn forget(&self) {
        for age in 0..FILES {
            let path = self.dir.join(file_name(age));
            let changed = fs::metadata(&path).and_then(|about| about.modified());
            if changed.is_ok_and(|at| older(at, self.limits.age)) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// A file is not written for longer than its share of the time, so that it can go as a whole.
    fn is_old(&self, since: SystemTime) -> bool {
        older(since, self.limits.age / FILES)
    }
}

fn older(at: SystemTime, age: Duration) -> bool {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(clock::now().wall.0);
    now.duration_since(at).is_ok_and(|passed| passed > age)
}

fn gap(count: u64) -> HistoryStep {
    HistoryStep {
        at: clock::now().wall,
        agent: None,
        delivery: None,
        message: None,
        fact: HistoryFact::Lost { count },
    }
}
