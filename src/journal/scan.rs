//! The files of a journal as they are found: read whole, sorted by [`examine`], the oldest first. Says which of them
//! counts and where one is damaged. Changes nothing; opening and looking both begin here.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::date;
use super::opening::OpenError;
use super::recover::{Examined, Unreadable, examine};
use crate::time::Wall;

/// A file found.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub number: u64,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub seen: Examined,
}

impl JournalFile {
    /// Where it is not what we wrote, beyond a torn tail: a file comes into being with its first frame whole, so one
    /// without any lost it later.
    pub(super) fn damage(&self) -> Option<u64> {
        match self.seen.gaps.first() {
            Some(gap) => Some(gap.offset),
            None => self.seen.good.is_empty().then_some(0),
        }
    }

    /// The lines of the records of all good frames, with the index of their frame among the good ones.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let frames = self.seen.good.iter().enumerate();
        frames.flat_map(|(index, frame)| {
            let lines = self.bytes[frame.lines.clone()].split(|b| *b == b'\n');
            // JSON is never empty: the one empty piece is what follows the last line break.
            lines
                .filter(|line| !line.is_empty())
                .map(move |line| (index, line))
        })
    }
}

/// Reads and sorts every `journal.N`, the oldest first. One that is refused refuses the whole folder: going on beside
/// it could mean going on without what it knows.
pub(super) fn read_all(
    dir: &Path,
    kind: &str,
    names: &[String],
    read: impl Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Vec<JournalFile>, OpenError> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_in(name)).collect();
    numbers.sort_unstable();
    let mut found = Vec::new();
    for number in numbers {
        let path = dir.join(format!("journal.{number}"));
        let bytes = read(&path)?;
        let seen = match examine(&bytes, kind) {
            Ok(seen) => seen,
            Err(Unreadable::Version(version)) => return Err(OpenError::Version { path, version }),
            Err(Unreadable::Kind(found)) => {
                let wanted = kind.to_owned();
                return Err(OpenError::Kind {
                    path,
                    found,
                    wanted,
                });
            }
            Err(Unreadable::NotAJournal) => return Err(OpenError::NotAJournal { path }),
        };
        found.push(JournalFile {
            number,
            path,
            bytes,
            seen,
        });
    }
    Ok(found)
}

/// The file that counts: the newest that has anything, for it began with everything the older ones said.
pub(super) fn counts(found: &[JournalFile]) -> Option<&JournalFile> {
    found.iter().rev().find(|file| !file.seen.good.is_empty())
}

/// The newest damaged file, and where its damage begins. One without a single byte holds nothing that could be damaged;
/// beside a file that counts it is passed over.
pub(super) fn damaged(found: &[JournalFile]) -> Option<(&JournalFile, u64)> {
    let all_empty = counts(found).is_none();
    let newest_first = found.iter().rev();
    newest_first
        .filter(|file| all_empty || !file.bytes.is_empty())
        .find_map(|file| Some((file, file.damage()?)))
}

/// Files without a single byte, beside one that counts.
pub(super) fn empty(found: &[JournalFile]) -> impl Iterator<Item = &JournalFile> {
    let beside = counts(found).is_some();
    found
        .iter()
        .filter(move |file| beside && file.bytes.is_empty())
}

/// How many commits damage has taken from the history that counts; `None` when that cannot be told. It can only if the
/// newest file still has its beginning: that frame alone may stand for any amount of history.
pub(super) fn missing(found: &[JournalFile]) -> Option<u64> {
    let seen = &found.last()?.seen;
    let begins = seen.good.first().is_some_and(|frame| frame.number == 0);
    begins.then(|| seen.gaps.iter().map(|gap| gap.frames).sum())
}

/// All records of a file, each with the time when it was decided.
pub(super) fn decode<R: DeserializeOwned>(
    file: &JournalFile,
) -> Result<Vec<(Option<Wall>, R)>, OpenError> {
    let record = |(index, line)| {
        let frame: &super::recover::Good = &file.seen.good[index];
        let (at, line) = date::split(line);
        let record = serde_json::from_slice(&line).map_err(|e| OpenError::Record {
            path: file.path.clone(),
            commit: frame.number,
            offset: frame.start as u64,
            why: e.to_string(),
        })?;
        Ok((at, record))
    };
    file.lines().map(record).collect()
}

/// The N of `journal.N`, in its one spelling.
pub(super) fn number_in(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("journal.")?;
    // Eighteen digits leave room to count on.
    let number: u64 = (digits.len() <= 18).then(|| digits.parse().ok())??;
    (number.to_string() == digits).then_some(number)
}
