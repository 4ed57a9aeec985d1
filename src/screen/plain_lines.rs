//! What a program printed, as lines of text: escape sequences are taken away, and what was written over in its line is as
//! it stood when the line was left. A strip with a memory of one row, not an emulator: it costs little, and a line is
//! there the moment it ends. Programs that draw the same rows again and again say each of them once.

use std::collections::VecDeque;

use super::utf8::Pieces;

/// The longest line, in characters; a longer one becomes several.
const LINE_MOST: usize = 4096;
/// The most of a control sequence's parameters that is kept.
const PARAMS_MOST: usize = 64;
/// So many lines are remembered to see that they are drawn again: as many as a tall terminal has rows.
const REDRAWN: usize = 64;
/// Between two columns at which a tab stops.
const TAB: usize = 8;

/// Where in a sequence the output stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Text,
    Escape,
    /// CSI.
    Control,
    /// OSC, DCS, APC, PM or SOS: skipped to its end.
    Skipped,
}

/// Makes lines of output. See the module.
#[derive(Debug, Default)]
pub struct PlainLines {
    within: Within,
    params: Vec<u8>,
    text: Pieces,
    /// The row that is being written, and the column where the next letter goes.
    row: Vec<char>,
    column: usize,
    /// The last lines that were told.
    told: VecDeque<String>,
    /// For so many lines more the program may be drawing what it has drawn before.
    redraws: usize,
}

impl PlainLines {
    /// Takes output, which may begin and end anywhere; tells each line that ended in it.
    pub fn push(&mut self, bytes: &[u8], tell: &mut impl FnMut(&str)) {
        let mut at = 0;
        while at < bytes.len() {
            if self.within == Within::Text {
                let run = bytes[at..].iter().position(|byte| is_control(*byte));
                let run = run.unwrap_or(bytes.len() - at);
                if run > 0 {
                    let text = self.text.push(&bytes[at..at + run]);
                    self.write(&text, tell);
                    at += run;
                    continue;
                }
                self.flush_text(tell);
                self.control(bytes[at], tell);
            } else {
                self.sequence(bytes[at], tell);
            }
            at += 1;
        }
    }

    /// Nothing more comes: tells what stands in the last row.
    pub fn finish(&mut self, tell: &mut impl FnMut(&str)) {
        self.flush_text(tell);
        self.within = Within::Text;
        self.leave_row(tell);
    }

    fn flush_text(&mut self, tell: &mut impl FnMut(&str)) {
        let rest = self.text.finish();
        self.write(&rest, tell);
    }

    fn write(&mut self, text: &str, tell: &mut impl FnMut(&str)) {
        for letter in text.chars().filter(|letter| !letter.is_control()) {
            if self.column >= LINE_MOST {
                self.end_line(tell);
            }
            self.pad();
            match self.row.get_mut(self.column) {
                Some(there) => *there = letter,
                None => self.row.push(letter),
            }
            self.column += 1;
        }
    }

    /// Blanks up to the column.
    fn pad(&mut self) {
        if self.row.len() < self.column {
            self.row.resize(self.column, ' ');
        }
    }

    fn control(&mut self, byte: u8, tell: &mut impl FnMut(&str)) {
        match byte {
            b'\n' | 0x0b | 0x0c => self.end_line(tell),
            b'\r' => self.column = 0,
            0x08 => self.column = self.column.saturating_sub(1),
            b'\t' => self.go_to((self.column / TAB + 1) * TAB),
            0x1b => self.within = Within::Escape,
            _ => {}
        }
    }

    fn sequence(&mut self, byte: u8, tell: &mut impl FnMut(&str)) {
        match (self.within, byte) {
            (_, 0x18 | 0x1a) | (Within::Skipped, 0x07) => self.within = Within::Text,
            (_, 0x1b) => self.within = Within::Escape,
            (Within::Escape, b'[') => {
                self.params.clear();
                self.within = Within::Control;
            }
            (Within::Escape, b']' | b'P' | b'_' | b'^' | b'X') => self.within = Within::Skipped,
            (Within::Escape, b' '..=b'/') | (Within::Skipped, _) => {}
            (Within::Escape, _) => {
                self.within = Within::Text;
                match byte {
                    b'D' | b'E' => self.end_line(tell),
                    b'M' | b'c' => self.moved(tell),
                    _ => {}
                }
            }
            (Within::Control, b'@'..=b'~') => {
                self.within = Within::Text;
                self.act(byte, tell);
            }
            (Within::Control, b' '..=b'?') => {
                if self.params.len() < PARAMS_MOST {
                    self.params.push(byte);
                }
            }
            // A control character within a sequence acts as if it stood before it.
            (_, byte) => self.control(byte, tell),
        }
    }

