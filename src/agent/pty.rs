//! A terminal and the process in it, as descriptors and numbers. The library is used to open a terminal and to spawn into
//! it, no further; everything else goes by descriptors of our own, so that a terminal can also be taken over from somebody
//! who kept it. Knows nothing of messages.

use std::ffi::OsString;
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use parking_lot::Mutex;
use portable_pty::{CommandBuilder, NativePtySystem, PtyPair, PtySize, PtySystem};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::{InputModes, LocalModes, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};

use crate::agent::core::Ending;
use crate::agent::tty_state::{Front, TtyState};
use crate::agent::{exec, running, runs};
use crate::known_clis::HeadlessCli;
use crate::msg::{AgentReport, AgentSpec, Size, USUAL_ENV};
use crate::sys::session::{self, ProcessIdentity};
use crate::sys::{entropy, limits, proc, reading};

/// A terminal with a process in it.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    /// Our own copy of the program's side: it tells what the program has read. `None` once the program is gone, or where
    /// it could not be had.
    slave: Option<OwnedFd>,
    pid: Pid,
    /// What left its session, as it was when the program was hung up on.
    runaways: Mutex<Vec<ProcessIdentity>>,
    /// Each read says first what has become of the terminal (`TIOCPKT`).
    packets: bool,
}

/// What a read of the terminal brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PtyRead {
    /// So much output.
    Output(usize),
    /// What was typed and not yet read has been thrown away, as by a program that sets its terminal up.
    Flushed,
    /// Something else that says nothing to us.
    Nothing,
    /// No more comes.
    End,
}

/// A process that was made and has yet to become the program.
#[derive(Debug)]
pub struct Birth {
    pub terminal: Terminal,
    /// The process connects here and hangs up by becoming the program.
    pub status: StartReport,
}

/// Where the new process reports.
#[derive(Debug)]
pub struct StartReport {
    listener: UnixListener,
    #[cfg_attr(target_os = "linux", allow(dead_code))]
    path: Option<std::path::PathBuf>,
}

impl Drop for StartReport {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Terminal {
    /// Opens a terminal and makes the process in it; `exe` is our own binary.
    ///
    /// # Errors
    /// The report that names what is missing.
    pub fn spawn(spec: &AgentSpec, exe: &Path) -> Result<Birth, AgentReport> {
        let Some(program) = spec.argv.first().filter(|p| !p.is_empty()) else {
            let why = "cannot start agent: the command is empty".into();
            return Err(AgentReport::NotStarted { why });
        };
        let cannot = |what: &str, e: &io::Error| {
            let why = format!("cannot start {program:?}: {what}: {}", limits::explain(e));
            match limits::is_reached(e) {
                true => AgentReport::NoRoom { why },
                false => AgentReport::NotStarted { why },
            }
        };
        let (status, address) = status().map_err(|e| cannot("no socket for its status", &e))?;
        let command = command(spec, exe, address);
        let size = PtySize {
            rows: spec.size.rows.max(1),
            cols: spec.size.cols.max(1),
            ..PtySize::default()
        };
        let alone = proc::SPAWNING.lock();
        let pair = NativePtySystem::default()
            .openpty(size)
            .map_err(|e| cannot("no terminal", &of_library(e.chain(), &e)))?;
        let (master, slave) = descriptors(&pair).map_err(|e| cannot("no terminal", &e))?;
        let child = pair
            .slave
            .spawn_command(command)
            .map_err(|e| cannot("no process", &of_library(e.chain(), &e)))?;
        drop(alone);
        let pid = child
            .process_id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| cannot("no process", &io::Error::other("it has no number")))?;
        Ok(Birth {
            terminal: Self {
                packets: packets(&master),
                master,
                slave,
                pid,
                runaways: Mutex::default(),
            },
            status,
        })
    }

