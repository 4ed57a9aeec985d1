//! Is a message that was typed drawn as the draft? Judged by where it stands and what stood there before: what was on the
//! screen before the message was typed proves nothing, because any sender can write what a program shows anyway. Decides
//! nothing about when to press Enter.

use std::collections::BTreeMap;

use crate::agent::prompt;
use crate::agent::verify::{MessageTail, is_long, plain};
use crate::screen::{Nearby, Screen};

/// Rows above the cursor in which a wrapped tail may begin.
pub const ABOVE: u16 = 6;
/// How far from its opening bracket a placeholder names what it stands for.
const NAMED_WITHIN: usize = 40;
/// What an input line begins with has at most so many letters, and ends in one of these.
const SIGN: usize = 20;
const SIGN_ENDS: [char; 9] = ['>', ':', '$', '#', '%', '❯', '›', '»', '→'];
/// So many marks are more than an input line's own.
const LEAST_MARKS: usize = 3;

/// Where a message is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drawn {
    /// Nowhere near the cursor: something else has the focus.
    No,
    /// Near the cursor.
    Near,
    /// It ends the row above the cursor's, which is empty: a draft that has just filled a row.
    Filled,
    /// On the cursor's row, as its text or a placeholder: a draft with the cursor elsewhere.
    Row,
    /// It ends at the cursor: it is the draft.
    Cursor,
}

/// What the screen showed before the message was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    was: Nearby,
    /// What the input line begins with, if that has letters: some programs begin each row of a draft so.
    sign: Option<String>,
    /// How often the message's end stood there already, and how many rows from the cursor the nearest was.
    copies: (usize, Option<usize>),
    placeholders: BTreeMap<String, usize>,
    /// Of a text that may be drawn as a placeholder: all its letters.
    letters: Option<String>,
}

impl Before {
    /// Remembers how it was before `text`, which `key` finds, is typed.
    pub fn of(screen: &Screen, key: &MessageTail, text: &str) -> Self {
        let far = screen.nearby(u16::MAX, u16::MAX);
        let was = far.within(rows_above(key), ABOVE);
        let sign = sign_of(&was.left);
        let far = without(sign.as_deref(), far);
        Self {
            // What stands farther off may come near without being drawn anew.
            copies: copies(&far, key),
            placeholders: placeholders(&was.rows.join("\n")),
            letters: is_long(text).then(|| key.letters_of(text)),
            sign,
            was,
        }
    }

    /// Whether the message is drawn now, and was not before.
    pub fn compare(&self, screen: &Screen, key: &MessageTail) -> Drawn {
        let now = screen.nearby(rows_above(key), ABOVE);
        let stood = self.stood_left_of_cursor(&now);
        let placeholder = self.is_placeholder(&now, key);
        let changed = now.rows[now.cursor_row] != self.was.rows[self.was.cursor_row];
        let stood_above = self.stood_above(&now);
        let now = without(self.sign.as_deref(), now);
        let (above, row) = (&now.rows[..now.cursor_row], &now.rows[now.cursor_row]);
        if key.ends_rows(above, &now.left) && !stood {
            return Drawn::Cursor;
        }
        let here = now.rows[now.cursor_row.saturating_sub(1)..=now.cursor_row].join("\n");
        if key.ends_rows(above, row) && changed || placeholder || self.new_placeholder(&here) {
            return Drawn::Row;
        }
        if let [higher @ .., last] = above
            && plain(&now.left).is_empty()
            && key.ends_rows(higher, last)
            && !stood_above
        {
            return Drawn::Filled;
        }
        if self.new_copy(&now, key) || self.new_placeholder(&now.rows.join("\n")) {
            return Drawn::Near;
        }
        Drawn::No
    }

    /// Whether the message's end, or a placeholder that was not there before, stands anywhere on the screen.
    pub fn is_anywhere(&self, screen: &Screen, key: &MessageTail) -> bool {
        let now = without(self.sign.as_deref(), screen.nearby(u16::MAX, u16::MAX));
        copies(&now, key).0 > self.copies.0 || self.new_placeholder(&now.rows.join("\n"))
    }

