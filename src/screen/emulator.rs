//! The emulator of one terminal, fed with what its program writes. What is read off the picture (`picture`), what is answered
//! (`answers`) and how a viewer is brought up to date (`replay`) is added to [`Screen`] elsewhere.

use std::io::Write;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cursor::SavedCursor;
use super::joined::JoinedPictures;
use super::modes::Modes;
use super::scanner::Scanner;
use super::settings::TerminalSettings;
use crate::msg::Size;

/// The most of what a program tells of itself that is kept until somebody asks.
pub(super) const TOLD_MAX: usize = 32;

/// What a program tells of itself, beside its picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its window's title begins with this; OSC 0 and 2.
    Title(Option<char>),
    /// How it is, in its own words; OSC 7501.
    Status(String),
    /// Whether something is in progress; OSC 9;4.
    Progress(bool),
}

/// One terminal's picture, without history: what scrolled away is gone.
pub struct Screen {
    pub(super) parser: vt100::Parser,
    pub(super) scanner: Scanner,
    joined: JoinedPictures,
    pub(super) settings: TerminalSettings,
    /// The saved cursor of each page.
    pub(super) saved: [Option<SavedCursor>; 2],
    /// The beginning of a sequence or letter whose end has not come.
    pub(super) begun: Vec<u8>,
    pub(super) answers: Vec<u8>,
    pub(super) title: String,
    pub(super) told: Vec<Told>,
    pub(super) size: Size,
    pub(super) offset: u64,
    pub(super) resets: u32,
}

impl Screen {
    /// An empty terminal.
    pub fn new(size: Size) -> Self {
        let size = legal(size);
        Self {
            parser: parser(size),
            scanner: Scanner::default(),
            joined: JoinedPictures::default(),
            settings: TerminalSettings::default(),
            saved: [None, None],
            begun: Vec::new(),
            answers: Vec::new(),
            title: String::new(),
            told: Vec::new(),
            size,
            offset: 0,
            resets: 0,
        }
    }

    /// Takes output of the program, in pieces of any length.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (upto, found) = if self.settings.charsets().draw_lines() {
                self.draw_lines(rest)
            } else {
                let (upto, found) = self.scanner.next(rest);
                self.draw(&rest[..upto]);
                (upto, found)
            };
            if let Some(found) = found {
                self.found(&found);
            }
            rest = &rest[upto..];
        }
        self.keep_begun(bytes);
    }

    pub(super) fn draw(&mut self, bytes: &[u8]) {
        let modes = self.modes();
        let bytes = self.joined.first_parts(bytes);
        let parser = &mut self.parser;
        // By way of `Write`, which is compiled where the emulator is, for speed. It takes everything.
        // The emulator is replaced after a panic, so nothing half-changed is ever looked at again.
        if catch_unwind(AssertUnwindSafe(|| parser.write_all(&bytes))).is_err() {
            self.start_over(modes);
        }
    }

    /// The terminal has a new size; the program redraws for it.
    pub fn resize(&mut self, size: Size) {
        let size = legal(size);
        let modes = self.modes();
        if size != self.size {
            self.settings.resized();
        }
        self.size = size;
        let (rows, cols) = cells(size);
        let parser = &mut self.parser;
        if catch_unwind(AssertUnwindSafe(|| parser.set_size(rows, cols))).is_err() {
            self.start_over(modes);
        }
    }

    /// Bytes the program waits for as answers to its questions; each is given once.
    pub fn take_answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answers)
    }

    /// What the program has told of itself, in order; each is given once.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// The newest counts; a flood of titles is somebody's animation.
    pub(super) fn tell(&mut self, told: Told) {
        if self.told.len() >= TOLD_MAX {
            self.told.remove(0);
        }
        self.told.push(told);
    }

    /// Bytes of output so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Rows and columns.
    pub fn size(&self) -> Size {
        self.size
    }

    /// How often the emulator had to be replaced.
    pub fn resets(&self) -> u32 {
        self.resets
    }

    /// What the program has switched in its terminal.
    pub fn settings(&self) -> &TerminalSettings {
        &self.settings
    }

    /// The title the program gave its window.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The modes that are on now.
    pub fn modes(&self) -> Modes {
        Modes::of(self.parser.screen())
    }

    /// The modes that were on stay on: they decide how messages are typed, and a program sets them only once.
    fn start_over(&mut self, modes: Modes) {
        self.resets += 1;
        log::warn!("the terminal emulator failed on this output; the picture starts empty");
        self.parser = parser(self.size);
        self.draw(modes.as_sequences().as_bytes());
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("size", &self.size)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

fn legal(size: Size) -> Size {
    Size {
        rows: size.rows.clamp(1, 1000),
        cols: size.cols.clamp(2, 1000),
    }
}

fn cells(size: Size) -> (NonZeroU16, NonZeroU16) {
    let least = NonZeroU16::MIN;
    (
        NonZeroU16::new(size.rows).unwrap_or(least),
        NonZeroU16::new(size.cols).unwrap_or(least),
    )
}

pub(super) fn parser(size: Size) -> vt100::Parser {
    let (rows, cols) = cells(size);
    vt100::Parser::new(rows, cols, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { rows: 4, cols: 20 };

    #[test]
    fn hostile_output_leaves_a_usable_screen_behind() {
        let mut screen = Screen::new(Size { rows: 1, cols: 1 });
        for size in [(1, 1), (3, 2), (200, 3), (0, 0), (65535, 65535)] {
            screen.resize(Size {
                rows: size.0,
                cols: size.1,
            });
            screen.feed(
                "漢字🦀é\x1b[999;999H漢\x1b[2;1r\x1b[99L\x1b[?1049h漢\x1b[99P\x1b[99@".as_bytes(),
            );
            screen.feed(&[0xff, 0xfe, 0x1b, b'[', b'9', b'9', b'9', b'9', b'9', b'b']);
        }
        screen.resize(SMALL);
        screen.feed(b"\x1bc\x1b[Hstill here");
        assert!(screen.snapshot(false).screen.contains("still here"));
    }

    #[test]
    fn replacing_the_emulator_keeps_the_modes() {
        let mut screen = Screen::new(SMALL);
        screen.feed(b"\x1b[?2004h\x1b[?1049h\x1b[?1h");
        let modes = screen.modes();
        screen.start_over(modes);
        assert_eq!(screen.modes(), modes);
        assert!(modes.bracketed_paste && modes.alternate_screen && modes.application_cursor);
    }
}
