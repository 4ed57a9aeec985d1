//! Files as the journal and the small stores need them: private to this user, replaced whole or not at all, never
//! reached through a symbolic link. [`Disk`] is what the journal asks of a folder, so that a simulation can stand in
//! for it. Every error names the path. Never decides what is in a file.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{OFlags, statvfs};
use rustix::io::Errno;

use crate::sys::failpoint;
use crate::sys::session::alive;

/// Files are readable and writable by their owner alone.
const FILE_MODE: u32 = 0o600;
/// Folders likewise.
const DIR_MODE: u32 = 0o700;

/// Ends the names of files that are not yet in place.
const DRAFT: &str = ".tmp";
/// More than any file but a journal holds.
const SMALL: u64 = 64 * 1024;

/// What the journal asks of the folder it lives in. What is written is durable only after [`Disk::sync`]; what is
/// created, renamed or removed only after [`Disk::sync_dir`].
pub trait Disk {
    /// A file open for appending.
    type File: std::fmt::Debug;

    /// The names of everything in the folder, in any order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// All bytes of a file.
    ///
    /// # Errors
    /// When it is not there, is no plain file, or cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// A new empty file in place of whatever has that name. The folder is made again if it is gone and the one above it
    /// is not.
    ///
    /// # Errors
    /// When there is no room or no permission.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Adds bytes at the end, with one write where the system allows it.
    ///
    /// # Errors
    /// When not all could be written; some of them may be in the file nevertheless. Like all errors about an open file
    /// it does not name the path, which may have changed since.
    fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;

    /// Returns once the contents are on disk, in a file that can be found there.
    ///
    /// # Errors
    /// When they are not. The file must not be trusted afterwards: the system may forget what it failed to write. Also
    /// when somebody has removed the file, since what is in it is gone when it is closed.
    fn sync(&self, file: &mut Self::File) -> io::Result<()>;

    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// When it could not be cut.
    fn truncate(&self, file: &mut Self::File, length: u64) -> io::Result<()>;

    /// Gives a file another name, replacing what has it. Open files stay open.
    ///
    /// # Errors
    /// When it could not be renamed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When it is not there or cannot be removed.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Returns once all names in the folder are on disk.
    ///
    /// # Errors
    /// When they are not.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes sure that `path` still leads to this open file. A file that somebody removed, or whose folder was moved away,
    /// takes every write and every sync, and no later start will find any of it.
    ///
    /// # Errors
    /// [`is_gone`] when it leads elsewhere, or nowhere; any other error says nothing about the file.
    fn in_place(&self, _file: &Self::File, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Whether this open file still has a name anywhere. One without is gone when it is closed, and holds room until then.
    fn linked(&self, _file: &Self::File) -> bool {
        true
    }

    /// Makes the folder again if somebody has removed it.
    ///
    /// # Errors
    /// When it is missing and cannot be made.
    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// A file open for appending.
#[derive(Debug)]
pub struct RealFile {
    file: File,
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let failed = |e| named("list", dir, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let how = &mut OpenOptions::new();
        read_whole(open(path, how.read(true)), None).map_err(|e| named("read", path, e))
    }

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        failpoint::room().map_err(|e| named("make", path, e))?;
        Ok(RealFile {
            file: create_new(path)?,
        })
    }

    fn append(&self, file: &mut RealFile, bytes: &[u8]) -> io::Result<()> {
        let written = match failpoint::room() {
            Ok(()) => file.file.write_all(bytes),
            // A disk fills up in the middle of a write.
            full => (file.file.write_all(&bytes[..bytes.len() / 2])).and(full),
        };
        written.map_err(|e| because("cannot write", e))
    }

    fn sync(&self, file: &mut RealFile) -> io::Result<()> {
        let synced = file.file.sync_data();
        synced.map_err(|e| because("cannot sync", e))
    }

    fn truncate(&self, file: &mut RealFile, length: u64) -> io::Result<()> {
        let cut = file.file.set_len(length);
        cut.map_err(|e| because("cannot cut", e))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|e| named("rename", from, e))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|e| named("remove", path, e))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir).and_then(|folder| folder.sync_all()) {
            // Some file systems cannot sync a folder and say so; there is nothing more to be had from them.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            synced => synced.map_err(|e| named("sync", dir, e)),
        }
    }

    fn in_place(&self, file: &RealFile, path: &Path) -> io::Result<()> {
        let identity = |found: Metadata| (found.dev(), found.ino());
        let ours = file.file.metadata().map(identity);
        let there = fs::symlink_metadata(path).map(identity);
        match (ours, there) {
            (Ok(ours), Ok(there)) if ours == there => Ok(()),
            (Err(e), _) => Err(io::Error::other(format!("cannot be looked at: {e}"))),
            (_, Err(e)) if !is_gone(&e) => Err(because("cannot find", e)),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "somebody has removed, replaced or moved the file",
            )),
        }
    }

    fn linked(&self, file: &RealFile) -> bool {
        file.file.metadata().is_ok_and(|found| found.nlink() > 0)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        match dir.is_dir() {
            true => Ok(()),
            false => make_again(dir),
        }
    }
}

