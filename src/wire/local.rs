//! Bodies of the local HTTP API ([local-api 2](crate::docs::local_api#2)). Requests take snake case and camel case; answers
//! have the keys existing clients read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Dialog;
use super::spelling::{DeliveryModeWord, ModeWord};
use crate::domain::{DeliveryMode, Mode};
use crate::ids::{AgentName, DeliveryId, MsgId};
use crate::time::Wall;

/// The longest text of one message, in bytes.
pub const TEXT_MAX: usize = 1024 * 1024;

/// `POST /api/spawn`. Fields that later stages use are taken and kept now, so that clients need no second dialect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpawnRequest {
    /// Unique among running agents.
    pub name: String,
    /// A program, or a whole command line which is split as a shell would; `claude` when absent.
    pub cli: Option<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Working directory; the broker's own when absent.
    pub cwd: Option<String>,
    /// Typed as the first message once the agent is ready.
    pub task: Option<String>,
    /// Channels to join; `general` when empty.
    pub channels: Vec<String>,
    /// Kept and shown.
    pub model: Option<String>,
    /// Kept and shown.
    pub team: Option<String>,
    /// `pty` or absent; `headless` is refused.
    #[serde(alias = "runtime")]
    pub transport: Option<String>,
    /// Seconds of silence after which the agent counts as idle; 0 for never; 30 when absent.
    #[serde(alias = "idleThresholdSecs")]
    pub idle_threshold_secs: Option<u64>,
    /// How to start the process, overriding `cli` and `args`.
    #[serde(alias = "harnessConfig", alias = "harness_plan")]
    pub harness_config: Option<HarnessConfig>,
    /// A ready-made engine token: the agent is not registered again.
    #[serde(alias = "agentToken")]
    pub agent_token: Option<String>,
    /// Whether and how the broker starts it again when it ends.
    #[serde(alias = "restartPolicy")]
    pub restart_policy: Option<RestartPolicy>,
    /// What the program is like, by a profile's name, where its own name does not tell (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Extra environment (ours; not in upstream's contract).
    pub env: BTreeMap<String, String>,
    /// Terminal size `rows`; 40 when absent (ours).
    pub rows: Option<u16>,
    /// Terminal size `cols`; 120 when absent (ours).
    pub cols: Option<u16>,
}

/// `restartPolicy`: names and defaults are upstream's ([local-api 7](crate::docs::local_api#7)), where it was inert; `when`
/// is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "GivenRestartPolicy")]
pub struct RestartPolicy {
    /// Whether to start it again at all.
    pub enabled: bool,
    /// After which ends.
    pub when: RestartWhen,
    /// How often in one life; 0 for no limit.
    pub max_restarts: u32,
    /// Milliseconds between the end and the next start.
    pub cooldown_ms: u64,
    /// How many starts in a row may come to nothing; 0 for no limit.
    pub max_consecutive_failures: u32,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            when: RestartWhen::OnFailure,
            max_restarts: 5,
            cooldown_ms: 2000,
            max_consecutive_failures: 3,
        }
    }
}

/// A [`RestartPolicy`] as its sender wrote it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct GivenRestartPolicy {
    enabled: Option<bool>,
    when: RestartWhen,
    #[serde(alias = "maxRestarts")]
    max_restarts: Option<u32>,
    #[serde(alias = "cooldownMs")]
    cooldown_ms: Option<u64>,
    #[serde(alias = "maxConsecutiveFailures")]
    max_consecutive_failures: Option<u32>,
}

impl From<GivenRestartPolicy> for RestartPolicy {
    fn from(given: GivenRestartPolicy) -> Self {
        let usual = Self::default();
        // Whoever says how often means that number also for a program that fails each time.
        let in_a_row = match given.max_restarts {
            Some(_) => 0,
            None => usual.max_consecutive_failures,
        };
        Self {
            enabled: given.enabled.unwrap_or(usual.enabled),
            when: given.when,
            max_restarts: given.max_restarts.unwrap_or(usual.max_restarts),
            cooldown_ms: given.cooldown_ms.unwrap_or(usual.cooldown_ms),
            max_consecutive_failures: given.max_consecutive_failures.unwrap_or(in_a_row),
        }
    }
}