    /// A terminal somebody else opened and kept. The process need not be a child of ours.
    ///
    /// # Errors
    /// When the master cannot be made non-blocking.
    pub fn from_parts(master: OwnedFd, slave: Option<OwnedFd>, pid: Pid) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self {
            packets: packets(&master),
            master,
            slave,
            pid,
            runaways: Mutex::default(),
        })
    }

    /// Process, process group and session in one.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The next piece of output, or of news.
    ///
    /// # Errors
    /// `WouldBlock` for none now.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<PtyRead> {
        let mut status = [0];
        let mut parts = [IoSliceMut::new(&mut status), IoSliceMut::new(buffer)];
        let from = usize::from(!self.packets);
        match rustix::io::readv(&self.master, &mut parts[from..]) {
            // Linux reports a terminal whose other side is closed like this.
            Err(rustix::io::Errno::IO) | Ok(0) => Ok(PtyRead::End),
            Err(e) => Err(e.into()),
            Ok(n) if !self.packets => Ok(PtyRead::Output(n)),
            Ok(n) => Ok(match status[0] {
                0 if n > 1 => PtyRead::Output(n - 1),
                news if news & FLUSHED != 0 => PtyRead::Flushed,
                _ => PtyRead::Nothing,
            }),
        }
    }

    /// Whether anybody sleeps until something is typed; `None` where that cannot be known.
    pub fn awaited(&self) -> Option<bool> {
        let slave = self.slave.as_ref()?;
        let front = tcgetpgrp(&self.master).ok()?.as_raw_nonzero().get();
        reading::awaited(slave, self.pid(), front)
    }

    /// Puts bytes into the terminal, as many as it takes.
    ///
    /// # Errors
    /// `WouldBlock` when it is full.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.master, bytes)?)
    }

    /// The settings, and whether what was typed has been read.
    pub fn facts(&self) -> TtyState {
        let side = self.slave.as_ref().unwrap_or(&self.master);
        let (local, input) = tcgetattr(side)
            .map_or((LocalModes::empty(), InputModes::empty()), |t| {
                (t.local_modes, t.input_modes)
            });
        TtyState {
            line_mode: local.contains(LocalModes::ICANON),
            echo: local.contains(LocalModes::ECHO),
            enter: enter(local, input),
            unread: self.slave.as_ref().and_then(unread),
            front: self.front(),
        }
    }

    fn front(&self) -> Front {
        match tcgetpgrp(&self.master) {
            Ok(group) if group == self.pid => Front::Own,
            Ok(group) => Front::Other(group.as_raw_nonzero().get()),
            Err(_) => Front::Unknown,
        }
    }

    /// Tells the program the size of its terminal.
    pub fn resize(&self, size: Size) {
        let size = Winsize {
            ws_row: size.rows.max(1),
            ws_col: size.cols.max(1),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if let Err(e) = tcsetwinsize(&self.master, size) {
            log::debug!("a terminal could not be resized: {e}");
        }
    }

    /// Hangs up on the program's process group and on whatever has the terminal, or kills its whole session. Best effort:
    /// who is gone already needs no signal.
    pub fn signal(&self, ending: Ending) {
        match ending {
            Ending::HangUp => {
                self.note_runaways();
                let front = tcgetpgrp(&self.master)
                    .ok()
                    .filter(|group| *group != self.pid);
                for group in [Some(self.pid), front].into_iter().flatten() {
                    let _ = kill_process_group(group, Signal::HUP);
                    // A stopped program cannot act on a hang-up.
                    let _ = kill_process_group(group, Signal::CONT);
                }
            }
            Ending::Kill => {
                let _ = kill_process_group(self.pid, Signal::KILL);
                self.kill_session();
            }
        }
    }

    /// What the program started and what has left its session since: once the program is gone nobody could tell whose it was.
    fn note_runaways(&self) {
        let found = session::runaways(self.pid);
        session::signal(&found, Signal::HUP);
        *self.runaways.lock() = found;
    }

    /// Shells give their jobs process groups of their own; the session holds them all but those that made one of their own.
    pub fn kill_session(&self) {
        session::kill(self.pid);
        session::signal(&self.runaways.lock(), Signal::KILL);
    }

    /// The program is gone: without our copy of its side, the terminal hangs up when the last one closes it.
    pub fn let_go(&mut self) {
        self.slave = None;
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

impl StartReport {
    /// Waits for the process to connect; readable when it has.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Takes the connection of that process, and lets it become the program; `None` if there is none (yet), or it is
    /// somebody else's.
    pub fn accept(&self, pid: u32) -> Option<std::os::unix::net::UnixStream> {
        let (mut stream, _) = self.listener.accept().ok()?;
        #[cfg(target_os = "linux")]
        {
            let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
            if peer.pid.as_raw_nonzero().get().unsigned_abs() != pid {
                return None;
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = pid;
        stream.set_nonblocking(true).ok()?;
        // Whoever does not hear it has ended, and that is seen in other ways.
        let _ = stream.write_all(exec::GO);
        Some(stream)
    }
}

/// The bit of a packet's first byte that says that unread input was thrown away (`TIOCPKT_FLUSHREAD`).
const FLUSHED: u8 = 1;

/// Has each read say first what has become of the terminal, where the number of that request is known.
fn packets(master: &OwnedFd) -> bool {
    #[cfg(all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        )
    ))]
    {
        const TIOCPKT: rustix::ioctl::Opcode = 0x5420;
        // SAFETY: the request reads one integer, and changes nothing in our memory.
        let set = unsafe {
            let on = rustix::ioctl::Setter::<TIOCPKT, std::ffi::c_int>::new(1);
            rustix::ioctl::ioctl(master, on)
        };
        set.is_ok()
    }
    #[cfg(not(all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        )
    )))]
    {
        let _ = master;
        false
    }
}

