//! The journal's vocabulary: facts in the past tense. Nothing secret is in it, only digests of tokens.

#![allow(missing_docs)] // each field is named after the entity's field it sets

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::directory::{Agent, Channel, Node, Observer, Owner, State};
use super::history::Message;
use super::id::Id;
use super::invocation::{Action, Invocation};
use super::stored::KeptCapabilities;
use crate::time::Wall;
use crate::wire::up::Capability;

/// One fact. `ws` is always the workspace it happened in; the entities carry their own ids. In the journal a fact is an
/// object with the name of its kind, whether its fields stand here or in a type of that name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EngineRecord {
    WorkspaceCreated(WorkspaceCreated),
    WorkspaceChanged(WorkspaceChanged),
    WorkspaceDeleted {
        ws: Id,
    },
    /// Joins `general` and has a direct node of its own from now on.
    AgentRegistered {
        ws: Id,
        agent: Box<Agent>,
    },
    AgentChanged(AgentChanged),
    AgentDeleted {
        ws: Id,
        agent: Id,
    },
    /// The owner's token is the one with this digest; any earlier one is dead.
    TokenIssued {
        owner: Owner,
        hash: String,
    },
    AgentBound(AgentBound),
    /// The first node to have the agent, which had none.
    OriginSet {
        ws: Id,
        agent: Id,
        node: String,
    },
    /// The agent is back on its direct node.
    AgentUnbound {
        ws: Id,
        agent: Id,
    },
    /// Made, or made anew under the same id.
    NodeCreated {
        ws: Id,
        node: Box<Node>,
    },
    NodeDescribed(NodeDescribed),
    ProviderRemoved {
        ws: Id,
        node: String,
        provider: String,
    },
    NodeDeleted {
        ws: Id,
        node: String,
    },
    ChannelCreated {
        ws: Id,
        channel: Box<Channel>,
    },
    ChannelChanged(ChannelChanged),
    Joined(Joined),
    Left {
        ws: Id,
        channel: Id,
        agent: Id,
    },
    Muted(Muted),
    MessagePosted(MessagePosted),
    Reacted(Reacted),
    Unreacted(Unreacted),
    Read(Read),
    Acked(Acked),
    /// One delivery was finished over HTTP; the cursor moves only when nothing below it waits.
    DeliveryClosed {
        ws: Id,
        agent: Id,
        seq: u64,
    },
    /// So much longer has all mail of an agent waited that nobody was there to take.
    Waited {
        ws: Id,
        agent: Id,
        ms: u64,
    },
    /// Every delivery that was an hour old by then was given up; written by versions that went by the wall clock.
    Expired {
        ws: Id,
        at: Wall,
    },
    ActionDefined {
        ws: Id,
        action: Box<Action>,
    },
    ActionRemoved {
        ws: Id,
        name: String,
    },
    Invoked {
        ws: Id,
        invocation: Box<Invocation>,
    },
    Dispatched(Dispatched),
    /// The node it was sent to is gone or cannot do it; it waits for another.
    Requeued {
        ws: Id,
        invocation: String,
    },
    InvocationEnded(InvocationEnded),
    /// Made, changed or revoked.
    ObserverSaved {
        ws: Id,
        observer: Box<Observer>,
    },
    /// Stands for everything before it.
    Snapshot(Box<State>),
}

/// A workspace exists from now on, with its channel `general`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceCreated {
    pub id: Id,
    pub name: String,
    pub key_hash: String,
    pub general: Id,
    pub at: Wall,
}

/// What a workspace says of itself changed; what is `None` stays as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceChanged {
    pub ws: Id,
    pub name: Option<String>,
    pub system_prompt: Option<Option<String>>,
    pub metadata: Option<Map<String, Value>>,
}

/// What an agent says of itself changed; what is `None` stays as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentChanged {
    pub ws: Id,
    pub agent: Id,
    pub status: Option<String>,
    pub persona: Option<Option<String>>,
    pub metadata: Option<Map<String, Value>>,
}

/// An agent lives on that node from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentBound {
    pub ws: Id,
    pub agent: Id,
    pub node: String,
    pub provider: String,
    pub session_ref: Option<String>,
    pub priority: i64,
    pub at: Wall,
}

/// A provider of a node said what it is and can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeDescribed {
    pub ws: Id,
    pub node: String,
    pub name: String,
    pub tags: Vec<String>,
    pub version: String,
    pub provider: String,
    #[serde(with = "KeptCapabilities")]
    pub capabilities: Vec<Capability>,
    pub max_agents: u64,
}

/// A message was said, and put into every recipient's mailbox that had room; `left_out` had none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessagePosted {
    pub ws: Id,
    pub message: Box<Message>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Id>,
}

/// What a channel is about changed; what is `None` stays as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelChanged {
    pub ws: Id,
    pub channel: Id,
    pub topic: Option<Option<String>>,
    pub metadata: Option<Map<String, Value>>,
    pub archived: bool,
}

/// An agent is a member of a channel from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    pub ws: Id,
    pub channel: Id,
    pub agent: Id,
    pub at: Wall,
}

/// An agent wants to hear of a channel no more, or again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Muted {
    pub ws: Id,
    pub channel: Id,
    pub agent: Id,
    pub muted: bool,
}

/// An agent put an emoji to a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reacted {
    pub ws: Id,
    pub message: Id,
    pub id: Id,
    pub agent: Id,
    pub agent_name: String,
    pub emoji: String,
    pub at: Wall,
}

/// An agent took its emoji back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unreacted {
    pub ws: Id,
    pub message: Id,
    pub agent: Id,
    pub emoji: String,
}

/// An agent has read a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Read {
    pub ws: Id,
    pub message: Id,
    pub agent: Id,
    pub at: Wall,
}

/// All deliveries of an agent up to this number arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acked {
    pub ws: Id,
    pub agent: Id,
    pub up_to: u64,
    pub at: Wall,
}

/// An invocation was sent to a node, or to the node of the agent that handles it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispatched {
    pub ws: Id,
    pub invocation: String,
    pub node: String,
    pub at: Wall,
}

/// An invocation has its result, or failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InvocationEnded {
    pub ws: Id,
    pub invocation: String,
    pub output: Option<Value>,
    pub error: Option<String>,
    pub duration_ms: Option<u64>,
    pub at: Wall,
}
