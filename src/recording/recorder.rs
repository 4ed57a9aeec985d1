//! The thread that writes all recordings. It sleeps until an agent prints something, lets a tenth of a second's worth of
//! that come together, and writes it. A disk that is full or slow costs recordings and nothing else.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::folder::{self, FOLDER};
use super::frame::{self, OnTape, TapeFrame, TapeHead};
use super::tape::{Drained, RecorderWake, SharedTape, TOO_SLOW, Tape};
use super::writer::TapeWriter;
use crate::domain::RecordForm;
use crate::ids::AgentName;
use crate::msg::Size;
use crate::pubsub::Latest;
use crate::screen::PlainLines;
use crate::sys::thread::{self, Handle};
use crate::sys::{clock, limits};
use crate::time::{Mono, Wall};

/// How long output comes together before it is written, and so how much of it a kill may cost.
const TOGETHER: Duration = Duration::from_millis(100);
/// Between tries while the disk takes nothing.
const RETRY: Duration = Duration::from_secs(1);
/// Between looks at what has become too old.
const SWEEP: Duration = Duration::from_secs(60);
/// How many wakes wait. A full queue is no loss: one is enough.
const WAKES: usize = 64;
/// Recordings are the first to give way on a disk that fills up: they leave so many bytes to the journal.
const SPARED: u64 = 16 * 1024 * 1024;
/// How long the last writes may take.
const LAST: Duration = Duration::from_secs(1);

/// How many bytes are kept of each name, unless the operator says otherwise.
pub const BYTES: u64 = 4 * 1024 * 1024;

/// How agents are recorded whose start says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// In which form.
    pub form: RecordForm,
    /// How many bytes are kept of each name.
    pub bytes: u64,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self {
            form: RecordForm::default(),
            bytes: BYTES,
        }
    }
}

/// Gives each agent its tape. Dropped, it writes what is left.
pub struct Recorder {
    tapes: Arc<Mutex<Vec<Arc<SharedTape>>>>,
    wake: Sender<RecorderWake>,
    settings: Arc<Latest<RecordSettings>>,
    thread: Handle,
}

impl Recorder {
    /// Starts the thread. Recordings are in the state folder.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(state_dir: PathBuf, settings: RecordSettings) -> io::Result<Self> {
        let (wake, wakes) = bounded(WAKES);
        let tapes = Arc::default();
        let settings = Arc::new(Latest::new(settings));
        let mut body = RecorderBody {
            recordings: state_dir.join(FOLDER),
            tapes: Arc::clone(&tapes),
            settings: settings.clone(),
            open: Vec::new(),
            writers: HashMap::new(),
            failing: false,
            swept: None,
        };
        let thread = thread::start("recorder", 256, move || body.run(&wakes))?;
        Ok(Self {
            tapes,
            wake,
            settings,
            thread,
        })
    }

    /// From now on agents are recorded so.
    pub fn set(&self, settings: RecordSettings) {
        self.settings.update(|now| *now = settings);
    }

    /// A tape for an agent that is about to start; none if it is not to be recorded. Does not touch the disk.
    pub fn tape(
        &self,
        agent: &AgentName,
        form: Option<RecordForm>,
        terminal: bool,
        size: Size,
    ) -> Option<Tape> {
        let form = form.unwrap_or(self.settings.get().form);
        let head = TapeHead {
            agent: agent.clone(),
            form: form.word().to_owned(),
            terminal,
            size,
        };
        if form == RecordForm::Off {
            return None;
        }
        let (tape, shared) = Tape::new(head, self.wake.clone());
        self.tapes.lock().push(shared);
        Some(tape)
    }

    /// Writes what is left, and ends.
    pub fn finish(&self) {
        let _ = self.wake.send_timeout(RecorderWake::Last, LAST);
        self.thread.join_within(LAST);
    }
}

/// One life of an agent.
struct OpenTape {
    shared: Arc<SharedTape>,
    /// Of one that is recorded as lines.
    lines: Option<PlainLines>,
}

struct RecorderBody {
    recordings: PathBuf,
    tapes: Arc<Mutex<Vec<Arc<SharedTape>>>>,
    settings: Arc<Latest<RecordSettings>>,
    /// In the order in which they began: two lives of one name are written one after the other.
    open: Vec<OpenTape>,
    writers: HashMap<AgentName, TapeWriter>,
    /// The disk took nothing the last time.
    failing: bool,
    swept: Option<Mono>,
}

