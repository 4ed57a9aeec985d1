//! What was said: messages with their threads, reactions and readers, bounded per workspace. A message that somebody
//! still has to receive is never forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::Id;
use super::limits;
use super::stored::KeptMode;
use crate::domain::Mode;
use crate::time::Wall;

/// A client's promise that two posts are one ([engine-protocol 1.8](crate::docs::engine_protocol#1.8)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idem {
    /// Digest of workspace, actor, route and key.
    pub scope: String,
    /// Digest of the payload.
    pub fingerprint: String,
}

/// One reaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    pub id: Id,
    pub agent: Id,
    pub agent_name: String,
    pub emoji: String,
    pub at: Wall,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub id: Id,
    pub channel: Id,
    pub from: Id,
    pub from_name: String,
    /// `agent`, `human` or `system`.
    pub from_kind: String,
    pub text: String,
    #[serde(with = "KeptMode")]
    pub mode: Mode,
    /// The root of its thread.
    pub thread: Option<Id>,
    pub blocks: Value,
    pub data: Value,
    pub mentions: Vec<String>,
    pub at: Wall,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idem: Option<Idem>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub readers: BTreeMap<Id, Wall>,
}

/// See the module. Only `messages` is stored; the rest is rebuilt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History {
    messages: BTreeMap<Id, Message>,
    /// Top-level messages per channel.
    #[serde(skip)]
    channels: HashMap<Id, BTreeSet<Id>>,
    /// Replies per root.
    #[serde(skip)]
    threads: HashMap<Id, BTreeSet<Id>>,
    /// In how many mailboxes a message waits; absent for none.
    #[serde(skip)]
    waiting: HashMap<Id, u32>,
    /// Messages that wait in no mailbox.
    #[serde(skip)]
    free: BTreeSet<Id>,
    /// Idempotency scope to message.
    #[serde(skip)]
    keys: HashMap<String, Id>,
    /// What all messages weigh.
    #[serde(skip)]
    bytes: usize,
    /// What those weigh that wait in a mailbox.
    #[serde(skip)]
    waiting_bytes: usize,
}

/// About how many bytes a message holds on to.
pub fn weight(m: &Message) -> usize {
    let written = |v: &Value| if v.is_null() { 0 } else { v.to_string().len() };
    256 + m.text.len() + written(&m.blocks) + written(&m.data)
}

impl History {
    /// About how many bytes all messages hold on to.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a further message of that weight may wait in mailboxes (see [`limits::WAITING_BYTES`]).
    pub fn has_room(&self, weight: usize) -> bool {
        self.waiting_bytes == 0 || self.waiting_bytes + weight <= limits::WAITING_BYTES
    }

    /// The message of that id.
    pub fn get(&self, id: Id) -> Option<&Message> {
        self.messages.get(&id)
    }

