//! Bodies of the engine's HTTP calls that the broker makes ([engine-protocol 1.4](crate::docs::engine_protocol#1.4),
//! [2](crate::docs::engine_protocol#2)). Read tolerantly: only what we use.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{AgentId, DeliveryId, InvocationId, MsgId, NodeId, Seq, WorkspaceId};
use crate::time::Wall;

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
    pub error: Option<RestError>,
}

fn none<T>() -> Option<T> {
    None
}

/// The engine's refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestError {
    /// One of the codes of [engine-protocol 1.5](crate::docs::engine_protocol#1.5).
    #[serde(default)]
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// `POST /v1/workspaces`, answer, as far as it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeKey {
    /// Opens the new workspace.
    pub api_key: String,
}

/// `POST /v1/nodes`, request. The upstream broker sends exactly these keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateNode {
    /// Our derived or pinned id; the reply's `id` wins ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).
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
pub struct WorkspaceInfo {
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
    /// The workspace's id.
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
    /// The agent's name.
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
    /// The agent's identity.
    pub id: AgentId,
    /// The agent's name.
    #[serde(default)]
    pub name: Option<String>,
    /// `offline`, `released`, or one of several words for being there.
    #[serde(default)]
    pub status: Option<String>,
    /// Whatever was published; `fleet.node_id` names the node an agent was born on.
    #[serde(default)]
    pub metadata: serde_json::Value,
    /// By the engine's clock, as is `fleet.registered_at` in the metadata.
    #[serde(default)]
    pub created_at: Option<String>,
}

/// A row of `GET /v1/nodes/:name/agents`: an agent whose place this is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeAgent {
    /// The agent's identity.
    pub agent_id: AgentId,
    /// The agent's name.
    #[serde(default)]
    pub agent_name: Option<String>,
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
    /// The embedded engine says it of a direct message whose agent is on no node at the moment.
    #[serde(default)]
    pub waits: Option<WaitsFor>,
}

/// How long a message waits for its agent to come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitsFor {
    /// Milliseconds; null for ever.
    pub left_ms: Option<u64>,
}

/// One row of `GET /v1/deliveries/waiting`, which the embedded engine has and no other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitingRow {
    /// The delivery's id.
    pub delivery_id: DeliveryId,
    /// The message's.
    pub message_id: MsgId,
    /// Who speaks.
    pub from: String,
    /// The agent, or `#channel`.
    pub target: String,
    /// The words.
    pub text: String,
    /// Whether the message interrupts its reader.
    #[serde(with = "super::spelling::ModeWord")]
    pub mode: crate::domain::Mode,
    /// When it was posted.
    pub posted_at_ms: Wall,
    /// How long it waits yet; null for ever.
    pub left_ms: Option<u64>,
}

/// How many of these rows are listed and closed at a time, so that other calls get their turn; engines give 200 at most.
pub const LEFTOVERS_PAGE: usize = 100;

/// One row of `GET /v1/deliveries`, as far as a dead letter needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftoverRow {
    /// The delivery's id.
    pub id: DeliveryId,
    /// The message's.
    pub message_id: MsgId,
    /// Its place in the agent's sequence.
    #[serde(default)]
    pub seq: Seq,
    /// `steer` or `next-tool-call` for one that interrupts.
    #[serde(default)]
    pub mode: Option<String>,
    /// `dm`, or how else it came to the agent.
    #[serde(default)]
    pub reason: Option<String>,
    /// Where it was said; the name where it is known, else the id.
    #[serde(default)]
    pub channel_id: Option<String>,
    /// The words, unless the message is gone.
    #[serde(default)]
    pub message: Option<LeftoverWords>,
}

impl LeftoverRow {
    /// Whether it was said to the agent alone.
    pub fn is_direct(&self) -> bool {
        self.reason.as_deref() == Some("dm")
    }

    /// Whether it was to interrupt.
    pub fn interrupts(&self) -> bool {
        matches!(self.mode.as_deref(), Some("steer" | "next-tool-call"))
    }
}

