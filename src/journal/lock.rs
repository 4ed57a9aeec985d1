//! One broker per folder: an advisory lock that the system takes back when its holder dies, however it dies. The file
//! stays, empty or with a stale pid; only the lock on it means anything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::sys::disk;

/// The lock's file in the state folder.
const NAME: &str = "broker.lock";

/// Held as long as the value lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Why the lock is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it. The words are compared by existing tools.
    #[error("another broker instance is already running in this directory (pid: {}, {}); stop it first, or use another directory",
            .pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()), .dir.display())]
    Held {
        /// The holder, unless it has not said yet.
        pid: Option<u32>,
        /// The folder.
        dir: PathBuf,
    },
    /// The file cannot be opened or locked.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

impl Lock {
    /// Takes the lock of a folder for the process `pid`, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process, or another part of this one, has it.
    pub fn take(dir: &Path, pid: u32) -> Result<Lock, LockError> {
        let path = dir.join(NAME);
        let mut file = disk::open_private(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    pid: written_pid(&mut file),
                    dir: dir.to_owned(),
                });
            }
            Err(std::fs::TryLockError::Error(e)) => {
                let text = format!("cannot lock {}: {e}", path.display());
                return Err(LockError::Disk(io::Error::new(e.kind(), text)));
            }
        }
        // The pid only helps people; a full disk must not keep a broker from starting.
        if let Err(e) = file
            .set_len(0)
            .and_then(|()| file.write_all(format!("{pid}\n").as_bytes()))
        {
            log::warn!("cannot write the pid into {}: {e}", path.display());
        }
        Ok(Lock { file })
    }

    /// The pid written by whoever has, or had when it was killed, the lock of a folder. Takes no lock, for that could
    /// keep a broker from starting in this very moment.
    pub fn written(dir: &Path) -> Option<u32> {
        pid_in(&disk::read_small(&dir.join(NAME)).ok()?)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Emptied so that nobody is told the pid of a broker that is gone; closing the file gives the lock back.
        let _ = self.file.set_len(0);
    }
}

fn written_pid(file: &mut File) -> Option<u32> {
    let mut bytes = Vec::new();
    file.take(32).read_to_end(&mut bytes).ok()?;
    pid_in(&bytes)
}

fn pid_in(bytes: &[u8]) -> Option<u32> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::tests::Scratch;

    #[test]
    fn a_second_broker_in_the_same_folder_is_told_who_has_it() {
        let dir = Scratch::new();
        let first = Lock::take(dir.path(), 4711).expect("free");
        let error = Lock::take(dir.path(), 4712).expect_err("held");
        let expected = format!(
            "another broker instance is already running in this directory (pid: 4711, {}); stop it first, or use another directory",
            dir.path().display()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(Lock::written(dir.path()), Some(4711));
        drop(first);
        assert!(dir.path().join(NAME).exists());
        assert_eq!(Lock::written(dir.path()), None);
        let _second = Lock::take(dir.path(), 4712).expect("free again");
        let error = Lock::take(dir.path(), 1).expect_err("held");
        assert!(error.to_string().contains("(pid: 4712, "), "{error}");
    }

    #[test]
    fn what_a_killed_broker_left_in_the_file_does_not_keep_the_next_one_out() {
        let dir = Scratch::new();
        std::fs::write(dir.path().join(NAME), "999999 a longer stale text\n").expect("room");
        let _held = Lock::take(dir.path(), 7).expect("nobody holds it");
        let error = Lock::take(dir.path(), 8).expect_err("held");
        assert!(error.to_string().contains("(pid: 7, "), "{error}");
    }

    #[test]
    fn a_link_in_place_of_the_file_is_refused_and_what_it_leads_to_stays_as_it_is() {
        let dir = Scratch::new();
        let (precious, path) = (dir.path().join("precious"), dir.path().join(NAME));
        std::fs::write(&precious, "mine").expect("room");
        let before = std::fs::metadata(&precious).expect("there").permissions();
        std::fs::hard_link(&precious, &path).expect("room");
        let error = Lock::take(dir.path(), 7)
            .expect_err("two names")
            .to_string();
        assert!(
            error.contains("hard link") && error.contains(NAME),
            "{error}"
        );
        std::fs::remove_file(&path).expect("ours");
        std::os::unix::fs::symlink(&precious, &path).expect("room");
        let error = Lock::take(dir.path(), 7).expect_err("a link").to_string();
        assert!(error.contains(NAME), "{error}");
        assert_eq!(std::fs::read(&precious).expect("there"), b"mine");
        let after = std::fs::metadata(&precious).expect("there").permissions();
        assert_eq!(after, before);
    }

    #[test]
    fn of_many_at_once_exactly_one_gets_it() {
        let dir = Scratch::new();
        let taken: Vec<_> = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8u32)
                .map(|pid| {
                    scope.spawn({
                        let path = dir.path();
                        move || Lock::take(path, pid)
                    })
                })
                .collect();
            tries
                .into_iter()
                .filter_map(|t| t.join().expect("no panic").ok())
                .collect()
        });
        assert_eq!(taken.len(), 1);
    }
}
