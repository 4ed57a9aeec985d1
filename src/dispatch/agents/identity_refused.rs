//! What a caller is told when the engine gives an agent no identity.

use crate::ids::AgentName;
use crate::msg::{Refusal, RefusalKind};

/// Why the engine gives no identity, in our words.
pub(super) fn identity_refused(name: &AgentName, code: &str, message: &str) -> Refusal {
    let (kind, text) = match code {
        "agent_location_conflict" => (
            RefusalKind::NameTaken,
            "it runs on another node; release it there, or take another name",
        ),
        "agent_already_exists" | "agent_identity_conflict" | "agent_identity_mismatch" => (
            RefusalKind::NameTaken,
            "the name belongs to another agent of this workspace; take another name",
        ),
        "agent_token_invalid" => (
            RefusalKind::Engine,
            "the engine does not know the token that was given; give a valid one, or none to get a new one",
        ),
        "node_capacity_exceeded" => (
            RefusalKind::Full,
            "the engine counts as many agents on this node as it may have; release one first",
        ),
        _ => (RefusalKind::Engine, "the engine refuses it"),
    };
    Refusal::new(kind, format!("agent '{name}': {text} ({code} {message})"))
}