/// The message of such a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftoverWords {
    /// Who speaks.
    pub agent_name: Option<String>,
    /// The words.
    pub text: Option<String>,
    /// The thread, if any.
    pub thread_id: Option<String>,
}

/// A channel as `GET /v1/channels` lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// One row of `GET /v1/nodes`, as far as people want to see it. Relays spell the keys in either case, leave some out and
/// say null for others, so a row is read field by field: what cannot be read in it is as if it were not there, and costs
/// the list nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Value")]
pub struct RosterEntry {
    /// The roster's id of the row; the node's own id where the engine names no other.
    pub id: String,
    /// The node's own id.
    pub node_id: String,
    /// The node's name.
    pub name: String,
    /// `broker` or `direct`.
    pub role: String,
    /// `online` or `offline`, as stored.
    pub status: String,
    /// Online and heard of within 45 s.
    pub live: bool,
    /// Live and able to serve its capabilities.
    pub handlers_live: bool,
    /// 0 to 1; engines from 7 may say null.
    pub load: Option<f64>,
    /// Agents it says it runs.
    pub active_agents: u64,
    /// 0 means no limit.
    pub max_agents: u64,
    /// What it can start and do.
    pub capabilities: Vec<NamedCapability>,
    /// What software it runs.
    pub version: Option<String>,
    /// Free words.
    pub tags: Vec<String>,
    /// The engine's time of the last heartbeat.
    pub last_heartbeat_at: Option<String>,
}

impl RosterEntry {
    /// Whether the row says of which node it is.
    pub fn is_readable(&self) -> bool {
        !self.node_id.is_empty() || !self.name.is_empty()
    }
}

impl From<Value> for RosterEntry {
    fn from(row: Value) -> Self {
        let row = JsonRow(&row);
        let (id, node_id) = (row.text(&["id"]), row.text(&["node_id", "nodeId"]));
        Self {
            id: id.clone().or(node_id.clone()).unwrap_or_default(),
            node_id: node_id.or(id).unwrap_or_default(),
            name: row.text(&["name"]).unwrap_or_default(),
            role: row.text(&["role"]).unwrap_or_default(),
            status: row.text(&["status"]).unwrap_or_default(),
            live: row.read(&["live"]).unwrap_or_default(),
            handlers_live: row
                .read(&["handlers_live", "handlersLive"])
                .unwrap_or_default(),
            load: row.read(&["load"]),
            active_agents: row
                .read(&["active_agents", "activeAgents"])
                .unwrap_or_default(),
            max_agents: row.read(&["max_agents", "maxAgents"]).unwrap_or_default(),
            capabilities: row.list(&["capabilities"]).filter_map(capability).collect(),
            version: row.text(&["version"]),
            tags: row
                .list(&["tags"])
                .filter_map(|tag| serde_json::from_value(tag).ok())
                .collect(),
            last_heartbeat_at: row.text(&["last_heartbeat_at", "lastHeartbeatAt"]),
        }
    }
}

/// A row whose keys have several spellings, of which the first that is there and can be read counts.
struct JsonRow<'a>(&'a Value);

impl JsonRow<'_> {
    fn read<T: serde::de::DeserializeOwned>(&self, names: &[&str]) -> Option<T> {
        let values = names.iter().filter_map(|name| self.0.get(name));
        let mut read = values
            .filter(|v| !v.is_null())
            .map(|v| serde_json::from_value(v.clone()));
        read.find_map(Result::ok)
    }

    fn text(&self, names: &[&str]) -> Option<String> {
        self.read(names).filter(|text: &String| !text.is_empty())
    }

    fn list(&self, names: &[&str]) -> std::vec::IntoIter<Value> {
        self.read::<Vec<Value>>(names)
            .unwrap_or_default()
            .into_iter()
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
fn capability(value: Value) -> Option<NamedCapability> {
    match value {
        Value::String(name) => Some(NamedCapability { name, kind: None }),
        other => serde_json::from_value(other).ok(),
    }
}

/// One row of `GET /v1/messages/:id/readers` ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)): an agent that has the
/// message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reader {
    /// The reader's name.
    pub agent_name: String,
    /// When, in the engine's time.
    pub read_at: Option<String>,
}

