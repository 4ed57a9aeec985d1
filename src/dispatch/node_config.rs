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
/// The usual limits are a third and more above what ordinary teams came to in 1,000 simulated days
/// (`mail/loops/tests.rs`): leads with one to eight workers, pairs, lines of three and four that hand work on, and channels
/// of five, with turns of 4 s to 15 minutes, bursts of reports, questions answered at once, and a person who speaks every
/// quarter of an hour or so, is away for three, or sleeps for eight hours. There 54 messages passed between two agents in 20
/// minutes at most (two that work on one thing; a lead and a worker 41), and 356 from one to another in a night. Thank-yous
/// take 5 to 15 s each, so that two agents that exchange them are stopped within the window. Slower loops, rings of three at
/// more than 5 s a turn, and stars whose middle reads one message after the other are stopped by the second limit. That one
/// is for each sender, because a lead of eight gets eight times as much as one of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TalkLimits {
    /// Messages between two agents, in both directions together, within the window; 0 for no limit.
    pub pair: u32,
    /// How long the window is.
    pub window: Duration,
    /// Messages that an agent gets from one other since a person last spoke to any agent of this node; 0 for no limit.
    pub agent: u32,
    /// Whose messages may interrupt what an agent does.
    pub steer_from: SteerFrom,
}

impl Default for TalkLimits {
    fn default() -> Self {
        Self {
            pair: 80,
            window: Duration::from_secs(20 * 60),
            agent: 500,
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
