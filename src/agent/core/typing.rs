//! The part of an agent's core that takes one message from the queue to its end: at the gate, as a draft, and after Enter.
//! Each function is a state's, and returns the next.

use std::borrow::Cow;
use std::time::Duration;

use super::{Advance, AgentCore, Effect, Effects, State, TtyState};
use crate::agent::draft::check::Check;
use crate::agent::draft::{DRAWN_WITHIN, Draft, DraftStage, LossEvidence, Swallowed, Typing};
use crate::agent::drawn::{Before, Drawn};
use crate::agent::gate::{Gate, GateAnswer, Scene};
use crate::agent::inject::{self, Frame};
use crate::agent::prompt::Focus;
use crate::agent::proof::MessageHead;
use crate::agent::verify::{self, Echo, Looks, MessageTail};
use crate::domain::{Mode, Proof};
use crate::ids::DeliveryId;
use crate::msg::{AgentReport, Size};
use crate::time::{Mono, soonest};
use crate::words;

/// How long a program that has emptied its terminal may take to set it up.
const SET_UP: Duration = Duration::from_secs(1);
/// How often in a row the program's history may say nothing until it is no longer waited for.
const SILENCES: u8 = 3;
/// How often a text that vanished is typed again by itself.
const RETRIES: u8 = 2;
/// What is said of a message whose Enter its owner ordered.
const BLIND: &str = "its owner had it go on, though it was not seen in the terminal";
/// In a smaller terminal composers hide what is typed.
const LEAST: Size = Size { rows: 10, cols: 40 };
/// How long a program may take to draw for another size.
const REDRAWS: Duration = Duration::from_millis(300);
/// Between keys that put a line away and the next look.
const PUT_AWAY: Duration = Duration::from_millis(100);

impl AgentCore {
    pub(super) fn ready(&mut self, out: &mut Effects) -> Advance {
        let Some(injection) = self.waiting.pop_front() else {
            if let Some(size) = self.small.take() {
                self.resize(size, out);
            }
            return Advance::Stay(State::Ready);
        };
        let mut text = words::sanitise(&injection.text);
        if self.profile.one_line == Some(true) {
            text = inject::one_line(&text);
        }
        let Some(key) = MessageTail::of(&text) else {
            let why = "the message is empty once control characters are removed".to_owned();
            Self::report(out, AgentReport::Failed(injection.delivery_id, why));
            return Advance::Go(State::Ready);
        };
        self.look(out);
        let steer = injection.mode == Mode::Steer;
        Advance::Stay(State::Injecting(Box::new(Draft {
            id: injection.delivery_id,
            steer,
            insisted: false,
            retries: RETRIES,
            escapes: if steer { self.escapes() } else { 0 },
            pressed: 0,
            again: 0,
            showed_work: false,
            cleared: 0,
            behind: false,
            goes_on: false,
            head: MessageHead::of(&text),
            raw: injection.raw,
            text,
            echo: Echo::new(key.clone()),
            key,
            gate: Gate::default(),
            stage: DraftStage::Measuring,
            wake: None,
        })))
    }

    /// The owner has looked at the terminal, and wants the message to go on that is held up there. One that is on its way
    /// goes on by itself: a second Enter beside its own would be too many, and Enter before the text is drawn too early.
    pub(super) fn insist(&mut self, out: &mut Effects) {
        match &mut self.state {
            State::Stalled(draft) => draft.insisted = true,
            State::Verifying(check) if check.is_stalled() => check.draft.insisted = true,
            _ => return,
        }
        self.look(out);
    }

    /// Forgets a message of which nothing is typed.
    pub(super) fn withdraw(&mut self, id: DeliveryId, out: &mut Effects) {
        let waiting = self.waiting.len();
        self.waiting.retain(|injection| injection.delivery_id != id);
        let untyped = match &self.state {
            State::Injecting(draft) | State::Stalled(draft) => {
                draft.id == id && matches!(draft.stage, DraftStage::Measuring)
            }
            _ => false,
        };
        if untyped {
            self.state = State::Ready;
        }
        if untyped || self.waiting.len() < waiting {
            Self::report(out, AgentReport::Withdrawn(id));
        }
    }

