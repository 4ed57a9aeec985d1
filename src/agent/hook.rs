//! Claude Code's own word that it was asked something: its `UserPromptSubmit` hook, set by a settings file of ours that is
//! given to it beside the user's own settings. The hook runs `relay-broker __prompt SOCKET`, which passes the question on to
//! the agent's thread and never holds the program up: it says nothing, and ends well whatever happens.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::exit;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::ids::{AgentName, to_hex};
use crate::sys::disk::{create_private_dir, write_private};

/// The folder of sockets and settings, in the state folder.
pub const FOLDER: &str = "hooks";
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
    settings: PathBuf,
}

impl Hook {
    /// Makes socket and settings file in `dir`, which is made if missing; `exe` is our own binary.
    ///
    /// # Errors
    /// When they cannot be made, for example because the path is too long for a socket (about 100 bytes).
    pub fn open(dir: &Path, agent: &AgentName, exe: &Path) -> io::Result<Self> {
        create_private_dir(dir)?;
        // Names may hold any letters and be of any length; a socket's path may not.
        let name = to_hex(&Sha256::digest(agent.as_str())[..8]);
        let (address, settings) = (dir.join(&name), dir.join(format!("{name}.json")));
        let _ = std::fs::remove_file(&address);
        let socket = UnixDatagram::bind(&address)?;
        socket.set_nonblocking(true)?;
        let words = [
            exe.to_string_lossy(),
            SUBCOMMAND.into(),
            address.to_string_lossy(),
        ];
        let command = shell_words::join(words);
        let hook = json!({"type": "command", "command": command, "timeout": TIMEOUT});
        let text = json!({"hooks": {"UserPromptSubmit": [{"hooks": [hook]}]}});
        write_private(&settings, text.to_string().as_bytes())?;
        Ok(Self {
            socket,
            address,
            settings,
        })
    }

    /// Puts the settings into a command line behind the program. One that has settings of its own keeps them alone:
    /// the program takes one such file.
    ///
    /// Returns whether it could.
    pub fn join(&self, argv: &mut Vec<String>, program: &str) -> bool {
        let is_program = |word: &String| {
            Path::new(word)
                .file_name()
                .is_some_and(|name| name == program)
        };
        let own = |word: &String| word == FLAG || word.starts_with("--settings=");
        let (Some(at), false) = (argv.iter().position(is_program), argv.iter().any(own)) else {
            return false;
        };
        let path = self.settings.to_string_lossy().into_owned();
        argv.splice(at + 1..at + 1, [FLAG.to_owned(), path]);
        true
    }

    /// The next question; `None` if there is none now.
    pub fn next(&self) -> Option<String> {
        let mut bytes = vec![0; PASSED_MAX];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
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
    socket.connect(address)?;
    socket.send(&prompt.as_bytes()[..prompt.len().min(PASSED_MAX)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(name: &str) -> (Hook, PathBuf) {
        let dir = std::env::temp_dir().join(format!("relay-{name}-{}", std::process::id()));
        let hook = Hook::open(&dir, &AgentName::new("ada"), Path::new("/a b/relay-broker"));
        (hook.expect("a temporary folder"), dir)
    }

    #[test]
    fn what_the_program_was_asked_comes_through_the_hook() {
        let (hook, dir) = hook("asked");
        let said = json!({"hook_event_name": "UserPromptSubmit", "prompt": "do\n\"this\" é"});
        pass_on(&mut said.to_string().as_bytes(), &hook.address).expect("passed on");
        assert_eq!(hook.next().as_deref(), Some("do\n\"this\" é"));
        assert_eq!(hook.next(), None);
        let long = json!({"prompt": "é".repeat(PASSED_MAX)});
        pass_on(&mut long.to_string().as_bytes(), &hook.address).expect("passed on");
        assert!(hook.next().is_some_and(|text| text.starts_with('é')));
        assert!(pass_on(&mut &b"no json"[..], &hook.address).is_err());
        let settings = hook.settings.clone();
        let text = std::fs::read_to_string(&settings).expect("a file");
        assert!(text.contains("'/a b/relay-broker' __prompt "), "{text}");
        drop(hook);
        assert!(!settings.exists());
        let _ = std::fs::remove_dir_all(dir);
    }

    #[test]
    fn settings_go_behind_the_program_unless_somebody_gave_others() {
        let (hook, dir) = hook("joined");
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut argv = words("env A=1 /bin/claude --resume");
        assert!(hook.join(&mut argv, "claude"));
        assert_eq!(argv[2..4], ["/bin/claude", "--settings"]);
        assert_eq!(argv[5], "--resume");
        for other in [
            "claude --settings mine.json",
            "claude --settings={}",
            "wrapper",
        ] {
            let mut argv = words(other);
            assert!(!hook.join(&mut argv, "claude"));
            assert_eq!(argv, words(other));
        }
        drop(hook);
        let _ = std::fs::remove_dir_all(dir);
    }
}
