//! Assembly: open, replay, wire up, start, stop.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::msg::Secret;
use crate::wire::local::SpawnRequest;

/// Everything a broker is told at its start; `config` makes it, nothing changes it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub name: String,
    /// Journal, lock, `connection.json`.
    pub state_dir: PathBuf,
    /// Machine seed and node tokens, shared by all brokers of this user.
    pub data_dir: PathBuf,
    /// The engine's base URL, without a trailing slash.
    pub engine_url: String,
    /// Opens the workspace; starts with `rk_`.
    pub workspace_key: Secret,
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
    /// Started with the broker.
    pub agents: Vec<SpawnRequest>,
    /// 0 for no limit.
    pub max_agents: u64,
    /// Refuse to start on a journal damaged in its middle.
    pub strict_journal: bool,
    /// This program, for starting agents through it.
    pub exe: PathBuf,
    /// Between hang-up and kill of an agent.
    pub grace: Duration,
}
