//! The journal's own shapes, for what also crosses sockets in shapes of its own: however a client's or an engine's key is
//! called one day, what a released version has written can be read, and is written in the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::domain::{DeliveryMode, Mode, Outcome, Proof};
use crate::ids::AgentName;

/// [`Mode`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Mode", rename_all = "lowercase")]
pub(super) enum StoredMode {
    Wait,
    Steer,
}

/// [`DeliveryMode`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(remote = "DeliveryMode", rename_all = "snake_case")]
pub(super) enum StoredDeliveryMode {
    AutoInject,
    ManualFlush,
}

/// [`Proof`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Proof", rename_all = "lowercase")]
#[allow(missing_docs)] // those of `Proof`
pub enum StoredProof {
    Hook,
    Transcript,
    Osc,
    Echo,
    Screen,
    Read,
    None,
}

/// [`Outcome`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome", rename_all = "lowercase")]
pub(super) enum StoredOutcome {
    Output(Value),
    Error(String),
}

/// A [`DeliveryMode`] inside a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct DeliveryModeEntry(#[serde(with = "StoredDeliveryMode")] pub DeliveryMode);

/// An [`Outcome`] inside a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct OutcomeEntry(#[serde(with = "StoredOutcome")] pub Outcome);

/// How an agent was started, so that a broker that comes back can start it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredSpawn {
    /// The agent's name.
    pub name: String,
    /// The program, or a whole command line.
    pub cli: Option<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The agent that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<AgentName>,
    /// The first message.
    pub task: Option<String>,
    /// The channels to join.
    pub channels: Vec<String>,
    /// The model, as it was given.
    pub model: Option<String>,
    /// The session to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The session to go on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// The session that the program had last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_session: Option<String>,
    /// It is released once its task is done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exit_after_task: bool,
    /// Its program is given no token.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_relay_prompt: bool,
    /// The team, as it was given.
    pub team: Option<String>,
    /// The transport, as it was given.
    pub transport: Option<String>,
    /// Seconds of silence after which the agent counts as idle.
    pub idle_threshold_secs: Option<u64>,
    /// How to start the process, in place of the program and its arguments.
    pub harness_config: Option<StoredHarness>,
    /// The key under which a token would stand: always null, because no secret is written down.
    #[serde(deserialize_with = "nothing")]
    pub agent_token: (),
    /// Whether and how the agent is started again when it ends.
    pub restart_policy: Option<StoredRestartPolicy>,
    /// Whether its program is given tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp: Option<bool>,
    /// What is kept on disk of what it prints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// What its result must look like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_result_schema: Option<Value>,
    /// The profile's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// What is kept of the broker's environment; all of it when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_allow: Option<Vec<String>>,
    /// The terminal's height.
    pub rows: Option<u16>,
    /// The terminal's width.
    pub cols: Option<u16>,
}

/// Takes whatever stands there for nothing.
fn nothing<'de, D: Deserializer<'de>>(d: D) -> Result<(), D::Error> {
    serde::de::IgnoredAny::deserialize(d).map(drop)
}

/// How a process is started, in a [`StoredSpawn`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredHarness {
    /// The kind of harness, as it was given.
    pub runtime: Option<String>,
    /// The program.
    pub command: Option<String>,
    /// The program's arguments.
    pub args: Vec<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// The program's own session.
    pub session_id: Option<String>,
}

/// When an agent is started again, in a [`StoredSpawn`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRestartPolicy {
    /// Whether it is started again at all.
    pub enabled: bool,
    /// After which ends.
    pub when: StoredRestartWhen,
    /// How often in one life; 0 for no limit.
    pub max_restarts: u32,
    /// Milliseconds between the end and the next start.
    pub cooldown_ms: u64,
    /// Milliseconds that this grows to with failures in a row; it does not grow when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cooldown_ms: Option<u64>,
    /// How many starts in a row may come to nothing; 0 for no limit.
    pub max_consecutive_failures: u32,
}

/// After which ends an agent is started again, in a [`StoredRestartPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredRestartWhen {
    /// Any exit code but 0, a signal, or the broker's own end.
    OnFailure,
    /// Every end.
    Always,
}
