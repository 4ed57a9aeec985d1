//! What the dispatcher is told at its start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{AgentName, NodeId};
use crate::msg::{ActionSpec, Harness, Size};
use crate::wire::local;

/// What the dispatcher is told at its start and never asks again.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name; the engine may hold another.
    pub node_name: String,
    /// Our node id; the engine may hold another.
    pub node_id: NodeId,
    /// The engine's base URL, shown and given to agents.
    pub engine_url: String,
    /// The workspace, if known.
    pub workspace_id: Option<String>,
    /// The state folder, given to agents so that they find the command line's broker.
    pub state_dir: String,
    /// 0 for no limit.
    pub max_agents: u64,
    /// Names `h` for which `spawn:h` is advertised.
    pub harnesses: Vec<String>,
    /// How some of them, and others, are started.
    pub harness_table: BTreeMap<String, Harness>,
    /// Actions that programs of the operator's serve.
    pub actions: BTreeMap<String, ActionSpec>,
    /// Names of what is known about agent programs.
    pub profiles: BTreeSet<String>,
    /// Between hang-up and kill.
    pub grace: Duration,
    /// How much may wait, and how long.
    pub limits: Limits,
    /// What agents get whose spawn says nothing of it.
    pub spawn_defaults: SpawnDefaults,
    /// Our process id.
    pub pid: u32,
    /// Started with the broker.
    pub agents: Vec<local::SpawnRequest>,
    /// What the journal may have lost before this start.
    pub damage: Option<String>,
    /// Agents whose programs outlived an earlier broker, and what became of them.
    pub outlived: Vec<(AgentName, String)>,
}

impl NodeConfig {
    /// Whether the operator declared an agent of that name, to be kept running by a policy.
    pub(super) fn declares(&self, name: &AgentName) -> bool {
        let kept = |agent: &local::SpawnRequest| {
            let policy = agent.restart_policy.as_ref();
            agent.name == name.as_str() && policy.is_some_and(|policy| policy.enabled)
        };
        self.agents.iter().any(kept)
    }
}

/// What agents get whose spawn says nothing of it, but those that the operator declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpawnDefaults {
    /// Channels that agents listen to; `general` when empty.
    pub channels: Vec<String>,
    /// How large terminals are.
    pub size: Size,
}

impl SpawnDefaults {
    /// The wish with all that was left open.
    pub(super) fn complete(&self, mut wish: local::SpawnRequest) -> local::SpawnRequest {
        if wish.channels.is_empty() {
            wish.channels.clone_from(&self.channels);
        }
        if self.size != Size::default() {
            wish.rows.get_or_insert(self.size.rows);
            wish.cols.get_or_insert(self.size.cols);
        }
        wish
    }
}

/// Bounds of one agent's mailbox, and of what agents send each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages of the engine; its own cap is 1,000 ([engine-protocol 4.6](crate::docs::engine_protocol#4.6)).
    pub engine: usize,
    /// Messages of this machine; one more is refused ([local-api 4.3](crate::docs::local_api#4.3)).
    pub local: usize,
    /// Bytes of messages, for those of the engine and those of this machine each. A single message is always taken.
    pub bytes: usize,
    /// Bytes of messages for all agents together; beyond it an agent gets one more only when nothing waits for it.
    pub total_bytes: usize,
    /// How long mail waits for an agent that is not here, while a broker runs; `None` for ever.
    pub ttl: Option<Duration>,
    /// How long mail is held back from an agent that is here and cannot take it; `None` for ever.
    pub blocked: Option<Duration>,
    /// What agents may do among themselves.
    pub talk: TalkLimits,
}

/// How many messages agents may send each other before they are thought to be in a loop.
///
/// Two things tell a loop from work. A pair in a loop talks *fast*: thank-yous take 5 to 15 s each, so that `pair` messages
/// pass within `window`. Slower loops, rings, and stars whose middle reads one message after the other show only in that
/// every message *answers* one, without a rest and without a person: `chain` counts how many messages each answered the one
/// before. Reports that nobody answers, a burst of them, and what one says to many make no chain longer, so that a busy lead
/// of eleven workers is as far from the limit as a pair. A chain ends where an agent is silent for `pause`, neither writing
/// nor written to, or a person speaks to it; what others say among themselves counts on.
///
/// Whatever the turn is, as long as it is shorter than the pause, a loop in which one message goes round, of two agents or in
/// a ring of any size, is stopped after at most `chain` messages in all; a star is as many loops as it has leaves, and of
/// eight stopped after at most eight times as many. Of two that answer each other within 15 s it is `pair` messages.
///
/// The usual limits are a quarter and more above what ordinary teams come to, as `mail/loops/tests/ordinary.rs` draws them:
/// 2 to 12 agents, leads with workers that report, pairs that review each other, channels, pipelines, and a person's word
/// every 5 min to 8 h. They were tuned on 1,000 such days, with 54 messages of a pair in 20 min and chains of 325 at most
/// (workers of one lead who review each other), and confirmed on 1,000 others, with 62 and 344.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TalkLimits {
    /// Messages between two agents, in both directions together, within the window; 0 for no limit.
    pub pair: u32,
    /// How long the window is.
    pub window: Duration,
    /// Messages that each answer the one before; 0 for no limit.
    pub chain: u32,
    /// How long an agent is silent who begins anew.
    pub pause: Duration,
    /// Whose messages may interrupt what an agent does.
    pub steer_from: SteerFrom,
}

impl Default for TalkLimits {
    fn default() -> Self {
        Self {
            pair: 80,
            window: Duration::from_secs(20 * 60),
            chain: 450,
            pause: Duration::from_secs(15 * 60),
            steer_from: SteerFrom::All,
        }
    }
}

/// Whose messages may interrupt what an agent does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SteerFrom {
    /// Everybody's.
    #[default]
    All,
    /// Those of senders that are no agents; an agent's waits its turn like any other message.
    People,
}

/// Bytes in a MiB.
pub(super) const MIB: usize = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            engine: 1024,
            local: 256,
            bytes: 8 * MIB,
            total_bytes: 32 * MIB,
            ttl: Some(Duration::from_secs(3600)),
            blocked: None,
            talk: TalkLimits::default(),
        }
    }
}
