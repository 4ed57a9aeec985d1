//! A viewer's terminal brought to where the program's is, and back: the picture with the page below it, the saved cursors,
//! and everything the program has switched. Also the emulator's blind spots: what it does not know is told it in other words.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cursor::{self, SavedCursor};
use super::emulator::{Screen, parser};
use super::scanner::Sequence;
use super::settings::Charsets;

/// The longest beginning of a sequence that is kept.
const BEGUN_MAX: usize = 2048;
/// DEC's special graphics, from the grave accent on.
const LINES: [char; 31] = [
    '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼',
    '⎽', '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
];

impl Screen {
    /// Keeps what a sequence switches; it is on the picture already.
    pub(super) fn remember(&mut self, found: &Sequence) {
        let page = self.settings.page();
        let saves = match found {
            Sequence::Escape(body) => body == b"7",
            Sequence::Csi(body, last) => match (body.as_slice(), last) {
                (b"?1048", b'h') => true,
                (b"", b's') => !self.settings.is_on(69),
                // It comes back to the cursor that it saved when the second page was shown.
                (b"?1049", b'l') => page.is_some(),
                _ => false,
            },
            _ => false,
        };
        if let Some(spelled) = self.in_other_words(found) {
            self.draw(spelled);
        }
        self.settings.note(found);
        if saves {
            self.saved[usize::from(self.settings.page().is_some())] = Some(self.cursor_now());
        }
        if matches!(found, Sequence::Escape(body) if body == b"c") {
            self.saved = [None, None];
        }
    }

