//! A message whose Enter was pressed, and whether it has landed.

use std::time::Duration;

use super::Draft;
use crate::agent::drawn::{Before, Drawn};
use crate::agent::inject::Frame;
use crate::agent::prompt::{self, Focus, Prompt};
use crate::agent::tty_state::TtyState;
use crate::agent::verify::Looks;
use crate::domain::Proof;
use crate::screen::Screen;
use crate::time::Mono;

/// A program that waits for a line takes it within this.
const TAKEN_WITHIN: Duration = Duration::from_millis(5);
/// How long an answer on the screen is waited for once everything is read.
const SHOWN_WITHIN: Duration = Duration::from_millis(250);
/// How long anything is waited for where reading cannot be observed.
const WINDOW: Duration = Duration::from_secs(5);
/// A draft must stay away this long to be gone: composers erase before they redraw.
const GONE: Duration = Duration::from_millis(50);
/// Where something else than the empty input line has the keyboard after Enter, it must stay away this long: a picture
/// may be half drawn, and some composers take an Enter for a line's end.
const STAYS_AWAY: Duration = Duration::from_millis(600);
/// How long a program's own proof is waited for once the text is gone: they come within 100 ms
/// ([injection 5](crate::docs::injection#5)).
const HOPE: Duration = Duration::from_millis(200);
/// How often a program's history is looked into.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// And until when, from Enter.
const ASK_UNTIL: Duration = Duration::from_secs(2);
/// While the draft still stands in the input line, Enter was swallowed: when to press it again
/// ([injection 1.8](crate::docs::injection#1.8)).
const AGAIN: [Duration; 4] = [
    Duration::from_millis(600),
    Duration::from_millis(800),
    Duration::from_millis(1200),
    Duration::from_millis(2000),
];

/// A program that has drawn nothing since Enter has not shown what it makes of it, and may just have no time: to some another
/// Enter is the same message once more. So long it is waited for.
const DRAWS_WITHIN: Duration = Duration::from_secs(3);
/// And between its first drawing and another Enter, because a picture may come in pieces.
const PIECES: Duration = Duration::from_millis(250);

/// A message whose Enter was pressed.
#[derive(Debug)]
pub struct Check {
    pub draft: Box<Draft>,
    frame: Frame,
    /// Enter is in the terminal when so many bytes are written.
    pub mark: u64,
    queued_at: Mono,
    pub entered_at: Option<Mono>,
    /// How often Enter was pressed.
    pub presses: usize,
    /// Line mode with ECHO: the kernel shows the text whether or not anybody reads it.
    pub kernel_echo: bool,
    /// Where the text stood when Enter was pressed, and how it was before that.
    pub stood: Option<(Drawn, Before)>,
    /// The program itself has shown that it took a text.
    pub proven: Option<Proof>,
    /// The program has begun to work since Enter, and how that is known.
    pub turn: Option<Proof>,
    /// The turn that ran when Enter was pressed, if one did.
    pub during: Option<u64>,
    /// When the program's history was last looked into.
    pub asked_at: Option<Mono>,
    read_at: Option<Mono>,
    gone_at: Option<Mono>,
    /// When the program drew for the first time since Enter.
    drew_at: Option<Mono>,
    /// It was seen to lie in the terminal a while after Enter, so nobody had waited for it.
    lay: bool,
    /// It is one line, which is read as a whole or not at all.
    pub whole: bool,
    /// Line mode: how the screen was before the text was typed.
    pub over: Option<Before>,
    /// The program left line mode before it had read: whether it kept or discarded what waited cannot be known.
    switched: bool,
    /// Nothing has landed in this program yet, so that nobody knows whether it shows what it reads.
    pub first: bool,
    stalled: bool,
    /// It was said that the program does not read.
    told_unread: bool,
    /// The screen said that the program works when Enter was pressed.
    pub shown_work: bool,
    /// Enter was pressed because the owner said so, on a text that was not seen.
    pub blind: bool,
    looks: Looks,
}

/// Whether it has landed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judged {
    pub landed: Option<(Proof, Option<String>)>,
    pub press_again: bool,
    pub wake: Option<Mono>,
    pub stall: Option<String>,
}

impl Judged {
    fn wait(at: Mono) -> Self {
        Self {
            wake: Some(at),
            ..Self::default()
        }
    }

    fn landed(proof: Proof) -> Self {
        Self {
            landed: Some((proof, None)),
            ..Self::default()
        }
    }

    fn unproven(why: &str) -> Self {
        Self {
            landed: Some((Proof::None, Some(why.to_owned()))),
            ..Self::default()
        }
    }
}

