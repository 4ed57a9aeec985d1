//! Frames from nodes ([engine-protocol 3](crate::docs::engine_protocol#3)), and what nodes say of themselves; `frames_agents`
//! has the rest. Tolerant of unknown keys; a broken frame is answered, never punished with a close.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::actions::is_action;
use super::core::Effect;
use super::directory::{DEFAULT_PROVIDER, Id, Provider};
use super::frames_agents::Claim;
use super::live::{Attachment, ConnId, Ready, Role};
use super::record::EngineRecord;
use super::strict;
use super::turn::Turn;
use super::views::provider_name;
use crate::wire::Parsed;
use crate::wire::WireError;
use crate::wire::down::{Down, EngineReply, ErrorFrame};
use crate::wire::up::{Capability, NodeHeartbeat, NodeRegister, Up};

/// Announces that the node keeps cursors: its agents' mail flows only once they are named
/// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4), [4.4](crate::docs::engine_protocol#4.4)).
pub const CURSOR_CAPABILITY: &str = "relay:delivery-cursor-v1";

/// What engines from 8.9 promise of registrations ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)).
const CONTRACT: &str = "relay:node-registration-v1";

/// A registered connection.
#[derive(Clone, Debug)]
pub struct Here {
    pub conn: ConnId,
    pub ws: Id,
    pub node: String,
    pub provider: String,
}

/// How a provider is connected.
struct Manner {
    instance: String,
    handlers: bool,
    cursor: bool,
    direct: bool,
}

