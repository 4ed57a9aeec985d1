//! Claude Code's own word that it was asked something: its `UserPromptSubmit` hook, set by a settings file of ours that is
//! given to it beside the user's own settings. The hook runs `relay-broker __prompt SOCKET`, which passes the question on to
//! the agent's thread and never holds the program up: it says nothing, and ends well whatever happens.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::exit;

use rustix::fs::{Access, AtFlags, CWD, access, linkat};

use crate::known_clis;
use crate::sys::disk::{create_private_dir, write_private};
use crate::sys::entropy;
use crate::sys::socket::addressed;
use serde_json::{Value, json};

/// The folder of sockets and settings, in the state folder.
pub const FOLDER: &str = "hooks";
/// What hooks call, in the state folder: they are called for as long as the agent lives, and by then the file that we were
/// started from may have been replaced, moved or removed.
const PROGRAM: &str = "hook-program";
/// The subcommand's name.
pub const SUBCOMMAND: &str = "__prompt";
/// How Claude Code is given more settings.
const FLAG: &str = "--settings";
/// The most of a question that is passed on: far more than its begin, so that of several glued together each is found.
const PASSED_MAX: usize = 64 * 1024;
/// The most of a hook's input that is read.
const INPUT_MAX: u64 = 16 * 1024 * 1024;
/// After this the program goes on without the hook, in seconds.
const TIMEOUT: u32 = 5;

/// Where one agent's hook reports.
#[derive(Debug)]
pub struct Hook {
    socket: UnixDatagram,
    address: PathBuf,
    settings: String,
    buffer: Vec<u8>,
}

impl Hook {
    /// Makes socket and settings file in `dir`, which is made if missing; `exe` is our own binary, [`kept`]. `more` are
    /// settings that go into the same file.
    ///
    /// # Errors
    /// When they cannot be made, for example because a path is not text.
    pub fn open(dir: &Path, exe: &Path, more: &Value) -> io::Result<Self> {
        create_private_dir(dir)?;
        // Of an agent's two lives the earlier one may still be putting its own away, so the name is not the agent's.
        let name = entropy::hex::<4>()?;
        let (address, settings) = (dir.join(&name), dir.join(format!("{name}.json")));
        let (Some(exe), Some(to), Some(path)) = (exe.to_str(), address.to_str(), settings.to_str())
        else {
            return Err(io::Error::other("a path is not UTF-8 text"));
        };
        let socket = addressed(&address, |path| UnixDatagram::bind(path))?;
        std::fs::set_permissions(&address, Permissions::from_mode(0o600))?;
        socket.set_nonblocking(true)?;
        let command = shell_words::join([exe, SUBCOMMAND, to]);
        let hook = json!({"type": "command", "command": command, "timeout": TIMEOUT});
        let mut text = json!({"hooks": {"UserPromptSubmit": [{"hooks": [hook]}]}});
        for (key, value) in more.as_object().into_iter().flatten() {
            text[key] = value.clone();
        }
        let path = path.to_owned();
        let hook = Self {
            socket,
            address,
            settings: path,
            buffer: vec![0; PASSED_MAX],
        };
        write_private(Path::new(&hook.settings), text.to_string().as_bytes())?;
        Ok(hook)
    }

    /// Puts the settings into a command line behind the program, if that is the one that takes them. One that has settings of
    /// its own keeps them alone: the program takes one such file.
    ///
    /// Returns whether it could.
    pub fn join(&self, argv: &mut Vec<String>, program: &str) -> bool {
        let own = |word: &String| word == FLAG || word.starts_with("--settings=");
        let (name, args) = known_clis::started(argv);
        if name != program || argv.iter().any(own) {
            return false;
        }
        let at = argv.len() - args.len();
        argv.splice(at..at, [FLAG.to_owned(), self.settings.clone()]);
        true
    }

    /// The next question; `None` if there is none now.
    pub fn told(&mut self) -> Option<String> {
        let length = self.socket.recv(&mut self.buffer).ok()?;
        Some(String::from_utf8_lossy(&self.buffer[..length]).into_owned())
    }
}

