//! A disk for tests that tears, fills up, forgets and dies on demand. Its only folder is `/j`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::sys::disk::Disk;

/// A disk in memory. What is not synced is not durable, and any operation can be made to fail.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeDisk(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Contents, and how much of them is durable.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    /// What was asked of the disk so far.
    asked: Vec<String>,
    fault: Option<(usize, Fault)>,
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

    pub(super) fn repair(&self) {
        self.0.borrow_mut().fault = None;
    }

    pub(super) fn asked(&self) -> usize {
        self.0.borrow().asked.len()
    }

    pub(super) fn crash(&self, how: Crash) {
        let mut state = self.0.borrow_mut();
        state.fault = None;
        if how != Crash::Kill {
            state.names = state.durable_names.clone();
        }
        for (now, durable) in &mut state.files {
            let kept = match how {
                Crash::Kill => now.len(),
                Crash::Power => 0,
                Crash::Torn => durable.len().max((now.len() + durable.len()) / 2),
            };
            *now = now
                .get(..kept)
                .filter(|n| n.starts_with(durable))
                .unwrap_or(durable)
                .to_vec();
            durable.clone_from(now);
        }
        state.durable_names = state.names.clone();
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        let id = state.files.len();
        state.files.push((bytes.to_vec(), bytes.to_vec()));
        let path = Path::new("/j").join(name);
        state.names.insert(path.clone(), id);
        state.durable_names.insert(path, id);
    }

    pub(super) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.borrow();
        let id = state.names.get(&Path::new("/j").join(name))?;
        Some(state.files[*id].0.clone())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.list(Path::new("/j"))
            .expect("listing cannot fail unless told to")
    }

    /// Does `work`, or half of it (`None`), or nothing, as the fault says.
    fn ask(&self, what: String, work: impl FnOnce(&mut State, bool)) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let at = state.asked.len();
        state.asked.push(what);
        let broken = |kind: io::ErrorKind| Err(io::Error::new(kind, "the disk was told to fail"));
        match state.fault {
            Some((n, fault @ (Fault::Full | Fault::Gone))) if n == at => {
                work(&mut state, false);
                broken(match fault {
                    Fault::Full => io::ErrorKind::StorageFull,
                    _ => io::ErrorKind::Other,
                })
            }
            Some((n, Fault::Refused)) if n == at => broken(io::ErrorKind::Other),
            Some((n, Fault::DoneButStuck)) if n + 1 == at => broken(io::ErrorKind::Other),
            Some((n, Fault::DoneButFailed | Fault::DoneButStuck)) if n == at => {
                work(&mut state, true);
                broken(io::ErrorKind::Other)
            }
            Some((n, Fault::Gone)) if n < at => broken(io::ErrorKind::Other),
            _ => {
                work(&mut state, true);
                Ok(())
            }
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
        Ok(state.files[*id].0.clone())
    }

    fn create(&self, path: &Path) -> io::Result<usize> {
        let mut id = 0;
        self.ask("create".into(), |state, whole| {
            if whole {
                id = state.files.len();
                state.files.push((Vec::new(), Vec::new()));
                state.names.insert(path.to_owned(), id);
            }
        })?;
        Ok(id)
    }

    fn append(&self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        self.ask("append".into(), |state, whole| {
            let take = if whole { bytes.len() } else { bytes.len() / 2 };
            state.files[*file].0.extend(&bytes[..take]);
        })
    }

    fn sync(&self, file: &mut usize) -> io::Result<()> {
        self.ask("sync".into(), |state, whole| {
            if whole {
                let (now, durable) = &mut state.files[*file];
                durable.clone_from(now);
            }
        })
    }

    fn truncate(&self, file: &mut usize, length: u64) -> io::Result<()> {
        self.ask("truncate".into(), |state, whole| {
            if whole {
                state.files[*file]
                    .0
                    .truncate(usize::try_from(length).expect("small"));
            }
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.0.borrow().names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.ask("rename".into(), |state, whole| {
            if whole && let Some(id) = state.names.remove(from) {
                state.names.insert(to.to_owned(), id);
            }
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.0.borrow().names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.ask("remove".into(), |state, whole| {
            if whole {
                state.names.remove(path);
            }
        })
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.ask("sync_dir".into(), |state, whole| {
            if whole {
                state.durable_names = state.names.clone();
            }
        })
    }
}
