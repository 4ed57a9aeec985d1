//! Reading the picture: snapshots for people, and the few rows in which the injector looks for its text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::cursor;
use super::emulator::Screen;
use crate::wire::local::Snapshot;

/// A row of the picture, a cell each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells {
    /// The first character of each; a blank where there is none.
    pub text: Vec<char>,
    /// Drawn dim or in a colour.
    pub faded: Vec<bool>,
    /// The cursor's column, from 0.
    pub cursor: usize,
}

/// The rows around the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearby {
    /// From the top.
    pub rows: Vec<String>,
    /// Which of them is the cursor's.
    pub cursor_row: usize,
    /// Of that row, what stands left of the cursor.
    pub left: String,
    /// The cursor's row and column on the screen, from 0.
    pub cursor: (u16, u16),
}

impl Nearby {
    /// Fewer rows around the same cursor.
    pub fn within(&self, above: u16, below: u16) -> Self {
        let first = self.cursor_row.saturating_sub(above.into());
        let end = (self.cursor_row + usize::from(below) + 1).min(self.rows.len());
        Self {
            rows: self.rows[first..end].to_vec(),
            cursor_row: self.cursor_row - first,
            left: self.left.clone(),
            cursor: self.cursor,
        }
    }
}

impl Screen {
    /// The picture as the local API gives it ([local-api 4.4](crate::docs::local_api#4.4)).
    pub fn snapshot(&self, ansi: bool) -> Snapshot {
        Snapshot {
            format: if ansi { "ansi" } else { "plain" }.to_owned(),
            rows: self.size.rows,
            cols: self.size.cols,
            cursor: cursor::position(self.parser.screen()),
            screen: if ansi {
                STANDARD.encode(self.redraw())
            } else {
                self.lines().join("\n")
            },
            offset: self.offset,
            terminal: None,
        }
    }

    /// What is drawn, with its colours and nothing else that acts on a terminal.
    pub fn drawn(&self) -> String {
        let drawn = self.parser.screen().contents_formatted_basic();
        drawn.trim_end().to_owned()
    }

    /// All rows, without the blanks at their ends.
    pub fn lines(&self) -> Vec<String> {
        self.parser
            .screen()
            .rows(0, self.size.cols)
            .map(|row| row.trim_end().to_owned())
            .collect()
    }

