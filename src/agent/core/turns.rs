//! The part of an agent's core that knows of turns: whether the program works, how it is interrupted, and when it
//! begins to act on what it was told.

use std::time::Duration;

use super::{Advance, AgentCore, Effects, State, TtyState, Unstarted};
use crate::agent::activity::{self, Activity, OnScreen};
use crate::agent::draft::check::Check;
use crate::agent::draft::{DRAWN_WITHIN, Draft, DraftStage};
use crate::agent::interrupt::{Interrupt, InterruptStep, InterruptView};
use crate::agent::proof::MessageHead;
use crate::domain::Proof;
use crate::ids::DeliveryId;
use crate::msg::AgentReport;
use crate::time::Mono;

/// How many messages are remembered until their turns begin.
const UNSTARTED: usize = 16;
/// How many of the last rows are searched for the words of a program that works: where Escape may be for something
/// else, and where it was pressed.
const BUSY_ROWS: usize = 4;
const SHOWN_ROWS: usize = 12;
/// How soon a program that rests begins with what it took.
const BEGINS_WITHIN: Duration = Duration::from_secs(1);
/// A program that says it rests, and draws so long after, does not rest: the sign is an old one.
const SIGN_AGES: Duration = Duration::from_secs(1);
/// How many turns that a program begins by itself after Escape are interrupted as well.
const TURNS: u8 = 4;
/// A hook that runs so soon after Enter was told of the message when it was submitted.
const SUBMITTING: Duration = Duration::from_secs(1);
/// What is said of a message that was to interrupt and did not.
const GOES_ON: &str =
    "Escape was pressed, and the program went on working; it reads the message when its turn ends";
/// What is said of a message that went behind the words of another.
const BEHIND: &str =
    "the program had put an earlier message back into its input line, and reads it with this one";
/// What is said of an Escape that nobody reads.
const UNREAD: &str = "the program has not read Escape, so nothing was typed";

impl AgentCore {
    /// How often Escape may be pressed. Where the ways of the program are known, and its screen shows that it works, it
    /// is tried again; elsewhere one too many could do something else.
    pub(super) fn escapes(&self) -> u8 {
        self.profile.interrupts * (1 + u8::from(self.profile.composer))
    }

    /// What the screen says of the program's work.
    pub(super) fn shown_work(&self) -> Option<OnScreen> {
        activity::on_screen(&self.screen.last_lines(SHOWN_ROWS))
    }

    /// Whether Escape may be for something. Only a sign of rest that is fresh, and that nothing on the screen denies,
    /// says no: a sign that nobody knows, or that is older than what the program draws, says nothing.
    pub(super) fn may_work(&self, now: Mono) -> bool {
        let rows = self.screen.last_lines(BUSY_ROWS);
        match (self.said, self.profile.busy_words) {
            _ if activity::on_screen(&rows).is_some() => true,
            (Some(said), _) if said.sign == Activity::Idle => {
                let drew = self.last_output.is_some_and(|at| now < at + SIGN_AGES);
                drew && now >= said.at + SIGN_AGES
            }
            (Some(_), _) | (None, None) => true,
            (None, Some(_)) => false,
        }
    }

    fn interrupt_view(&mut self, now: Mono, unread: Option<bool>, draft: &Draft) -> InterruptView {
        let shown = self.shown_work();
        self.shows_work |= shown.is_some();
        let begun = match &draft.stage {
            DraftStage::Escaped(escape) => self.turns > escape.turns,
            _ => false,
        };
        InterruptView {
            now,
            unread,
            works: self.works(),
            shown,
            shows_work: self.shows_work,
            begun,
            again: draft.escapes > 0 || begun && draft.again < TURNS,
            known: self.profile.composer,
            queue: self.unstarted.iter().any(|one| one.during.is_some()),
            last_output: self.last_output,
        }
    }

    /// Presses Escape.
    pub(super) fn interrupt(
        &mut self,
        now: Mono,
        mut draft: Box<Draft>,
        out: &mut Effects,
    ) -> Advance {
        let sight = self.interrupt_view(now, None, &draft);
        draft.escapes -= 1;
        draft.pressed += 1;
        draft.showed_work |= sight.shown.is_some();
        let mark = self.write(vec![0x1b], out);
        let more = draft.pressed < self.profile.interrupts;
        let escape = Interrupt::new(mark, &sight, self.turns, more);
        draft.stage = DraftStage::Escaped(Box::new(escape));
        draft.wake = None;
        self.look(out);
        Advance::Stay(State::Injecting(draft))
    }

