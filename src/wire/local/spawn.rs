//! What clients say of programs to start: agents ([local-api 2](crate::docs::local_api#2)), and those that serve actions
//! ([local-api 6.1](crate::docs::local_api#6.1)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{AgentName, Generation};

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
    /// The agent of this broker that asks for it with its token, which is the broker's own note; nobody else is named.
    #[serde(skip)]
    pub parent: Option<AgentName>,
    /// Typed as the first message once the agent is ready.
    pub task: Option<String>,
    /// Channels to join; `general` when empty.
    pub channels: Vec<String>,
    /// Put before the program's arguments, where it is known how; kept and shown.
    pub model: Option<String>,
    /// The program's session that begins, under this id; or the id of one that goes on, of a program that nobody knows.
    #[serde(alias = "sessionId", skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The program's session that goes on: its id, or the name of the agent that had it.
    #[serde(alias = "session_ref", skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// The same by the agent's name alone; it starts afresh where nothing is known of a session of that agent's.
    #[serde(alias = "continueFrom", skip_serializing_if = "Option::is_none")]
    pub continue_from: Option<String>,
    /// The session that its program had last; the broker's own note.
    #[serde(skip)]
    pub last_session: Option<String>,
    /// It is released once it falls silent after its task.
    #[serde(alias = "exitAfterTask", skip_serializing_if = "std::ops::Not::not")]
    pub exit_after_task: bool,
    /// Its program is given no token, so it does not speak in the workspace.
    #[serde(alias = "skipRelayPrompt", skip_serializing_if = "std::ops::Not::not")]
    pub skip_relay_prompt: bool,
    /// Kept and shown.
    pub team: Option<String>,
    /// `pty`, `headless` for no terminal, or absent for what the operator wrote down of the program.
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
    /// Whether its program is given tools to answer with; as its harness or profile says when absent (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp: Option<bool>,
    /// What is kept on disk of what it prints: `off`, `plain` or `raw`; as its harness or the broker has it when absent
    /// (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// What its result must look like, as a JSON schema; no result is wanted of it when absent.
    #[serde(
        alias = "agentResultSchema",
        alias = "resultSchema",
        skip_serializing_if = "Option::is_none"
    )]
    pub agent_result_schema: Option<Value>,
    /// What the program is like, by a profile's name, where its own name does not tell (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Extra environment (ours; not in upstream's contract).
    pub env: BTreeMap<String, String>,
    /// The variables of the broker's environment that it keeps besides the usual ones, by name or by a beginning and `*`;
    /// all of them when absent (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_allow: Option<Vec<String>>,
    /// Terminal size `rows`; 40 when absent (ours).
    pub rows: Option<u16>,
    /// Terminal size `cols`; 120 when absent (ours).
    pub cols: Option<u16>,
}

impl SpawnRequest {
    /// Whether it is to run without a terminal; `None` where nobody says.
    pub fn wants_headless(&self) -> Option<bool> {
        let harness = self.harness_config.as_ref();
        let word = self.transport.as_ref();
        let word = word.or_else(|| harness?.runtime.as_ref())?;
        Some(word == "headless")
    }
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
    /// Milliseconds that this doubles up to with each failure in a row; it does not grow when absent (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cooldown_ms: Option<u64>,
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
            max_cooldown_ms: None,
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
    #[serde(alias = "maxCooldownMs")]
    max_cooldown_ms: Option<u64>,
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
            max_cooldown_ms: given.max_cooldown_ms,
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
    /// The version of the program.
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
    /// The program's working directory.
    pub cwd: Option<String>,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    /// How often, and how soon, the program is started again.
    #[serde(alias = "restartPolicy")]
    pub restart_policy: Option<RestartPolicy>,
}

/// `harnessConfig` with `runtime: "pty"` or `"headless"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HarnessConfig {
    /// `pty` or `headless`.
    pub runtime: Option<String>,
    /// The program.
    pub command: Option<String>,
    /// The program's arguments.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    pub model: Option<String>,
    #[serde(rename = "sessionId")]
    pub session_id: Option<String>,
    pub pid: Option<u32>,
    pub pre_registered: bool,
    pub warning: Option<String>,
}

/// `POST /api/spawned/NAME/restart`, answer (ours).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// Always true.
    pub success: bool,
    /// The agent's name.
    pub name: AgentName,
    /// The new program's process.
    pub pid: Option<u32>,
    /// How the agent was when this was asked for: `running`, `restarting` (it was to be started again later), `starting`
    /// or `departed` (it had ended, or was given up).
    pub was: String,
    /// How many messages wait for it.
    pub pending_messages: u64,
    /// What else is worth knowing.
    pub warning: Option<String>,
}
