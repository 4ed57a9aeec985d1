//! The only place that starts threads, and the thread that runs an [`EventLoop`]: it sleeps on the inbox and reads the
//! clock.

use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::machine::event_loop::{Driver, EventLoop, Progress};
use crate::machine::{Log, Machine};
use crate::sys::{clock, failpoint, limits};
use crate::time::Mono;

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
/// When the operating system has no thread to give, or a limit of memory none that leaves the others enough.
pub fn start(
    name: impl Into<String>,
    stack_kib: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Handle> {
    let (name, stack_bytes) = (name.into(), stack_kib * 1024);
    limits::check_room(stack_bytes as u64)?;
    let (alive, over) = bounded::<()>(0);
    std::thread::Builder::new()
        .name(name.clone())
        .stack_size(stack_bytes)
        .spawn(move || {
            let _alive = alive;
            body();
        })?;
    Ok(Handle { name, over })
}

/// Batches that take longer than this are named in the log.
const SLOW: Duration = Duration::from_millis(250);

/// Runs an event loop until its inbox closes or the loop ends.
pub fn drive<M: Machine, L: Log<M::Record>, D: Driver<M>>(
    event_loop: &mut EventLoop<M, L>,
    driver: &mut D,
    inbox: &Receiver<D::Inbound>,
) {
    let mut batch = None;
    loop {
        let now = clock::now();
        while event_loop.has_room::<D>()
            && let Ok(inbound) = inbox.try_recv()
        {
            event_loop.take(now, inbound, driver);
        }
        let came = match event_loop.step(now, driver) {
            Progress::Durable(events) => {
                failpoint::hit("commit.durable");
                batch = Some((events, now.mono));
                None
            }
            Progress::Performed => {
                failpoint::hit("commit.performed");
                if let Some((events, since)) = batch.take() {
                    tell_slow(events, clock::now().mono.since(since));
                }
                None
            }
            Progress::Waiting(until) => match receive(inbox, until) {
                Err(RecvTimeoutError::Disconnected) => return,
                came => came.ok(),
            },
            Progress::Refused(until) if event_loop.has_room::<D>() => {
                let came = receive(inbox, Some(until));
                if matches!(came, Err(RecvTimeoutError::Disconnected)) {
                    // Nobody is left to send anything, and what is decided is still to be written.
                    sleep_until(until);
                }
                came.ok()
            }
            Progress::Refused(until) => {
                sleep_until(until);
                None
            }
            Progress::Ended => return,
        };
        if let Some(inbound) = came {
            event_loop.take(clock::now(), inbound, driver);
        }
    }
}

fn receive<T>(inbox: &Receiver<T>, until: Option<Mono>) -> Result<T, RecvTimeoutError> {
    match until {
        None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(at) => inbox.recv_timeout(at.since(clock::now().mono)),
    }
}

fn sleep_until(at: Mono) {
    std::thread::sleep(at.since(clock::now().mono));
}

fn tell_slow(events: usize, took: Duration) {
    if took > SLOW {
        log::warn!("a step of {events} events took {took:?}");
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// How long anything may take before a test says that it did not happen. Generous, because machines are shared.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// What the work comes to, done on a thread of its own.
    ///
    /// # Panics
    /// With what did not happen, when the work has no end; and as the work panics.
    pub fn within<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, over) = bounded(1);
        let thread = std::thread::spawn(move || {
            let _ = done.send(work());
        });
        match over.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => panic!("did not happen within {PATIENCE:?}: {what}"),
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => panic!("no result: {what}"),
            },
        }
    }
}
