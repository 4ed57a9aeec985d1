//! The journal's files: opening, appending, beginning anew. At most one file is written at a time, `journal.N` with the
//! highest N; it comes into being whole, under another name first, so a crash leaves either the old history or the new.
//!
//! Opening never appends to what it finds: it writes the history into a file of its own, so nothing rests on bytes that
//! an earlier process may have failed to sync. A file whose sync failed is never written again.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, FramePosition};
use super::opening::{Damage, Emptied, OpenError, Recovery};
use super::scan::{JournalFile, counts, damaged, decode, empty, missing, number_in, read_all};
use crate::machine::{CommitError, Log};
use crate::sys::disk::{self, Disk, RealDisk};
use crate::sys::histogram::Histogram;
use crate::sys::{clock, failpoint};
use crate::time::Wall;

/// A new file's name until it is whole.
const UNBORN: &str = "journal.new";
/// How many files that cannot be trusted or found any more are remembered.
const OWN: usize = 4;

/// How a journal behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Refuse to open a damaged journal instead of going on with what verifies.
    pub strict: bool,
    /// After this many bytes of commits a snapshot should replace them.
    pub rotate_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strict: false,
            rotate_bytes: 4 * 1024 * 1024,
        }
    }
}

/// An open journal and what was in it.
#[derive(Debug)]
pub struct Opened<R, D: Disk = RealDisk> {
    /// Ready for commits.
    pub journal: Journal<R, D>,
    /// The whole history, in order, to be replayed.
    pub records: Vec<R>,
    /// In what state it was found.
    pub recovery: Recovery,
}

/// See the module. `R` is the record, `D` the disk it is on.
#[derive(Debug)]
pub struct Journal<R, D: Disk = RealDisk> {
    disk: D,
    dir: PathBuf,
    kind: String,
    options: Options,
    /// The highest N of any `journal.N` that may exist.
    number: u64,
    state: State<D::File>,
    /// Files that no longer count.
    stale: Vec<(PathBuf, Fate)>,
    /// Files that this process wrote and can no longer trust or find. They are known by being open, for a name says nothing
    /// about whose file has it, and should one come back it must not be taken for another process's.
    own: Vec<(PathBuf, D::File)>,
    /// When what is committed next was decided.
    date: Option<Wall>,
    /// Where the time that a sync takes is counted, if anywhere.
    syncs: Option<Arc<Histogram>>,
    records: PhantomData<fn(R) -> R>,
}

#[derive(Debug)]
enum State<F> {
    /// Takes commits.
    Writing(Current<F>),
    /// No file can be trusted to take commits; a new one must be begun. Says why.
    Poisoned(String),
}

#[derive(Debug)]
struct Current<F> {
    path: PathBuf,
    file: F,
    /// Bytes of whole, synced frames.
    length: u64,
    /// How many of them are a snapshot.
    base: u64,
    /// What the first question after that snapshot said its size is.
    size_at_base: Cell<Option<u64>>,
    next: FramePosition,
    /// There may be bytes behind `length`.
    torn: bool,
}

/// What becomes of a file that no longer counts.
#[derive(Clone, Debug)]
enum Fate {
    Remove,
    Keep(PathBuf),
}

impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Opens the journal in a folder of this machine, or begins one. The folder must exist.
    ///
    /// # Errors
    /// [`OpenError`]; names the file and leaves it as it was.
    pub fn open(dir: &Path, kind: &str, options: Options) -> Result<Opened<R>, OpenError> {
        Self::open_on(RealDisk, dir, kind, options)
    }
}