/// Our own program under the name that agents' programs call it by, beside the folder; its first name where that cannot be.
pub fn kept(dir: &Path, exe: &Path) -> PathBuf {
    keep(exe, &dir.with_file_name(PROGRAM)).unwrap_or_else(|e| {
        log::warn!("agents call {}, not a copy: {e}", exe.display());
        exe.to_owned()
    })
}

/// Makes sure that `kept` is our own program, by another name for the same file, else as a copy.
fn keep(exe: &Path, kept: &Path) -> io::Result<PathBuf> {
    if !is_copy(exe, kept)? {
        let draft = kept.with_extension(entropy::hex::<4>()?);
        let linked = linkat(CWD, exe, CWD, &draft, AtFlags::SYMLINK_FOLLOW);
        if linked.is_err() {
            // On another file system, or removed already.
            std::fs::copy(exe, &draft)?;
            std::fs::set_permissions(&draft, Permissions::from_mode(0o700))?;
        }
        // Over an older one, which may be running.
        std::fs::rename(&draft, kept).inspect_err(|_| drop(std::fs::remove_file(&draft)))?;
    }
    // Also the word of a file system that runs no programs.
    access(kept, Access::EXEC_OK)?;
    Ok(kept.to_owned())
}

fn is_copy(exe: &Path, kept: &Path) -> io::Result<bool> {
    let Ok(there) = std::fs::symlink_metadata(kept) else {
        return Ok(false);
    };
    let ours = std::fs::metadata(exe)?;
    if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) {
        return Ok(true);
    }
    Ok(there.is_file() && there.len() == ours.len() && std::fs::read(kept)? == std::fs::read(exe)?)
}

/// Removes what an earlier broker has left in the folder.
pub fn sweep(dir: &Path) {
    let left = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in left {
        let _ = std::fs::remove_file(entry.path());
    }
}

impl AsFd for Hook {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.address);
        let _ = std::fs::remove_file(&self.settings);
    }
}

/// The hook itself: reads what Claude Code says on standard input. `args` are those after [`SUBCOMMAND`]. Prints nothing,
/// because that would become a part of the question.
pub fn run(mut args: impl Iterator<Item = OsString>) -> ! {
    if let Some(address) = args.next() {
        let _ = pass_on(&mut io::stdin().lock(), Path::new(&address));
    }
    exit(0);
}

