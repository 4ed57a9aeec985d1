//! One step's hands on the core: remembering, making ids and tokens, pushing frames, announcing events. Everything that a
//! handler may do to the world goes through here.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::core::EngineCore;
use super::directory::{Agent, Node, Workspace};
use super::event::Effect;
use super::http::call::{HttpAnswer, HttpRefusal, refusal_body, refuse};
use super::id::{Id, digest};
use super::live::{ConnId, Role};
use super::payload;
use super::record::{AgentChanged, EngineRecord};
use crate::domain::Mode;
use crate::ids::{AgentId, AgentName, DeliveryId, MsgId, Seq};
use crate::ids::{Ticket, to_hex};
use crate::machine::Out;
use crate::time::Now;
use crate::wire::down::{ContextUpdate, Deliver, Down};

/// See the module.
pub struct Step<'a> {
    pub core: &'a mut EngineCore,
    pub now: Now,
    out: &'a mut Out<EngineRecord, Effect>,
    entropy: [u8; 32],
    drawn: u32,
    /// A node's token that the caller shows besides its own.
    pub proof: Option<String>,
}

/// 2024-01-01, from where ids count.
const ID_EPOCH_MS: u64 = 1_704_067_200_000;

impl<'a> Step<'a> {
    pub fn new(core: &'a mut EngineCore, now: Now, out: &'a mut Out<EngineRecord, Effect>) -> Self {
        Self {
            core,
            now,
            out,
            entropy: [0; 32],
            drawn: 0,
            proof: None,
        }
    }

    pub fn with_entropy(&mut self, entropy: [u8; 32]) -> &mut Self {
        self.entropy = entropy;
        self
    }

    pub fn with_proof(&mut self, proof: String) -> &mut Self {
        self.proof = Some(proof);
        self
    }

    /// Applies a fact and has it remembered.
    pub fn record(&mut self, record: EngineRecord) {
        self.core.state.apply(&record);
        self.out.records.push(record);
    }

    pub fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    /// A number above all before it that also tells roughly when it was made.
    pub fn fresh_id(&mut self) -> Id {
        let by_time = self.now.wall.0.saturating_sub(ID_EPOCH_MS) << 22;
        let last = self.core.last_issued.max(self.core.state.last_id);
        self.core.last_issued = by_time.max(last + 1);
        self.core.last_issued
    }

    /// A new secret of so many hex digits after the prefix.
    pub fn token(&mut self, prefix: &str, digits: usize) -> String {
        self.drawn += 1;
        let mut hash = Sha256::new();
        hash.update(self.entropy);
        hash.update(self.drawn.to_be_bytes());
        format!("{prefix}{}", &to_hex(&hash.finalize())[..digits])
    }

    /// A new agent token.
    pub fn agent_token(&mut self) -> (String, String) {
        let token = self.token("at_live_", 32);
        let hash = digest(&token);
        (token, hash)
    }

    /// The workspace of a caller whose token was found in it.
    pub fn ws(&self, ws: Id) -> Result<&Workspace, HttpRefusal> {
        self.core
            .state
            .workspaces
            .get(&ws)
            .ok_or_else(|| refuse(404, "workspace_not_found", "Workspace not found"))
    }

    /// An agent that was looked up before in this step.
    pub fn agent(&self, ws: Id, agent: Id) -> Option<&Agent> {
        self.core.state.workspaces.get(&ws)?.agents.get(&agent)
    }

    /// A node by its id.
    pub fn node(&self, ws: Id, node: &str) -> Option<&Node> {
        self.core.state.workspaces.get(&ws)?.nodes.get(node)
    }

    /// The agent of that name.
    pub fn agent_named(&self, ws: Id, name: &str) -> Result<&Agent, HttpRefusal> {
        self.ws(ws)?.agent_named(name).ok_or_else(|| {
            refuse(
                404,
                "agent_not_found",
                format!("Agent \"{name}\" not found"),
            )
        })
    }

