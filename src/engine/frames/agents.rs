//! What nodes say of their agents and of the work they were given ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)):
//! registration, acknowledgement and results.

use serde_json::{Value, json};

use super::answer::{FrameFailure, failure};
use crate::domain::Outcome;
use crate::engine::agents::{Binding, NewAgent};
use crate::engine::directory::{Agent, Node};
use crate::engine::http::call::refuse;
use crate::engine::id::Id;
use crate::engine::invocation::Invocation;
use crate::engine::live::Here;
use crate::engine::record::{Acked, EngineRecord};
use crate::engine::step::Step;
use crate::ids::AgentName;
use crate::wire::up::{AgentDeregister, AgentRecover, AgentRegister, DeliveryAck};

/// What `agent.register` and `agent.recover` have in common.
pub struct Claim<'a> {
    pub id: Option<&'a str>,
    pub name: &'a str,
    pub invocation: Option<&'a str>,
    pub session_ref: Option<&'a str>,
}

impl<'a> Claim<'a> {
    pub fn of_register(f: &'a AgentRegister) -> Self {
        Self {
            id: f.id.as_deref(),
            name: f.name.as_str(),
            invocation: f.invocation_id.as_ref().map(|i| i.as_str()),
            session_ref: f.session_ref.as_deref(),
        }
    }

    pub fn of_recover(f: &'a AgentRecover) -> Self {
        Self {
            id: f.id.as_deref(),
            name: f.name.as_str(),
            invocation: f.invocation_id.as_ref().map(|i| i.as_str()),
            session_ref: f.session_ref.as_deref(),
        }
    }
}

