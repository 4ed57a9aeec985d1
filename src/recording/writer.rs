//! Writes one agent's recording: frames to the newest of its files, a new file when that is full, and the oldest removed.
//! What could not be written whole is cut away again, so that nothing stands there twice; what is missing is marked.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::folder;
use super::frame::{self, OnTape, TapeFrame, TapeHead};
use crate::sys::disk::{create_private_dir, open_private, read_untouched};
use crate::sys::failpoint;
use crate::time::Wall;

/// Of how many files a recording consists at most.
const FILES: u64 = 4;
/// What waits while nothing can be written, output apart. More than this is forgotten, and the gap says so.
const WAITING_MOST: usize = 64 * 1024;

/// One agent's recording, open for writing.
pub(super) struct TapeWriter {
    folder: PathBuf,
    /// Says what goes on in a new file.
    head: TapeHead,
    file: Option<OpenFile>,
    /// The files that are there, the oldest first, the open one among them.
    numbers: VecDeque<u64>,
    /// Frames that are not written yet because the disk takes nothing: no output, but the gap in its place.
    waiting: Vec<u8>,
    /// How many bytes the gap has that ends `waiting`.
    gap: u64,
    why: String,
}

struct OpenFile {
    file: File,
    length: u64,
}

impl TapeWriter {
    /// Of this agent, whose files are opened when there is something to write.
    pub(super) fn new(recordings: &Path, head: TapeHead) -> Self {
        let folder = folder::of(recordings, &head.agent);
        Self {
            numbers: folder::numbers(&folder).into(),
            folder,
            head,
            file: None,
            waiting: Vec::new(),
            gap: 0,
            why: String::new(),
        }
    }

    /// Where it writes.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether something waits that the disk did not take.
    pub(super) fn is_waiting(&self) -> bool {
        self.gap > 0 || !self.waiting.is_empty()
    }

    /// Another life of the agent begins, which may be recorded in another way.
    pub(super) fn goes_on_as(&mut self, head: TapeHead) {
        self.head = head;
    }

    /// Writes whole frames, and before them what waits.
    ///
    /// # Errors
    /// When the disk does not take them. Their output is lost then, and the gap is marked once the disk takes something.
    pub(super) fn write(&mut self, now: Wall, frames: &[u8], bytes: u64) -> io::Result<()> {
        self.close_gap(now);
        let waiting = std::mem::take(&mut self.waiting);
        let mut left: VecDeque<&[u8]> = (frame::frames(&waiting).chain(frame::frames(frames)))
            .map(|(_, frame)| frame)
            .collect();
        while !left.is_empty() {
            if let Err(e) = self.write_some(now, &mut left, bytes / FILES) {
                self.why = e.to_string();
                for frame in left {
                    self.keep(frame, now);
                }
                return Err(e);
            }
        }
        Ok(())
    }

    /// Makes the output of these frames a gap, because the disk is not to take any now.
    pub(super) fn miss(&mut self, now: Wall, frames: &[u8], why: &str) {
        why.clone_into(&mut self.why);
        for (_, frame) in frame::frames(frames) {
            self.keep(frame, now);
        }
    }

    /// Output becomes part of a gap; everything else waits.
    fn keep(&mut self, frame: &[u8], now: Wall) {
        match TapeFrame::decode(frame) {
            Some((TapeFrame { what, .. }, _)) => match what {
                OnTape::Output(bytes) => self.gap += bytes.len() as u64,
                OnTape::Lost(bytes, _) => self.gap += bytes,
                _ if self.waiting.len() > WAITING_MOST => {}
                _ => {
                    self.close_gap(now);
                    self.waiting.extend_from_slice(frame);
                }
            },
            None => log::debug!("a frame of {} bytes cannot be read again", frame.len()),
        }
    }

    fn close_gap(&mut self, at: Wall) {
        let bytes = std::mem::take(&mut self.gap);
        if bytes > 0 {
            let what = OnTape::Lost(bytes, self.why.clone());
            TapeFrame { at, what }.encode(&mut self.waiting);
        }
    }

    /// Writes as many frames as go into the file, at least one, with one write.
    fn write_some(&mut self, now: Wall, left: &mut VecDeque<&[u8]>, most: u64) -> io::Result<()> {
        let first = left.front().map_or(0, |frame| frame.len() as u64);
        let mut open = self.open(now, first, most)?;
        let mut batch = Vec::new();
        let mut count = 0;
        for frame in left.iter() {
            let after = open.length + (batch.len() + frame.len()) as u64;
            if count > 0 && after > most {
                break;
            }
            batch.extend_from_slice(frame);
            count += 1;
        }
        open.append(&batch)?;
        self.file = Some(open);
        left.drain(..count);
        Ok(())
    }

    /// The file that takes so many bytes more: the newest one, cut to its whole frames, or a new one.
    fn open(&mut self, now: Wall, bytes: u64, most: u64) -> io::Result<OpenFile> {
        let newest = self.numbers.back().copied();
        let open = match (self.file.take(), newest) {
            (Some(open), _) => Some(open),
            (None, Some(number)) => Some(OpenFile::again(&folder::file(&self.folder, number))?),
            (None, None) => None,
        };
        if let Some(open) = open.filter(|open| open.length > 0 && open.length + bytes <= most) {
            return Ok(open);
        }
        create_private_dir(&self.folder)?;
        let number = newest.map_or(1, |newest| newest + 1);
        let mut open = OpenFile::again(&folder::file(&self.folder, number))?;
        self.numbers.push_back(number);
        let mut head = Vec::new();
        let what = OnTape::GoesOn(self.head.clone());
        TapeFrame { at: now, what }.encode(&mut head);
        open.append(&head)?;
        while self.numbers.len() as u64 > FILES {
            let oldest = self.numbers.pop_front().unwrap_or(0);
            fs::remove_file(folder::file(&self.folder, oldest))?;
        }
        Ok(open)
    }
}

impl OpenFile {
    /// Opens a file and cuts away what was not written whole.
    fn again(path: &Path) -> io::Result<Self> {
        failpoint::room()?;
        let file = open_private(path)?;
        let whole: usize = frame::frames(&read_untouched(path)?)
            .map(|(_, frame)| frame.len())
            .sum();
        file.set_len(whole as u64)?;
        Ok(Self {
            file,
            length: whole as u64,
        })
    }

    /// Adds all of it, or nothing.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        let written = match failpoint::room() {
            Ok(()) => self.file.write_all(bytes),
            full => (self.file.write_all(&bytes[..bytes.len() / 2])).and(full),
        };
        if let Err(e) = written {
            self.file.set_len(self.length)?;
            return Err(e);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}
