//! A disk that forgets: what is not synced may be lost with the power, a write may be torn, a sync may fail, room may run
//! out and come back, and the process may die in the middle of any operation. Two views are kept of everything: what a
//! reader sees now, and what would be there after the power went.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use relay_broker::prng::Prng;
use relay_broker::sys::disk::Disk;

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed; the system keeps what it was given.
    Kill,
    /// The power goes.
    Power,
}

/// A handle; clones share the disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Rc<RefCell<State>>);

#[derive(Clone, Debug)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that no sync of the folder has covered yet; each is done whole or not at all.
    namings: Vec<Vec<(PathBuf, Option<usize>)>>,
    files: Vec<Content>,
    full: bool,
    failing_syncs: u32,
    /// The operation that fails, counted from the next one.
    fails_in: Option<u32>,
    /// The operation in which the process dies, counted from the next one.
    dies_in: Option<u32>,
    dead: bool,
    prng: Prng,
}

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Cut since the last sync, so `durable` is no beginning of `seen`.
    cut: bool,
    /// A sync failed: the system calls the next one a success and has forgotten what it could not write.
    spoiled: bool,
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            namings: Vec::new(),
            files: Vec::new(),
            full: false,
            failing_syncs: 0,
            fails_in: None,
            dies_in: None,
            dead: false,
            prng: Prng::new(seed),
        })))
    }

    pub fn set_full(&self, full: bool) {
        self.0.borrow_mut().full = full;
    }

    pub fn fail_syncs(&self, count: u32) {
        self.0.borrow_mut().failing_syncs = count;
    }

    pub fn fail_in(&self, operations: u32) {
        self.0.borrow_mut().fails_in = Some(operations);
    }

    /// The process dies in one of the next operations, unless it is called off before.
    pub fn die_in(&self, operations: Option<u32>) {
        self.0.borrow_mut().dies_in = operations;
    }

    /// Whether the process died in an operation.
    pub fn died(&self) -> bool {
        self.0.borrow().dead
    }

    /// No more troubles of its own.
    pub fn heal(&self) {
        let mut state = self.0.borrow_mut();
        state.full = false;
        state.failing_syncs = 0;
        state.fails_in = None;
        state.dies_in = None;
    }

    /// The process is gone; the disk as the next one finds it.
    pub fn crash(&self, how: Crash) {
        let mut guard = self.0.borrow_mut();
        let state = &mut *guard;
        state.dead = false;
        state.dies_in = None;
        state.fails_in = None;
        if how == Crash::Kill {
            return;
        }
        let kept = state.prng.below(state.namings.len() as u64 + 1) as usize;
        let mut names = state.durable_names.clone();
        for (path, file) in state.namings.drain(..).take(kept).flatten() {
            match file {
                Some(file) => names.insert(path, file),
                None => names.remove(&path),
            };
        }
        state.names = names.clone();
        state.durable_names = names;
        for file in &mut state.files {
            file.lose_power(&mut state.prng);
        }
    }

    /// The disk as it would be after the power went now, with nothing kept that was not synced.
    pub fn after_power_loss(&self) -> SimDisk {
        let state = self.0.borrow();
        let mut files = Vec::new();
        let mut names = BTreeMap::new();
        for (path, file) in &state.durable_names {
            names.insert(path.clone(), files.len());
            let durable = state.files[*file].durable.clone();
            files.push(Content {
                seen: durable.clone(),
                durable,
                ..Content::default()
            });
        }
        let copy = State {
            names: names.clone(),
            durable_names: names,
            namings: Vec::new(),
            files,
            full: false,
            failing_syncs: 0,
            fails_in: None,
            dies_in: None,
            dead: false,
            prng: Prng::new(0),
        };
        SimDisk(Rc::new(RefCell::new(copy)))
    }

    /// Does an operation, or as much of it as its trouble lets happen.
    fn ask<T>(&self, work: impl FnOnce(&mut State, Extent) -> T) -> io::Result<T> {
        let mut guard = self.0.borrow_mut();
        let state = &mut *guard;
        if state.dead {
            return Err(io::Error::other("the process is dead"));
        }
        if due(&mut state.dies_in) {
            state.dead = true;
            let extent = state.any_extent();
            work(state, extent);
            return Err(io::Error::other("the process died"));
        }
        if due(&mut state.fails_in) {
            let extent = state.any_extent();
            work(state, extent);
            return Err(io::Error::other("the disk was told to fail"));
        }
        Ok(work(state, Extent::Whole))
    }

    fn no_room(&self) -> bool {
        self.0.borrow().full
    }
}

