//! One agent's core: is it ready, how is a message typed into its terminal, has it arrived. Pure: it is told what came
//! out of the terminal and what the terminal's settings are, and says what to write. It owns the screen and the order
//! in which messages, answers to terminal queries and people's keys take turns; it never presses Enter on a text it
//! does not see, and never types a text twice. Driven by `agent::actor`, or by a simulation.

mod asked;
mod focus;
mod interrupting;
mod put_back;
mod turns;
mod typing;
mod view;

use std::collections::VecDeque;
use std::time::Duration;

use crate::agent::activity::{self, Activity, Said};
use crate::agent::dialog;
use crate::agent::draft::check::Check;
use crate::agent::draft::{Draft, DraftStage};
use crate::agent::keys::KeyReader;
use crate::agent::profile::{Profile, Source};
use crate::agent::prompt;
use crate::agent::proof::MessageHead;
use crate::agent::ready::{Judgement, ReadyWatch};
use crate::agent::tty_state::TtyState;
use crate::domain::Proof;
use crate::ids::DeliveryId;
use crate::machine::{Machine, Out};
use crate::msg::{AgentCommand, AgentReport, AgentSpec, How, Injection, Size};
use crate::screen::{Screen, Told};
use crate::time::{Mono, Now, soonest};
use crate::wire::local::Snapshot;

/// What can happen to an agent.
#[derive(Debug)]
pub enum Event {
    /// The program wrote something.
    Output(Vec<u8>),
    /// The answer to [`Effect::Probe`]; to be given before anything else.
    Tty(TtyState),
    /// The answer to [`Effect::Seek`]; `None` where nobody can tell.
    Awaited(Option<bool>),
    /// What was typed and not yet read has been thrown away.
    Flushed,
    /// The message of the last [`Effect::AskHistory`] is in the program's history.
    InHistory,
    /// The program's hook told what it was asked.
    Prompted(String),
    /// That many bytes of what was to be written are in the terminal.
    Wrote(usize),
    /// An order of the dispatcher.
    Command(AgentCommand),
    /// A person pressed keys; the number names them in [`Effect::Keys`].
    Keys(u64, Vec<u8>),
    /// A person's terminal has another size.
    Resize(Size),
    /// The deadline passed.
    Tick,
    /// The process ended and its output is drained.
    Exited(How),
}

/// What an agent wants done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Put these bytes into the terminal after all earlier ones.
    Write(Vec<u8>),
    /// Look at the terminal's settings now.
    Probe,
    /// Find out whether anybody waits for what is typed.
    Seek,
    /// Remember how far the program's history goes.
    NoteHistory(Source),
    /// Look whether the message was added to it; [`Event::InHistory`] if so. It may stand there as a placeholder.
    AskHistory(MessageHead, bool),
    /// Tell the dispatcher.
    Report(AgentReport),
    /// Those keys are in the terminal, or will never be.
    Keys(u64, Result<usize, String>),
    /// Give the terminal this size.
    Resize(Size),
    /// Hang up on the program, or kill everything it started.
    Signal(Ending),
}

/// How to end a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGHUP, as when a terminal is closed.
    HangUp,
    /// SIGKILL to its process group and session.
    Kill,
}

/// How many messages wait behind the one being typed. The dispatcher gives one at a time, so this is never reached.
const WAITING: usize = 64;
/// The most bytes of people's keys that wait. Full means the program does not read; further keys are refused.
const KEYS_MAX: usize = 64 * 1024;
/// With more than this unwritten, the program is not reading and gets no answers to its queries.
const BACKLOG: usize = 64 * 1024;
/// A program that works moves something every second or so; a sign of work without a word for so long was left behind.
const STALE: Duration = Duration::from_secs(60);
/// Between two kills, for what started meanwhile.
const KILL_AGAIN: Duration = Duration::from_secs(1);

enum State {
    Starting(ReadyWatch),
    Ready,
    Injecting(Box<Draft>),
    /// As `Injecting`, but it was reported and people may type.
    Stalled(Box<Draft>),
    Verifying(Box<Check>),
    Gone,
}

/// A message that landed, and was not seen to be acted on.
struct Unstarted {
    id: DeliveryId,
    head: Option<MessageHead>,
    /// The turn that ran when it was submitted, if one did.
    during: Option<u64>,
}

/// Whether a state's function has more to do.
enum Advance {
    Stay(State),
    Go(State),
}

type Effects = Out<(), Effect>;