    /// For reactions and readers.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut Message> {
        self.messages.get_mut(&id)
    }

    /// All messages, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Message> {
        self.messages.values().rev()
    }

    /// Top-level messages of a channel between two ids (exclusive), newest first.
    pub fn in_channel(
        &self,
        channel: Id,
        after: Option<Id>,
        before: Option<Id>,
    ) -> impl Iterator<Item = &Message> {
        let low = after.map_or(0, |a| a.saturating_add(1));
        let high = before.unwrap_or(Id::MAX).max(low);
        self.channels
            .get(&channel)
            .into_iter()
            .flat_map(move |ids| ids.range(low..high).rev())
            .filter_map(|id| self.messages.get(id))
    }

    /// Replies under a root, oldest first.
    pub fn replies(&self, root: Id) -> impl Iterator<Item = &Message> {
        self.threads
            .get(&root)
            .into_iter()
            .flatten()
            .filter_map(|id| self.messages.get(id))
    }

    /// How many replies a root has.
    pub fn reply_count(&self, root: Id) -> usize {
        self.threads.get(&root).map_or(0, BTreeSet::len)
    }

    /// How many top-level messages a channel has.
    pub fn count(&self, channel: Id) -> usize {
        self.channels.get(&channel).map_or(0, BTreeSet::len)
    }

    /// The newest top-level message of a channel.
    pub fn last(&self, channel: Id) -> Option<&Message> {
        self.in_channel(channel, None, None).next()
    }

    /// The message an idempotency key led to.
    pub fn by_key(&self, scope: &str) -> Option<&Message> {
        self.messages.get(self.keys.get(scope)?)
    }

    /// Takes a message that waits in `waiting` mailboxes, and forgets old ones to stay within bounds.
    pub fn add(&mut self, message: Message, waiting: u32) {
        let id = message.id;
        self.index(&message);
        if waiting > 0 {
            self.waiting_bytes += weight(&message);
        }
        self.messages.insert(id, message);
        if waiting == 0 {
            self.free.insert(id);
        } else {
            self.waiting.insert(id, waiting);
        }
        self.trim();
    }

    /// One mailbox is done with the message.
    pub fn received(&mut self, id: Id) {
        let Some(count) = self.waiting.get_mut(&id) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.waiting.remove(&id);
            self.free.insert(id);
            self.waiting_bytes -= self.messages.get(&id).map_or(0, weight);
            self.trim();
        }
    }

    fn index(&mut self, message: &Message) {
        self.bytes += weight(message);
        match message.thread {
            Some(root) => self.threads.entry(root).or_default().insert(message.id),
            None => self
                .channels
                .entry(message.channel)
                .or_default()
                .insert(message.id),
        };
        if let Some(idem) = &message.idem {
            self.keys.insert(idem.scope.clone(), message.id);
        }
    }

    fn trim(&mut self) {
        while self.messages.len() > limits::HISTORY
            || self.bytes - self.waiting_bytes > limits::HISTORY_BYTES
        {
            let Some(oldest) = self.free.pop_first() else {
                return;
            };
            let Some(gone) = self.messages.remove(&oldest) else {
                continue;
            };
            self.bytes -= weight(&gone);
            let index = match gone.thread {
                Some(root) => self.threads.get_mut(&root),
                None => self.channels.get_mut(&gone.channel),
            };
            if let Some(ids) = index {
                ids.remove(&oldest);
            }
            if let Some(root) = gone.thread
                && self.threads.get(&root).is_some_and(BTreeSet::is_empty)
            {
                self.threads.remove(&root);
            }
            if let Some(idem) = &gone.idem
                && self.keys.get(&idem.scope) == Some(&oldest)
            {
                self.keys.remove(&idem.scope);
            }
        }
    }

    /// Rebuilds what is derived; `waiting` names every message once per mailbox it waits in.
    pub fn reindex(&mut self, waiting: impl Iterator<Item = Id>) {
        let messages = std::mem::take(&mut self.messages);
        *self = Self::default();
        for id in waiting {
            *self.waiting.entry(id).or_default() += 1;
        }
        for message in messages.values() {
            self.index(message);
            if self.waiting.contains_key(&message.id) {
                self.waiting_bytes += weight(message);
            } else {
                self.free.insert(message.id);
            }
        }
        self.messages = messages;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: Id) -> Message {
        Message {
            id,
            channel: 1,
            from: 2,
            from_name: "lead".into(),
            from_kind: "agent".into(),
            text: format!("m{id}"),
            mode: Mode::Wait,
            thread: None,
            blocks: Value::Null,
            data: Value::Null,
            mentions: Vec::new(),
            at: Wall(id),
            idem: None,
            reactions: Vec::new(),
            readers: BTreeMap::new(),
        }
    }

    #[test]
    fn the_oldest_goes_first_but_never_one_that_somebody_waits_for() {
        let mut h = History::default();
        h.add(message(1), 1);
        for id in 2..=limits::HISTORY as Id + 1 {
            h.add(message(id), 0);
        }
        assert!(h.get(1).is_some());
        assert!(h.get(2).is_none());
        h.received(1);
        h.add(message(99_999), 0);
        assert!(h.get(1).is_none());
        assert_eq!(h.count(1), limits::HISTORY);
    }

    #[test]
    fn long_messages_make_the_history_short() {
        let mut h = History::default();
        for id in 1..=3 {
            let mut m = message(id);
            m.text = "x".repeat(limits::HISTORY_BYTES / 2 - 1_000);
            h.add(m, 0);
        }
        assert_eq!(h.newest_first().map(|m| m.id).collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn what_is_derived_is_the_same_after_a_snapshot() {
        let mut h = History::default();
        h.add(message(1), 2);
        let mut reply = message(2);
        reply.thread = Some(1);
        reply.idem = Some(Idem {
            scope: "k".into(),
            fingerprint: "f".into(),
        });
        h.add(reply, 0);
        let text = serde_json::to_string(&h).expect("plain data");
        let mut read: History = serde_json::from_str(&text).expect("what was written");
        read.reindex([1, 1].into_iter());
        assert_eq!(read, h);
    }

    #[test]
    fn pages_are_newest_first_and_exclusive() {
        let mut h = History::default();
        (1..=5).for_each(|id| h.add(message(id), 0));
        let page: Vec<_> = h.in_channel(1, Some(1), Some(5)).map(|m| m.id).collect();
        assert_eq!(page, [4, 3, 2]);
    }
}
