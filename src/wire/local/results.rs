//! What agents hand in ([local-api 2.3](crate::docs::local_api#2.3)).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::AgentName;

/// `POST /api/agent-result`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentResult {
    /// Whose; the owner of the token when absent.
    #[serde(alias = "agent", skip_serializing_if = "Option::is_none")]
    pub name: Option<AgentName>,
    /// The result.
    pub data: Value,
    /// Whether no other follows.
    #[serde(rename = "final", alias = "final_result", default = "yes")]
    pub is_final: bool,
    /// Whatever else there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

fn yes() -> bool {
    true
}

/// The answer to an [`AgentResult`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultTaken {
    /// Always true.
    pub success: bool,
    /// Whose it is.
    pub name: AgentName,
    /// Under which the event tells of it.
    pub result_id: String,
}
