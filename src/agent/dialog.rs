//! Dialogs of agent CLIs. Anything that is not the input line is left alone, whatever it says; here it gets a name, is
//! noticed when it stands, and is answered where the operator's policy says so and the name is sure. What a message says has
//! no part in that: a dialog is known by the last rows of the screen, which the CLI alone draws. Looks and decides; the core
//! writes.

use std::time::Duration;

use crate::agent::known_dialogs::{DialogAnswer, KnownDialog};
use crate::agent::profile::Profile;
use crate::agent::prompt::{self, Focus};
use crate::screen::Screen;
use crate::time::{Mono, soonest};
use crate::wire::event::{Dialog, Policy};

/// A dialog that is not the same for so long may be half drawn.
const SETTLED: Duration = Duration::from_millis(300);
/// What stands this long is told.
const STANDS: Duration = Duration::from_secs(2);
/// Something without a name is a dialog only if it is quiet: a program that goes on drawing is at work.
const QUIET: Duration = Duration::from_secs(1);
/// How many rows from the end a dialog's question is looked for.
const ROWS: usize = 20;

/// A dialog on the screen. Two that look the same are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenDialog {
    pub dialog: Dialog,
    known: Option<&'static KnownDialog>,
    rows: Vec<String>,
}

/// Whether one that is known stands there. Where a CLI hides its cursor in a dialog, the cursor may seem to be in an input
/// line.
pub fn stands(screen: &Screen, profile: &Profile) -> bool {
    let mut known = profile.dialogs.iter();
    known.any(|known| rows_of(known, screen).is_some())
}

/// Looks for one, where something else than the input line has the keyboard. `prompt_known`: the input line was seen before.
pub fn seen(
    screen: &Screen,
    profile: &Profile,
    focus: Focus,
    prompt_known: bool,
) -> Option<SeenDialog> {
    if focus != Focus::Away {
        return None;
    }
    let named = profile.dialogs.iter().find_map(|known| {
        let rows = rows_of(known, screen)?;
        Some(SeenDialog {
            dialog: known.dialog,
            known: Some(known),
            rows,
        })
    });
    // What is printed before the CLI has its terminal is no dialog of its.
    let named = named.filter(|_| screen.modes().bracketed_paste);
    let unknown = || SeenDialog {
        dialog: Dialog::Unknown,
        known: None,
        rows: Vec::new(),
    };
    // One view may go long before the next comes; a dialog has words.
    let shows = !screen.last_lines(1).is_empty();
    let strange = shows && (prompt_known || prompt::is_menu(screen));
    named.or_else(|| strange.then(unknown))
}

impl SeenDialog {
    /// The keys that give the policy's answer; `None` if it says to leave it alone, or nothing is sure.
    pub fn keys(&self, screen: &Screen, policy: Policy) -> Option<Vec<u8>> {
        match (policy, &self.known?.answer) {
            (Policy::Accept, DialogAnswer::Option(words, mark)) => choose(screen, words, *mark),
            (Policy::Deny, DialogAnswer::Escape) => Some(vec![0x1b]),
            (
                Policy::Hold | Policy::Accept | Policy::Deny,
                DialogAnswer::Option(..) | DialogAnswer::Escape,
            ) => None,
        }
    }
}

/// Whether there is an answer to such a dialog.
pub fn can(profile: &Profile, dialog: Dialog) -> bool {
    profile.dialogs.iter().any(|known| known.dialog == dialog)
}

/// The dialog's rows, from its question down.
fn rows_of(known: &KnownDialog, screen: &Screen) -> Option<Vec<String>> {
    let lines = screen.lines();
    let rows: Vec<String> = lines.iter().map(|row| plain(row)).collect();
    let rows: Vec<String> = rows.into_iter().filter(|row| !row.is_empty()).collect();
    let end = rows.len().checked_sub(known.end.len())?;
    let ends = rows[end..].iter().zip(known.end);
    if !ends
        .clone()
        .all(|(row, words)| begins(unnumbered(row), words))
    {
        return None;
    }
    let from = end.saturating_sub(ROWS);
    let above = rows[from..end].iter();
    let at = above
        .rev()
        .position(|row| begins(unnumbered(row), known.above))?;
    Some(rows[end - 1 - at..].to_vec())
}

