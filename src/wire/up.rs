//! Frames from a node to the engine ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)). We write exactly the keys of
//! the oldest engine we support (the E5 column of [engine-protocol 3.7](crate::docs::engine_protocol#3.7)); reading accepts
//! what any version sends, because the embedded engine uses this too.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spelling::OutcomeKey;
use super::{Parsed, WireError};
use crate::domain::Outcome;
use crate::ids::{AgentId, AgentName, InvocationId, NodeId, Seq};

/// One frame from a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Up {
    /// First frame on a link: who we are and what we can run. Replied to with the roster entry.
    #[serde(rename = "node.register")]
    NodeRegister(NodeRegister),
    /// The node is alive, every 12 s and at each change. No reply.
    #[serde(rename = "node.heartbeat")]
    NodeHeartbeat(NodeHeartbeat),
    /// The node leaves. No reply.
    #[serde(rename = "node.deregister")]
    NodeDeregister(NodeDeregister),
    /// Makes an agent of this node known, or takes over its name; the reply carries its token.
    #[serde(rename = "agent.register")]
    AgentRegister(AgentRegister),
    /// Takes back an agent that exists already (engines from 8.2).
    #[serde(rename = "agent.recover")]
    AgentRecover(AgentRecover),
    /// The agent is gone. No reply before 8.7.
    #[serde(rename = "agent.deregister")]
    AgentDeregister(AgentDeregister),
    /// All deliveries of the agent up to this number are done. Cumulative, no reply.
    #[serde(rename = "delivery.ack")]
    DeliveryAck(DeliveryAck),
    /// The one answer to an `action.invoke`.
    #[serde(rename = "action.result")]
    ActionResult(ActionResult),
    /// The complete set of live agents; the engine answers with redelivery.
    #[serde(rename = "inventory.sync")]
    InventorySync(InventorySync),
}

const KINDS: &[&str] = &[
    "node.register",
    "node.heartbeat",
    "node.deregister",
    "agent.register",
    "agent.recover",
    "agent.deregister",
    "delivery.ack",
    "action.result",
    "inventory.sync",
];

impl Up {
    /// Reads a frame a node sent.
    ///
    /// # Errors
    /// [`WireError`] for anything that is not a version 1 frame or breaks the rules of its type.
    pub fn parse(text: &str) -> Result<Parsed<Up>, WireError> {
        super::parse(text, KINDS)
    }

    /// The frame as one line of JSON.
    pub fn to_text(&self) -> String {
        super::to_text(self)
    }
}

/// What a node can run or do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capability {
    /// `spawn:<harness>` for capacity, otherwise an action's name.
    pub name: String,
    /// `capacity` or `action`; when absent the engine goes by the name
    /// ([engine-protocol 5.1](crate::docs::engine_protocol#5.1)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Free-form facts about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// Engines from 6: the action's name is for the whole workspace. Never sent by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<bool>,
    /// Engines from 6: invocations wait while the provider is away. Never sent by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<bool>,
}

impl Capability {
    /// One with nothing but its name and kind, which every engine knows.
    pub fn of(name: impl Into<String>, kind: &str) -> Self {
        Self {
            name: name.into(),
            kind: Some(kind.to_owned()),
            metadata: None,
            global: None,
            queue: None,
        }
    }
}

/// A process among several that serve one node (engines from 6). Never sent by us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Stable name of the provider.
    pub name: String,
    /// Differs for each process under that name.
    pub instance_id: String,
}

/// `node.register`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRegister {
    /// Echoed in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Unique in the workspace.
    pub name: String,
    /// Must be the node the token belongs to.
    pub node_id: NodeId,
    /// What it can run; replaces what it said before.
    pub capabilities: Vec<Capability>,
    /// 0 means no limit.
    pub max_agents: u64,
    /// Free words for placement.
    pub tags: Vec<String>,
    /// `relay-broker/<version>`.
    pub version: String,
    /// Unused by all engines read; accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_cursor: Option<String>,
    /// Engines from 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

/// `node.heartbeat`. The engine takes the time of receipt, so none is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeHeartbeat {
    /// As registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// Refreshes what was registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// 0 means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_agents: Option<u64>,
    /// As registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Active agents over `max_agents`, 0 to 1; 0 without a limit. Engines before 7 reject null, so we always send it.
    #[serde(default)]
    pub load: Option<f64>,
    /// Agents whose process runs.
    pub active_agents: u64,
    /// Whether somebody answers the advertised capabilities.
    pub handlers_live: bool,
    /// Engines from 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

/// `node.deregister`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeDeregister {
    /// Engines from 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

/// `agent.register`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentRegister {
    /// The reply is matched by it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name to take.
    pub name: AgentName,
    /// The spawn this agent is born of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<InvocationId>,
    /// The program's own session, for resuming it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ref: Option<String>,
    /// True exactly when `session_ref` is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable: Option<bool>,
}

/// `agent.recover` (engines from 8.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentRecover {
    /// The reply is matched by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name to take back.
    pub name: AgentName,
    /// The identity we believe it has.
    pub expected_agent_id: AgentId,
    /// The spawn this agent is born of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<InvocationId>,
    /// The program's own session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ref: Option<String>,
    /// True exactly when `session_ref` is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable: Option<bool>,
}

/// `agent.deregister`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentDeregister {
    /// Later engines reply when it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The identity that is given back.
    pub agent_id: AgentId,
    /// For logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<AgentName>,
}

/// `delivery.ack`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryAck {
    /// The agent's **name**, not its id.
    pub agent: AgentName,
    /// The longest finished prefix.
    pub up_to_seq: Seq,
}

/// `action.result`: exactly one of the two keys goes out, and a frame with both or neither is broken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ActionResultKeys")]
pub struct ActionResult {
    /// The invocation that is answered.
    pub invocation_id: InvocationId,
    /// What came of it.
    #[serde(flatten, with = "OutcomeKey")]
    pub outcome: Outcome,
}

/// `action.result` as it is read: a key that is there with null differs from one that is not.
#[derive(Deserialize)]
struct ActionResultKeys {
    invocation_id: InvocationId,
    #[serde(default, deserialize_with = "present")]
    output: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    error: Option<Value>,
}

fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}

impl TryFrom<ActionResultKeys> for ActionResult {
    type Error = &'static str;
    fn try_from(keys: ActionResultKeys) -> Result<Self, Self::Error> {
        let outcome = match (keys.output, keys.error) {
            (Some(output), None) => Outcome::Output(output),
            (None, Some(Value::String(error))) => Outcome::Error(error),
            (None, Some(_)) => return Err("`error` must be a text"),
            _ => return Err("exactly one of `output` and `error` must be there"),
        };
        Ok(Self {
            invocation_id: keys.invocation_id,
            outcome,
        })
    }
}

/// `inventory.sync`. An empty list takes every agent of the node offline, so we never send one at connect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InventorySync {
    /// Echoed in the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Every live agent.
    pub agents: Vec<InventoryMember>,
}

/// One live agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InventoryMember {
    /// The engine's id of it.
    pub agent_id: AgentId,
    /// The agent's name.
    pub name: AgentName,
    /// The spawn it was born of, which counts as completed with this list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<InvocationId>,
    /// The program's own session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ref: Option<String>,
}
