//! The shapes in which the engine shows what it knows ([engine-protocol 2](crate::docs::engine_protocol#2)). No decisions, no
//! state.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::core::EngineCore;
use super::directory::{Agent, Channel, DEFAULT_PROVIDER, Node, Observer, Workspace};
use super::history::Message;
use super::id::Id;
use super::live::Attachment;
use super::mailbox::Row;
use super::payload;
use crate::time::{Now, Wall};

fn iso(at: Option<Wall>) -> Option<String> {
    at.map(Wall::iso)
}

/// Figures of a node over its connected providers ([engine-protocol 6](crate::docs::engine_protocol#6)).
pub struct Figures {
    pub live: bool,
    pub handlers_live: bool,
    pub load: f64,
    pub active: u64,
    pub heartbeat: Option<Wall>,
}

/// Sums up a node's attachments.
pub fn figures<'a>(attachments: impl Iterator<Item = &'a Attachment>, now: Now) -> Figures {
    let mut f = Figures {
        live: false,
        handlers_live: false,
        load: 0.0,
        active: 0,
        heartbeat: None,
    };
    for a in attachments {
        let live = a.is_live(now.mono);
        f.live |= live;
        f.handlers_live |= live && a.handlers_live;
        f.load = f.load.max(a.load);
        f.active += a.active;
        f.heartbeat = f.heartbeat.max(Some(a.beat_at));
    }
    f
}

impl EngineCore {
    /// A roster entry ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).
    pub(super) fn node_view(&self, ws: Id, node: &Node, now: Now) -> Map<String, Value> {
        let f = figures(self.live.providers(ws, &node.id).map(|(_, a)| a), now);
        let view = json!({
            "id": node.id,
            "name": node.name,
            "kind": node.kind,
            "role": node.role,
            "machine_id": node.machine_id,
            "delivery_adapter": "ws.node.v1",
            "delivery": null,
            "capabilities": node.capabilities(),
            "tags": node.tags,
            "version": node.version,
            "status": if f.live { "online" } else { "offline" },
            "live": f.live,
            "handlers_live": f.handlers_live,
            "load": f.load,
            "active_agents": f.active,
            "max_agents": node.max_agents(),
            "last_heartbeat_at": iso(f.heartbeat),
            "created_at": node.created_at.iso(),
        });
        match view {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// What an agent's status is shown as: one of the words the SDKs know.
    pub(super) fn status<'a>(&self, ws: Id, agent: &'a Agent, now: Now) -> &'a str {
        if !self.live.is_online(ws, agent, now.mono) {
            "offline"
        } else if agent.status == "active" {
            "online"
        } else {
            &agent.status
        }
    }

    /// One agent as others see it ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).
    pub(super) fn agent_view(&self, w: &Workspace, agent: &Agent, now: Now) -> Value {
        let channels: Vec<Value> = w
            .channels
            .values()
            .filter(|c| c.conversation.is_none() && !c.archived)
            .filter_map(|c| {
                let member = c.members.get(&agent.id)?;
                Some(json!({
                    "id": c.public_id(),
                    "name": c.name,
                    "role": role(c, agent.id),
                    "joined_at": member.joined_at.iso(),
                }))
            })
            .collect();
        let provided: Vec<&str> = w
            .actions
            .values()
            .filter(|a| a.handler_agent == Some(agent.id))
            .map(|a| a.name.as_str())
            .collect();
        let pending = w.mailboxes.get(&agent.id).map_or(0, |m| m.rows().count());
        let seen = self.live.last_seen(w.id, agent);
        json!({
            "id": agent.id.to_string(),
            "workspace_id": w.id.to_string(),
            "name": agent.name,
            "handle": format!("@{}", agent.name),
            "type": agent.kind,
            "status": self.status(w.id, agent, now),
            "persona": agent.persona,
            "capabilities": agent.capabilities,
            "metadata": agent.metadata,
            "created_at": agent.created_at.iso(),
            "last_seen": seen.unwrap_or(agent.created_at).iso(),
            "channels": channels,
            "actions_provided": provided,
            "actions_available_to": [],
            "pending_deliveries": pending,
        })
    }

    /// Where an agent lives ([engine-protocol 2.2](crate::docs::engine_protocol#2.2), bind).
    pub(super) fn binding_view(
        &self,
        w: &Workspace,
        agent: &Agent,
        node: &Node,
        now: Now,
    ) -> Value {
        let active = self.live.is_running(w.id, agent, now.mono) || node.is_direct();
        json!({
            "id": format!("anb_{}", agent.id),
            "agent_id": agent.id.to_string(),
            "agent_name": agent.name,
            "node_id": node.id,
            "node_name": node.name,
            "node_kind": node.kind,
            "node_role": node.role,
            "status": if active { "active" } else { "inactive" },
            "session_ref": agent.session_ref,
            "priority": agent.priority,
            "created_at": agent.bound_at.unwrap_or(agent.created_at).iso(),
            "updated_at": null,
        })
    }

