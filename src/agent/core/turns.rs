//! The part of an agent's mind that knows of turns: whether the program works, how it is interrupted, and when it begins to
//! act on what it was told.

use std::time::Duration;

use super::{Advance, AgentCore, Effects, State, Unstarted};
use crate::agent::activity::{self, Activity};
use crate::agent::draft::{Check, Draft, DraftStage};
use crate::agent::drawn::ABOVE;
use crate::agent::proof::MessageHead;
use crate::agent::verify::MessageTail;
use crate::ids::DeliveryId;
use crate::msg::AgentReport;
use crate::time::Mono;
use crate::wire::event::Proof;

/// How many messages are remembered until their turns begin.
const UNSTARTED: usize = 16;
/// How many messages are remembered by their words.
const LANDED: usize = 8;
/// How many of the last rows are searched for the words of a program that works.
const BUSY_ROWS: usize = 4;
/// Between Escape and the text, when a message interrupts.
const INTERRUPT: Duration = Duration::from_millis(100);
/// The same where nobody knows how long the program waits for a key that begins with Escape: half a second is usual.
const ESCAPE_ALONE: Duration = Duration::from_millis(550);
/// Silence that shows that such a program has read Escape and stopped: one that works moves something more often.
const STOPPED: Duration = Duration::from_millis(150);
/// So long after Escape at least.
const ESCAPED: Duration = Duration::from_millis(200);
/// Between keys that take a text away which the program has put back, and the next look; and how often they are tried.
const PUT_AWAY: Duration = Duration::from_millis(100);
const TAKEN_AWAY: u8 = 4;
/// What takes a line away wherever lines are edited; and the same for the line above.
const KILL_LINE: &[u8] = b"\x15";
const JOIN_AND_KILL: &[u8] = b"\x7f\x15";
/// How long a program that says it works may take to stop after Escape.
const STOPS_WITHIN: Duration = Duration::from_millis(800);
/// A program that says it rests, and draws so long after, does not rest: the sign is an old one.
const SIGN_AGES: Duration = Duration::from_secs(1);
/// How many turns that a program begins by itself after Escape are interrupted as well.
const TURNS: u64 = 4;
/// A hook that runs so soon after Enter was told of the message when it was submitted.
const SUBMITTING: Duration = Duration::from_secs(1);
/// What is said of a message that was to interrupt and did not.
const GOES_ON: &str =
    "Escape was pressed, and the program went on working; it reads the message when its turn ends";

impl AgentCore {
    /// How often Escape may be pressed. Where the screen shows whether it helped, it is tried again; elsewhere one too many
    /// could do something else.
    pub(super) fn escapes(&self) -> u8 {
        let twice = self.profile.busy_words.is_some();
        self.profile.interrupts * (1 + u8::from(twice))
    }

    /// Whether Escape may be for something. Only a sign of rest that is fresh, and that nothing on the screen denies, says
    /// no: a sign that nobody knows, or that is older than what the program draws, says nothing.
    pub(super) fn may_work(&self, now: Mono) -> bool {
        let rows = self.screen.last_lines(BUSY_ROWS);
        match (self.said, self.profile.busy_words) {
            _ if activity::is_busy(&rows) => true,
            (Some(said), _) if said.sign == Activity::Idle => {
                let drew = self.last_output.is_some_and(|at| now < at + SIGN_AGES);
                drew && now >= said.at + SIGN_AGES
            }
            (Some(_), _) | (None, None) => true,
            (None, Some(_)) => false,
        }
    }

    /// Presses Escape.
    pub(super) fn interrupt(
        &mut self,
        now: Mono,
        mut draft: Box<Draft>,
        out: &mut Effects,
    ) -> Advance {
        draft.escapes -= 1;
        self.write(vec![0x1b], out);
        let pause = match self.profile.composer {
            true => INTERRUPT,
            false => ESCAPE_ALONE,
        };
        draft.turns = self.turns;
        draft.stage = DraftStage::Interrupted { since: now, pause };
        Advance::Go(State::Injecting(draft))
    }

    /// Escape was pressed: the program gets time to stop. If it begins with what it had in line instead, that is interrupted
    /// too.
    pub(super) fn interrupted(
        &mut self,
        now: Mono,
        soonest: Mono,
        since: Mono,
        mut draft: Box<Draft>,
        stalled: bool,
        out: &mut Effects,
    ) -> Advance {
        let soonest = match self.profile.composer {
            true => soonest,
            false => soonest.min(self.stopped_at(since).unwrap_or(soonest)),
        };
        let begun = self.turns > draft.turns;
        let until = match self.works() && !begun && draft.escapes == 0 {
            true => since + STOPS_WITHIN.max(soonest.since(since)),
            false => soonest,
        };
        draft.wake = Some(until);
        if now < until {
            return super::typing::stay(draft, stalled);
        }
        if let Some(keys) = self.takes_away(&draft) {
            self.write(keys, out);
            draft.cleared += 1;
            draft.stage = DraftStage::Interrupted {
                since: now,
                pause: PUT_AWAY,
            };
            return Advance::Go(State::Injecting(draft));
        }
        if begun && draft.again < TURNS {
            draft.again += 1;
            draft.escapes = draft.escapes.max(1);
        }
        draft.goes_on = self.works() && draft.escapes == 0;
        draft.stage = DraftStage::Measuring;
        draft.wake = None;
        self.look(out);
        super::typing::stay(draft, stalled)
    }

    /// When a program of which nothing is known has answered Escape by falling silent.
    fn stopped_at(&self, escaped_at: Mono) -> Option<Mono> {
        let drew = self.last_output.filter(|at| *at > escaped_at)?;
        Some((drew + STOPPED).max(escaped_at + ESCAPED))
    }

