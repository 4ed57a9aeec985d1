//! The core of an agent without a terminal: which message its program is given, whether it has it, and whether it works. A
//! message counts as arrived by the program's own word alone; without it the message is in the program's hand until that
//! ends, and is told to be held up.

mod hanging;

use std::collections::VecDeque;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::claude::ClaudeStream;
use super::dialect::{Dialect, ProgramWord};
use super::lines::{LineSplitter, OutputLine};
use super::opencode::OpencodeRuns;
use crate::agent::core::Ending;
use crate::domain::{Mode, Proof};
use crate::ids::DeliveryId;
use crate::known_clis::HeadlessCli;
use crate::machine::{Machine, Out};
use crate::msg::{AgentCommand, AgentReport, AgentSpec, How, Injection};
use crate::time::{Mono, Now, soonest};
use crate::words;

/// How many messages wait behind the one in hand. The dispatcher gives one at a time, so this is never reached.
const WAITING: usize = 64;
/// How many of its last lines are told when a program ends.
const LAST_LINES: usize = 10;
/// The most letters of each.
const LAST_WIDTH: usize = 400;
/// Between two kills, for what started meanwhile.
const KILL_AGAIN: Duration = Duration::from_secs(1);
/// What shows that such an agent takes messages.
const READY: &str = "it reads its messages from a pipe";

/// What can happen to such an agent.
#[derive(Debug)]
pub enum Event {
    /// The program runs.
    Began,
    /// It wrote something.
    Output(Vec<u8>),
    /// It wrote something to its standard error.
    Errors(Vec<u8>),
    /// That many bytes of what was to be written are in its pipe.
    Wrote(usize),
    /// An order of the dispatcher.
    Command(AgentCommand),
    /// The deadline passed.
    Tick,
    /// The process ended and its output is drained.
    Exited(How),
}

/// What such an agent wants done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Put these bytes into the program's pipe after all earlier ones.
    Write(Vec<u8>),
    /// Tell the dispatcher.
    Report(AgentReport),
    /// Show people these words, which the program wrote to its standard output.
    Show(String),
    /// The same from its standard error.
    ShowError(String),
    /// Hang up on the program, or kill everything it started.
    Signal(Ending),
}

type HeadlessEffects = Out<(), Effect>;

/// The message that the program was given.
struct InHand {
    id: DeliveryId,
    key: String,
    /// All of it is in the pipe when so many bytes are; `None` once that was told.
    mark: Option<u64>,
    /// When the program could begin to read it.
    given_at: Mono,
    /// It was asked for back.
    asked_back: bool,
    /// It was to be given back and cannot be asked for, so its run is stopped should it hang.
    wanted_back: bool,
    /// Why its interrupting came to nothing.
    not_interrupted: Option<String>,
}

/// One agent without a terminal.
pub struct HeadlessCore {
    dialect: Box<dyn Dialect>,
    idle_after: Option<Duration>,
    /// Tells the keys of this run from those of every other.
    salt: String,
    keys: u64,
    output: LineSplitter,
    errors: LineSplitter,
    last: VecDeque<String>,
    /// Bytes ever queued and ever written.
    queued: u64,
    written: u64,
    waiting: VecDeque<Injection>,
    in_hand: Option<InHand>,
    /// It has this message, and does not work on it yet.
    unstarted: Option<DeliveryId>,
    works: bool,
    interrupted: bool,
    idle: bool,
    quiet_since: Mono,
    /// When it last wrote anything.
    heard_at: Mono,
    /// The message that was last told to be held up.
    held_up: Option<DeliveryId>,
    kill_at: Option<Mono>,
    stopping: bool,
    gone: bool,
}

impl HeadlessCore {
    /// From the moment its program runs. `session` are the words that choose the session of a first run, where each message
    /// has one; `salt` is used for no other run.
    pub fn new(
        spec: &AgentSpec,
        cli: HeadlessCli,
        session: Vec<String>,
        salt: String,
        now: Mono,
    ) -> Self {
        Self {
            dialect: match cli {
                HeadlessCli::Claude => Box::new(ClaudeStream::default()),
                HeadlessCli::Opencode => Box::new(OpencodeRuns::new(session)),
            },
            idle_after: spec.idle_after,
            salt,
            keys: 0,
            output: LineSplitter::default(),
            errors: LineSplitter::default(),
            last: VecDeque::new(),
            queued: 0,
            written: 0,
            waiting: VecDeque::new(),
            in_hand: None,
            unstarted: None,
            works: false,
            interrupted: false,
            idle: false,
            quiet_since: now,
            heard_at: now,
            held_up: None,
            kill_at: None,
            stopping: false,
            gone: false,
        }
    }

