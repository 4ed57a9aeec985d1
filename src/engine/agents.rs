//! The life of an agent: made, given tokens, moved between nodes with its mail, taken away. HTTP calls and nodes' frames
//! both lead here.

use serde_json::{Map, Value, json};

use super::directory::{Agent, DEFAULT_PROVIDER, Owner, direct_node};
use super::id::Id;
use super::live::Ready;
use super::mailbox::Mailbox;
use super::record::{AgentBound, EngineRecord};
use super::step::Step;

/// An agent to be made; its name must be free.
pub struct NewAgent<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub persona: Option<String>,
    pub metadata: Map<String, Value>,
    pub capabilities: Value,
}

/// Where an agent moves to.
pub struct Binding {
    pub node: String,
    pub provider: String,
    pub session_ref: Option<String>,
    pub priority: i64,
}

impl Step<'_> {
    /// Makes an agent that lives on its own direct node, and returns its id and token.
    pub fn make_agent(&mut self, ws: Id, new: NewAgent<'_>) -> (Id, String) {
        let id = self.fresh_id();
        let (token, token_hash) = self.agent_token();
        let agent = Agent {
            id,
            name: new.name.to_owned(),
            kind: new.kind.to_owned(),
            persona: new.persona,
            status: "active".into(),
            metadata: new.metadata,
            capabilities: new.capabilities,
            token_hash,
            node: direct_node(id),
            last_node: String::new(),
            provider: DEFAULT_PROVIDER.into(),
            session_ref: None,
            priority: 0,
            bound_at: None,
            origin: None,
            created_at: self.now.wall,
        };
        self.record(EngineRecord::AgentRegistered {
            ws,
            agent: Box::new(agent),
        });
        self.announce(
            ws,
            "channels:read",
            || json!({"type": "member.joined", "channel": "general", "agent_name": new.name}),
        );
        (id, token)
    }

    /// Replaces an agent's token and returns the new one.
    pub fn renew_agent_token(&mut self, ws: Id, agent: Id) -> String {
        let (token, hash) = self.agent_token();
        let owner = Owner::Agent(ws, agent);
        self.record(EngineRecord::TokenIssued { owner, hash });
        token
    }

    /// Takes an agent away for good.
    pub fn remove_agent(&mut self, ws: Id, agent: Id) {
        let Some(name) = self.agent(ws, agent).map(|a| a.name.clone()) else {
            return;
        };
        self.notify_of_lost_mail(ws, agent);
        self.core.live.unready(ws, agent);
        self.core.live.forget(ws, agent);
        self.record(EngineRecord::AgentDeleted { ws, agent });
        self.announce_presence(ws, &name, false);
    }

    /// Moves an agent to a provider of a node, and its mail with it.
    pub fn bind_agent(&mut self, ws: Id, agent: Id, to: Binding) {
        self.core.live.unready(ws, agent);
        self.record(EngineRecord::AgentBound(AgentBound {
            ws,
            agent,
            node: to.node.clone(),
            provider: to.provider.clone(),
            session_ref: to.session_ref,
            priority: to.priority,
            at: self.now.wall,
        }));
        self.make_ready(ws, agent, true);
    }

    /// Lets an agent's mail flow over its node, if that is connected, from its cursor on.
    pub fn make_ready(&mut self, ws: Id, agent: Id, listed: bool) -> bool {
        self.write_waited(ws, agent);
        let core = &mut *self.core;
        let Some(w) = core.state.workspaces.get(&ws) else {
            return false;
        };
        let Some(who) = w.agents.get(&agent) else {
            return false;
        };
        let sent = w.mailboxes.get(&agent).map_or(0, Mailbox::acked);
        match core.live.get_mut(ws, &who.node, &who.provider) {
            Some(attachment) => {
                attachment.ready.insert(agent, Ready { sent, listed });
                true
            }
            None => false,
        }
    }

    /// Sends an agent back to its direct node ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).
    pub fn unbind_agent(&mut self, ws: Id, agent: Id) {
        let Some(who) = self.agent(ws, agent) else {
            return;
        };
        if who.is_direct() {
            return;
        }
        let (node, provider, name) = (who.node.clone(), who.provider.clone(), who.name.clone());
        let ran = self.core.live.is_running(ws, who, self.now.mono);
        if let Some(a) = self.core.live.get_mut(ws, &node, &provider)
            && a.ready.contains_key(&agent)
        {
            a.active = a.active.saturating_sub(1);
        }
        self.core.live.unready(ws, agent);
        self.core.live.forget(ws, agent);
        self.record(EngineRecord::AgentUnbound { ws, agent });
        self.look_at_mail();
        if self.make_ready(ws, agent, true) {
            self.flush(ws, agent);
        } else if ran {
            self.announce_presence(ws, &name, false);
        }
    }

    /// Whether a provider may take one more agent, beside so many places that are kept.
    pub fn has_room(&self, ws: Id, node: &str, provider: &str, kept: u64) -> bool {
        let max = self
            .node(ws, node)
            .and_then(|n| n.providers.get(provider))
            .map_or(0, |p| p.max_agents);
        let active = self
            .core
            .live
            .get(ws, node, provider)
            .map_or(0, |a| a.active);
        max == 0 || active + kept < max
    }
}
