//! What becomes of a message within the moment that a tool may wait for it.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::TryRecvError;
use rustix::event::{PollFd, PollFlags};
use serde_json::Value;

use crate::api::state::Api;
use crate::net::link;
use crate::pubsub::Subscription;
use crate::sys::clock;
use crate::wire::local::Sent;

/// The ends of messages, from before one is sent.
pub(super) struct Following(Option<Subscription<Arc<str>>>);

/// How a message ended.
pub(super) enum MessageEnd {
    /// It is in the terminal, by this proof.
    Delivered(String),
    /// It was given up, for this reason.
    Failed(String),
    /// It has not ended yet, as far as is known.
    Open,
}

fn is_end(text: &Arc<str>) -> bool {
    text.contains("\"delivery_verified\"") || text.contains("\"message_delivery_failed\"")
}

impl Following {
    pub(super) fn begin(api: &Api) -> Self {
        // Without a descriptor there is a receipt all the same.
        Self(api.context.events.subscribe_numbered(None, is_end).ok())
    }

    /// Waits for the end of a message of this machine. One that is held for a person is not waited for.
    pub(super) fn end(&self, sent: &Sent, limit: Duration) -> MessageEnd {
        let deadline = clock::now().mono + limit;
        let can_end = !sent.targets.is_empty() && !sent.suspended;
        let Some(subscription) = self.0.as_ref().filter(|_| can_end) else {
            return MessageEnd::Open;
        };
        loop {
            // Before the look: what comes after it wakes the wait below.
            subscription.items.clear();
            loop {
                match subscription.items.try_recv() {
                    Ok(text) => {
                        if let Some(end) = end_of(&text, sent) {
                            return end;
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return MessageEnd::Open,
                }
            }
            let left = deadline.since(clock::now().mono);
            let mut news = [PollFd::new(&subscription.items, PollFlags::IN)];
            if left.is_zero() || link::wait(&mut news, Some(left)).is_err() {
                return MessageEnd::Open;
            }
        }
    }
}

/// How the message ended, if this event tells.
fn end_of(text: &str, sent: &Sent) -> Option<MessageEnd> {
    let event: Value = serde_json::from_str(text).ok()?;
    if event["event_id"] != sent.event_id.as_str() {
        return None;
    }
    let word = |key: &str| event[key].as_str().map(str::to_owned);
    match event["kind"].as_str()? {
        "message_delivery_failed" => word("lastError").map(MessageEnd::Failed),
        _ if event["verification"] == "echo" => word("proof").map(MessageEnd::Delivered),
        _ => Some(MessageEnd::Open),
    }
}