    /// The last `count` rows that show anything, for reports to people.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let lines = self.lines();
        let shown: Vec<String> = lines.into_iter().filter(|row| !row.is_empty()).collect();
        shown[shown.len().saturating_sub(count)..].to_vec()
    }

    /// The rows over the cursor's, the nearest first.
    pub fn rows_above_cursor(&self, count: u16) -> Vec<String> {
        let (row, _) = self.parser.screen().cursor_position();
        let mut rows = self.rows(row.saturating_sub(count), row);
        rows.reverse();
        rows
    }

    /// The rows from `first` up to, not including, `end`, in one walk: the emulator draws all rows above the one that it is
    /// asked for.
    fn rows(&self, first: u16, end: u16) -> Vec<String> {
        let rows = self.parser.screen().rows(0, self.size.cols);
        rows.take(end.into()).skip(first.into()).collect()
    }

    /// The cursor's row, cell by cell.
    pub fn cursor_cells(&self) -> Cells {
        let screen = self.parser.screen();
        let (row, cursor) = screen.cursor_position();
        let cells = (0..self.size.cols).map(|col| screen.cell(row, col));
        let (text, faded) = cells
            .map(|cell| match cell {
                Some(cell) => (
                    cell.contents().chars().next().unwrap_or(' '),
                    cell.dim() || cell.fgcolor() != vt100::Color::Default,
                ),
                None => (' ', false),
            })
            .unzip();
        Cells {
            text,
            faded,
            cursor: cursor.into(),
        }
    }

    /// The rows around the cursor, and its place.
    pub fn nearby(&self, above: u16, below: u16) -> Nearby {
        let screen = self.parser.screen();
        let (row, col) = screen.cursor_position();
        let first = row.saturating_sub(above);
        let last = row.saturating_add(below).min(self.size.rows - 1).max(row);
        Nearby {
            rows: self.rows(first, last + 1),
            cursor_row: usize::from(row - first),
            left: screen.contents_between(row, 0, row, col),
            cursor: (row, col),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::Size;

    const SMALL: Size = Size { rows: 4, cols: 20 };

    #[test]
    fn rows_around_the_cursor_are_those_of_the_picture() {
        let mut screen = Screen::new(SMALL);
        screen.feed("one\r\ntwo\r\nthree\r\nfour\x1b[A\x1b[3D".as_bytes());
        let all = screen.nearby(u16::MAX, u16::MAX);
        assert_eq!(all.rows, ["one", "two", "three", "four"]);
        assert_eq!((all.cursor_row, &*all.left, all.cursor), (2, "t", (2, 1)));
        let near = screen.nearby(1, 0);
        assert_eq!((&near.rows[..], near.cursor_row), (&all.rows[1..3], 1));
        for (above, below) in [(0, 0), (1, 0), (0, 1), (1, 5), (9, 9)] {
            assert_eq!(all.within(above, below), screen.nearby(above, below));
        }
        assert_eq!(screen.rows_above_cursor(1), ["two"]);
        assert_eq!(screen.rows_above_cursor(9), ["two", "one"]);
    }

    #[test]
    fn a_plain_snapshot_shows_rows_without_trailing_blanks() {
        let mut screen = Screen::new(SMALL);
        screen.feed("one  \r\n\r\n  two\x1b[31m!\x1b[m".as_bytes());
        let shot = screen.snapshot(false);
        assert_eq!(shot.screen, "one\n\n  two!\n");
        assert_eq!((shot.rows, shot.cols, shot.cursor), (4, 20, (3, 7)));
        assert_eq!(shot.format, "plain");
        assert_eq!(shot.offset, screen.offset());
    }

    #[test]
    fn an_ansi_snapshot_redraws_the_same_picture_and_modes_on_an_empty_terminal() {
        let mut screen = Screen::new(SMALL);
        screen.feed(
            "\x1b[?1049h\x1b[?2004h\x1b[?1003h\x1b]2;my title\x07\x1b[1;32mgreen\x1b[m 漢\x1b[3;5Hhere"
                .as_bytes(),
        );
        let bytes = STANDARD
            .decode(screen.snapshot(true).screen)
            .expect("base64");
        let mut other = Screen::new(SMALL);
        other.feed(&bytes);
        assert_eq!(other.lines(), screen.lines());
        assert_eq!(other.modes(), screen.modes());
        assert_eq!(other.title(), "my title");
        assert_eq!(other.snapshot(true).screen, screen.snapshot(true).screen);
    }

    #[test]
    fn the_rows_around_the_cursor_are_found() {
        let mut screen = Screen::new(SMALL);
        screen.feed(b"far\r\nabove\r\nhello wor\r\nbelow\x1b[3;6H");
        let nearby = screen.nearby(1, 5);
        assert_eq!(nearby.rows, ["above", "hello wor", "below"]);
        assert_eq!(nearby.left, "hello");
        assert_eq!((nearby.cursor_row, nearby.cursor), (1, (2, 5)));
        assert_eq!(screen.last_lines(2), ["hello wor", "below"]);
        assert_eq!(screen.rows_above_cursor(9), ["above", "far"]);
    }

    #[test]
    fn the_cursors_row_tells_pale_cells_from_others() {
        let mut screen = Screen::new(SMALL);
        screen.feed("> a\x1b[2mb\x1b[22;31mc\x1b[m漢\x1b[1;4H".as_bytes());
        let cells = screen.cursor_cells();
        assert_eq!(cells.text[..7], ['>', ' ', 'a', 'b', 'c', '漢', ' ']);
        assert_eq!(cells.faded[..6], [false, false, false, true, true, false]);
        assert_eq!((cells.cursor, cells.text.len()), (3, 20));
    }
}
