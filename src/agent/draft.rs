//! One message on its way: as a draft in the terminal until Enter may be pressed, then as a question until it has
//! landed ([`check`]). Judges from what is known and says when to look again; writes nothing itself.

use std::time::Duration;

use crate::agent::drawn::{ABOVE, Before, Drawn};
use crate::agent::gate::Gate;
use crate::agent::inject::Frame;
use crate::agent::interrupt::Interrupt;
use crate::agent::profile::Profile;
use crate::agent::prompt::Focus;
use crate::agent::proof::MessageHead;
use crate::agent::tty_state::TtyState;
use crate::agent::verify::{Echo, Looks, MessageTail};
use crate::ids::DeliveryId;
use crate::screen::{Nearby, Screen};
use crate::time::Mono;

pub mod check;

/// A text that is not drawn (or not even read) by then is reported.
pub const DRAWN_WITHIN: Duration = Duration::from_secs(2);
/// What is said then if it is not read.
const UNREAD: &str = "the program has not read the text";
/// Silence that shows that a composer has finished drawing the text.
const QUIET: Duration = Duration::from_millis(60);
/// A program that never falls silent gets its Enter this long after the text was drawn.
const RESTLESS: Duration = Duration::from_secs(1);
/// And one whose ways are known, which moves something while it works, sooner.
const SPINNING: Duration = Duration::from_millis(250);
/// From the last byte read to Enter where nothing is echoed.
const UNECHOED: Duration = Duration::from_millis(150);
/// A picture without the input line that stands for so long is not half drawn.
const DRAWING: Duration = Duration::from_millis(300);
/// An input line that stays empty this long after a dialog went holds no text of ours.
const SETTLED: Duration = Duration::from_secs(1);
/// As `SETTLED`, where nobody can say whether the text was thrown away or is not drawn yet.
const CALM: Duration = Duration::from_secs(5);
/// A composer that came up so long ago is drawn, though something in it may move all the time.
const COME_UP: Duration = Duration::from_secs(10);
/// A program that goes on drawing, and has not drawn a text it read within this, has dropped it.
const DROPPED: Duration = Duration::from_secs(30);

/// A message whose Enter is not pressed yet.
#[derive(Debug)]
pub struct Draft {
    pub id: DeliveryId,
    pub text: String,
    /// Its ends are not to be disarmed.
    pub raw: bool,
    pub key: MessageTail,
    pub head: Option<MessageHead>,
    pub echo: Echo,
    /// It was sent to interrupt.
    pub steer: bool,
    /// Its owner has said that it is to go on now.
    pub insisted: bool,
    /// How often it may yet be typed again though nobody touched the keyboard.
    pub retries: u8,
    /// How often Escape may be pressed before it is typed.
    pub escapes: u8,
    /// How often it was, since the program last began with a turn.
    pub pressed: u8,
    /// How often a turn began after it.
    pub again: u8,
    /// The program showed on its screen that it worked.
    pub showed_work: bool,
    /// How often a text was taken away that the program had put back.
    pub cleared: u8,
    /// Such a text stands there, and must not be taken away.
    pub behind: bool,
    /// Escape did not stop the program.
    pub goes_on: bool,
    pub gate: Gate,
    pub stage: DraftStage,
    /// When to look at the terminal again, if no output comes before.
    pub wake: Option<Mono>,
}

/// How far it is.
#[derive(Debug)]
pub enum DraftStage {
    /// Nothing is typed: the terminal's settings decide how.
    Measuring,
    /// Escape was pressed.
    Escaped(Box<Interrupt>),
    /// The program gets time to draw something else.
    Paused { until: Mono },
    /// The text is on its way into a raw terminal.
    Typing(Box<Typing>),
}

/// A text on its way into a raw terminal.
#[derive(Debug)]
pub struct Typing {
    pub frame: Frame,
    /// It is in the terminal when so many bytes are written.
    pub mark: u64,
    /// When it was put in line for the terminal, which may be full.
    pub queued_at: Mono,
    pub before: Before,
    pub typed_at: Option<Mono>,
    pub read_at: Option<Mono>,
    pub drawn_at: Option<Mono>,
    /// Since when something else has had the keyboard, the text being read.
    pub away_since: Option<Mono>,
    /// It had it for longer than a picture takes to be drawn.
    pub away: bool,
    /// It had it for a moment at least.
    pub glimpsed: bool,
    /// Something was drawn where it was typed.
    pub touched: bool,
    /// How it looked around the cursor when the text should have been there and was not.
    pub vain: Option<Nearby>,
    /// When the program was seen to have a composer, if it had none when the text was typed.
    pub came_up: Option<Mono>,
    pub looks: Looks,
}