fn pass_on(input: &mut dyn Read, address: &Path) -> io::Result<()> {
    let mut text = String::new();
    input.take(INPUT_MAX).read_to_string(&mut text)?;
    let said: Value = serde_json::from_str(&text)?;
    let prompt = said["prompt"].as_str().unwrap_or_default();
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    addressed(address, |path| socket.connect(path))?;
    socket.send(&prompt.as_bytes()[..prompt.len().min(PASSED_MAX)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(name: &str) -> (Hook, PathBuf) {
        let dir = std::env::temp_dir().join(format!("relay-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary folder");
        let exe = dir.join("relay broker");
        std::fs::write(&exe, "#!/bin/sh\n").expect("room");
        std::fs::set_permissions(&exe, Permissions::from_mode(0o755)).expect("ours");
        let folder = dir.join(FOLDER);
        let hook = Hook::open(&folder, &kept(&folder, &exe), &Value::Null);
        (hook.expect("a temporary folder"), dir)
    }

    #[test]
    fn a_hook_works_in_a_folder_of_any_depth() {
        let (mut hook, dir) = hook(&"deep/".repeat(30));
        assert!(hook.address.as_os_str().len() > 108);
        let said = json!({"prompt": "hello"}).to_string();
        pass_on(&mut said.as_bytes(), &hook.address).expect("passed on");
        assert_eq!(hook.told().as_deref(), Some("hello"));
        drop(hook);
        let _ = std::fs::remove_dir_all(dir);
    }

    #[test]
    fn what_a_hook_calls_is_there_when_our_own_file_is_replaced_or_gone_and_new_with_the_next_broker()
     {
        let (first, dir) = hook("kept");
        let (exe, kept) = (dir.join("relay broker"), dir.join(PROGRAM));
        let text = std::fs::read_to_string(&first.settings).expect("a file");
        assert!(
            text.contains(PROGRAM) && !text.contains("relay broker"),
            "{text}"
        );
        let identity = |path: &Path| std::fs::metadata(path).map(|found| found.ino());
        let before = identity(&kept).expect("it is there");
        std::fs::remove_file(&exe).expect("ours");
        access(&kept, Access::EXEC_OK).expect("it is a program");
        std::fs::write(&exe, "#!/bin/sh\n").expect("room");
        keep(&exe, &kept).expect("the same text");
        assert_eq!(identity(&kept).expect("it is there"), before);
        std::fs::write(&exe, "#!/bin/sh\n: newer\n").expect("room");
        std::fs::set_permissions(&exe, Permissions::from_mode(0o755)).expect("ours");
        keep(&exe, &kept).expect("room");
        let newer = std::fs::read_to_string(&kept).expect("text");
        assert!(newer.contains("newer"));
        drop(first);
        let _ = std::fs::remove_dir_all(dir);
    }

    #[test]
    fn what_the_program_was_asked_comes_through_the_hook() {
        let (mut hook, dir) = hook("asked");
        let rights = std::fs::metadata(&hook.address)
            .expect("a socket")
            .permissions();
        assert_eq!(rights.mode() & 0o777, 0o600);
        let said = json!({"hook_event_name": "UserPromptSubmit", "prompt": "do\n\"this\" é"});
        pass_on(&mut said.to_string().as_bytes(), &hook.address).expect("passed on");
        assert_eq!(hook.told().as_deref(), Some("do\n\"this\" é"));
        assert_eq!(hook.told(), None);
        let long = json!({"prompt": "é".repeat(PASSED_MAX)});
        pass_on(&mut long.to_string().as_bytes(), &hook.address).expect("passed on");
        assert!(hook.told().is_some_and(|text| text.starts_with('é')));
        assert!(pass_on(&mut &b"no json"[..], &hook.address).is_err());
        let settings = hook.settings.clone();
        let text = std::fs::read_to_string(&settings).expect("a file");
        let program = dir.join(PROGRAM).display().to_string();
        assert!(text.contains(&format!("{program} __prompt ")), "{text}");
        drop(hook);
        assert!(!Path::new(&settings).exists());
        let _ = std::fs::remove_dir_all(dir);
    }

    #[test]
    fn settings_go_behind_the_program_unless_somebody_gave_others() {
        let (hook, dir) = hook("joined");
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (line, at) in [
            ("env A=/bin/claude /bin/claude --resume", 3),
            ("claude", 1),
            ("npx -y @anthropic-ai/claude-code@2 --resume", 3),
        ] {
            let mut argv = words(line);
            assert!(hook.join(&mut argv, "claude"), "{line}");
            assert_eq!(argv[at..at + 2], [FLAG.to_owned(), hook.settings.clone()]);
            assert_eq!(argv.len(), words(line).len() + 2);
        }
        for other in [
            "claude --settings mine.json",
            "claude --settings={}",
            "wrapper",
            "./wrapper --kind claude",
        ] {
            let mut argv = words(other);
            assert!(!hook.join(&mut argv, "claude"));
            assert_eq!(argv, words(other));
        }
        drop(hook);
        let _ = std::fs::remove_dir_all(dir);
    }

    #[test]
    fn two_lives_of_one_agent_do_not_take_each_other_anything_away() {
        let (old, dir) = hook("lives");
        let (mut new, _) = hook("lives");
        drop(old);
        let said = json!({"prompt": "hello"}).to_string();
        pass_on(&mut said.as_bytes(), &new.address).expect("passed on");
        assert_eq!(new.told().as_deref(), Some("hello"));
        assert!(Path::new(&new.settings).exists());
        let dir = dir.join(FOLDER);
        sweep(&dir);
        assert!(std::fs::read_dir(&dir).expect("a folder").next().is_none());
        let _ = std::fs::remove_dir_all(dir);
    }
}
