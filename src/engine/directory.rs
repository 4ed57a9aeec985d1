//! Who and what exists: workspaces, agents, nodes, channels, observers and whose token is whose. Plain data and look-ups;
//! it is changed by `apply` alone and knows nothing of sockets or time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::history::History;
use super::id::{Id, digest};
use super::invocation::{Action, Invocation};
use super::mailbox::Mailbox;
use super::stored::KeptCapabilities;
use crate::time::Wall;
use crate::wire::up::Capability;

/// The provider of a node that names none ([engine-protocol 3.7](crate::docs::engine_protocol#3.7)).
pub const DEFAULT_PROVIDER: &str = "default";

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Owner {
    /// A workspace key.
    Workspace(Id),
    /// An agent of a workspace.
    Agent(Id, Id),
    /// A node of a workspace.
    Node(Id, String),
    /// A read-only token of a workspace.
    Observer(Id, Id),
}

/// Everything durable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The highest id given out.
    pub last_id: Id,
    /// By id.
    pub workspaces: BTreeMap<Id, Workspace>,
    /// Digest to owner; rebuilt from the owners.
    #[serde(skip)]
    pub tokens: HashMap<String, Owner>,
}

/// One workspace and all in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workspace {
    pub id: Id,
    pub name: String,
    pub key_hash: String,
    pub created_at: Wall,
    pub system_prompt: Option<String>,
    pub metadata: Map<String, Value>,
    /// The channel every agent joins.
    pub general: Id,
    pub agents: BTreeMap<Id, Agent>,
    pub nodes: BTreeMap<String, Node>,
    pub channels: BTreeMap<Id, Channel>,
    pub history: History,
    pub mailboxes: BTreeMap<Id, Mailbox>,
    pub actions: BTreeMap<String, Action>,
    pub invocations: BTreeMap<String, Invocation>,
    /// Ids of finished invocations, oldest first.
    pub finished: std::collections::VecDeque<String>,
    pub observers: BTreeMap<Id, Observer>,
    /// Rebuilt, as all that follows.
    #[serde(skip)]
    pub agent_names: HashMap<String, Id>,
    #[serde(skip)]
    pub channel_names: HashMap<String, Id>,
    #[serde(skip)]
    pub conversations: HashMap<String, Id>,
    /// Unfinished invocations.
    #[serde(skip)]
    pub open: BTreeSet<String>,
}

/// One agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    pub id: Id,
    pub name: String,
    /// `agent`, `human` or `system`.
    pub kind: String,
    pub persona: Option<String>,
    /// What it says of itself; shown while it is online.
    pub status: String,
    pub metadata: Map<String, Value>,
    pub capabilities: Value,
    pub token_hash: String,
    /// Where it lives.
    pub node: String,
    /// The broker's node that it lived on last; empty for none.
    #[serde(default)]
    pub last_node: String,
    pub provider: String,
    pub session_ref: Option<String>,
    pub priority: i64,
    pub bound_at: Option<Wall>,
    /// The first node that had it, for ever: the one that may have it back. A takeover changes nothing here.
    #[serde(default)]
    pub origin: Option<String>,
    pub created_at: Wall,
}

/// The id of an agent's implicit direct node ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).
pub fn direct_node(agent: Id) -> String {
    format!("node_direct_{agent}")
}

impl Agent {
    /// Whether it lives on its own direct node.
    pub fn is_direct(&self) -> bool {
        self.node == direct_node(self.id)
    }
}

/// One provider of a node, as it last registered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeProvider {
    #[serde(with = "KeptCapabilities")]
    pub capabilities: Vec<Capability>,
    /// 0 for no limit.
    pub max_agents: u64,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub id: String,
    pub name: String,
    pub kind: String,
    /// `direct` or `broker`.
    pub role: String,
    pub machine_id: Option<String>,
    pub tags: Vec<String>,
    pub version: String,
    pub token_hash: Option<String>,
    pub created_at: Wall,
    pub providers: BTreeMap<String, NodeProvider>,
}

