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
        /// When the process opened it.
        at: Wall,
    },
    /// The engine gave this name that identity.
    Bound {
        /// The name.
        agent: AgentName,
        /// Whose sequence its mail counts in.
        agent_id: AgentId,
    },
    /// The engine is asked for an identity of this name, and may have given one although no answer comes.
    Asked {
        /// The name.
        agent: AgentName,
    },
    /// We took responsibility for a delivery.
    Accepted {
        /// All of it.
        delivery: Delivery,
    },
    /// A frame was done with without a delivery: a notice, an unknown type, a copy of a message we have.
    Noted {
        /// The identity in whose sequence the frame is numbered.
        agent_id: AgentId,
        /// The frame's number there; 0 outside the sequence.
        seq: Seq,
        /// So that a copy is known again.
        msg_id: MsgId,
    },
    /// So much longer has all mail of an agent waited that is not here.
    Waited {
        /// The agent that is not here.
        agent: AgentName,
        /// How much longer, in milliseconds.
        ms: u64,
    },
    /// Bytes of a delivery may reach the terminal from here on.
    Attempted {
        /// The delivery's id.
        id: DeliveryId,
    },
    /// A delivery waits for a person's word: agents seem to answer each other without end.
    Suspended {
        /// The delivery's id.
        id: DeliveryId,
    },
    /// That delivery waits for its turn alone again.
    Resumed {
        /// The delivery's id.
        id: DeliveryId,
    },
    /// A delivery arrived, or was typed and nothing was seen (`Proof::None`).
    Settled {
        /// The delivery's id.
        id: DeliveryId,
        /// How that is known.
        #[serde(with = "StoredProof")]
        proof: Proof,
    },
    /// A delivery was given up.
    DeadLettered {
        /// The delivery's id.
        id: DeliveryId,
        /// Why, for people.
        reason: String,
        /// When it was given up.
        at: Wall,
    },
    /// A dead letter was given another chance, under a new id.
    Redelivered {
        /// The dead letter's id.
        id: DeliveryId,
        /// What waits now.
        delivery: Delivery,
    },
    /// An agent's program runs, or is to run as soon as it can: a life began.
    Spawned {
        /// The agent's name.
        agent: AgentName,
        /// How to start it again; without any token.
        request: Box<StoredSpawn>,
        /// Somebody had it started again, so its restarts and failures until then count no more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anew: bool,
        /// The operator's configuration wants it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        declared: bool,
        /// The program has not run yet.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        waiting: bool,
    },
    /// The broker is about to start the program again within the same life.
    Restarted {
        /// The agent's name.
        agent: AgentName,
        /// How many times in a row it has failed by now.
        failures: u32,
    },
    /// A life is over.
    Ended {
        /// The agent's name.
        agent: AgentName,
        /// By somebody's wish, so that mail that still comes has no reader to wait for.
        released: bool,
    },
    /// An agent was released, and what the engine still has for it is to be given up before anybody bears the name again.
    Uncleared {
        /// Whose.
        agent: AgentName,
        /// The identity that it had.
        agent_id: AgentId,
    },
    /// Nothing of it lies with the engine any more, and nobody bears its name there by this node's doing.
    Cleared {
        /// Whose.
        agent: AgentName,
    },
    /// An agent's life ended without anybody's wish, and is remembered for people.
    Departed {
        /// The agent's name.
        agent: AgentName,
        /// How the life ended, and when.
        departed: Departed,
    },
    /// The agent's delivery mode changed.
    Held {
        /// The agent's name.
        agent: AgentName,
        /// The mode from now on.
        #[serde(with = "StoredDeliveryMode")]
        mode: DeliveryMode,
    },
    /// An action's run began.
    Invoked {
        /// The invocation's id.
        id: InvocationId,
    },
    /// An action's run ended; repetitions of it get the same answer.
    Answered {
        /// The invocation's id.
        id: InvocationId,
        /// The answer.
        #[serde(with = "StoredOutcome")]
        outcome: Outcome,
    },
    /// Event numbers up to this one may have been used.
    Numbered {
        /// The highest number that is reserved.
        upto: u64,
    },
    /// Stands for everything before it.
    Snapshot(Box<Image>),
}