    /// Whether it was told to stop.
    pub fn stopping(&self) -> bool {
        self.stopping
    }

    fn report(out: &mut HeadlessEffects, report: AgentReport) {
        out.effects.push(Effect::Report(report));
    }

    fn write(&mut self, line: String, out: &mut HeadlessEffects) {
        if line.is_empty() {
            return;
        }
        let mut bytes = line.into_bytes();
        bytes.push(b'\n');
        self.queued += bytes.len() as u64;
        out.effects.push(Effect::Write(bytes));
    }

    /// A key that no other message ever had, in the form of a UUID: some programs take a message whose key they know for
    /// done.
    fn key(&mut self, id: &DeliveryId) -> String {
        self.keys += 1;
        let mut hash = Sha256::new();
        hash.update(format!("{}\0{}\0{id}", self.salt, self.keys));
        let digits: String = hash
            .finalize()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (a, b, c, d) = (
            &digits[..8],
            &digits[8..12],
            &digits[13..16],
            &digits[17..20],
        );
        format!("{a}-{b}-4{c}-8{d}-{}", &digits[20..32])
    }

    /// Gives the program its next message, if it takes one.
    fn advance(&mut self, now: Mono, out: &mut HeadlessEffects) {
        while self.in_hand.is_none() && !self.gone {
            let Some(front) = self.waiting.front() else {
                return;
            };
            if self.works && front.mode == Mode::Steer {
                self.interrupt(out);
            }
            if self.works && !self.dialect.queues() {
                return;
            }
            if let Some(injection) = self.waiting.pop_front() {
                self.give(now, injection, out);
            }
        }
    }

    fn give(&mut self, now: Mono, injection: Injection, out: &mut HeadlessEffects) {
        let (id, text) = (injection.delivery_id, words::sanitise(&injection.text));
        if text.trim().is_empty() {
            let why = "the message is empty once control characters are removed".to_owned();
            return Self::report(out, AgentReport::Failed(id, why));
        }
        let key = self.key(&id);
        let line = self.dialect.say(&key, &text);
        self.write(line, out);
        self.in_hand = Some(InHand {
            id,
            key,
            mark: Some(self.queued),
            given_at: now,
            asked_back: false,
            wanted_back: false,
            not_interrupted: None,
        });
    }

    /// Once for each turn, or for a message that the program was given and does not show to work on.
    fn interrupt(&mut self, out: &mut HeadlessEffects) {
        let under_way = self.works || self.in_hand.is_some();
        if under_way && !std::mem::replace(&mut self.interrupted, true) {
            let line = self.dialect.interrupt();
            self.write(line, out);
        }
    }

    /// Forgets a message, or asks the program for it: a message that interrupts waits.
    fn withdraw(&mut self, id: DeliveryId, out: &mut HeadlessEffects) {
        let waiting = self.waiting.len();
        self.waiting.retain(|injection| injection.delivery_id != id);
        if self.waiting.len() < waiting {
            return Self::report(out, AgentReport::Withdrawn(id));
        }
        let in_hand = self.in_hand.as_mut();
        let Some(in_hand) = in_hand.filter(|in_hand| in_hand.id == id && !in_hand.asked_back)
        else {
            return;
        };
        match self.dialect.give_back(&in_hand.key) {
            Some(line) => {
                in_hand.asked_back = true;
                self.write(line, out);
            }
            None => {
                in_hand.wanted_back = true;
                self.stop_what_hangs(out);
            }
        }
    }

    fn wrote(&mut self, bytes: usize, out: &mut HeadlessEffects) {
        self.written += bytes as u64;
        if let Some(in_hand) = &mut self.in_hand
            && in_hand.mark.take_if(|mark| *mark <= self.written).is_some()
        {
            Self::report(out, AgentReport::Typed(in_hand.id.clone()));
        }
    }

