//! The inventory of a node, which settles what is true after a reconnect
//! ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)).

use serde_json::json;

use crate::engine::agents::Binding;
use crate::engine::directory::Agent;
use crate::engine::id::Id;
use crate::engine::live::Here;
use crate::engine::step::Step;
use crate::wire::up::{InventoryMember, InventorySync};

/// What an inventory led to.
#[derive(Default)]
struct Report {
    listed: Vec<Id>,
    completed: usize,
    rejected: Vec<(InventoryMember, &'static str)>,
}

impl Step<'_> {
    /// The complete set of agents that this provider runs ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)). All
    /// unacknowledged mail of those listed is sent again, even over the same connection: that is how a broker asks for frames
    /// it refused. Spawns that are under way here stay here: upstream moves them at once, which starts the same agent twice.
    pub fn inventory_sync(&mut self, here: &Here, f: &InventorySync) {
        let rules = self.core.behaviour();
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
        let (ws, rules) = (here.ws, self.core.behaviour());
        let Some(a) = self.agent_named(ws, member.name.as_str()).ok() else {
            return match rules.sync_ignores_strangers {
                true => Ok(None),
                false => Err("agent_identity_mismatch"),
            };
        };
        // In this order (`reconcileInventory` at d0ed8bc): the provider, the place, the id.
        let checked = rules.schema.is_some() && !rules.sync_by_name;
        if checked && a.provider != here.provider {
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
        let replays = self.core.behaviour().sync_replays;
        let attachment = self.core.live.get_mut(here.ws, &here.node, &here.provider);
        match attachment.and_then(|a| a.ready.get_mut(&agent)) {
            Some(ready) if !replays => ready.listed = true,
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
