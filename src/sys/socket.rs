//! Addresses of Unix sockets in folders of any depth: the system takes about a hundred bytes, and a path may be longer.

use std::io;
use std::path::Path;

/// The longest path that fits into an address on every system we know.
#[cfg(target_os = "linux")]
const LONGEST: usize = 100;

/// Calls `with` with a path that leads to `path` and fits into an address for as long as the call takes. Where there is no
/// such path, with `path` itself.
///
/// # Errors
/// Those of `with`, and when the folder cannot be opened.
pub fn addressed<T>(path: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    #[cfg(target_os = "linux")]
    if path.as_os_str().len() > LONGEST
        && let (Some(folder), Some(name)) = (path.parent(), path.file_name())
    {
        use rustix::fs::{Mode, OFlags, open};
        use std::os::fd::AsRawFd;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(folder, flags, Mode::empty())?;
        let short = format!("/proc/self/fd/{}", folder.as_raw_fd());
        return with(&Path::new(&short).join(name));
    }
    with(path)
}
