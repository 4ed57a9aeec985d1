//! What the names of capabilities mean ([engine-protocol 5.1](crate::docs::engine_protocol#5.1)).

use crate::wire::up::Capability;

/// Announces that the node keeps cursors: its agents' mail flows only once they are named
/// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4), [4.4](crate::docs::engine_protocol#4.4)).
pub const CURSOR_CAPABILITY: &str = "relay:delivery-cursor-v1";

/// Whether a capability is an action to invoke, or only something a node can run
/// ([engine-protocol 5.1](crate::docs::engine_protocol#5.1)).
pub fn is_action(c: &Capability) -> bool {
    match c.kind.as_deref() {
        Some("action") => c.name != "spawn" && c.name != "release",
        Some("capacity") => false,
        _ => !is_placement(&c.name) && c.name != CURSOR_CAPABILITY,
    }
}

/// Names that placement owns: a node never pins them to itself.
pub fn is_placement(name: &str) -> bool {
    name == "spawn" || name == "release" || name.starts_with("spawn:")
}
