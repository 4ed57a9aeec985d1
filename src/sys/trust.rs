//! Whose folder it is. What lies in a state folder decides which engine is obeyed and so which programs run: a folder that
//! another user could have prepared is not to be believed. Looks only, except for [`tighten`] and [`close`]; what to do about
//! a folder that is not trusted is the caller's business.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Write permission of the group and of everybody.
const OTHERS_WRITE: u32 = 0o022;
/// Write permission of everybody.
const ALL_WRITE: u32 = 0o002;
/// In a folder with this bit only an entry's owner can rename or remove it.
const STICKY: u32 = 0o1000;
/// How deep folders of ours go.
const DEPTH: u8 = 4;

/// Why a path is not believed.
#[derive(Debug, thiserror::Error)]
#[error("{} {why}", path.display())]
pub struct Distrust {
    path: PathBuf,
    why: String,
}

/// What this user may write in and nobody else may. A path that does not exist is nobody's yet, and fine.
///
/// # Errors
/// [`Distrust`] says who else could have changed it.
pub fn own(path: &Path) -> Result<(), Distrust> {
    if let Some(found) = look(path, fs::symlink_metadata(path))? {
        judge(path, &found)?;
        if found.is_symlink()
            && let Some(target) = look(path, fs::metadata(path))?
        {
            judge(path, &target)?;
        }
    }
    Ok(())
}

/// A file that this user or root wrote and not everybody may write; others of the group may, as in a project that several
/// people work on.
///
/// # Errors
/// As [`own`].
pub fn chosen(path: &Path) -> Result<(), Distrust> {
    match look(path, fs::metadata(path))? {
        Some(found) if ![me(), 0].contains(&found.uid()) => Err(foreign(path, found.uid())),
        Some(found) if found.mode() & ALL_WRITE != 0 => Err(writable(path, found.mode())),
        _ => Ok(()),
    }
}

/// Whether nobody but this user and root can put something else in place of `path`, or of a folder above it. The path must
/// be absolute; its end need not exist.
///
/// # Errors
/// [`Distrust`] names the folder in which others can do that.
pub fn way(path: &Path) -> Result<(), Distrust> {
    steps(path)?;
    // The same path without its links, for folders are also replaced where those lead.
    let there = path.ancestors().find_map(|part| part.canonicalize().ok());
    there.map_or(Ok(()), |path| steps(&path))
}

/// [`own`] for the entries of that name in `dir` and everything below them.
///
/// # Errors
/// As [`own`], and when a folder cannot be read.
pub fn contents(dir: &Path, names: &[&str]) -> Result<(), Distrust> {
    names
        .iter()
        .try_for_each(|name| below(&dir.join(name), DEPTH))
}

/// Takes the group's right to write in a folder of this user's: a folder made under a common umask has it. One that everybody
/// may write in is left alone, for it is shared.
pub fn tighten(dir: &Path) {
    let Ok(found) = fs::symlink_metadata(dir) else {
        return;
    };
    let mode = found.mode() & 0o7777;
    let only_group = mode & OTHERS_WRITE == 0o020 && found.is_dir() && found.uid() == me();
    if only_group && fs::set_permissions(dir, Permissions::from_mode(mode & !0o020)).is_ok() {
        log::warn!(
            "{} was writable by its group, which it no longer is: keys are kept in it",
            dir.display()
        );
    }
}

/// Takes everybody else's rights in a folder of this user's: clients make it readable for all, and keys are kept in it.
pub fn close(dir: &Path) {
    // Of a link: the folder that it leads to.
    let Ok(dir) = dir.canonicalize() else {
        return;
    };
    let closed = fs::symlink_metadata(&dir).and_then(|found| {
        match found.is_dir() && found.uid() == me() && found.mode() & 0o077 != 0 {
            true => fs::set_permissions(&dir, Permissions::from_mode(0o700)),
            false => Ok(()),
        }
    });
    if let Err(e) = closed {
        log::warn!("{} stays open to other users: {e}", dir.display());
    }
}

/// The user on whose behalf this process works.
pub fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn below(path: &Path, depth: u8) -> Result<(), Distrust> {
    own(path)?;
    if depth == 0 || !path.is_dir() {
        return Ok(());
    }
    if path.is_symlink()
        && let Ok(target) = path.canonicalize()
    {
        steps(&target)?;
    }
    let unreadable = |e: io::Error| distrust(path, format!("cannot be read: {e}"));
    for entry in fs::read_dir(path).map_err(unreadable)? {
        below(&entry.map_err(unreadable)?.path(), depth - 1)?;
    }
    Ok(())
}

fn look(path: &Path, found: io::Result<Metadata>) -> Result<Option<Metadata>, Distrust> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(distrust(path, format!("cannot be looked at: {e}"))),
    }
}

