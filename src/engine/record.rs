//! The journal's vocabulary: facts in the past tense. Nothing secret is in it, only digests of tokens.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::directory::{Agent, Channel, Node, Observer, Owner, State};
use super::history::Message;
use super::id::Id;
use super::invocation::{Action, Invocation};
use crate::time::Wall;
use crate::wire::up::Capability;

/// One fact. `ws` is always the workspace it happened in; the entities carry their own ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // each field is named after the entity's field it sets
pub enum EngineRecord {
    /// A workspace exists from now on, with its channel `general`.
    WorkspaceCreated {
        id: Id,
        name: String,
        key_hash: String,
        general: Id,
        at: Wall,
    },
    WorkspaceChanged {
        ws: Id,
        name: Option<String>,
        system_prompt: Option<Option<String>>,
        metadata: Option<Map<String, Value>>,
    },
    WorkspaceDeleted {
        ws: Id,
    },
    /// Joins `general` and has a direct node of its own from now on.
    AgentRegistered {
        ws: Id,
        agent: Box<Agent>,
    },
    /// What is `None` stays as it was.
    AgentChanged {
        ws: Id,
        agent: Id,
        status: Option<String>,
        persona: Option<Option<String>>,
        metadata: Option<Map<String, Value>>,
    },
    AgentDeleted {
        ws: Id,
        agent: Id,
    },
    /// The owner's token is the one with this digest; any earlier one is dead.
    TokenIssued {
        owner: Owner,
        hash: String,
    },
    /// The agent lives on that node from now on.
    AgentBound {
        ws: Id,
        agent: Id,
        node: String,
        provider: String,
        session_ref: Option<String>,
        priority: i64,
        at: Wall,
    },
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
    /// A provider of the node said what it is and can do.
    NodeDescribed {
        ws: Id,
        node: String,
        name: String,
        tags: Vec<String>,
        version: String,
        provider: String,
        capabilities: Vec<Capability>,
        max_agents: u64,
    },
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
    ChannelChanged {
        ws: Id,
        channel: Id,
        topic: Option<Option<String>>,
        metadata: Option<Map<String, Value>>,
        archived: bool,
    },
    Joined {
        ws: Id,
        channel: Id,
        agent: Id,
        at: Wall,
    },
    Left {
        ws: Id,
        channel: Id,
        agent: Id,
    },
    Muted {
        ws: Id,
        channel: Id,
        agent: Id,
        muted: bool,
    },
    /// Said, and put into every recipient's mailbox that had room; `left_out` had none.
    MessagePosted {
        ws: Id,
        message: Box<Message>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<Id>,
    },
    Reacted {
        ws: Id,
        message: Id,
        id: Id,
        agent: Id,
        agent_name: String,
        emoji: String,
        at: Wall,
    },
    Unreacted {
        ws: Id,
        message: Id,
        agent: Id,
        emoji: String,
    },
    Read {
        ws: Id,
        message: Id,
        agent: Id,
        at: Wall,
    },
    /// All deliveries of the agent up to this number arrived.
    Acked {
        ws: Id,
        agent: Id,
        up_to: u64,
        at: Wall,
    },
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
    /// Sent to a node, or to the node of the agent that handles it.
    Dispatched {
        ws: Id,
        invocation: String,
        node: String,
        at: Wall,
    },
    /// The node it was sent to is gone or cannot do it; it waits for another.
    Requeued {
        ws: Id,
        invocation: String,
    },
    InvocationEnded {
        ws: Id,
        invocation: String,
        output: Option<Value>,
        error: Option<String>,
        duration_ms: Option<u64>,
        at: Wall,
    },
    /// Made, changed or revoked.
    ObserverSaved {
        ws: Id,
        observer: Box<Observer>,
    },
    /// Stands for everything before it.
    Snapshot(Box<State>),
}
