//! Words of ours that a program has put back into its input line: whether an earlier message stands there in front of the one
//! that was just typed, and what is left of both while they are taken away. Letters are compared, as everywhere
//! ([injection 1.6](crate::docs::injection#1.6)). Decides nothing.

use unicode_width::UnicodeWidthStr;

use crate::agent::drawn::{ABOVE, placeholders};
use crate::agent::prompt::{self, Prompt};
use crate::agent::verify::{MessageTail, is_frame, is_long};
use crate::msg::Size;
use crate::screen::Screen;

/// So many letters of a message's end are enough to know it by.
const TAIL: usize = 12;
/// What stands at the side of an input line takes at most so many columns.
const SIDE: usize = 4;

/// How many rows stand in the input line, if one of the `earlier` messages stands there with `text` behind it.
pub fn rows_in_front(
    screen: &Screen,
    prompt: Option<Prompt>,
    earlier: &[String],
    text: &str,
    key: &MessageTail,
) -> Option<usize> {
    let ours = Ours { earlier, text, key };
    match prompt.and_then(|prompt| prompt::standing(screen, prompt)) {
        Some(line) => ours.is_second(&line).then(|| line.lines().count()),
        None => ours.rows_above_cursor(screen),
    }
}

/// How many rows of the input line are left, if nothing but a piece of our own words stands in it.
pub fn rows_left(
    screen: &Screen,
    prompt: Option<Prompt>,
    ours: &[&str],
    key: &MessageTail,
) -> Option<usize> {
    let line = prompt::standing(screen, prompt?)?;
    let left = key.letters_of(&line);
    let all: String = ours.iter().map(|text| key.letters_of(text)).collect();
    (!left.is_empty() && all.contains(&left)).then(|| line.lines().count())
}

/// How many rows a text takes in an input line.
pub fn rows_of(text: &str, size: Size) -> usize {
    let cols = usize::from(size.cols).max(1);
    text.lines().map(|line| line.len() / cols + 1).sum()
}

struct Ours<'a> {
    earlier: &'a [String],
    text: &'a str,
    key: &'a MessageTail,
}

impl Ours<'_> {
    /// Whether an input line ends in the text, and something of ours stands before.
    fn is_second(&self, line: &str) -> bool {
        let letters = self.key.letters_of(line);
        let mine = self.key.letters_of(self.text);
        // The line may have been scrolled, so that it shows less than the text.
        if mine.ends_with(&letters) {
            return false;
        }
        let front = match letters.strip_suffix(&mine) {
            Some(front) => front.to_owned(),
            None => match placeholder_at(line) {
                Some(at) => self.key.letters_of(&line[..at]),
                None => return false,
            },
        };
        self.is_earlier(&front, line)
    }

    /// Whether those letters are an earlier message, its end, or a placeholder for it.
    fn is_earlier(&self, front: &str, line: &str) -> bool {
        let letters_of = |text: &String| self.key.letters_of(text);
        let drawn = |text: String| {
            !text.is_empty() && (text == front || front.len() >= TAIL && text.ends_with(front))
        };
        let names = placeholders(line).into_keys();
        let named = names
            .map(|name| letters_of(&name))
            .any(|name| name == front);
        self.earlier.iter().map(letters_of).any(drawn)
            || named && self.earlier.iter().any(|text| is_long(text))
    }

    /// The same where nobody knows how the input line begins: the text has to begin on the row on which the earlier one ends,
    /// or on the next if that is full. How many rows both take.
    fn rows_above_cursor(&self, screen: &Screen) -> Option<usize> {
        let near = screen.nearby(ABOVE, 0);
        let mut rows = near.rows[..near.cursor_row].to_vec();
        rows.push(near.left);
        let mine = self.key.letters_of(self.text);
        let mut letters = String::new();
        for at in (0..rows.len()).rev() {
            letters.insert_str(0, &self.key.letters_of(&rows[at]));
            let front = match letters.strip_suffix(&mine) {
                Some(front) => front.to_owned(),
                None => match placeholder_at(&rows[at]) {
                    Some(begin) => self.key.letters_of(&rows[at][..begin]),
                    None => continue,
                },
            };
            let above = &rows[..at];
            let full = |row: &String| self.has_no_room(row, screen.size());
            if front.is_empty() && !above.last().is_some_and(full) {
                return None;
            }
            let before = self.key.letters_of(&above.concat()) + &front;
            let tails = self.earlier.iter().filter_map(|text| MessageTail::of(text));
            let mut known = tails.filter(|tail| tail.ends(&before));
            return known.next().map(|_| rows.len() - at + 1);
        }
        None
    }

    /// Whether the text's first word would not fit behind what stands on a row.
    fn has_no_room(&self, row: &str, size: Size) -> bool {
        let word = self.text.split_whitespace().next().unwrap_or_default();
        let used = row.trim_end_matches(|c: char| c.is_whitespace() || is_frame(c));
        used.width() + word.width() + SIDE >= size.cols.into()
    }
}

/// Where the last placeholder for a paste begins, if a row shows one.
fn placeholder_at(line: &str) -> Option<usize> {
    let at = line.rfind('[')?;
    (!placeholders(&line[at..]).is_empty()).then_some(at)
}