/// Whether an error means that the disk, or our share of it, is full: waiting or making room helps.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether an error means that nothing has that name.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Replaces a file by `bytes`, whole or not at all, also over a crash. The file is 0600 from its first moment.
///
/// # Errors
/// When the bytes are not durably in place; the old file then still stands. Names the path.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (dir, temp) = beside(path)?;
    let written = create_new(&temp)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temp, path));
    if let Err(e) = written {
        // Best effort: the error that matters is the one that brought us here.
        let _ = fs::remove_file(&temp);
        return Err(named("write", path, e));
    }
    RealDisk.sync_dir(dir)
}

/// All bytes of a small private file. One that group or others could read or write is tightened to 0600 first.
///
/// # Errors
/// When it is not there, is no plain file, is longer than any of ours, cannot be tightened or cannot be read. Names the
/// path.
pub fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path, OpenOptions::new().read(true));
    read_whole(file, Some(SMALL)).map_err(|e| named("read", path, e))
}

/// All bytes of a small plain file, which stays as it was found, whoever may read it. Whatever stands in its place, a pipe,
/// a device or a link to one, costs neither time nor memory.
///
/// # Errors
/// When it is not there, is no plain file, is longer than any of ours or cannot be read. Names the path.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_as_is(path, OpenOptions::new().read(true));
    read_whole(file, Some(SMALL)).map_err(|e| named("read", path, e))
}

/// All bytes of a plain file, which stays as it was found, whoever may read it.
///
/// # Errors
/// When it is not there, is no plain file or cannot be read. Names the path.
pub fn read_untouched(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_as_is(path, OpenOptions::new().read(true));
    read_whole(file, None).map_err(|e| named("read", path, e))
}

/// Opens a private file for reading and writing, and makes it if it is not there. Tightened as in [`read_private`]. A file
/// that has a second name is refused untouched: writing here would change what somebody keeps there.
///
/// # Errors
/// As [`read_private`], and when the file has several names.
pub fn open_private(path: &Path) -> io::Result<File> {
    open_as_is(
        path,
        OpenOptions::new().read(true).write(true).create(true),
    )
    .and_then(|file| match file.metadata()?.nlink() {
        0 | 1 => tightened(file),
        _ => Err(io::Error::other(
            "it is a hard link to a file that has another name, too; remove the link to have a file made here",
        )),
    })
    .map_err(|e| named("open", path, e))
}

/// Makes a folder, and those above it that are missing, for this user alone (0700). One that is there already stays as
/// it is: it may be shared on purpose, and the files we put into it are private anyway.
///
/// # Errors
/// When it cannot be made, or something that is no folder has its name. Names the path.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(path)
        .map_err(|e| named("make the folder", path, e))
}

/// Makes a folder that was there and is gone, but none above it: a whole tree that is gone was meant to go.
fn make_again(dir: &Path) -> io::Result<()> {
    let made = DirBuilder::new().mode(DIR_MODE).create(dir);
    made.map_err(|e| named("make the folder", dir, e))?;
    log::warn!("{} was removed and is made again", dir.display());
    RealDisk.sync_dir(dir.parent().unwrap_or(Path::new(".")))
}

/// Opens a plain file for its owner alone.
fn open(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    open_as_is(path, how).and_then(tightened)
}

