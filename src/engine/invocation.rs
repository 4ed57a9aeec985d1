//! Actions that were defined over HTTP, and runs of actions ([engine-protocol 5](crate::docs::engine_protocol#5)). Data and
//! the shapes in which others see it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::id::Id;
use crate::time::Wall;

/// An action somebody defined over HTTP. Those of nodes are looked up in their capabilities instead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Action {
    pub id: Id,
    pub name: String,
    pub description: String,
    pub handler_agent: Option<Id>,
    pub handler_node: Option<String>,
    pub input_schema: Value,
    pub output_schema: Value,
    /// Names of agents; `None` for everybody.
    pub available_to: Option<Vec<String>>,
    pub created_at: Wall,
}

/// How far an invocation has come ([engine-protocol 2.7](crate::docs::engine_protocol#2.7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvocationProgress {
    /// Waits for a node.
    #[default]
    Pending,
    /// Sent to a node.
    Dispatched,
    /// Sent to the agent that handles it.
    Invoked,
    Completed,
    Failed,
}

/// One run of an action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// `inv_` and its number.
    pub id: String,
    pub number: Id,
    /// The name it was invoked by.
    pub action: String,
    /// The name the node gets to see.
    pub wire_action: String,
    pub caller: Option<Id>,
    pub caller_name: Option<String>,
    pub input: Value,
    /// The only node it may go to.
    pub target: Option<String>,
    /// What the node must be able to do; `None` for any spawn capability.
    pub capability: Option<String>,
    pub is_spawn: bool,
    /// It goes to who can start the agent, past an action of the same name: whoever serves that asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub past_actions: bool,
    /// The agent it takes away.
    pub releases: Option<Id>,
    pub delete_agent: bool,
    pub handler_agent: Option<Id>,
    pub handler_node: Option<String>,
    /// Where it is now.
    pub node: Option<String>,
    pub status: InvocationProgress,
    pub output: Option<Value>,
    pub error: Option<String>,
    pub duration_ms: Option<u64>,
    pub created_at: Wall,
    pub dispatched_at: Option<Wall>,
    pub completed_at: Option<Wall>,
    /// Nodes that failed it.
    pub tried: BTreeSet<String>,
    pub attempts: u32,
}

impl Invocation {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        use InvocationProgress as P;
        match self.status {
            P::Completed | P::Failed => true,
            P::Pending | P::Dispatched | P::Invoked => false,
        }
    }

    /// The answer to invoking it ([engine-protocol 2.7](crate::docs::engine_protocol#2.7)).
    pub fn started_view(&self) -> Value {
        json!({
            "invocation_id": self.id,
            "action_name": self.action,
            "handler_agent_id": self.handler_agent.map(|a| a.to_string()),
            "handler_node_id": self.handler_node,
            "dispatched_node_id": self.node,
            "input": self.input,
            "status": self.status,
            "created_at": self.created_at.iso(),
        })
    }

    /// Its state when asked later.
    pub fn view(&self) -> Value {
        json!({
            "invocation_id": self.id,
            "action_name": self.action,
            "caller_id": self.caller.map(|c| c.to_string()),
            "caller_name": self.caller_name,
            "handler_agent_id": self.handler_agent.map(|a| a.to_string()),
            "handler_node_id": self.handler_node,
            "input": self.input,
            "output": self.output,
            "status": self.status,
            "error": self.error,
            "duration_ms": self.duration_ms,
            "dispatched_node_id": self.node,
            "dispatched_at": self.dispatched_at.map(Wall::iso),
            "created_at": self.created_at.iso(),
            "completed_at": self.completed_at.map(Wall::iso),
        })
    }
}
