//! What nodes say of their agents and of the work they were given ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)):
//! registration, acknowledgement, results, and the inventory that settles what is true after a reconnect.

use serde_json::{Value, json};

use super::directory::{Agent, Id, Node};
use super::frames::{Failure, Here, failure};
use super::http::refuse;
use super::http_agents::NewAgent;
use super::http_nodes::Binding;
use super::record::EngineRecord;
use super::turn::Turn;
use crate::ids::AgentName;
use crate::wire::up::{
    AgentDeregister, AgentRecover, AgentRegister, DeliveryAck, InventoryMember, InventorySync,
    Outcome,
};

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

/// What an inventory led to.
#[derive(Default)]
struct Report {
    listed: Vec<Id>,
    completed: usize,
    rejected: Vec<(InventoryMember, &'static str)>,
}

impl Turn<'_> {
    pub fn agent_register(&mut self, here: &Here, claim: &Claim<'_>, expected: Option<&str>) {
        match self.try_agent_register(here, claim, expected) {
            Ok((agent, data)) => {
                self.reply(here.conn, claim.id, data);
                self.flush(here.ws, agent);
                if self.core.behaviour.replays_node {
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
    ) -> Result<(Id, Value), Failure> {
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
        if known.is_some() && expected.is_none() && self.core.behaviour.create_only {
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
        if !counted && !self.has_room(ws, &here.node, &here.provider) {
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
    ) -> Result<(), Failure> {
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
        self.record(EngineRecord::AgentChanged {
            ws,
            agent,
            status: None,
            persona: None,
            metadata: Some(metadata),
        });
        if !was {
            self.announce_presence(ws, claim.name, true);
        }
    }

    /// An agent that no node has had yet comes from this one from now on.
    fn set_origin(&mut self, here: &Here, agent: Id) {
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
        if f.id.is_some() && self.core.behaviour.deregister_replies {
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
            self.record(EngineRecord::Acked {
                ws,
                agent,
                up_to,
                at: self.now.wall,
            });
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
                    super::actions::Invocation {
                        past_actions,
                        ..new
                    },
                )
            })
            .and_then(|(id, _)| {
                let i = self.ws(here.ws)?.invocations.get(&id);
                i.map(super::actions::Invocation::started_view)
                    .ok_or_else(|| refuse(500, "internal_error", "The invocation was lost"))
            });
        match started {
            Ok(data) => self.reply(here.conn, id, data),
            Err(r) => self.complain(here.conn, id, r.code, &r.message),
        }
    }

    /// The complete set of agents that this provider runs ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)). All
    /// unacknowledged mail of those listed is sent again, even over the same connection: that is how a broker asks for frames
    /// it refused. Spawns that are under way here stay here: upstream moves them at once, which starts the same agent twice.
    pub fn inventory_sync(&mut self, here: &Here, f: &InventorySync) {
        let rules = self.core.behaviour;
        let spoilt = f
            .agents
            .iter()
            .find_map(|member| Some((member, self.check_member(here, member).err()?)));
        if let Some((member, code)) = spoilt.filter(|_| rules.sync_all_or_nothing) {
            let why = match code {
                "agent_location_conflict" => "is active on another node",
                _ => "is not this node's to list",
            };
            let why = format!("Agent \"{}\" {why}", member.name);
            return self.complain(here.conn, f.id.as_deref(), code, &why);
        }
        let open = self.open_here(here).len();
        let mut report = Report::default();
        for member in &f.agents {
            if let Err(code) = self.settle_member(here, member, &mut report) {
                report.rejected.push((member.clone(), code));
            }
        }
        if let Some((member, code)) = report.rejected.first()
            && rules.sync_counts_rejected
            && report.listed.is_empty()
        {
            let why = format!("Agent \"{}\" is not this node's to list", member.name);
            return self.complain(here.conn, f.id.as_deref(), code, &why);
        }
        self.take_offline_except(here, f);
        let moved = match rules.sync_reschedules {
            true => self.movable(here.ws, &self.open_here(here)),
            false => Vec::new(),
        };
        let mut data = json!({
            "rebound_agents": match rules.sync_by_name {
                true => f.agents.len(),
                false => report.listed.len(),
            },
            "open_invocations": open,
            "completed_invocations": report.completed,
            "rescheduled_invocations": moved.len(),
        });
        if rules.sync_counts_rejected {
            data["rejected_agents"] = json!(report.rejected.len());
        } else if rules.conflict_in_words {
            let names = report.rejected.iter().map(|(member, _)| json!(member.name));
            data["rejected_agents"] = names.collect();
        } else if !report.rejected.is_empty() {
            // More than any engine says, in the form that breaks no reader (engine-protocol 3.9).
            let named = report.rejected.iter().map(|(member, code)| {
                json!({"agent_id": member.agent_id, "name": member.name, "code": code})
            });
            data["rejected_agents"] = named.collect();
        }
        self.reply(here.conn, f.id.as_deref(), data);
        for id in moved {
            self.requeue(here.ws, &id);
        }
        self.flush_connection(here.conn);
    }

    /// Those of the open invocations that a node handles, and not one certain agent.
    fn movable(&self, ws: Id, open: &[String]) -> Vec<String> {
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return Vec::new();
        };
        let bound = |id: &&String| {
            w.invocations
                .get(*id)
                .is_some_and(|i| i.handler_agent.is_none())
        };
        open.iter().filter(bound).cloned().collect()
    }

    /// The agent that a member stands for, if this provider may list it; `None` for one to pass over. Looked up by its name:
    /// an id that does not go with it is the last thing that counts.
    fn check_member(
        &self,
        here: &Here,
        member: &InventoryMember,
    ) -> Result<Option<&Agent>, &'static str> {
        let (ws, rules) = (here.ws, self.core.behaviour);
        let Some(a) = self.agent_named(ws, member.name.as_str()).ok() else {
            return match rules.sync_ignores_strangers {
                true => Ok(None),
                false => Err("agent_identity_mismatch"),
            };
        };
        // In this order (`reconcileInventory` at d0ed8bc): the provider, the place, the id.
        let strict = rules.strict.is_some() && !rules.sync_by_name;
        if strict && a.provider != here.provider {
            return Err("agent_provider_conflict");
        }
        let here_already = a.node == here.node && a.provider == here.provider;
        if !here_already && !a.is_direct() && self.core.live.is_running(ws, a, self.now.mono) {
            return Err("agent_location_conflict");
        }
        if !rules.sync_by_name && a.id.to_string() != member.agent_id.as_str() {
            return Err("agent_identity_mismatch");
        }
        Ok(Some(a))
    }

    fn settle_member(
        &mut self,
        here: &Here,
        member: &InventoryMember,
        report: &mut Report,
    ) -> Result<(), &'static str> {
        let (ws, now) = (here.ws, self.now.mono);
        let Some(a) = self.check_member(here, member)? else {
            self.complete_listed(here, member, report);
            return Ok(());
        };
        let here_already = a.node == here.node && a.provider == here.provider;
        let (agent, name) = (a.id, a.name.clone());
        let was = self.core.live.is_online(ws, a, now);
        if here_already {
            self.make_ready_again(here, agent);
        } else {
            let to = Binding {
                node: here.node.clone(),
                provider: here.provider.clone(),
                session_ref: member.session_ref.clone(),
                priority: 0,
            };
            self.bind_agent(ws, agent, to);
        }
        self.set_origin(here, agent);
        if !was {
            self.announce_presence(ws, &name, true);
        }
        report.listed.push(agent);
        self.complete_listed(here, member, report);
        Ok(())
    }