fn tightened(file: File) -> io::Result<File> {
    if file.metadata()?.permissions().mode() & 0o777 & !FILE_MODE != 0 {
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    Ok(file)
}

/// All bytes of a file, unless there are more than `limit`.
fn read_whole(file: io::Result<File>, limit: Option<u64>) -> io::Result<Vec<u8>> {
    let (mut file, mut bytes) = (file?, Vec::new());
    match limit {
        None => file.read_to_end(&mut bytes)?,
        Some(limit) => file.take(limit + 1).read_to_end(&mut bytes)?,
    };
    match limit {
        Some(limit) if bytes.len() as u64 > limit => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is longer than {limit} bytes, so it is none of ours"),
        )),
        _ => Ok(bytes),
    }
}

/// Opens a plain file without following a link in its place, and without waiting for a pipe that has its name.
fn open_as_is(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = how
        .mode(FILE_MODE)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    Ok(file)
}

/// A new file open for appending, in place of what a crash may have left under that name.
fn create_new(path: &Path) -> io::Result<File> {
    let make = || open(path, OpenOptions::new().append(true).create_new(true));
    let made = match make() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path).and_then(|()| make())
        }
        made => made,
    };
    made.map_err(|e| named("make", path, e))
}

/// Removes what a killed process left of files it was replacing: keys may be in it. `ours` says whether the folder is this
/// process's alone; in one that is shared, only what dead processes left is removed. Best effort, as there is always a
/// next start.
pub fn sweep_drafts(dir: &Path, ours: bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(writer) = name.to_str().and_then(drafted_by) else {
            continue;
        };
        if ours || !(writer == std::process::id() || alive(writer)) {
            match fs::remove_file(entry.path()) {
                Ok(()) => log::info!(
                    "removed {}, left by a killed process",
                    entry.path().display()
                ),
                Err(e) => log::warn!("{}: {e}", entry.path().display()),
            }
        }
    }
}

/// The process that made a temporary file of [`write_private`], by the file's name.
fn drafted_by(name: &str) -> Option<u32> {
    let stem = name.strip_prefix('.')?.strip_suffix(DRAFT)?;
    let (pid, count) = stem.rsplit_once('.')?.1.split_once('-')?;
    count.parse::<u64>().ok()?;
    pid.parse().ok()
}

/// The folder of a file, and a name in it that no other process uses.
fn beside(path: &Path) -> io::Result<(&Path, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        let nameless = io::Error::new(io::ErrorKind::InvalidInput, "it has no file name");
        return Err(named("write", path, nameless));
    };
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut temp = OsString::from(".");
    temp.push(name);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    temp.push(format!(".{}-{count}{DRAFT}", std::process::id()));
    Ok((dir, dir.join(temp)))
}

/// The same error, saying what could not be done to which path, and which limit is behind it where that is not the disk's
/// size: the system has one error for both.
fn named(doing: &str, path: &Path, error: io::Error) -> io::Error {
    let what = format!("cannot {doing} {}", path.display());
    match inodes(path, &error) {
        Some(limit) => io::Error::new(error.kind(), format!("{what}: {limit} ({error})")),
        None => because(&what, error),
    }
}

/// What is said where a file system has room for bytes and none for another file.
fn inodes(path: &Path, error: &io::Error) -> Option<String> {
    if error.raw_os_error() != Some(Errno::NOSPC.raw_os_error()) {
        return None;
    }
    let at = path.ancestors().find(|at| at.exists())?;
    let found = statvfs(at).ok()?;
    (found.f_files > 0 && found.f_favail == 0).then(|| {
        format!(
            "all {} inodes of its file system are in use; remove files there, or give it more (`df -i`, a tmpfs's nr_inodes=)",
            found.f_files
        )
    })
}

