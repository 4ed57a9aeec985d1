//! A disk for tests that tears, fills up, forgets and dies on demand. Its only folder is `/j`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::io::Errno;

use crate::sys::disk::Disk;

/// A disk in memory. What is not synced is not durable, and any operation can be made to fail.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeDisk(Rc<RefCell<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    files: Vec<File>,
    /// What was asked of the disk so far.
    asked: Vec<&'static str>,
    fault: Option<(usize, Fault)>,
    outage: Option<Outage>,
    /// How often the outage was met.
    met: usize,
}

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// A sync has failed: the system has dropped what it could not write, and will call every later sync a success.
    forgotten: bool,
}

/// From its n-th call on, each of some operations fails until the disk is repaired.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    /// Which; all when empty.
    pub what: &'static [&'static str],
    /// How many of them go well before.
    pub after: usize,
    pub how: Broken,
}

/// What an operation does during an outage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Broken {
    /// Half its work, and says that the disk is full.
    Full,
    /// Half its work, and says that the device failed.
    Short,
    /// Nothing, and says that the device failed.
    Io,
    /// All of it, and says that the device failed.
    DoneButFailed,
    /// Nothing, and says that the file system is read-only.
    ReadOnly,
}

/// How much of its work an operation does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Share {
    All,
    Half,
    None,
}

impl Broken {
    fn share_and_error(self) -> (Share, io::Error) {
        let (share, errno) = match self {
            Broken::Full => (Share::Half, Errno::NOSPC),
            Broken::Short => (Share::Half, Errno::IO),
            Broken::Io => (Share::None, Errno::IO),
            Broken::DoneButFailed => (Share::All, Errno::IO),
            Broken::ReadOnly => (Share::None, Errno::ROFS),
        };
        (share, errno.into())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// The operation does half its work and says that the disk is full.
    Full,
    /// The operation does nothing and says so.
    Refused,
    /// The operation is done, and said to have failed.
    DoneButFailed,
    /// The same, and the next operation, which may be meant to undo it, is refused.
    DoneButStuck,
    /// The operation does half its work, and all later ones fail too.
    Gone,
}

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Crash {
    /// The process is killed: all that was written is there.
    Kill,
    /// The power fails: what was not synced is lost.
    Power,
    /// The power fails: half of what was not synced is there.
    Torn,
}

impl FakeDisk {
    pub(super) fn fail(&self, after: usize, fault: Fault) {
        let mut state = self.0.borrow_mut();
        let at = state.asked.len() + after;
        state.fault = Some((at, fault));
    }

    pub(super) fn outage(&self, outage: Outage) {
        let mut state = self.0.borrow_mut();
        (state.outage, state.met) = (Some(outage), 0);
    }

    /// Whether the outage was met since it began.
    pub(super) fn met(&self) -> bool {
        self.0.borrow().met > 0
    }

    pub(super) fn repair(&self) {
        let mut state = self.0.borrow_mut();
        (state.fault, state.outage) = (None, None);
    }

