//! Did it arrive? Finding a message again on the screen or in the output, and how often to look whether the program has
//! read its terminal. Comparisons go by letters and digits only: wrapping, tabs and widths differ from program to
//! program, and a strict comparison leaves drafts stuck (injection, rule 6). Decides nothing about when to press Enter.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::agent::stream::Pieces;
use crate::screen::Screen;
use crate::time::Mono;

/// Letters of a message's end that are looked for anywhere near the cursor. With a short message this includes the
/// message's number, so that two like ones are told apart.
const KEY: usize = 32;
/// Composers draw what is shorter in full, and longer ones, of this many characters or more than a few lines, as placeholders
/// (injection, "The CLIs").
const SHORT: usize = 400;
/// And so many lines.
const LINES: usize = 3;
/// Letters that must end at the cursor.
const TAIL: usize = 12;
/// Rows above the cursor in which a wrapped tail may begin.
const ABOVE: u16 = 6;

/// Which characters are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letters {
    Ascii,
    Words,
    Marks,
}

impl Letters {
    fn keep(self, c: char) -> bool {
        match self {
            Letters::Ascii => c.is_ascii_alphanumeric(),
            Letters::Words => c.is_alphanumeric(),
            Letters::Marks => !c.is_whitespace() && !c.is_control(),
        }
    }
}

/// The end of a message, as it is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    letters: Letters,
    text: String,
}

impl Key {
    /// `None` for a message of blanks.
    pub fn of(message: &str) -> Option<Self> {
        let enough = |letters: Letters, least: usize| {
            let mut text: Vec<char> = message
                .chars()
                .rev()
                .filter(|c| letters.keep(*c))
                .take(KEY)
                .collect();
            text.reverse();
            (text.len() >= least).then(|| Self {
                letters,
                text: text.into_iter().collect(),
            })
        };
        enough(Letters::Ascii, 4)
            .or_else(|| enough(Letters::Words, 2))
            .or_else(|| enough(Letters::Marks, 1))
    }

    fn letters_of(&self, text: &str) -> String {
        text.chars().filter(|c| self.letters.keep(*c)).collect()
    }

    fn count(&self, text: &str) -> usize {
        self.letters_of(text).matches(&self.text).count()
    }

    /// Whether the text ends as the message does.
    pub fn ends(&self, text: &str) -> bool {
        self.letters_of(text).ends_with(self.tail())
    }

    fn tail(&self) -> &str {
        let skip = self.text.chars().count().saturating_sub(TAIL);
        let from = self.text.char_indices().nth(skip).map_or(0, |(at, _)| at);
        &self.text[from..]
    }

    /// Whether the text ends exactly where the cursor is, and whether it ends on its row: some composers park the cursor.
    /// A row without letters is not a draft's last one.
    fn place(&self, screen: &Screen) -> Place {
        let above = screen.text_before_cursor(ABOVE);
        let part = screen.text_before_cursor(0);
        let row = screen.text_around_cursor(0, 0);
        let before = above.strip_suffix(&part).unwrap_or(&above);
        let ends = |last: &str| {
            !self.letters_of(last).is_empty()
                && self
                    .letters_of(&[before, last].concat())
                    .ends_with(self.tail())
        };
        Place {
            at_cursor: ends(&part),
            on_row: ends(&row),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    at_cursor: bool,
    on_row: bool,
}

/// What the screen showed before the message was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    place: Place,
    around: usize,
    placeholders: BTreeMap<String, usize>,
}

/// Where a message is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drawn {
    /// Nowhere near the cursor: something else has the focus.
    No,
    /// Near the cursor.
    Near,
    /// On the cursor's row, as its text or a placeholder: a draft with the cursor elsewhere.
    Row,
    /// It ends at the cursor: it is the draft.
    Cursor,
}

impl Before {
    /// Remembers how it was.
    pub fn of(screen: &Screen, key: &Key) -> Self {
        let around = screen.text_around_cursor(ABOVE, ABOVE);
        Self {
            place: key.place(screen),
            around: key.count(&around),
            placeholders: placeholders(&around),
        }
    }

