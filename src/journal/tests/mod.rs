//! The journal against a disk that tears, fills up, forgets and dies. Here is what the tests share.

mod faults;
mod folder;
mod looking;
mod opening;
mod outages;
mod rotation;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fake_disk::FakeDisk;
use super::frame::{self, FramePosition};
use super::*;
use crate::machine::{Machine, Out};
use crate::time::{Mono, Now};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Note {
    Said(u64),
    All(Vec<u64>),
}

/// Remembers every number it is told.
#[derive(Debug, Default, PartialEq)]
struct Diary(Vec<u64>);

impl Machine for Diary {
    type Event = u64;
    type Record = Note;
    type Effect = u64;
    fn step(&mut self, _: Now, event: u64, out: &mut Out<Note, u64>) {
        self.replay(&Note::Said(event));
        out.records.push(Note::Said(event));
        out.effects.push(event);
    }
    fn replay(&mut self, record: &Note) {
        match record {
            Note::Said(n) => self.0.push(*n),
            Note::All(all) => self.0.clone_from(all),
        }
    }
    fn snapshot(&self) -> Option<Note> {
        Some(Note::All(self.0.clone()))
    }
    fn deadline(&self) -> Option<Mono> {
        None
    }
}

fn told(records: &[Note]) -> Vec<u64> {
    let mut diary = Diary::default();
    records.iter().for_each(|r| diary.replay(r));
    diary.0
}

fn open_with(disk: &FakeDisk, options: Options) -> Result<Opened<Note, FakeDisk>, OpenError> {
    Journal::open_on(disk.clone(), Path::new("/j"), "test", options)
}

fn open(disk: &FakeDisk) -> Opened<Note, FakeDisk> {
    open_with(disk, Options::default()).expect("the journal opens")
}

fn strict(disk: &FakeDisk) -> Result<Opened<Note, FakeDisk>, OpenError> {
    open_with(
        disk,
        Options {
            strict: true,
            ..Options::default()
        },
    )
}

/// A file with an empty first frame and the numbers 1 to 3 in one commit each, and where its frames end.
fn three_commits() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = frame::first_line("test").into_bytes();
    let (mut place, mut ends) = (FramePosition::start(1), vec![bytes.len()]);
    for n in 0..4 {
        let batch: Vec<Note> = (n > 0).then_some(Note::Said(n)).into_iter().collect();
        let (frame, next) = frame::encode(place, frame::undated(&batch)).expect("text");
        bytes.extend(frame);
        ends.push(bytes.len());
        place = next;
    }
    (bytes, ends)
}