fn because(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sys::thread::tests::within;

    /// A folder that goes away with the value.
    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let name = format!(
                "relay-broker-test-{}-{}",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            );
            let path = std::env::temp_dir().join(name);
            create_private_dir(&path).expect("a temporary folder");
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    }

    #[test]
    fn a_private_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let dir = Scratch::new();
        let path = dir.path().join("token");
        write_private(&path, b"one").expect("room");
        write_private(&path, b"two").expect("room");
        assert_eq!(read_private(&path).expect("readable"), b"two");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(RealDisk.list(dir.path()).expect("readable"), ["token"]);
    }

    #[test]
    fn what_is_no_small_plain_file_is_refused_and_not_waited_for() {
        within("a pipe that nobody writes into is refused", || {
            let dir = Scratch::new();
            let (pipe, long) = (dir.path().join("pipe"), dir.path().join("long"));
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.is_ok_and(|status| status.success()));
            for other in [&pipe, dir.path(), Path::new("/dev/zero")] {
                let why = read_small(other).expect_err("no file of ours").to_string();
                assert!(why.contains("not a plain file"), "{why}");
            }
            let most = usize::try_from(SMALL).expect("a length");
            fs::write(&long, vec![b'x'; most]).expect("room");
            assert_eq!(read_small(&long).expect("short enough").len(), most);
            fs::write(&long, vec![b'x'; most + 1]).expect("room");
            for read in [read_small, read_private] {
                let why = read(&long).expect_err("too long").to_string();
                assert!(why.contains("longer than"), "{why}");
            }
        });
    }

    #[test]
    fn a_file_others_could_read_is_tightened_when_found() {
        let dir = Scratch::new();
        let path = dir.path().join("token");
        fs::write(&path, "x").expect("room");
        fs::set_permissions(&path, Permissions::from_mode(0o664)).expect("ours");
        read_private(&path).expect("readable");
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
        assert_eq!(read_untouched(&path).expect("readable"), b"x");
        assert_eq!(mode(&path), 0o644, "only looked at");
        open_private(&path).expect("openable");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_link_in_place_of_a_file_is_refused_by_name_and_what_it_names_is_left_alone() {
        let dir = Scratch::new();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "mine").expect("room");
        std::os::unix::fs::symlink(&target, &link).expect("room");
        let error = read_private(&link).expect_err("a link");
        assert!(error.to_string().contains("link"), "{error}");
        open_private(&link).expect_err("a link");
        write_private(&link, b"new").expect("replaces the link itself");
        assert_eq!(fs::read(&target).expect("still there"), b"mine");
        assert_eq!(read_private(&link).expect("a file now"), b"new");
    }

    #[test]
    fn new_folders_are_private_and_found_ones_stay_as_they_are() {
        let dir = Scratch::new();
        let (outer, inner) = (dir.path().join("a"), dir.path().join("a/b"));
        create_private_dir(&inner).expect("room");
        assert_eq!((mode(&outer), mode(&inner)), (0o700, 0o700));
        fs::set_permissions(&inner, Permissions::from_mode(0o755)).expect("ours");
        create_private_dir(&inner).expect("it is there");
        assert_eq!(mode(&inner), 0o755);
    }

    #[test]
    fn a_file_that_was_removed_or_replaced_or_moved_with_its_folder_is_no_longer_in_place() {
        let dir = Scratch::new();
        let (folder, aside) = (dir.path().join("j"), dir.path().join("k"));
        let (path, disk) = (folder.join("f"), RealDisk);
        disk.make_dir(&folder).expect("room");
        let file = disk.create(&path).expect("room");
        disk.in_place(&file, &path).expect("just made");
        fs::rename(&folder, &aside).expect("ours");
        let error = disk.in_place(&file, &path).expect_err("moved");
        assert!(
            error.to_string().contains("removed, replaced or moved"),
            "{error}"
        );
        disk.make_dir(&folder).expect("made again");
        let _other = disk.create(&path).expect("room");
        disk.in_place(&file, &path).expect_err("replaced");
        fs::remove_file(&path).expect("ours");
        disk.in_place(&file, &path).expect_err("removed");
    }

    #[test]
    fn errors_name_the_path() {
        let dir = Scratch::new();
        let path = dir.path().join("missing/file");
        for error in [
            write_private(&path, b"x").expect_err("no folder"),
            read_private(&path).expect_err("no file"),
            RealDisk.list(&path).expect_err("no folder"),
            RealDisk.remove(&path).expect_err("no file"),
        ] {
            assert!(error.to_string().contains("missing/file"), "{error}");
        }
    }
}
