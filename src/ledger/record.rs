//! The journal's vocabulary: what happened, in the past tense. A record is one line of JSON and is never changed once a
//! released version has written it; new facts get new variants.

use serde::{Deserialize, Serialize};

use super::delivery::Delivery;
use super::image::Image;
use super::restart::Departed;
use super::stored::{StoredDeliveryMode, StoredOutcome, StoredProof, StoredSpawn};
use crate::domain::{DeliveryMode, Outcome, Proof};
use crate::ids::{AgentId, AgentName, DeliveryId, InvocationId, MsgId, Seq};
use crate::time::Wall;

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Record {
    /// A process opened the journal; attempts before this are in doubt.
    Opened {
        /// When.
        at: Wall,
    },
    /// The engine gave this name that identity.
    Bound {
        /// The name.
        agent: AgentName,
        /// Whose sequence its mail counts in.
        agent_id: AgentId,
    },
    /// We took responsibility for a delivery.
    Accepted {
        /// All of it.
        delivery: Delivery,
    },
    /// A frame was done with without a delivery: a notice, an unknown type, a copy of a message we have.
    Noted {
        /// Whose sequence.
        agent_id: AgentId,
        /// Which number; 0 outside the sequence.
        seq: Seq,
        /// So that a copy is known again.
        msg_id: MsgId,
    },
    /// So much longer has all mail of an agent waited that is not here.
    Waited {
        /// Whose.
        agent: AgentName,
        /// Milliseconds.
        ms: u64,
    },
    /// Bytes of it may reach the terminal from here on.
    Attempted {
        /// Which.
        id: DeliveryId,
    },
    /// It arrived, or was typed and nothing was seen (`Proof::None`).
    Settled {
        /// Which.
        id: DeliveryId,
        /// How we know.
        #[serde(with = "StoredProof")]
        proof: Proof,
    },
    /// It was given up.
    DeadLettered {
        /// Which.
        id: DeliveryId,
        /// Why, for people.
        reason: String,
        /// When.
        at: Wall,
    },
    /// A dead letter was given another chance, under a new id.
    Redelivered {
        /// The dead letter's id.
        id: DeliveryId,
        /// What waits now.
        delivery: Delivery,
    },
    /// An agent's program runs: a life began.
    Spawned {
        /// Whose.
        agent: AgentName,
        /// How to start it again; without any token.
        request: Box<StoredSpawn>,
    },
    /// The broker is about to start the program again within the same life.
    Restarted {
        /// Whose.
        agent: AgentName,
        /// How many times in a row it has failed by now.
        failures: u32,
    },
    /// A life is over.
    Ended {
        /// Whose.
        agent: AgentName,
        /// By somebody's wish, so that mail that still comes has no reader to wait for.
        released: bool,
    },
    /// An agent's life ended without anybody's wish, and is remembered for people.
    Departed {
        /// Whose.
        agent: AgentName,
        /// How.
        departed: Departed,
    },
    /// The agent's delivery mode changed.
    Held {
        /// Whose.
        agent: AgentName,
        /// To what.
        #[serde(with = "StoredDeliveryMode")]
        mode: DeliveryMode,
    },
    /// An action's run began.
    Invoked {
        /// Which.
        id: InvocationId,
    },
    /// An action's run ended; repetitions of it get the same answer.
    Answered {
        /// Which.
        id: InvocationId,
        /// How.
        #[serde(with = "StoredOutcome")]
        outcome: Outcome,
    },
    /// Event numbers up to this one may have been used.
    Numbered {
        /// The highest.
        upto: u64,
    },
    /// Stands for everything before it.
    Snapshot(Box<Image>),
}
