//! The event loop of a [`Machine`]: what comes in is decided, made durable, and only then performed. It has no thread, no
//! clock and no inbox of its own: `sys::thread::drive` runs it in real time, and a simulation in the time of its world.

use std::ops::ControlFlow;
use std::time::Duration;

use super::{CommitError, Log, Machine, Out, commit, persist};
use crate::time::{Mono, Now, Wall};

/// The most events one batch takes, so that a flood cannot put off speaking for ever.
const BATCH: usize = 1024;
/// How long between tries while the log cannot be written.
const RETRY: Duration = Duration::from_millis(500);
/// The most steps of one call: a machine whose deadline does not move on must not keep its thread from everything else.
const STEPS: usize = 1024;
/// How long between signs of life while the log cannot be written.
const PULSE: Duration = Duration::from_secs(10);

/// What an event loop needs besides the machine and its log: somebody who does what the machine decides.
pub trait Driver<M: Machine> {
    /// What comes in for the machine.
    type Inbound;

    /// How many events are taken in while the log cannot be written, to see what can be done about them meanwhile. With 0
    /// they wait where they are.
    const MEANWHILE: usize = 0;

    /// Makes the machine's event out of what came in; this is where tickets are given out.
    fn accept(&mut self, inbound: Self::Inbound) -> M::Event;

    /// The event for a passed deadline.
    fn tick(&self) -> M::Event;

    /// Performs one effect of what was decided `at` that time; `Break` ends the loop. What performing gives rise to, for
    /// example a call that could not be made, is added to `events`.
    fn perform(
        &mut self,
        at: Wall,
        effect: M::Effect,
        events: &mut Vec<M::Event>,
    ) -> ControlFlow<()>;

    /// The log cannot be written (`Some`, with the reason), or can be again (`None`).
    fn degraded(&mut self, why: Option<&str>);

    /// Whether to end now although the log cannot be written. Nothing of the last batch leaves then, so nothing is lost.
    fn gives_up(&self, _now: Now) -> bool {
        false
    }
}

/// What a step of the loop came to, and so when the next one is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A batch of so many events is decided and durable. The next step performs its effects.
    Durable(usize),
    /// The effects of a batch are performed. The next step looks for more to do.
    Performed,
    /// There is nothing to do. The next step is due when something has come in, and at that time.
    Waiting(Option<Mono>),
    /// The log refuses the batch. The next step, at that time, offers it again; what comes in until then is handed to
    /// [`EventLoop::take`] while there is room.
    Refused(Mono),
    /// The loop is over.
    Ended,
}

/// Where a loop stands between two steps.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing is decided that is not performed.
    Open,
    /// What is decided is not durable.
    Refused {
        retry: Mono,
        pulse: Mono,
    },
    /// What is decided is durable and not performed.
    Durable,
    Ended,
}

/// See the module.
pub struct EventLoop<M: Machine, L> {
    machine: M,
    log: L,
    out: Out<M::Record, M::Effect>,
    /// What came in and has not taken its step.
    events: Vec<M::Event>,
    phase: Phase,
}

impl<M: Machine, L: Log<M::Record>> EventLoop<M, L> {
    /// A loop that begins with what `think` has the machine decide. That is durable when this returns, and performed by
    /// the first step.
    ///
    /// # Errors
    /// As [`persist`]; nothing of it leaves then.
    pub fn begin(
        mut machine: M,
        mut log: L,
        now: Now,
        think: impl FnOnce(&mut M, &mut Out<M::Record, M::Effect>),
    ) -> Result<Self, CommitError> {
        let mut out = Out {
            at: Some(now.wall),
            ..Out::default()
        };
        think(&mut machine, &mut out);
        M::arrange(&mut out.effects);
        persist(&machine, &mut log, &mut out)?;
        Ok(Self {
            out,
            phase: Phase::Durable,
            ..Self::new(machine, log)
        })
    }

    /// A loop whose machine has decided nothing yet.
    pub fn new(machine: M, log: L) -> Self {
        Self {
            machine,
            log,
            out: Out::default(),
            events: Vec::new(),
            phase: Phase::Open,
        }
    }

