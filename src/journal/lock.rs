//! One broker, or one engine, per folder: an advisory lock that the system takes back when its holder dies, however it
//! dies. The file stays, empty or with a stale pid; only the lock on it means anything.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::session::{alive, has_open};
use crate::sys::{clock, disk};

/// Who may have a folder for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// The lock is in its state folder.
    Broker,
    /// The lock is in the folder of its journal.
    Engine,
}

impl Tenant {
    /// The lock's file.
    pub fn file(self) -> &'static str {
        match self {
            Tenant::Broker => "broker.lock",
            Tenant::Engine => "engine.lock",
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tenant::Broker => "broker instance",
            Tenant::Engine => "engine",
        })
    }
}

/// How long a dead process's lock is waited for, and how long between tries.
const PATIENCE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(5);

/// Held as long as the value lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Why the lock is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it. The words about a broker are compared by existing tools.
    #[error("another {who} is already running in this directory (pid: {}, {}); stop it first, or use another directory",
            .pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()), .dir.display())]
    Held {
        /// What the holder is.
        who: Tenant,
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
    /// Takes the lock of a folder for the process `pid`. Waits only while the process that has it, by its own word, is dead:
    /// a child that it was just making keeps the lock until it has become a program of its own.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process, or another part of this one, has it.
    pub fn take(who: Tenant, dir: &Path, pid: u32) -> Result<Lock, LockError> {
        let end = clock::now().mono + PATIENCE;
        let lock = Self::take_waiting(who, dir, pid, || {
            std::thread::sleep(AGAIN);
            clock::now().mono < end
        })?;
        match who {
            Tenant::Broker => {}
            Tenant::Engine => end_older(dir, pid)?,
        }
        Ok(lock)
    }

    /// As [`Lock::take`]; `wait` passes the time until the next try, and says whether there is one.
    fn take_waiting(
        who: Tenant,
        dir: &Path,
        pid: u32,
        mut wait: impl FnMut() -> bool,
    ) -> Result<Lock, LockError> {
        loop {
            match Self::try_take(who, who.file(), dir, pid) {
                Err(LockError::Held {
                    pid: Some(holder), ..
                }) if !alive(holder) && wait() => {}
                taken => return taken,
            }
        }
    }

    fn try_take(who: Tenant, name: &str, dir: &Path, pid: u32) -> Result<Lock, LockError> {
        let path = dir.join(name);
        let mut file = disk::open_private(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    who,
                    pid: written_pid(&mut file),
                    dir: dir.to_owned(),
                });
            }
            Err(std::fs::TryLockError::Error(e)) => {
                let text = format!("cannot lock {}: {e}", path.display());
                return Err(LockError::Disk(io::Error::new(e.kind(), text)));
            }
        }
        // The pid only helps people; a full disk must not keep anybody from starting.
        if let Err(e) = file
            .set_len(0)
            .and_then(|()| file.write_all(format!("{pid}\n").as_bytes()))
        {
            log::warn!("cannot write the pid into {}: {e}", path.display());
        }
        Ok(Lock { file })
    }

    /// The pid written by whoever has, or had when it was killed, the lock of a folder. Takes no lock, for that could
    /// keep somebody from starting in this very moment.
    pub fn written(who: Tenant, dir: &Path) -> Option<u32> {
        pid_in(&disk::read_small(&dir.join(who.file())).ok()?)
    }

    /// The process that has the lock of a folder: by its own word, and because it has the lock's file open. Takes no lock,
    /// as [`Lock::written`]; so one that could not write its word is not found.
    pub fn holder(who: Tenant, dir: &Path) -> Option<u32> {
        let pid = Self::written(who, dir)?;
        has_open(pid, &dir.join(who.file())).then_some(pid)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Emptied so that nobody is told the pid of a process that is gone; closing the file gives the lock back.
        let _ = self.file.set_len(0);
    }
}

