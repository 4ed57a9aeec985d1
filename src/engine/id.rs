//! What identifies things in the engine: numbers for what others see, digests for tokens that nobody shall see.

use sha2::{Digest, Sha256};

use crate::ids::to_hex;

/// Ids of workspaces, agents, channels and messages; decimal on the wire
/// ([engine-protocol 1.4](crate::docs::engine_protocol#1.4)).
pub type Id = u64;

/// The digest under which a token is stored.
pub fn digest(token: &str) -> String {
    to_hex(&Sha256::digest(token.as_bytes()))
}