    /// Both `Injecting` and `Stalled`: they differ in what they may still report.
    pub(super) fn injecting(
        &mut self,
        now: Mono,
        mut draft: Box<Draft>,
        stalled: bool,
        out: &mut Effects,
    ) -> Advance {
        if let Some(until) = self.rests_until.filter(|until| now < *until)
            && matches!(draft.stage, DraftStage::Measuring)
        {
            draft.wake = Some(until);
            return stay(draft, stalled);
        }
        let Some(facts) = self.facts else {
            return stay(draft, stalled);
        };
        match draft.stage {
            DraftStage::Typing(_) => return self.typing(now, facts, draft, stalled, out),
            DraftStage::Escaped(_) => return self.escaped(now, facts, draft, stalled, out),
            DraftStage::Paused { until } => {
                return self.paused(now, facts, until, draft, stalled, out);
            }
            DraftStage::Measuring => {}
        }
        // Whoever insists may not have seen that a password is asked for, or that another program than the agent has the
        // terminal, to which the words would be commands.
        let secret = facts.line_mode && !facts.echo;
        let foreign = self.is_foreign(facts) && !facts.line_mode;
        if (!draft.insisted || secret || foreign)
            && let Some(reported) = self.at_gate(now, facts, &mut draft, stalled, out)
        {
            return stay(draft, stalled || reported);
        }
        if facts.line_mode {
            return self.type_lines(now, facts, draft, out);
        }
        let frame = if self.screen.modes().bracketed_paste {
            Frame::Paste
        } else {
            Frame::Plain
        };
        // At an idle program Escape does something else: two in a row open Claude Code's list of earlier questions.
        if draft.escapes > 0 && frame == Frame::Paste && self.may_work(now) {
            return self.interrupt(now, draft, out);
        }
        if frame == Frame::Paste && self.enlarge(out) {
            draft.stage = DraftStage::Paused {
                until: now + REDRAWS,
            };
            return Advance::Go(State::Injecting(draft));
        }
        let before = Before::of(&self.screen, &draft.key, &draft.text);
        draft.insisted = false;
        draft.echo.start_over();
        let text = match draft.behind {
            true => Cow::Owned(format!("\n\n{}", draft.text)),
            false => Cow::Borrowed(&draft.text),
        };
        let mark = self.write(inject::framed(&text, frame, draft.raw), out);
        draft.wake = Some(now + DRAWN_WITHIN);
        draft.stage = DraftStage::Typing(Box::new(Typing {
            frame,
            mark,
            queued_at: now,
            before,
            typed_at: None,
            read_at: None,
            drawn_at: None,
            away_since: None,
            away: false,
            glimpsed: false,
            touched: false,
            vain: None,
            came_up: None,
            looks: Looks::new(now),
        }));
        Advance::Stay(State::Injecting(draft))
    }

    /// Where a viewer has made the terminal so small that no draft is seen in it, it is larger until the message has landed.
    fn enlarge(&mut self, out: &mut Effects) -> bool {
        let size = self.screen.size();
        if size.rows >= LEAST.rows && size.cols >= LEAST.cols {
            return false;
        }
        self.small = Some(size);
        let (rows, cols) = (size.rows.max(LEAST.rows), size.cols.max(LEAST.cols));
        self.resize(Size { rows, cols }, out);
        true
    }

