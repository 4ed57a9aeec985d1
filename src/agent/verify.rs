//! Did it arrive? Finding a message again on the screen or in the output, and how often to look whether the program has
//! read its terminal. Comparisons go by letters and digits only: wrapping, tabs and widths differ from program to
//! program, and a strict comparison leaves drafts stuck ([injection 1.6](crate::docs::injection#1.6)). Decides nothing about
//! when to press Enter.

use std::collections::VecDeque;
use std::time::Duration;

use unicode_width::UnicodeWidthChar;

use crate::screen::first_parts;
use crate::screen::utf8::Pieces;
use crate::time::Mono;

/// Letters of a message's end that are looked for anywhere near the cursor. With a short message this includes the
/// message's number, so that two like ones are told apart.
const KEY: usize = 32;
/// Composers draw what is shorter in full, and longer ones, of this many characters or more than a few lines, as placeholders
/// ([injection 6](crate::docs::injection#6)).
const SHORT: usize = 400;
/// And so many lines.
const LINES: usize = 3;
/// What boxes have at their sides.
const SIDES: [char; 4] = ['|', '│', '┃', '║'];
/// Letters that must end at the cursor.
const TAIL: usize = 12;
/// Cells within which they must stand: what the rows above the cursor hold in the narrowest terminal that is typed into.
const REACH: usize = 200;
/// A line's end may take so many.
const LINE: usize = 40;

/// Which characters are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letters {
    Ascii,
    Words,
    Marks,
    /// Frames and drawings of controls among them.
    All,
}

impl Letters {
    fn keep(self, c: char) -> bool {
        match self {
            Letters::Ascii => c.is_ascii_alphanumeric(),
            Letters::Words => c.is_alphanumeric(),
            Letters::Marks | Letters::All => !c.is_whitespace() && !c.is_control(),
        }
    }

    /// Fewer of them tell nothing.
    fn least(self) -> usize {
        match self {
            Letters::Ascii => 4,
            Letters::Words => 2,
            Letters::Marks | Letters::All => 1,
        }
    }

    /// What a text may be compared by.
    fn seen(self, text: &str) -> String {
        match self {
            Letters::All => with_frames(text),
            _ => plain(text),
        }
    }

    /// The last of a text that are looked for.
    fn last_of(self, text: &str) -> String {
        let kept = text.chars().rev().filter(|c| self.keep(*c));
        let mut last: Vec<char> = kept.take(KEY).collect();
        last.reverse();
        last.into_iter().collect()
    }

    /// Whether those that must end at the cursor are near it when the text stands there.
    fn are_near(self, text: &str) -> bool {
        let near = within_reach(text);
        near.len() == text.len() || self.last_of(&self.seen(near)).chars().count() >= TAIL
    }
}

/// What of a text's end stands near the cursor, however narrow the terminal is.
fn within_reach(text: &str) -> &str {
    let mut cells = 0;
    let far = text.char_indices().rev().find(|(_, c)| {
        cells += match c {
            '\n' => LINE,
            c => c.width().unwrap_or(1),
        };
        cells > REACH
    });
    far.map_or(text, |(at, c)| &text[at + c.len_utf8()..])
}

/// The end of a message, as it is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTail {
    letters: Letters,
    /// Its letters are so far apart that they may be anywhere above the cursor.
    sparse: bool,
    /// As a screen shows it.
    text: String,
    /// As it is echoed.
    echoed: String,
    /// With all that is no letter.
    marks: String,
    /// And with frames.
    all: String,
}

impl MessageTail {
    /// `None` for a message of blanks. A message goes by the plainest letters that stand near its end: what a sender puts
    /// behind them may fill the whole screen.
    pub fn of(message: &str) -> Option<Self> {
        use Letters::{All, Ascii, Marks, Words};
        let of = |letters: Letters| {
            let text = letters.last_of(&letters.seen(message));
            (text.chars().count() >= letters.least()).then(|| Self {
                letters,
                sparse: false,
                text,
                echoed: letters.last_of(message),
                marks: Marks.last_of(&plain(message)),
                all: All.last_of(&with_frames(message)),
            })
        };
        let mut near = [Ascii, Words, Marks, All].into_iter();
        let near = near.find_map(|letters| of(letters).filter(|_| letters.are_near(message)));
        near.or_else(|| {
            let shown = plain(message).chars().last() == with_frames(message).chars().last();
            let key = of(if shown { Marks } else { All })?;
            Some(Self {
                sparse: true,
                ..key
            })
        })
    }

    /// Whether the message's end may be spread over the whole screen.
    pub fn is_sparse(&self) -> bool {
        self.sparse
    }

    /// The letters that are compared.
    pub fn letters_of(&self, text: &str) -> String {
        let keep = |c: &char| self.letters.keep(*c);
        self.letters.seen(text).chars().filter(keep).collect()
    }