    fn line(&mut self, now: Mono, line: OutputLine, out: &mut HeadlessEffects) {
        match line {
            OutputLine::Whole(line) if line.trim().is_empty() => {}
            OutputLine::Whole(line) => {
                for heard in self.dialect.hear(&line) {
                    self.heard(now, heard, out);
                }
            }
            OutputLine::TooLong => log::debug!("a line of a program's output was too long to read"),
        }
    }

    fn heard(&mut self, now: Mono, heard: ProgramWord, out: &mut HeadlessEffects) {
        match heard {
            ProgramWord::Session(id) => Self::report(out, AgentReport::Session(id)),
            ProgramWord::Began => self.began(out),
            ProgramWord::Took(key) => self.took(&key, out),
            ProgramWord::Dropped(key, why) => self.dropped(now, &key, why, out),
            ProgramWord::Said(text) => self.show(text, out),
            ProgramWord::TurnOver(trouble) => self.turn_over(now, trouble, out),
            ProgramWord::GaveBack(given) => self.gave_back(given, out),
            ProgramWord::NotInterrupted(why) => {
                if let Some(in_hand) = &mut self.in_hand {
                    in_hand.not_interrupted = Some(why);
                }
            }
            ProgramWord::Asked(request) => {
                let line = self.dialect.nobody(&request);
                self.write(line, out);
            }
        }
    }

    fn began(&mut self, out: &mut HeadlessEffects) {
        if !std::mem::replace(&mut self.works, true) {
            // What was to stop something before this turn has not stopped it.
            self.interrupted = false;
        }
        if std::mem::take(&mut self.idle) {
            Self::report(out, AgentReport::Working);
        }
        if let Some(id) = self.unstarted.take() {
            Self::report(out, AgentReport::TurnStarted(id, Proof::Hook));
        }
    }

    fn took(&mut self, key: &str, out: &mut HeadlessEffects) {
        let Some(in_hand) = self.in_hand.take_if(|in_hand| in_hand.key == key) else {
            return;
        };
        let reason = in_hand.not_interrupted.map(|why| {
            format!("the program did not stop ({why}); it reads the message when its turn ends")
        });
        let id = in_hand.id;
        Self::report(out, AgentReport::Landed(id.clone(), Proof::Hook, reason));
        match self.works {
            true => Self::report(out, AgentReport::TurnStarted(id, Proof::Hook)),
            false => self.unstarted = Some(id),
        }
    }

    /// It is the dispatcher's again, who knows how often it was tried.
    fn dropped(&mut self, now: Mono, key: &str, why: String, out: &mut HeadlessEffects) {
        // Whoever asked for it hears of it by the answer to that.
        let mine = |in_hand: &mut InHand| in_hand.key == key && !in_hand.asked_back;
        if let Some(in_hand) = self.in_hand.take_if(mine) {
            if !self.dialect.queues() {
                self.works = false;
                self.interrupted = false;
            }
            self.quiet_since = now;
            Self::report(out, AgentReport::Dropped(in_hand.id, why));
        }
    }

    fn gave_back(&mut self, given: bool, out: &mut HeadlessEffects) {
        let Some(in_hand) = self.in_hand.take_if(|in_hand| in_hand.asked_back) else {
            return;
        };
        if given {
            return Self::report(out, AgentReport::Withdrawn(in_hand.id));
        }
        // It begins with it just now, or does not give back: what interrupts comes the sooner.
        self.in_hand = Some(InHand {
            asked_back: false,
            ..in_hand
        });
        self.interrupt(out);
    }

    fn turn_over(&mut self, now: Mono, trouble: Option<String>, out: &mut HeadlessEffects) {
        if let Some(trouble) = trouble {
            self.show(format!("[{trouble}]"), out);
        }
        self.works = false;
        self.interrupted = false;
        self.unstarted = None;
        self.quiet_since = now;
        if let Some(in_hand) = &mut self.in_hand {
            in_hand.given_at = now;
        }
        if self.rests() {
            self.falls_idle(Duration::ZERO, out);
        }
    }

    /// Nothing is to be done.
    fn rests(&self) -> bool {
        !self.works && self.in_hand.is_none() && self.waiting.is_empty()
    }

    fn falls_idle(&mut self, silent: Duration, out: &mut HeadlessEffects) {
        if self.idle_after.is_some() && !std::mem::replace(&mut self.idle, true) {
            Self::report(out, AgentReport::Idle { silent });
        }
    }

