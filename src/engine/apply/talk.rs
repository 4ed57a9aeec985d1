//! Applies facts about channels, what is said in them, and what was received of it.

use super::set;
use crate::engine::directory::{Channel, ChannelKind, ChannelMember, State, Workspace};
use crate::engine::history::{Message, Reaction};
use crate::engine::id::Id;
use crate::engine::limits;
use crate::engine::mailbox::Reason;
use crate::engine::record::{
    Acked, ChannelChanged, Joined, MessagePosted, Muted, Reacted, Unreacted,
};
use crate::time::Wall;

impl State {
    pub(super) fn create_channel(&mut self, ws: Id, channel: &Channel) {
        self.saw(channel.id);
        self.with(ws, |w| w.create_channel(channel));
    }

    pub(super) fn change_channel(&mut self, fact: &ChannelChanged) {
        self.channel(fact.ws, fact.channel, |c| {
            set(&mut c.topic, fact.topic.as_ref());
            set(&mut c.metadata, fact.metadata.as_ref());
            c.archived = fact.archived;
        });
    }

    pub(super) fn join(&mut self, fact: &Joined) {
        self.channel(fact.ws, fact.channel, |c| {
            c.members.entry(fact.agent).or_insert(ChannelMember {
                joined_at: fact.at,
                ..ChannelMember::default()
            });
        });
    }

    pub(super) fn leave(&mut self, ws: Id, channel: Id, agent: Id) {
        self.channel(ws, channel, |c| {
            c.members.remove(&agent);
        });
    }

    pub(super) fn mute(&mut self, fact: &Muted) {
        self.channel(fact.ws, fact.channel, |c| {
            if let Some(member) = c.members.get_mut(&fact.agent) {
                member.muted = fact.muted;
            }
        });
    }

    pub(super) fn post(&mut self, fact: &MessagePosted) {
        self.saw(fact.message.id);
        self.with(fact.ws, |w| w.post(&fact.message, &fact.left_out));
    }

    pub(super) fn react(&mut self, fact: &Reacted) {
        self.saw(fact.id);
        self.message(fact.ws, fact.message, |m| {
            m.reactions.push(Reaction {
                id: fact.id,
                agent: fact.agent,
                agent_name: fact.agent_name.clone(),
                emoji: fact.emoji.clone(),
                at: fact.at,
            });
        });
    }

    pub(super) fn unreact(&mut self, fact: &Unreacted) {
        self.message(fact.ws, fact.message, |m| {
            m.reactions
                .retain(|r| !(r.agent == fact.agent && r.emoji == fact.emoji));
        });
    }

    fn message(&mut self, ws: Id, message: Id, change: impl FnOnce(&mut Message)) {
        self.with(ws, |w| {
            if let Some(m) = w.history.get_mut(message) {
                change(m);
            }
        });
    }
}

impl Workspace {
    pub(super) fn create_channel(&mut self, channel: &Channel) {
        match &channel.conversation {
            Some(conversation) => self.conversations.insert(conversation.clone(), channel.id),
            None => self.channel_names.insert(channel.name.clone(), channel.id),
        };
        self.channels.insert(channel.id, channel.clone());
    }

    /// Puts a message into the history and into the mailbox of every recipient that has room.
    fn post(&mut self, message: &Message, left_out: &[Id]) {
        let kind = self
            .channels
            .get(&message.channel)
            .map_or(ChannelKind::Public, |c| c.kind);
        let mut waiting = 0;
        let recipients = self.recipients(message.channel, message.from);
        for recipient in recipients.into_iter().filter(|r| !left_out.contains(r)) {
            let name = self.agents.get(&recipient).map(|a| a.name.as_str());
            let reason = match (message.thread, kind) {
                (Some(_), _) => Reason::ThreadReply,
                (None, ChannelKind::Public)
                    if name.is_some_and(|n| message.mentions.iter().any(|m| m == n)) =>
                {
                    Reason::Mention
                }
                (None, ChannelKind::Public) => Reason::Message,
                (None, _) => Reason::Dm,
            };
            let mailbox = self.mailboxes.entry(recipient).or_default();
            if mailbox.push(message.id, reason).is_some() {
                waiting += 1;
            }
        }
        self.history.add(message.clone(), waiting);
    }

    pub(super) fn read(&mut self, message: Id, agent: Id, at: Wall) {
        let Some(m) = self.history.get_mut(message) else {
            return;
        };
        m.readers.entry(agent).or_insert(at);
        let channel = m.channel;
        if let Some(member) = self
            .channels
            .get_mut(&channel)
            .and_then(|c| c.members.get_mut(&agent))
            && member.last_read.is_none_or(|(last, _)| last < message)
        {
            member.last_read = Some((message, at));
        }
    }

    pub(super) fn ack(&mut self, fact: &Acked) {
        let Some(mailbox) = self.mailboxes.get_mut(&fact.agent) else {
            return;
        };
        for message in mailbox.ack(fact.up_to) {
            self.read(message, fact.agent, fact.at);
            self.history.received(message);
        }
    }

    pub(super) fn waited(&mut self, agent: Id, ms: u64) {
        if let Some(mailbox) = self.mailboxes.get_mut(&agent) {
            mailbox.waited(ms);
        }
    }

    pub(super) fn close(&mut self, agent: Id, seq: u64) {
        let closed = self.mailboxes.get_mut(&agent).and_then(|m| m.close(seq));
        if let Some(message) = closed {
            self.history.received(message);
        }
    }

    pub(super) fn expire(&mut self, at: Wall) {
        let ttl = u64::try_from(limits::DELIVERY_TTL.as_millis()).unwrap_or(u64::MAX);
        let history = &self.history;
        let posted = |message: Id| history.get(message).map_or(0, |m| m.at.0);
        let mut over = Vec::new();
        for (agent, mailbox) in &self.mailboxes {
            let due = mailbox
                .rows()
                .filter(|row| posted(row.message).saturating_add(ttl) <= at.0);
            over.extend(due.map(|row| (*agent, row.seq)));
        }
        for (agent, seq) in over {
            self.close(agent, seq);
        }
    }
}