impl<R: Serialize + DeserializeOwned, D: Disk> Journal<R, D> {
    /// Opens the journal in a folder of that disk, or begins one. On a full disk it opens all the same and takes no
    /// commit until there is room.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(
        disk: D,
        dir: &Path,
        kind: &str,
        options: Options,
    ) -> Result<Opened<R, D>, OpenError> {
        let names = disk.list(dir)?;
        let found = read_all(dir, kind, &names, |path| disk.read(path))?;
        let counts = counts(&found);
        let records: Vec<(Option<Wall>, R)> = counts.map_or(Ok(Vec::new()), decode)?;
        let damaged = damaged(&found);
        if let (true, Some((file, offset))) = (options.strict, damaged) {
            let path = file.path.clone();
            return Err(OpenError::Damaged { path, offset });
        }
        for file in empty(&found) {
            ::log::warn!("{}", Emptied(&file.path));
        }
        let stale = fates(&found, &names);
        let recovery = match (counts, damaged) {
            (_, Some((_, offset))) => Recovery::Damaged(damage(&found, counts, offset, &stale)),
            (None, None) => Recovery::Fresh,
            (Some(file), None) => whole(file, records.len() as u64),
        };
        let mut journal = Self {
            disk,
            dir: dir.to_owned(),
            kind: kind.to_owned(),
            options,
            number: found.last().map_or(0, |f| f.number),
            state: State::Poisoned("the journal is not begun".into()),
            stale,
            own: Vec::new(),
            date: None,
            syncs: None,
            records: PhantomData,
        };
        match journal.begin(records.iter().map(|(at, record)| (*at, record))) {
            Ok(()) => {}
            Err(e) if disk::is_full(&e) => {
                ::log::warn!("{e}; the old journal stands until there is room for a new one");
                journal.state = State::Poisoned(e.to_string());
            }
            Err(e) => return Err(OpenError::Disk(e)),
        }
        Ok(Opened {
            journal,
            records: records.into_iter().map(|(_, record)| record).collect(),
            recovery,
        })
    }

    /// From now on the time that each sync of a commit takes is counted.
    pub fn measure(&mut self, syncs: Arc<Histogram>) {
        self.syncs = Some(syncs);
    }

    /// Writes a file that begins with these records as its whole history, makes it the current one, and removes what
    /// it replaces.
    fn begin<'a>(&mut self, records: impl Iterator<Item = (Option<Wall>, &'a R)>) -> io::Result<()>
    where
        R: 'a,
    {
        self.claim_own();
        self.check_alone()?;
        let number = self.number + 1;
        let (frame, next) =
            frame::encode(FramePosition::start(number), records).map_err(io::Error::other)?;
        let mut bytes = frame::first_line(&self.kind).into_bytes();
        bytes.extend(frame);
        self.disk.make_dir(&self.dir)?;
        let unborn = self.dir.join(UNBORN);
        let file = match self.write_whole(&unborn, &bytes) {
            Ok(file) => file,
            Err(e) => {
                // On a full disk the half-written file is in the way of everything else.
                let _ = self.disk.remove(&unborn);
                return Err(e);
            }
        };
        self.number = number;
        let path = self.dir.join(format!("journal.{number}"));
        // From here on a start may find the new file, and it would count: so whether or not the next steps succeed, the
        // old one must not grow any more, or what it says from now on would be lost.
        let unsure = State::Poisoned(format!("{} was not begun", path.display()));
        if let State::Writing(old) = std::mem::replace(&mut self.state, unsure) {
            self.stale.push((old.path, Fate::Remove));
        }
        let named = self
            .disk
            .rename(&unborn, &path)
            .inspect(|()| failpoint::hit("begin.renamed"))
            .and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(e) = named {
            // Out of the way if possible, so that trying again for hours does not fill the folder.
            if self
                .disk
                .remove(&path)
                .is_err_and(|e| e.kind() != io::ErrorKind::NotFound)
            {
                self.stale.push((path, Fate::Remove));
            }
            return Err(e);
        }
        self.state = State::Writing(Current {
            path,
            file,
            length: bytes.len() as u64,
            base: 0,
            size_at_base: Cell::new(None),
            next,
            torn: false,
        });
        failpoint::hit("begin.named");
        self.retire();
        failpoint::hit("begin.retired");
        Ok(())
    }

    /// A file that is none of ours was written by another process, which our lock should have kept away and did not:
    /// its folder, lock and all, was put in place of ours. Whatever we wrote here would count instead of what it says.
    fn check_alone(&self) -> io::Result<()> {
        let names = match self.disk.list(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        let writing = |path: &PathBuf| match &self.state {
            State::Writing(current) => current.path == *path && self.is_there(&current.file, path),
            State::Poisoned(_) => false,
        };
        let ours =
            |path: &PathBuf| writing(path) || self.stale.iter().any(|(stale, _)| stale == path);
        let numbered = names.iter().filter(|name| number_in(name).is_some());
        match numbered
            .map(|name| self.dir.join(name))
            .find(|path| !ours(path))
        {
            Some(path) => Err(io::Error::other(format!(
                "{} belongs to another process that took this folder over; stop one of the two",
                path.display()
            ))),
            None => Ok(()),
        }
    }

    /// Whether the path leads to this file, as far as can be told: a look that fails says nothing.
    fn is_there(&self, file: &D::File, path: &Path) -> bool {
        let looked = self.disk.in_place(file, path);
        !looked.is_err_and(|e| disk::is_gone(&e))
    }

    /// What has come back of this process's own files no longer counts, and goes once a new one stands.
    fn claim_own(&mut self) {
        self.own.retain(|(_, file)| self.disk.linked(file));
        let own = std::mem::take(&mut self.own);
        let (back, away): (Vec<_>, Vec<_>) = own
            .into_iter()
            .partition(|(path, file)| self.is_there(file, path));
        self.own = away;
        let stale = back.into_iter().map(|(path, _)| (path, Fate::Remove));
        self.stale.extend(stale);
    }

    /// No commit goes to the current file any more. It stays until a new one stands.
    fn poison(&mut self, why: String) {
        if let State::Writing(current) = std::mem::replace(&mut self.state, State::Poisoned(why))
            && self.disk.linked(&current.file)
        {
            self.own.push((current.path, current.file));
            // Each is a descriptor; whoever takes the folder away more often than this has to start anew.
            let old = self.own.len().saturating_sub(OWN);
            self.own.drain(..old);
        }
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<D::File> {
        let mut file = self.disk.create(path)?;
        failpoint::hit("begin.created");
        self.disk
            .append(&mut file, bytes)
            .map_err(|e| io::Error::new(e.kind(), about(path, &e)))?;
        failpoint::hit("begin.appended");
        self.disk
            .sync(&mut file)
            .map_err(|e| io::Error::new(e.kind(), about(path, &e)))?;
        failpoint::hit("begin.synced");
        Ok(file)
    }

    /// Removes or sets aside what no longer counts. What cannot be moved now is tried again next time; should a file
    /// come back after a crash, the newer one counts anyway, so the folder needs no sync.
    fn retire(&mut self) {
        let disk = &self.disk;
        self.stale.retain(|(path, fate)| {
            let done = match fate {
                Fate::Remove => disk.remove(path),
                Fate::Keep(name) => disk.rename(path, name),
            };
            match done {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    ::log::warn!("{e}; it no longer counts, and is left for later");
                    true
                }
                _ => false,
            }
        });
    }
}