    /// Nothing is typed into a dialog, or behind somebody's words: whether that is reported now, or `None` for "go on".
    fn at_gate(
        &mut self,
        now: Mono,
        facts: TtyState,
        draft: &mut Draft,
        stalled: bool,
        out: &mut Effects,
    ) -> Option<bool> {
        let answer = draft.gate.ask(Scene {
            now,
            facts,
            focus: self.focus(),
            screen: &self.screen,
            profile: &self.profile,
            last_output: self.last_output,
            hands: self.keyboard.hands(),
            steer: draft.steer,
            known: self.prompt_known,
            foreign: self.is_foreign(facts),
            mute: self.home.is_some_and(|home| home.line_mode && !home.echo),
            begins: self.is_about_to_work(now),
            ours: self.landed.make_contiguous(),
        });
        let (wake, why) = match answer {
            GateAnswer::Type => return None,
            GateAnswer::Stash(keys) => {
                self.write(keys, out);
                draft.stage = DraftStage::Paused {
                    until: now + PUT_AWAY,
                };
                (now + PUT_AWAY, None)
            }
            GateAnswer::Wait(wake) => (wake, None),
            GateAnswer::Blocked(wake, why) => (wake, Some(why)),
        };
        draft.wake = Some(wake);
        match why.filter(|_| !stalled) {
            Some(why) => {
                let why = format!("{why}; {}", self.shown());
                Self::report(out, AgentReport::Stalled(draft.id.clone(), why));
                Some(true)
            }
            None => Some(false),
        }
    }

    /// Line mode: text and Enter go in one piece, and the kernel keeps them until the program asks.
    fn type_lines(
        &mut self,
        now: Mono,
        facts: TtyState,
        mut draft: Box<Draft>,
        out: &mut Effects,
    ) -> Advance {
        let Some(enter) = facts.enter else {
            return stay(draft, false);
        };
        // A program that reads lines takes each for something of its own: a sender could write the line of another.
        let mut text = match self.profile.one_line {
            Some(false) => draft.text.clone(),
            _ => inject::one_line(&draft.text),
        };
        if self.profile.wraps {
            text = inject::wrapped(&text);
        }
        if let Some((line, bytes)) = inject::too_long_line(&text) {
            let most = inject::LINE_MAX;
            let why = format!(
                "line {line} of the message has {bytes} bytes; a terminal in line mode takes at most {most} per line \
                 (`wraps = true` in the program's profile makes several of it)"
            );
            Self::report(out, AgentReport::Failed(draft.id.clone(), why));
            return Advance::Go(State::Ready);
        }
        let mut bytes = inject::framed(&text, Frame::Lines, draft.raw);
        bytes.push(enter);
        draft.echo.start_over();
        let before = Before::of(&self.screen, &draft.key, &draft.text);
        let mark = self.write(bytes, out);
        let mut check = Check::new(draft, Frame::Lines, mark, now);
        check.over = Some(before);
        check.kernel_echo = facts.echo;
        check.whole = !text.contains('\n');
        Advance::Stay(State::Verifying(Box::new(check)))
    }

