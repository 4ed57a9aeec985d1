//! What nodes say of themselves: registration and its end ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::{FrameFailure, failure};
use crate::engine::capability::{CURSOR_CAPABILITY, is_action};
use crate::engine::directory::{DEFAULT_PROVIDER, NodeProvider};
use crate::engine::event::Effect;
use crate::engine::id::Id;
use crate::engine::limits;
use crate::engine::live::{Attachment, ConnId, Here, Ready, Role};
use crate::engine::record::{EngineRecord, NodeDescribed};
use crate::engine::step::Step;
use crate::engine::sweep;
use crate::engine::views::provider_name;
use crate::wire::up::{Capability, NodeRegister};

/// What engines from 8.9 promise of registrations ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)).
const CONTRACT: &str = "relay:node-registration-v1";

/// How a provider is connected.
struct Manner {
    instance: String,
    handlers: bool,
    cursor: bool,
    direct: bool,
}

impl Step<'_> {
    /// Whether another instance of the provider is connected and not silent
    /// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4), `node.register`).
    fn holds_its_place(&self, here: &Here, instance: &str) -> bool {
        let other = self.core.live.get(here.ws, &here.node, &here.provider);
        self.core.behaviour().keeps_instance
            && other.is_some_and(|a| {
                a.conn != here.conn
                    && a.instance != instance
                    && self.now.mono.since(a.heard) <= limits::INSTANCE
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
            code: self.core.behaviour().superseded_code,
            reason: "superseded",
        });
    }

    pub(super) fn node_register(&mut self, conn: ConnId, f: &NodeRegister) {
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
    ) -> Result<Option<(Here, String, bool)>, FrameFailure> {
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
        if w.and_then(|w| w.bearer(&name))
            .is_some_and(|n| n.id != *node)
        {
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

    fn try_node_register(&mut self, conn: ConnId, f: &NodeRegister) -> Result<(), FrameFailure> {
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
        let cursor = self.core.behaviour().cursor
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
            .node(here.ws, &here.node)
            .map(|n| self.core.node_view(here.ws, n, self.now));
        let mut data = Value::Object(view.unwrap_or_default());
        if self.core.behaviour().providers {
            data["provider"] = json!({"name": here.provider, "instance_id": instance});
            data["accepted_capabilities"] = json!(accepted);
        }
        if self.core.behaviour().contract {
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
    pub(super) fn is_claimed(&self, here: &Here, c: &Capability) -> bool {
        self.core.behaviour().schema.is_none()
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
    fn check_names(&self, here: &Here, capabilities: &[Capability]) -> Result<(), FrameFailure> {
        if self.core.behaviour().schema.is_none() {
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
    pub(super) fn describe(
        &mut self,
        here: &Here,
        name: &str,
        tags: Option<&[String]>,
        version: &str,
        capabilities: Vec<Capability>,
        max_agents: u64,
    ) {
        let Some(stored) = self.node(here.ws, &here.node) else {
            return;
        };
        let tags = tags.unwrap_or(&stored.tags);
        let described = NodeProvider {
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
        let record = EngineRecord::NodeDescribed(NodeDescribed {
            ws: here.ws,
            node: here.node.clone(),
            name: name.to_owned(),
            tags: tags.to_vec(),
            version: version.to_owned(),
            provider: here.provider.clone(),
            capabilities: described.capabilities,
            max_agents,
        });
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
            .remind(self.now.mono, limits::LIVENESS + sweep::GRACE);
        for name in woken {
            self.announce_presence(here.ws, &name, true);
        }
    }

    /// The provider that was there before there were any keeps what it offers, for what may wait for it.
    pub(super) fn node_deregister(&mut self, here: &Here) {
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
