//! Frames from the engine to a node ([engine-protocol 3.5](crate::docs::engine_protocol#3.5)). The embedded engine writes
//! them with exactly these keys; the broker reads them with whatever later engines add.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spelling::ModeWord;
use super::{Parsed, WireError};
use crate::domain::Mode;
use crate::ids::{AgentId, AgentName, DeliveryId, InvocationId, MsgId, Seq};

/// One frame from the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Down {
    /// A message or notice for an agent of this node.
    #[serde(rename = "deliver")]
    Deliver(Deliver),
    /// Run an action and answer with `action.result`.
    #[serde(rename = "action.invoke")]
    ActionInvoke(ActionInvoke),
    /// Best-effort news; not acknowledged.
    #[serde(rename = "context.update")]
    ContextUpdate(ContextUpdate),
    /// Needs no answer ([engine-protocol 3.1](crate::docs::engine_protocol#3.1)).
    #[serde(rename = "ping")]
    Ping,
    /// A request succeeded.
    #[serde(rename = "reply")]
    Reply(EngineReply),
    /// A request, or a frame without an id, failed. The link stays open.
    #[serde(rename = "error")]
    Error(ErrorFrame),
}

const KINDS: &[&str] = &[
    "deliver",
    "action.invoke",
    "context.update",
    "ping",
    "reply",
    "error",
];

impl Down {
    /// Reads a frame the engine sent.
    ///
    /// # Errors
    /// [`WireError`] for anything that is not a version 1 frame or breaks the rules of its type.
    pub fn parse(text: &str) -> Result<Parsed<Down>, WireError> {
        let mut parsed = super::parse(text, KINDS)?;
        if let Parsed::Known(Down::Deliver(deliver)) = &mut parsed {
            deliver.bytes = text.len();
        }
        Ok(parsed)
    }

    /// The frame as one line of JSON.
    pub fn to_text(&self) -> String {
        super::to_text(self)
    }
}

/// `deliver`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deliver {
    /// Stable over redelivery. Missing from 4.x engines.
    #[serde(default = "no_delivery_id", deserialize_with = "lenient_delivery_id")]
    pub delivery_id: DeliveryId,
    /// The engine's id of the recipient. Missing from 4.x engines.
    #[serde(default = "no_agent_id", deserialize_with = "lenient_agent_id")]
    pub agent_id: AgentId,
    /// The recipient's name.
    pub agent: AgentName,
    /// Stable over redelivery; what deduplication goes by.
    pub msg_id: MsgId,
    /// Position in this agent's mail; 0 for notices outside it.
    pub seq: Seq,
    /// Unknown words count as `wait`.
    #[serde(
        default,
        serialize_with = "ModeWord::serialize",
        deserialize_with = "lenient_mode"
    )]
    pub mode: Mode,
    /// `{"type":…,"data":{…}}`; read with [`super::fields`].
    #[serde(default)]
    pub payload: Value,
    /// Its words were too many to be taken in. Not on the wire.
    #[serde(skip)]
    pub left_out: bool,
    /// The length of the text that the frame was read from, for limits; 0 for a frame that is not read yet. Not on the wire.
    #[serde(skip)]
    pub bytes: usize,
}

fn no_delivery_id() -> DeliveryId {
    DeliveryId::new("")
}

fn no_agent_id() -> AgentId {
    AgentId::new("")
}

fn lenient_delivery_id<'de, D: serde::Deserializer<'de>>(d: D) -> Result<DeliveryId, D::Error> {
    lenient::<_, String>(d).map(DeliveryId::new)
}

fn lenient_agent_id<'de, D: serde::Deserializer<'de>>(d: D) -> Result<AgentId, D::Error> {
    lenient::<_, String>(d).map(AgentId::new)
}

/// What is optional to us is as good as absent when it is not what it should be.
fn lenient<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned + Default,
{
    let value = Value::deserialize(d)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

fn lenient_mode<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Mode, D::Error> {
    let word = Value::deserialize(d)?;
    Ok(if word == "steer" {
        Mode::Steer
    } else {
        Mode::Wait
    })
}

/// `action.invoke`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionInvoke {
    /// The same for every repetition; the answer is kept under it.
    pub invocation_id: InvocationId,
    /// `spawn:<harness>`, `release`, or the name of a custom action.
    pub action: String,
    /// Only for actions about one agent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient"
    )]
    pub agent_id: Option<AgentId>,
    /// Only for actions about one agent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient"
    )]
    pub agent_name: Option<AgentName>,
    /// Whatever the caller gave.
    #[serde(default)]
    pub input: Value,
}

/// `context.update`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContextUpdate {
    /// `presence`, `channel`, `thread` or `agent`.
    #[serde(default, deserialize_with = "lenient")]
    pub topic: String,
    /// For example `delivery.failed`.
    #[serde(default, deserialize_with = "lenient")]
    pub event: String,
    /// Which channel it is about. Written as null when about none, as the engine does.
    #[serde(default, deserialize_with = "lenient")]
    pub channel_id: Option<String>,
    /// Whom it concerns.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient"
    )]
    pub agent_ids: Option<Vec<AgentId>>,
    /// The news itself.
    #[serde(default)]
    pub data: Value,
}

/// `reply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineReply {
    /// The request's id, or one the engine made up. Empty when a frame comes without.
    #[serde(default, deserialize_with = "lenient")]
    pub id: String,
    /// Always true.
    #[serde(default = "yes", deserialize_with = "always")]
    pub ok: bool,
    /// The answer.
    #[serde(default)]
    pub data: Value,
}

fn yes() -> bool {
    true
}

/// The type of the frame says it already.
fn always<'de, D: serde::Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(d).map(|_| true)
}

/// `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorFrame {
    /// The request's id, or one the engine made up (parse errors never echo it). Empty when a frame comes without.
    #[serde(default, deserialize_with = "lenient")]
    pub id: String,
    /// Always false.
    #[serde(default, deserialize_with = "lenient")]
    pub ok: bool,
    /// One of the codes of [engine-protocol 3.6](crate::docs::engine_protocol#3.6).
    #[serde(default, deserialize_with = "lenient")]
    pub code: String,
    /// For people.
    #[serde(default, deserialize_with = "lenient")]
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_knows_how_long_its_frame_was() {
        let text = r#"{"v":1,"type":"deliver","agent":"w1","msg_id":"m","seq":1,"payload":{}}"#;
        let Ok(Parsed::Known(Down::Deliver(deliver))) = Down::parse(text) else {
            panic!("a whole frame");
        };
        assert_eq!(deliver.bytes, text.len());
    }
}
