//! The only place that changes durable state, live and on replay alike. A record about something that is gone changes
//! nothing: nothing here can fail.

use std::collections::BTreeMap;

use super::directory::{
    Agent, Channel, ChannelKind, ChannelMember, DEFAULT_PROVIDER, Node, NodeProvider, Observer,
    Owner, State, Workspace, direct_node,
};
use super::history::{Message, Reaction};
use super::id::Id;
use super::invocation::{Invocation, InvocationProgress};
use super::limits;
use super::mailbox::Reason;
use super::record::EngineRecord;
use crate::time::Wall;

impl State {
    /// Applies one fact. Names every kind of it, so that one that nobody applies does not compile: it would be lost on
    /// replay.
    pub fn apply(&mut self, record: &EngineRecord) {
        use EngineRecord as R;
        match record {
            R::Snapshot(state) => {
                *self = (**state).clone();
                self.reindex();
            }
            R::WorkspaceCreated {
                id,
                name,
                key_hash,
                general,
                at,
            } => self.create_workspace(*id, name, key_hash, *general, *at),
            R::WorkspaceDeleted { ws } => {
                self.workspaces.remove(ws);
                self.tokens.retain(|_, owner| owner_workspace(owner) != *ws);
            }
            R::TokenIssued { owner, hash } => self.issue(owner, hash),
            R::AgentRegistered { ws, agent } => {
                self.saw(agent.id);
                self.tokens
                    .insert(agent.token_hash.clone(), Owner::Agent(*ws, agent.id));
                self.with(*ws, |w| w.register(agent));
            }
            R::AgentDeleted { ws, agent } => {
                if let Some(w) = self.workspaces.get_mut(ws) {
                    for hash in w.delete_agent(*agent) {
                        self.tokens.remove(&hash);
                    }
                }
            }
            R::NodeCreated { ws, node } => self.create_node(*ws, node),
            R::NodeDeleted { ws, node } => self.delete_node(*ws, node),
            R::ObserverSaved { ws, observer } => self.save_observer(*ws, observer),
            R::ChannelCreated { ws, channel } => {
                self.saw(channel.id);
                self.with(*ws, |w| w.create_channel(channel));
            }
            R::MessagePosted {
                ws,
                message,
                left_out,
            } => {
                self.saw(message.id);
                self.with(*ws, |w| w.post(message, left_out));
            }
            R::WorkspaceChanged { .. }
            | R::AgentChanged { .. }
            | R::AgentBound { .. }
            | R::OriginSet { .. }
            | R::AgentUnbound { .. }
            | R::NodeDescribed { .. }
            | R::ProviderRemoved { .. } => self.apply_within(record),
            R::ActionDefined { .. }
            | R::ActionRemoved { .. }
            | R::Invoked { .. }
            | R::Dispatched { .. }
            | R::Requeued { .. }
            | R::InvocationEnded { .. } => self.apply_invocation(record),
            R::ChannelChanged { .. }
            | R::Joined { .. }
            | R::Left { .. }
            | R::Muted { .. }
            | R::Reacted { .. }
            | R::Unreacted { .. } => self.apply_talk(record),
            R::Read { .. }
            | R::Acked { .. }
            | R::DeliveryClosed { .. }
            | R::Waited { .. }
            | R::Expired { .. } => {
                self.apply_mail(record);
            }
        }
    }

