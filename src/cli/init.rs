//! `init`: the program as clients of upstream's broker start it for themselves. It says one line on standard output and
//! nothing to people, takes a temporary folder with it, and gives the parent process the time to read why it fails.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::context::Context;
use super::failure::Failure;
use super::up;
use crate::config::{Flags, InitFlags, StateHome};
use crate::sys::sysexit::Sysexit;
use crate::sys::{entropy, stdio};

/// The word behind it.
const WORD: &str = "init";
/// How long a parent may take to read the reason of an end, at most.
const READING: Duration = Duration::from_secs(2);

/// `init`.
pub fn init(c: &Context, args: InitFlags) -> Result<(), Failure> {
    let unique = entropy::hex::<8>().map_err(|e| Failure::new(e.to_string()))?;
    let flags = args.into_flags(&c.env, &up::place()?, &unique)?;
    let _folder = TemporaryFolder::of(&flags);
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