    /// Replaces what is noted at an agent, and leaves the rest of it alone.
    pub fn set_metadata(&mut self, ws: Id, agent: Id, metadata: Map<String, Value>) {
        self.record(EngineRecord::AgentChanged(AgentChanged {
            ws,
            agent,
            status: None,
            persona: None,
            metadata: Some(metadata),
        }));
    }

    /// Wraps an answer in the envelope and sends it off.
    pub fn answer(&mut self, ticket: Ticket, answer: HttpAnswer) {
        let (status, body) = match answer {
            Ok((204, _)) => (204, None),
            Ok((status, data)) => (status, Some(json!({"ok": true, "data": data}))),
            Err(r) => (r.status, Some(refusal_body(r.code, &r.message))),
        };
        self.effect(Effect::Answer {
            ticket,
            status,
            body,
        });
    }

    /// Sends a frame to a node.
    pub fn push(&mut self, conn: ConnId, frame: &Down) {
        if !self.core.faults.passes() {
            return;
        }
        let text = frame.to_text();
        self.effect(Effect::Push { conn, text });
    }

    /// Sends what an agent's mailbox holds beyond what was sent already, as far as the connection takes it.
    pub fn flush(&mut self, ws: Id, agent: Id) {
        loop {
            let core = &mut *self.core;
            let Some(w) = core.state.workspaces.get(&ws) else {
                return;
            };
            let Some(who) = w.agents.get(&agent) else {
                return;
            };
            let Some(attachment) = core.live.get_mut(ws, &who.node, &who.provider) else {
                return;
            };
            let conn = attachment.conn;
            let Some(ready) = attachment.ready.get_mut(&agent) else {
                return;
            };
            let row = w
                .mailboxes
                .get(&agent)
                .and_then(|m| m.next_after(ready.sent.max(m.acked())));
            let Some(row) = row else {
                return;
            };
            let Some(open) = core.live.conns.get_mut(&conn).filter(|c| c.credit > 0) else {
                return;
            };
            open.credit -= 1;
            let seq = row.seq;
            // Looked up again because the connection was borrowed in between.
            if let Some(ready) = core
                .live
                .get_mut(ws, &who.node, &who.provider)
                .and_then(|a| a.ready.get_mut(&agent))
            {
                ready.sent = seq;
            }
            let Some(frame) = payload::deliver(w, who, row) else {
                continue;
            };
            self.push(conn, &frame);
        }
    }

