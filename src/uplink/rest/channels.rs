//! The channels that an agent is in at the engine, over HTTP.

use serde_json::json;

use super::{CallError, RestClient, With};
use crate::msg::{ChannelRefusal, Secret};
use crate::net::http::encode;

impl RestClient {
    /// Each for itself: one that the engine does not let in keeps nobody from the others.
    pub(super) fn join(&self, token: &Secret, channels: &[String]) -> Vec<ChannelRefusal> {
        let mut refused = Vec::new();
        for channel in channels {
            let channel = channel.trim_start_matches('#');
            if let Err(e) = self.join_one(token, channel) {
                refused.push(ChannelRefusal {
                    channel: channel.to_owned(),
                    for_good: is_for_good(&e),
                    why: e.to_string(),
                });
            }
        }
        refused
    }

    /// Create, ignore that it exists, join, ignore that one is in ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)).
    fn join_one(&self, token: &Secret, channel: &str) -> Result<(), CallError> {
        let with = With::bearer(token);
        let made: Result<serde_json::Value, _> = self.call(
            "POST",
            "/v1/channels",
            with,
            Some(&json!({ "name": channel })),
        );
        ignore_conflict(made)?;
        let path = format!("/v1/channels/{}/join", encode(channel));
        ignore_conflict(self.call("POST", &path, with, Some(&json!({}))))
    }

    /// Each for itself; the first trouble is told.
    pub(super) fn leave(&self, token: &Secret, channels: &[String]) -> Result<(), CallError> {
        let with = With::bearer(token);
        let mut all = Ok(());
        for channel in channels {
            let path = format!(
                "/v1/channels/{}/leave",
                encode(channel.trim_start_matches('#'))
            );
            let left = ignore_absent(self.call("POST", &path, with, Some(&json!({}))));
            all = all.and(left);
        }
        all
    }
}

/// A channel that does not exist is none that could be left.
fn ignore_absent(result: Result<serde_json::Value, CallError>) -> Result<(), CallError> {
    match result {
        Err(CallError::Refused { status: 404, .. }) => Ok(()),
        other => ignore_conflict(other),
    }
}

fn ignore_conflict(result: Result<serde_json::Value, CallError>) -> Result<(), CallError> {
    match result {
        Ok(_) | Err(CallError::Refused { status: 409, .. }) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Whether it is about the channel, so that another try would come to the same.
fn is_for_good(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Refused {
            status: 400 | 404,
            ..
        }
    )
}