/// Carriage returns may be dropped or read as newlines, and newlines as carriage returns; a line ends in a newline.
fn enter(local: LocalModes, input: InputModes) -> Option<u8> {
    let has = |mode| input.contains(mode);
    let cr = !has(InputModes::IGNCR);
    let newline = (!has(InputModes::INLCR)).then_some(b'\n');
    match local.contains(LocalModes::ICANON) {
        true if cr && has(InputModes::ICRNL) => Some(b'\r'),
        true => newline,
        false if cr => Some(b'\r'),
        false => newline,
    }
}

/// The operating system's own word among the causes of a library's error, else what the library says.
fn of_library<'a>(
    mut causes: impl Iterator<Item = &'a (dyn std::error::Error + 'static)>,
    whole: &dyn std::fmt::Display,
) -> io::Error {
    let code = causes.find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    // The library prints the error of `openpty` into its text and drops the error itself.
    let printed = || {
        let text = whole.to_string();
        let (_, rest) = text.split_once("code: ")?;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
    };
    code.or_else(printed).map_or_else(
        || io::Error::other(whole.to_string()),
        io::Error::from_raw_os_error,
    )
}

/// Whether something lies in the terminal that the program has not taken. In line mode only whole lines count. `poll` has
/// the kernel hand over first what it has not processed yet, so the answer is exact.
fn unread(slave: &OwnedFd) -> Option<bool> {
    let mut fds = [PollFd::new(slave, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).ok()?;
    let polled = fds[0].revents();
    if polled.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return None;
    }
    // A program may ask to be woken only from a number of bytes on; they count before that, too.
    let bytes = rustix::io::ioctl_fionread(slave).ok()?;
    Some(polled.contains(PollFlags::IN) || bytes > 0)
}

/// Our own descriptors of both sides. The library's are closed with `pair`; its writer is never taken, because dropping
/// that types an end-of-file.
fn descriptors(pair: &PtyPair) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let raw = pair
        .master
        .as_raw_fd()
        .ok_or_else(|| io::Error::other("it has no descriptor"))?;
    // SAFETY: `pair` owns the descriptor and outlives this borrow.
    let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
    let master = rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    let slave = program_side(&master, pair);
    if let Err(e) = &slave {
        log::warn!("whether an agent reads its terminal cannot be observed: {e}");
    }
    Ok((master, slave.ok()))
}