    /// Escape was pressed: the program gets time to read it and to stop. If it begins with what it had in line instead,
    /// that is interrupted too.
    pub(super) fn escaped(
        &mut self,
        now: Mono,
        facts: TtyState,
        mut draft: Box<Draft>,
        stalled: bool,
        out: &mut Effects,
    ) -> Advance {
        let sight = self.interrupt_view(now, facts.unread, &draft);
        let DraftStage::Escaped(escape) = &mut draft.stage else {
            return super::typing::stay(draft, stalled);
        };
        if self.written < escape.mark {
            return super::typing::stay(draft, stalled);
        }
        let late = now >= escape.pressed_at + DRAWN_WITHIN;
        match escape.judge(&sight) {
            InterruptStep::Unread(wake) => {
                draft.wake = Some(wake);
                if late && !stalled {
                    let why = format!("{UNREAD}; {}", self.shown());
                    Self::report(out, AgentReport::Stalled(draft.id.clone(), why));
                }
                return super::typing::stay(draft, stalled || late);
            }
            InterruptStep::Wait(wake) => {
                draft.wake = Some(wake);
                return super::typing::stay(draft, stalled);
            }
            InterruptStep::Again if sight.begun => {
                draft.again += 1;
                draft.pressed = 0;
                draft.escapes = draft.escapes.max(self.profile.interrupts);
            }
            InterruptStep::Again => {}
            InterruptStep::Over { stopped } => {
                draft.escapes = 0;
                draft.goes_on = !stopped;
                return self.clear_way(now, draft, stalled, out);
            }
        }
        self.measure(draft, stalled, out)
    }

    /// From here on the terminal's settings decide.
    pub(super) fn measure(
        &mut self,
        mut draft: Box<Draft>,
        stalled: bool,
        out: &mut Effects,
    ) -> Advance {
        draft.stage = DraftStage::Measuring;
        draft.wake = None;
        self.look(out);
        super::typing::stay(draft, stalled)
    }

    /// The turn of the message that landed last is not known to have begun.
    pub(super) fn waits_to_begin(&self) -> bool {
        let last = self.landed_last.as_ref().map(|(id, _)| id);
        self.unstarted
            .iter()
            .any(|waiting| Some(&waiting.id) == last)
    }

    /// A message has just landed, and the program that merges what comes while it works has yet to say that it does.
    pub(super) fn is_about_to_work(&self, now: Mono) -> bool {
        let landed_at = self.landed_last.as_ref().map(|(_, at)| *at);
        self.waits_to_begin() && landed_at.is_some_and(|at| now < at + BEGINS_WITHIN)
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
        let note = note
            .or_else(|| draft.goes_on.then(|| GOES_ON.to_owned()))
            .or_else(|| draft.behind.then(|| BEHIND.to_owned()));
        Self::report(out, AgentReport::Landed(id.clone(), proof, note));
        self.took = true;
        self.took_at_rest = !check.shown_work;
        self.landed_last = Some((id.clone(), now));
        self.rests_until
            .get_or_insert(now + self.profile.first_rest);
        self.remember(draft.text.clone());
        match check.turn {
            Some(proof) => self.begin(now, id.clone(), proof, out),
            None if self.profile.composer => self.await_turn(id, &draft.head, check.during),
            None => {}
        }
        Advance::Go(State::Ready)
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
                false => self.begin(now, draft.id, Proof::Hook, out),
            }
            return;
        }
        self.start(now, Proof::Hook, out, |core, waiting| {
            asked(&waiting.head) && !(core.hook_is_early && core.waits(waiting.during))
        });
    }

    /// The program says that a turn begins. Told once its model has the text, which no terminal shows.
    fn begin(&mut self, now: Mono, id: DeliveryId, proof: Proof, out: &mut Effects) {
        let at = now + self.profile.asks_after;
        self.begun.push_back((id, proof, at));
        self.tell_begun(Some(now), out);
    }

    /// Tells of the turns that have begun by now; of all when the program has ended.
    pub(super) fn tell_begun(&mut self, now: Option<Mono>, out: &mut Effects) {
        let is_due = |at: Mono| now.is_none_or(|now| at <= now);
        let due = self.begun.iter().take_while(|one| is_due(one.2)).count();
        for (id, proof, _) in self.begun.drain(..due) {
            Self::report(out, AgentReport::TurnStarted(id, proof));
        }
    }

    /// Hears of the messages whose turn has begun.
    fn start(
        &mut self,
        now: Mono,
        proof: Proof,
        out: &mut Effects,
        begins: impl Fn(&Self, &Unstarted) -> bool,
    ) {
        for waiting in std::mem::take(&mut self.unstarted) {
            match begins(self, &waiting) {
                true => self.begin(now, waiting.id, proof, out),
                false => self.unstarted.push_back(waiting),
            }
        }
    }

    /// The program began to work: on what was just submitted, or on what it had in line. A hook knows better, unless it
    /// tells of that too early.
    pub(super) fn began(&mut self, now: Mono, out: &mut Effects) {
        if self.hook_is_early {
            return self.start(now, Proof::Osc, out, |_, waiting| waiting.during.is_some());
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
            self.begin(now, first.id, Proof::Osc, out);
        }
        // Whether the others are a part of this turn, nobody can say.
        self.unstarted.clear();
    }
}
