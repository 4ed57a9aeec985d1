//! The user's own terminal: raw while attached and restored whatever happens, its size, and signals as something that
//! can be polled. Knows nothing of agents.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

use super::render::brief;
use crate::msg::Size;
use crate::screen::Screen;
use crate::sys::{signal, stdio};
use crate::time::Mono;

/// The window's title is put aside, and a clean page shown. Not the terminal's second page: that belongs to the agent's
/// program, which goes there and back.
const BEGIN: &str = "\x1b[22;0t\x1b[H\x1b[2J";
/// Whatever string was begun ends; the title comes back.
const END: &str = "\x1b\\\x1b[23;0t";

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

/// The terminal in raw mode with an agent's picture on it. Dropping it restores everything that the agent's program has
/// switched, also while a panic unwinds; signals that would end the process are turned into [`Signals`] so that the drop is
/// reached.
pub struct Raw {
    before: Option<Termios>,
    /// What is shown.
    screen: Screen,
    note: Option<Note>,
}

/// A line over the last row, for a while.
struct Note {
    text: String,
    until: Mono,
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
        let this = Self {
            before,
            screen: Screen::new(size()),
            note: None,
        };
        // The user's own lines move up into the scroll-back instead of being wiped.
        write("\n".repeat(size().rows.into()).as_bytes())?;
        write(BEGIN.as_bytes())?;
        Ok(this)
    }

    /// The agent's terminal has this size.
    pub fn resize(&mut self, size: Size) {
        self.screen.resize(size);
    }

    /// Shows what the program writes.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = self.without_note().into_bytes();
        out.extend_from_slice(bytes);
        self.screen.feed(bytes);
        let _ = (self.screen.take_answers(), self.screen.take_told());
        out.extend_from_slice(self.with_note().as_bytes());
        write(&out)
    }

    /// Shows a line over the last row until then.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn say(&mut self, text: String, until: Mono) -> io::Result<()> {
        self.note = Some(Note { text, until });
        write(self.with_note().as_bytes())
    }

    /// When the line goes away.
    pub fn note_until(&self) -> Option<Mono> {
        self.note.as_ref().map(|note| note.until)
    }

    /// Takes the line away, and shows what is below it.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn hush(&mut self) -> io::Result<()> {
        let text = self.without_note();
        self.note = None;
        write(text.as_bytes())
    }

    fn with_note(&self) -> String {
        let (Some(note), Some(cursor)) = (&self.note, self.screen.cursor_back()) else {
            return String::new();
        };
        let Size { rows, cols } = size();
        let text = brief(&note.text, cols.into());
        format!("\x1b[{rows};1H\x1b[0;7m{text}\x1b[0m\x1b[K{cursor}")
    }

    fn without_note(&self) -> String {
        let (Some(_), Some(cursor)) = (&self.note, self.screen.cursor_back()) else {
            return String::new();
        };
        let rows = size().rows;
        let row = self.screen.row(rows).unwrap_or_default();
        format!("\x1b[{rows};1H\x1b[0m\x1b[2K{row}{cursor}")
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = write(format!("{}{END}{}", self.without_note(), self.screen.leave()).as_bytes());
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
