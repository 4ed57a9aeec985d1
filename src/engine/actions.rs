//! Actions and their invocations: sent to a node or an agent, sent again when that is lost, ended once
//! ([engine-protocol 5](crate::docs::engine_protocol#5)).

use serde_json::{Value, json};

use super::directory::{Node, Workspace};
use super::http::call::{HttpRefusal, refuse};
use super::id::Id;
use super::invocation::{Invocation, InvocationProgress};
use super::limits;
use super::placement::{Candidate, choose, fulfils};
use super::record::{Dispatched, EngineRecord, InvocationEnded};
use super::step::Step;
use crate::ids::{AgentId, AgentName, InvocationId};
use crate::wire::down::{ActionInvoke, Down};
use crate::wire::up::Capability;

/// Which provider of a node an invocation is for.
fn provider_for<'w>(w: &'w Workspace, node: &'w Node, i: &Invocation) -> Option<&'w str> {
    if let Some(agent) = i
        .releases
        .or(i.handler_agent)
        .and_then(|a| w.agents.get(&a))
    {
        return Some(&agent.provider);
    }
    if let Some(wanted) = i.capability.as_deref().filter(|_| i.is_spawn) {
        let found = match i.past_actions {
            true => node.offering(wanted, false),
            false => node.serving(wanted),
        };
        return found.map(|(provider, _)| provider);
    }
    let can = |c: &Capability| {
        if i.is_spawn {
            fulfils(&c.name, i.capability.as_deref())
        } else {
            c.name == i.wire_action
        }
    };
    node.providers
        .iter()
        .find(|(_, p)| p.capabilities.iter().any(can))
        .map(|(name, _)| name.as_str())
}

/// What came of trying to send an invocation somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    Sent,
    /// Its node is away; it will be sent when that comes.
    Waiting,
    /// The node it must go to has no room.
    Full,
    /// No node can do it.
    Nowhere,
}