/// After which ends an agent is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// Any exit code but 0, a signal, or the broker's own end.
    #[default]
    #[serde(alias = "on_failure")]
    OnFailure,
    /// Every end.
    Always,
}

/// What a sidecar says of itself ([local-api 6.1](crate::docs::local_api#6.1), `register_node`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Its own name for the node; the broker keeps the name it is registered under.
    pub name: String,
    /// What it can serve.
    pub capabilities: Vec<ManifestCapability>,
    /// How many agents it wants here at most.
    #[serde(alias = "maxAgents")]
    pub max_agents: Option<u64>,
    /// Free words for placement.
    pub tags: Vec<String>,
    /// Of its program.
    pub version: Option<String>,
}

/// One thing a sidecar can serve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestCapability {
    /// `spawn:<harness>` or an action's name.
    pub name: String,
    /// `capacity` or `action`; by the name when absent or another word.
    pub kind: Option<String>,
    /// Free-form facts about it.
    pub metadata: Option<Value>,
}

/// How to start a sidecar again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Supervision {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    /// How often.
    #[serde(alias = "restartPolicy")]
    pub restart_policy: Option<RestartPolicy>,
}

/// `harnessConfig` with `runtime: "pty"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HarnessConfig {
    /// `pty`.
    pub runtime: Option<String>,
    /// The program.
    pub command: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Extra environment.
    pub env: BTreeMap<String, String>,
    /// The program's own session.
    #[serde(alias = "sessionId")]
    pub session_id: Option<String>,
}

/// `POST /api/spawn`, answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Spawned {
    pub success: bool,
    pub name: AgentName,
    pub runtime: String,
    pub model: Option<String>,
    #[serde(rename = "sessionId")]
    pub session_id: Option<String>,
    pub pid: Option<u32>,
    pub pre_registered: bool,
    pub warning: Option<String>,
}

/// One agent, as `GET /api/spawned` and `GET /api/status` list it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentView {
    pub name: AgentName,
    pub runtime: String,
    pub provider: Option<String>,
    pub cli: String,
    pub model: Option<String>,
    #[serde(rename = "sessionId")]
    pub session_id: Option<String>,
    pub team: Option<String>,
    pub channels: Vec<String>,
    pub parent: String,
    pub pid: Option<u32>,
    #[serde(rename = "workerPid")]
    pub worker_pid: Option<u32>,
    /// Milliseconds since the agent last showed anything.
    pub last_activity_ms: u64,
    pub last_activity_at: String,
    pub context_budget_pct: Option<u64>,
    /// `working`, `idle` or `blocked_on_send`, the words clients know.
    pub current_state: String,
    /// Since when (ours).
    #[serde(default)]
    pub state_since: String,
    pub pending_messages: u64,
    /// `starting`, `ready`, `blocked`, `restarting` or `stopping`: our finer word (ours).
    pub phase: String,
    /// Its terminal has taken messages, or could have (ours).
    #[serde(default)]
    pub ready: bool,
    /// What stands in its terminal: `trust_folder`, `permission` or `unknown` (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_on: Option<Dialog>,
    /// The engine's id of the agent (ours).
    pub agent_id: Option<String>,
    #[serde(with = "DeliveryModeWord")]
    pub mode: DeliveryMode,
    pub uptime_secs: u64,
}

/// `GET /api/spawned`, answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentList {
    /// In order of their names.
    pub agents: Vec<AgentView>,
    /// Those that ended without anybody's wish and were neither released nor started again since (ours).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departed: Vec<DepartedView>,
}

/// An agent that is not here any more, in `GET /api/spawned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepartedView {
    /// Its name.
    pub name: AgentName,
    /// How it ended, for people.
    pub reason: String,
    /// Whether the broker was to start it again, and stopped trying.
    pub given_up: bool,
    /// When, as RFC 3339.
    pub at: String,
    /// What ran, in one line.
    pub command: String,
    /// How many messages wait for it.
    pub pending_messages: u64,
}