#[cfg(target_os = "linux")]
fn program_side(master: &OwnedFd, _: &PtyPair) -> io::Result<OwnedFd> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(ioctl_tiocgptpeer(master, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn program_side(_: &OwnedFd, pair: &PtyPair) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    let name = pair
        .master
        .tty_name()
        .ok_or_else(|| io::Error::other("it has no name"))?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(open(name, flags, Mode::empty())?)
}

/// Takes away what the program is not to have of the broker's environment.
fn keep_only(command: &mut CommandBuilder, allowed: &[String]) {
    let all = USUAL_ENV
        .into_iter()
        .chain(allowed.iter().map(String::as_str));
    let (beginnings, names): (Vec<&str>, Vec<&str>) = all.partition(|rule| rule.ends_with('*'));
    let begins = |name: &str| {
        let mut rules = beginnings.iter();
        rules.any(|rule| name.starts_with(rule.trim_end_matches('*')))
    };
    let listed = command.iter_full_env_as_str().map(|(name, _)| name);
    let listed = listed.filter(|name| begins(name)).chain(names);
    let kept: Vec<(String, OsString)> = listed
        .filter_map(|name| Some((name.to_owned(), command.get_env(name)?.to_owned())))
        .collect();
    command.env_clear();
    for (name, value) in kept {
        command.env(name, value);
    }
}

/// The new process with its environment.
pub(super) fn command(spec: &AgentSpec, exe: &Path, status: OsString) -> CommandBuilder {
    let mut command = CommandBuilder::new(exe);
    command.args([exec::SUBCOMMAND.into(), "--status".into(), status]);
    if let Some(files) = limits::before() {
        command.args(["--files", &files.to_string()]);
    }
    if let Some(dir) = &spec.cwd {
        command.args(["--cwd", dir]);
    }
    match spec.headless {
        None => {}
        Some(HeadlessCli::Claude) => command.args(["--session", "--hang-up"]),
        // The process between sees its input end, and ends its run, too.
        Some(HeadlessCli::Opencode) => command.args(["--session"]),
    }
    command.arg("--");
    if spec.headless == Some(HeadlessCli::Opencode) {
        command.args([exe.as_os_str(), runs::SUBCOMMAND.as_ref()]);
    }
    command.args(&spec.argv);
    // Left alone, the library would go home.
    command.cwd(".");
    for name in proc::not_inherited() {
        command.env_remove(name);
    }
    if let Some(allowed) = &spec.env_allow {
        keep_only(&mut command, allowed);
    }
    // Those of an agent that started this broker are not this agent's.
    for name in ["RELAY_AGENT_TOKEN", "RELAY_SKIP_BOOTSTRAP"] {
        command.env_remove(name);
    }
    command.env(
        "TERM",
        match spec.headless {
            Some(_) => "dumb",
            None => "xterm-256color",
        },
    );
    for (name, value) in &spec.env {
        command.env(name, value);
    }
    command.env(running::NAME, spec.name.as_str());
    if let Some(token) = &spec.token {
        command.env("RELAY_AGENT_TOKEN", token.reveal());
        // Clients in the agent have no need to register, which would kill this token on older engines (engine-protocol 3.4).
        command.env("RELAY_SKIP_BOOTSTRAP", "1");
    }
    command
}

/// A listening socket only the new process knows of.
pub(super) fn status() -> io::Result<(StartReport, OsString)> {
    let name = format!("relay-broker-{}", entropy::hex::<8>()?);
    #[cfg(target_os = "linux")]
    let (listener, path, address) = {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
        (
            UnixListener::bind_addr(&address)?,
            None,
            format!("@{name}").into(),
        )
    };
    #[cfg(not(target_os = "linux"))]
    let (listener, path, address) = {
        let path = std::env::temp_dir().join(name);
        (
            UnixListener::bind(&path)?,
            Some(path.clone()),
            path.into_os_string(),
        )
    };
    listener.set_nonblocking(true)?;
    Ok((StartReport { listener, path }, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_systems_word_is_found_also_where_a_library_only_prints_it() {
        let printed = format!("failed to openpty: {:?}", io::Error::from_raw_os_error(24));
        let found = of_library(std::iter::empty(), &printed);
        assert_eq!(found.raw_os_error(), Some(24));
        assert!(limits::is_reached(&found), "{found}");
        let other = of_library(std::iter::empty(), &"code: none");
        assert_eq!(other.raw_os_error(), None);
    }
}