    /// Takes this in and steps until there is nothing to do but to wait, for the log too; how long at most. For machines
    /// whose events come one by one.
    pub fn feed<D: Driver<M>>(
        &mut self,
        clock: impl Fn() -> Now,
        inbound: D::Inbound,
        driver: &mut D,
    ) -> Option<Mono> {
        self.take(clock(), inbound, driver);
        self.settle(clock, driver)
    }

    /// Steps until there is nothing to do but to wait, for the log too; how long at most.
    pub fn settle<D: Driver<M>>(
        &mut self,
        clock: impl Fn() -> Now,
        driver: &mut D,
    ) -> Option<Mono> {
        for _ in 0..STEPS {
            match self.step(clock(), driver) {
                Progress::Durable(_) | Progress::Performed => {}
                Progress::Waiting(until) => return until,
                Progress::Refused(until) => return Some(until),
                Progress::Ended => return None,
            }
        }
        Some(clock().mono)
    }

    /// The machine, for looking.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Whether everything that was taken in is decided, durable and performed.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.events.is_empty()
    }

    /// Whether more is taken in now. What finds no room waits where it is.
    pub fn has_room<D: Driver<M>>(&self) -> bool {
        match self.phase {
            Phase::Open => self.events.len() < BATCH,
            Phase::Refused { .. } => self.events.len() < D::MEANWHILE,
            Phase::Durable | Phase::Ended => false,
        }
    }

    /// Takes in what came. Its step follows with the next batch; while the log refuses, what can be done without a step is
    /// done at once ([`Machine::meanwhile`]).
    pub fn take<D: Driver<M>>(&mut self, now: Now, inbound: D::Inbound, driver: &mut D) {
        let event = driver.accept(inbound);
        let refused = matches!(self.phase, Phase::Refused { .. });
        if !refused || !self.aside(now, &event, driver) {
            self.events.push(event);
        }
    }

    /// Does what is to be done next. While the log refuses, no event takes its step and nothing of the last batch leaves:
    /// the same batch is offered again until the disk takes it.
    pub fn step<D: Driver<M>>(&mut self, now: Now, driver: &mut D) -> Progress {
        match self.phase {
            Phase::Open => self.commit(now, driver),
            Phase::Refused { retry, .. } if now.mono < retry => Progress::Refused(retry),
            Phase::Refused { pulse, .. } => self.retry(now, pulse, driver),
            Phase::Durable => self.perform(driver),
            Phase::Ended => Progress::Ended,
        }
    }

    fn commit<D: Driver<M>>(&mut self, now: Now, driver: &mut D) -> Progress {
        let deadline = self.machine.deadline();
        if deadline.is_some_and(|at| at <= now.mono) {
            self.events.push(driver.tick());
            // Now and then, so that an idle broker notices too when its journal is taken away.
            self.log.look();
        }
        if self.events.is_empty() {
            return Progress::Waiting(deadline);
        }
        let count = self.events.len();
        let (machine, log) = (&mut self.machine, &mut self.log);
        match commit(machine, log, now, self.events.drain(..), &mut self.out) {
            Ok(()) => self.durable(count),
            Err(error) => {
                log::error!(event = "degraded"; "{error}; nothing is acknowledged until it can be written");
                driver.degraded(Some(&error.0));
                self.retry(now, now.mono, driver)
            }
        }
    }

    fn retry<D: Driver<M>>(&mut self, now: Now, mut pulse: Mono, driver: &mut D) -> Progress {
        match persist(&self.machine, &mut self.log, &mut self.out) {
            Ok(()) => {
                log::info!(event = "recovered"; "the journal can be written again");
                driver.degraded(None);
                return self.durable(0);
            }
            // What keeps it from being written may be another thing than what began it.
            Err(error) => driver.degraded(Some(&error.0)),
        }
        if driver.gives_up(now) {
            log::error!("leaving without having written the last batch: none of it was acted upon");
            self.phase = Phase::Ended;
            return Progress::Ended;
        }
        if D::MEANWHILE > 0 && pulse <= now.mono {
            pulse = now.mono + PULSE;
            let tick = driver.tick();
            self.aside(now, &tick, driver);
        }
        let retry = now.mono + RETRY;
        self.phase = Phase::Refused { retry, pulse };
        Progress::Refused(retry)
    }

    fn durable(&mut self, events: usize) -> Progress {
        self.phase = Phase::Durable;
        Progress::Durable(events)
    }

    fn perform<D: Driver<M>>(&mut self, driver: &mut D) -> Progress {
        let at = self.out.at.unwrap_or_default();
        for effect in self.out.effects.drain(..) {
            if driver.perform(at, effect, &mut self.events).is_break() {
                self.phase = Phase::Ended;
                return Progress::Ended;
            }
        }
        self.phase = Phase::Open;
        Progress::Performed
    }

    /// Does what can be done about an event without a step; whether that was all.
    fn aside<D: Driver<M>>(&mut self, now: Now, event: &M::Event, driver: &mut D) -> bool {
        let mut effects = Vec::new();
        let all = self.machine.meanwhile(now, event, &mut effects);
        for effect in effects {
            // The end is not among them: it waits for what is to be written, or for `gives_up`.
            let _ = driver.perform(now.wall, effect, &mut self.events);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what it is told. Asked meanwhile, it answers 0 about 0, and does nothing about the rest.
    #[derive(Default)]
    struct Counter(u64);

    impl Machine for Counter {
        type Event = u64;
        type Record = u64;
        type Effect = u64;
        fn step(&mut self, _: Now, event: u64, out: &mut Out<u64, u64>) {
            self.0 += event;
            out.records.push(event);
            out.effects.push(self.0);
        }
        fn meanwhile(&self, _: Now, event: &u64, effects: &mut Vec<u64>) -> bool {
            if *event == 0 {
                effects.push(0);
            }
            *event == 0
        }
        fn replay(&mut self, record: &u64) {
            self.0 += record;
        }
        fn snapshot(&self) -> Option<u64> {
            Some(self.0)
        }
        fn deadline(&self) -> Option<Mono> {
            None
        }
    }

    #[derive(Default)]
    struct Memory {
        lines: Vec<u64>,
        full: bool,
    }

    impl Log<u64> for Memory {
        fn commit(&mut self, records: &[u64]) -> Result<(), CommitError> {
            if self.full {
                return Err(CommitError("disk full".into()));
            }
            self.lines.extend_from_slice(records);
            Ok(())
        }
        fn is_long(&self, _: u64) -> bool {
            false
        }
        fn replace(&mut self, _: &u64) -> Result<(), CommitError> {
            Ok(())
        }
    }

    /// Performs by noting; 99 ends the loop, and 5 gives rise to 1.
    #[derive(Default)]
    struct Noting {
        performed: Vec<u64>,
        degraded: Option<String>,
        gives_up: bool,
    }

    impl Driver<Counter> for Noting {
        type Inbound = u64;
        const MEANWHILE: usize = 2;
        fn accept(&mut self, inbound: u64) -> u64 {
            inbound
        }
        fn tick(&self) -> u64 {
            0
        }
        fn perform(&mut self, _: Wall, effect: u64, events: &mut Vec<u64>) -> ControlFlow<()> {
            self.performed.push(effect);
            if effect == 5 {
                events.push(1);
            }
            match effect {
                99 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
        fn degraded(&mut self, why: Option<&str>) {
            self.degraded = why.map(str::to_owned);
        }
        fn gives_up(&self, _: Now) -> bool {
            self.gives_up
        }
    }

    fn at(ms: u64) -> Now {
        Now {
            mono: Mono(ms * 1_000_000),
            ..Now::default()
        }
    }

    fn begun() -> (EventLoop<Counter, Memory>, Noting) {
        let (mut driver, log) = (Noting::default(), Memory::default());
        let mut event_loop = EventLoop::begin(Counter::default(), log, at(0), |_, _| {})
            .expect("memory is not full");
        assert_eq!(event_loop.step(at(0), &mut driver), Progress::Performed);
        (event_loop, driver)
    }

    #[test]
    fn a_batch_is_durable_before_any_of_it_is_performed() {
        let (mut event_loop, mut driver) = begun();
        event_loop.take(at(0), 2, &mut driver);
        event_loop.take(at(0), 3, &mut driver);
        assert_eq!(event_loop.step(at(0), &mut driver), Progress::Durable(2));
        assert_eq!(
            (&event_loop.log.lines[..], driver.performed.len()),
            (&[2, 3][..], 0)
        );
        assert_eq!(event_loop.step(at(0), &mut driver), Progress::Performed);
        assert_eq!(driver.performed, [2, 5]);
        assert_eq!(
            event_loop.step(at(0), &mut driver),
            Progress::Durable(1),
            "what came of it"
        );
    }

    #[test]
    fn while_the_log_refuses_only_what_needs_no_record_is_done_and_the_batch_is_offered_again() {
        let (mut event_loop, mut driver) = begun();
        event_loop.log.full = true;
        event_loop.take(at(0), 7, &mut driver);
        assert_eq!(
            event_loop.step(at(0), &mut driver),
            Progress::Refused(at(500).mono)
        );
        assert_eq!(driver.degraded.as_deref(), Some("disk full"));
        assert_eq!(driver.performed, [0], "a sign of life");
        event_loop.take(at(1), 0, &mut driver);
        assert_eq!(driver.performed, [0, 0], "an answer at once");
        event_loop.take(at(2), 1, &mut driver);
        event_loop.take(at(3), 1, &mut driver);
        assert!(!event_loop.has_room::<Noting>(), "two wait already");
        assert_eq!(
            event_loop.step(at(499), &mut driver),
            Progress::Refused(at(500).mono)
        );
        event_loop.log.full = false;
        assert_eq!(event_loop.step(at(500), &mut driver), Progress::Durable(0));
        assert_eq!(driver.degraded, None);
        assert_eq!(event_loop.step(at(500), &mut driver), Progress::Performed);
        assert_eq!(driver.performed, [0, 0, 7]);
        assert_eq!(event_loop.step(at(500), &mut driver), Progress::Durable(2));
    }

    #[test]
    fn who_must_leave_while_the_log_refuses_leaves_with_nothing_said() {
        let (mut event_loop, mut driver) = begun();
        event_loop.log.full = true;
        driver.gives_up = true;
        event_loop.take(at(0), 7, &mut driver);
        assert_eq!(event_loop.step(at(0), &mut driver), Progress::Ended);
        assert!(driver.performed.is_empty());
    }

    /// Wants to be called at a time that has passed, for ever.
    struct Restless;

    impl Machine for Restless {
        type Event = u64;
        type Record = u64;
        type Effect = u64;
        fn step(&mut self, _: Now, _: u64, _: &mut Out<u64, u64>) {}
        fn replay(&mut self, _: &u64) {}
        fn snapshot(&self) -> Option<u64> {
            None
        }
        fn deadline(&self) -> Option<Mono> {
            Some(Mono(0))
        }
    }

    impl Driver<Restless> for () {
        type Inbound = u64;
        fn accept(&mut self, inbound: u64) -> u64 {
            inbound
        }
        fn tick(&self) -> u64 {
            0
        }
        fn perform(&mut self, _: Wall, _: u64, _: &mut Vec<u64>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn degraded(&mut self, _: Option<&str>) {}
    }

    #[test]
    fn a_machine_that_never_rests_leaves_its_thread_time_for_everything_else() {
        let mut event_loop = EventLoop::new(Restless, super::super::NoLog);
        assert_eq!(event_loop.settle(|| at(7), &mut ()), Some(at(7).mono));
    }

    #[test]
    fn nothing_is_performed_after_the_end() {
        let (mut event_loop, mut driver) = begun();
        event_loop.take(at(0), 99, &mut driver);
        event_loop.take(at(0), 1, &mut driver);
        assert_eq!(event_loop.step(at(0), &mut driver), Progress::Durable(2));
        assert_eq!(event_loop.step(at(0), &mut driver), Progress::Ended);
        assert_eq!(event_loop.step(at(0), &mut driver), Progress::Ended);
        assert_eq!(driver.performed, [99]);
    }
}