impl Check {
    /// With Enter queued, but not yet in the terminal.
    pub fn new(mut draft: Box<Draft>, frame: Frame, mark: u64, now: Mono) -> Self {
        draft.wake = Some(now + WINDOW);
        Self {
            draft,
            frame,
            mark,
            queued_at: now,
            entered_at: None,
            presses: 1,
            kernel_echo: false,
            stood: None,
            proven: None,
            turn: None,
            during: None,
            asked_at: None,
            read_at: None,
            gone_at: None,
            drew_at: None,
            lay: false,
            whole: false,
            over: None,
            switched: false,
            first: false,
            stalled: false,
            told_unread: false,
            shown_work: false,
            blind: false,
            looks: Looks::new(now),
        }
    }

    /// Another Enter is queued, but not yet in the terminal.
    pub fn again(&mut self, now: Mono, mark: u64) {
        self.mark = mark;
        self.queued_at = now;
        self.entered_at = None;
        self.presses += 1;
        self.draft.wake = Some(now + WINDOW);
    }

    /// The terminal was emptied: whether that took all of the message, unread. A program that had waited for the text would
    /// have taken it before.
    pub fn is_thrown_away(&self) -> bool {
        self.frame == Frame::Lines && self.whole && self.lay && self.read_at.is_none()
    }

    /// Enter is not in the terminal, because it is full of what the program has not read.
    pub fn waits(&mut self, now: Mono) -> Judged {
        match self.queued_at + WINDOW {
            at if now < at => Judged::wait(at),
            _ => Judged {
                stall: self.report_unread(),
                ..Judged::default()
            },
        }
    }

    /// What is said of a program that does not read; once.
    fn report_unread(&mut self) -> Option<String> {
        (!std::mem::replace(&mut self.told_unread, true))
            .then(|| "typed, and the program has not read its terminal yet".to_owned())
    }

    /// Whether it was reported that the message does not go on.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Enter is in the terminal.
    pub fn entered(&mut self, now: Mono) {
        self.entered_at = Some(now);
        self.drew_at = None;
        self.draft.wake = None;
        self.looks = Looks::new(now);
        if self.presses > 1 {
            self.read_at = None;
        }
    }

    /// The program drew something, at this time the last.
    pub fn drew(&mut self, last: Mono) {
        if self.entered_at.is_some_and(|at| last >= at) {
            self.drew_at.get_or_insert(last);
        }
    }

    /// Whether to look into the program's history now.
    pub fn asks(&mut self, now: Mono) -> bool {
        let early = self.entered_at.is_none_or(|at| now < at + ASK_UNTIL);
        let due = early && self.asked_at.is_none_or(|at| now >= at + ASK_AGAIN);
        if due {
            self.asked_at = Some(now);
        }
        due
    }

    /// When to look into it next; `None` once that has been in vain for long, however late this is asked.
    pub fn asks_at(&self, now: Mono) -> Option<Mono> {
        let until = self.entered_at? + ASK_UNTIL;
        let at = self.asked_at? + ASK_AGAIN;
        (at < until && now < until).then_some(at)
    }

    /// `facts` must be newer than Enter. With `hope` a proof of the program's own is waited for.
    pub fn judge(
        &mut self,
        now: Mono,
        facts: TtyState,
        screen: &Screen,
        prompt: Option<Prompt>,
        hope: bool,
    ) -> Judged {
        let entered_at = self.entered_at.unwrap_or(now);
        if self.frame == Frame::Lines
            && !facts.line_mode
            && self.read_at.is_none()
            && !self.switched
        {
            self.switched = true;
            self.draft.echo.start_over();
        }
        // What comes after the message, such as a person's keys, may be unread again; the message was read once.
        if facts.unread == Some(false) {
            self.read_at.get_or_insert(now);
        }
        if facts.unread.is_some() && self.read_at.is_none() {
            self.lay |= now >= entered_at + TAKEN_WITHIN;
            let late = now >= entered_at + WINDOW;
            let mut judged = Judged::wait(self.looks.next(now));
            if late {
                judged.stall = self.report_unread();
            }
            return judged;
        }
        if self.switched {
            self.finds_draft(now, screen);
        }
        let entered_at = self.entered_at.unwrap_or(now);
        let seen = matches!(self.stood, Some((drawn, _)) if drawn >= Drawn::Filled);
        if seen || (prompt.is_some() && self.frame == Frame::Paste) {
            return self.draft_gone(now, entered_at, screen, prompt, hope);
        }
        let since = self.read_at.unwrap_or(entered_at);
        if self.switched {
            return match (self.draft.echo.heard(), now >= since + WINDOW) {
                (true, _) => Judged::landed(Proof::Echo),
                (false, false) => Judged::wait(since + WINDOW),
                (false, true) => Judged::unproven(
                    "the program left line mode before it read the text, and may have discarded it",
                ),
            };
        }
        if self.read_at.is_none() {
            return self.unobserved(now, entered_at);
        }
        match self.frame == Frame::Paste || self.draft.echo.heard() {
            true => Judged::landed(Proof::Echo),
            false if now < since + self.shown_within() => Judged::wait(since + self.shown_within()),
            // It may have shown something else, but any program that moves does.
            false => Judged::landed(Proof::Read),
        }
    }