    /// Whether something was put where the text was typed, whatever it is.
    pub fn is_touched(&self, screen: &Screen) -> bool {
        let now = screen.nearby(0, 0);
        let new = now.left.strip_prefix(self.was.left.trim_end());
        new.map(plain).is_some_and(|new| {
            new.contains(char::is_alphanumeric) || new.chars().count() >= LEAST_MARKS
        })
    }

    /// Whether the cursor's row reads as it did.
    pub fn is_row(&self, screen: &Screen) -> bool {
        let now = screen.nearby(0, 0);
        now.rows[0] == self.was.rows[self.was.cursor_row]
    }

    /// The same words and the same column: the input line as it was, empty. Where it stands now proves nothing, because it
    /// moves down when something is said.
    fn stood_left_of_cursor(&self, now: &Nearby) -> bool {
        (now.left == self.was.left) && now.cursor.1 == self.was.cursor.1
    }

    /// The empty row at the cursor and the one above it are as they were.
    fn stood_above(&self, now: &Nearby) -> bool {
        let above = |nearby: &Nearby| nearby.rows[..nearby.cursor_row].to_vec();
        now.cursor == self.was.cursor && above(now) == above(&self.was)
    }

    /// One more than before, or one below all that stood there before.
    fn new_copy(&self, now: &Nearby, key: &MessageTail) -> bool {
        let (count, nearest) = copies(now, key);
        let (old, was) = self.copies;
        count > old || nearest.is_some_and(|rows| was.is_some_and(|was| rows < was))
    }

    fn new_placeholder(&self, text: &str) -> bool {
        placeholders(text)
            .iter()
            .any(|(name, count)| *count > self.placeholders.get(name).copied().unwrap_or(0))
    }

    /// Something stands where the text was typed, in the input line as it was, which is neither a part of the text nor an
    /// option of a menu: how a program that nobody measured draws a long paste.
    fn is_placeholder(&self, now: &Nearby, key: &MessageTail) -> bool {
        let Some(letters) = &self.letters else {
            return false;
        };
        let Some(new) = now.left.strip_prefix(self.was.left.trim_end()) else {
            return false;
        };
        let marked = !plain(&self.was.left).is_empty();
        let opened = marked || new.trim_start().starts_with(['[', '(', '<', '{']);
        let names =
            new.to_lowercase().contains("past") || new.contains(|c: char| c.is_ascii_digit());
        opened && names && !prompt::is_option(new) && !letters.contains(&key.letters_of(new))
    }
}

/// The first word of an input line that is its sign, such as `ask>`.
fn sign_of(left: &str) -> Option<String> {
    let word = left.split_whitespace().next()?;
    let letters = word.chars().any(char::is_alphanumeric);
    let is_sign = letters && word.ends_with(SIGN_ENDS) && word.chars().count() <= SIGN;
    (is_sign && left.starts_with(word)).then(|| word.to_owned())
}

/// The rows without the sign that they begin with.
fn without(sign: Option<&str>, mut rows: Nearby) -> Nearby {
    let Some(sign) = sign else {
        return rows;
    };
    for row in rows.rows.iter_mut().chain([&mut rows.left]) {
        if row.starts_with(sign) {
            row.drain(..sign.len());
        }
    }
    rows
}

/// In how many rows above the cursor's a message's end may stand.
fn rows_above(key: &MessageTail) -> u16 {
    if key.is_sparse() { u16::MAX } else { ABOVE }
}

/// How often the message's end stands near the cursor, and how many rows from it the nearest ends.
fn copies(nearby: &Nearby, key: &MessageTail) -> (usize, Option<usize>) {
    let ends = key.ends_in(&nearby.rows);
    let distance = |row: &usize| row.abs_diff(nearby.cursor_row);
    (ends.len(), ends.iter().map(distance).min())
}

/// `[Pasted text #1 +40 lines]`, `[paste #1 3089 chars]`, …: how composers draw a long paste.
pub fn placeholders(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (at, _) in text.match_indices('[') {
        let name = text[at..].split_inclusive([']', '\n']).next().unwrap_or("");
        let begin: String = name.chars().take(NAMED_WITHIN).collect();
        if begin.to_lowercase().contains("past") {
            *found.entry(name.to_owned()).or_default() += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests;