    /// Facts that touch one workspace and no token.
    fn apply_within(&mut self, record: &EngineRecord) {
        use EngineRecord as R;
        match record {
            R::WorkspaceChanged {
                ws,
                name,
                system_prompt,
                metadata,
            } => self.with(*ws, |w| {
                set(&mut w.name, name.as_ref());
                set(&mut w.system_prompt, system_prompt.as_ref());
                set(&mut w.metadata, metadata.as_ref());
            }),
            R::AgentChanged {
                ws,
                agent,
                status,
                persona,
                metadata,
            } => self.agent(*ws, *agent, |a| {
                set(&mut a.status, status.as_ref());
                set(&mut a.persona, persona.as_ref());
                set(&mut a.metadata, metadata.as_ref());
            }),
            R::AgentBound {
                ws,
                agent,
                node,
                provider,
                session_ref,
                priority,
                at,
            } => self.agent(*ws, *agent, |a| {
                a.node.clone_from(node);
                if !a.is_direct() {
                    a.last_node.clone_from(node);
                }
                a.provider.clone_from(provider);
                a.session_ref.clone_from(session_ref);
                a.priority = *priority;
                a.bound_at = Some(*at);
            }),
            R::OriginSet { ws, agent, node } => self.agent(*ws, *agent, |a| {
                a.origin.get_or_insert_with(|| node.clone());
            }),
            R::AgentUnbound { ws, agent } => self.agent(*ws, *agent, go_home),
            R::NodeDescribed {
                ws,
                node,
                name,
                tags,
                version,
                provider,
                capabilities,
                max_agents,
            } => self.with(*ws, |w| {
                let Some(n) = w.nodes.get_mut(node) else {
                    return;
                };
                n.name.clone_from(name);
                n.tags.clone_from(tags);
                n.version.clone_from(version);
                let described = NodeProvider {
                    capabilities: capabilities.clone(),
                    max_agents: *max_agents,
                };
                n.providers.insert(provider.clone(), described);
            }),
            R::ProviderRemoved { ws, node, provider } => self.with(*ws, |w| {
                if let Some(n) = w.nodes.get_mut(node) {
                    n.providers.remove(provider);
                }
            }),
            other => unapplied(other),
        }
    }

    fn apply_invocation(&mut self, record: &EngineRecord) {
        use EngineRecord as R;
        match record {
            R::ActionDefined { ws, action } => {
                self.saw(action.id);
                self.with(*ws, |w| {
                    w.actions.insert(action.name.clone(), (**action).clone());
                });
            }
            R::ActionRemoved { ws, name } => self.with(*ws, |w| {
                w.actions.remove(name);
            }),
            R::Invoked { ws, invocation } => {
                self.saw(invocation.number);
                self.with(*ws, |w| {
                    w.open.insert(invocation.id.clone());
                    w.invocations
                        .insert(invocation.id.clone(), (**invocation).clone());
                });
            }
            R::Dispatched {
                ws,
                invocation,
                node,
                at,
            } => self.invocation(*ws, invocation, |i| {
                i.status = if i.handler_agent.is_some() {
                    InvocationProgress::Invoked
                } else {
                    InvocationProgress::Dispatched
                };
                i.node = Some(node.clone());
                if i.handler_agent.is_none() {
                    i.handler_node = Some(node.clone());
                }
                i.dispatched_at = Some(*at);
                i.attempts += 1;
            }),
            R::Requeued { ws, invocation } => self.invocation(*ws, invocation, |i| {
                i.status = InvocationProgress::Pending;
                if let Some(node) = i.node.take() {
                    i.tried.insert(node);
                }
            }),
            R::InvocationEnded {
                ws,
                invocation,
                output,
                error,
                duration_ms,
                at,
            } => {
                self.invocation(*ws, invocation, |i| {
                    i.status = if error.is_some() {
                        InvocationProgress::Failed
                    } else {
                        InvocationProgress::Completed
                    };
                    i.output.clone_from(output);
                    i.error.clone_from(error);
                    i.duration_ms = *duration_ms;
                    i.completed_at = Some(*at);
                });
                self.with(*ws, |w| w.finish(invocation));
            }
            other => unapplied(other),
        }
    }

    /// Facts about channels and what is said in them.
    fn apply_talk(&mut self, record: &EngineRecord) {
        use EngineRecord as R;
        match record {
            R::ChannelChanged {
                ws,
                channel,
                topic,
                metadata,
                archived,
            } => self.channel(*ws, *channel, |c| {
                set(&mut c.topic, topic.as_ref());
                set(&mut c.metadata, metadata.as_ref());
                c.archived = *archived;
            }),
            R::Joined {
                ws,
                channel,
                agent,
                at,
            } => self.channel(*ws, *channel, |c| {
                c.members.entry(*agent).or_insert(ChannelMember {
                    joined_at: *at,
                    ..ChannelMember::default()
                });
            }),
            R::Left { ws, channel, agent } => self.channel(*ws, *channel, |c| {
                c.members.remove(agent);
            }),
            R::Muted {
                ws,
                channel,
                agent,
                muted,
            } => self.channel(*ws, *channel, |c| {
                if let Some(member) = c.members.get_mut(agent) {
                    member.muted = *muted;
                }
            }),
            R::Reacted {
                ws,
                message,
                id,
                agent,
                agent_name,
                emoji,
                at,
            } => {
                self.saw(*id);
                self.message(*ws, *message, |m| {
                    m.reactions.push(Reaction {
                        id: *id,
                        agent: *agent,
                        agent_name: agent_name.clone(),
                        emoji: emoji.clone(),
                        at: *at,
                    });
                });
            }
            R::Unreacted {
                ws,
                message,
                agent,
                emoji,
            } => self.message(*ws, *message, |m| {
                m.reactions
                    .retain(|r| !(r.agent == *agent && r.emoji == *emoji));
            }),
            other => unapplied(other),
        }
    }