/// One agent.
pub struct AgentCore {
    profile: Profile,
    idle_after: Option<Duration>,
    screen: Screen,
    state: State,
    /// The size to go back to, if the terminal was too small to see a text in.
    small: Option<Size>,
    /// What the last look showed; `None` while one is due.
    facts: Option<TtyState>,
    started: Mono,
    last_output: Option<Mono>,
    idle: bool,
    /// Bytes ever queued and ever written; an entry is in the terminal when `written` has reached its mark.
    queued: u64,
    written: u64,
    waiting: VecDeque<Injection>,
    /// Keys held back while a message is typed.
    held: VecDeque<(u64, Vec<u8>)>,
    /// Keys on their way: number, mark, length.
    going: VecDeque<(u64, u64, usize)>,
    keys_waiting: usize,
    keyboard: KeyReader,
    /// How its terminal was when the agent was first ready: a launcher may have given it away for good, and some
    /// programs never show what they read.
    home: Option<TtyState>,
    /// When a person last pressed a key.
    keys_at: Option<Mono>,
    /// The program's input line was seen.
    prompt_known: bool,
    /// Nothing is typed before; set by the first message that lands.
    rests_until: Option<Mono>,
    /// A message has landed.
    took: bool,
    /// What it last said of itself.
    said: Option<Said>,
    /// How many turns it said to have begun.
    turns: u64,
    /// What landed, and was not seen to be acted on.
    unstarted: VecDeque<Unstarted>,
    /// Turns that the program says to have begun, and when its model has the text.
    begun: VecDeque<(DeliveryId, Proof, Mono)>,
    /// Its hook works.
    hooked: bool,
    /// Its hook tells of a message that waits for its turn when that is put in line, not when the turn begins.
    hook_is_early: bool,
    /// What landed last, by which its words are known if the program puts them back.
    landed: VecDeque<String>,
    /// Which that was, and when.
    landed_last: Option<(DeliveryId, Mono)>,
    /// Its screen showed no work when that was submitted.
    took_at_rest: bool,
    /// Its screen is known to say that it works when it does.
    shows_work: bool,
    /// How often in a row its history said nothing of a message that landed.
    silences: u8,
    dialogs: dialog::DialogWatch,
    kill_at: Option<Mono>,
    stopping: bool,
    /// How many Escapes are still to be pressed, and when, because somebody interrupts the program.
    escapes_due: Option<(Mono, u8)>,
}

impl AgentCore {
    /// From the moment its program runs.
    pub fn new(spec: &AgentSpec, profile: Profile, now: Mono) -> Self {
        Self {
            profile,
            idle_after: spec.idle_after,
            screen: Screen::new(spec.size),
            state: State::Starting(ReadyWatch::new(now)),
            small: None,
            facts: None,
            started: now,
            last_output: None,
            idle: false,
            queued: 0,
            written: 0,
            waiting: VecDeque::new(),
            held: VecDeque::new(),
            going: VecDeque::new(),
            keys_waiting: 0,
            keyboard: KeyReader::default(),
            home: None,
            keys_at: None,
            prompt_known: false,
            rests_until: None,
            took: false,
            said: None,
            turns: 0,
            unstarted: VecDeque::new(),
            begun: VecDeque::new(),
            hooked: false,
            hook_is_early: false,
            landed: VecDeque::new(),
            landed_last: None,
            took_at_rest: false,
            shows_work: false,
            silences: 0,
            dialogs: dialog::DialogWatch::default(),
            kill_at: None,
            stopping: false,
            escapes_due: None,
        }
    }

    /// The picture of its terminal.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Whether it was told to stop.
    pub fn stopping(&self) -> bool {
        self.stopping
    }

    /// The program wrote something.
    fn saw(&mut self, now: Mono, bytes: &[u8], out: &mut Effects) {
        self.screen.feed(bytes);
        let answers = self.screen.take_answers();
        if !answers.is_empty() && self.queued - self.written < BACKLOG as u64 {
            self.write(answers, out);
        }
        if self.profile.composer {
            self.hear(now, out);
        }
        self.last_output = Some(now);
        self.watch_dialogs(now);
        if std::mem::take(&mut self.idle) {
            out.effects.push(Effect::Report(AgentReport::Working));
        }
        match &mut self.state {
            State::Starting(watch) => {
                watch.saw(now, bytes);
                self.facts = None;
            }
            State::Injecting(draft) | State::Stalled(draft) => {
                draft.echo.saw(bytes);
                self.look(out);
            }
            State::Verifying(check) => {
                check.draft.echo.saw(bytes);
                self.look(out);
            }
            State::Ready | State::Gone => return,
        }
        self.advance(now, out);
    }

    /// What the program tells of itself.
    fn hear(&mut self, now: Mono, out: &mut Effects) {
        for told in self.screen.take_told() {
            let by_title = matches!(told, Told::Title(_));
            let Some(sign) = activity::of(&told) else {
                // A title that says nothing takes back what the one before said.
                self.said = self.said.filter(|said| !(by_title && said.by_title));
                continue;
            };
            if sign == Activity::Busy && !self.works() {
                self.turns += 1;
                self.began(now, out);
            }
            self.said = Some(Said {
                sign,
                at: now,
                by_title,
            });
        }
    }