    /// Whether the text ends as the message does. Of a message whose letters are far apart, the text may be all that there is
    /// room for.
    pub fn ends(&self, text: &str) -> bool {
        let letters = self.letters_of(text);
        letters.ends_with(self.tail())
            || self.sparse && !letters.is_empty() && self.tail().ends_with(&letters)
    }

    /// Whether the message ends with `last`, its begin being in the rows above. Where a row has no letters, its marks count.
    pub fn ends_rows(&self, above: &[String], last: &str) -> bool {
        let shows_end = !self.letters_of(last).is_empty() || self.ends_in_marks(last);
        shows_end && self.ends(&[&above.concat(), last].concat())
    }

    /// Whether a row shows the marks at the message's end. Which of them belong to a border at its side is not known.
    fn ends_in_marks(&self, row: &str) -> bool {
        let is_end = |marks: &str, row: &str| {
            !row.is_empty() && (marks.ends_with(row) || row.ends_with(marks))
        };
        let (plain, all) = (plain(row), with_frames(row));
        is_end(&self.marks, &plain)
            || is_end(&self.marks, plain.trim_start_matches('|'))
            || is_end(&self.all, &all)
            || all
                .strip_prefix(SIDES)
                .is_some_and(|row| is_end(&self.all, row))
    }

    /// The rows in which the message's end ends, as often as it does.
    pub fn ends_in(&self, rows: &[String]) -> Vec<usize> {
        let letters: Vec<usize> = rows.iter().map(|row| self.letters_of(row).len()).collect();
        let row_of = |end: usize| {
            let mut sum = 0;
            let reaches = |len: &usize| {
                sum += len;
                sum >= end
            };
            letters.iter().position(reaches).unwrap_or_default()
        };
        let all = self.letters_of(&rows.concat());
        // Also where one begins within another, as in a text of one phrase over and over: which of them stand apart from
        // each other depends on the row that is the first, and a text that nobody changed must not seem to move.
        let starts = all.char_indices().map(|(at, _)| at);
        let found = starts.filter(|at| all[*at..].starts_with(&self.text));
        found.map(|at| row_of(at + self.text.len())).collect()
    }

    fn tail(&self) -> &str {
        let skip = self.text.chars().count().saturating_sub(TAIL);
        let from = self.text.char_indices().nth(skip).map_or(0, |(at, _)| at);
        &self.text[from..]
    }
}

/// What of a text is seen whoever draws it: without blanks, frames and invisible characters, and without what some programs
/// draw for controls, such as `^I` or `<200d>`. A message that has such drawings in it loses them as well, so both sides are
/// alike.
pub fn plain(text: &str) -> String {
    let seen: Vec<char> = shown(text, |c| !is_frame(c)).chars().collect();
    let mut plain = String::with_capacity(seen.len());
    let mut rest = &seen[..];
    while let [first, more @ ..] = rest {
        rest = match drawing(rest) {
            0 => {
                plain.push(*first);
                more
            }
            length => &rest[length..],
        };
    }
    plain
}

/// As [`plain`], with frames and what may be the drawing of a control: a message may have nothing else.
fn with_frames(text: &str) -> String {
    shown(text, |_| true)
}

/// What of a text is seen, of joined pictures the first part, in whichever rows they stand. A cell of the screen has room for
/// a few accents only, so those of no width do not count.
fn shown(text: &str, counts: impl Fn(char) -> bool) -> String {
    let blank = |c: char| c.is_whitespace() || c.is_control();
    let words: String = text.chars().filter(|c| !blank(*c) && counts(*c)).collect();
    let words = first_parts(&words);
    words
        .chars()
        .filter(|c| is_frame(*c) || c.width() != Some(0))
        .collect()
}

/// Whether it is drawn as a part of a box.
pub fn is_frame(c: char) -> bool {
    ('\u{2500}'..='\u{257f}').contains(&c)
}

/// The length of the drawing of a control that the text begins with.
fn drawing(text: &[char]) -> usize {
    match text {
        ['^', '@'..='_' | '?', ..] => 2,
        ['<', rest @ ..] => {
            let digits = rest.iter().take_while(|c| c.is_ascii_hexdigit()).count();
            let closed = (2..=6).contains(&digits) && rest.get(digits) == Some(&'>');
            if closed { digits + 2 } else { 0 }
        }
        _ => 0,
    }
}

/// Whether a composer may draw the text as a placeholder.
pub fn is_long(text: &str) -> bool {
    text.len() > SHORT || text.matches('\n').count() >= LINES
}

/// Listens for the message in the program's output.
#[derive(Debug)]
pub struct Echo {
    key: MessageTail,
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
    pub fn new(key: MessageTail) -> Self {
        Self {
            recent: VecDeque::with_capacity(key.echoed.len()),
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
        let wanted = self.key.echoed.chars().count();
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
                            && self.recent.iter().copied().eq(self.key.echoed.chars())
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
    #[test]
    fn an_echo_is_heard_through_colours_and_cuts() {
        let mut echo = Echo::new(MessageTail::of("hello world 42").expect("letters"));
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