    /// Facts about what was received.
    fn apply_mail(&mut self, record: &EngineRecord) {
        use EngineRecord as R;
        match record {
            R::Read {
                ws,
                message,
                agent,
                at,
            } => self.with(*ws, |w| w.read(*message, *agent, *at)),
            R::Acked {
                ws,
                agent,
                up_to,
                at,
            } => self.with(*ws, |w| w.ack(*agent, *up_to, *at)),
            R::DeliveryClosed { ws, agent, seq } => self.with(*ws, |w| w.close(*agent, *seq)),
            R::Expired { ws, at } => self.with(*ws, |w| w.expire(*at)),
            R::Waited { ws, agent, ms } => self.with(*ws, |w| {
                if let Some(mailbox) = w.mailboxes.get_mut(agent) {
                    mailbox.waited(*ms);
                }
            }),
            other => unapplied(other),
        }
    }

    fn saw(&mut self, id: Id) {
        self.last_id = self.last_id.max(id);
    }

    fn with(&mut self, ws: Id, change: impl FnOnce(&mut Workspace)) {
        if let Some(w) = self.workspaces.get_mut(&ws) {
            change(w);
        }
    }

    fn agent(&mut self, ws: Id, agent: Id, change: impl FnOnce(&mut Agent)) {
        self.with(ws, |w| {
            if let Some(a) = w.agents.get_mut(&agent) {
                change(a);
            }
        });
    }

    fn channel(&mut self, ws: Id, channel: Id, change: impl FnOnce(&mut Channel)) {
        self.with(ws, |w| {
            if let Some(c) = w.channels.get_mut(&channel) {
                change(c);
            }
        });
    }

    fn message(&mut self, ws: Id, message: Id, change: impl FnOnce(&mut Message)) {
        self.with(ws, |w| {
            if let Some(m) = w.history.get_mut(message) {
                change(m);
            }
        });
    }

    fn invocation(&mut self, ws: Id, id: &str, change: impl FnOnce(&mut Invocation)) {
        self.with(ws, |w| {
            if let Some(i) = w.invocations.get_mut(id) {
                change(i);
            }
        });
    }

    fn create_workspace(&mut self, id: Id, name: &str, key_hash: &str, general: Id, at: Wall) {
        self.saw(id);
        self.saw(general);
        self.tokens
            .insert(key_hash.to_owned(), Owner::Workspace(id));
        let mut w = Workspace {
            id,
            name: name.to_owned(),
            key_hash: key_hash.to_owned(),
            created_at: at,
            general,
            ..Workspace::default()
        };
        w.create_channel(&Channel {
            id: general,
            name: "general".into(),
            created_at: at,
            ..Channel::default()
        });
        self.workspaces.insert(id, w);
    }

    fn save_observer(&mut self, ws: Id, observer: &Observer) {
        self.saw(observer.id);
        let owner = Owner::Observer(ws, observer.id);
        self.tokens.retain(|_, o| *o != owner);
        if observer.revoked_at.is_none() {
            self.tokens.insert(observer.token_hash.clone(), owner);
        }
        self.with(ws, |w| {
            w.observers.insert(observer.id, observer.clone());
        });
    }

    fn delete_node(&mut self, ws: Id, node: &str) {
        let workspace = self.workspaces.get_mut(&ws);
        if let Some(hash) = workspace.and_then(|w| w.delete_node(node)) {
            self.tokens.remove(&hash);
        }
    }

    fn create_node(&mut self, ws: Id, node: &Node) {
        let Some(w) = self.workspaces.get_mut(&ws) else {
            return;
        };
        let old = w.nodes.insert(node.id.clone(), node.clone());
        if let Some(hash) = old.and_then(|n| n.token_hash) {
            self.tokens.remove(&hash);
        }
        if let Some(hash) = &node.token_hash {
            self.tokens
                .insert(hash.clone(), Owner::Node(ws, node.id.clone()));
        }
    }

