//! How words of the domain are spelled on sockets: the names that existing clients and engines know.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{DeliveryMode, Mode, Outcome, Proof};

/// [`Mode`] as a word.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Mode", rename_all = "lowercase")]
pub(super) enum ModeWord {
    Wait,
    Steer,
}

/// [`DeliveryMode`] as a word.
#[derive(Serialize, Deserialize)]
#[serde(remote = "DeliveryMode", rename_all = "snake_case")]
pub(super) enum DeliveryModeWord {
    AutoInject,
    ManualFlush,
}

/// [`Proof`] as a word.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Proof", rename_all = "lowercase")]
pub(super) enum ProofWord {
    Hook,
    Transcript,
    Osc,
    Echo,
    Screen,
    Read,
    None,
}

/// [`Outcome`] as the one key of an object.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome")]
pub(super) enum OutcomeKey {
    #[serde(rename = "output")]
    Output(Value),
    #[serde(rename = "error")]
    Error(String),
}
