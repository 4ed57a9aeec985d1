//! Bodies of the engine's HTTP calls that the broker makes (engine-wire 1.4, 2). Read tolerantly: only what we use.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{AgentId, InvocationId, MsgId, NodeId, WorkspaceId};

/// The envelope around every answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Envelope<T> {
    /// Whether `data` or `error` is to be read.
    pub ok: bool,
    /// The answer; absent on failures.
    #[serde(default = "none")]
    pub data: Option<T>,
    /// Why not.
    #[serde(default)]
    pub error: Option<ApiError>,
}

fn none<T>() -> Option<T> {
    None
}

/// The engine's refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// One of the codes of engine-wire 1.5.
    #[serde(default)]
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// `POST /v1/nodes`, request. The upstream broker sends exactly these keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateNode {
    /// Our derived or pinned id; the reply's `id` wins (engine-wire 2.2).
    pub node_id: NodeId,
    /// Unique in the workspace.
    pub name: String,
    /// Always `ws`.
    pub kind: String,
    /// Always `broker`.
    pub role: String,
    /// `relay-broker/<version>`.
    pub version: String,
}

/// `POST /v1/nodes`, answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatedNode {
    /// The id to register with.
    pub id: NodeId,
    /// The name it is listed under.
    #[serde(default)]
    pub name: String,
    /// Opens `/v1/node/ws`; replaces any earlier one of this node.
    pub token: String,
}

/// `GET /v1/workspace`, answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workspace {
    /// What engines call it.
    #[serde(default)]
    pub id: Option<WorkspaceId>,
    /// What some relays and the create call name it; both may be present.
    #[serde(default)]
    pub workspace_id: Option<WorkspaceId>,
    /// For people.
    #[serde(default)]
    pub name: String,
}

/// `POST /v1/workspaces`, answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatedWorkspace {
    /// Its id.
    pub workspace_id: WorkspaceId,
    /// The workspace key.
    pub api_key: String,
}

/// `POST /v1/agents`, `…/rotate-token`, answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegisteredAgent {
    /// Absent from the answer to `rotate-token`.
    #[serde(default)]
    pub id: Option<AgentId>,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Acts as that agent.
    pub token: String,
}

/// `POST …/recover`, `POST …/takeover`, answers; `rotate-token` gives the token alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetakenAgent {
    /// The identity that was taken.
    #[serde(default)]
    pub agent_id: Option<AgentId>,
    /// Acts as that agent; the one before it is dead.
    pub token: String,
}

/// `GET /v1/agents/:name` and `GET /v1/agent`, as far as they say whose the name is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentFacts {
    /// Its identity.
    pub id: AgentId,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// `offline`, `released`, or one of several words for being there.
    #[serde(default)]
    pub status: Option<String>,
    /// Whatever was published; `fleet.node_id` names the node an agent was born on.
    #[serde(default)]
    pub metadata: serde_json::Value,
}

/// `POST /v1/nodes/:name/agents`, answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoundAgent {
    /// Who was bound.
    #[serde(default)]
    pub agent_id: Option<AgentId>,
    /// The highest number acknowledged for it (from 8.11.3).
    #[serde(default)]
    pub delivery_ack_seq: Option<u64>,
}

/// `POST /v1/dm`, `POST /v1/channels/:name/messages`, answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Posted {
    /// The message's id.
    pub id: MsgId,
}

/// One row of `GET /v1/nodes`, as far as people want to see it. Relays spell the keys in either case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RosterEntry {
    /// The node's id.
    pub id: String,
    /// The same: some name it so.
    #[serde(alias = "nodeId")]
    pub node_id: String,
    /// Its name.
    pub name: String,
    /// `broker` or `direct`.
    pub role: String,
    /// `online` or `offline`, as stored.
    pub status: String,
    /// Online and heard of within 45 s.
    pub live: bool,
    /// Live and able to serve its capabilities.
    #[serde(alias = "handlersLive")]
    pub handlers_live: bool,
    /// 0 to 1; engines from 7 may say null.
    pub load: Option<f64>,
    /// Agents it says it runs.
    #[serde(alias = "activeAgents")]
    pub active_agents: u64,
    /// 0 means no limit.
    #[serde(alias = "maxAgents")]
    pub max_agents: u64,
    /// What it can start and do.
    #[serde(deserialize_with = "lenient_capabilities")]
    pub capabilities: Vec<NamedCapability>,
    /// What software it runs.
    pub version: Option<String>,
    /// Free words.
    pub tags: Vec<String>,
    /// The engine's time of the last heartbeat.
    #[serde(alias = "lastHeartbeatAt")]
    pub last_heartbeat_at: Option<String>,
}

impl RosterEntry {
    /// With both spellings of its id.
    pub fn with_both_ids(mut self) -> Self {
        if self.id.is_empty() {
            self.id.clone_from(&self.node_id);
        }
        self.node_id.clone_from(&self.id);
        self
    }
}

/// A capability in the roster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedCapability {
    /// `spawn:<harness>` or an action's name.
    pub name: String,
    /// `capacity` or `action`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Some engines list names, others objects.
fn lenient_capabilities<'de, D: serde::Deserializer<'de>>(
    d: D,
) -> Result<Vec<NamedCapability>, D::Error> {
    let all = Option::<Vec<Value>>::deserialize(d)?.unwrap_or_default();
    let one = |value: Value| match value {
        Value::String(name) => Some(NamedCapability { name, kind: None }),
        other => serde_json::from_value(other).ok(),
    };
    Ok(all.into_iter().filter_map(one).collect())
}

/// An invocation of an action, as the engine shows it (engine-wire 2.7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// Its id.
    pub invocation_id: InvocationId,
    /// Of the action: `spawn` also for `spawn:x`.
    #[serde(default)]
    pub action_name: String,
    /// The node it went to.
    #[serde(default)]
    pub dispatched_node_id: Option<String>,
    /// `pending`, `dispatched`, `invoked`, `completed` or `failed`.
    #[serde(default)]
    pub status: String,
    /// What came of it.
    #[serde(default)]
    pub output: Value,
    /// Why nothing did.
    #[serde(default)]
    pub error: Option<String>,
}

impl Invocation {
    /// Whether nothing more comes of it.
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_read_in_either_spelling_and_shown_with_both_ids() {
        let old = json!({"id":"n1","name":"box","handlers_live":true,"active_agents":2,"max_agents":4,
            "load":null,"version":null,"capabilities":[{"name":"spawn:claude","kind":"capacity"}]});
        let new = json!({"node_id":"n1","name":"box","handlersLive":true,"activeAgents":2,"maxAgents":4,
            "capabilities":["spawn:claude"],"unheard_of":1});
        for row in [old, new] {
            let node: RosterEntry = serde_json::from_value(row).expect("readable");
            let node = node.with_both_ids();
            assert_eq!((node.id.as_str(), node.node_id.as_str()), ("n1", "n1"));
            assert_eq!(
                (node.active_agents, node.max_agents, node.handlers_live),
                (2, 4, true)
            );
            assert_eq!(node.capabilities[0].name, "spawn:claude");
        }
    }
}
