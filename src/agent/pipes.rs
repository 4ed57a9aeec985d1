//! A process without a terminal, as pipes and a number. Made as the one in a terminal is, with the same environment, and
//! leader of a session of its own. Knows nothing of messages.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::agent::core::Ending;
use crate::agent::pty::{self, StartReport};
use crate::known_clis::HeadlessCli;
use crate::msg::{AgentReport, AgentSpec};
use crate::sys::session::{self, ProcessIdentity};
use crate::sys::{limits, proc};

/// A process with its three pipes, none of which waits.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) input: File,
    pub(super) output: File,
    pub(super) errors: File,
    pid: Pid,
    /// What left its session, as it was when the program was hung up on.
    runaways: Mutex<Vec<ProcessIdentity>>,
}

/// What a read of a pipe brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeRead {
    Some(usize),
    Nothing,
    End,
}

impl Pipes {
    /// Makes the process, which has yet to become the program; `exe` is our own binary.
    ///
    /// # Errors
    /// The report that names what is missing.
    pub(super) fn spawn(spec: &AgentSpec, exe: &Path) -> Result<(Self, StartReport), AgentReport> {
        let program = spec.argv.first().cloned().unwrap_or_default();
        let cannot = |what: &str, e: &io::Error| {
            let why = format!("cannot start {program:?}: {what}: {}", limits::explain(e));
            match limits::is_reached(e) {
                true => AgentReport::NoRoom { why },
                false => AgentReport::NotStarted { why },
            }
        };
        let (status, address) =
            pty::status().map_err(|e| cannot("no socket for its status", &e))?;
        let wanted = pty::command(spec, exe, address);
        if spec.headless == Some(HeadlessCli::Opencode)
            && let Some(what) = missing(&program, spec.cwd.as_deref(), wanted.get_env("PATH"))
        {
            let why = format!("cannot start {program:?}: {what}");
            return Err(AgentReport::NotStarted { why });
        }
        let mut words = wanted.get_argv().iter();
        let mut command = Command::new(words.next().map_or(exe.as_os_str(), |word| word));
        command.args(words).env_clear();
        for (name, _) in wanted.iter_full_env_as_str() {
            if let Some(value) = wanted.get_env(name) {
                command.env(name, value);
            }
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let alone = proc::SPAWNING.lock();
        let child = command.spawn().map_err(|e| cannot("no process", &e))?;
        drop(alone);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (Some(pid), Some(input), Some(output), Some(errors)) =
            (pid, child.stdin, child.stdout, child.stderr)
        else {
            let e = io::Error::other("it has no number, or no pipes");
            return Err(cannot("no process", &e));
        };
        let pipes = Self {
            input: File::from(OwnedFd::from(input)),
            output: File::from(OwnedFd::from(output)),
            errors: File::from(OwnedFd::from(errors)),
            pid,
            runaways: Mutex::default(),
        };
        for pipe in [&pipes.input, &pipes.output, &pipes.errors] {
            if let Err(e) = rustix::io::ioctl_fionbio(pipe, true) {
                pipes.signal(Ending::Kill);
                return Err(cannot("no pipes", &e.into()));
            }
        }
        Ok((pipes, status))
    }

    /// Process, process group and session in one.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Puts the first of these bytes into the program's pipe, and says how many; 0 where it is full or closed.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        loop {
            match self.input.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                written => return written.unwrap_or(0),
            }
        }
    }

    /// Hangs up on the program's process group, or kills its whole session. Best effort: who is gone needs no signal.
    pub(super) fn signal(&self, ending: Ending) {
        match ending {
            Ending::HangUp => {
                let found = session::runaways(self.pid);
                session::signal(&found, Signal::HUP);
                *self.runaways.lock() = found;
                let _ = kill_process_group(self.pid, Signal::HUP);
                // A stopped program cannot act on a hang-up.
                let _ = kill_process_group(self.pid, Signal::CONT);
            }
            Ending::Kill => {
                // It may not have made its session yet.
                let _ = kill_process(self.pid, Signal::KILL);
                let _ = kill_process_group(self.pid, Signal::KILL);
                self.kill_session();
            }
        }
    }

    /// What it started may have process groups and sessions of its own.
    pub(super) fn kill_session(&self) {
        session::kill(self.pid);
        session::signal(&self.runaways.lock(), Signal::KILL);
    }
}

/// Why a program would not be found that a process of ours starts later, when nobody waits for the answer any more.
fn missing(program: &str, dir: Option<&str>, path: Option<&OsStr>) -> Option<&'static str> {
    if program.contains('/') {
        let there = Path::new(dir.unwrap_or(".")).join(program).exists();
        return (!there).then_some("no such file");
    }
    let mut folders = std::env::split_paths(path.unwrap_or_default());
    let found = folders.any(|folder| folder.join(program).is_file());
    (!found).then_some("no such program in PATH")
}

/// The next piece of output.
pub(super) fn read(mut pipe: &File, buffer: &mut [u8]) -> PipeRead {
    loop {
        match pipe.read(buffer) {
            Ok(0) => return PipeRead::End,
            Ok(n) => return PipeRead::Some(n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return PipeRead::Nothing,
            Err(_) => return PipeRead::End,
        }
    }
}

/// Whether the other end of the input pipe is there; a program that closed it reads no more.
pub(super) fn is_closed(pipe: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&pipe, PollFlags::OUT)];
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::ERR)
}