    /// Keys that take the last message away again, where a program of which nothing is known has put that back into its input
    /// line because it was interrupted: the next would be glued to it.
    fn takes_away(&self, draft: &Draft) -> Option<Vec<u8>> {
        let (again, text) = (draft.cleared < TAKEN_AWAY, self.landed.back()?);
        let unknown = !self.profile.composer && draft.steer;
        let key = MessageTail::of(text).filter(|_| again && unknown)?;
        let here = self.screen.nearby(ABOVE, ABOVE);
        let stands = key.ends_rows(&here.rows[..here.cursor_row], &here.left);
        let more = text.lines().count().saturating_sub(1);
        stands.then(|| [KILL_LINE, &JOIN_AND_KILL.repeat(more)].concat())
    }

    pub(super) fn landed(
        &mut self,
        now: Mono,
        check: &Check,
        proof: Proof,
        note: Option<String>,
        out: &mut Effects,
    ) -> Advance {
        let (draft, id) = (&check.draft, &check.draft.id);
        let note = note.or_else(|| draft.goes_on.then(|| GOES_ON.to_owned()));
        Self::report(out, AgentReport::Landed(id.clone(), proof, note));
        self.took = true;
        self.rests_until
            .get_or_insert(now + self.profile.first_rest);
        self.remember(draft.text.clone());
        match check.turn {
            Some(proof) => Self::report(out, AgentReport::TurnStarted(id.clone(), proof)),
            None if self.profile.composer => self.await_turn(id, &draft.head, check.during),
            None => {}
        }
        Advance::Go(State::Ready)
    }

    fn remember(&mut self, text: String) {
        let most = match (self.profile.clears, self.profile.composer) {
            (Some(_), _) => LANDED,
            (None, true) => return,
            (None, false) => 1,
        };
        if self.landed.len() >= most {
            self.landed.pop_front();
        }
        self.landed.push_back(text);
    }

    fn await_turn(&mut self, id: &DeliveryId, head: &Option<MessageHead>, during: Option<u64>) {
        if self.unstarted.len() >= UNSTARTED {
            self.unstarted.pop_front();
        }
        self.unstarted.push_back(Unstarted {
            id: id.clone(),
            head: head.clone(),
            during,
        });
    }

    /// Whether the turn goes on that ran when a message was submitted, so that the message still waits for its own.
    fn waits(&self, during: Option<u64>) -> bool {
        self.works() && during == Some(self.turns)
    }

    /// The program said itself what it was asked. A person may have pressed Enter on our text, too.
    pub(super) fn prompted(&mut self, now: Mono, prompt: &str, out: &mut Effects) {
        self.hooked = true;
        let asked =
            |head: &Option<MessageHead>| head.as_ref().is_some_and(|head| head.is_in(prompt));
        // Of two messages with the same words the earlier one is meant.
        let earlier = self.unstarted.iter().any(|earlier| asked(&earlier.head));
        let (works, turns) = (self.works(), self.turns);
        if let State::Verifying(check) = &mut self.state
            && asked(&check.draft.head)
            && !earlier
        {
            let soon = check.entered_at.is_none_or(|at| now < at + SUBMITTING);
            let early = works && check.during == Some(turns) && soon;
            self.hook_is_early |= early;
            check.proven = Some(Proof::Hook);
            check.turn = (!early).then_some(Proof::Hook);
        }
        let typed = match &self.state {
            State::Injecting(draft) | State::Stalled(draft) => {
                matches!(draft.stage, DraftStage::Typing(_)) && asked(&draft.head) && !earlier
            }
            _ => false,
        };
        if typed
            && let State::Injecting(draft) | State::Stalled(draft) =
                std::mem::replace(&mut self.state, State::Ready)
        {
            let landed = AgentReport::Landed(draft.id.clone(), Proof::Hook, None);
            Self::report(out, landed);
            match self.hook_is_early && works {
                true => self.await_turn(&draft.id, &draft.head, Some(turns)),
                false => Self::report(out, AgentReport::TurnStarted(draft.id, Proof::Hook)),
            }
            return;
        }
        self.start(Proof::Hook, out, |core, waiting| {
            asked(&waiting.head) && !(core.hook_is_early && core.waits(waiting.during))
        });
    }

    /// Tells of the messages whose turn has begun.
    fn start(
        &mut self,
        proof: Proof,
        out: &mut Effects,
        begins: impl Fn(&Self, &Unstarted) -> bool,
    ) {
        for waiting in std::mem::take(&mut self.unstarted) {
            match begins(self, &waiting) {
                true => Self::report(out, AgentReport::TurnStarted(waiting.id, proof)),
                false => self.unstarted.push_back(waiting),
            }
        }
    }

    /// The program began to work: on what was just submitted, or on what it had in line. A hook knows better, unless it tells
    /// of that too early.
    pub(super) fn began(&mut self, out: &mut Effects) {
        if self.hook_is_early {
            return self.start(Proof::Osc, out, |_, waiting| waiting.during.is_some());
        }
        if self.hooked {
            return;
        }
        if let State::Verifying(check) = &mut self.state
            && check.entered_at.is_some()
            && self.unstarted.is_empty()
        {
            check.turn.get_or_insert(Proof::Osc);
            check.proven.get_or_insert(Proof::Osc);
        }
        if let Some(first) = self.unstarted.pop_front() {
            Self::report(out, AgentReport::TurnStarted(first.id, Proof::Osc));
        }
        // Whether the others are a part of this turn, nobody can say.
        self.unstarted.clear();
    }
}