    /// A second disk in the same state, to see what a crash would leave without having one.
    pub(super) fn fork(&self) -> FakeDisk {
        FakeDisk(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    pub(super) fn asked(&self) -> usize {
        self.0.borrow().asked.len()
    }

    pub(super) fn crash(&self, how: Crash) {
        self.repair();
        let mut state = self.0.borrow_mut();
        if how != Crash::Kill {
            state.names = state.durable_names.clone();
        }
        for file in &mut state.files {
            let kept = match how {
                Crash::Kill => file.now.len(),
                Crash::Power => 0,
                Crash::Torn => file
                    .durable
                    .len()
                    .max((file.now.len() + file.durable.len()) / 2),
            };
            file.now = file
                .now
                .get(..kept)
                .filter(|n| n.starts_with(&file.durable))
                .unwrap_or(&file.durable)
                .to_vec();
            file.durable.clone_from(&file.now);
            file.forgotten = false;
        }
        state.durable_names = state.names.clone();
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        let id = state.files.len();
        state.files.push(File {
            now: bytes.to_vec(),
            durable: bytes.to_vec(),
            forgotten: false,
        });
        let path = Path::new("/j").join(name);
        state.names.insert(path.clone(), id);
        state.durable_names.insert(path, id);
    }

    pub(super) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.borrow();
        let id = state.names.get(&Path::new("/j").join(name))?;
        Some(state.files[*id].now.clone())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.list(Path::new("/j"))
            .expect("listing cannot fail unless told to")
    }

    /// Does `work`, or a share of it, as fault and outage say.
    fn ask(&self, what: &'static str, work: impl FnOnce(&mut State, Share)) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let at = state.asked.len();
        state.asked.push(what);
        let (share, error) = state.verdict(what, at);
        work(&mut state, share);
        error.map_or(Ok(()), Err)
    }
}

impl State {
    fn verdict(&mut self, what: &'static str, at: usize) -> (Share, Option<io::Error>) {
        if let Some(outage) = &mut self.outage
            && (outage.what.is_empty() || outage.what.contains(&what))
        {
            if outage.after == 0 {
                self.met += 1;
                let (share, error) = outage.how.share_and_error();
                return (share, Some(error));
            }
            outage.after -= 1;
        }
        let broken = |kind: io::ErrorKind| Some(io::Error::new(kind, "the disk was told to fail"));
        let other = broken(io::ErrorKind::Other);
        match self.fault {
            Some((n, Fault::Full)) if n == at => (Share::Half, broken(io::ErrorKind::StorageFull)),
            Some((n, Fault::Gone)) if n == at => (Share::Half, other),
            Some((n, Fault::Gone)) if n < at => (Share::None, other),
            Some((n, Fault::Refused)) if n == at => (Share::None, other),
            Some((n, Fault::DoneButStuck)) if n + 1 == at => (Share::None, other),
            Some((n, Fault::DoneButFailed | Fault::DoneButStuck)) if n == at => (Share::All, other),
            _ => (Share::All, None),
        }
    }
}

impl Disk for FakeDisk {
    type File = usize;

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.borrow();
        let inside = state.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(inside
            .map(|p| {
                p.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let id = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[*id].now.clone())
    }

    fn create(&self, path: &Path) -> io::Result<usize> {
        let mut id = 0;
        self.ask("create", |state, share| {
            if share == Share::All {
                id = state.files.len();
                state.files.push(File::default());
                state.names.insert(path.to_owned(), id);
            }
        })?;
        Ok(id)
    }

    fn append(&self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        self.ask("append", |state, share| {
            let take = match share {
                Share::All => bytes.len(),
                Share::Half => bytes.len() / 2,
                Share::None => 0,
            };
            state.files[*file].now.extend(&bytes[..take]);
        })
    }

    fn sync(&self, file: &mut usize) -> io::Result<()> {
        self.ask("sync", |state, share| {
            let file = &mut state.files[*file];
            if share != Share::All {
                file.forgotten = true;
            } else if !file.forgotten {
                file.durable.clone_from(&file.now);
            }
        })
    }

    fn truncate(&self, file: &mut usize, length: u64) -> io::Result<()> {
        self.ask("truncate", |state, share| {
            if share == Share::All {
                let length = usize::try_from(length).expect("small");
                state.files[*file].now.truncate(length);
            }
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.0.borrow().names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.ask("rename", |state, share| {
            if share == Share::All
                && let Some(id) = state.names.remove(from)
            {
                state.names.insert(to.to_owned(), id);
            }
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.0.borrow().names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.ask("remove", |state, share| {
            if share == Share::All {
                state.names.remove(path);
            }
        })
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.ask("sync_dir", |state, share| {
            if share == Share::All {
                state.durable_names = state.names.clone();
            }
        })
    }

    fn in_place(&self, file: &usize, path: &Path) -> io::Result<()> {
        // Faults count what changes something; a look fails only where that is asked for.
        let looks = |outage: &Outage| outage.what.contains(&"in_place");
        if self.0.borrow().outage.as_ref().is_some_and(looks) {
            self.ask("in_place", |_, _| ())?;
        }
        match self.0.borrow().names.get(path) {
            Some(there) if there == file => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