/// Engines before this one named their lock as brokers do: one of them may still run here. What it leaves behind says
/// something untrue, so it goes.
fn end_older(dir: &Path, pid: u32) -> Result<(), LockError> {
    let name = Tenant::Broker.file();
    if fs::symlink_metadata(dir.join(name)).is_ok() {
        drop(Lock::try_take(Tenant::Engine, name, dir, pid)?);
        fs::remove_file(dir.join(name))?;
    }
    Ok(())
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
        let own = std::process::id();
        let first = Lock::take(Tenant::Broker, dir.path(), own).expect("free");
        let error = Lock::take(Tenant::Broker, dir.path(), 4712).expect_err("held");
        let expected = format!(
            "another broker instance is already running in this directory (pid: {own}, {}); stop it first, or use another directory",
            dir.path().display()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(Lock::written(Tenant::Broker, dir.path()), Some(own));
        assert_eq!(Lock::holder(Tenant::Broker, dir.path()), Some(own));
        drop(first);
        assert!(dir.path().join(Tenant::Broker.file()).exists());
        assert_eq!(Lock::written(Tenant::Broker, dir.path()), None);
        let _second = Lock::take(Tenant::Broker, dir.path(), 1).expect("free again");
        let error = Lock::take(Tenant::Broker, dir.path(), own).expect_err("held");
        assert!(error.to_string().contains("(pid: 1, "), "{error}");
    }

    #[test]
    fn an_engine_is_called_one_and_an_older_ones_lock_counts_until_it_is_gone() {
        let dir = Scratch::new();
        let of_older = Lock::take(Tenant::Broker, dir.path(), 4711).expect("free");
        let error = Lock::take(Tenant::Engine, dir.path(), 8).expect_err("held");
        assert!(
            error
                .to_string()
                .starts_with("another engine is already running in this directory (pid: 4711, "),
            "{error}"
        );
        drop(of_older);
        let held = Lock::take(Tenant::Engine, dir.path(), 8).expect("free");
        assert!(
            !dir.path().join("broker.lock").exists(),
            "nothing untrue stays"
        );
        assert_eq!(Lock::written(Tenant::Engine, dir.path()), Some(8));
        let error = Lock::take(Tenant::Engine, dir.path(), 9).expect_err("held");
        assert!(
            error
                .to_string()
                .contains("another engine is already running"),
            "{error}"
        );
        drop(held);
    }

    #[test]
    fn what_a_killed_broker_left_in_the_file_does_not_keep_the_next_one_out() {
        let dir = Scratch::new();
        std::fs::write(
            dir.path().join(Tenant::Broker.file()),
            "999999 a longer stale text\n",
        )
        .expect("room");
        assert_eq!(Lock::holder(Tenant::Broker, dir.path()), None);
        // Nor is it whoever has the number by now.
        std::fs::write(dir.path().join(Tenant::Broker.file()), "1\n").expect("room");
        assert_ne!(Lock::holder(Tenant::Broker, dir.path()), Some(1));
        let _held = Lock::take(Tenant::Broker, dir.path(), 1).expect("nobody holds it");
        let error = Lock::take(Tenant::Broker, dir.path(), 8).expect_err("held");
        assert!(error.to_string().contains("(pid: 1, "), "{error}");
    }

    #[test]
    fn the_lock_of_a_dead_process_is_waited_for_because_a_child_of_it_may_still_have_it() {
        let dir = Scratch::new();
        // Numbers of processes stay far below this on every system we know.
        let mut of_child =
            Some(Lock::take(Tenant::Broker, dir.path(), 2_147_483_646).expect("free"));
        let taken = Lock::take_waiting(Tenant::Broker, dir.path(), 8, || {
            // Without the goodbye, as when the child becomes a program.
            of_child.take().is_some_and(|lock| {
                let Lock { file } = &lock;
                let _ = file.unlock();
                std::mem::forget(lock);
                true
            })
        });
        assert!(taken.is_ok(), "{taken:?}");
    }

    #[test]
    fn a_lock_that_a_dead_process_keeps_for_ever_is_an_error_that_names_it() {
        let dir = Scratch::new();
        let _held = Lock::take(Tenant::Broker, dir.path(), 2_147_483_646).expect("free");
        let mut tries = 3;
        let error = Lock::take_waiting(Tenant::Broker, dir.path(), 8, || {
            tries -= 1;
            tries > 0
        });
        let error = error.expect_err("held").to_string();
        assert!(error.contains("(pid: 2147483646, "), "{error}");
        assert_eq!(tries, 0);
    }

    #[test]
    fn a_link_in_place_of_the_file_is_refused_and_what_it_leads_to_stays_as_it_is() {
        let dir = Scratch::new();
        let (precious, path) = (
            dir.path().join("precious"),
            dir.path().join(Tenant::Broker.file()),
        );
        std::fs::write(&precious, "mine").expect("room");
        let before = std::fs::metadata(&precious).expect("there").permissions();
        std::fs::hard_link(&precious, &path).expect("room");
        let error = Lock::take(Tenant::Broker, dir.path(), 7)
            .expect_err("two names")
            .to_string();
        assert!(
            error.contains("hard link") && error.contains(Tenant::Broker.file()),
            "{error}"
        );
        std::fs::remove_file(&path).expect("ours");
        std::os::unix::fs::symlink(&precious, &path).expect("room");
        let error = Lock::take(Tenant::Broker, dir.path(), 7)
            .expect_err("a link")
            .to_string();
        assert!(error.contains(Tenant::Broker.file()), "{error}");
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
                        move || Lock::take_waiting(Tenant::Broker, path, pid, || false)
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