    /// Whether the message is drawn now, and was not before.
    pub fn compare(&self, screen: &Screen, key: &Key) -> Drawn {
        let place = key.place(screen);
        if place.at_cursor && !self.place.at_cursor {
            return Drawn::Cursor;
        }
        if place.on_row && !self.place.on_row
            || self.new_placeholder(&screen.text_around_cursor(1, 0))
        {
            return Drawn::Row;
        }
        let around = screen.text_around_cursor(ABOVE, ABOVE);
        if key.count(&around) > self.around || self.new_placeholder(&around) {
            return Drawn::Near;
        }
        Drawn::No
    }

    fn new_placeholder(&self, text: &str) -> bool {
        placeholders(text)
            .iter()
            .any(|(name, count)| *count > self.placeholders.get(name).copied().unwrap_or(0))
    }
}

/// Whether a composer may draw the text as a placeholder.
pub fn is_long(text: &str) -> bool {
    text.len() > SHORT || text.matches('\n').count() >= LINES
}

/// `[Pasted text #1 +40 lines]`, `[Pasted Content 3073 chars]`, …: how composers draw a long paste.
fn placeholders(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (at, _) in text.match_indices("[Pasted") {
        let name = &text[at..];
        let name = name.split_inclusive([']', '\n']).next().unwrap_or(name);
        *found.entry(name.to_owned()).or_default() += 1;
    }
    found
}

/// Listens for the message in the program's output.
#[derive(Debug)]
pub struct Echo {
    key: Key,
    pieces: Pieces,
    escape: Escape,
    recent: VecDeque<char>,
    heard: bool,
}

/// Where in an escape sequence the output stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Out,
    Begun,
    Csi,
    Text,
}

impl Echo {
    /// From now on.
    pub fn new(key: Key) -> Self {
        Self {
            recent: VecDeque::with_capacity(key.text.len()),
            key,
            pieces: Pieces::default(),
            escape: Escape::Out,
            heard: false,
        }
    }

    /// Whether the end of the message was shown.
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// Forgets what was heard, and the half of an escape sequence that may have been its end.
    pub fn start_over(&mut self) {
        self.recent.clear();
        self.pieces = Pieces::default();
        self.escape = Escape::Out;
        self.heard = false;
    }

    /// Output came.
    pub fn saw(&mut self, bytes: &[u8]) {
        if self.heard {
            return;
        }
        let wanted = self.key.text.chars().count();
        for c in self.pieces.push(bytes).chars() {
            self.escape = match (self.escape, c) {
                (_, '\x1b') => Escape::Begun,
                (Escape::Begun, '[') => Escape::Csi,
                (Escape::Begun, ']' | 'P' | '_' | '^') => Escape::Text,
                (Escape::Begun, ' '..='/') => Escape::Begun,
                (Escape::Csi, '@'..='~') | (Escape::Text, '\x07') | (Escape::Begun, _) => {
                    Escape::Out
                }
                (Escape::Out, c) => {
                    if self.key.letters.keep(c) {
                        if self.recent.len() == wanted {
                            self.recent.pop_front();
                        }
                        self.recent.push_back(c);
                        if self.recent.len() == wanted
                            && self.recent.iter().copied().eq(self.key.text.chars())
                        {
                            self.heard = true;
                            return;
                        }
                    }
                    Escape::Out
                }
                (inside, _) => inside,
            };
        }
    }
}

/// When to look again whether the program has read its terminal: at once at first, seldom later. No event tells it.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    began: Mono,
    step: Duration,
    at: Mono,
}

/// Beyond this a program that does not read is busy with something long.
const PATIENT: Duration = Duration::from_secs(20);
/// A program that reads at all mostly does within this.
const EAGER: Duration = Duration::from_secs(2);

impl Looks {
    /// Begins at the moment the bytes are in the terminal.
    pub fn new(now: Mono) -> Self {
        let step = Duration::from_micros(100);
        Self {
            began: now,
            step,
            at: now + step,
        }
    }

