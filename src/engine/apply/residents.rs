//! Applies facts about who and what there is: workspaces, agents, nodes, observers, and whose token is whose.

use std::collections::BTreeMap;

use super::set;
use crate::engine::directory::{
    Agent, Channel, ChannelMember, DEFAULT_PROVIDER, Node, NodeProvider, Observer, Owner, State,
    Workspace, direct_node,
};
use crate::engine::id::Id;
use crate::engine::record::{
    AgentBound, AgentChanged, NodeDescribed, WorkspaceChanged, WorkspaceCreated,
};

impl State {
    pub(super) fn create_workspace(&mut self, fact: &WorkspaceCreated) {
        self.saw(fact.id);
        self.saw(fact.general);
        self.tokens
            .insert(fact.key_hash.clone(), Owner::Workspace(fact.id));
        let mut w = Workspace {
            id: fact.id,
            name: fact.name.clone(),
            key_hash: fact.key_hash.clone(),
            created_at: fact.at,
            general: fact.general,
            ..Workspace::default()
        };
        w.create_channel(&Channel {
            id: fact.general,
            name: "general".into(),
            created_at: fact.at,
            ..Channel::default()
        });
        self.workspaces.insert(fact.id, w);
    }

    pub(super) fn change_workspace(&mut self, fact: &WorkspaceChanged) {
        self.with(fact.ws, |w| {
            set(&mut w.name, fact.name.as_ref());
            set(&mut w.system_prompt, fact.system_prompt.as_ref());
            set(&mut w.metadata, fact.metadata.as_ref());
        });
    }

    pub(super) fn delete_workspace(&mut self, ws: Id) {
        self.workspaces.remove(&ws);
        self.tokens.retain(|_, owner| owner_workspace(owner) != ws);
    }

    pub(super) fn register_agent(&mut self, ws: Id, agent: &Agent) {
        self.saw(agent.id);
        self.tokens
            .insert(agent.token_hash.clone(), Owner::Agent(ws, agent.id));
        self.with(ws, |w| w.register(agent));
    }

    pub(super) fn change_agent(&mut self, fact: &AgentChanged) {
        self.agent(fact.ws, fact.agent, |a| {
            set(&mut a.status, fact.status.as_ref());
            set(&mut a.persona, fact.persona.as_ref());
            set(&mut a.metadata, fact.metadata.as_ref());
        });
    }

    pub(super) fn delete_agent(&mut self, ws: Id, agent: Id) {
        if let Some(w) = self.workspaces.get_mut(&ws) {
            for hash in w.delete_agent(agent) {
                self.tokens.remove(&hash);
            }
        }
    }

    pub(super) fn bind_agent(&mut self, fact: &AgentBound) {
        self.agent(fact.ws, fact.agent, |a| {
            a.node.clone_from(&fact.node);
            if !a.is_direct() {
                a.last_node.clone_from(&fact.node);
            }
            a.provider.clone_from(&fact.provider);
            a.session_ref.clone_from(&fact.session_ref);
            a.priority = fact.priority;
            a.bound_at = Some(fact.at);
        });
    }

    pub(super) fn unbind_agent(&mut self, ws: Id, agent: Id) {
        self.agent(ws, agent, go_home);
    }

    pub(super) fn set_origin(&mut self, ws: Id, agent: Id, node: &str) {
        self.agent(ws, agent, |a| {
            a.origin.get_or_insert_with(|| node.to_owned());
        });
    }

    pub(super) fn create_node(&mut self, ws: Id, node: &Node) {
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

    pub(super) fn describe_node(&mut self, fact: &NodeDescribed) {
        self.node(fact.ws, &fact.node, |n| {
            n.name.clone_from(&fact.name);
            n.tags.clone_from(&fact.tags);
            n.version.clone_from(&fact.version);
            let described = NodeProvider {
                capabilities: fact.capabilities.clone(),
                max_agents: fact.max_agents,
            };
            n.providers.insert(fact.provider.clone(), described);
        });
    }

    pub(super) fn remove_provider(&mut self, ws: Id, node: &str, provider: &str) {
        self.node(ws, node, |n| {
            n.providers.remove(provider);
        });
    }

    fn node(&mut self, ws: Id, node: &str, change: impl FnOnce(&mut Node)) {
        self.with(ws, |w| {
            if let Some(n) = w.nodes.get_mut(node) {
                change(n);
            }
        });
    }

    pub(super) fn delete_node(&mut self, ws: Id, node: &str) {
        let workspace = self.workspaces.get_mut(&ws);
        if let Some(hash) = workspace.and_then(|w| w.delete_node(node)) {
            self.tokens.remove(&hash);
        }
    }

    pub(super) fn save_observer(&mut self, ws: Id, observer: &Observer) {
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

    pub(super) fn issue(&mut self, owner: &Owner, hash: &str) {
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

fn owner_workspace(owner: &Owner) -> Id {
    match owner {
        Owner::Workspace(ws)
        | Owner::Agent(ws, _)
        | Owner::Node(ws, _)
        | Owner::Observer(ws, _) => *ws,
    }
}

/// The agent is back on its direct node.
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
}