impl<R: Serialize + DeserializeOwned, D: Disk> Log<R> for Journal<R, D> {
    fn commit(&mut self, records: &[R]) -> Result<(), CommitError> {
        let current = match &mut self.state {
            State::Writing(current) => current,
            State::Poisoned(why) => return Err(CommitError(why.clone())),
        };
        if records.is_empty() {
            return Ok(());
        }
        let records = records.iter().map(|record| (self.date, record));
        let (bytes, next) = frame::encode(current.next, records)
            .map_err(|e| CommitError(format!("cannot write {}: {e}", current.path.display())))?;
        // Appending behind a torn frame would make a damaged middle of it.
        cut_back(&self.disk, current)?;
        current.torn = true;
        if let Err(e) = self.disk.append(&mut current.file, &bytes) {
            // Cut at once if possible, so that a reader in the meantime sees only whole frames.
            let _ = cut_back(&self.disk, current);
            return Err(CommitError(about(&current.path, &e)));
        }
        failpoint::hit("journal.appended");
        let begun = self.syncs.as_ref().map(|_| clock::now().mono);
        let synced = self.disk.sync(&mut current.file);
        if let (Some(syncs), Some(begun)) = (&self.syncs, begun) {
            syncs.observe(clock::now().mono.since(begun));
        }
        if let Err(e) = synced {
            // The system may have dropped what it could not write, and call the next sync a success: nothing that is
            // said about this file can be believed any more.
            let why = about(&current.path, &e);
            self.poison(format!("{why}; a new journal must be begun"));
            return Err(CommitError(why));
        }
        failpoint::hit("journal.synced");
        // Synced, and nowhere to be found after a crash, is as good as not written. A look that fails for another reason
        // says nothing about what was synced.
        if let Err(e) = self.disk.in_place(&current.file, &current.path)
            && disk::is_gone(&e)
        {
            let why = about(&current.path, &e);
            self.poison(format!("{why}; a new journal must be begun"));
            return Err(CommitError(why));
        }
        current.torn = false;
        current.length += bytes.len() as u64;
        current.next = next;
        Ok(())
    }