    /// Whether the program says that it works.
    fn works(&self) -> bool {
        self.said.is_some_and(|said| said.sign == Activity::Busy)
    }

    /// When silence counts as idle. A program that says it works is not idle, as long as it goes on saying so.
    fn idle_at(&self) -> Option<Mono> {
        let after = match self.works() {
            true => self.idle_after?.max(STALE),
            false => self.idle_after?,
        };
        (!self.idle).then(|| self.last_output.unwrap_or(self.started) + after)
    }

    fn write(&mut self, bytes: Vec<u8>, out: &mut Effects) -> u64 {
        self.queued += bytes.len() as u64;
        out.effects.push(Effect::Write(bytes));
        self.queued
    }

    fn resize(&mut self, size: Size, out: &mut Effects) {
        self.screen.resize(size);
        out.effects.push(Effect::Resize(size));
    }

    fn look(&mut self, out: &mut Effects) {
        self.facts = None;
        // One answer serves all who wait for it.
        if out.effects.last() != Some(&Effect::Probe) {
            out.effects.push(Effect::Probe);
        }
    }

    fn report(out: &mut Effects, report: AgentReport) {
        out.effects.push(Effect::Report(report));
    }

    /// Lets the states act on what is known until none has more to do.
    fn advance(&mut self, now: Mono, out: &mut Effects) {
        loop {
            let next = match std::mem::replace(&mut self.state, State::Gone) {
                State::Starting(watch) => self.starting(now, watch, out),
                State::Ready => self.ready(out),
                State::Injecting(draft) => self.injecting(now, draft, false, out),
                State::Stalled(draft) => self.injecting(now, draft, true, out),
                State::Verifying(check) => self.verifying(now, check, out),
                State::Gone => Advance::Stay(State::Gone),
            };
            match next {
                Advance::Go(state) => self.state = state,
                Advance::Stay(state) => {
                    self.state = state;
                    break;
                }
            }
        }
        if !self.is_typing() {
            while let Some((number, bytes)) = self.held.pop_front() {
                self.pass(number, bytes, out);
            }
        }
    }

    /// Something of a message is in the terminal, or about to be, and Enter is not.
    fn is_typing(&self) -> bool {
        matches!(&self.state, State::Injecting(draft) if !matches!(draft.stage, DraftStage::Measuring))
    }

    fn starting(&mut self, now: Mono, mut watch: ReadyWatch, out: &mut Effects) -> Advance {
        let sight = self.sight();
        watch.asks = prompt::is_behind_words(&self.screen);
        match watch.judge(now, &self.profile, self.screen.modes(), sight, self.facts) {
            Judgement::Ready(evidence) => {
                Self::report(out, AgentReport::Ready { evidence });
                self.home = self.facts;
                Advance::Go(State::Ready)
            }
            Judgement::Look => {
                self.look(out);
                Advance::Stay(State::Starting(watch))
            }
            Judgement::Seek => {
                out.effects.push(Effect::Seek);
                Advance::Stay(State::Starting(watch))
            }
            Judgement::Wait(at) => {
                watch.wake = at;
                Advance::Stay(State::Starting(watch))
            }
        }
    }

    /// The end of the screen, for people who must find out what has the focus.
    fn shown(&self) -> String {
        let lines = self.last_words();
        match lines.is_empty() {
            false => format!("the screen ends with: {}", lines.join(" ⏎ ")),
            true => "the screen is empty".to_owned(),
        }
    }

    fn last_words(&self) -> Vec<String> {
        self.screen.last_lines(10)
    }

    fn keys(&mut self, now: Mono, number: u64, bytes: Vec<u8>, out: &mut Effects) {
        self.keyboard.pressed(now, &bytes);
        self.keys_at = Some(now);
        if self.keys_waiting + bytes.len() > KEYS_MAX {
            let why = "the program does not read its terminal; too many keys wait".to_owned();
            out.effects.push(Effect::Keys(number, Err(why)));
            return;
        }
        self.keys_waiting += bytes.len();
        if self.is_typing() {
            self.held.push_back((number, bytes));
        } else {
            self.pass(number, bytes, out);
        }
    }

    fn pass(&mut self, number: u64, bytes: Vec<u8>, out: &mut Effects) {
        let len = bytes.len();
        let mark = self.write(bytes, out);
        self.going.push_back((number, mark, len));
        self.answer_keys(out);
    }

    fn answer_keys(&mut self, out: &mut Effects) {
        while let Some((number, mark, len)) = self.going.front().copied()
            && mark <= self.written
        {
            self.going.pop_front();
            self.keys_waiting -= len;
            out.effects.push(Effect::Keys(number, Ok(len)));
        }
    }