/// `POST /api/send`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SendRequest {
    /// Agent name, `@name` or `#channel`.
    pub to: String,
    /// The words; at most 1 MiB.
    #[serde(alias = "message", alias = "body", alias = "content")]
    pub text: String,
    /// Who speaks; the broker itself when absent.
    pub from: Option<String>,
    /// The thread it belongs to.
    #[serde(alias = "threadId", alias = "thread")]
    pub thread_id: Option<String>,
    /// `wait` or `steer`.
    #[serde(alias = "injectionMode")]
    pub mode: Option<String>,
    /// Typed as it is, without the line that says who speaks; to agents of this broker only. An addition of ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
}

/// `POST /api/send`, answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Always true.
    pub success: bool,
    /// The id that all events about this message carry.
    pub event_id: MsgId,
    /// To how many local agents.
    pub delivered: u64,
    /// Whether it stayed on this machine.
    pub local: bool,
    /// Whether the engine took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relaycast_published: Option<bool>,
    /// Local agents it was queued for.
    pub targets: Vec<String>,
    /// The workspace.
    pub workspace_id: Option<String>,
    /// Always null: one workspace per broker.
    pub workspace_alias: Option<String>,
    /// Its agent is on no node at the moment, and the engine keeps the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
}

/// How long a message waits for an agent that is not here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// When it becomes a dead letter if the agent does not come; null for never.
    pub until_ms: Option<Wall>,
}

/// One parked or waiting message of `GET …/pending`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PendingView {
    pub from: String,
    pub body: String,
    pub target: String,
    pub priority: u8,
    #[serde(with = "ModeWord")]
    pub mode: Mode,
    pub queued_at_ms: Wall,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<MsgId>,
    /// Of an agent that is not here: `broker` or `engine`, whoever keeps the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lies_at: Option<String>,
    /// When it becomes a dead letter if the agent does not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<Wall>,
}

/// `GET …/pending`, answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PendingList {
    /// In the order they will be typed.
    pub pending: Vec<PendingView>,
}

/// One delivery that has not ended, in `GET /api/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PendingDelivery {
    pub delivery_id: DeliveryId,
    pub worker_name: AgentName,
    pub event_id: MsgId,
    pub from: String,
    pub to: String,
    pub attempts: u32,
    pub queued_at_ms: Wall,
    pub age_ms: u64,
    pub last_error: Option<String>,
}

/// One delivery that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DeadLetterView {
    pub delivery_id: DeliveryId,
    pub worker_name: AgentName,
    pub event_id: MsgId,
    pub from: String,
    pub to: String,
    pub attempts: u32,
    pub reason: String,
    pub queued_at_ms: Wall,
    pub failed_at_ms: Wall,
    pub age_ms: u64,
}

/// `POST /api/dead-letters/redeliver`, answer ([local-api 2.7](crate::docs::local_api#2.7)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Redelivered {
    /// Given another chance.
    pub redelivered: Vec<RedeliveredLetter>,
    /// Left where they are.
    pub skipped: Vec<SkippedLetter>,
}

/// One dead letter that waits again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RedeliveredLetter {
    /// Its new id.
    pub delivery_id: DeliveryId,
    pub worker_name: AgentName,
    pub event_id: MsgId,
}

/// One dead letter that stays dead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SkippedLetter {
    pub delivery_id: DeliveryId,
    pub worker_name: AgentName,
    pub reason: String,
}

/// `GET /api/status`, answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Status {
    pub agent_count: u64,
    pub agents: Vec<AgentView>,
    pub pending_delivery_count: u64,
    /// The oldest first, at most 100.
    pub pending_deliveries: Vec<PendingDelivery>,
    pub dead_letter_count: u64,
    pub auth: Value,
    pub node_connected: bool,
    pub node_delivery: NodeDelivery,
    /// `ok`, or `degraded` with `degraded_reason` (ours).
    pub status: String,
    pub degraded_reason: Option<String>,
    pub node_id: String,
    pub node_name: String,
    pub relay_base_url: String,
    pub version: String,
    pub pid: u32,
    pub uptime_secs: u64,
    /// Seconds since the engine last sent anything; absent before the first frame (ours).
    pub last_engine_frame_secs: Option<u64>,
    /// Age of the oldest pending delivery (ours).
    pub oldest_pending_ms: Option<u64>,
    pub counters: Counters,
}

/// `node_delivery` of health and status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct NodeDelivery {
    #[serde(alias = "tokenPresent")]
    pub token_present: bool,
    pub connected: bool,
}

