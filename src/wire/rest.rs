//! Bodies of the engine's HTTP calls that the broker makes (engine-wire 1.4, 2). Read tolerantly: only what we use.

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, MsgId, NodeId, WorkspaceId};

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

/// `GET /v1/agents/:name`, as far as it says whose the name is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentFacts {
    /// Its identity.
    pub id: AgentId,
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

/// One row of `GET /v1/nodes`, as far as people want to see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// The node's id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `broker` or `direct`.
    #[serde(default)]
    pub role: String,
    /// `online` or `offline`, as stored.
    #[serde(default)]
    pub status: String,
    /// Online and heard of within 45 s.
    #[serde(default)]
    pub live: bool,
    /// Live and able to serve its capabilities.
    #[serde(default)]
    pub handlers_live: bool,
    /// 0 to 1; engines from 7 may say null.
    #[serde(default)]
    pub load: Option<f64>,
    /// Agents it says it runs.
    #[serde(default)]
    pub active_agents: u64,
    /// 0 means no limit.
    #[serde(default)]
    pub max_agents: u64,
    /// What software it runs.
    #[serde(default)]
    pub version: String,
    /// Free words.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The engine's time of the last heartbeat.
    #[serde(default)]
    pub last_heartbeat_at: Option<String>,
}
