//! `up --exit-with-agents`: the broker lives as long as the agents that started with it, so that a container ends when its
//! work does, with an exit code that says how the work went.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::failure::Failure;
use crate::broker::{Broker, Stopper};
use crate::config::ExitWith;
use crate::pubsub::Topic;
use crate::sys::thread;
use crate::wire::local::Status;

const THREAD_KIB: usize = 256;
/// How long the dispatcher may take to say who is left; it is asked again at the next end.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// How the work went: well, or why not.
type WorkResult = Result<(), String>;

/// Whose end ends the broker, and what came of it.
pub struct AgentWatch {
    result: Arc<Mutex<Option<WorkResult>>>,
}

impl AgentWatch {
    /// Follows a broker that has just started.
    ///
    /// # Errors
    /// When there is no room for another thread.
    pub fn follow(which: ExitWith, names: BTreeSet<String>, broker: &Broker) -> io::Result<Self> {
        let result = Arc::new(Mutex::new(None));
        let watch = Watch {
            which,
            names,
            stopper: broker.stopper(),
            result: result.clone(),
        };
        let topic = broker.events();
        thread::start("work", THREAD_KIB, move || {
            if let Err(e) = watch.run(&topic) {
                log::error!("--exit-with-agents has no effect: {e}");
            }
        })?;
        Ok(Self { result })
    }

    /// What the process ends with, once the broker has left.
    ///
    /// # Errors
    /// When an agent did not end well.
    pub fn outcome(&self) -> Result<(), Failure> {
        match self.result.lock().take() {
            Some(Err(why)) => Err(Failure::new(why)),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

/// What the thread owns.
struct Watch {
    which: ExitWith,
    names: BTreeSet<String>,
    stopper: Stopper,
    result: Arc<Mutex<Option<WorkResult>>>,
}

impl Watch {
    /// Until the end of the broker.
    fn run(&self, topic: &Topic<Arc<str>>) -> io::Result<()> {
        loop {
            // Listened to before the first look, so that no end falls between the two.
            let ends = topic.subscribe_numbered(None, is_an_end)?;
            self.look();
            while ends.items.recv().is_some() {
                self.look();
            }
            if !ends.lagged() {
                return Ok(());
            }
        }
    }

    fn look(&self) {
        let Ok(status) = self.stopper.status(LOOK_LIMIT) else {
            return;
        };
        if let Some(result) = work_result(self.which, &self.names, &status)
            && !self.stopper.is_asked()
        {
            if let Err(why) = &result {
                log::error!("{why}");
            }
            *self.result.lock() = Some(result);
            self.stopper.stop();
        }
    }
}

/// Whether an event may be the last of an agent.
fn is_an_end(text: &Arc<str>) -> bool {
    let ends = [
        "\"kind\":\"agent_exited",
        "\"kind\":\"agent_released",
        "\"kind\":\"agent_permanently_dead",
        "\"kind\":\"worker_error",
    ];
    ends.iter().any(|kind| text.contains(kind))
}

/// How the work went, once it is over. One that waits for another start has not ended, and one that was released has ended
/// well.
fn work_result(which: ExitWith, names: &BTreeSet<String>, status: &Status) -> Option<WorkResult> {
    let here = |name: &&String| status.agents.iter().any(|a| a.name.as_str() == **name);
    let mut ended = names.iter().filter(|name| !here(name)).peekable();
    ended.peek()?;
    // Whoever else runs here may be at work for those that ended.
    if which == ExitWith::All && !status.agents.is_empty() {
        return None;
    }
    let failures: Vec<String> = ended
        .filter_map(|name| status.departed.iter().find(|d| d.name.as_str() == name))
        .filter(|departed| departed.given_up || departed.code != Some(0))
        .map(|departed| format!("agent {} ended: {}", departed.name, departed.reason))
        .collect();
    Some(match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("; ")),
    })
}
