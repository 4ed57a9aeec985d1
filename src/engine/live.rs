//! What is connected right now: sockets, which node's provider each of them is, and which agents' mail flows over it. All
//! of it is gone after a restart and comes back as clients reconnect. Liveness is computed when asked, never stored.

use std::collections::{BTreeMap, HashMap};

use super::directory::Agent;
use super::id::Id;
use super::limits;
use crate::time::{Mono, Now, Wall};

/// One WebSocket connection.
pub type ConnId = u64;

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `/v1/node/ws`; the provider is known once it registered, and forgotten again when it is superseded.
    Node {
        node: String,
        provider: Option<String>,
    },
    /// `/v1/ws`; `None` for the workspace key itself.
    Stream { observer: Option<Id> },
}

/// One open connection.
#[derive(Clone, Debug)]
pub struct Conn {
    pub ws: Id,
    pub role: Role,
    /// How many more `deliver` frames may be on their way to it.
    pub credit: u32,
}

/// An agent whose mail flows over an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Rows up to here were sent over this attachment since the last registration or sync.
    pub sent: u64,
    /// The node said that it runs; before that the mail flows, but the agent is not shown online.
    pub listed: bool,
}

/// A registered provider of a node.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub conn: ConnId,
    pub beat: Mono,
    pub beat_at: Wall,
    /// Its last frame of any kind.
    pub heard: Mono,
    /// Which process, or which connection, goes by the provider's name.
    pub instance: String,
    pub load: f64,
    pub active: u64,
    pub handlers_live: bool,
    /// It negotiated the delivery cursor: nothing flows before an agent is named
    /// ([engine-protocol 4.4](crate::docs::engine_protocol#4.4)).
    pub cursor: bool,
    /// It fell silent and this was said; the next heartbeat takes it back.
    pub stale: bool,
    pub ready: BTreeMap<Id, Ready>,
}

impl Attachment {
    /// Whether its last heartbeat is recent enough.
    pub fn is_live(&self, now: Mono) -> bool {
        now.since(self.beat) <= limits::LIVENESS
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Live {
    pub conns: BTreeMap<ConnId, Conn>,
    /// Ordered, so that the same events always have the same effects.
    attached: BTreeMap<(Id, String), BTreeMap<String, Attachment>>,
    /// Agents' own HTTP heartbeats.
    seen: HashMap<(Id, Id), (Mono, Wall)>,
    last: ConnId,
}

impl Live {
    /// Takes a new connection in.
    pub fn open(&mut self, ws: Id, role: Role) -> ConnId {
        self.last += 1;
        let conn = Conn {
            ws,
            role,
            credit: limits::CREDIT,
        };
        self.conns.insert(self.last, conn);
        self.last
    }

    /// The providers of a node that are connected.
    pub fn providers(&self, ws: Id, node: &str) -> impl Iterator<Item = (&String, &Attachment)> {
        self.attached
            .get(&(ws, node.to_owned()))
            .into_iter()
            .flatten()
    }

    /// One provider's attachment.
    pub fn get(&self, ws: Id, node: &str, provider: &str) -> Option<&Attachment> {
        self.attached.get(&(ws, node.to_owned()))?.get(provider)
    }

    /// One provider's attachment.
    pub fn get_mut(&mut self, ws: Id, node: &str, provider: &str) -> Option<&mut Attachment> {
        self.attached
            .get_mut(&(ws, node.to_owned()))?
            .get_mut(provider)
    }

    /// Attaches a provider and returns what it replaces.
    pub fn attach(
        &mut self,
        ws: Id,
        node: &str,
        provider: &str,
        attachment: Attachment,
    ) -> Option<Attachment> {
        self.attached
            .entry((ws, node.to_owned()))
            .or_default()
            .insert(provider.to_owned(), attachment)
    }

    /// Detaches a provider.
    pub fn detach(&mut self, ws: Id, node: &str, provider: &str) -> Option<Attachment> {
        let key = (ws, node.to_owned());
        let providers = self.attached.get_mut(&key)?;
        let gone = providers.remove(provider);
        if providers.is_empty() {
            self.attached.remove(&key);
        }
        gone
    }

    /// The attachment an agent's mail flows over, if it does.
    pub fn of(&self, ws: Id, agent: &Agent) -> Option<(&Attachment, Ready)> {
        let attachment = self.get(ws, &agent.node, &agent.provider)?;
        Some((attachment, *attachment.ready.get(&agent.id)?))
    }

    /// Stops an agent's mail wherever it flows.
    pub fn unready(&mut self, ws: Id, agent: Id) {
        for ((w, _), providers) in &mut self.attached {
            if *w == ws {
                for attachment in providers.values_mut() {
                    attachment.ready.remove(&agent);
                }
            }
        }
    }

    /// Whether a live node says that the agent runs on it.
    pub fn is_running(&self, ws: Id, agent: &Agent, now: Mono) -> bool {
        self.of(ws, agent)
            .is_some_and(|(a, ready)| ready.listed && a.is_live(now))
    }

    /// Whether the agent counts as online: it runs, or it said so itself lately.
    pub fn is_online(&self, ws: Id, agent: &Agent, now: Mono) -> bool {
        self.is_running(ws, agent, now)
            || self
                .seen
                .get(&(ws, agent.id))
                .is_some_and(|(at, _)| now.since(*at) <= limits::PRESENCE)
    }

    /// The agent itself said that it is there.
    pub fn saw(&mut self, ws: Id, agent: Id, now: Now) {
        self.seen.insert((ws, agent), (now.mono, now.wall));
    }

    /// The agent itself said that it leaves, or was taken offline.
    pub fn forget(&mut self, ws: Id, agent: Id) {
        self.seen.remove(&(ws, agent));
    }

    /// When the agent was last heard of.
    pub fn last_seen(&self, ws: Id, agent: &Agent) -> Option<Wall> {
        let beat = self.of(ws, agent).map(|(a, _)| a.beat_at);
        beat.max(self.seen.get(&(ws, agent.id)).map(|(_, at)| *at))
    }

    /// Every attachment, with its workspace, node and provider.
    pub fn all(&self) -> impl Iterator<Item = (Id, &str, &str, &Attachment)> {
        self.attached.iter().flat_map(|((ws, node), providers)| {
            providers
                .iter()
                .map(move |(name, a)| (*ws, node.as_str(), name.as_str(), a))
        })
    }

    /// Drops all that belongs to a workspace and returns its connections.
    pub fn drop_workspace(&mut self, ws: Id) -> Vec<ConnId> {
        self.attached.retain(|(w, _), _| *w != ws);
        self.seen.retain(|(w, _), _| *w != ws);
        let gone: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, c)| c.ws == ws)
            .map(|(id, _)| *id)
            .collect();
        gone
    }
}

/// A registered connection.
#[derive(Clone, Debug)]
pub struct Here {
    pub conn: ConnId,
    pub ws: Id,
    pub node: String,
    pub provider: String,
}

/// What is known of it in this life.
#[derive(Debug, Default)]
pub struct Absent {
    /// From when on the waiting of an agent's mail is not written down yet.
    pub since: BTreeMap<(Id, Id), Mono>,
    /// To whom a row of an agent's mail was handed, which, and when. One at a time, so that its acknowledgement says nothing
    /// of another.
    pub handed: BTreeMap<(Id, Id), (ConnId, u64, Mono)>,
}
