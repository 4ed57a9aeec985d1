//! A broker as a whole: started, asked to leave, waited for. What it is told is in `settings`, its assembly in `start`, and
//! what performs the dispatcher's effects in [`driver`].

mod calls;
mod connection;
pub mod driver;
mod identity;
mod ports;
mod settings;
mod start;

pub use settings::{NodeSettings, Settings};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::agent::running;
use crate::api;
use crate::journal::Lock;
use crate::msg::{Event, Published};
use crate::pubsub::{Latest, Topic};
use crate::sys::{clock, thread};
use driver::Inbound;
use ports::DispatchInput;

/// How long a hurried end may take.
const HURRY: Duration = Duration::from_millis(500);
/// Beyond the agents' grace, for putting everything away.
const STOP_SLACK: Duration = Duration::from_millis(1500);

/// Why a broker did not start: one line that names the thing and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        1
    }

    fn because(what: impl std::fmt::Display) -> Self {
        Self(what.to_string())
    }
}

/// A running broker. The fields are in the order in which they are dropped.
pub struct Broker {
    api: api::ApiServer,
    url: String,
    connection: PathBuf,
    running: PathBuf,
    events: Arc<Topic<Arc<str>>>,
    uplink: thread::Handle,
    dispatch: thread::Handle,
    stopper: Stopper,
    /// Last: nobody else may open the folder while anything above is alive.
    _lock: Lock,
}

/// Asks a broker to leave, from any thread.
#[derive(Clone)]
pub struct Stopper {
    inbox: Sender<DispatchInput>,
    grace: Duration,
    asked: Arc<Mutex<bool>>,
    published: Arc<Latest<Published>>,
    life: Arc<api::BrokerLife>,
}

impl Stopper {
    /// The first call starts an orderly end, bounded by the agents' grace; a second one ends it at once.
    pub fn stop(&self) {
        self.life.set(api::BrokerStage::Stopping);
        let again = std::mem::replace(&mut *self.asked.lock(), true);
        let now = clock::now().mono;
        let deadline = if again {
            now + HURRY
        } else {
            now + self.grace + STOP_SLACK
        };
        // Heard even while the journal cannot be written and the inbox is full.
        self.published
            .update(|published| published.leave_by = Some(deadline));
        let order = Inbound::Event(Event::Shutdown { deadline });
        let _ = self.inbox.send_timeout(order, Duration::from_secs(1));
    }
}

impl Broker {
    /// Starts everything; when it returns, the local API answers.
    ///
    /// # Errors
    /// [`StartError`] says what is in the way: the folder is in use or unwritable, the journal is of a newer version, the
    /// port is taken, the engine refuses the key, or cannot be reached at the very first start.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        start::start(settings)
    }

    /// Where the local API answers, for example `http://127.0.0.1:3889`.
    pub fn api_url(&self) -> String {
        self.url.clone()
    }

    /// The event stream, as subscribers of the local API get it.
    pub fn events(&self) -> Arc<Topic<Arc<str>>> {
        self.events.clone()
    }

    /// A handle that asks it to leave.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it has left, puts the rest away, and gives the process's exit code.
    pub fn wait(self) -> u8 {
        self.dispatch.join();
        // Agents that are left when the time is up, or when nothing can be written and so nothing be done in order.
        running::end_survivors(&self.running, Duration::ZERO);
        self.uplink.join_within(Duration::from_secs(1));
        self.events.close();
        connection::remove(&self.connection);
        drop(self.api);
        0
    }
}