/// How much of an operation happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Nothing,
    Part,
    Whole,
}

fn due(countdown: &mut Option<u32>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl State {
    fn any_extent(&mut self) -> Extent {
        match self.prng.below(3) {
            0 => Extent::Nothing,
            1 => Extent::Part,
            _ => Extent::Whole,
        }
    }

    fn name(&mut self, path: &Path, file: Option<usize>) {
        match file {
            Some(file) => self.names.insert(path.to_owned(), file),
            None => self.names.remove(path),
        };
        self.namings.push(vec![(path.to_owned(), file)]);
    }
}

impl Content {
    fn sync(&mut self) {
        if self.spoiled {
            return;
        }
        if self.cut || self.durable.len() > self.seen.len() {
            self.durable.clone_from(&self.seen);
        } else {
            let from = self.durable.len();
            self.durable.extend_from_slice(&self.seen[from..]);
        }
        self.cut = false;
    }

    fn lose_power(&mut self, prng: &mut Prng) {
        if !self.cut && self.seen.len() > self.durable.len() && !self.spoiled {
            let unsynced = (self.seen.len() - self.durable.len()) as u64;
            let kept = match prng.below(3) {
                0 => 0,
                1 => prng.below(unsynced + 1),
                _ => unsynced,
            };
            let from = self.durable.len();
            self.durable
                .extend_from_slice(&self.seen[from..from + kept as usize]);
            // A block may have been given to the file and never written.
            if kept < unsynced && prng.below(4) == 0 {
                self.durable.extend([0; 40]);
            }
        }
        self.seen.clone_from(&self.durable);
        self.cut = false;
        self.spoiled = false;
    }
}

impl Disk for SimDisk {
    type File = usize;

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        let state = self.0.borrow();
        let names = state.names.keys().filter_map(|p| p.file_name());
        Ok(names.map(|n| n.to_string_lossy().into_owned()).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let file = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[*file].seen.clone())
    }

    fn create(&self, path: &Path) -> io::Result<usize> {
        if self.no_room() && self.0.borrow_mut().prng.below(2) == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.ask(|state, extent| {
            let file = state.files.len();
            if extent != Extent::Nothing {
                state.files.push(Content::default());
                state.name(path, Some(file));
            }
            file
        })
    }

    fn append(&self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        if self.no_room() {
            let mut guard = self.0.borrow_mut();
            let state = &mut *guard;
            let take = state.prng.below(bytes.len() as u64) as usize;
            state.files[*file].seen.extend_from_slice(&bytes[..take]);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.ask(|state, extent| {
            let take = match extent {
                Extent::Nothing => 0,
                Extent::Part => state.prng.below(bytes.len() as u64 + 1) as usize,
                Extent::Whole => bytes.len(),
            };
            state.files[*file].seen.extend_from_slice(&bytes[..take]);
        })
    }

    fn sync(&self, file: &mut usize) -> io::Result<()> {
        let mut failed = false;
        self.ask(|state, extent| {
            if extent == Extent::Whole && state.failing_syncs > 0 {
                state.failing_syncs -= 1;
                failed = true;
            }
            let content = &mut state.files[*file];
            match extent {
                Extent::Whole if failed => content.spoiled = true,
                Extent::Whole => content.sync(),
                Extent::Part | Extent::Nothing => {}
            }
        })?;
        if failed {
            return Err(io::Error::other("cannot sync: input/output error"));
        }
        Ok(())
    }

    fn truncate(&self, file: &mut usize, length: u64) -> io::Result<()> {
        self.ask(|state, extent| {
            if extent == Extent::Whole {
                let content = &mut state.files[*file];
                content.seen.truncate(length as usize);
                content.cut |= content.seen.len() < content.durable.len();
            }
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.0.borrow().names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.ask(|state, extent| {
            if extent == Extent::Whole
                && let Some(file) = state.names.get(from).copied()
            {
                state.names.remove(from);
                state.names.insert(to.to_owned(), file);
                let both = vec![(from.to_owned(), None), (to.to_owned(), Some(file))];
                state.namings.push(both);
            }
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.0.borrow().names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.ask(|state, extent| {
            if extent == Extent::Whole {
                state.name(path, None);
            }
        })
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.ask(|state, extent| {
            if extent == Extent::Whole {
                state.durable_names = state.names.clone();
                state.namings.clear();
            }
        })
    }

    fn in_place(&self, file: &usize, path: &Path) -> io::Result<()> {
        self.ask(|_, _| ())?;
        match self.0.borrow().names.get(path) {
            Some(there) if there == file => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
