//! What the assembly gives to the API: the ways to the dispatcher and to the agents' threads, the key, and how far the
//! broker is.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::latencies::Latencies;
use super::lease::Lease;
use crate::msg::{Answer, ApiCall, Published, Right, Secret};
use crate::pubsub::{Latest, Topic};
use crate::registry::{Registry, SidecarRegistry};
use crate::time::Mono;
use crate::wire::local::Reloaded;

/// Puts a call to the dispatcher and waits for the answer, at most so long: then the refusal is `Timeout`, and `Stopping`
/// once nobody answers any more.
pub type Ask = Box<dyn Fn(ApiCall, Duration) -> Answer + Send + Sync>;

/// Reads the operator's settings again: what came of it, or why they cannot be meant.
pub type Reload = Box<dyn Fn() -> Result<Reloaded, String> + Send + Sync>;

/// Everything the API is given; the assembly fills it.
pub struct ApiContext {
    /// To the dispatcher.
    pub ask: Ask,
    /// Rendered events, for `/ws` and replay.
    pub events: Arc<Topic<Arc<str>>>,
    /// To the agents' threads.
    pub registry: Arc<Registry>,
    /// To connected programs that serve actions.
    pub sidecars: Arc<SidecarRegistry>,
    /// Who the node is, and whether the dispatcher can answer.
    pub published: Arc<Latest<Published>>,
    /// What `GET /api/session` tells.
    pub session: SessionFacts,
    /// Whoever has it may do everything.
    pub api_key: Secret,
    /// Hosts besides the loopback ones that clients may call us by: the bind address, without a port. `0.0.0.0` or `::`
    /// stands for every address literal.
    pub allowed_hosts: Vec<String>,
    /// Asks the broker to leave, and returns at once with the time that it may take.
    pub stop: Box<dyn Fn() -> Duration + Send + Sync>,
    /// Reads the settings again, once the assembly has said how.
    pub reload: Arc<OnceLock<Reload>>,
    /// The broker's process id.
    pub pid: u32,
    /// How far the broker is.
    pub life: Arc<BrokerLife>,
    /// The names of the agents that start with the broker.
    pub declared: Vec<String>,
    /// How long the engine may be away before the broker counts as not ready.
    pub ready_grace: Duration,
    /// What agents may do with their own tokens besides the usual.
    pub agents_may: Vec<Right>,
    /// Opens `/metrics` and nothing else.
    pub metrics_key: Option<Secret>,
    /// The times that messages take.
    pub latencies: Arc<Latencies>,
    /// The folder of the journal.
    pub journal_dir: PathBuf,
}

/// Facts about this broker that clients ask for.
pub struct SessionFacts {
    /// The version of this program.
    pub version: String,
    /// Opens the workspace.
    pub workspace_key: Secret,
    /// The engine's base URL.
    pub engine_url: String,
    /// The node's token as it is now, for programs that serve actions on the same node.
    pub node_token: Box<dyn Fn() -> Option<Secret> + Send + Sync>,
    /// What the owner of the broker renews; without one the broker stays whoever goes.
    pub lease: Option<Arc<Lease>>,
    /// When the broker started.
    pub started: Mono,
}

/// How far a broker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerStage {
    /// Only `/health`, `/livez` and `/readyz` are answered.
    Starting,
    /// Everything is.
    Running,
    /// Messages that are being typed may still arrive; nothing new is taken, and everything else is answered.
    Draining,
    /// Calls are refused with 503.
    Stopping,
}

/// A [`BrokerStage`] that the assembly sets and the API reads.
#[derive(Debug)]
pub struct BrokerLife(AtomicU8);

impl BrokerLife {
    /// Begins with `Starting`.
    pub fn new() -> Self {
        Self(AtomicU8::new(BrokerStage::Starting as u8))
    }

    /// Moves on.
    pub fn set(&self, stage: BrokerStage) {
        self.0.store(stage as u8, Ordering::Release);
    }

    /// Where it is.
    pub fn get(&self) -> BrokerStage {
        match self.0.load(Ordering::Acquire) {
            0 => BrokerStage::Starting,
            1 => BrokerStage::Running,
            2 => BrokerStage::Draining,
            _ => BrokerStage::Stopping,
        }
    }
}

impl Default for BrokerLife {
    fn default() -> Self {
        Self::new()
    }
}
