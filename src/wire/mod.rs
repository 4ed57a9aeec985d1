//! What others read and write: node frames, HTTP bodies, the local API and its events. Strict going out (only keys that
//! every engine version knows), tolerant coming in (unknown keys and frame types survive). No logic lives here.

pub mod down;
pub mod event;
pub mod fields;
pub mod head;
pub mod local;
pub mod rest;
mod spelling;
pub mod up;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The version every node frame carries as `v` ([engine-protocol 3.1](crate::docs::engine_protocol#3.1)).
pub const FRAME_VERSION: u64 = 1;

/// A frame as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed<T> {
    /// A frame of a type we know; unknown keys in it were passed over.
    Known(T),
    /// A frame of a later version of the protocol, kept whole.
    Unknown {
        /// Its `type`.
        kind: String,
        /// All of it.
        frame: Value,
    },
}

/// Why a text is no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not JSON, or not an object.
    #[error("not a JSON object: {0}")]
    NotJson(String),
    /// `v` is missing or not 1, or `type` is missing.
    #[error("not a version {FRAME_VERSION} frame")]
    NotAFrame,
    /// The type is known, its fields are not as they must be.
    #[error("broken {kind} frame: {why}")]
    Broken {
        /// The frame's `type`.
        kind: String,
        /// The frame's `id`, if it could be read, so that an error reply can name it.
        id: Option<String>,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads one frame; `kinds` lists the `type` values that `T` knows.
pub(crate) fn parse<T: DeserializeOwned>(
    text: &str,
    kinds: &[&str],
) -> Result<Parsed<T>, WireError> {
    let frame: Value = serde_json::from_str(text).map_err(|e| WireError::NotJson(e.to_string()))?;
    let Some(kind) = frame.get("type").and_then(Value::as_str).map(str::to_owned) else {
        return Err(WireError::NotAFrame);
    };
    if frame.get("v").and_then(Value::as_u64) != Some(FRAME_VERSION) {
        return Err(WireError::NotAFrame);
    }
    if !kinds.contains(&kind.as_str()) {
        return Ok(Parsed::Unknown { kind, frame });
    }
    let id = frame.get("id").and_then(Value::as_str).map(str::to_owned);
    serde_json::from_value(frame)
        .map(Parsed::Known)
        .map_err(|e| WireError::Broken {
            kind,
            id,
            why: e.to_string(),
        })
}

/// Writes one frame with its version in front.
pub(crate) fn to_text<T: serde::Serialize>(frame: &T) -> String {
    #[derive(serde::Serialize)]
    struct Versioned<'a, T> {
        v: u64,
        #[serde(flatten)]
        frame: &'a T,
    }
    // Frames are plain structs with text keys: serde_json has no way to fail on them.
    serde_json::to_string(&Versioned {
        v: FRAME_VERSION,
        frame,
    })
    .unwrap_or_default()
}