impl Step<'_> {
    pub fn agent_register(&mut self, here: &Here, claim: &Claim<'_>, expected: Option<&str>) {
        match self.try_agent_register(here, claim, expected) {
            Ok((agent, data)) => {
                self.reply(here.conn, claim.id, data);
                self.flush(here.ws, agent);
                if self.core.behaviour().replays_node {
                    self.replay_node(here, agent);
                }
            }
            Err((code, message)) => self.complain(here.conn, claim.id, code, &message),
        }
    }

    /// Sends again what the provider's other agents have not acknowledged either, unless it keeps cursors.
    fn replay_node(&mut self, here: &Here, but: Id) {
        let core = &mut *self.core;
        let Some(w) = core.state.workspaces.get(&here.ws) else {
            return;
        };
        let Some(a) = core.live.get_mut(here.ws, &here.node, &here.provider) else {
            return;
        };
        if a.cursor {
            return;
        }
        for (agent, ready) in a.ready.iter_mut().filter(|(id, _)| **id != but) {
            ready.sent = w.mailboxes.get(agent).map_or(0, |m| m.acked());
        }
        self.flush_connection(here.conn);
    }

    fn try_agent_register(
        &mut self,
        here: &Here,
        claim: &Claim<'_>,
        expected: Option<&str>,
    ) -> Result<(Id, Value), FrameFailure> {
        let (ws, name) = (here.ws, claim.name);
        AgentName::check(name).map_err(|why| ("invalid_message", why))?;
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return failure("node_not_found", "The workspace is gone");
        };
        if w.nodes.get(&here.node).is_some_and(Node::is_direct) {
            return failure("node_capacity_exceeded", "A direct node has one agent only");
        }
        let known = w.agent_named(name);
        if let Some(expected) = expected {
            self.check_recovery(here, known, expected)?;
        }
        if known.is_some() && expected.is_none() && self.core.behaviour().create_only {
            return failure(
                "agent_already_exists",
                format!("Agent \"{name}\" already exists"),
            );
        }
        let mut at_home = false;
        let mut metadata = serde_json::Map::new();
        if let Some(a) = known {
            at_home = a.node == here.node && a.provider == here.provider;
            let runs = !a.is_direct() && self.core.live.is_running(ws, a, self.now.mono);
            // Who proves that the agent is its own has it back from wherever it is; from another provider of its node
            // anybody of the node has it.
            if a.node != here.node && runs && expected.is_none() {
                return failure(
                    "agent_location_conflict",
                    format!("Agent \"{name}\" is active on another node"),
                );
            }
            metadata = a.metadata.clone();
        }
        let known = known.map(|a| a.id);
        let counted = at_home && self.is_ready_here(here, known);
        let kept = match self.core.behaviour().leaves_kept_places {
            true => self.places_kept(ws, &here.node, (name, claim.invocation)),
            false => 0,
        };
        if !counted && !self.has_room(ws, &here.node, &here.provider, kept) {
            return failure(
                "node_capacity_exceeded",
                "The node runs as many agents as it may",
            );
        }
        let (agent, token) = match known {
            Some(agent) => (agent, self.renew_agent_token(ws, agent)),
            None => {
                let new = NewAgent {
                    name,
                    kind: "agent",
                    persona: None,
                    metadata: serde_json::Map::new(),
                    capabilities: Value::Null,
                };
                self.make_agent(ws, new)
            }
        };
        if !counted && let Some(a) = self.core.live.get_mut(ws, &here.node, &here.provider) {
            a.active += 1;
        }
        self.settle_in(here, agent, claim, metadata);
        let mut data = json!({"agent_id": agent.to_string(), "name": name, "token": token});
        if let Some(acked) = self.cursor_of(here, agent) {
            data["delivery_ack_seq"] = json!(acked);
        }
        Ok((agent, data))
    }

    fn check_recovery(
        &self,
        here: &Here,
        known: Option<&Agent>,
        expected: &str,
    ) -> Result<(), FrameFailure> {
        let Some(a) = known else {
            return failure("agent_not_found", "There is no such agent");
        };
        if a.id.to_string() != expected || a.origin.as_ref() != Some(&here.node) {
            return failure(
                "agent_recovery_not_authorized",
                "The agent has another id, or comes from another node",
            );
        }
        Ok(())
    }

    fn is_ready_here(&self, here: &Here, agent: Option<Id>) -> bool {
        let attachment = self.core.live.get(here.ws, &here.node, &here.provider);
        attachment
            .zip(agent)
            .and_then(|(a, id)| a.ready.get(&id))
            .is_some_and(|r| r.listed)
    }

    fn cursor_of(&self, here: &Here, agent: Id) -> Option<u64> {
        let attachment = self.core.live.get(here.ws, &here.node, &here.provider)?;
        let w = self.core.state.workspaces.get(&here.ws)?;
        attachment
            .cursor
            .then(|| w.mailboxes.get(&agent).map_or(0, |m| m.acked()))
    }

    /// The agent lives here from now on, and others hear that it is online.
    fn settle_in(
        &mut self,
        here: &Here,
        agent: Id,
        claim: &Claim<'_>,
        mut metadata: serde_json::Map<String, Value>,
    ) {
        let ws = here.ws;
        let was = self
            .agent(ws, agent)
            .is_some_and(|a| self.core.live.is_online(ws, a, self.now.mono));
        let to = Binding {
            node: here.node.clone(),
            provider: here.provider.clone(),
            session_ref: claim.session_ref.map(str::to_owned),
            priority: 0,
        };
        self.bind_agent(ws, agent, to);
        self.set_origin(here, agent);
        let fleet = json!({
            "node_id": here.node,
            "invocation_id": claim.invocation,
            "registered_at": self.now.wall.iso(),
        });
        metadata.insert("fleet".into(), fleet);
        self.set_metadata(ws, agent, metadata);
        if !was {
            self.announce_presence(ws, claim.name, true);
        }
    }

    /// An agent that no node has had yet comes from this one from now on.
    pub(super) fn set_origin(&mut self, here: &Here, agent: Id) {
        if self
            .agent(here.ws, agent)
            .is_some_and(|a| a.origin.is_none())
        {
            self.record(EngineRecord::OriginSet {
                ws: here.ws,
                agent,
                node: here.node.clone(),
            });
        }
    }

    pub fn agent_deregister(&mut self, here: &Here, f: &AgentDeregister) {
        let agent = f.agent_id.as_str().parse::<Id>().ok();
        let agent = agent.and_then(|id| self.agent(here.ws, id));
        if let Some(a) = agent
            && a.node == here.node
        {
            let agent = a.id;
            self.unbind_agent(here.ws, agent);
        }
        if f.id.is_some() && self.core.behaviour().deregister_replies {
            self.reply(here.conn, f.id.as_deref(), json!({}));
        }
    }

    pub fn delivery_ack(&mut self, here: &Here, f: &DeliveryAck) {
        let (ws, up_to) = (here.ws, f.up_to_seq.0);
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return;
        };
        let Some(who) = w.agent_named(f.agent.as_str()) else {
            return;
        };
        let agent = who.id;
        if who.node != here.node || who.provider != here.provider {
            return self.took_over(here, agent, up_to);
        }
        let moves = w
            .mailboxes
            .get(&agent)
            .is_some_and(|m| m.acked() < up_to && m.rows().next().is_some());
        if moves {
            self.record(EngineRecord::Acked(Acked {
                ws,
                agent,
                up_to,
                at: self.now.wall,
            }));
        }
    }

    pub fn action_result(&mut self, here: &Here, id: &str, outcome: &Outcome) {
        let i = self
            .core
            .state
            .workspaces
            .get(&here.ws)
            .and_then(|w| w.invocations.get(id));
        let Some(i) = i.filter(|i| !i.is_over() && i.node.as_ref() == Some(&here.node)) else {
            return;
        };
        let result = match outcome {
            Outcome::Output(output) => Ok(output.clone()),
            Outcome::Error(error) => Err(error.clone()),
        };
        let elsewhere = result.as_ref().is_err_and(|e| e == "handler_unavailable")
            && i.releases.is_none()
            && i.handler_agent.is_none();
        if elsewhere {
            if let Some(a) = self.core.live.get_mut(here.ws, &here.node, &here.provider) {
                a.handlers_live = false;
            }
            self.requeue(here.ws, id);
        } else {
            self.finish(here.ws, id, result, None);
        }
    }

    pub fn node_spawn(&mut self, here: &Here, id: Option<&str>, frame: &Value) {
        let mut input = match frame.get("input") {
            Some(Value::Object(input)) => input.clone(),
            _ => {
                let why = "node.spawn needs an object as input";
                return self.complain(here.conn, id, "invalid_message", why);
            }
        };
        input.remove("node");
        input.remove("target");
        input.insert("target_node".into(), json!("self"));
        let started = self
            .plan_spawn(here.ws, Value::Object(input), Ok(here.node.clone()))
            .and_then(|new| {
                let past_actions = true;
                self.start(
                    here.ws,
                    Invocation {
                        past_actions,
                        ..new
                    },
                )
            })
            .and_then(|(id, _)| {
                let i = self.ws(here.ws)?.invocations.get(&id);
                i.map(Invocation::started_view)
                    .ok_or_else(|| refuse(500, "internal_error", "The invocation was lost"))
            });
        match started {
            Ok(data) => self.reply(here.conn, id, data),
            Err(r) => self.complain(here.conn, id, r.code, &r.message),
        }
    }
}