    /// A program with a composer, which came up over what lay in its terminal, may take the text for a draft, and the line's
    /// end for a key that it swallows or a second row: being shown is no proof then. If the text stands in its input line, it
    /// counts as a draft that got its Enter just now. The kernel's own echo looks like one that has just filled its row.
    fn finds_draft(&mut self, now: Mono, screen: &Screen) {
        let Some(before) = self
            .over
            .as_ref()
            .filter(|_| screen.modes().bracketed_paste)
        else {
            return;
        };
        let drawn = before.compare(screen, &self.draft.key);
        if drawn >= Drawn::Row || drawn == Drawn::Filled && self.draft.echo.heard() {
            // Its end may move from the cursor to the row above.
            self.stood = self.over.take().map(|before| (Drawn::Filled, before));
            self.entered_at = Some(now);
            self.drew_at = Some(now);
        }
    }

    /// How long an answer on the screen is waited for. A program that reads single keys and shows nothing of the first
    /// message may be about to set up its composer, and have thrown away what it read.
    fn shown_within(&self) -> Duration {
        match self.first && self.frame == Frame::Plain {
            true => WINDOW,
            false => SHOWN_WITHIN,
        }
    }

    /// Nobody can say whether the program has read: only what it shows counts, and the kernel's own echo does not.
    fn unobserved(&self, now: Mono, entered_at: Mono) -> Judged {
        match self.frame == Frame::Paste || self.draft.echo.heard() {
            true if !self.kernel_echo => Judged::landed(Proof::Echo),
            _ if now < entered_at + WINDOW => Judged::wait(entered_at + WINDOW),
            _ => Judged::unproven("nothing was seen within 5s"),
        }
    }

    /// The program may yet say that it took the text. A dialog that came up at Enter may have taken the key instead, so while
    /// one stands only such a word counts.
    fn hopes(&mut self, now: Mono, gone_at: Mono, sure: Mono, focus: Focus) -> Judged {
        let sure = sure.max(gone_at + HOPE);
        match focus {
            _ if now < sure => Judged::wait(sure),
            Focus::Away => Judged {
                stall: (!std::mem::replace(&mut self.stalled, true)).then(|| {
                    "something else has the keyboard since Enter, and may have taken it".to_owned()
                }),
                ..Judged::default()
            },
            _ => Judged::landed(Proof::Screen),
        }
    }

    /// Whether the text is still in the input line. What an empty one shows is no text, whatever words it has.
    pub fn stands(&self, screen: &Screen, prompt: Option<Prompt>, focus: Focus) -> bool {
        let key = &self.draft.key;
        let Some((place, before)) = &self.stood else {
            return false;
        };
        if *place >= Drawn::Filled && before.compare(screen, key) >= *place {
            return true;
        }
        let in_line = match focus {
            Focus::Draft => true,
            Focus::Home => *place < Drawn::Cursor,
            Focus::Empty | Focus::Away | Focus::Unknown => false,
        };
        let words = prompt.and_then(|prompt| prompt::standing(screen, prompt));
        in_line && !before.is_row(screen) && words.is_some_and(|words| key.ends(&words))
    }

    /// The draft stood in the input line: it is submitted once it is gone from there.
    fn draft_gone(
        &mut self,
        now: Mono,
        entered_at: Mono,
        screen: &Screen,
        prompt: Option<Prompt>,
        hope: bool,
    ) -> Judged {
        let focus = prompt::focus(screen, prompt);
        if !self.stands(screen, prompt, focus) {
            let gone_at = *self.gone_at.get_or_insert(now);
            let sure = match focus {
                Focus::Empty | Focus::Home | Focus::Unknown => gone_at + GONE,
                Focus::Draft | Focus::Away => gone_at + STAYS_AWAY,
            };
            // Programs that share a home write into one history, so the picture must have settled as well.
            return match self.proven {
                Some(proof) if now >= sure => Judged::landed(proof),
                Some(_) => Judged::wait(sure),
                None if hope => self.hopes(now, gone_at, sure, focus),
                None if now >= sure => Judged::landed(Proof::Screen),
                None => Judged::wait(sure),
            };
        }
        self.gone_at = None;
        match AGAIN.get(self.presses - 1) {
            Some(gap) => {
                let shown = self
                    .drew_at
                    .map_or(entered_at + DRAWS_WITHIN, |at| at + PIECES);
                match shown.max(entered_at + *gap) {
                    at if now < at => Judged::wait(at),
                    _ => Judged {
                        press_again: true,
                        ..Judged::default()
                    },
                }
            }
            None => Judged {
                stall: (!std::mem::replace(&mut self.stalled, true)).then(|| {
                    format!(
                        "the text still stands in the input line after {} presses of Enter",
                        self.presses
                    )
                }),
                ..Judged::default()
            },
        }
    }
}
