//! What an agent's core decides is done here: each effect goes out through one of the [`AgentPorts`], what it asks of the
//! terminal is answered before anything later comes in, and what a full terminal does not take is kept. The terminal is
//! behind the ports, so a simulation runs this loop too.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::agent::core::{AgentCore, Effect, Ending, Event};
use crate::agent::profile::Source;
use crate::agent::proof::MessageHead;
use crate::agent::tty_state::TtyState;
use crate::machine::NoLog;
use crate::machine::event_loop::{Driver, EventLoop};
use crate::msg::{AgentReport, How, Size};
use crate::time::{Mono, Now, Wall};

/// The ways out of an agent's core. None of them waits.
pub trait AgentPorts {
    /// How the terminal is set up now.
    fn tty_state(&mut self) -> TtyState;

    /// Whether anybody waits for what is typed; `None` where nobody can tell.
    fn awaited(&mut self) -> Option<bool>;

    /// Puts the first of these bytes into the terminal, and says how many; 0 where it is full or has hung up.
    fn write(&mut self, bytes: &[u8]) -> usize;

    /// Gives the terminal this size.
    fn resize(&mut self, size: Size);

    /// Hangs up on the program, or kills everything it started.
    fn signal(&mut self, ending: Ending);

    /// Remembers how far the program's history goes.
    fn note_history(&mut self, source: Source);

    /// Whether the message was added to the program's history since then. It may stand there as a placeholder.
    fn is_in_history(&mut self, head: &MessageHead, may_be_placeholder: bool) -> bool;

    /// Tells the dispatcher.
    fn report(&mut self, report: AgentReport);

    /// Those keys are in the terminal, or will never be.
    fn pressed(&mut self, number: u64, result: Result<usize, String>);
}

/// Performs the effects of a core.
struct AgentDriver<P> {
    ports: P,
    /// What the terminal has not taken yet. The core bounds it: one message, a few keys, fewer answers.
    unwritten: VecDeque<u8>,
    /// The program is gone: there is only something to report.
    over: bool,
}

impl<P: AgentPorts> Driver<AgentCore> for AgentDriver<P> {
    type Inbound = Event;

    fn accept(&mut self, event: Event) -> Event {
        event
    }

    fn tick(&self) -> Event {
        Event::Tick
    }

    fn perform(&mut self, _: Wall, effect: Effect, events: &mut Vec<Event>) -> ControlFlow<()> {
        match effect {
            Effect::Report(report) => self.ports.report(report),
            _ if self.over => {}
            Effect::Write(bytes) => self.unwritten.extend(bytes),
            Effect::Probe => events.push(Event::Tty(self.ports.tty_state())),
            Effect::Seek => events.push(Event::Awaited(self.ports.awaited())),
            Effect::NoteHistory(source) => self.ports.note_history(source),
            Effect::AskHistory(head, may_be_placeholder) => {
                if self.ports.is_in_history(&head, may_be_placeholder) {
                    events.push(Event::InHistory);
                }
            }
            Effect::Keys(number, result) => self.ports.pressed(number, result),
            Effect::Resize(size) => self.ports.resize(size),
            Effect::Signal(ending) => self.ports.signal(ending),
        }
        ControlFlow::Continue(())
    }

    /// An agent writes nothing down.
    fn degraded(&mut self, _: Option<&str>) {}
}

impl<P: AgentPorts> AgentDriver<P> {
    /// Writes what the terminal takes; how many bytes that was.
    fn flush(&mut self) -> usize {
        if self.unwritten.is_empty() {
            return 0;
        }
        let wrote = self.ports.write(self.unwritten.make_contiguous());
        self.unwritten.drain(..wrote);
        wrote
    }
}

/// One agent's core with the loop that drives it. Bytes are in the terminal in the order in which the core wrote them.
pub struct AgentLoop<P> {
    event_loop: EventLoop<AgentCore, NoLog>,
    driver: AgentDriver<P>,
}

impl<P: AgentPorts> AgentLoop<P> {
    /// From the moment the program runs.
    pub fn new(core: AgentCore, ports: P) -> Self {
        Self {
            event_loop: EventLoop::new(core, NoLog),
            driver: AgentDriver {
                ports,
                unwritten: VecDeque::new(),
                over: false,
            },
        }
    }

    /// Takes in what happened. All that is taken in at one moment is decided before any of it is done: a terminal that was
    /// emptied is not to be looked at between what it showed and that it was emptied.
    pub fn take(&mut self, now: Now, event: Event) {
        self.event_loop.take(now, event, &mut self.driver);
    }

    /// Does what the core wants until it wants nothing more and the terminal takes nothing more; when it is due again, if
    /// nothing happens before.
    pub fn settle(&mut self, clock: impl Fn() -> Now) -> Option<Mono> {
        loop {
            let until = self.event_loop.settle(&clock, &mut self.driver);
            match self.driver.flush() {
                0 => return until,
                wrote => self.take(clock(), Event::Wrote(wrote)),
            }
        }
    }

    /// From here on only reports leave: nobody reads the terminal any more.
    pub fn let_go(&mut self) {
        self.driver.over = true;
        self.driver.unwritten.clear();
    }

    /// The program ended, and all it wrote was taken in.
    pub fn end(&mut self, clock: impl Fn() -> Now, how: How) {
        self.let_go();
        self.take(clock(), Event::Exited(how));
        self.settle(clock);
    }

    /// Whether something waits until the terminal takes it.
    pub fn has_unwritten(&self) -> bool {
        !self.driver.unwritten.is_empty()
    }

    /// The core, for looking.
    pub fn core(&self) -> &AgentCore {
        self.event_loop.machine()
    }

    /// The ways out.
    pub fn ports(&mut self) -> &mut P {
        &mut self.driver.ports
    }
}

#[cfg(test)]
mod tests;