/// Counted since this process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Counters {
    pub agents_spawned: u64,
    pub agents_crashed: u64,
    /// Wanted and not started, for want of room under `--max-agents` or for another reason that the caller was told.
    #[serde(default)]
    pub agents_refused: u64,
    #[serde(default)]
    pub agents_restarted: u64,
    /// How often a dialog stood in an agent's terminal.
    #[serde(default)]
    pub agents_blocked: u64,
    /// How often one was answered by the operator's policy.
    #[serde(default)]
    pub dialogs_answered: u64,
    pub deliveries_accepted: u64,
    pub deliveries_verified: u64,
    pub deliveries_unverified: u64,
    /// Typing them failed for good.
    #[serde(default)]
    pub deliveries_failed: u64,
    /// Given up because they were held back too long.
    #[serde(default)]
    pub deliveries_blocked: u64,
    /// Given up for whatever reason, failed ones included.
    pub deliveries_dead: u64,
    #[serde(default)]
    pub deliveries_redelivered: u64,
    /// Not taken because too much waited: local sends refused, engine frames left to the engine.
    #[serde(default)]
    pub deliveries_refused: u64,
    pub engine_frames: u64,
    /// Frames that could not be understood: broken, too large, of an unknown kind or version.
    #[serde(default)]
    pub engine_frames_refused: u64,
    pub acks_sent: u64,
    pub link_losses: u64,
}

/// `GET /health`, answer; needs no key, so it names nothing secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Health {
    /// `ok` or `degraded`.
    pub status: String,
    pub service: String,
    pub version: String,
    pub uptime_ms: u64,
    pub workspace_id: Option<String>,
    pub default_workspace_id: Option<String>,
    pub memberships: Value,
    pub agent_count: u64,
    pub pending_delivery_count: u64,
    pub dead_letter_count: u64,
    pub ws_connections: u64,
    pub memory_mb: u64,
    pub relaycast_connected: bool,
    pub node_connected: bool,
    pub node_delivery: Value,
    pub degraded_reason: Option<String>,
}

/// `GET /api/session`, answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Session {
    pub broker_version: String,
    pub protocol_version: u32,
    pub workspace_key: String,
    pub relay_base_url: String,
    pub default_workspace_id: Option<String>,
    pub mode: String,
    pub uptime_secs: u64,
    pub node_id: String,
    pub node_name: String,
    pub node_token: Option<String>,
}

/// `POST …/subscribe` and `…/unsubscribe`, answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelsChanged {
    /// The agent.
    pub name: AgentName,
    /// All that it listens to now, without `#`.
    pub channels: Vec<String>,
}

/// `GET`/`PUT …/delivery-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ModeBody {
    #[serde(with = "DeliveryModeWord")]
    pub mode: DeliveryMode,
}

/// `PUT …/delivery-mode`, answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ModeChanged {
    #[serde(with = "DeliveryModeWord")]
    pub mode: DeliveryMode,
    pub flushed: u64,
    pub matched: bool,
}

/// `GET …/snapshot`, answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `plain` or `ansi`.
    pub format: String,
    /// Height of the terminal.
    pub rows: u16,
    /// Width of the terminal.
    pub cols: u16,
    /// Row and column, from 1.
    pub cursor: (u16, u16),
    /// Text, or base64 of escape sequences that redraw the picture on an empty terminal.
    pub screen: String,
    /// Bytes of output that the picture already holds.
    pub offset: u64,
}

/// `connection.json` in the state folder, mode 0600: how clients find and may drive a running broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionFile {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// The same port as a number.
    pub port: u16,
    /// Key of the local API.
    pub api_key: String,
    /// Of the broker.
    pub pid: u32,
    /// The engine's base URL (ours).
    #[serde(default)]
    pub engine_url: String,
    /// The workspace key that SDK clients need (ours).
    #[serde(default)]
    pub workspace_key: String,
}

/// Every error body: flat for the client, nested for older readers, `success` for the oldest
/// ([local-api 2.1](crate::docs::local_api#2.1)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ErrorBody {
    pub success: bool,
    pub code: String,
    pub message: String,
    /// Style A readers expect a text here.
    pub error: String,
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    pub retryable: bool,
}
