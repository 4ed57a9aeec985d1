//! What opening a journal comes to: in what state it was found, what was damaged, and why it is refused.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::frame::{self, VERSION};

/// In what state a journal was found. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// There was none.
    Fresh,
    /// Everything verifies.
    Clean {
        /// How many records it holds.
        records: u64,
    },
    /// The last write was torn by a crash. It had not been acted upon.
    TailCut {
        /// How many records it holds.
        records: u64,
        /// How many bytes of the torn one were dropped.
        bytes: u64,
    },
    /// Something that had been committed does not verify any more.
    Damaged(Damage),
}

/// What is known about damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Each damaged file, and the name beside it under which it is kept.
    pub kept: Vec<(PathBuf, PathBuf)>,
    /// Where in the first of them the damage begins, in bytes.
    pub offset: u64,
    /// How many commits were saved.
    pub salvaged: u64,
    /// How many are missing; `None` when that cannot be told, because the missing part began with a snapshot.
    pub missing: Option<u64>,
}

impl Recovery {
    /// For a journal that is no longer complete: what a person should know about it.
    pub fn degraded(&self) -> Option<String> {
        matches!(self, Recovery::Damaged(_)).then(|| self.to_string())
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recovery::Fresh => f.write_str("a new journal"),
            Recovery::Clean { records } => write!(f, "the journal is whole: {records} records"),
            Recovery::TailCut { records, bytes } => write!(
                f,
                "the journal is whole: {records} records; a last write torn by a crash ({bytes} bytes) was dropped"
            ),
            Recovery::Damaged(damage) => damage.fmt(f),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (from, to) in &self.kept {
            let to = to.file_name().unwrap_or(to.as_os_str());
            write!(
                f,
                "{} is damaged and is kept as {}, ",
                from.display(),
                to.display()
            )?;
        }
        write!(
            f,
            "from byte {}; {} commits were saved, ",
            self.offset, self.salvaged
        )?;
        match self.missing {
            Some(0) => f.write_str("none is known to be missing"),
            Some(missing) => write!(f, "{missing} are missing: what they recorded may be lost or happen again"),
            None => f.write_str("an unknown part of the history is missing: what it recorded may be lost or happen again"),
        }
    }
}

/// What is said of a file without a single byte. Displays as one line.
pub struct Emptied<'a>(pub &'a Path);

impl fmt::Display for Emptied<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.display();
        write!(
            f,
            "{path} is empty and is passed over: a journal never writes such a file, so if it ever held anything, that is lost"
        )
    }
}

/// Why a journal is not opened. The files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was written by a later program.
    #[error("{} is a journal of version {version}; this program knows {VERSION}. \
             Run the program that wrote it, or move the file away to start without its history", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What its first line says.
        version: u64,
    },
    /// It holds other records.
    #[error("{} is a journal of kind {found:?}, not {wanted:?}. \
             Use another folder, or move the file away to start without its history", .path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What its first line says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Its first line is not a journal's.
    #[error("{} is not a readable journal: its first line is not `{} {VERSION} …`. \
             Restore it, or move the file away to start without its history", .path.display(), frame::MAGIC)]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// A record verifies and is not understood, so another program wrote it.
    #[error("{} holds a record this program does not understand ({why}, commit {commit}). \
             Run the program that wrote it, or move the file away to start without its history", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The frame's number in it.
        commit: u64,
        /// Where the frame begins, in bytes.
        offset: u64,
        /// What the decoder says.
        why: String,
    },
    /// It is damaged, and a strict opening was asked for.
    #[error("{} is damaged from byte {offset} on, and a strict opening was asked for. \
             Restore it, or open it without strictness to go on with what verifies", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
    },
    /// The folder or a file in it cannot be read or written.
    #[error("{0}")]
    Disk(#[from] io::Error),
}
