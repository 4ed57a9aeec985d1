//! The public event stream (`WS /ws`, [local-api 3.2](crate::docs::local_api#3.2)). Names and fields are those existing
//! clients know; what we add comes as further keys.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spelling::{DeliveryModeWord, ProofWord, signal_name};
use crate::domain::{DeliveryMode, Proof};
use crate::ids::{AgentName, DeliveryId, Generation, MsgId};
use crate::time::Wall;

/// One event with its number, as it goes to subscribers and into the replay ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered {
    /// Counts on over restarts of the broker; absent on terminal output, which is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When the broker took note of it; a broker of an earlier version says so of some kinds only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Wall>,
    /// What happened.
    #[serde(flatten)]
    pub event: BrokerEvent,
}

/// `verification` of `delivery_verified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Seen to arrive; the event's `proof` says how.
    Echo,
    /// Typed, and nothing seen.
    TimeoutFallback,
}

impl From<Proof> for Verification {
    fn from(proof: Proof) -> Self {
        match proof.is_seen() {
            true => Self::Echo,
            false => Self::TimeoutFallback,
        }
    }
}

/// What an agent program asks before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialog {
    /// Whether the files of its folder are to be trusted.
    TrustFolder,
    /// Whether it may do something.
    Permission,
    /// Something else, or something that is not known by name.
    Unknown,
}

impl Dialog {
    /// The word that programs compare.
    pub fn word(self) -> &'static str {
        match self {
            Self::TrustFolder => "trust_folder",
            Self::Permission => "permission",
            Self::Unknown => "unknown",
        }
    }

    /// What people read.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::TrustFolder => "it asks whether to trust the files of its folder",
            Self::Permission => "it asks for permission",
            Self::Unknown => "something else than its input line has the keyboard",
        }
    }
}

/// What the operator wants done about a kind of dialog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It is left to people.
    #[default]
    Hold,
    /// It is answered with yes.
    Accept,
    /// It is answered with no.
    Deny,
}

impl Policy {
    /// The word that programs compare.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Accept => "accept",
            Self::Deny => "deny",
        }
    }
}

/// What events tell of an agent's program ([local-api 3.2](crate::docs::local_api#3.2)). What is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFacts {
    /// The program that was asked for, as its caller named it.
    pub cli: String,
    /// The whole command line (ours).
    #[serde(default)]
    pub command: String,
    /// The model that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The program's own session.
    #[serde(default, rename = "sessionId", skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The program again, of one that runs without a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Which life of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// Everything a subscriber can hear. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs)] // the names are the public contract; local-api 3.2 explains each