    fn command(&mut self, now: Mono, command: AgentCommand, out: &mut Effects) {
        match command {
            AgentCommand::Inject(injection) if self.waiting.len() >= WAITING => {
                let why = "too many messages wait for this agent".to_owned();
                Self::report(out, AgentReport::Failed(injection.delivery_id, why));
            }
            AgentCommand::Inject(injection) => self.waiting.push_back(*injection),
            AgentCommand::Withdraw(id) => self.withdraw(id, out),
            AgentCommand::Insist => self.insist(out),
            AgentCommand::Interrupt(ticket) => self.interrupt_call(now, ticket, out),
            AgentCommand::Snapshot { ticket, ansi } => {
                let terminal = Some(Box::new(self.terminal_view()));
                let picture = Snapshot {
                    terminal,
                    ..self.screen.snapshot(ansi)
                };
                Self::report(out, AgentReport::Picture(ticket, picture));
            }
            AgentCommand::Stop { grace } => {
                out.effects.push(Effect::Signal(Ending::HangUp));
                // A second order may shorten the grace, not lengthen it.
                self.kill_at = soonest(self.kill_at, Some(now + grace));
                self.stopping = true;
            }
        }
    }

    fn tick(&mut self, now: Mono, out: &mut Effects) {
        if self.kill_at.is_some_and(|at| at <= now) {
            out.effects.push(Effect::Signal(Ending::Kill));
            self.kill_at = Some(now + KILL_AGAIN);
        }
        if self.idle_at().is_some_and(|at| at <= now) {
            self.idle = true;
            let silent = now.since(self.last_output.unwrap_or(self.started));
            Self::report(out, AgentReport::Idle { silent });
        }
        self.press_due_escape(now, out);
        self.tell_begun(Some(now), out);
        self.look_for_dialogs(now, out);
        if let State::Starting(watch) = &mut self.state
            && watch.wake <= now
        {
            watch.look_again();
            self.facts = None;
        }
        let wake = match &self.state {
            State::Injecting(draft) | State::Stalled(draft) => draft.wake,
            State::Verifying(check) => check.draft.wake,
            _ => None,
        };
        if wake.is_some_and(|at| at <= now) {
            self.look(out);
        }
    }

    fn wake(&self) -> Option<Mono> {
        match &self.state {
            State::Starting(watch) => Some(watch.wake),
            State::Injecting(draft) | State::Stalled(draft) => draft.wake,
            State::Verifying(check) => check.draft.wake,
            State::Ready | State::Gone => None,
        }
    }
}

impl Machine for AgentCore {
    type Event = Event;
    /// An agent has nothing to remember: the ledger knows what it was given.
    type Record = ();
    type Effect = Effect;

    fn step(&mut self, now: Now, event: Event, out: &mut Effects) {
        let now = now.mono;
        match event {
            Event::Output(bytes) => return self.saw(now, &bytes, out),
            Event::Tty(facts) => {
                self.facts = Some(facts);
                match &mut self.state {
                    State::Starting(watch) => watch.looked(now, facts),
                    _ => {
                        self.home.get_or_insert(facts);
                    }
                }
            }
            Event::Awaited(awaited) => {
                if let State::Starting(watch) = &mut self.state {
                    watch.sought(now, awaited);
                }
            }
            Event::Flushed => self.flushed(now, out),
            Event::InHistory => {
                if let State::Verifying(check) = &mut self.state {
                    check.proven.get_or_insert(Proof::Transcript);
                }
            }
            Event::Prompted(prompt) => self.prompted(now, &prompt, out),
            Event::Wrote(bytes) => {
                self.written += bytes as u64;
                self.answer_keys(out);
                if matches!(self.state, State::Injecting(_) | State::Stalled(_)) {
                    self.look(out);
                }
            }
            Event::Command(command) => self.command(now, command, out),
            Event::Keys(number, bytes) => return self.keys(now, number, bytes, out),
            Event::Resize(size) => {
                self.small = None;
                self.resize(size, out);
            }
            Event::Tick => self.tick(now, out),
            Event::Exited(mut how) => {
                how.last = self.last_words();
                self.state = State::Gone;
                self.held.clear();
                self.tell_begun(None, out);
                Self::report(out, AgentReport::Exited(how));
            }
        }
        self.advance(now, out);
    }

    fn replay(&mut self, (): &()) {}

    fn snapshot(&self) -> Option<()> {
        None
    }

    fn deadline(&self) -> Option<Mono> {
        if matches!(self.state, State::Gone) {
            return None;
        }
        let told_at = self.begun.front().map(|(_, _, at)| *at);
        let escape_at = self.escapes_due.map(|(at, _)| at);
        [
            self.idle_at(),
            self.kill_at,
            self.dialogs.due,
            told_at,
            escape_at,
        ]
        .into_iter()
        .fold(self.wake(), soonest)
    }
}

#[cfg(test)]
mod tests;
