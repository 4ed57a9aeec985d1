//! What the local API tells of crashes and of conversations ([local-api 2.6](crate::docs::local_api#2.6)).

use serde::{Deserialize, Serialize};

use crate::ids::AgentName;
use crate::wire::spelling::signal_name;

/// `GET /api/crash-insights`, answer. All of it is of this broker's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashInsights {
    /// How often an agent's program ended by itself, and not well.
    pub total_crashes: u64,
    /// The last 20 of them, the newest last.
    pub recent: Vec<CrashRecord>,
    /// Of what kinds the last 500 were, the most frequent first.
    pub patterns: Vec<CrashPattern>,
    /// From 100, ten less for each crash of the last hour, down to 0.
    pub health_score: u64,
}

/// One crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRecord {
    /// Whose program it was.
    pub agent_name: AgentName,
    /// Its exit code, if it exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed it; its name in JSON.
    #[serde(default, with = "signal_name", skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When it ended, in seconds since 1970 UTC.
    pub timestamp: u64,
    /// How long it had run, in seconds.
    pub uptime_secs: u64,
    /// Of what kind the end was.
    pub category: CrashCategory,
    /// How it ended and what its terminal showed last, for people.
    pub description: String,
}

/// All crashes of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashPattern {
    /// The kind.
    pub category: CrashCategory,
    /// How many there were.
    pub count: u64,
    /// Whose, each once.
    pub agents: Vec<AgentName>,
}

/// `GET /api/threads`, answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadList {
    /// The one with the newest message first.
    pub threads: Vec<ThreadView>,
}

/// One thread of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadView {
    /// The thread's id.
    pub thread_id: String,
    /// The channel, or who wrote last.
    pub name: String,
    /// The beginning of the newest message.
    pub last_message: String,
    /// When it came, as RFC 3339.
    pub last_message_at: String,
    /// How many of its messages wait for agents of this broker.
    pub unread_count: u64,
}

/// Kinds of crashes, in the words that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashCategory {
    /// SIGKILL, by which a system without memory ends programs.
    Oom,
    /// An access to memory that is not its own.
    Segfault,
    /// An exit code other than 0.
    Error,
    /// Any other signal.
    Signal,
    /// Nothing is known of the end.
    Unknown,
}