    /// The spawn that a member is named for has come to its end.
    fn complete_listed(&mut self, here: &Here, member: &InventoryMember, report: &mut Report) {
        if let Some(invocation) = &member.invocation_id
            && self.is_open_here(here, invocation.as_str())
        {
            let output = json!({
                "agent_id": member.agent_id,
                "name": member.name,
                "invocation_id": invocation,
                "session_ref": member.session_ref,
            });
            self.finish(here.ws, invocation.as_str(), Ok(output), None);
            report.completed += 1;
        }
    }

    /// The agent runs; what it has not acknowledged is sent again, if that is what an inventory means.
    fn make_ready_again(&mut self, here: &Here, agent: Id) {
        let attachment = self.core.live.get_mut(here.ws, &here.node, &here.provider);
        match attachment.and_then(|a| a.ready.get_mut(&agent)) {
            Some(ready) if !self.core.behaviour.sync_replays => ready.listed = true,
            _ => {
                self.make_ready(here.ws, agent, true);
            }
        }
    }

    fn is_open_here(&self, here: &Here, id: &str) -> bool {
        self.open_here(here).iter().any(|open| open == id)
    }

    fn open_here(&self, here: &Here) -> Vec<String> {
        self.sent_to(here.ws, &here.node, &here.provider)
    }

    /// Agents that the provider no longer names are offline; what comes for them waits. One whose name it lists is there,
    /// even where the rest of what it says of that agent is rejected.
    fn take_offline_except(&mut self, here: &Here, list: &InventorySync) {
        let w = self.core.state.workspaces.get(&here.ws);
        let named = list.agents.iter().map(|m| m.name.as_str());
        let listed: Vec<Id> = named
            .filter_map(|name| Some(w?.agent_named(name)?.id))
            .collect();
        let Some(a) = self.core.live.get_mut(here.ws, &here.node, &here.provider) else {
            return;
        };
        let gone: Vec<(Id, bool)> = a
            .ready
            .iter()
            .filter(|(id, _)| !listed.contains(id))
            .map(|(id, ready)| (*id, ready.listed))
            .collect();
        if !gone.is_empty() {
            self.look_at_mail();
        }
        for (agent, was_listed) in gone {
            self.core.live.unready(here.ws, agent);
            self.core.live.forget(here.ws, agent);
            let name = self.agent(here.ws, agent).map(|a| a.name.clone());
            if let Some(name) = name.filter(|_| was_listed) {
                self.announce_presence(here.ws, &name, false);
            }
        }
    }
}