impl RecorderBody {
    fn run(&mut self, wakes: &Receiver<RecorderWake>) {
        loop {
            let wake = match self.failing {
                true => wakes.recv_timeout(RETRY),
                false => wakes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let last = match wake {
                Ok(wake) => !together(wake, wakes),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            self.write_all();
            if last {
                return;
            }
        }
    }

    fn write_all(&mut self) {
        let now = clock::now();
        for shared in std::mem::take(&mut *self.tapes.lock()) {
            let lines = shared.head.form == RecordForm::Plain.word();
            self.open.push(OpenTape {
                shared,
                lines: lines.then(PlainLines::default),
            });
        }
        let lack = self.lack_of_room();
        let (mut failed, mut over) = (lack.clone(), Vec::new());
        for index in 0..self.open.len() {
            let drained = self.open[index].drain(now.wall);
            over.push(drained.over);
            if let Err(e) = self.write(index, &drained.frames, now.wall, lack.as_deref()) {
                failed = Some(e.to_string());
            }
        }
        let mut over = over.into_iter();
        self.open.retain(|_| !over.next().unwrap_or(false));
        if failed.is_none()
            && let Err(e) = self.write_waiting(now.wall)
        {
            failed = Some(e.to_string());
        }
        self.tell(failed);
        if self.swept.is_none_or(|at| now.mono.since(at) >= SWEEP) {
            self.swept = Some(now.mono);
            self.sweep(now.wall);
        }
    }

    /// What is said where recordings have to give way.
    fn lack_of_room(&self) -> Option<String> {
        let free = limits::free(&self.recordings).filter(|free| *free < SPARED)?;
        let free = free / 1024;
        Some(format!("only {free} KiB are left on the disk"))
    }

    fn write(
        &mut self,
        index: usize,
        frames: &[u8],
        now: Wall,
        lack: Option<&str>,
    ) -> io::Result<()> {
        let head = &self.open[index].shared.head;
        if frames.is_empty() {
            return Ok(());
        }
        let recordings = &self.recordings;
        let writer = (self.writers.entry(head.agent.clone()))
            .or_insert_with(|| TapeWriter::new(recordings, head.clone()));
        writer.goes_on_as(head.clone());
        match lack {
            Some(why) => {
                writer.miss(now, frames, why);
                Ok(())
            }
            None => writer.write(now, frames, self.settings.get().bytes),
        }
    }

    /// Tries again what the disk did not take, also of agents that have ended.
    fn write_waiting(&mut self, now: Wall) -> io::Result<()> {
        let bytes = self.settings.get().bytes;
        let mut waiting = self.writers.values_mut().filter(|w| w.is_waiting());
        waiting.try_for_each(|writer| writer.write(now, &[], bytes))
    }

    /// Says once that recording stopped, and once that it goes on.
    fn tell(&mut self, failed: Option<String>) {
        match (&failed, self.failing) {
            (Some(why), false) => {
                log::warn!(event = "recording_stopped"; "what agents print is not recorded until the disk takes it again: {why}")
            }
            (None, true) => {
                log::info!(event = "recording_goes_on"; "what agents print is recorded again; the gap is marked")
            }
            _ => {}
        }
        self.failing = failed.is_some();
    }

    /// Forgets agents that are gone, and removes what has become too old.
    fn sweep(&mut self, now: Wall) {
        let open = &self.open;
        self.writers.retain(|agent, writer| {
            writer.is_waiting() || open.iter().any(|tape| tape.shared.head.agent == *agent)
        });
        let here: Vec<PathBuf> = self
            .writers
            .values()
            .map(|w| w.folder().to_owned())
            .collect();
        folder::sweep(&self.recordings, &here, now);
    }
}

/// Lets more come together, unless there is much already; `false` when this was the last time.
fn together(first: RecorderWake, wakes: &Receiver<RecorderWake>) -> bool {
    let until = clock::now().mono + TOGETHER;
    let mut wake = first;
    loop {
        match wake {
            RecorderWake::Soon => {}
            RecorderWake::Now => return !wakes.try_iter().any(|wake| wake == RecorderWake::Last),
            RecorderWake::Last => return false,
        }
        match wakes.recv_timeout(until.since(clock::now().mono)) {
            Ok(next) => wake = next,
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

impl OpenTape {
    /// What came since the last time, as it is to be written.
    fn drain(&mut self, now: Wall) -> Drained {
        let mut drained = self.shared.drain();
        if let Some(lines) = &mut self.lines {
            drained.frames = as_lines(lines, &drained.frames);
        }
        if drained.lost > 0 {
            let what = OnTape::Lost(drained.lost, TOO_SLOW.to_owned());
            TapeFrame { at: now, what }.encode(&mut drained.frames);
        }
        drained
    }
}

/// The same frames, with lines of text for output.
fn as_lines(lines: &mut PlainLines, frames: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (_, frame) in frame::frames(frames) {
        let Some((TapeFrame { at, what }, _)) = TapeFrame::decode(frame) else {
            continue;
        };
        let mut text = String::new();
        let mut tell = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        match &what {
            OnTape::Output(bytes) => lines.push(bytes, &mut tell),
            OnTape::Ended(_) => lines.finish(&mut tell),
            _ => {}
        }
        if !text.is_empty() {
            frame::put(&mut out, frame::OUTPUT, at, text.as_bytes());
        }
        if !matches!(what, OnTape::Output(_)) {
            TapeFrame { at, what }.encode(&mut out);
        }
    }
    out
}