    /// The next one. A look that another event caused in between does not slow the rhythm.
    pub fn next(&mut self, now: Mono) -> Mono {
        if now >= self.at {
            // Output makes us look at once; a program that neither reads nor shows anything can wait for seconds.
            let most = match now.since(self.began) {
                waited if waited < EAGER => 20,
                waited if waited < PATIENT => 250,
                _ => 5000,
            };
            self.step = (self.step * 2).min(Duration::from_millis(most));
            self.at = now + self.step;
        }
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::Size;

    fn screen(text: &str) -> Screen {
        let mut screen = Screen::new(Size { rows: 12, cols: 30 });
        screen.feed(text.as_bytes());
        screen
    }

    fn seen(before: &str, after: &str, message: &str) -> Drawn {
        let key = Key::of(message).expect("letters");
        let was = Before::of(&screen(before), &key);
        was.compare(&screen(after), &key)
    }

    const MESSAGE: &str = "Relay message from bob [ws / evt_42]: please look, now!";

    #[test]
    fn a_draft_is_found_however_it_is_wrapped() {
        let prompt = "welcome\r\n> ";
        assert_eq!(seen(prompt, prompt, MESSAGE), Drawn::No);
        assert_eq!(
            seen(prompt, &format!("{prompt}{MESSAGE}"), MESSAGE),
            Drawn::Cursor
        );
        let boxed = "╭────╮\r\n│ > Relay message from bob │\r\n│   [ws / evt_42]: please  │\r\n│   look, now! │\x1b[4;16H";
        assert_eq!(seen(prompt, boxed, MESSAGE), Drawn::Cursor);
        let cursor_parked = format!("{boxed}\x1b[4;2H");
        assert_eq!(seen(prompt, &cursor_parked, MESSAGE), Drawn::Row);
    }

    #[test]
    fn a_placeholder_counts_only_if_it_is_new() {
        let old = "[Pasted text #1 +40 lines]\r\n> ";
        assert_eq!(seen(old, old, MESSAGE), Drawn::No);
        assert_eq!(
            seen(old, &format!("{old}[Pasted text #2 +40 lines]"), MESSAGE),
            Drawn::Row
        );
        assert_eq!(
            seen(old, &format!("{old}[Pasted text #1 +40 lines]"), MESSAGE),
            Drawn::Row
        );
    }

    #[test]
    fn an_earlier_message_with_the_same_words_is_not_taken_for_the_draft() {
        let transcript =
            format!("{MESSAGE}\r\n\r\nDo you want to proceed?\r\n> 1. Yes\r\n  2. No\x1b[5;3H");
        assert_eq!(seen(&transcript, &transcript, MESSAGE), Drawn::No);
    }

    #[test]
    fn a_submitted_message_in_the_transcript_is_no_longer_the_draft() {
        let after = format!("> {MESSAGE}\r\n\r\n─────\r\n> ");
        assert_eq!(seen("> ", &after, MESSAGE), Drawn::Near);
    }

    #[test]
    fn messages_without_latin_letters_are_found_too() {
        assert_eq!(seen("> ", "> 你好，世界", "你好，世界"), Drawn::Cursor);
        assert_eq!(seen("> ", "> 🦀🦀", "🦀🦀"), Drawn::Cursor);
        assert_eq!(Key::of(" \t\n"), None);
    }

    #[test]
    fn an_echo_is_heard_through_colours_and_cuts() {
        let mut echo = Echo::new(Key::of("hello world 42").expect("letters"));
        for piece in [
            "\x1b]0;title hello\x07hel\x1b[3",
            "1mlo wo",
            "\x1b[Krld",
            "\r\n 4",
        ] {
            echo.saw(piece.as_bytes());
            assert!(!echo.heard());
        }
        echo.saw(b"2");
        assert!(echo.heard());
    }

    #[test]
    fn looks_start_eager_and_become_rare_and_extra_ones_cost_nothing() {
        let mut now = Mono(1);
        let mut looks = Looks::new(now);
        let first = looks.next(now);
        assert_eq!(first.since(now), Duration::from_micros(100));
        assert_eq!(looks.next(now), first);
        let mut count = 0;
        while now.since(Mono(1)) < EAGER {
            now = looks.next(now);
            count += 1;
        }
        assert!(count < 130, "{count} looks in two seconds");
        for _ in 0..5 {
            now = looks.next(now);
        }
        assert_eq!(looks.next(now).since(now), Duration::from_millis(250));
    }
}
