//! One message for one agent, as it was accepted.

use serde::{Deserialize, Serialize};

use super::stored::StoredMode;
use crate::domain::Mode;
use crate::ids::{AgentId, AgentName, DeliveryId, MsgId, Seq};
use crate::time::Wall;

/// What is pending for one agent: the ledger's unit of truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Names it for its whole life.
    pub id: DeliveryId,
    /// The message it carries.
    pub msg_id: MsgId,
    /// For whom.
    pub agent: AgentName,
    /// Where it came from.
    pub origin: Origin,
    /// Who speaks.
    pub from: String,
    /// Where it was said.
    pub target: String,
    /// The words, unfiltered.
    pub body: String,
    /// The thread, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// How urgently.
    #[serde(default, with = "StoredMode")]
    pub mode: Mode,
    /// A local operator's own words, typed without the line that says who speaks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
    /// The operator's words in the name of an agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_operator: bool,
    /// When we took it.
    pub queued_at: Wall,
}

/// Where a delivery came from, and so who must hear that it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The engine: acknowledged by number.
    Engine {
        /// Whose sequence.
        agent_id: AgentId,
        /// Which number; 0 is outside the sequence and needs no acknowledgement.
        seq: Seq,
    },
    /// The local API or the broker itself.
    Local,
    /// The engine, which has its acknowledgement already: a dead letter that was given another chance.
    Acknowledged,
    /// The first message of an agent's life, given with the wish to start it. It ends with that life.
    Task,
}

impl Origin {
    /// The number in the engine's sequence, where it has one.
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Self::Engine { seq, .. } => Some(*seq).filter(|seq| seq.0 > 0),
            Self::Local | Self::Acknowledged | Self::Task => None,
        }
    }

    /// Whether the engine keeps a copy until we acknowledge it.
    pub fn is_engine(&self) -> bool {
        matches!(self, Self::Engine { .. })
    }
}