impl Node {
    /// Whether it is the implicit node of one agent.
    pub fn is_direct(&self) -> bool {
        self.role == "direct"
    }

    /// What all its providers together can do, each name once.
    pub fn capabilities(&self) -> Vec<&Capability> {
        let mut seen = BTreeSet::new();
        self.providers
            .values()
            .flat_map(|p| &p.capabilities)
            .filter(|c| seen.insert(c.name.as_str()))
            .collect()
    }

    /// Who serves a capability of that name: a provider that offers it as an action before one that only has room for it,
    /// so that a policy for spawns stands before those who start them.
    pub fn serving(&self, name: &str) -> Option<(&str, &Capability)> {
        self.offering(name, true)
            .or_else(|| self.offering(name, false))
    }

    /// The first provider that has a capability of that name, as an action by its own word or not.
    pub fn offering(&self, name: &str, as_action: bool) -> Option<(&str, &Capability)> {
        let fits =
            |c: &&Capability| c.name == name && (c.kind.as_deref() == Some("action")) == as_action;
        let mut providers = self.providers.iter();
        providers
            .find_map(|(provider, p)| Some((provider.as_str(), p.capabilities.iter().find(fits)?)))
    }

    /// The provider that serves that capability.
    pub fn provider_of(&self, capability: &str) -> Option<&str> {
        self.serving(capability).map(|(provider, _)| provider)
    }

    /// The sum over its providers ([engine-protocol 6](crate::docs::engine_protocol#6)); 0 for no limit.
    pub fn max_agents(&self) -> u64 {
        self.providers.values().map(|p| p.max_agents).sum()
    }
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelKind {
    /// Named, joined at will.
    #[default]
    Public,
    /// Behind a conversation of two.
    Direct,
    /// Behind a conversation of several.
    Group,
}

/// A member of a channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelMember {
    pub joined_at: Wall,
    pub muted: bool,
    pub last_read: Option<(Id, Wall)>,
}

/// One channel, or the back of one conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    pub id: Id,
    pub kind: ChannelKind,
    pub name: String,
    /// Only behind conversations.
    pub conversation: Option<String>,
    /// Only of groups.
    pub title: Option<String>,
    pub topic: Option<String>,
    pub metadata: Map<String, Value>,
    pub created_by: Option<Id>,
    pub created_at: Wall,
    pub archived: bool,
    pub members: BTreeMap<Id, ChannelMember>,
}

impl Channel {
    /// The id others see.
    pub fn public_id(&self) -> String {
        match &self.conversation {
            Some(conversation) => {
                let tail = conversation
                    .split_once('_')
                    .map_or(conversation.as_str(), |(_, tail)| tail);
                format!("dmch_{tail}")
            }
            None => self.id.to_string(),
        }
    }
}

/// A read-only token's record ([engine-protocol 2.8](crate::docs::engine_protocol#2.8)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observer {
    pub id: Id,
    pub name: String,
    pub description: Option<String>,
    pub scopes: Vec<String>,
    pub filters: Value,
    pub token_hash: String,
    pub expires_at: Option<String>,
    pub created_at: Wall,
    pub updated_at: Option<Wall>,
    pub revoked_at: Option<Wall>,
}

/// The conversation of two agents: the same for both, whoever speaks first
/// ([engine-protocol 2.5](crate::docs::engine_protocol#2.5)).
pub fn conversation_id(ws: Id, one: Id, other: Id) -> String {
    let (a, b) = (one.to_string(), other.to_string());
    let (a, b) = if a <= b { (a, b) } else { (b, a) };
    format!("dm_{}", &digest(&format!("{ws}:{a}:{b}"))[..24])
}

impl Workspace {
    /// The agent of that name.
    pub fn agent_named(&self, name: &str) -> Option<&Agent> {
        self.agents.get(self.agent_names.get(name)?)
    }

