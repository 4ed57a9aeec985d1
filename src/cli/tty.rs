//! The user's own terminal: raw while attached and restored whatever happens, its size, and signals as something that
//! can be polled. Knows nothing of agents.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

use crate::msg::Size;
use crate::sys::{signal, stdio};

/// Undoes what a program may have switched on: alternate screen, mouse, paste marks, focus reports, hidden cursor,
/// application keys, keyboard protocol, colours, scroll region.
const RESTORE: &str = "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?2004l\
                       \x1b[?2026l\x1b[?1l\x1b[?6l\x1b>\x1b[<u\x1b[>4m\x1b[r\x1b[?7h\x1b[0m\x1b[0 q\x1b[?25h\x1b[?1049l\x1b[999;1H\r\n";
/// A clean page. Not the terminal's second page: that belongs to the agent's program, which goes there and back.
const BEGIN: &str = "\x1b[H\x1b[2J";

/// Whether standard input and output both are terminals.
pub fn present() -> (bool, bool) {
    (isatty(io::stdin()), isatty(io::stdout()))
}

/// The terminal's size, or the usual one when it does not say.
pub fn size() -> Size {
    match tcgetwinsize(io::stdout()) {
        Ok(w) if w.ws_row > 0 && w.ws_col > 0 => Size {
            rows: w.ws_row,
            cols: w.ws_col,
        },
        _ => Size { rows: 24, cols: 80 },
    }
}

/// The terminal in raw mode on a page of its own. Dropping it restores everything, also while a panic unwinds; signals
/// that would end the process are turned into [`Signals`] so that the drop is reached.
pub struct Raw {
    before: Option<Termios>,
}

impl Raw {
    /// Switches. Standard input may be something else than a terminal; then only the page is switched.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn enter() -> io::Result<Self> {
        let before = if isatty(io::stdin()) {
            let before = tcgetattr(io::stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
            Some(before)
        } else {
            None
        };
        let this = Self { before };
        // The user's own lines move up into the scroll-back instead of being wiped.
        write("\n".repeat(size().rows.into()).as_bytes())?;
        write(BEGIN.as_bytes())?;
        Ok(this)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = write(RESTORE.as_bytes());
        if let Some(before) = &self.before {
            // Flush drops what a program asked the terminal and nobody will read any more.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// Writes all of it to the terminal.
///
/// # Errors
/// When the terminal is gone.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    stdio::output().write_all(bytes)
}

/// Signals that can be polled.
pub struct Signals {
    /// Readable when the window's size has changed.
    pub resized: UnixStream,
    /// Readable when somebody wants us gone.
    pub stop: UnixStream,
}

impl Signals {
    /// Takes them over.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn listen() -> io::Result<Self> {
        let resized = pipe(&[SIGWINCH])?;
        let stop = pipe(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT])?;
        Ok(Self { resized, stop })
    }
}

fn pipe(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signal::heeded(signals) {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Empties a signal's pipe.
pub fn drain(pipe: &UnixStream) {
    let mut sink = [0; 64];
    while matches!(rustix::io::read(pipe.as_fd(), &mut sink), Ok(n) if n > 0) {}
}