/// A frame's failure: code and words.
pub type Failure = (&'static str, String);

pub fn failure<T>(code: &'static str, message: impl Into<String>) -> Result<T, Failure> {
    Err((code, message.into()))
}

impl Turn<'_> {
    /// Takes one text message from a node.
    pub fn node_frame(&mut self, conn: ConnId, text: &str) {
        self.note_heard(conn);
        if let Some(age) = self.core.behaviour.strict
            && let Err(why) = strict::check(age, text)
        {
            return self.complain(conn, None, "invalid_message", &why);
        }
        let frame = match Up::parse(text) {
            Ok(Parsed::Known(frame)) => frame,
            Ok(Parsed::Unknown { kind, frame }) => {
                let id = frame.get("id").and_then(Value::as_str);
                return match (kind.as_str(), self.here(conn)) {
                    ("node.spawn", Some(here)) => self.node_spawn(&here, id, &frame),
                    _ => self.complain(
                        conn,
                        id,
                        "invalid_message",
                        &format!("Unknown frame type {kind}"),
                    ),
                };
            }
            Err(error) => {
                let id = match &error {
                    WireError::Broken { id, .. } if self.core.behaviour.strict.is_none() => {
                        id.clone()
                    }
                    _ => None,
                };
                let why = error.to_string();
                return self.complain(conn, id.as_deref(), "invalid_message", &why);
            }
        };
        if let Up::NodeRegister(register) = &frame {
            return self.node_register(conn, register);
        }
        let Some(here) = self.here(conn) else {
            let id = request_id(&frame);
            return self.complain(conn, id, "invalid_message", "Send node.register first");
        };
        match &frame {
            Up::NodeRegister(_) => {}
            Up::NodeHeartbeat(f) => self.heartbeat(&here, f),
            Up::NodeDeregister(_) => self.node_deregister(&here),
            Up::AgentRegister(f) => self.agent_register(&here, &Claim::of_register(f), None),
            Up::AgentRecover(f) => {
                let expected = f.expected_agent_id.as_str();
                self.agent_register(&here, &Claim::of_recover(f), Some(expected));
            }
            Up::AgentDeregister(f) => self.agent_deregister(&here, f),
            Up::DeliveryAck(f) => self.delivery_ack(&here, f),
            Up::ActionResult(f) => {
                self.action_result(&here, f.invocation_id.as_str(), &f.outcome);
            }
            Up::InventorySync(f) => self.inventory_sync(&here, f),
        }
    }

    /// The connection's place, once it registered and while nobody superseded it.
    fn here(&self, conn: ConnId) -> Option<Here> {
        let open = self.core.live.conns.get(&conn)?;
        match &open.role {
            Role::Node {
                node,
                provider: Some(provider),
            } => Some(Here {
                conn,
                ws: open.ws,
                node: node.clone(),
                provider: provider.clone(),
            }),
            _ => None,
        }
    }

    /// A provider that speaks keeps its place; see [`Self::holds_its_place`].
    fn note_heard(&mut self, conn: ConnId) {
        let now = self.now.mono;
        if let Some(here) = self.here(conn)
            && let Some(a) = self.core.live.get_mut(here.ws, &here.node, &here.provider)
        {
            a.heard = now;
        }
    }

    /// Whether another instance of the provider is connected and not silent
    /// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4), `node.register`).
    fn holds_its_place(&self, here: &Here, instance: &str) -> bool {
        let other = self.core.live.get(here.ws, &here.node, &here.provider);
        self.core.behaviour.keeps_instance
            && other.is_some_and(|a| {
                a.conn != here.conn
                    && a.instance != instance
                    && self.now.mono.since(a.heard) <= super::limits::INSTANCE
            })
    }

    /// Closes the sockets that a node had before it opened another one. Its place is kept for that one to register.
    pub fn close_older(&mut self, ws: Id, role: &Role) {
        let Role::Node { node: new, .. } = role else {
            return;
        };
        let mut older = Vec::new();
        for (id, open) in &mut self.core.live.conns {
            if let Role::Node { node, provider } = &mut open.role
                && open.ws == ws
                && node == new
            {
                *provider = None;
                older.push(*id);
            }
        }
        for conn in older {
            self.supersede(conn);
        }
    }

    fn supersede(&mut self, conn: ConnId) {
        self.effect(Effect::Close {
            conn,
            code: self.core.behaviour.superseded_code,
            reason: "superseded",
        });
    }

    fn frame_id(&mut self, id: Option<&str>) -> String {
        id.map_or_else(|| format!("eng_{}", self.fresh_id()), str::to_owned)
    }

    pub fn reply(&mut self, conn: ConnId, id: Option<&str>, data: Value) {
        let id = self.frame_id(id);
        self.push(conn, &Down::Reply(EngineReply { id, ok: true, data }));
    }

    pub fn complain(&mut self, conn: ConnId, id: Option<&str>, code: &str, message: &str) {
        let in_words = self.core.behaviour.conflict_in_words && code == "agent_location_conflict";
        let code = if in_words {
            "node_control_failed"
        } else {
            code
        };
        let frame = Down::Error(ErrorFrame {
            id: self.frame_id(id),
            ok: false,
            code: code.to_owned(),
            message: message.to_owned(),
        });
        self.push(conn, &frame);
    }

    fn node_register(&mut self, conn: ConnId, f: &NodeRegister) {
        if let Err((code, message)) = self.try_node_register(conn, f) {
            self.complain(conn, f.id.as_deref(), code, &message);
        }
    }

    /// Which place a registration is for, under which name, and whether that is a direct node's; `None` when the socket is
    /// gone.
    fn registering(
        &self,
        conn: ConnId,
        f: &NodeRegister,
    ) -> Result<Option<(Here, String, bool)>, Failure> {
        let Some(open) = self.core.live.conns.get(&conn) else {
            return Ok(None);
        };
        let Role::Node { node, .. } = &open.role else {
            return Ok(None);
        };
        if f.node_id.as_str() != node {
            return failure(
                "node_id_mismatch",
                format!("This token belongs to node {node}"),
            );
        }
        let w = self.core.state.workspaces.get(&open.ws);
        let Some(stored) = w.and_then(|w| w.nodes.get(node)) else {
            return failure("node_not_found", format!("Node {node} does not exist"));
        };
        let direct = stored.is_direct();
        // A direct node is named after its agent, whatever its client says.
        let name = if direct { &stored.name } else { &f.name }.clone();
        if w.is_some_and(|w| w.nodes.values().any(|n| n.name == name && n.id != *node)) {
            return failure(
                "node_name_conflict",
                format!("The name \"{name}\" belongs to another node"),
            );
        }
        let here = Here {
            conn,
            ws: open.ws,
            node: node.clone(),
            provider: provider_name(f.provider.as_ref()),
        };
        Ok(Some((here, name, direct)))
    }

    fn try_node_register(&mut self, conn: ConnId, f: &NodeRegister) -> Result<(), Failure> {
        let Some((here, name, direct)) = self.registering(conn, f)? else {
            return Ok(());
        };
        let ws = here.ws;
        let instance = f.provider.as_ref().map(|p| p.instance_id.clone());
        let instance = instance.unwrap_or_else(|| format!("c{conn}"));
        if self.holds_its_place(&here, &instance) {
            return failure(
                "provider_instance_conflict",
                format!(
                    "Another instance of provider \"{}\" is connected",
                    here.provider
                ),
            );
        }
        if !direct {
            self.check_names(&here, &f.capabilities)?;
        }
        // One connection is one provider: what it was before, it is no longer.
        if let Some(before) = self.here(conn).filter(|b| b.provider != here.provider) {
            self.node_lost(ws, &here.node, &before.provider);
        }
        let accepted = self.accept(&here, &f.capabilities, direct);
        let capabilities: Vec<Capability> = f
            .capabilities
            .iter()
            .zip(&accepted)
            .filter(|(_, a)| a["accepted"] == true && !direct)
            .map(|(c, _)| c.clone())
            .collect();
        let handlers_live = capabilities.iter().any(|c| !c.name.starts_with("relay:"));
        let cursor = self.core.behaviour.cursor
            && !direct
            && capabilities.iter().any(|c| c.name == CURSOR_CAPABILITY);
        let max_agents = if direct { 1 } else { f.max_agents };
        self.describe(
            &here,
            &name,
            Some(&f.tags),
            &f.version,
            capabilities,
            max_agents,
        );
        let manner = Manner {
            instance: instance.clone(),
            handlers: handlers_live,
            cursor,
            direct,
        };
        self.attach(&here, manner);

        let data = self.registration(&here, &instance, &accepted);
        self.reply(conn, f.id.as_deref(), data);
        self.resend(ws, &here.node, &here.provider, conn);
        self.place_waiting(ws);
        self.flush_connection(conn);
        Ok(())
    }

    /// The roster entry of a node that registered, and what engines of later times say with it.
    fn registration(&self, here: &Here, instance: &str, accepted: &[Value]) -> Value {
        let view = self
            .core
            .state
            .workspaces
            .get(&here.ws)
            .and_then(|w| w.nodes.get(&here.node))
            .map(|n| self.core.node_view(here.ws, n, self.now));
        let mut data = Value::Object(view.unwrap_or_default());
        if self.core.behaviour.providers {
            data["provider"] = json!({"name": here.provider, "instance_id": instance});
            data["accepted_capabilities"] = json!(accepted);
        }
        if self.core.behaviour.contract {
            data["registration_contract"] = json!(CONTRACT);
        }
        data
    }

    /// One verdict per advertised name ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)). An action that another
    /// connected provider offers under the same name is refused; everything else is taken.
    fn accept(&self, here: &Here, capabilities: &[Capability], direct: bool) -> Vec<Value> {
        capabilities
            .iter()
            .map(|c| {
                let kind = if is_action(c) { "action" } else { "capacity" };
                if !direct && self.is_claimed(here, c) {
                    return json!({
                        "name": c.name, "kind": kind, "accepted": false, "reason": "action_name_conflict",
                    });
                }
                json!({"name": c.name, "kind": kind, "accepted": true})
            })
            .collect()
    }

    /// Engines that play an age accept all or refuse the whole registration; see [`Self::check_names`].
    fn is_claimed(&self, here: &Here, c: &Capability) -> bool {
        self.core.behaviour.strict.is_none()
            && self
                .claimants(here, c)
                .any(|(node, provider)| self.core.live.get(here.ws, node, provider).is_some())
    }

    /// Other providers that offer an action of that name where both would answer to it: on the same node, or to the whole
    /// workspace.
    fn claimants<'a>(
        &'a self,
        here: &'a Here,
        c: &'a Capability,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let to_all =
            |provider: &str, c: &Capability| provider == DEFAULT_PROVIDER || c.global == Some(true);
        let w = self
            .core
            .state
            .workspaces
            .get(&here.ws)
            .filter(|_| is_action(c));
        let nodes = w.into_iter().flat_map(|w| w.nodes.values());
        let providers = nodes.flat_map(|n| n.providers.iter().map(move |(name, p)| (n, name, p)));
        providers
            .filter(|(n, name, _)| n.id != here.node || **name != here.provider)
            .filter(move |(n, name, p)| {
                let mut same = p
                    .capabilities
                    .iter()
                    .filter(|o| o.name == c.name && is_action(o));
                same.any(|o| n.id == here.node || (to_all(name, o) && to_all(&here.provider, c)))
            })
            .map(|(n, name, _)| (n.id.as_str(), name.as_str()))
    }

    /// In engines that play an age: names that are taken refuse the whole registration. The provider that was there before
    /// there were any, `default`, steps back instead where another node had the name first
    /// ([engine-protocol 3.11](crate::docs::engine_protocol#3.11)).
    fn check_names(&self, here: &Here, capabilities: &[Capability]) -> Result<(), Failure> {
        if self.core.behaviour.strict.is_none() {
            return Ok(());
        }
        for c in capabilities.iter().filter(|c| is_action(c)) {
            let named = here.provider != DEFAULT_PROVIDER;
            let mut claimants = self.claimants(here, c);
            if let Some((_, provider)) = claimants.find(|(node, _)| named || *node == here.node) {
                let why = format!(
                    "Action \"{}\" is already registered by provider \"{provider}\"",
                    c.name
                );
                return failure("action_name_conflict", why);
            }
            let w = self.core.state.workspaces.get(&here.ws);
            let of_agent = w
                .and_then(|w| w.actions.get(&c.name)?.handler_agent)
                .is_some();
            if named && c.global == Some(true) && of_agent {
                let why = format!("Action \"{}\" is already registered as an agent's", c.name);
                return failure("action_name_conflict", why);
            }
        }
        Ok(())
    }

    /// Remembers what a provider says of itself, if it is news: reconnecting costs no write.
    fn describe(
        &mut self,
        here: &Here,
        name: &str,
        tags: Option<&[String]>,
        version: &str,
        capabilities: Vec<Capability>,
        max_agents: u64,
    ) {
        let stored = self
            .core
            .state
            .workspaces
            .get(&here.ws)
            .and_then(|w| w.nodes.get(&here.node));
        let Some(stored) = stored else {
            return;
        };
        let tags = tags.unwrap_or(&stored.tags);
        let described = Provider {
            capabilities,
            max_agents,
        };
        if stored.name == name
            && stored.tags == tags
            && stored.version == version
            && stored.providers.get(&here.provider) == Some(&described)
        {
            return;
        }
        let record = EngineRecord::NodeDescribed {
            ws: here.ws,
            node: here.node.clone(),
            name: name.to_owned(),
            tags: tags.to_vec(),
            version: version.to_owned(),
            provider: here.provider.clone(),
            capabilities: described.capabilities,
            max_agents,
        };
        self.record(record);
    }

    /// Makes this connection the provider's, in place of any older one
    /// ([engine-protocol 3.8](crate::docs::engine_protocol#3.8)).
    fn attach(&mut self, here: &Here, manner: Manner) {
        let Manner { cursor, direct, .. } = manner;
        self.look_at_mail();
        let old = self.core.live.detach(here.ws, &here.node, &here.provider);
        if let Some(old) = &old
            && old.conn != here.conn
        {
            // It is no longer the node's, so that its end takes nothing offline.
            if let Some(open) = self.core.live.conns.get_mut(&old.conn)
                && let Role::Node { provider, .. } = &mut open.role
            {
                *provider = None;
            }
            self.supersede(old.conn);
        }
        let was_listed = |id: Id| {
            old.as_ref()
                .and_then(|o| o.ready.get(&id))
                .is_some_and(|r| r.listed)
        };
        let mut ready = BTreeMap::new();
        let mut woken = Vec::new();
        if let Some(w) = self.core.state.workspaces.get(&here.ws)
            && !cursor
        {
            for a in w.agents_on(&here.node) {
                if a.provider != here.provider {
                    continue;
                }
                let sent = w.mailboxes.get(&a.id).map_or(0, |m| m.acked());
                let listed = direct || was_listed(a.id);
                ready.insert(a.id, Ready { sent, listed });
                if direct && !self.core.live.is_online(here.ws, a, self.now.mono) {
                    woken.push(a.name.clone());
                }
            }
        }
        let attachment = Attachment {
            conn: here.conn,
            beat: self.now.mono,
            beat_at: self.now.wall,
            heard: self.now.mono,
            instance: manner.instance,
            load: 0.0,
            active: if direct { 1 } else { 0 },
            handlers_live: manner.handlers,
            cursor,
            stale: false,
            ready,
        };
        self.core
            .live
            .attach(here.ws, &here.node, &here.provider, attachment);
        if let Some(open) = self.core.live.conns.get_mut(&here.conn)
            && let Role::Node { provider, .. } = &mut open.role
        {
            *provider = Some(here.provider.clone());
        }
        self.core
            .remind(self.now.mono, super::limits::LIVENESS + super::sweep::GRACE);
        for name in woken {
            self.announce_presence(here.ws, &name, true);
        }
    }

    fn heartbeat(&mut self, here: &Here, f: &NodeHeartbeat) {
        if f.node_id
            .as_ref()
            .is_some_and(|id| id.as_str() != here.node)
        {
            let why = format!("This token belongs to node {}", here.node);
            return self.complain(here.conn, None, "node_id_mismatch", &why);
        }
        if f.capabilities.is_some() || f.max_agents.is_some() || f.version.is_some() {
            self.refresh(here, f);
        }
        let (now, ws) = (self.now, here.ws);
        let Some(a) = self.core.live.get_mut(ws, &here.node, &here.provider) else {
            return;
        };
        a.beat = now.mono;
        a.beat_at = now.wall;
        a.load = f.load.filter(|l| l.is_finite()).unwrap_or(0.0).max(0.0);
        a.active = f.active_agents;
        a.handlers_live = f.handlers_live;
        let back = std::mem::take(&mut a.stale);
        let listed: Vec<Id> = a
            .ready
            .iter()
            .filter(|(_, r)| back && r.listed)
            .map(|(id, _)| *id)
            .collect();
        for agent in listed {
            if let Some(name) = self.agent(ws, agent).map(|a| a.name.clone()) {
                self.announce_presence(ws, &name, true);
            }
        }
        self.core
            .remind(now.mono, super::limits::LIVENESS + super::sweep::GRACE);
        self.place_waiting(ws);
    }

    /// Takes over what a heartbeat repeats of the registration.
    fn refresh(&mut self, here: &Here, f: &NodeHeartbeat) {
        let stored = self
            .core
            .state
            .workspaces
            .get(&here.ws)
            .and_then(|w| w.nodes.get(&here.node));
        let Some(stored) = stored.filter(|n| !n.is_direct()) else {
            return;
        };
        let known = stored
            .providers
            .get(&here.provider)
            .cloned()
            .unwrap_or_default();
        let version = f.version.clone().unwrap_or_else(|| stored.version.clone());
        let name = stored.name.clone();
        let mut capabilities = f.capabilities.clone().unwrap_or(known.capabilities.clone());
        capabilities.retain(|c| !self.is_claimed(here, c));
        if !known.capabilities.is_empty()
            && !capabilities.iter().any(|c| c.name == CURSOR_CAPABILITY)
        {
            // Negotiated once per connection; heartbeats that leave it out do not take it back.
            let cursor = known
                .capabilities
                .iter()
                .find(|c| c.name == CURSOR_CAPABILITY);
            capabilities.extend(cursor.cloned());
        }
        let max_agents = f.max_agents.unwrap_or(known.max_agents);
        self.describe(here, &name, None, &version, capabilities, max_agents);
    }

    /// The provider that was there before there were any keeps what it offers, for what may wait for it.
    fn node_deregister(&mut self, here: &Here) {
        if here.provider == DEFAULT_PROVIDER {
            self.leave_place(here.ws, &here.node, &here.provider);
        } else {
            self.provider_leaves(here.ws, &here.node, &here.provider);
        }
    }

    /// A provider goes, and with it what it offers.
    pub fn provider_leaves(&mut self, ws: Id, node: &str, provider: &str) {
        self.leave_place(ws, node, provider);
        self.record(EngineRecord::ProviderRemoved {
            ws,
            node: node.to_owned(),
            provider: provider.to_owned(),
        });
    }

    fn leave_place(&mut self, ws: Id, node: &str, provider: &str) {
        let conn = self.core.live.get(ws, node, provider).map(|a| a.conn);
        if let Some(open) = conn.and_then(|conn| self.core.live.conns.get_mut(&conn))
            && let Role::Node { provider, .. } = &mut open.role
        {
            *provider = None;
        }
        self.node_lost(ws, node, provider);
    }

    /// A provider is gone: its agents are offline and its work goes elsewhere
    /// ([engine-protocol 5.3](crate::docs::engine_protocol#5.3), [6](crate::docs::engine_protocol#6)).
    pub fn node_lost(&mut self, ws: Id, node: &str, provider: &str) {
        let Some(gone) = self.core.live.detach(ws, node, provider) else {
            return;
        };
        self.look_at_mail();
        for (agent, ready) in gone.ready {
            self.core.live.forget(ws, agent);
            let name = self.agent(ws, agent).map(|a| a.name.clone());
            if let Some(name) = name.filter(|_| ready.listed && !gone.stale) {
                self.announce_presence(ws, &name, false);
            }
        }
        self.requeue_node(ws, node, provider);
    }
}

fn request_id(frame: &Up) -> Option<&str> {
    match frame {
        Up::NodeRegister(f) => f.id.as_deref(),
        Up::AgentRegister(f) => f.id.as_deref(),
        Up::AgentRecover(f) => f.id.as_deref(),
        Up::AgentDeregister(f) => f.id.as_deref(),
        Up::InventorySync(f) => f.id.as_deref(),
        Up::NodeHeartbeat(_) | Up::NodeDeregister(_) | Up::DeliveryAck(_) | Up::ActionResult(_) => {
            None
        }
    }
}