    /// The text is on its way into a raw terminal: wait until it is read and seen, then press Enter.
    fn typing(
        &mut self,
        now: Mono,
        facts: TtyState,
        mut draft: Box<Draft>,
        stalled: bool,
        out: &mut Effects,
    ) -> Advance {
        draft.is_early(now, &self.screen, false);
        let silent_since = self.last_output;
        let (written, screen, profile) = (self.written, &self.screen, &self.profile);
        let verdict = draft.may_enter(now, facts, written, screen, profile, silent_since);
        // A text that is near the cursor while something else has the keyboard is no draft.
        let foreign = self.is_foreign(facts) && !facts.line_mode;
        let elsewhere = match self.focus() {
            Focus::Away => foreign || verdict.drawn == Drawn::Near,
            Focus::Unknown => foreign,
            Focus::Empty | Focus::Draft | Focus::Home => false,
        };
        if let Some(enter) = facts.enter.filter(|_| verdict.enter && !elsewhere) {
            return match self.in_front(&mut draft) {
                Some(keys) => self.take_away(now, keys, draft, out),
                None => self.press_enter(now, enter, draft, verdict.drawn, out),
            };
        }
        if std::mem::take(&mut draft.insisted) && facts.unread != Some(true) && !foreign {
            return self.go_on(now, facts, draft, out);
        }
        draft.wake = verdict.wake.filter(|_| !elsewhere);
        let mut stall = verdict.stall;
        if let DraftStage::Typing(typing) = &draft.stage
            && let Some(at) = typing.typed_at
            && elsewhere
        {
            let limit = at + DRAWN_WITHIN;
            match now < limit {
                true => draft.wake = Some(limit),
                false => stall = Some("something else has the keyboard"),
            }
        }
        let focus = self.focus();
        let seen = LossEvidence {
            now,
            facts,
            focus,
            known: self.prompt_known,
            screen: &self.screen,
            last_output: self.last_output,
            keys_at: self.keys_at,
        };
        match draft.is_swallowed(seen) {
            Swallowed::Yes => {
                draft.stage = DraftStage::Measuring;
                self.look(out);
                return Advance::Stay(State::Stalled(draft));
            }
            Swallowed::Ask(at) => draft.wake = soonest(draft.wake, Some(at)),
            Swallowed::No => {}
        }
        let Some(why) = stall.filter(|_| !stalled) else {
            return stay(draft, stalled);
        };
        let why = format!("{why}, so Enter was not pressed; {}", self.shown());
        Self::report(out, AgentReport::Stalled(draft.id.clone(), why));
        Advance::Stay(State::Stalled(draft))
    }

    fn press_enter(
        &mut self,
        now: Mono,
        enter: u8,
        draft: Box<Draft>,
        drawn: Drawn,
        out: &mut Effects,
    ) -> Advance {
        let DraftStage::Typing(typing) = &draft.stage else {
            return Advance::Stay(State::Injecting(draft));
        };
        let (frame, before) = (typing.frame, typing.before.clone());
        if let Some(source) = self.profile.history {
            out.effects.push(Effect::NoteHistory(source));
        }
        let mark = self.write(vec![enter], out);
        let mut check = Check::new(draft, frame, mark, now);
        check.first = !self.took;
        check.during = self.works().then_some(self.turns);
        check.shown_work = self.shown_work().is_some();
        check.blind = drawn == Drawn::No && frame == Frame::Paste;
        check.stood = (drawn > Drawn::No).then_some((drawn, before));
        Advance::Stay(State::Verifying(Box::new(check)))
    }

    /// The owner wants a text to go on that the screen does not show: Enter if anything stands where it was typed, else once
    /// more from the beginning.
    fn go_on(
        &mut self,
        now: Mono,
        facts: TtyState,
        mut draft: Box<Draft>,
        out: &mut Effects,
    ) -> Advance {
        let DraftStage::Typing(typing) = &draft.stage else {
            return Advance::Stay(State::Injecting(draft));
        };
        let (before, screen) = (&typing.before, &self.screen);
        let in_terminal = self.written >= typing.mark;
        let unseen = typing.frame != Frame::Paste;
        if in_terminal
            && (unseen || before.is_touched(screen) || before.is_anywhere(screen, &draft.key))
        {
            let enter = facts.enter.unwrap_or(b'\r');
            return self.press_enter(now, enter, draft, Drawn::No, out);
        }
        if in_terminal {
            draft.stage = DraftStage::Measuring;
            draft.insisted = true;
            self.look(out);
        }
        Advance::Stay(State::Injecting(draft))
    }

    /// The owner wants a message to go on that stays where it is after Enter: once more Enter if it is seen, else it counts
    /// as arrived, which nobody could prove.
    fn go_on_after(&mut self, now: Mono, mut check: Box<Check>, out: &mut Effects) -> Advance {
        let focus = self.focus();
        if check.stands(&self.screen, self.profile.prompt, focus) {
            let mark = self.write(vec![b'\r'], out);
            check.again(now, mark);
            return Advance::Stay(State::Verifying(check));
        }
        self.landed(now, &check, Proof::None, Some(BLIND.to_owned()), out)
    }

