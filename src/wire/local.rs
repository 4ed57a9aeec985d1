//! Bodies of the local HTTP API ([local-api 2](crate::docs::local_api#2)). Requests take snake case and camel case; answers
//! have the keys existing clients read.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Dialog;
use super::spelling::{DeliveryModeWord, ModeWord};
use crate::domain::{DeliveryMode, Mode};
use crate::ids::{AgentName, DeliveryId, Generation, MsgId};
use crate::time::Wall;

mod insights;
mod results;
mod spawn;
mod terminal;

pub use insights::{
    CrashCategory, CrashInsights, CrashPattern, CrashRecord, ThreadList, ThreadView,
};
pub use results::{AgentResult, ResultTaken};
pub use spawn::{
    HarnessConfig, Manifest, ManifestCapability, RestartPolicy, RestartWhen, Restarted,
    SpawnRequest, Spawned, Supervision,
};
pub use terminal::{Snapshot, TerminalView, TypingStep};

/// The longest text of one message, in bytes.
pub const TEXT_MAX: usize = 1024 * 1024;

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One agent, as `GET /api/spawned` and `GET /api/status` list it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentView {
    pub name: AgentName,
    pub runtime: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The program that was asked for, as its caller named it.
    pub cli: String,
    /// The whole command line (ours).
    #[serde(default)]
    pub command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, rename = "sessionId", skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    pub channels: Vec<String>,
    pub parent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// How many of them are held because agents seem to answer each other without end (ours).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suspended_messages: u64,
    /// `pty` or `headless`, as clients of 11.x name it.
    #[serde(default)]
    pub runtime_kind: String,
    /// `starting`, `ready`, `blocked`, `restarting` or `stopping`: our finer word (ours).
    pub phase: String,
    /// Its terminal has taken messages, or could have (ours).
    #[serde(default)]
    pub ready: bool,
    /// What stands in its terminal: `trust_folder`, `permission` or `unknown` (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_on: Option<Dialog>,
    /// What holds the message up that is next, in words (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_up_by: Option<String>,
    /// So much waits that a message of this machine would be refused: how much, in words (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowded: Option<String>,
    /// The engine's id of the agent (ours).
    pub agent_id: Option<String>,
    #[serde(with = "DeliveryModeWord")]
    pub mode: DeliveryMode,
    pub uptime_secs: u64,
    /// Why it does not run, while it waits for another start, or runs unknown to the engine (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// In how many milliseconds that is (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start_ms: Option<u64>,
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
    /// The agent's name.
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
    /// Its exit code, if it exited by itself.
    #[serde(default)]
    pub code: Option<i32>,
    /// The number of the signal that killed it, if one did.
    #[serde(default)]
    pub signal: Option<i32>,
    /// What its terminal showed last, line by line.
    #[serde(default)]
    pub last_lines: Vec<String>,
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
    /// Whether it came with the token of the agent that `from` names: the API's own note.
    #[serde(skip)]
    pub by_agent: bool,
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
    /// It is held: its sender and its reader, both agents, seem to answer each other without end (ours).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// It was to interrupt its reader and waits its turn: by `steer_from` only people interrupt here (ours).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub steer_refused: bool,
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
    /// It is held because its sender and its reader, both agents, seem to answer each other without end (ours).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// The id under which the message waits again.
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
    /// As in [`AgentList`] (ours).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departed: Vec<DepartedView>,
    pub pending_delivery_count: u64,
    /// The oldest first, at most 100.
    pub pending_deliveries: Vec<PendingDelivery>,
    pub dead_letter_count: u64,
    pub auth: Value,
    pub node_connected: bool,
    /// How long the link to the engine has been gone that was there before; absent while it is there, and before the first
    /// (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_lost_secs: Option<u64>,
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

/// `GET /api/workspace/agents/NAME`, answer (ours): where the engine has an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPlace {
    /// The agent's name.
    pub name: AgentName,
    /// The engine's id of the agent.
    pub agent_id: String,
    /// The engine's word for how the agent is; `offline` and `released` are for who is not there.
    pub status: Option<String>,
    /// Whether the engine counts the agent as there.
    pub online: bool,
    /// The node that started the agent; null for a client without a broker.
    pub node_id: Option<String>,
    /// Whether that is this broker's.
    pub here: bool,
}

/// `POST …/subscribe` and `…/unsubscribe`, answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelsChanged {
    /// The agent.
    pub name: AgentName,
    /// All that it listens to now, without `#`.
    pub channels: Vec<String>,
}

/// `PUT …/delivery-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ModeBody {
    #[serde(with = "DeliveryModeWord")]
    pub mode: DeliveryMode,
}

/// `GET …/delivery-mode`, answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeView {
    /// How messages reach the agent.
    #[serde(with = "DeliveryModeWord")]
    pub mode: DeliveryMode,
    /// Another one after each change, and in each life of the broker; a decimal number.
    #[serde(default)]
    pub revision: String,
}

/// `PUT …/delivery-mode`, answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChanged {
    /// As it is now.
    #[serde(with = "DeliveryModeWord")]
    pub mode: DeliveryMode,
    /// How many held messages were let go.
    pub flushed: u64,
    /// Whether mode and revision were those that the caller expected; nothing was changed otherwise.
    pub matched: bool,
    /// As in [`ModeView`].
    #[serde(default)]
    pub revision: String,
}

/// `POST /api/spawned/NAME/interrupt`, answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// Always true.
    pub success: bool,
    /// The agent's name.
    pub name: AgentName,
    /// Whether the program was told to stop what it does.
    pub interrupted: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /api/reload`, answer (ours, for the command line).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Always true.
    pub success: bool,
    /// The configuration file, where there is one.
    pub file: Option<String>,
    /// What has changed and is in force from now on, each in a few words.
    pub taken_over: Vec<String>,
    /// What has changed and counts from the next start.
    pub needs_restart: Vec<String>,
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
    /// The broker's process id.
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
