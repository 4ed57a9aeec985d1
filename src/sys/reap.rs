//! Children that ended. One thread, blocked in the signal pipe, does every `wait` of the process; whoever started a child
//! claims its pid here and is called once. Nobody else waits for a child. Knows nothing of what the children are.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;

use crate::msg::How;
use crate::sys::thread;

/// How many statuses of unclaimed children are kept; the oldest goes first. Only orphans nobody asks for get so old.
const KEPT: usize = 256;

/// Called once, on the reaper's or the claimer's thread; must not block.
type Then = Box<dyn FnOnce(How) + Send>;

#[derive(Default)]
struct State {
    claims: HashMap<u32, Then>,
    /// Statuses of children that were reaped before anybody claimed them.
    kept: VecDeque<(u32, How)>,
    adopting: bool,
}

/// The one who waits for children.
pub struct Reaper {
    state: Mutex<State>,
    signals: signal_hook::iterator::Handle,
}

impl Reaper {
    /// Starts the `reaper` thread.
    ///
    /// # Errors
    /// When SIGCHLD cannot be taken over, or there is no thread to be had.
    pub fn start() -> io::Result<Arc<Self>> {
        let mut signals = Signals::new([SIGCHLD])?;
        let reaper = Arc::new(Self {
            state: Mutex::default(),
            signals: signals.handle(),
        });
        let worker = reaper.clone();
        thread::start("reaper", 128, move || {
            for _ in signals.forever() {
                worker.look();
            }
        })?;
        Ok(reaper)
    }

    /// Calls `then` with how that child ended, now if it already has.
    pub fn claim(&self, pid: u32, then: Then) {
        let ended = {
            let mut state = self.state.lock();
            match wait_for(pid) {
                Waited::Running => {
                    state.claims.insert(pid, then);
                    return;
                }
                Waited::Ended(how) => how,
                // A live child of that pid would have answered, so what was kept under it is this child's.
                Waited::NotOurs => match state.kept.iter().rposition(|(kept, _)| *kept == pid) {
                    Some(at) => state.kept.remove(at).map_or_else(unknown, |(_, how)| how),
                    None => unknown(),
                },
            }
        };
        then(ended);
    }

    /// Whether to reap children nobody claimed: needed as PID 1 and as the one orphans fall to. It would take statuses
    /// away from library code that waits for its own children.
    ///
    /// # Errors
    /// When the operating system does not let us be a subreaper; reaping as PID 1 works all the same.
    pub fn adopt_orphans(&self, yes: bool) -> io::Result<()> {
        self.state.lock().adopting = yes;
        self.look();
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(yes.then(rustix::process::getpid))?;
        Ok(())
    }

    /// Ends the thread. Claims made after that are never called, except for children that ended already.
    pub fn stop(&self) {
        self.signals.close();
    }

    fn look(&self) {
        let mut due: Vec<(Then, How)> = Vec::new();
        {
            let mut state = self.state.lock();
            let pids: Vec<u32> = state.claims.keys().copied().collect();
            for pid in pids {
                let how = match wait_for(pid) {
                    Waited::Running => continue,
                    Waited::Ended(how) => how,
                    Waited::NotOurs => unknown(),
                };
                due.extend(state.claims.remove(&pid).map(|then| (then, how)));
            }
            while state.adopting
                && let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG)
            {
                let Some(how) = how(status) else { continue };
                let pid = pid.as_raw_nonzero().get().unsigned_abs();
                match state.claims.remove(&pid) {
                    Some(then) => due.push((then, how)),
                    None => {
                        if state.kept.len() == KEPT {
                            state.kept.pop_front();
                        }
                        state.kept.push_back((pid, how));
                    }
                }
            }
        }
        for (then, how) in due {
            then(how);
        }
    }
}

enum Waited {
    Running,
    Ended(How),
    NotOurs,
}

fn wait_for(pid: u32) -> Waited {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Waited::NotOurs;
    };
    match waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => how(status).map_or(Waited::Running, Waited::Ended),
        Ok(None) | Err(rustix::io::Errno::INTR) => Waited::Running,
        Err(_) => Waited::NotOurs,
    }
}

/// `None` for a child that was only stopped or continued.
fn how(status: WaitStatus) -> Option<How> {
    let (code, signal) = (status.exit_status(), status.terminating_signal());
    (code.is_some() || signal.is_some()).then_some(How {
        code,
        signal,
        ..How::default()
    })
}

fn unknown() -> How {
    How {
        note: Some("ended; its exit status is not known".into()),
        ..How::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    fn claimed(reaper: &Reaper, pid: u32) -> crossbeam_channel::Receiver<How> {
        let (tx, rx) = crossbeam_channel::bounded(1);
        reaper.claim(pid, Box::new(move |how| drop(tx.send(how))));
        rx
    }

    #[test]
    #[allow(clippy::zombie_processes)] // waiting for them is what is tested
    fn the_claimer_learns_code_and_signal() {
        let reaper = Reaper::start().expect("thread");
        let seven = Command::new("sh")
            .args(["-c", "exit 7"])
            .spawn()
            .expect("sh");
        let killed = Command::new("sh")
            .args(["-c", "kill -9 $$"])
            .spawn()
            .expect("sh");
        let wait = Duration::from_secs(10);
        let how = claimed(&reaper, seven.id())
            .recv_timeout(wait)
            .expect("called");
        assert_eq!((how.code, how.signal), (Some(7), None));
        let how = claimed(&reaper, killed.id())
            .recv_timeout(wait)
            .expect("called");
        assert_eq!((how.code, how.signal), (None, Some(9)));
        reaper.stop();
    }

    #[test]
    fn a_pid_that_is_no_child_is_answered_at_once() {
        let reaper = Reaper::start().expect("thread");
        let how = claimed(&reaper, 1).try_recv().expect("called at once");
        assert!(how.note.is_some());
        reaper.stop();
    }
}
