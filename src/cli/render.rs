//! How things look: colours only where they are welcome, tables in columns, and nothing that could act on the user's
//! terminal. Pure text in, text out, but for [`print`], [`print_json`] and [`note`].

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::failure::Failure;
use crate::config::Env;
use crate::sys::stdio;
use crate::sys::sysexit::Sysexit;
use crate::words;

/// Colours or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// For standard output.
    pub fn stdout(env: &Env) -> Self {
        Self(!env.no_color() && io::stdout().is_terminal())
    }

    /// For standard error.
    pub fn stderr(env: &Env) -> Self {
        Self(!env.no_color() && io::stderr().is_terminal())
    }

    /// No colours, wherever the text goes.
    pub fn plain() -> Self {
        Self(false)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// What matters.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What may be skipped.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// What is well.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What is not well.
    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }
}

/// Writes to standard output. A reader that went away (`| head`) is a quiet end, not a failure.
///
/// # Errors
/// When the text cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes to standard output what may be no text.
///
/// # Errors
/// As [`print`].
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    stdio::output()
        .write_all(bytes)
        .map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(Sysexit::Success),
            _ => Failure::new(format!("cannot write to standard output: {e}")),
        })
}

/// One line of JSON on standard output.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

/// Whether programs read what this process says, which is JSON then on either stream.
static FOR_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// From now on programs read what this process says.
pub fn tell_programs() {
    FOR_PROGRAMS.store(true, Ordering::Relaxed);
}

/// Whether programs read what this process says.
pub fn for_programs() -> bool {
    FOR_PROGRAMS.load(Ordering::Relaxed)
}

/// One line on standard error, beside what was asked for; for programs in the shape of `docs/json.md`.
pub fn note(line: &str) {
    let line = match for_programs() {
        true => {
            let line = line.trim_start_matches("relay-broker: ");
            json!({"note": {"message": line.trim_start_matches("note: ")}}).to_string()
        }
        false => line.to_owned(),
    };
    stdio::complain(format!("{line}\n").as_bytes());
}

/// How long the reason of an end may wait for whoever reads standard error slowly.
const LAST_WORD: Duration = Duration::from_secs(10);

/// A whole line on standard error that says why the program ends; it is on its way when this returns.
pub fn last_word(line: &str) {
    stdio::insist(line.as_bytes(), LAST_WORD);
}

/// Text from others made harmless for a terminal: control characters, turns of direction and what is seen by nobody become
/// `·`, so that a message cannot move the cursor, change colours, stand here in another order than it was written, or hide.
pub fn clean(text: &str) -> String {
    words::marked(text, "·")
        .chars()
        .map(|c| match c {
            '\u{2028}' | '\u{2029}' => '·',
            c if c.is_control() => '·',
            c => c,
        })
        .collect()
}

/// At most `width` columns, on one line.
pub fn brief(text: &str, width: usize) -> String {
    let line = clean(&text.replace('\n', " ⏎ "));
    if line.width() <= width {
        return line;
    }
    // The ellipsis takes the last column. Letters without a width take no column, and are not without end all the same.
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let columns = c.width().unwrap_or(0);
        let fits = columns <= left;
        left = left.saturating_sub(columns);
        fits
    };
    let mut cut: String = line.chars().take(8 * width).take_while(fits).collect();
    cut.push('…');
    cut
}

/// `1.2 ms`, `3.4 s`, `5 min`: as exact as is useful.
pub fn span(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0 => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        1..120 => format!("{:.1} s", time.as_secs_f64()),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

/// `span` for numbers of milliseconds.
pub fn span_ms(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        _ => span(Duration::from_millis(millis)),
    }
}

/// `15 s`, `5 min`: how long something has been running.
pub fn uptime(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        _ => span(Duration::from_secs(secs)),
    }
}

/// Columns under their heads. Every cell is cleaned; trailing blanks are cut.
pub fn table(paint: Paint, heads: &[&str], rows: &[Vec<String>]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| clean(cell)).collect())
        .collect();
    let width = |column: usize| {
        let widest = cells
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.width());
        widest.chain([heads[column].width()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(cell);
            let gap = width + 2 - cell.width().min(*width);
            line.extend(std::iter::repeat_n(' ', gap));
        }
        line.trim_end().to_owned()
    };
    let mut text = paint.dim(&line(&mut heads.iter().copied())) + "\n";
    for row in &cells {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_whatever_is_in_it() {
        let rows = [
            vec!["ada".to_owned(), "ready".to_owned()],
            vec!["bob-the-long".to_owned(), "é\u{1b}[2J".to_owned()],
        ];
        assert_eq!(
            table(Paint::plain(), &["NAME", "STATE"], &rows),
            "NAME          STATE\nada           ready\nbob-the-long  é·[2J\n"
        );
    }

    #[test]
    fn a_table_lines_up_behind_wide_and_combining_letters() {
        let rows = ["漢字", "👩\u{200d}👧", "e\u{301}\u{302}"].map(|name| {
            let cells = [name, "ready"];
            cells.map(str::to_owned).to_vec()
        });
        let text = table(Paint::plain(), &["NAME", "STATE"], &rows);
        let column = |line: &str| {
            let cut = line.find(['S', 'r']).expect("a second column");
            line[..cut].width()
        };
        let columns: Vec<usize> = text.lines().map(column).collect();
        assert_eq!(columns, [6; 4], "{text}");
    }

    #[test]
    fn text_is_cut_to_columns_and_not_to_letters() {
        assert_eq!(brief("漢字漢字", 8), "漢字漢字");
        assert_eq!(brief("漢字漢字", 7), "漢字漢…");
        assert_eq!(brief("漢字漢字", 6), "漢字…");
        assert_eq!(
            brief("e\u{301}e\u{301}e\u{301}", 3),
            "e\u{301}e\u{301}e\u{301}"
        );
        assert_eq!(brief("ab", 1), "…");
    }

    #[test]
    fn a_message_cannot_act_on_the_terminal_that_lists_it() {
        assert_eq!(brief("a\u{1b}]0;x\u{7}\nb\u{9b}", 40), "a·]0;x· ⏎ b·");
        assert_eq!(clean("not \u{202e}desrever\u{202c}"), "not ·desrever·");
        assert_eq!(brief("abcdef", 4), "abc…");
    }

    #[test]
    fn times_are_as_exact_as_is_useful() {
        assert_eq!(span(Duration::from_micros(1_234)), "1.2 ms");
        assert_eq!(span(Duration::from_millis(3_400)), "3.4 s");
        assert_eq!(span(Duration::from_secs(300)), "5 min");
        assert_eq!(span_ms(12), "12 ms");
        assert_eq!((uptime(15), uptime(300)), ("15 s".into(), "5 min".into()));
    }
}