    /// The first number of the sequence, or another where there is none.
    fn number(&self, otherwise: usize) -> usize {
        let digits = self.params.split(|byte| !byte.is_ascii_digit()).next();
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|n| n.parse().ok()).unwrap_or(otherwise)
    }

    fn act(&mut self, letter: u8, tell: &mut impl FnMut(&str)) {
        let count = self.number(1).clamp(1, LINE_MOST);
        let end = (self.column + count).min(self.row.len());
        match letter {
            b'C' | b'a' => self.go_to(self.column + count),
            b'D' => self.column = self.column.saturating_sub(count),
            b'G' | b'`' => self.go_to(count - 1),
            b'K' => self.erase(self.number(0)),
            b'J' if self.number(0) == 0 => self.row.truncate(self.column),
            b'X' if self.column < end => self.row[self.column..end].fill(' '),
            b'P' if self.column < end => drop(self.row.drain(self.column..end)),
            b'@' if self.column < self.row.len() => {
                let blanks = std::iter::repeat_n(' ', count);
                self.row.splice(self.column..self.column, blanks);
                self.row.truncate(LINE_MOST);
            }
            b'J' | b'A' | b'B' | b'E' | b'F' | b'H' | b'f' | b'd' => self.moved(tell),
            _ => {}
        }
    }

    fn go_to(&mut self, column: usize) {
        self.column = column.min(LINE_MOST);
    }

    fn erase(&mut self, which: usize) {
        match which {
            0 => self.row.truncate(self.column),
            1 => {
                let end = (self.column + 1).min(self.row.len());
                self.row[..end].fill(' ');
            }
            _ => self.row.clear(),
        }
    }

    /// The cursor went to another row than the next one.
    fn moved(&mut self, tell: &mut impl FnMut(&str)) {
        self.leave_row(tell);
        self.redraws = REDRAWN;
    }

    /// What stands in the row is a line, unless nothing does.
    fn leave_row(&mut self, tell: &mut impl FnMut(&str)) {
        match self.row.iter().all(|letter| *letter == ' ') {
            true => self.row.clear(),
            false => self.end_line(tell),
        }
        self.column = 0;
    }

    fn end_line(&mut self, tell: &mut impl FnMut(&str)) {
        let line: String = self.row.drain(..).collect();
        let line = line.trim_end_matches(' ');
        self.column = 0;
        let again = self.redraws > 0 && (line.is_empty() || self.told.iter().any(|t| t == line));
        self.redraws = self.redraws.saturating_sub(1);
        if again {
            return;
        }
        tell(line);
        if self.told.len() >= REDRAWN {
            self.told.pop_front();
        }
        self.told.push_back(line.to_owned());
    }
}

fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> Vec<String> {
        let (mut plain, mut told) = (PlainLines::default(), Vec::new());
        let mut tell = |line: &str| told.push(line.to_owned());
        for piece in pieces {
            plain.push(piece.as_bytes(), &mut tell);
        }
        plain.finish(&mut tell);
        told
    }

    #[test]
    fn colours_titles_and_bells_leave_no_trace_wherever_they_are_cut() {
        let text = "\u{1b}]0;a title\u{7}\u{1b}[1;31mréd\u{1b}[0m and \u{1b}Pq#1\u{1b}\\漢\u{7}字\r\n\r\nlast";
        for cut in 0..=text.len() {
            let (mut plain, mut told) = (PlainLines::default(), Vec::new());
            let mut tell = |line: &str| told.push(line.to_owned());
            plain.push(&text.as_bytes()[..cut], &mut tell);
            plain.push(&text.as_bytes()[cut..], &mut tell);
            plain.finish(&mut tell);
            assert_eq!(told, ["réd and 漢字", "", "last"], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_is_what_stood_there_when_it_was_left() {
        assert_eq!(lines(&["10 %\r20 %\r100 %\n"]), ["100 %"]);
        assert_eq!(lines(&["tick\rtock\u{8}\u{8}\u{1b}[K\n"]), ["to"]);
        assert_eq!(lines(&["a\u{1b}[3Cb\u{1b}[2Gx\tz\n"]), ["ax  b   z"]);
        assert_eq!(lines(&["abcdef\u{1b}[3G\u{1b}[2P\u{1b}[1@\n"]), ["ab ef"]);
    }

    #[test]
    fn rows_that_a_program_draws_again_are_told_once() {
        let frame = |n: u8| format!("\u{1b}[H\u{1b}[2KHeader\r\n\u{1b}[2Kstep {n}\r\n\r\n> \r\n");
        let told = lines(&[&frame(1), &frame(1), &frame(2)]);
        assert_eq!(told, ["Header", "step 1", ">", "step 2"]);
        assert_eq!(lines(&["y\ny\ny\n"]), ["y", "y", "y"], "no redrawing here");
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_without_an_end() {
        let long = "x".repeat(3 * LINE_MOST + 5);
        let told = lines(&[&long, "\u{1b}[999999999C.", "\u{1b}[999999@"]);
        assert!(told.iter().all(|line| line.chars().count() <= LINE_MOST));
        assert_eq!(told.concat().matches('x').count(), long.len());
    }
}
