//! The only place that starts threads, and the one loop that drives a machine: drain the inbox, decide, make durable,
//! perform.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::machine::{Log, Machine, Out, decide, persist};
use crate::sys::{clock, failpoint};
use crate::time::Now;

/// A thread somebody owns. Dropping the handle lets the thread go on; [`Handle::join_within`] waits for it.
#[derive(Debug)]
pub struct Handle {
    name: String,
    over: Receiver<()>,
}

impl Handle {
    /// Waits at most `limit`; says whether the thread ended, and logs its name if it would not.
    pub fn join_within(&self, limit: Duration) -> bool {
        let ended = self.ends_within(limit);
        if !ended {
            log::warn!(
                "thread {} has not ended within {limit:?}; leaving it",
                self.name
            );
        }
        ended
    }

    /// Waits at most `limit`; says whether the thread ended. For owners who will insist before they complain.
    pub fn ends_within(&self, limit: Duration) -> bool {
        // The thread holds the only sender, so the end of the channel is the end of the thread.
        matches!(
            self.over.recv_timeout(limit),
            Err(RecvTimeoutError::Disconnected)
        )
    }

    /// Waits until the thread ends.
    pub fn join(&self) {
        let _ = self.over.recv();
    }
}

/// Starts a named thread with a stack of `stack_kib` KiB.
///
/// # Errors
/// When the operating system has no thread to give.
pub fn start(
    name: impl Into<String>,
    stack_kib: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Handle> {
    let name = name.into();
    let (alive, over) = bounded::<()>(0);
    std::thread::Builder::new()
        .name(name.clone())
        .stack_size(stack_kib * 1024)
        .spawn(move || {
            let _alive = alive;
            body();
        })?;
    Ok(Handle { name, over })
}

/// The most events one batch takes, so that a flood cannot put off speaking for ever.
const BATCH: usize = 1024;
/// How long between tries while the journal cannot be written.
const RETRY: Duration = Duration::from_millis(500);
/// How long between signs of life while the journal cannot be written.
const PULSE: Duration = Duration::from_secs(10);
/// Turns that take longer than this are named in the log.
const SLOW: Duration = Duration::from_millis(250);

/// What [`drive`] needs from its owner besides the machine and its log.
pub trait Shell<M: Machine> {
    /// Makes the machine's event out of what came in; this is where tickets are given out.
    type Inbound;
    /// See [`Shell::Inbound`].
    fn accept(&mut self, inbound: Self::Inbound) -> M::Event;
    /// The event for a passed deadline.
    fn tick(&self) -> M::Event;
    /// Performs one effect; `Break` ends the loop.
    fn perform(&mut self, effect: M::Effect) -> ControlFlow<()>;
    /// A batch was decided at this time; its effects follow, perhaps much later, once its records are on disk.
    fn decided(&mut self, _: Now) {}
    /// Events the shell itself gave rise to while performing, for example a call it could not make.
    fn own_events(&mut self) -> Vec<M::Event> {
        Vec::new()
    }
    /// The log cannot be written (`Some`), or can again (`None`).
    fn trouble(&mut self, what: Option<&str>);
    /// How many events are taken in while the log cannot be written, to see what can be done about them meanwhile. With 0
    /// they wait where they are.
    const MEANWHILE: usize = 0;
    /// Whether to end now although the log cannot be written. Nothing of the last batch leaves then, so nothing is lost.
    fn give_up(&self) -> bool {
        false
    }
}

/// Runs a machine until its inbox closes or an effect breaks the loop. While the log refuses, no step is taken and nothing
/// of the last one leaves: the same batch is offered again until the disk takes it. Only what rests on no record is done
/// in between ([`Machine::meanwhile`]).
pub fn drive<M: Machine, L: Log<M::Record>, S: Shell<M>>(
    machine: &mut M,
    log: &mut L,
    shell: &mut S,
    inbox: &Receiver<S::Inbound>,
) {
    let mut out = Out::default();
    let mut batch = Vec::new();
    loop {
        // After what came in while nothing could be written.
        batch.extend(shell.own_events());
        if batch.is_empty() {
            let first = match machine.deadline() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_timeout(at.since(clock::now().mono)),
            };
            match first {
                Ok(inbound) => batch.push(shell.accept(inbound)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        while batch.len() < BATCH
            && let Ok(inbound) = inbox.try_recv()
        {
            batch.push(shell.accept(inbound));
        }
        let now = clock::now();
        if machine.deadline().is_some_and(|at| at <= now.mono) {
            batch.push(shell.tick());
            // Now and then, so that an idle broker notices too when its journal is taken away.
            log.look();
        }
        let events = batch.len();
        decide(machine, now, batch.drain(..), &mut out);
        shell.decided(now);
        if let Err(trouble) = persist(machine, log, &mut out) {
            log::error!("{trouble}; nothing is acknowledged until it can be written");
            shell.trouble(Some(&trouble.0));
            let mut pulse = clock::now().mono;
            while let Err(trouble) = persist(machine, log, &mut out) {
                // What keeps it from being written may be another thing than what began it.
                shell.trouble(Some(&trouble.0));
                if shell.give_up() {
                    log::error!(
                        "leaving without having written the last batch: none of it was acted upon"
                    );
                    return;
                }
                if S::MEANWHILE > 0 && pulse <= clock::now().mono {
                    pulse = clock::now().mono + PULSE;
                    aside(machine, shell, &shell.tick());
                }
                take_in(machine, shell, inbox, &mut batch);
            }
            log::info!("the journal can be written again");
            shell.trouble(None);
        }
        failpoint::hit("commit.durable");
        for effect in out.effects.drain(..) {
            if shell.perform(effect).is_break() {
                return;
            }
        }
        failpoint::hit("commit.performed");
        let took = clock::now().mono.since(now.mono);
        if took > SLOW {
            log::warn!("a step of {events} events took {took:?}");
        }
    }
}

/// Until the next try: what comes in is put behind the others in `later`, unless all about it can be done aside.
fn take_in<M: Machine, S: Shell<M>>(
    machine: &M,
    shell: &mut S,
    inbox: &Receiver<S::Inbound>,
    later: &mut Vec<M::Event>,
) {
    let until = clock::now().mono + RETRY;
    loop {
        let left = until.since(clock::now().mono);
        let came = match later.len() < S::MEANWHILE {
            true => inbox.recv_timeout(left).ok(),
            false => None,
        };
        let Some(inbound) = came else {
            // Full, or nobody is left to send anything.
            return std::thread::sleep(until.since(clock::now().mono));
        };
        let event = shell.accept(inbound);
        if !aside(machine, shell, &event) {
            later.push(event);
        }
        later.extend(shell.own_events());
    }
}

/// Does what can be done about an event without a step; whether that was all.
fn aside<M: Machine, S: Shell<M>>(machine: &M, shell: &mut S, event: &M::Event) -> bool {
    let mut effects = Vec::new();
    let all = machine.meanwhile(clock::now(), event, &mut effects);
    for effect in effects {
        // The end is not among them: it waits for what is to be written, or for `give_up`.
        let _ = shell.perform(effect);
    }
    all
}
