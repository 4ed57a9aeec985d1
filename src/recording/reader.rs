//! Reads a recording from its oldest frame on, also while it is being written: whoever asks again gets what was added.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::folder::{self, FOLDER};
use super::frame::{OnTape, TapeFrame};
use crate::ids::AgentName;
use crate::time::Wall;

/// At a place in a recording.
pub struct TapeReader {
    folder: PathBuf,
    /// The file that is being read.
    number: u64,
    /// Where in it `bytes` begin.
    offset: u64,
    bytes: Vec<u8>,
    /// How many of them were given.
    taken: usize,
    last: Wall,
    marks: VecDeque<TapeFrame>,
}

impl TapeReader {
    /// At the oldest frame of an agent's recording; none where there is no such recording.
    pub fn open(state_dir: &Path, agent: &AgentName) -> Option<Self> {
        let folder = folder::of(&state_dir.join(FOLDER), agent);
        let number = folder::numbers(&folder).first().copied();
        number.map(|number| Self {
            folder,
            number,
            offset: 0,
            bytes: Vec::new(),
            taken: 0,
            last: Wall(0),
            marks: VecDeque::new(),
        })
    }

    /// Whether it began with the first frame that was ever written.
    pub fn is_from_the_first(&self) -> bool {
        self.number == 1
    }

    /// The next frame; none where nothing more is there now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read_next(&mut self) -> io::Result<Option<TapeFrame>> {
        loop {
            if let Some(mark) = self.marks.pop_front() {
                return Ok(Some(mark));
            }
            if let Some((frame, length)) = TapeFrame::decode(&self.bytes[self.taken..]) {
                self.taken += length;
                self.last = frame.at;
                return Ok(Some(frame));
            }
            if !self.read_more()? && !self.next_file()? {
                return Ok(None);
            }
        }
    }

    /// Whether there was more in this file. What was not whole is read again: a killed broker's next one cuts it away.
    fn read_more(&mut self) -> io::Result<bool> {
        self.offset += std::mem::take(&mut self.taken) as u64;
        let mut file = match File::open(folder::file(&self.folder, self.number)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        self.bytes.clear();
        file.read_to_end(&mut self.bytes)?;
        Ok(TapeFrame::decode(&self.bytes).is_some())
    }

    /// Whether a later file is there. What is left of this one was never finished.
    fn next_file(&mut self) -> io::Result<bool> {
        let numbers = folder::numbers(&self.folder);
        let Some(next) = numbers.into_iter().find(|n| *n > self.number) else {
            return Ok(false);
        };
        // It may have been added to since it was read, and before the next one was begun.
        if self.read_more()? {
            return Ok(true);
        }
        if next > self.number + 1 {
            self.marks.push_back(TapeFrame {
                at: self.last,
                what: OnTape::Lost(0, "it was read more slowly than it was written".to_owned()),
            });
        }
        (self.number, self.offset, self.taken) = (next, 0, 0);
        self.bytes.clear();
        Ok(true)
    }
}
