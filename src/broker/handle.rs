//! A running broker, and how it is asked to leave and waited for.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::calls;
use super::connection;
use super::driver::Inbound;
use super::ports::DispatchInput;
use super::settings::NodeSettings;
use crate::agent::profiles::Profiles;
use crate::agent::running;
use crate::api;
use crate::journal::Lock;
use crate::msg::{ApiCall, Event, ProgramTables, Published, Reply};
use crate::pubsub::{Latest, Topic};
use crate::recording::Recorder;
use crate::sys::{clock, thread};
use crate::wire::local::{Reloaded, Status};

/// How long a hurried end may take.
const HURRY: Duration = Duration::from_millis(500);
/// Beyond the agents' grace, for putting everything away.
const STOP_SLACK: Duration = Duration::from_millis(1500);

/// A running broker. The fields are in the order in which they are dropped.
pub struct Broker {
    pub(super) api: api::ApiServer,
    pub(super) url: String,
    pub(super) connection: PathBuf,
    pub(super) running: PathBuf,
    pub(super) events: Arc<Topic<Arc<str>>>,
    pub(super) uplink: thread::Handle,
    /// Absent where no history is kept.
    pub(super) history: Option<thread::Handle>,
    pub(super) dispatch: thread::Handle,
    pub(super) stopper: Stopper,
    pub(super) reloader: Reloader,
    /// Dropped, it ends the watch over the lease, if there is one.
    pub(super) _lease: Option<Sender<()>>,
    pub(super) reload: Arc<OnceLock<api::Reload>>,
    /// Last: nobody else may open the folder while anything above is alive.
    pub(super) _lock: Lock,
}

/// Tells a broker what its operator's file says by now, from any thread.
#[derive(Clone)]
pub struct Reloader {
    pub(super) inbox: Sender<DispatchInput>,
    pub(super) rows: Arc<Latest<Profiles>>,
    pub(super) recorder: Arc<Recorder>,
}

impl Reloader {
    /// From now on programs are started, treated and offered as these settings say. Those that run stay as they are.
    pub fn reload(&self, node: &NodeSettings) {
        self.rows.update(|rows| *rows = node.rows.clone());
        self.recorder.set(node.recording);
        let tables = ProgramTables {
            harnesses: node.harnesses.clone(),
            harness_table: node.harness_table.clone(),
            actions: node.actions.clone(),
            profiles: node.rows.names(),
        };
        let news = Inbound::Event(Event::Reload(Box::new(tables)));
        let _ = self.inbox.send_timeout(news, Duration::from_secs(1));
    }
}

/// Asks a broker to leave, from any thread.
#[derive(Clone)]
pub struct Stopper {
    pub(super) inbox: Sender<DispatchInput>,
    /// How long messages that are being typed may take to arrive before agents are ended.
    pub(super) drain: Duration,
    pub(super) grace: Duration,
    pub(super) asked: Arc<Mutex<bool>>,
    pub(super) published: Arc<Latest<Published>>,
    pub(super) life: Arc<api::BrokerLife>,
    pub(super) told: Arc<OnceLock<WhenAsked>>,
}

/// Hears how long the end may take.
type WhenAsked = Box<dyn Fn(Duration) + Send + Sync>;

impl Stopper {
    /// Has `hear` told, once, when somebody first asks, and how long the end may take. Only one can hear of it.
    pub fn when_asked(&self, hear: impl Fn(Duration) + Send + Sync + 'static) {
        let _ = self.told.set(Box::new(hear));
    }

    /// The first call starts an orderly end, bounded by what may drain and by the agents' grace; a second one ends it at
    /// once. Says how long it may take.
    pub fn stop(&self) -> Duration {
        let again = std::mem::replace(&mut *self.asked.lock(), true);
        let drains = !again && !self.drain.is_zero();
        self.life.set(match drains {
            true => api::BrokerStage::Draining,
            false => api::BrokerStage::Stopping,
        });
        let rest = self.grace + STOP_SLACK;
        let limit = match (again, drains) {
            (true, _) => HURRY,
            (false, true) => self.drain + rest,
            (false, false) => rest,
        };
        if let (false, Some(hear)) = (again, self.told.get()) {
            hear(limit);
        }
        let now = clock::now().mono;
        let deadline = now + limit;
        // Heard even while the journal cannot be written and the inbox is full.
        self.published
            .update(|published| published.leave_by = Some(deadline));
        let order = match drains {
            true => Event::Drain {
                until: now + self.drain,
                rest,
            },
            false => Event::Shutdown { deadline },
        };
        let order = Inbound::Event(order);
        let _ = self.inbox.send_timeout(order, Duration::from_secs(1));
        limit
    }

    /// Whether somebody has asked already.
    pub fn is_asked(&self) -> bool {
        *self.asked.lock()
    }

    /// How long the first [`Stopper::stop`] lets messages that are being typed arrive; zero for not at all.
    pub fn drain(&self) -> Duration {
        self.drain
    }

    /// Everything at a glance; why not, if the dispatcher does not answer in time.
    ///
    /// # Errors
    /// The dispatcher's word, or that there was none.
    pub fn status(&self, limit: Duration) -> Result<Box<Status>, String> {
        match calls::ask(self.inbox.clone())(ApiCall::Status, limit) {
            Ok(Reply::Status(status)) => Ok(status),
            Ok(_) => Err("it answers another question".to_owned()),
            Err(refusal) => Err(refusal.message),
        }
    }
}

impl Broker {
    /// Where the local API answers, for example `http://127.0.0.1:3889`.
    pub fn api_url(&self) -> String {
        self.url.clone()
    }

    /// The event stream, as subscribers of the local API get it.
    pub fn events(&self) -> Arc<Topic<Arc<str>>> {
        self.events.clone()
    }

    /// A handle that tells it of another file.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Has `read` called when somebody asks the local API to read the settings again. Only one can be.
    pub fn when_reloaded(
        &self,
        read: impl Fn() -> Result<Reloaded, String> + Send + Sync + 'static,
    ) {
        let _ = self.reload.set(Box::new(read));
    }

    /// A handle that asks it to leave.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it has left, and puts the rest away.
    pub fn wait(self) {
        self.dispatch.join();
        // Agents that are left when the time is up, or when nothing can be written and so nothing be done in order.
        running::end_survivors(&self.running, Duration::ZERO);
        self.reloader.recorder.finish();
        self.uplink.join_within(Duration::from_secs(1));
        if let Some(history) = self.history {
            history.join_within(Duration::from_secs(1));
        }
        self.events.close();
        connection::remove(&self.connection);
        drop(self.api);
    }
}
