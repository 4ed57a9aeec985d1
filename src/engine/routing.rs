//! Who gets what: posting a message into its recipients' mailboxes and onto the streams, and notices to those whom
//! something concerns.

use serde_json::{Value, json};

use super::absent::WRITTEN_EVERY;
use super::history::{Idem, Message, weight};
use super::id::Id;
use super::payload::{mentions, stream_event};
use super::record::{EngineRecord, MessagePosted};
use super::step::Step;
use crate::domain::Mode;

/// A message before it has an id.
pub struct MessageDraft {
    pub channel: Id,
    pub from: Id,
    pub text: String,
    pub mode: Mode,
    pub thread: Option<Id>,
    pub blocks: Value,
    pub data: Value,
    pub idem: Option<Idem>,
}

impl Step<'_> {
    /// Posts a message: remembers it, sends it to whoever is reachable, tells the streams, and tells the sender whose
    /// mailbox was full.
    pub fn post(&mut self, ws: Id, draft: MessageDraft) -> Id {
        let id = self.fresh_id();
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return id;
        };
        let sender = w.agents.get(&draft.from);
        let mentions = mentions(&draft.text, |name| w.agent_names.contains_key(name));
        let recipients = w.recipients(draft.channel, draft.from);
        let message = Message {
            id,
            channel: draft.channel,
            from: draft.from,
            from_name: sender.map(|a| a.name.clone()).unwrap_or_default(),
            from_kind: sender.map_or_else(|| "agent".into(), |a| a.kind.clone()),
            text: draft.text,
            mode: draft.mode,
            thread: draft.thread,
            blocks: draft.blocks,
            data: draft.data,
            mentions,
            at: self.now.wall,
            idem: draft.idem,
            reactions: Vec::new(),
            readers: std::collections::BTreeMap::new(),
        };
        let (event, scope) = w
            .channels
            .get(&draft.channel)
            .map_or((Value::Null, "messages:read"), |c| {
                stream_event(c, &message)
            });
        let overfull = w.overfull(&recipients, weight(&message));
        for recipient in &recipients {
            self.mail_comes(ws, *recipient);
        }
        self.record(EngineRecord::MessagePosted(MessagePosted {
            ws,
            message: Box::new(message),
            left_out: overfull.clone(),
        }));
        for recipient in &recipients {
            if !overfull.contains(recipient) {
                self.flush(ws, *recipient);
            }
        }
        if let Some(ttl) = self.core.ttl.filter(|_| !recipients.is_empty()) {
            self.core.remind(self.now.mono, ttl.min(WRITTEN_EVERY));
        }
        self.announce(ws, scope, || event);
        for recipient in overfull {
            let failure = json!({
                "delivery_id": null,
                "reason": "depth_cap",
                "error": "mailbox depth cap exceeded",
                "retryable": false,
            });
            self.delivery_failed(ws, draft.from, recipient, id, failure);
        }
        id
    }

    /// Tells the sender, over its node and on the streams, that a message will not arrive
    /// ([engine-protocol 4.6](crate::docs::engine_protocol#4.6)).
    pub fn delivery_failed(&mut self, ws: Id, sender: Id, to: Id, message: Id, failure: Value) {
        let name = self.agent(ws, to).map(|a| a.name.clone());
        let mut data = failure;
        data["message_id"] = json!(message.to_string());
        data["target_agent_id"] = json!(to.to_string());
        data["target_agent_name"] = json!(name);
        if self
            .agent(ws, sender)
            .is_some_and(|who| self.core.live.of(ws, who).is_some())
        {
            self.context(ws, sender, "delivery.failed", data.clone());
        } else if self.core.behaviour().schema.is_none() {
            // A sender that no node hosts has nobody else to hear of it.
            self.notify_keeper(ws, to, sender, data.clone());
        }
        data["type"] = json!("delivery.failed");
        self.announce(ws, "deliveries:read", || data);
    }

    /// A notice to every member of a message's channel, the actor too
    /// ([engine-protocol 4.2](crate::docs::engine_protocol#4.2)).
    pub fn notify_members(&mut self, ws: Id, message: Id, event: &str, key: &str, data: &Value) {
        let members: Vec<Id> = self
            .core
            .state
            .workspaces
            .get(&ws)
            .and_then(|w| w.channels.get(&w.history.get(message)?.channel))
            .map(|c| c.members.keys().copied().collect())
            .unwrap_or_default();
        for member in members {
            self.notice(ws, member, event, key, &message.to_string(), data);
        }
    }
}