    fn date(&mut self, at: Wall) {
        self.date = Some(at);
    }

    fn is_long(&self, snapshot_size: u64) -> bool {
        match &self.state {
            State::Writing(current) => {
                let least = self.options.rotate_bytes;
                // At least as much as the snapshot itself, or a large one would be rewritten at each commit.
                let limit = least.max(current.base.min(2 * snapshot_size));
                // A large snapshot is not worth its place once half of what it holds has ended. How long a snapshot of a
                // size is in the file, with all escapes, shows when one was written.
                let at_base = current.size_at_base.get().unwrap_or(snapshot_size);
                current.size_at_base.set(Some(at_base));
                let hollow = current.base >= least && snapshot_size <= at_base / 2;
                hollow || current.length - current.base >= limit
            }
            State::Poisoned(_) => true,
        }
    }

    fn needs_replacement(&self) -> bool {
        matches!(self.state, State::Poisoned(_))
    }

    fn look(&mut self) {
        if let State::Writing(current) = &self.state
            && let Err(e) = self.disk.in_place(&current.file, &current.path)
        {
            let why = about(&current.path, &e);
            if disk::is_gone(&e) {
                ::log::error!("{why}; a new journal is begun with all that is known");
                self.poison(why);
            } else {
                ::log::debug!("{why}");
            }
        }
    }

    fn replace(&mut self, snapshot: &R) -> Result<(), CommitError> {
        self.begin(std::iter::once((self.date, snapshot)))
            .map_err(|e| CommitError(e.to_string()))?;
        if let State::Writing(current) = &mut self.state {
            current.base = current.length;
        }
        Ok(())
    }
}

/// Cuts what a failed write left behind the last whole frame.
fn cut_back<D: Disk>(disk: &D, current: &mut Current<D::File>) -> Result<(), CommitError> {
    if current.torn {
        disk.truncate(&mut current.file, current.length)
            .map_err(|e| CommitError(about(&current.path, &e)))?;
        current.torn = false;
    }
    Ok(())
}

fn about(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// What becomes of each file found, once a new one stands.
fn fates(found: &[JournalFile], names: &[String]) -> Vec<(PathBuf, Fate)> {
    found
        .iter()
        .map(|file| {
            let fate = match file.damage() {
                None => Fate::Remove,
                Some(_) if empty(found).any(|empty| empty.number == file.number) => Fate::Remove,
                Some(_) => Fate::Keep(free_name(&file.path, names)),
            };
            (file.path.clone(), fate)
        })
        .collect()
}

/// `journal.N.damaged-K` with the first K that is free.
fn free_name(path: &Path, names: &[String]) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (1u64..)
        .map(|k| format!("{name}.damaged-{k}"))
        .find(|candidate| !names.contains(candidate));
    path.with_file_name(free.unwrap_or_else(|| format!("{name}.damaged")))
}

fn whole(file: &JournalFile, records: u64) -> Recovery {
    match file.seen.cut {
        0 => Recovery::Clean { records },
        bytes => Recovery::TailCut { records, bytes },
    }
}

fn damage(
    found: &[JournalFile],
    counts: Option<&JournalFile>,
    offset: u64,
    stale: &[(PathBuf, Fate)],
) -> Damage {
    let kept = stale
        .iter()
        .rev()
        .filter_map(|(path, fate)| match fate {
            Fate::Keep(name) => Some((path.clone(), name.clone())),
            Fate::Remove => None,
        })
        .collect();
    Damage {
        kept,
        offset,
        salvaged: counts.map_or(0, |file| file.seen.good.len() as u64),
        missing: missing(found),
    }
}