    fn issue(&mut self, owner: &Owner, hash: &str) {
        let Some(w) = self.workspaces.get_mut(&owner_workspace(owner)) else {
            return;
        };
        let old = match owner {
            Owner::Workspace(_) => Some(std::mem::replace(&mut w.key_hash, hash.to_owned())),
            Owner::Agent(_, id) => w
                .agents
                .get_mut(id)
                .map(|a| std::mem::replace(&mut a.token_hash, hash.to_owned())),
            Owner::Node(_, id) => w
                .nodes
                .get_mut(id)
                .map(|n| n.token_hash.replace(hash.to_owned()).unwrap_or_default()),
            Owner::Observer(_, id) => w
                .observers
                .get_mut(id)
                .map(|o| std::mem::replace(&mut o.token_hash, hash.to_owned())),
        };
        if let Some(old) = old {
            self.tokens.remove(&old);
            self.tokens.insert(hash.to_owned(), owner.clone());
        }
    }
}

/// [`State::apply`] sent a fact to the part that does not know it.
fn unapplied(record: &EngineRecord) {
    debug_assert!(false, "{record:?} is applied nowhere");
}

fn owner_workspace(owner: &Owner) -> Id {
    match owner {
        Owner::Workspace(ws)
        | Owner::Agent(ws, _)
        | Owner::Node(ws, _)
        | Owner::Observer(ws, _) => *ws,
    }
}

fn set<T: Clone>(field: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}

fn go_home(agent: &mut Agent) {
    agent.node = direct_node(agent.id);
    agent.provider = DEFAULT_PROVIDER.into();
    agent.session_ref = None;
    agent.bound_at = None;
}

impl Workspace {
    fn register(&mut self, agent: &Agent) {
        let node = Node {
            id: direct_node(agent.id),
            name: format!("direct-{}", agent.id),
            kind: "ws".into(),
            role: "direct".into(),
            tags: vec!["implicit".into(), "direct".into()],
            created_at: agent.created_at,
            providers: BTreeMap::from([(
                DEFAULT_PROVIDER.to_owned(),
                NodeProvider {
                    capabilities: Vec::new(),
                    max_agents: 1,
                },
            )]),
            ..Node::default()
        };
        self.nodes.insert(node.id.clone(), node);
        if let Some(general) = self.channels.get_mut(&self.general) {
            let member = ChannelMember {
                joined_at: agent.created_at,
                ..ChannelMember::default()
            };
            general.members.insert(agent.id, member);
        }
        self.agent_names.insert(agent.name.clone(), agent.id);
        self.mailboxes.entry(agent.id).or_default();
        self.agents.insert(agent.id, agent.clone());
    }

    /// Returns the digests of the tokens that die with it.
    fn delete_agent(&mut self, id: Id) -> Vec<String> {
        let Some(agent) = self.agents.remove(&id) else {
            return Vec::new();
        };
        self.agent_names.remove(&agent.name);
        if let Some(mailbox) = self.mailboxes.remove(&id) {
            for message in mailbox.messages() {
                self.history.received(message);
            }
        }
        for channel in self.channels.values_mut() {
            channel.members.remove(&id);
        }
        let node = self.nodes.remove(&direct_node(id));
        std::iter::once(agent.token_hash)
            .chain(node.and_then(|n| n.token_hash))
            .collect()
    }

    fn delete_node(&mut self, id: &str) -> Option<String> {
        let node = self.nodes.remove(id)?;
        self.agents
            .values_mut()
            .filter(|a| a.node == id)
            .for_each(go_home);
        node.token_hash
    }

    fn create_channel(&mut self, channel: &Channel) {
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

    fn read(&mut self, message: Id, agent: Id, at: Wall) {
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

    fn ack(&mut self, agent: Id, up_to: u64, at: Wall) {
        let Some(mailbox) = self.mailboxes.get_mut(&agent) else {
            return;
        };
        for message in mailbox.ack(up_to) {
            self.read(message, agent, at);
            self.history.received(message);
        }
    }

    fn close(&mut self, agent: Id, seq: u64) {
        let closed = self.mailboxes.get_mut(&agent).and_then(|m| m.close(seq));
        if let Some(message) = closed {
            self.history.received(message);
        }
    }

    fn expire(&mut self, at: Wall) {
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

    fn finish(&mut self, id: &str) {
        if self.open.remove(id) {
            self.finished.push_back(id.to_owned());
        }
        while self.finished.len() > limits::INVOCATIONS {
            if let Some(old) = self.finished.pop_front() {
                self.invocations.remove(&old);
            }
        }
    }
}
