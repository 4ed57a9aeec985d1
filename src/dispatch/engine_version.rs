//! How old the engine is, as far as its answer to our registration tells
//! ([engine-protocol 3.7](crate::docs::engine_protocol#3.7)).

use serde_json::Value;

/// How old the engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EngineVersion {
    /// Before 6.0, or not known yet: it is sent only what every engine understands.
    #[default]
    Any,
    /// From 6.0: it judges each capability.
    Six,
    /// From 8.9, by contract: a name is given to an agent once, and taken back with `agent.recover`.
    EightNine,
}

impl EngineVersion {
    /// As the answer to a registration tells.
    pub(super) fn of(answer: &Value) -> Self {
        if answer
            .get("registration_contract")
            .is_some_and(Value::is_string)
        {
            EngineVersion::EightNine
        } else if answer
            .get("accepted_capabilities")
            .is_some_and(Value::is_array)
        {
            EngineVersion::Six
        } else {
            EngineVersion::Any
        }
    }
}