    pub(super) fn verifying(
        &mut self,
        now: Mono,
        mut check: Box<Check>,
        out: &mut Effects,
    ) -> Advance {
        if self.written < check.mark {
            let verdict = check.waits(now);
            self.report_stalled(&check, verdict.stall, out);
            check.draft.wake = verdict.wake;
            return Advance::Stay(State::Verifying(check));
        }
        if check.proven == Some(Proof::Hook) {
            return self.landed(now, &check, Proof::Hook, None, out);
        }
        if check.entered_at.is_none() {
            check.entered(now);
            if check.presses == 1 {
                Self::report(out, AgentReport::Typed(check.draft.id.clone()));
            }
            self.look(out);
            return Advance::Stay(State::Verifying(check));
        }
        let Some(facts) = self.facts else {
            return Advance::Stay(State::Verifying(check));
        };
        if std::mem::take(&mut check.draft.insisted)
            && check.is_stalled()
            && facts.unread != Some(true)
        {
            return self.go_on_after(now, check, out);
        }
        if check.draft.is_early(now, &self.screen, true) {
            check.draft.wake = None;
            return Advance::Go(State::Injecting(check.draft));
        }
        let history = self.profile.history.is_some() && check.proven.is_none();
        if let Some(head) = check.draft.head.clone().filter(|_| history)
            && check.asks(now)
        {
            let long = verify::is_long(&check.draft.text);
            out.effects.push(Effect::AskHistory(head, long));
        }
        if let Some(at) = self.last_output {
            check.drew(at);
        }
        let hope = history && self.silences < SILENCES && check.draft.head.is_some();
        let verdict = check.judge(now, facts, &self.screen, self.profile.prompt, hope);
        if let Some((proof, note)) = verdict.landed {
            if check.blind && proof != Proof::Transcript && proof != Proof::Osc {
                return self.landed(now, &check, Proof::None, Some(BLIND.to_owned()), out);
            }
            match proof {
                Proof::Transcript => self.silences = 0,
                Proof::Screen if hope => self.silences += 1,
                _ => {}
            }
            return self.landed(now, &check, proof, note, out);
        }
        let ask_at = check.asks_at(now).filter(|_| history);
        check.draft.wake = soonest(verdict.wake, ask_at);
        if verdict.press_again {
            let mark = self.write(vec![b'\r'], out);
            check.again(now, mark);
        }
        self.report_stalled(&check, verdict.stall, out);
        Advance::Stay(State::Verifying(check))
    }

    /// The terminal was emptied. What nobody had read is typed again, once the program has had time to set itself up.
    pub(super) fn flushed(&mut self, now: Mono, out: &mut Effects) {
        let thrown_away = matches!(&self.state, State::Verifying(check) if check.is_thrown_away());
        if !thrown_away {
            return;
        }
        if let State::Verifying(check) = std::mem::replace(&mut self.state, State::Ready) {
            let mut draft = check.draft;
            let why = "the program threw away what was typed before it read it; it is typed again";
            Self::report(out, AgentReport::Stalled(draft.id.clone(), why.to_owned()));
            draft.stage = DraftStage::Measuring;
            draft.wake = Some(now + SET_UP);
            self.rests_until = Some(now + SET_UP);
            self.state = State::Stalled(draft);
        }
    }

    fn report_stalled(&self, check: &Check, why: Option<String>, out: &mut Effects) {
        if let Some(why) = why {
            let why = format!("{why}; {}", self.shown());
            Self::report(out, AgentReport::Stalled(check.draft.id.clone(), why));
        }
    }
}

/// A message that has no end yet; what holds it up was reported or not.
pub(super) fn stay(draft: Box<Draft>, stalled: bool) -> Advance {
    Advance::Stay(if stalled {
        State::Stalled(draft)
    } else {
        State::Injecting(draft)
    })
}