impl Step<'_> {
    fn invocation(&self, ws: Id, id: &str) -> Option<&Invocation> {
        self.core.state.workspaces.get(&ws)?.invocations.get(id)
    }

    /// Writes a new invocation down and tries to send it.
    pub fn start(&mut self, ws: Id, mut new: Invocation) -> Result<(String, Placed), HttpRefusal> {
        if self.ws(ws)?.open.len() >= limits::OPEN_INVOCATIONS {
            return Err(refuse(
                503,
                "node_dispatch_unavailable",
                "Too many actions are waiting already",
            ));
        }
        new.number = self.fresh_id();
        new.id = format!("inv_{}", new.number);
        new.created_at = self.now.wall;
        let id = new.id.clone();
        self.record(EngineRecord::Invoked {
            ws,
            invocation: Box::new(new),
        });
        self.core.remind(self.now.mono, limits::PENDING);
        let placed = self.place(ws, &id);
        Ok((id, placed))
    }

    /// Tries to send an open invocation that waits.
    pub fn place(&mut self, ws: Id, id: &str) -> Placed {
        let Some(i) = self.invocation(ws, id) else {
            return Placed::Nowhere;
        };
        if i.handler_agent.is_some() {
            return self.place_at_agent(ws, id);
        }
        let candidates = self.candidates(ws, i);
        let chosen = match &i.target {
            None => match choose(&candidates, &i.tried) {
                Some(c) => c,
                None => return Placed::Nowhere,
            },
            Some(_) => match candidates.first() {
                Some(c) if c.can_take() || (c.ready && !i.is_spawn) => c,
                Some(c) if c.ready => return Placed::Full,
                _ => return Placed::Waiting,
            },
        };
        let (node, provider) = (chosen.node.clone(), chosen.provider.clone());
        let Some(conn) = self.core.live.get(ws, &node, &provider).map(|a| a.conn) else {
            return Placed::Waiting;
        };
        self.core
            .remind(self.now.mono, self.core.behaviour().dispatch);
        self.dispatch(ws, id, node, conn)
    }

    /// An invocation goes to a node.
    fn dispatch(&mut self, ws: Id, id: &str, node: String, conn: u64) -> Placed {
        self.record(EngineRecord::Dispatched(Dispatched {
            ws,
            invocation: id.to_owned(),
            node,
            at: self.now.wall,
        }));
        self.push_invoke(ws, id, conn);
        Placed::Sent
    }

    fn place_at_agent(&mut self, ws: Id, id: &str) -> Placed {
        let handler = self
            .invocation(ws, id)
            .and_then(|i| self.agent(ws, i.handler_agent?))
            .and_then(|a| Some((self.core.live.of(ws, a)?.0.conn, a.node.clone())));
        let Some((conn, node)) = handler else {
            return Placed::Nowhere;
        };
        self.dispatch(ws, id, node, conn)
    }

    fn push_invoke(&mut self, ws: Id, id: &str, conn: u64) {
        let Some(i) = self.invocation(ws, id) else {
            return;
        };
        let handler = i.handler_agent.and_then(|a| self.agent(ws, a));
        let frame = Down::ActionInvoke(ActionInvoke {
            invocation_id: InvocationId::new(id),
            action: i.wire_action.clone(),
            agent_id: handler.map(|a| AgentId::new(a.id.to_string())),
            agent_name: handler.map(|a| AgentName::new(a.name.clone())),
            input: i.input.clone(),
        });
        let (action, caller, input) = (i.action.clone(), i.caller_name.clone(), i.input.clone());
        let handler = i.handler_agent.map(|a| a.to_string()).unwrap_or_default();
        self.push(conn, &frame);
        self.announce(ws, "activity:read", || {
            json!({
                "type": "action.invoked",
                "invocation_id": id,
                "action_name": action,
                "caller_name": caller.unwrap_or_default(),
                "handler_agent_id": handler,
                "input": input,
            })
        });
    }

    /// Connected providers that could take the invocation; for one with a target, at most that one.
    fn candidates(&self, ws: Id, i: &Invocation) -> Vec<Candidate> {
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return Vec::new();
        };
        w.nodes
            .values()
            .filter(|n| !n.is_direct())
            .filter(|n| i.target.as_ref().is_none_or(|t| *t == n.id))
            .filter_map(|n| self.candidate(w, n, i))
            .collect()
    }

    fn candidate(&self, w: &Workspace, node: &Node, i: &Invocation) -> Option<Candidate> {
        let provider = provider_for(w, node, i)?.to_owned();
        let attached = self.core.live.get(w.id, &node.id, &provider)?;
        let reserved = w
            .open
            .iter()
            .filter_map(|id| w.invocations.get(id))
            .filter(|o| o.is_spawn && o.id != i.id && o.node.as_ref() == Some(&node.id))
            .filter(|o| self.core.behaviour().place_until_result || !self.has_registered(w, o))
            .count();
        Some(Candidate {
            node: node.id.clone(),
            name: node.name.clone(),
            ready: attached.is_live(self.now.mono) && (attached.handlers_live || !i.is_spawn),
            load: attached.load,
            active: attached.active,
            reserved: reserved as u64,
            max: node.providers.get(&provider).map_or(0, |p| p.max_agents),
            provider,
        })
    }

    /// How many places of a node are kept for spawns, other than the one that an agent of that name, or for that
    /// invocation, is the end of ([engine-protocol 5.2](crate::docs::engine_protocol#5.2)).
    pub fn places_kept(&self, ws: Id, node: &str, but: (&str, Option<&str>)) -> u64 {
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return 0;
        };
        let open = w.open.iter().filter_map(|id| w.invocations.get(id));
        let here = open.filter(|i| i.is_spawn && i.node.as_deref() == Some(node));
        let others = here.filter(|i| but.1 != Some(&i.id) && i.input["name"] != but.0);
        others.count() as u64
    }

    /// Whether the agent a spawn is about is on the node already, so that it counts there.
    fn has_registered(&self, w: &Workspace, spawn: &Invocation) -> bool {
        spawn.input["name"]
            .as_str()
            .and_then(|name| w.agent_named(name))
            .is_some_and(|a| Some(&a.node) == spawn.node.as_ref())
    }

    /// Sends everything that waits, as far as nodes can take it.
    pub fn place_waiting(&mut self, ws: Id) {
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return;
        };
        let waiting: Vec<String> = w
            .open
            .iter()
            .filter(|id| {
                w.invocations
                    .get(*id)
                    .is_some_and(|i| i.status == InvocationProgress::Pending)
            })
            .cloned()
            .collect();
        for id in waiting {
            self.place(ws, &id);
        }
    }

    /// Sends again what a provider was sent over an earlier connection: it answers each id once, whatever it gets.
    pub fn resend(&mut self, ws: Id, node: &str, provider: &str, conn: u64) {
        for id in self.sent_to(ws, node, provider) {
            self.push_invoke(ws, &id, conn);
        }
    }

    /// Open invocations that were sent to that provider of a node.
    pub fn sent_to(&self, ws: Id, node: &str, provider: &str) -> Vec<String> {
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return Vec::new();
        };
        let Some(n) = w.nodes.get(node) else {
            return Vec::new();
        };
        w.open
            .iter()
            .filter_map(|id| w.invocations.get(id))
            .filter(|i| i.node.as_deref() == Some(node))
            .filter(|i| provider_for(w, n, i) == Some(provider))
            .map(|i| i.id.clone())
            .collect()
    }

    /// Takes back what was sent to a provider that is gone, and tries elsewhere
    /// ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)). What an agent handles stays with that agent and is sent
    /// again when its node comes back.
    pub fn requeue_node(&mut self, ws: Id, node: &str, provider: &str) {
        for id in self.sent_to(ws, node, provider) {
            if self
                .invocation(ws, &id)
                .is_some_and(|i| i.handler_agent.is_none())
            {
                self.requeue(ws, &id);
            }
        }
    }

    /// Takes one invocation back and tries elsewhere.
    pub fn requeue(&mut self, ws: Id, id: &str) {
        self.record(EngineRecord::Requeued {
            ws,
            invocation: id.to_owned(),
        });
        self.place(ws, id);
    }

    /// Ends an invocation, once: tells the caller and the streams, and carries out what a release means.
    pub fn finish(
        &mut self,
        ws: Id,
        id: &str,
        result: Result<Value, String>,
        duration_ms: Option<u64>,
    ) {
        let Some(i) = self.invocation(ws, id).filter(|i| !i.is_over()) else {
            return;
        };
        let (caller, action) = (i.caller, i.action.clone());
        let released = i.releases.map(|agent| (agent, i.delete_agent));
        let reason = i.input.get("reason").cloned().unwrap_or_default();
        let since = i.dispatched_at.unwrap_or(i.created_at);
        let took = u64::try_from((self.now.wall - since).as_millis()).unwrap_or(u64::MAX);
        let (output, error) = match result {
            // The Rust SDK reads objects and null only.
            Ok(output) if output.is_object() || output.is_null() => (Some(output), None),
            Ok(output) => (Some(json!({"value": output})), None),
            Err(error) => (None, Some(error)),
        };
        self.record(EngineRecord::InvocationEnded(InvocationEnded {
            ws,
            invocation: id.to_owned(),
            output: output.clone(),
            error: error.clone(),
            duration_ms: Some(duration_ms.unwrap_or(took)),
            at: self.now.wall,
        }));
        if let Some((agent, delete)) = released
            && error.is_none()
        {
            self.release_agent(ws, agent, delete, &reason);
        }
        let status = if error.is_some() {
            "failed"
        } else {
            "completed"
        };
        let event = format!("action.{status}");
        let data = json!({
            "invocation_id": id,
            "action_name": action,
            "status": status,
            "output": output,
            "error": error,
        });
        if let Some(caller) = caller {
            self.notice(ws, caller, &event, id, id, &data);
        }
        self.announce(ws, "activity:read", || {
            let mut data = data;
            data["type"] = json!(event);
            data
        });
    }

    fn release_agent(&mut self, ws: Id, agent: Id, delete: bool, reason: &Value) {
        if delete {
            self.remove_agent(ws, agent);
            return;
        }
        self.unbind_agent(ws, agent);
        self.give_up_mail(ws, agent);
        let Some(mut metadata) = self.agent(ws, agent).map(|a| a.metadata.clone()) else {
            return;
        };
        let release = json!({"reason": reason, "released_at": self.now.wall.iso()});
        metadata.insert("release".into(), release);
        self.set_metadata(ws, agent, metadata);
    }
}