pub enum BrokerEvent {
    AgentSpawned {
        name: AgentName,
        runtime: String,
        #[serde(flatten)]
        program: ProgramFacts,
        parent: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        source: String,
        pre_registered: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        registration_warning: Option<String>,
    },
    WorkerReady {
        name: AgentName,
        runtime: String,
        #[serde(flatten)]
        program: ProgramFacts,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        evidence: String,
    },
    /// Terminal output; not numbered and not kept.
    WorkerStream {
        name: AgentName,
        stream: String,
        chunk: String,
        offset: u64,
    },
    /// `error` repeats `code` and `message` because clients exist for both shapes.
    WorkerError {
        name: AgentName,
        code: String,
        message: String,
        error: NestedError,
    },
    AgentIdle {
        name: AgentName,
        idle_secs: u64,
        /// RFC 3339.
        since: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    /// It is silent, and messages wait for it.
    AgentBlockedOnSend {
        name: AgentName,
        blocked_secs: u64,
        pending_delivery_count: u64,
    },
    /// An agent handed in what it was started for.
    AgentResult {
        name: AgentName,
        result_id: String,
        data: Value,
        #[serde(rename = "final")]
        is_final: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    AgentExit {
        name: AgentName,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    AgentExited {
        name: AgentName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        #[serde(default, with = "signal_name", skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    AgentReleased {
        name: AgentName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    RelayInbound {
        event_id: MsgId,
        from: String,
        target: String,
        body: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread_id: Option<String>,
        mode: String,
        /// `from` is an agent that did not send it: the operator did, in its name.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_operator: bool,
        /// For which agent of this node (ours).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<AgentName>,
        /// The delivery to that agent (ours).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivery_id: Option<DeliveryId>,
        /// The message's number at the engine (ours).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        engine_seq: Option<u64>,
        /// Whether the engine brought it (ours).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        from_engine: bool,
    },
    DeliveryQueued {
        name: AgentName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivery_id: Option<DeliveryId>,
        event_id: MsgId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// `redelivered` says that an earlier attempt was cut short by a crash, so this may be the second time.
    DeliveryInjected {
        name: AgentName,
        delivery_id: DeliveryId,
        event_id: MsgId,
        redelivered: bool,
    },
    DeliveryAck {
        name: AgentName,
        delivery_id: DeliveryId,
        event_id: MsgId,
    },
    MessageDeliveryConfirmed {
        name: AgentName,
        delivery_id: DeliveryId,
        event_id: MsgId,
        from: String,
        to: String,
    },
    DeliveryVerified {
        name: AgentName,
        delivery_id: DeliveryId,
        event_id: MsgId,
        verification: Verification,
        #[serde(with = "ProofWord")]
        proof: Proof,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The program has begun to act on a message that it took; comes after `delivery_verified`, and only from programs that
    /// say so: Claude Code by a hook, others by their title or status.
    TurnStarted {
        name: AgentName,
        delivery_id: DeliveryId,
        event_id: MsgId,
        #[serde(with = "ProofWord")]
        proof: Proof,
    },
    /// The terminal does not show our text, so Enter was not pressed; it is looked at again when the screen changes.
    DeliveryBlocked {
        name: AgentName,
        delivery_id: DeliveryId,
        event_id: MsgId,
        reason: String,
    },
    /// Agents seem to answer each other without end: what one of them sends another is held until a person speaks to one of
    /// the two, or `flush` lets it go. Told once for each sender.
    LoopSuspected {
        /// Whose mail is held.
        name: AgentName,
        /// Who wrote it.
        from: AgentName,
        event_id: MsgId,
        count: u32,
        limit: u32,
        /// Within how many seconds, of two agents; absent for a chain of messages that each answer the one before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window_secs: Option<u64>,
        reason: String,
    },
    /// A dialog stands in the agent's terminal, whether or not a message waits. Nothing is typed into it.
    AgentBlocked {
        name: AgentName,
        dialog: Dialog,
        reason: String,
        screen: Vec<String>,
        pending_delivery_count: u64,
    },
    /// That dialog is gone.
    AgentUnblocked { name: AgentName, dialog: Dialog },
    /// A dialog was answered by the operator's policy.
    DialogAnswered {
        name: AgentName,
        dialog: Dialog,
        policy: Policy,
        keys: String,
    },
    DeliveryFailed {
        name: AgentName,
        delivery_id: DeliveryId,
        event_id: MsgId,
        reason: String,
    },
    MessageDeliveryFailed {
        name: AgentName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivery_id: Option<DeliveryId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event_id: Option<MsgId>,
        from: String,
        to: String,
        attempts: u32,
        #[serde(rename = "lastError")]
        last_error: String,
    },
    DeliveryDropped {
        name: AgentName,
        count: u64,
        reason: String,
        /// Who sent what was dropped, each once.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        senders: Vec<String>,
    },
    /// The broker stops, and what waits is kept for its next start.
    DeliveriesKept {
        count: u64,
        /// For whom it waits, each once.
        names: Vec<AgentName>,
    },
    DeadLetterAdded {
        name: AgentName,
        delivery_id: DeliveryId,
        event_id: MsgId,
        from: String,
        reason: String,
    },
    /// Too much waits for this agent, so the engine's mail beyond it is left to the engine and asked for again later.
    DeliveryDeferred {
        name: AgentName,
        pending_delivery_count: u64,
        reason: String,
    },
    DeadLetterRedelivered {
        name: AgentName,
        delivery_id: DeliveryId,
        new_delivery_id: DeliveryId,
        event_id: MsgId,
    },
    AgentRestarting {
        name: AgentName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        #[serde(default, with = "signal_name", skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        restart_count: u32,
        delay_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    AgentRestarted {
        name: AgentName,
        restart_count: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    AgentPermanentlyDead {
        name: AgentName,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
    },
    AgentPendingDrained {
        name: AgentName,
        count: u64,
        reason: String,
    },
    /// An agent listens to further channels.
    ChannelSubscribed {
        name: AgentName,
        channels: Vec<String>,
    },
    /// An agent listens to some channels no longer, or was to and cannot.
    ChannelUnsubscribed {
        name: AgentName,
        channels: Vec<String>,
        /// Why the engine does not let it in (ours); absent when somebody wanted it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    AgentInboundDeliveryModeChanged {
        name: AgentName,
        #[serde(with = "DeliveryModeWord")]
        previous_mode: DeliveryMode,
        #[serde(with = "DeliveryModeWord")]
        mode: DeliveryMode,
    },
    /// The link to the engine came up or went down.
    NodeLink {
        connected: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The engine knows this node (again).
    NodeRegistered { node_id: String, node_name: String },
    /// Comes first when events before `oldest_available` are no longer kept.
    ReplayGap {
        #[serde(rename = "requestedSinceSeq")]
        requested_since_seq: u64,
        #[serde(rename = "oldestAvailable")]
        oldest_available: u64,
        /// How many are missing; 0 from brokers that do not say.
        #[serde(rename = "droppedCount", default)]
        dropped_count: u64,
        seq: u64,
    },
}

impl BrokerEvent {
    /// The word of each kind, as `kind` has it.
    pub const KINDS: [&str; 39] = [
        "agent_spawned",
        "worker_ready",
        "worker_stream",
        "worker_error",
        "agent_idle",
        "agent_blocked_on_send",
        "agent_result",
        "agent_exit",
        "agent_exited",
        "agent_released",
        "relay_inbound",
        "delivery_queued",
        "delivery_injected",
        "delivery_ack",
        "message_delivery_confirmed",
        "delivery_verified",
        "turn_started",
        "delivery_blocked",
        "loop_suspected",
        "agent_blocked",
        "agent_unblocked",
        "dialog_answered",
        "delivery_failed",
        "message_delivery_failed",
        "delivery_dropped",
        "deliveries_kept",
        "dead_letter_added",
        "delivery_deferred",
        "dead_letter_redelivered",
        "agent_restarting",
        "agent_restarted",
        "agent_permanently_dead",
        "agent_pending_drained",
        "channel_subscribed",
        "channel_unsubscribed",
        "agent_inbound_delivery_mode_changed",
        "node_link",
        "node_registered",
        "replay_gap",
    ];
}

/// The nested twin of a flat error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NestedError {
    /// A word programs can compare.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_output_carries_a_time_and_no_number() {
        let e = Numbered {
            seq: None,
            timestamp: Some(Wall(7)),
            event: BrokerEvent::WorkerStream {
                name: AgentName::new("w1"),
                stream: "stdout".into(),
                chunk: "hi".into(),
                offset: 2,
            },
        };
        let text = serde_json::to_string(&e).expect("plain struct");
        assert_eq!(
            text,
            r#"{"timestamp":7,"kind":"worker_stream","name":"w1","stream":"stdout","chunk":"hi","offset":2}"#
        );
    }

    #[test]
    fn nothing_seen_is_called_a_timeout_and_anything_seen_an_echo() {
        let told = Verification::from;
        assert_eq!(told(Proof::None), Verification::TimeoutFallback);
        assert_eq!(told(Proof::Read), Verification::Echo);
    }
}
