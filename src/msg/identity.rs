//! Identities of agents at the engine: what is wanted of one, and what one is.

use super::secret::Secret;
use crate::ids::{AgentId, AgentName, NodeId, Seq};

/// The identity an agent wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Under which name.
    pub name: AgentName,
    /// The program's own session, for resuming it.
    pub session_ref: Option<String>,
    /// Our own node, as the engine lists it.
    pub node_name: String,
    /// Our own node.
    pub node_id: NodeId,
    /// The name is known to be taken: it is to be had from whoever bears it.
    pub exists: bool,
    /// The agent exists and this is its token, which stays: only the place is still to be had.
    pub token: Option<Secret>,
}

/// An identity, and the place that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// Whose sequence its mail counts in.
    pub agent_id: AgentId,
    /// Acts as that agent.
    pub token: Secret,
    /// The highest number acknowledged for it, where the engine says so.
    pub acked: Option<Seq>,
}