fn choose(screen: &Screen, words: &str, mark: char) -> Option<Vec<u8>> {
    let lines = screen.lines();
    let mut rows = lines.iter().rev();
    let row = rows.find(|row| begins(unnumbered(&plain(row)), words))?;
    let marked = row.trim_start_matches(|c: char| c.is_whitespace() || is_frame(c));
    if marked.starts_with(mark) {
        return Some(b"\r".to_vec());
    }
    let number = plain(row).bytes().next()?;
    number.is_ascii_digit().then(|| vec![number])
}

/// A row's words, without the frame and the marks before them, one blank between each.
fn plain(row: &str) -> String {
    let row = row.trim_start_matches(|c: char| !c.is_alphanumeric());
    let row = row.trim_end_matches(|c: char| c.is_whitespace() || is_frame(c));
    row.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Box drawing.
fn is_frame(c: char) -> bool {
    ('\u{2500}'..='\u{257f}').contains(&c)
}

fn unnumbered(row: &str) -> &str {
    match row.trim_start_matches(|c: char| c.is_ascii_digit()) {
        rest if rest.len() < row.len() => rest.strip_prefix(". ").unwrap_or(row),
        _ => row,
    }
}

/// With the words, and not in the middle of a longer one.
fn begins(row: &str, words: &str) -> bool {
    row.strip_prefix(words)
        .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

/// Notices dialogs that come, stand and go.
#[derive(Debug, Default)]
pub struct DialogWatch {
    /// When to look.
    pub due: Option<Mono>,
    standing: Option<(SeenDialog, Mono)>,
    /// It was told, and is not gone yet.
    told: Option<Dialog>,
    /// Its answer was given; it is not given twice.
    answered: Option<SeenDialog>,
}

/// What a look showed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DialogNews {
    /// One that was told is gone.
    pub gone: Option<Dialog>,
    /// One stands.
    pub stands: Option<Dialog>,
    /// One is settled and was not answered yet.
    pub settled: Option<SeenDialog>,
}

impl DialogWatch {
    /// The screen changed. Looks do not come closer together than it takes to settle.
    pub fn changed(&mut self, now: Mono) {
        self.again(now);
    }

    /// Its answer was pressed.
    pub fn answered(&mut self, seen: SeenDialog) {
        self.answered = Some(seen);
    }

    /// Whether an answer was pressed and nobody knows yet that its dialog is gone.
    pub fn is_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// The input line was seen, so what stands next is another dialog, however much like the last it looks.
    pub fn prompt_seen(&mut self) {
        self.standing = None;
        self.answered = None;
    }

    /// Looks at what is there once more.
    pub fn again(&mut self, now: Mono) {
        self.due = soonest(self.due, Some(now + SETTLED));
    }

    /// A look.
    pub fn look(
        &mut self,
        now: Mono,
        seen: Option<SeenDialog>,
        last_output: Option<Mono>,
    ) -> DialogNews {
        self.due = None;
        let mut news = DialogNews::default();
        let Some(seen) = seen else {
            news.gone = std::mem::take(self).told;
            return news;
        };
        let since = match self.standing.take() {
            Some((earlier, since)) if earlier == seen => since,
            _ => {
                news.gone = self.told.take();
                now
            }
        };
        let quiet_at = last_output.map_or(since, |at| at + QUIET);
        let told_at = match seen.dialog {
            Dialog::Unknown => quiet_at.max(since + STANDS),
            Dialog::TrustFolder | Dialog::Permission => since + STANDS,
        };
        if self.told.is_none() && now >= told_at {
            self.told = Some(seen.dialog);
            news.stands = self.told;
        }
        if now >= since + SETTLED && self.answered.as_ref() != Some(&seen) {
            news.settled = Some(seen.clone());
        }
        self.due = [since + SETTLED, told_at]
            .into_iter()
            .filter(|at| *at > now)
            .min();
        self.standing = Some((seen, since));
        news
    }
}

#[cfg(test)]
mod tests;