    /// The public channel of that name, with or without its `#`.
    pub fn channel_named(&self, name: &str) -> Option<&Channel> {
        self.channels
            .get(self.channel_names.get(name.trim_start_matches('#'))?)
    }

    /// The channel behind a conversation.
    pub fn conversation(&self, id: &str) -> Option<&Channel> {
        self.channels.get(self.conversations.get(id)?)
    }

    /// The node that has that name.
    pub fn bearer(&self, name: &str) -> Option<&Node> {
        self.nodes.values().find(|n| n.name == name)
    }

    /// The node of that name, or of that id.
    pub fn node_named(&self, name: &str) -> Option<&Node> {
        self.bearer(name).or_else(|| self.nodes.get(name))
    }

    /// Agents that live on a node, in order of their names.
    pub fn agents_on(&self, node: &str) -> Vec<&Agent> {
        let mut agents: Vec<_> = self.agents.values().filter(|a| a.node == node).collect();
        agents.sort_by(|a, b| a.name.cmp(&b.name));
        agents
    }

    /// Whom a message of `from` in `channel` goes to: every member but the speaker
    /// ([engine-protocol 4.1](crate::docs::engine_protocol#4.1)).
    pub fn recipients(&self, channel: Id, from: Id) -> Vec<Id> {
        self.channels.get(&channel).map_or_else(Vec::new, |c| {
            c.members.keys().copied().filter(|m| *m != from).collect()
        })
    }

    /// Which of its recipients have no room in their mailboxes for a message of that weight: by number, or because the
    /// mailboxes of the workspace hold too much together.
    pub fn overfull(&self, recipients: &[Id], weight: usize) -> Vec<Id> {
        let crowded = !self.history.has_room(weight);
        let full = |r: &Id| crowded || self.mailboxes.get(r).is_some_and(Mailbox::is_full);
        recipients.iter().copied().filter(full).collect()
    }

    /// Rebuilds what is derived after a snapshot was read.
    pub fn reindex(&mut self) {
        self.agent_names = self
            .agents
            .values()
            .map(|a| (a.name.clone(), a.id))
            .collect();
        self.channel_names = self
            .channels
            .values()
            .filter(|c| c.kind == ChannelKind::Public)
            .map(|c| (c.name.clone(), c.id))
            .collect();
        self.conversations = self
            .channels
            .values()
            .filter_map(|c| Some((c.conversation.clone()?, c.id)))
            .collect();
        self.open = self
            .invocations
            .values()
            .filter(|i| !i.is_over())
            .map(|i| i.id.clone())
            .collect();
        self.history
            .reindex(self.mailboxes.values().flat_map(Mailbox::messages));
    }
}

impl State {
    /// Rebuilds what is derived after a snapshot was read.
    pub fn reindex(&mut self) {
        self.tokens.clear();
        for ws in self.workspaces.values_mut() {
            ws.reindex();
            self.tokens
                .insert(ws.key_hash.clone(), Owner::Workspace(ws.id));
            for agent in ws.agents.values() {
                self.tokens
                    .insert(agent.token_hash.clone(), Owner::Agent(ws.id, agent.id));
            }
            for node in ws.nodes.values() {
                if let Some(hash) = &node.token_hash {
                    self.tokens
                        .insert(hash.clone(), Owner::Node(ws.id, node.id.clone()));
                }
            }
            for observer in ws.observers.values() {
                if observer.revoked_at.is_none() {
                    self.tokens.insert(
                        observer.token_hash.clone(),
                        Owner::Observer(ws.id, observer.id),
                    );
                }
            }
        }
    }

    /// The workspace of that name.
    pub fn workspace_named(&self, name: &str) -> Option<&Workspace> {
        self.workspaces.values().find(|w| w.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agents_share_one_conversation_whoever_speaks_first() {
        let id = conversation_id(1, 20, 3);
        assert_eq!(id, conversation_id(1, 3, 20));
        assert_ne!(id, conversation_id(2, 3, 20));
        assert_eq!(id.len(), "dm_".len() + 24);
    }
}