/// Whether Enter may be pressed.
#[derive(Debug, PartialEq, Eq)]
pub struct EnterVerdict {
    pub enter: bool,
    pub drawn: Drawn,
    pub wake: Option<Mono>,
    /// Why not, when it is time to say so.
    pub stall: Option<&'static str>,
}

impl EnterVerdict {
    fn wait(wake: Option<Mono>, stall: Option<&'static str>) -> Self {
        Self {
            enter: false,
            drawn: Drawn::No,
            wake,
            stall,
        }
    }
}

/// What is known when a text may have been thrown away.
#[derive(Clone, Copy)]
pub struct LossEvidence<'a> {
    pub now: Mono,
    pub facts: TtyState,
    pub focus: Focus,
    /// This program's input line was seen before.
    pub known: bool,
    pub screen: &'a Screen,
    pub last_output: Option<Mono>,
    /// When a person last pressed a key.
    pub keys_at: Option<Mono>,
}

/// Whether a text went to something that threw it away, so that it may be typed again.
#[derive(Debug, PartialEq, Eq)]
pub enum Swallowed {
    Yes,
    No,
    /// Ask again then.
    Ask(Mono),
}

impl Draft {
    /// Whether the program has a composer by now, had none when the text was typed, and has not shown that it took it:
    /// it was still starting, and what it read then is a draft at best. From now on the text counts as a paste into
    /// that composer, Enter and all.
    pub fn is_early(&mut self, now: Mono, screen: &Screen, entered: bool) -> bool {
        let shown = entered && self.echo.heard();
        let DraftStage::Typing(typing) = &mut self.stage else {
            return false;
        };
        let composes = typing.frame == Frame::Plain && screen.modes().bracketed_paste;
        if !composes || shown && typing.before.compare(screen, &self.key) < Drawn::Filled {
            return false;
        }
        typing.frame = Frame::Paste;
        typing.came_up = Some(now);
        typing.typed_at = typing.typed_at.map(|_| now);
        true
    }

    /// A dialog that is open swallows a paste and draws nothing. It was swallowed if the program has read it all, the
    /// dialog is gone, and the input line stands empty in a picture that has settled: then nothing of it is anywhere.
    pub fn is_swallowed(&mut self, seen: LossEvidence<'_>) -> Swallowed {
        let DraftStage::Typing(typing) = &mut self.stage else {
            return Swallowed::No;
        };
        let (Some(typed_at), Some(false)) = (typing.typed_at, seen.facts.unread) else {
            return Swallowed::No;
        };
        let (now, focus, last_output) = (seen.now, seen.focus, seen.last_output);
        if focus == Focus::Unknown || focus == Focus::Away && !seen.known {
            return self.is_dropped(typed_at, seen);
        }
        if focus == Focus::Away {
            typing.glimpsed = true;
            let since = *typing.away_since.get_or_insert(now);
            typing.away |= now >= since + DRAWING;
            return match typing.away {
                true => Swallowed::No,
                false => Swallowed::Ask(since + DRAWING),
            };
        }
        typing.away_since = None;
        if focus != Focus::Empty || typing.drawn_at.is_some() {
            return Swallowed::No;
        }
        let drew = last_output.unwrap_or(typed_at).max(typed_at);
        let at = match typing.away {
            true => drew + SETTLED,
            // Half a picture, or one view that took the place of another and took the text with it.
            false if typing.glimpsed => drew + CALM,
            // It must have drawn something since, or it may just be busy with what it read.
            false if drew < typed_at + SETTLED => return Swallowed::No,
            false => (drew + SETTLED).max(typed_at + DROPPED),
        };
        match now >= at {
            true => Swallowed::Yes,
            false => Swallowed::Ask(at),
        }
    }

