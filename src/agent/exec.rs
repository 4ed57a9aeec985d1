//! The last step before an agent's program runs, inside the new process: `relay-broker __exec --status WHERE [--files N]
//! [--cwd DIR] [--session] [--hang-up] -- CMD ARGS…`. Enters the directory, becomes the program, and tells the broker why if
//! it cannot: the library that makes terminals reports a missing program as started. Called by `main` before anything else;
//! returns never.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};

use crate::sys::{limits, signal};

/// The subcommand's name.
pub const SUBCOMMAND: &str = "__exec";
/// What the broker says once it has written down that this process is an agent.
pub const GO: &[u8; 1] = b"g";

/// As shells have it: found but not executable, and not found.
const CANNOT: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Becomes the program named after `--`. `args` are those after [`SUBCOMMAND`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> ! {
    close_inherited();
    signal::forget();
    let mut args = args.into_iter();
    let (mut status, mut dir, mut files) = (None, None, None);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--status") => status = args.next(),
            Some("--files") => files = args.next(),
            Some("--cwd") => dir = args.next(),
            Some("--session") => drop(rustix::process::setsid()),
            Some("--hang-up") => end_with_the_broker(),
            Some("--") => break,
            _ => break,
        }
    }
    let argv: Vec<OsString> = args.collect();
    // Whoever started us is gone, or this was typed by hand: no program without somebody to look after it.
    let Some(mut status) = status.and_then(|to| begin(&to).ok()) else {
        eprintln!("relay-broker {SUBCOMMAND} is for the broker itself");
        exit(CANNOT);
    };
    if let Some(files) = files.and_then(|files| files.to_str()?.parse().ok()) {
        limits::lower(files);
    }
    let (code, why) = become_program(&argv, dir.as_deref());
    // If nobody reads it, the exit code still says it.
    let _ = status.write_all(why.as_bytes());
    exit(code);
}

/// Where there is no terminal, nobody else hangs up when the broker is gone.
fn end_with_the_broker() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::HUP));
}

/// Returns only if it could not be done: with the exit code and the reason.
fn become_program(argv: &[OsString], dir: Option<&OsStr>) -> (i32, String) {
    let Some((program, args)) = argv.split_first() else {
        return (CANNOT, "cannot start agent: the command is empty".into());
    };
    let mut command = Command::new(program);
    command.args(args);
    if let Some(dir) = dir {
        if let Err(e) = std::env::set_current_dir(dir) {
            return (CANNOT, bad_directory(dir, &e));
        }
        // Shells and tools believe PWD where it fits, and the inherited one no longer does.
        match std::env::current_dir() {
            Ok(here) => command.env("PWD", here),
            Err(_) => command.env_remove("PWD"),
        };
    }
    let e = command.exec();
    let code = if e.kind() == ErrorKind::NotFound {
        NOT_FOUND
    } else {
        CANNOT
    };
    (code, bad_program(program, &e))
}

fn bad_directory(dir: &OsStr, e: &io::Error) -> String {
    let dir = dir.to_string_lossy();
    match e.kind() {
        ErrorKind::NotFound => format!("cannot start agent: directory {dir:?} does not exist"),
        ErrorKind::NotADirectory => format!("cannot start agent: {dir:?} is not a directory"),
        _ => format!("cannot start agent: directory {dir:?} cannot be entered: {e}"),
    }
}

fn bad_program(program: &OsStr, e: &io::Error) -> String {
    let name = program.to_string_lossy();
    let why = match e.kind() {
        ErrorKind::NotFound if !name.contains('/') => "no such program in PATH".to_owned(),
        ErrorKind::NotFound if Path::new(program).exists() => {
            "the interpreter its first line names does not exist".to_owned()
        }
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "it is not an executable file".to_owned(),
        _ => e.to_string(),
    };
    format!("cannot start {name:?}: {why}")
}

/// Waits for the broker's word. Without it there is nobody who would ever end the program.
fn begin(to: &OsStr) -> io::Result<UnixStream> {
    let mut status = connect(to)?;
    status.read_exact(&mut [0; GO.len()])?;
    Ok(status)
}

/// The stream closes by itself when the program starts, and that is how the broker learns that it did.
fn connect(to: &OsStr) -> io::Result<UnixStream> {
    #[cfg(target_os = "linux")]
    if let Some(name) = to.to_str().and_then(|to| to.strip_prefix('@')) {
        use std::os::linux::net::SocketAddrExt;
        return UnixStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(
            name,
        )?);
    }
    UnixStream::connect(to)
}

/// Nothing of the broker may reach the program: a terminal of another agent held open here would never hang up.
/// Everything the broker opens is closed on exec already; this is for what libraries and its own parent left open.
fn close_inherited() {
    // SAFETY: nothing of this process is open yet but the standard streams, so no descriptor of anybody's is closed.
    #[cfg(target_os = "linux")]
    if unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } == 0 {
        return;
    }
    // An older kernel, or none of that kind.
    let listed = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    let numbers = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for fd in numbers.filter(|fd| *fd > 2).collect::<Vec<i32>>() {
        // SAFETY: the number is used for this one call; the kernel refuses it if it is no descriptor (any more).
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
}