    /// Sends on what waited for the connection to drain, one agent after the other.
    pub fn flush_connection(&mut self, conn: ConnId) {
        let Some(open) = self.core.live.conns.get(&conn) else {
            return;
        };
        let ws = open.ws;
        let Role::Node {
            node,
            provider: Some(provider),
        } = open.role.clone()
        else {
            return;
        };
        let ready: BTreeSet<Id> = self
            .core
            .live
            .get(ws, &node, &provider)
            .map(|a| a.ready.keys().copied().collect())
            .unwrap_or_default();
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return;
        };
        let order: Vec<Id> = w
            .agents_on(&node)
            .iter()
            .map(|a| a.id)
            .filter(|id| ready.contains(id))
            .collect();
        for agent in order {
            self.flush(ws, agent);
        }
    }

    /// Over which link an agent's mail flows, if it does.
    fn link_of(&self, ws: Id, agent: Id) -> Option<(ConnId, &Agent)> {
        let who = self.agent(ws, agent)?;
        Some((self.core.live.of(ws, who)?.0.conn, who))
    }

    /// A frame outside the sequence, to an agent whose mail flows; lost otherwise
    /// ([engine-protocol 4.2](crate::docs::engine_protocol#4.2)).
    pub fn notice(&mut self, ws: Id, agent: Id, event: &str, key: &str, msg: &str, data: &Value) {
        let Some((conn, who)) = self.link_of(ws, agent) else {
            return;
        };
        let frame = Down::Deliver(Deliver {
            delivery_id: DeliveryId::new(format!("evt_{event}_{key}_{agent}")),
            agent_id: AgentId::new(agent.to_string()),
            agent: AgentName::new(who.name.clone()),
            msg_id: MsgId::new(msg),
            seq: Seq(0),
            mode: Mode::Wait,
            payload: json!({"type": event, "data": data}),
            left_out: false,
            bytes: 0,
        });
        self.push(conn, &frame);
    }

    /// Best-effort news for one agent over its node ([engine-protocol 3.5](crate::docs::engine_protocol#3.5)).
    pub fn context(&mut self, ws: Id, agent: Id, event: &str, data: Value) {
        let Some((conn, _)) = self.link_of(ws, agent) else {
            return;
        };
        let frame = Down::ContextUpdate(ContextUpdate {
            topic: "agent".into(),
            event: event.to_owned(),
            channel_id: None,
            agent_ids: Some(vec![AgentId::new(agent.to_string())]),
            data,
        });
        self.push(conn, &frame);
    }

    /// Sends an event to every `/v1/ws` socket of the workspace that may see it. `scope` is what an observer needs.
    pub fn announce(&mut self, ws: Id, scope: &str, event: impl FnOnce() -> Value) {
        let streams: Vec<(ConnId, Option<Id>)> = self
            .core
            .live
            .conns
            .iter()
            .filter(|(_, c)| c.ws == ws)
            .filter_map(|(id, c)| match &c.role {
                Role::Stream { observer } => Some((*id, *observer)),
                Role::Node { .. } => None,
            })
            .collect();
        if streams.is_empty() {
            return;
        }
        let mut event = event();
        if let Some(fields) = event.as_object_mut() {
            stamp(fields, self.now);
        }
        for (conn, observer) in streams {
            let may = observer.is_none_or(|id| {
                self.observer_may(ws, id, scope) && self.observer_wants(ws, id, &event)
            });
            if may {
                let text = event.to_string();
                self.effect(Effect::Push { conn, text });
            }
        }
    }

    /// Says that an agent came or went.
    pub fn announce_presence(&mut self, ws: Id, name: &str, online: bool) {
        let status = if online { "active" } else { "offline" };
        for kind in [
            format!("agent.status.{status}"),
            "agent.status.changed".into(),
        ] {
            self.announce(
                ws,
                "agents:read",
                || json!({"type": kind, "agent": {"name": name}, "status": status}),
            );
        }
        self.tell_nodes(ws, name, status);
    }

    /// News for every node that runs agents: one came or went ([engine-protocol 3.5](crate::docs::engine_protocol#3.5)).
    fn tell_nodes(&mut self, ws: Id, name: &str, status: &str) {
        let subject = self.core.state.workspaces.get(&ws);
        let Some(subject) = subject.and_then(|w| w.agent_named(name)).map(|a| a.id) else {
            return;
        };
        if !self.core.behaviour().tells_presence {
            return;
        }
        let here = self.core.live.all().filter(|(w, ..)| *w == ws);
        let nodes: Vec<(ConnId, Vec<AgentId>)> = here
            .map(|(.., a)| {
                let listed = a.ready.iter().filter(|(_, ready)| ready.listed);
                let ids = listed.map(|(id, _)| AgentId::new(id.to_string()));
                (a.conn, ids.collect())
            })
            .collect();
        for (conn, agent_ids) in nodes.into_iter().filter(|(_, ids)| !ids.is_empty()) {
            let frame = Down::ContextUpdate(ContextUpdate {
                topic: "presence".into(),
                event: format!("agent.status.{status}"),
                channel_id: None,
                agent_ids: Some(agent_ids),
                data: json!({"agent_id": subject.to_string(), "agent_name": name, "status": status}),
            });
            self.push(conn, &frame);
        }
    }
}

fn stamp(fields: &mut Map<String, Value>, now: Now) {
    fields
        .entry("created_at")
        .or_insert_with(|| Value::from(now.wall.iso()));
}