    fn idle_at(&self) -> Option<Mono> {
        let after = self.idle_after.filter(|_| !self.idle && self.rests())?;
        Some(self.quiet_since + after)
    }

    fn show(&mut self, text: String, out: &mut HeadlessEffects) {
        self.remember(&text);
        out.effects.push(Effect::Show(text));
    }

    /// Its last lines are what is told of its end.
    fn remember(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if self.last.len() >= LAST_LINES {
                self.last.pop_front();
            }
            let line = words::sanitise(line);
            self.last.push_back(line.chars().take(LAST_WIDTH).collect());
        }
    }

    fn saw(&mut self, now: Mono, bytes: &[u8], out: &mut HeadlessEffects) {
        for line in self.output.push(bytes) {
            self.line(now, line, out);
        }
    }

    fn saw_errors(&mut self, lines: Vec<OutputLine>, out: &mut HeadlessEffects) {
        for line in lines {
            if let OutputLine::Whole(line) = line {
                self.remember(&line);
                out.effects.push(Effect::ShowError(line));
            }
        }
    }

    fn command(&mut self, now: Mono, command: AgentCommand, out: &mut HeadlessEffects) {
        match command {
            AgentCommand::Inject(injection) if self.waiting.len() >= WAITING => {
                let why = "too many messages wait for this agent".to_owned();
                Self::report(out, AgentReport::Failed(injection.delivery_id, why));
            }
            AgentCommand::Inject(injection) => self.waiting.push_back(*injection),
            AgentCommand::Withdraw(id) => self.withdraw(id, out),
            AgentCommand::Interrupt(ticket) => {
                let result = self.interrupt_asked(out);
                Self::report(out, AgentReport::Interrupted(ticket, result));
            }
            // There is no terminal to look at, and nothing that waits for a look.
            AgentCommand::Insist | AgentCommand::Snapshot { .. } => {}
            AgentCommand::Stop { grace } => {
                out.effects.push(Effect::Signal(Ending::HangUp));
                // A second order may shorten the grace, not lengthen it.
                self.kill_at = soonest(self.kill_at, Some(now + grace));
                self.stopping = true;
            }
        }
    }

    fn tick(&mut self, now: Mono, out: &mut HeadlessEffects) {
        if self.kill_at.is_some_and(|at| at <= now) {
            out.effects.push(Effect::Signal(Ending::Kill));
            self.kill_at = Some(now + KILL_AGAIN);
        }
        if self.idle_at().is_some_and(|at| at <= now) {
            self.falls_idle(now.since(self.quiet_since), out);
        }
        self.look_for_hang(now, out);
    }

    fn exited(&mut self, now: Mono, mut how: How, out: &mut HeadlessEffects) {
        // A whole line may lack its end; one that is torn says nothing but itself.
        if let Some(line) = self.output.finish() {
            self.line(now, line, out);
        }
        let rest = self.errors.finish().into_iter().collect();
        self.saw_errors(rest, out);
        self.gone = true;
        how.last = self.last.drain(..).collect();
        Self::report(out, AgentReport::Exited(how));
    }
}

impl Machine for HeadlessCore {
    type Event = Event;
    /// As every agent, it has nothing to remember.
    type Record = ();
    type Effect = Effect;

    fn step(&mut self, now: Now, event: Event, out: &mut HeadlessEffects) {
        let now = now.mono;
        match event {
            Event::Began => {
                let evidence = READY.to_owned();
                Self::report(out, AgentReport::Ready { evidence });
            }
            Event::Output(bytes) => {
                self.heard_at = now;
                self.saw(now, &bytes, out);
            }
            Event::Errors(bytes) => {
                self.heard_at = now;
                let lines = self.errors.push(&bytes);
                self.saw_errors(lines, out);
            }
            Event::Wrote(bytes) => self.wrote(bytes, out),
            Event::Command(command) => self.command(now, command, out),
            Event::Tick => self.tick(now, out),
            Event::Exited(how) => self.exited(now, how, out),
        }
        self.advance(now, out);
    }

    fn replay(&mut self, (): &()) {}

    fn snapshot(&self) -> Option<()> {
        None
    }

    fn deadline(&self) -> Option<Mono> {
        if self.gone {
            return None;
        }
        soonest(self.hangs_at(), soonest(self.idle_at(), self.kill_at))
    }
}

#[cfg(test)]
mod tests;
