//! `init`: the program as clients of upstream's broker start it for themselves. It says one line on standard output and
//! nothing to people, takes a temporary folder with it, and gives the parent process the time to read why it fails.

use std::ffi::OsString;
use std::fs::{DirEntry, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::context::Context;
use super::failure::Failure;
use super::up;
use crate::agent::running;
use crate::config::{Flags, InitFlags, StateHome, TEMPORARY};
use crate::journal::{Lock, Tenant};
use crate::sys::sysexit::Sysexit;
use crate::sys::{entropy, session, stdio};

/// The word behind it.
const WORD: &str = "init";
/// How long a parent may take to read the reason of an end, at most.
const READING: Duration = Duration::from_secs(2);

/// `init`.
pub fn init(c: &Context, args: InitFlags) -> Result<(), Failure> {
    let unique = entropy::hex::<8>().map_err(|e| Failure::new(e.to_string()))?;
    let flags = args.into_flags(&c.env, &up::place()?, &unique)?;
    let folder = TemporaryFolder::of(&flags);
    folder.sweep_beside();
    up::up(c, &flags).map_err(as_upstream)
}

/// Upstream's broker knows two ways to fail, and clients no others.
fn as_upstream(mut failure: Failure) -> Failure {
    if !matches!(failure.code, Sysexit::Success | Sysexit::Usage) {
        failure.code = Sysexit::Failure;
    }
    failure
}

/// Leaves the parent process of an `init` the time to read what was said: clients stop listening when the process ends,
/// whatever still waits in the pipe.
pub fn linger(args: &[OsString]) {
    if args.get(1).is_some_and(|word| word == WORD) {
        stdio::until_read(READING);
    }
}

/// The state folder of a start that leaves nothing behind.
struct TemporaryFolder(Option<PathBuf>);

impl TemporaryFolder {
    fn of(flags: &Flags) -> Self {
        let terms = flags
            .init
            .filter(|terms| terms.home == StateHome::Temporary);
        Self(terms.and(flags.state_dir.clone()))
    }

    /// Removes what brokers that were killed have left in the same place.
    fn sweep_beside(&self) {
        let place = self.0.as_deref().and_then(Path::parent);
        let entries = place.and_then(|place| std::fs::read_dir(place).ok());
        for entry in entries.into_iter().flatten().flatten() {
            if is_left_behind(&entry) {
                sweep(&entry.path());
            }
        }
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Some(dir) = &self.0
            && let Err(e) = std::fs::remove_dir_all(dir)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            log::warn!("{}: {e}; remove it by hand", dir.display());
        }
    }
}

/// Whether it is a folder of ours whose broker's process is gone, by their names.
fn is_left_behind(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let number = name.to_str().and_then(|name| name.strip_prefix(TEMPORARY));
    let number = number.and_then(|rest| rest.split('-').next()?.parse().ok());
    let ours =
        |found: Metadata| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    number.is_some_and(|pid| !session::alive(pid)) && entry.metadata().is_ok_and(ours)
}

/// Upstream's folders have no such lock, and one that is held is in use, whatever the name says.
fn sweep(dir: &Path) {
    if !dir.join(Tenant::Broker.file()).is_file() {
        return;
    }
    let Ok(_lock) = Lock::take(Tenant::Broker, dir, std::process::id()) else {
        return;
    };
    running::end_survivors(&dir.join(running::FOLDER), Duration::ZERO);
    match std::fs::remove_dir_all(dir) {
        Ok(()) => log::info!("{}: removed; its broker was killed", dir.display()),
        Err(e) => log::warn!("{}: {e}; remove it by hand", dir.display()),
    }
}