    /// What the emulator does not know, as something it does.
    fn in_other_words(&self, found: &Sequence) -> Option<&'static [u8]> {
        match found {
            Sequence::Escape(body) => match body.as_slice() {
                b"D" => Some(b"\n"),
                b"E" => Some(b"\r\n"),
                _ => None,
            },
            Sequence::Csi(body, last) => match (body.as_slice(), last) {
                (b"", b's') if !self.settings.is_on(69) => Some(b"\x1b7"),
                (b"?1048", b'h') => Some(b"\x1b7"),
                (b"", b'u') | (b"?1048", b'l') => Some(b"\x1b8"),
                (b"?1047", b'h') => Some(b"\x1b[?47h"),
                (b"?1047", b'l') => Some(b"\x1b[?47l"),
                _ => None,
            },
            _ => None,
        }
    }

    fn cursor_now(&self) -> SavedCursor {
        let screen = self.parser.screen();
        let (row, col) = cursor::position(screen);
        SavedCursor {
            row,
            col,
            pen: screen.attributes_formatted(),
            charsets: self.settings.charsets().clone(),
            origin: self.settings.is_on(6),
        }
    }

    /// As feeding the emulator, while small letters are lines: it knows no character sets.
    pub(super) fn draw_lines(&mut self, bytes: &[u8]) -> (usize, Option<Sequence>) {
        let mut drawn = Vec::with_capacity(bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            let inside = self.scanner.inside() > 0;
            let (_, found) = self.scanner.next(&[*byte]);
            let text = !inside && self.scanner.inside() == 0 && found.is_none();
            match byte
                .checked_sub(b'`')
                .and_then(|n| LINES.get(usize::from(n)))
            {
                Some(line) if text => {
                    drawn.extend_from_slice(line.encode_utf8(&mut [0; 4]).as_bytes())
                }
                _ => drawn.push(*byte),
            }
            if found.is_some() {
                self.draw(&drawn);
                return (at + 1, found);
            }
        }
        self.draw(&drawn);
        (bytes.len(), None)
    }

    /// Keeps what is begun and not at its end: what comes next goes on from there.
    pub(super) fn keep_begun(&mut self, fed: &[u8]) {
        let inside = self.scanner.inside();
        if inside == 0 {
            let near = fed.len().saturating_sub(4);
            self.begun.extend_from_slice(&fed[near..]);
            let length = letter_begun(&self.begun);
            self.begun.drain(..self.begun.len() - length);
        } else if inside > BEGUN_MAX {
            self.begun.clear();
        } else if inside > fed.len() {
            self.begun.extend_from_slice(fed);
        } else {
            self.begun = fed[fed.len() - inside..].to_vec();
        }
    }

    /// What draws this picture on an empty terminal, with everything that is switched on.
    pub(super) fn redraw(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.title().is_empty() {
            bytes.extend_from_slice(format!("\x1b]2;{}\x07", self.title()).as_bytes());
        }
        bytes.extend_from_slice(self.settings.replay_flags(0).as_bytes());
        if let Some(page) = self.settings.page() {
            bytes.extend_from_slice(
                self.first_page(vt100::Screen::contents_formatted)
                    .as_bytes(),
            );
            bytes.extend_from_slice(&self.saved_cursor(0));
            bytes.extend_from_slice(self.first_page(cursor_and_pen).as_bytes());
            bytes.extend_from_slice(format!("\x1b[?{page}h").as_bytes());
            bytes.extend_from_slice(self.settings.replay_flags(1).as_bytes());
        }
        let screen = self.parser.screen();
        bytes.extend_from_slice(screen.contents_formatted().as_bytes());
        bytes.extend_from_slice(self.margins().as_bytes());
        bytes.extend_from_slice(&self.saved_cursor(self.settings.page().is_some().into()));
        bytes.extend_from_slice(self.cursor().as_bytes());
        bytes.extend_from_slice(&self.settings.replay());
        bytes.extend_from_slice(&self.settings.charsets().replay());
        bytes.extend_from_slice(&self.begun);
        bytes
    }

    /// Something of the page that comes back when the second one is left.
    fn first_page<T: Default>(&self, look: impl Fn(&vt100::Screen) -> T) -> T {
        let screen = self.parser.screen();
        if !screen.alternate_screen() {
            return look(screen);
        }
        let back: &[u8] = match self.settings.page() {
            Some(1049) => b"\x1b[?1049l",
            _ => b"\x1b[?47l",
        };
        let below = || {
            let mut below = parser(self.size);
            *below.screen_mut() = screen.clone();
            let _ = below.write_all(back);
            look(below.screen())
        };
        catch_unwind(AssertUnwindSafe(below)).unwrap_or_default()
    }

    fn margins(&self) -> String {
        let mut text = String::new();
        if let Some((left, right)) = self.settings.sides() {
            let _ = write!(text, "\x1b[?69h\x1b[{left};{right}s");
        } else if self.settings.is_on(69) {
            text.push_str("\x1b[?69h");
        }
        if let Some((top, bottom)) = self.settings.margins() {
            let _ = write!(text, "\x1b[{top};{}r", bottom.min(self.size.rows));
        }
        text
    }

    /// The cursor and the pen, after what moved them.
    fn cursor(&self) -> String {
        let screen = self.parser.screen();
        if !self.settings.is_on(6) {
            return cursor_and_pen(screen);
        }
        let (row, col) = cursor::position(screen);
        format!(
            "\x1b[?6h{}{}",
            self.go(row, col, true),
            screen.attributes_formatted()
        )
    }

    /// Goes to a place of the screen, which programs that count from the margins count from there.
    fn go(&self, row: u16, col: u16, origin: bool) -> String {
        let (top, left) = match origin {
            true => (
                self.settings.margins().map_or(1, |m| m.0),
                self.settings.sides().map_or(1, |s| s.0),
            ),
            false => (1, 1),
        };
        format!(
            "\x1b[{};{}H",
            (row + 1).saturating_sub(top).max(1),
            (col + 1).saturating_sub(left).max(1)
        )
    }

    fn saved_cursor(&self, page: usize) -> Vec<u8> {
        let Some(saved) = &self.saved[page] else {
            return Vec::new();
        };
        let mut bytes = Vec::new();
        if saved.origin {
            bytes.extend_from_slice(b"\x1b[?6h");
        }
        bytes.extend_from_slice(self.go(saved.row, saved.col, saved.origin).as_bytes());
        bytes.extend_from_slice(saved.pen.as_bytes());
        bytes.extend_from_slice(&saved.charsets.replay());
        bytes.extend_from_slice(b"\x1b7");
        let mut undo = String::new();
        saved.charsets.undo(&mut undo);
        bytes.extend_from_slice(undo.as_bytes());
        if saved.origin {
            bytes.extend_from_slice(b"\x1b[?6l");
        }
        bytes
    }

    /// What brings a viewer's terminal back: everything that was switched, and the cursor below what stays on its page.
    pub fn leave(&self) -> String {
        let rows = self.first_page(|screen| {
            let rows: Vec<String> = screen.rows(0, self.size.cols).collect();
            rows.iter()
                .rposition(|row| !row.trim().is_empty())
                .map_or(0, |last| last + 1)
        });
        let next = if rows < usize::from(self.size.rows) {
            format!("\x1b[{};1H\x1b[J", rows + 1)
        } else {
            format!("\x1b[{rows};1H\r\n")
        };
        format!("{}\x1b[0m{next}", self.settings.undo())
    }

    /// What brings cursor and pen back after somebody else has drawn; `None` while what the program has switched would stand
    /// in his way.
    pub fn cursor_back(&self) -> Option<String> {
        let free = !self.settings.is_on(6)
            && self.settings.charsets() == &Charsets::default()
            && self.begun.is_empty();
        free.then(|| cursor_and_pen(self.parser.screen()))
    }

    /// What draws a row, counted from 1, where it is empty.
    pub fn row(&self, row: u16) -> Option<String> {
        let rows = self.parser.screen().rows_formatted(0, self.size.cols);
        rows.into_iter().nth(usize::from(row.max(1)) - 1)
    }
}

/// How many bytes at the end are the beginning of a letter in UTF-8.
fn letter_begun(bytes: &[u8]) -> usize {
    let near = bytes.iter().rev().take(3).enumerate();
    for (behind, byte) in near {
        let needs = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        return if behind + 1 < needs { behind + 1 } else { 0 };
    }
    0
}

fn cursor_and_pen(screen: &vt100::Screen) -> String {
    screen.cursor_state_formatted() + &screen.attributes_formatted()
}

#[cfg(test)]
mod tests;