fn judge(path: &Path, found: &Metadata) -> Result<(), Distrust> {
    if found.uid() != me() {
        return Err(foreign(path, found.uid()));
    }
    // A link has no rights of its own, whatever it shows.
    if !found.is_symlink() && found.mode() & OTHERS_WRITE != 0 {
        return Err(writable(path, found.mode()));
    }
    Ok(())
}

fn foreign(path: &Path, owner: u32) -> Distrust {
    let me = me();
    let why = format!("belongs to user {owner} and not to user {me}, who runs this");
    distrust(path, why)
}

fn writable(path: &Path, mode: u32) -> Distrust {
    let why = format!("is writable by other users (mode {:o})", mode & 0o7777);
    distrust(path, why)
}

/// Each entry on a path, in the folder that holds it.
fn steps(path: &Path) -> Result<(), Distrust> {
    let entries = path.ancestors().filter_map(|at| Some((at, at.parent()?)));
    for (entry, folder) in entries {
        let Some(around) = look(folder, fs::metadata(folder))? else {
            continue;
        };
        if around.mode() & ALL_WRITE == 0 {
            continue;
        }
        if around.mode() & STICKY == 0 {
            let why = format!(
                "is in {}, where every user may put something else in its place",
                folder.display()
            );
            return Err(distrust(entry, why));
        }
        if let Some(found) = look(entry, fs::symlink_metadata(entry))?
            && ![me(), 0].contains(&found.uid())
        {
            let why = format!(
                "belongs to user {}, who can put another in its place",
                found.uid()
            );
            return Err(distrust(entry, why));
        }
    }
    Ok(())
}

fn distrust(path: &Path, why: String) -> Distrust {
    Distrust {
        path: path.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::tests::Scratch;
    use std::os::unix::fs::{chown, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
    }

    fn folder(at: PathBuf) -> PathBuf {
        fs::create_dir(&at).expect("room");
        mode(&at, 0o755);
        at
    }

    /// Gives a path to somebody else; `false` where that is not permitted, because root alone may.
    fn give_away(path: &Path) -> bool {
        me() == 0 && chown(path, Some(4711), None).is_ok()
    }

    #[test]
    fn what_others_could_have_written_is_not_ours() {
        let scratch = Scratch::new();
        let dir = folder(scratch.path().join("state"));
        own(&dir).expect("readable by all is no harm");
        own(&dir.join("missing")).expect("nobody's yet");
        for shared in [0o777, 0o1777, 0o775] {
            mode(&dir, shared);
            let error = own(&dir).expect_err("shared").to_string();
            assert!(error.contains("writable by other users"), "{error}");
        }
        tighten(&dir);
        own(&dir).expect("the group may write no more");
        mode(&dir, 0o1777);
        tighten(&dir);
        own(&dir).expect_err("a folder for everybody stays one");
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_ours_however_deep_it_lies() {
        let scratch = Scratch::new();
        let dir = folder(scratch.path().join("state"));
        let engine = folder(dir.join("engine"));
        let key = engine.join("key");
        fs::write(&key, "k").expect("room");
        contents(&dir, &["engine", "missing"]).expect("all ours");
        mode(&key, 0o666);
        contents(&dir, &["engine"]).expect_err("anybody's words");
        mode(&key, 0o600);
        if !give_away(&key) {
            return;
        }
        let error = contents(&dir, &["engine"]).expect_err("theirs").to_string();
        assert!(
            error.contains("key belongs to user 4711 and not to user 0"),
            "{error}"
        );
        contents(&dir, &["journal"]).expect("what is not ours by name does not matter");
        // A link of theirs to something of ours.
        fs::remove_file(&key).expect("ours");
        symlink("/etc/passwd", &key).expect("room");
        std::os::unix::fs::lchown(&key, Some(4711), None).expect("root may");
        contents(&dir, &["engine"]).expect_err("their link");
    }

    #[test]
    fn a_way_through_a_folder_for_everybody_is_safe_only_where_entries_are_their_owners() {
        let scratch = Scratch::new();
        let shared = folder(scratch.path().join("shared"));
        let entry = folder(shared.join("project"));
        let dir = entry.join("state");
        way(&dir).expect("nobody else may write on the way");
        mode(&shared, 0o1777);
        way(&dir).expect("sticky, and the entry is ours");
        mode(&shared, 0o777);
        let error = way(&dir).expect_err("anybody may replace it").to_string();
        assert!(error.contains("project is in "), "{error}");
        // Also when it is reached through a link from a safe place.
        let link = scratch.path().join("link");
        symlink(&entry, &link).expect("room");
        way(&link.join("state")).expect_err("the same folder");
        mode(&shared, 0o1777);
        if give_away(&entry) {
            let error = way(&dir).expect_err("theirs to replace").to_string();
            assert!(error.contains("belongs to user 4711"), "{error}");
        }
    }
}