/// An invocation of an action, as the engine shows it ([engine-protocol 2.7](crate::docs::engine_protocol#2.7)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InvocationStatus {
    /// The invocation's id.
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

impl InvocationStatus {
    /// Whether nothing more comes of it.
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed")
    }
}

/// One segment of a path, percent-encoded ([engine-protocol 1.1](crate::docs::engine_protocol#1.1)).
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(row: Value) -> RosterEntry {
        serde_json::from_value(row).expect("a row is always read")
    }

    /// H6: snake and camel case.
    #[test]
    fn a_node_is_read_in_either_spelling() {
        let old = json!({"id":"n1","name":"box","handlers_live":true,"active_agents":2,"max_agents":4,
            "load":null,"version":null,"capabilities":[{"name":"spawn:claude","kind":"capacity"}]});
        let new = json!({"nodeId":"n1","name":"box","handlersLive":true,"activeAgents":2,"maxAgents":4,
            "capabilities":["spawn:claude"],"unheard_of":1});
        for node in [old, new].map(read) {
            assert_eq!((node.id.as_str(), node.node_id.as_str()), ("n1", "n1"));
            assert_eq!(
                (node.active_agents, node.max_agents, node.handlers_live),
                (2, 4, true)
            );
            assert_eq!(node.capabilities[0].name, "spawn:claude");
        }
    }

    /// H6: the node's own id stands apart from the roster's.
    #[test]
    fn a_node_keeps_its_own_id_beside_the_rosters() {
        let node = read(json!({"id":"row_7","node_id":"node_a","name":"box"}));
        assert_eq!(
            (node.id.as_str(), node.node_id.as_str()),
            ("row_7", "node_a")
        );
    }

    /// H6: nulls, missing fields, both spellings at once, and fields of another kind.
    #[test]
    fn an_odd_row_is_read_as_far_as_it_can_be() {
        let null = read(
            json!({"id":"n1","name":null,"handlers_live":null,"active_agents":null,"tags":null,
            "capabilities":null,"status":null,"live":null}),
        );
        assert_eq!((null.node_id.as_str(), null.active_agents), ("n1", 0));
        let both = read(json!({"node_id":"n1","nodeId":"n1","active_agents":2,"activeAgents":2}));
        assert_eq!((both.node_id.as_str(), both.active_agents), ("n1", 2));
        let first_odd = read(
            json!({"node_id":null,"nodeId":"n1","name":"box","active_agents":"many",
            "activeAgents":2,"max_agents":null,"maxAgents":4}),
        );
        assert_eq!(
            (first_odd.node_id.as_str(), first_odd.id.as_str()),
            ("n1", "n1")
        );
        assert_eq!((first_odd.active_agents, first_odd.max_agents), (2, 4));
        let wrong = read(
            json!({"id":7,"name":"box","active_agents":"many","tags":[1,"gpu"],
            "capabilities":[3,{"name":"spawn:x"},{"kind":9}],"load":"high"}),
        );
        assert_eq!((wrong.name.as_str(), wrong.load), ("box", None));
        assert_eq!(wrong.tags, ["gpu"]);
        assert_eq!(wrong.capabilities.len(), 1);
    }

    /// H6: one odd row among good ones.
    #[test]
    fn one_odd_row_costs_the_list_nothing() {
        let list = json!([{"id":"n1","name":"box"}, null, 17, "n3", {"name":"far"}]);
        let list: Vec<RosterEntry> = serde_json::from_value(list).expect("a list is always read");
        let names: Vec<_> = list
            .iter()
            .filter(|n| n.is_readable())
            .map(|n| n.name.as_str())
            .collect();
        assert_eq!(names, ["box", "far"]);
    }
}
