//! What parts may ask of each other. Questions change nothing; a part that wants something done leaves a
//! [`super::notice::Notice`].

use std::time::Duration;

use super::engine_version::EngineVersion;
use super::node_config::NodeConfig;
use crate::ids::{AgentId, AgentName, InvocationId, NodeId};
use crate::msg::{Refusal, Secret, Wanted};
use crate::time::{Mono, Wall};
use crate::wire::up::{Capability, InventoryMember};

/// What may be asked of [`super::agents`].
pub(super) trait AgentQuestions {
    /// Whether somebody of that name is here, running or about to.
    fn is_here(&self, name: &AgentName) -> bool;
    /// Whether nobody is.
    fn is_empty(&self) -> bool;
    /// Who is here, each with its identity as soon as it has one.
    fn here(&self) -> Vec<(&AgentName, Option<&AgentId>)>;
    /// Who ended while there was no link, and is signed off on the next.
    fn farewells(&self) -> Vec<(&AgentName, &AgentId)>;
    /// The identity of one that is here.
    fn agent_id(&self, name: &AgentName) -> Option<&AgentId>;
    /// The token of a running agent, so that its messages go out in its own name.
    fn token(&self, name: &AgentName) -> Option<Secret>;
    /// Whether the engine has it on another node.
    fn is_moved(&self, name: &AgentName) -> bool;
    /// Since when its program has been silent, if it is.
    fn idle_since(&self, name: &AgentName) -> Option<Wall>;
    /// Who runs here, as the engine is told.
    fn listed(&self) -> Vec<InventoryMember>;
    /// How many programs run here.
    fn active(&self) -> u64;
    /// The answer to a call about somebody who is not here.
    fn unknown(&self, name: &AgentName) -> Refusal;
}

/// What may be asked of [`super::mail`].
pub(super) trait MailQuestions {
    /// Why the message in its terminal goes no further, if so.
    fn stalled(&self, name: &AgentName) -> Option<&str>;
}

/// What may be asked of [`super::control`].
pub(super) trait ControlQuestions {
    /// Whether the socket is open.
    fn is_up(&self) -> bool;
    /// Whether the engine listens: it took our registration on this very link.
    fn is_open(&self) -> bool;
    /// How long to wait for the engine's answer to a list of agents, while one is on its way.
    fn lists_until(&self) -> Option<Mono>;
    /// Why there is no link, for people.
    fn why_down(&self) -> Option<&str>;
    /// For how long there has been no link, as far as anybody has tried.
    fn gone_for(&self, now: Mono) -> Duration;
    /// How old the engine is, as far as is known.
    fn engine_version(&self) -> EngineVersion;
    /// What this node is called.
    fn node_name(&self) -> &str;
    /// Which node this is.
    fn node_id(&self) -> &NodeId;
    /// The identity of that name, on this node, of an agent that the engine is believed to have.
    fn wanted(&self, name: &AgentName) -> Wanted {
        Wanted {
            name: name.clone(),
            session_ref: None,
            node_name: self.node_name().to_owned(),
            node_id: self.node_id().clone(),
            exists: true,
            token: None,
        }
    }
    /// Whether the broker was told to stop.
    fn is_stopping(&self) -> bool;
}

/// What may be asked of [`super::actions`].
pub(super) trait ActionQuestions {
    /// Whether nothing runs here that the engine asked for.
    fn is_idle(&self) -> bool;
    /// Whether this invocation runs here.
    fn is_open(&self, id: &InvocationId) -> bool;
    /// The actions that are served here.
    fn capabilities(&self, config: &NodeConfig) -> Vec<Capability>;
    /// The most agents that may run here; 0 for no limit.
    fn max_agents(&self, config: &NodeConfig) -> u64;
    /// What connected programs say of this node.
    fn tags(&self) -> Vec<String>;
}
