//! What a broker is told at its start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::notices::NotifySettings;
use crate::agent::profiles::Profiles;
use crate::dispatch::{Limits, SpawnDefaults};
use crate::history::HistoryLimits;
use crate::msg::{ActionSpec, Harness, Right, Secret};
use crate::recording::RecordSettings;
use crate::uplink::proxy::Proxy;
use crate::uplink::roots::TrustedRoots;
use crate::wire::local::SpawnRequest;

/// Everything a broker is told at its start; nothing changes it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The engine's base URL, without a trailing slash.
    pub engine_url: String,
    /// Opens the workspace; starts with `rk_`.
    pub workspace_key: Secret,
    /// The node, whichever engine it is at.
    pub node: NodeSettings,
}

/// What is known of a node before its engine is; `config` makes it.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The node's name.
    pub name: String,
    /// Journal, lock, `connection.json`.
    pub state_dir: PathBuf,
    /// The state folder is one that the operator named, and so the place of the node's identity.
    pub named_state_dir: bool,
    /// Machine seed and node tokens, shared by all brokers of this user whose state folder nobody named.
    pub data_dir: PathBuf,
    /// The way to the engine, if not direct.
    pub proxy: Option<Proxy>,
    /// Who vouches for the engine's certificate, if not the bundled roots.
    pub roots: Option<TrustedRoots>,
    /// Where the local API listens.
    pub api_bind: IpAddr,
    /// 0 for any free port.
    pub api_port: u16,
    /// Made at random when absent.
    pub api_key: Option<Secret>,
    /// Pins the node id.
    pub node_id: Option<String>,
    /// Pins the node token; never stored.
    pub node_token: Option<Secret>,
    /// How long the broker stays when nobody renews its lease; `None` for ever.
    pub lease: Option<Duration>,
    /// What agents get whose spawn says nothing of it.
    pub spawn_defaults: SpawnDefaults,
    /// Started with the broker.
    pub agents: Vec<SpawnRequest>,
    /// Names `h` for which this node offers `spawn:h`.
    pub harnesses: Vec<String>,
    /// How some of them, and others, are started.
    pub harness_table: BTreeMap<String, Harness>,
    /// Actions that programs of the operator's serve.
    pub actions: BTreeMap<String, ActionSpec>,
    /// What the operator knows about agent programs.
    pub rows: Profiles,
    /// The operator's command for events that want a person.
    pub notify: Option<NotifySettings>,
    /// What is kept of what agents print.
    pub recording: RecordSettings,
    /// 0 for no limit.
    pub max_agents: u64,
    /// Refuse to start on a journal damaged in its middle.
    pub strict_journal: bool,
    /// This program, for starting agents through it.
    pub exe: PathBuf,
    /// Between hang-up and kill of an agent.
    pub grace: Duration,
    /// At the end, how long messages that are being typed may take to arrive.
    pub drain: Duration,
    /// How long the engine may be away before the broker counts as not ready.
    pub ready_grace: Duration,
    /// What agents may do besides speaking, reading their own mail and seeing who is there.
    pub agents_may: Vec<Right>,
    /// Opens `/metrics` and nothing else.
    pub metrics_key: Option<Secret>,
    /// How much is remembered of messages that ended.
    pub history: HistoryLimits,
    /// How much mail may wait for one agent, and how long.
    pub limits: Limits,
}