    /// One row of an agent's mailbox ([engine-protocol 2.6](crate::docs::engine_protocol#2.6)).
    /// When a row would be given up if nobody came from now on, by the wall clock as it was when the message was posted.
    fn expires_at(&self, m: Option<&Message>, row: &Row) -> Value {
        let ttl = self.ttl.and_then(|ttl| u64::try_from(ttl.as_millis()).ok());
        match (m, ttl) {
            (Some(m), Some(ttl)) if row.waited_ms < ttl => {
                json!(crate::time::Wall(m.at.0.saturating_add(ttl)).iso())
            }
            _ => Value::Null,
        }
    }

    pub(super) fn delivery_view(&self, w: &Workspace, agent: &Agent, row: &Row) -> Value {
        let m = w.history.get(row.message);
        let channel = m.and_then(|m| w.channels.get(&m.channel));
        let node = w.nodes.get(&agent.node);
        let sent = self
            .live
            .of(w.id, agent)
            .is_some_and(|(_, ready)| ready.sent >= row.seq);
        let at = m.map(|m| m.at.iso());
        let steer = m.is_some_and(|m| m.mode == crate::domain::Mode::Steer);
        json!({
            "id": payload::delivery_id(row.message, agent.id),
            "message_id": row.message.to_string(),
            "channel_id": channel.map(Channel::public_id).unwrap_or_default(),
            "agent_id": agent.id.to_string(),
            "status": if sent { "delivered" } else { "queued" },
            "seq": row.seq,
            "location_type": "node",
            "location_node_id": agent.node,
            "route_node_id": agent.node,
            "route_node_kind": node.map(|n| &n.kind),
            "route_node_role": node.map(|n| &n.role),
            "delivery_adapter": "ws.node.v1",
            "dispatch_attempts": u8::from(sent),
            "next_attempt_at": null,
            "last_dispatch_error": null,
            "mode": if steer { "next-tool-call" } else { "immediate" },
            "reason": row.reason.as_str(),
            "priority": "normal",
            "retryable": null,
            "error": null,
            "available_at": null,
            "deadline": null,
            "expires_at": self.expires_at(m, row),
            "delivered_at": null,
            "acked_at": null,
            "dead_lettered_at": null,
            "created_at": at,
            "updated_at": null,
            "message": m.map(|m| json!({
                "id": m.id.to_string(),
                "channel_id": channel.map(Channel::public_id).unwrap_or_default(),
                "agent_id": m.from.to_string(),
                "agent_name": m.from_name,
                "text": m.text,
                "thread_id": m.thread.map(|t| t.to_string()),
                "created_at": m.at.iso(),
            })),
        })
    }
}

/// `owner` for who made the channel, `member` for the rest.
pub fn role(channel: &Channel, agent: Id) -> &'static str {
    if channel.created_by == Some(agent) {
        "owner"
    } else {
        "member"
    }
}

/// Members of a channel ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)).
pub fn members(w: &Workspace, channel: &Channel) -> Vec<Value> {
    channel
        .members
        .iter()
        .filter_map(|(id, member)| {
            let agent = w.agents.get(id)?;
            Some(json!({
                "agent_id": id.to_string(),
                "agent_name": agent.name,
                "role": role(channel, *id),
                "joined_at": member.joined_at.iso(),
                "is_muted": member.muted,
            }))
        })
        .collect()
}

/// One channel ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)).
pub fn channel(c: &Channel) -> Value {
    json!({
        "id": c.public_id(),
        "name": c.name,
        "topic": c.topic,
        "metadata": c.metadata,
        "created_by": c.created_by.map(|id| id.to_string()),
        "created_at": c.created_at.iso(),
        "is_archived": c.archived,
        "member_count": c.members.len(),
    })
}

/// Reactions by emoji ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)).
pub fn reactions(m: &Message) -> Vec<Value> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for r in &m.reactions {
        groups.entry(&r.emoji).or_default().push(&r.agent_name);
    }
    groups
        .into_iter()
        .map(|(emoji, agents)| json!({"emoji": emoji, "count": agents.len(), "agents": agents}))
        .collect()
}

/// One message with all its figures ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)).
pub fn message(w: &Workspace, m: &Message) -> Value {
    let channel = w.channels.get(&m.channel);
    let figures = json!({
        "channel_id": channel.map(Channel::public_id).unwrap_or_default(),
        "channel_name": channel.map(|c| c.name.as_str()).unwrap_or_default(),
        "agent_type": m.from_kind,
        "reply_count": w.history.reply_count(m.id),
        "reactions": reactions(m),
        "read_by_count": m.readers.len(),
    });
    payload::post(m, figures)
}

/// An observer token's record, without the token ([engine-protocol 2.8](crate::docs::engine_protocol#2.8)).
pub fn observer(o: &Observer) -> Value {
    json!({
        "id": o.id.to_string(),
        "name": o.name,
        "description": o.description,
        "scopes": o.scopes,
        "filters": o.filters,
        "status": if o.revoked_at.is_some() { "revoked" } else { "active" },
        "expires_at": o.expires_at,
        "created_at": o.created_at.iso(),
        "updated_at": iso(o.updated_at),
        "revoked_at": iso(o.revoked_at),
        "last_used_at": null,
    })
}

/// The provider a frame names, or the default one.
pub fn provider_name(provider: Option<&crate::wire::up::Provider>) -> String {
    provider.map_or_else(|| DEFAULT_PROVIDER.to_owned(), |p| p.name.clone())
}
