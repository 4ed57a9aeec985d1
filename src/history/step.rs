//! The history's vocabulary. A step is one line of JSON; what a later version does not know is passed over.

use serde::{Deserialize, Serialize};

use crate::domain::Proof;
use crate::ids::{AgentName, DeliveryId, MsgId};
use crate::ledger::StoredProof;
use crate::time::Wall;

/// One step of a message's way, or something that happened to its agent or the broker meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryStep {
    /// When it happened.
    pub at: Wall,
    /// Whose message, or what agent; absent for the broker's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The delivery, where the step is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryId>,
    /// The message, where the step is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MsgId>,
    /// What happened.
    #[serde(flatten)]
    pub fact: HistoryFact,
}

/// Over which way a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageWay {
    /// From the engine.
    Engine,
    /// From this machine.
    Local,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "snake_case")]
pub enum HistoryFact {
    /// A broker has begun to work.
    Opened {
        /// The broker's process.
        pid: u32,
    },
    /// The broker has ended in order.
    Closed,
    /// The message was accepted, and that is on disk.
    Accepted {
        /// Who wrote it.
        from: String,
        /// An agent or a channel, as it was written to.
        target: String,
        /// How it came.
        way: MessageWay,
        /// Its number at the engine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// How many bytes the text has.
        bytes: u64,
        /// How the text begins.
        text: String,
        /// How many milliseconds later it was on disk.
        disk_ms: u64,
    },
    /// It waits because its agent's messages are held.
    Parked,
    /// It was given to the agent's thread, to be typed.
    Given {
        /// How many bytes the line has, with what says who speaks.
        bytes: u64,
    },
    /// Something is in its way.
    Blocked {
        /// What, with what the screen showed.
        why: String,
    },
    /// All of it and Enter are in the terminal.
    Typed {
        /// An earlier attempt was cut short, so this may be the second time.
        redelivered: bool,
    },
    /// What the terminal showed when it was seen to have arrived.
    Seen {
        /// The rows of the screen that show it, or its last ones.
        rows: Vec<String>,
    },
    /// It has arrived, or was typed and nothing was seen.
    Settled {
        /// How that is known.
        #[serde(with = "StoredProof")]
        proof: Proof,
        /// Why nothing was seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The program began to act on it.
    TurnStarted {
        /// How that is known.
        #[serde(with = "StoredProof")]
        proof: Proof,
    },
    /// The engine was told that an agent's messages have ended.
    Acknowledged {
        /// Up to which number.
        up_to: u64,
    },
    /// It was given up.
    GivenUp {
        /// Why.
        reason: String,
    },
    /// It waits again, as another delivery.
    Redelivered {
        /// The other one.
        anew: DeliveryId,
    },
    /// Agents seem to answer each other without end.
    Suspected {
        /// The sentence.
        reason: String,
    },
    /// A dialog stands in the agent's terminal.
    Dialog {
        /// What the screen showed.
        rows: Vec<String>,
    },
    /// That dialog is gone.
    DialogGone,
    /// The agent's messages are held, or no longer.
    Mode {
        /// Whether they are held.
        held: bool,
    },
    /// The agent's terminal takes input.
    Ready,
    /// The agent's program ended, or is ended.
    Ended {
        /// How.
        how: String,
    },
    /// So many steps were not written down, because the disk or this machine was too slow.
    Lost {
        /// How many.
        count: u64,
    },
}
