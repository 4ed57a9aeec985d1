//! A look at a journal from outside: what is in it and whether it is whole. Takes no lock and changes nothing on disk,
//! so it may be taken at a journal that is being written.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::date;
use super::opening::OpenError;
use super::scan::{JournalFile, counts, damaged, decode, empty, missing, read_all};
use crate::sys::disk::{self, Disk, RealDisk};
use crate::time::Wall;

/// How often a folder that changes under our eyes is read again.
const TRIES: usize = 10;

/// A journal as it was when it was looked at.
#[derive(Debug)]
pub struct Look {
    found: Vec<JournalFile>,
    kept: Vec<String>,
}

/// Whether a journal is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalVerdict {
    /// Every byte verifies.
    Whole,
    /// Bytes at the end are no commit: the last write was torn by a crash, or is under way.
    Torn {
        /// Where they begin.
        offset: u64,
        /// How many they are.
        bytes: u64,
    },
    /// Something that had been committed does not verify any more.
    Damaged {
        /// Where the first such thing begins.
        offset: u64,
        /// How many commits are missing; `None` when that cannot be told.
        missing: Option<u64>,
    },
}

/// One record, where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The file.
    pub file: &'a Path,
    /// The number of its frame in the file.
    pub frame: u64,
    /// Where the frame begins, in bytes.
    pub offset: u64,
    /// When it was decided; older journals do not say.
    pub at: Option<Wall>,
    /// Its JSON, without that time.
    pub line: Cow<'a, [u8]>,
}

impl Look {
    /// Looks at the journal in a folder. `None` when there is none.
    ///
    /// # Errors
    /// As [`super::Journal::open`], but for what only writing brings.
    pub fn take(dir: &Path, kind: &str) -> Result<Option<Look>, OpenError> {
        let look = settle(|| read(dir, kind))?.ok_or_else(|| {
            let text = format!("{} changes all the time; try again", dir.display());
            OpenError::Disk(io::Error::other(text))
        })?;
        Ok((!look.found.is_empty()).then_some(look))
    }

    /// The file the verdict is about: a damaged one if there is any, else the one that counts.
    pub fn file(&self) -> &Path {
        let file = damaged(&self.found).map_or_else(|| counts(&self.found), |(file, _)| Some(file));
        file.map_or(Path::new(""), |file| &file.path)
    }

    /// Whether it is whole.
    pub fn verdict(&self) -> JournalVerdict {
        if let Some((_, offset)) = damaged(&self.found) {
            let missing = missing(&self.found);
            return JournalVerdict::Damaged { offset, missing };
        }
        match counts(&self.found) {
            Some(file) if file.seen.cut > 0 => JournalVerdict::Torn {
                offset: file.bytes.len() as u64 - file.seen.cut,
                bytes: file.seen.cut,
            },
            _ => JournalVerdict::Whole,
        }
    }

    /// How many commits of the file that counts verify.
    pub fn commits(&self) -> u64 {
        counts(&self.found).map_or(0, |file| file.seen.good.len() as u64)
    }

    /// Every record that counts, in the order of their being written.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let file = counts(&self.found);
        let entries = file.into_iter().flat_map(|file| {
            file.lines().map(|(index, line)| {
                let (at, line) = date::split(line);
                Entry {
                    file: &file.path,
                    frame: file.seen.good[index].number,
                    offset: file.seen.good[index].start as u64,
                    at,
                    line,
                }
            })
        });
        entries.collect()
    }

    /// Every record that counts, as its program knows it.
    ///
    /// # Errors
    /// [`OpenError::Record`] for the first that this program does not understand.
    pub fn records<R: DeserializeOwned>(&self) -> Result<Vec<R>, OpenError> {
        let records = counts(&self.found).map_or(Ok(Vec::new()), decode)?;
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    /// Files without a single byte, which do not count.
    pub fn empty(&self) -> impl Iterator<Item = &Path> {
        empty(&self.found).map(|file| file.path.as_path())
    }

    /// Files that were damaged when an earlier start found them, and are kept.
    pub fn kept(&self) -> &[String] {
        &self.kept
    }

    /// Writes what counts into a folder, up to the last whole commit, as a journal of its own.
    ///
    /// # Errors
    /// When it cannot be written there. Names the path.
    pub fn copy(&self, dir: &Path) -> io::Result<()> {
        let Some(file) = counts(&self.found) else {
            return Ok(());
        };
        let whole = file.bytes.len() - usize::try_from(file.seen.cut).unwrap_or(0);
        let name = file.path.file_name().unwrap_or_default();
        disk::write_private(&dir.join(name), &file.bytes[..whole])
    }

    fn is_same(&self, other: &Look) -> bool {
        let same = |(a, b): (&JournalFile, &JournalFile)| a.path == b.path && a.bytes == b.bytes;
        self.found.len() == other.found.len() && self.found.iter().zip(&other.found).all(same)
    }
}

/// Reads until what was read can be believed; `None` when it never can.
pub(super) fn settle(
    mut read: impl FnMut() -> Result<Option<Look>, OpenError>,
) -> Result<Option<Look>, OpenError> {
    let mut before: Option<Look> = None;
    for _ in 0..TRIES {
        let Some(look) = read()? else { continue };
        // Read while its writer cuts a failed write back, a good file can look damaged; rot stays as it is.
        if damaged(&look.found).is_none() || before.is_some_and(|before| before.is_same(&look)) {
            return Ok(Some(look));
        }
        before = Some(look);
    }
    Ok(None)
}

/// Reads once. `None` when a file that was listed is gone: its writer has begun a new one.
fn read(dir: &Path, kind: &str) -> Result<Option<Look>, OpenError> {
    let names = RealDisk.list(dir)?;
    let found = match read_all(dir, kind, &names, disk::read_untouched) {
        Err(OpenError::Disk(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let mut kept: Vec<String> = names
        .into_iter()
        .filter(|name| name.starts_with("journal.") && name.contains(".damaged"))
        .collect();
    kept.sort_unstable();
    Ok(Some(Look { found, kept }))
}

#[cfg(test)]
impl Look {
    /// As if these bytes had been read.
    pub(super) fn at(bytes: &[u8]) -> Look {
        let names = ["journal.1".to_owned()];
        let found = read_all(Path::new("/j"), "test", &names, |_| Ok(bytes.to_vec()));
        Look {
            found: found.expect("a journal"),
            kept: Vec::new(),
        }
    }
}
