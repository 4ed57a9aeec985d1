//! The journal's own shapes, for what also crosses sockets in shapes of its own: however a frame's key is called one day,
//! what a released version has written can be read, and is written in the same bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::domain::Mode;
use crate::wire::up::Capability;

/// [`Mode`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Mode", rename_all = "lowercase")]
pub(super) enum KeptMode {
    Wait,
    Steer,
}

/// [`Capability`] on disk.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Capability")]
struct KeptCapability {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    global: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct CapabilityEntry(#[serde(with = "KeptCapability")] Capability);

/// Lists of [`Capability`] on disk.
pub(super) struct KeptCapabilities;

impl KeptCapabilities {
    pub(super) fn serialize<S: Serializer>(all: &[Capability], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(all.iter().cloned().map(CapabilityEntry))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<Capability>, D::Error> {
        let all = Vec::<CapabilityEntry>::deserialize(d)?;
        Ok(all.into_iter().map(|CapabilityEntry(one)| one).collect())
    }
}