    /// As [`Draft::is_swallowed`], in a program of which nobody knows how its input line looks: the text is nowhere on
    /// the screen, and what was around the cursor instead of it has gone. A person who pressed a key has put that away;
    /// by itself it may just be slow to draw.
    fn is_dropped(&mut self, typed_at: Mono, seen: LossEvidence<'_>) -> Swallowed {
        let DraftStage::Typing(typing) = &mut self.stage else {
            return Swallowed::No;
        };
        let stands = typing.drawn_at.is_some() || typing.before.is_anywhere(seen.screen, &self.key);
        if let Some(came_up) = typing.came_up.filter(|_| !stands && self.retries > 0) {
            // Everything around it is new, so only the text itself counts.
            let drew = seen.last_output.unwrap_or(came_up).max(came_up);
            let at = (drew + SETTLED).min(came_up + COME_UP);
            if seen.now < at {
                return Swallowed::Ask(at);
            }
            self.retries -= 1;
            return Swallowed::Yes;
        }
        typing.touched |= typing.before.is_touched(seen.screen);
        if stands || typing.touched {
            return Swallowed::No;
        }
        if seen.now < typed_at + DRAWN_WITHIN {
            return Swallowed::Ask(typed_at + DRAWN_WITHIN);
        }
        let look = || seen.screen.nearby(ABOVE, ABOVE);
        if *typing.vain.get_or_insert_with(look) == look() {
            return Swallowed::No;
        }
        let drew = seen.last_output.unwrap_or(typed_at).max(typed_at);
        let at = match seen.keys_at {
            Some(pressed) if pressed > typed_at && drew >= pressed => drew + SETTLED,
            _ if self.retries == 0 => return Swallowed::No,
            _ => (drew + CALM).max(typed_at + DROPPED),
        };
        if seen.now < at {
            return Swallowed::Ask(at);
        }
        self.retries = self.retries.saturating_sub(1);
        Swallowed::Yes
    }

    /// `facts` must be newer than the last change of `written`.
    pub fn may_enter(
        &mut self,
        now: Mono,
        facts: TtyState,
        written: u64,
        screen: &Screen,
        profile: &Profile,
        last_output: Option<Mono>,
    ) -> EnterVerdict {
        let DraftStage::Typing(typing) = &mut self.stage else {
            return EnterVerdict::wait(None, None);
        };
        if written < typing.mark {
            let limit = typing.queued_at + DRAWN_WITHIN;
            let overdue = now >= limit;
            return EnterVerdict::wait((!overdue).then_some(limit), overdue.then_some(UNREAD));
        }
        if typing.typed_at.is_none() {
            typing.looks = Looks::new(now);
        }
        let typed_at = *typing.typed_at.get_or_insert(now);
        let limit = typed_at + DRAWN_WITHIN;
        let overdue = now >= limit;
        if facts.unread == Some(true) {
            let wake = Some(typing.looks.next(now));
            return EnterVerdict::wait(wake, overdue.then_some(UNREAD));
        }
        let read_at = *typing.read_at.get_or_insert(now);
        let enter_at = match typing.frame {
            Frame::Paste if facts.line_mode => {
                let why = "the terminal went back to line mode before Enter";
                return EnterVerdict::wait((!overdue).then_some(limit), overdue.then_some(why));
            }
            Frame::Paste => {
                let drawn = typing.before.compare(screen, &self.key);
                if drawn == Drawn::No {
                    typing.drawn_at = None;
                    let why = "the program does not show the text";
                    return EnterVerdict::wait((!overdue).then_some(limit), overdue.then_some(why));
                }
                let drawn_at = *typing.drawn_at.get_or_insert(now);
                let quiet_at = last_output.map_or(now, |at| at + QUIET);
                // Counted from the moment it is drawn: a busy program reads it late.
                let patience = match profile.composer {
                    true => SPINNING,
                    false => RESTLESS,
                };
                let enter_at =
                    (drawn_at + profile.enter_after).max(quiet_at.min(drawn_at + patience));
                return EnterVerdict {
                    enter: now >= enter_at,
                    drawn,
                    wake: Some(enter_at),
                    stall: None,
                };
            }
            Frame::Lines | Frame::Plain if self.echo.heard() => now,
            Frame::Lines | Frame::Plain => {
                let still = last_output.map_or(read_at, |at| at.max(read_at)) + UNECHOED;
                still.min(read_at + DRAWN_WITHIN)
            }
        };
        EnterVerdict {
            enter: now >= enter_at,
            ..EnterVerdict::wait(Some(enter_at), None)
        }
    }
}
