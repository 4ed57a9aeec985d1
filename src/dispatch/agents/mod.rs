//! Agents of this node: who runs, from the wish for one to its end. Started with an identity of the engine's, started again
//! when that is wanted, released, and shown.

mod agent;
mod agent_registration;
mod asked_restart;
mod channels;
mod crashes;
mod dialogs;
mod identity_refused;
mod interrupt;
mod preflight;
mod release;
mod remembered;
mod renewal;
mod restart;
mod results;
mod roster;
mod sessions;
mod spawn;
mod state;
mod stopping;
mod unanswered;
mod unregistered;
mod views;

pub(super) use channels::channels_left;
pub(super) use preflight::reserved;
pub(super) use state::{AgentPeers, AgentStep, Agents, AgentsView};

use std::collections::BTreeMap;
use std::time::Duration;

use self::agent::{LocalAgent, RunPhase};
use self::crashes::Crashes;
use super::notice::{Notice, Refused};
use super::questions::AgentQuestions;
use crate::ids::{AgentId, AgentName, Run};
use crate::msg::{AgentCommand, Effect, Refusal, RefusalKind, Secret};
use crate::time::{Mono, Wall};
use crate::wire::down::{EngineReply, ErrorFrame};
use crate::wire::up::InventoryMember;

impl AgentQuestions for Agents {
    fn is_here(&self, name: &AgentName) -> bool {
        self.all.contains_key(name)
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn here(&self) -> Vec<(&AgentName, Option<&AgentId>)> {
        let all = self.all.iter();
        all.map(|(name, agent)| (name, agent.agent_id.as_ref()))
            .collect()
    }

    fn farewells(&self) -> Vec<(&AgentName, &AgentId)> {
        self.farewells.iter().collect()
    }

    fn agent_id(&self, name: &AgentName) -> Option<&AgentId> {
        self.all.get(name)?.agent_id.as_ref()
    }

    fn token(&self, name: &AgentName) -> Option<Secret> {
        self.all.get(name)?.token.clone()
    }

    fn is_moved(&self, name: &AgentName) -> bool {
        self.all.get(name).is_some_and(|agent| agent.moved)
    }

    fn idle_since(&self, name: &AgentName) -> Option<Wall> {
        self.all.get(name)?.program()?.idle_since
    }

    fn listed(&self) -> Vec<InventoryMember> {
        let ours = |a: &LocalAgent| a.is_live() && !a.moved && !a.renewal.is_under_way();
        let live = self.all.iter().filter(|(_, agent)| ours(agent));
        live.filter_map(|(name, agent)| agent.inventory_member(name))
            .collect()
    }

    fn active(&self) -> u64 {
        let all = self.all.values();
        all.filter(|agent| agent.is_live() && !agent.moved).count() as u64
    }

    fn unknown(&self, name: &AgentName) -> Refusal {
        self.unknown_agent(name)
    }
}

impl Agents {
    fn unknown_agent(&self, name: &AgentName) -> Refusal {
        let names: Vec<_> = self.all.keys().map(AgentName::as_str).collect();
        let here = if names.is_empty() {
            "no agents run here".to_owned()
        } else {
            format!("here: {}", names.join(", "))
        };
        Refusal::new(
            RefusalKind::UnknownAgent,
            format!("no agent is named '{name}' ({here})"),
        )
    }
}

impl Agents {
    pub(super) fn new() -> Self {
        Self {
            all: BTreeMap::new(),
            crashes: Crashes::default(),
            next_run: Run(1),
            farewells: BTreeMap::new(),
            unheard: BTreeMap::new(),
            find_at: None,
            releasers: BTreeMap::new(),
        }
    }

    /// How many agents are here.
    pub(super) fn count(&self) -> u64 {
        self.all.len() as u64
    }

    /// Whether a report of this run still counts: an earlier life under the name has nothing to say any more.
    pub(super) fn is_current(&self, name: &AgentName, run: Run) -> bool {
        self.all.get(name).is_some_and(|agent| agent.run.id == run)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let agents = self.all.values().filter_map(LocalAgent::deadline);
        agents.chain(self.unanswered_due()).min()
    }

    pub(super) fn tick(&mut self, step: &mut AgentStep) {
        let now = step.now.mono;
        let due = |agent: &LocalAgent| agent.deadline().is_some_and(|at| at <= now);
        let late = self.all.iter().filter(|(_, agent)| due(agent));
        let late: Vec<AgentName> = late.map(|(name, _)| name.clone()).collect();
        for name in late {
            let Some(agent) = self.all.get(&name) else {
                continue;
            };
            if agent.asking_due().is_some_and(|at| at <= now) {
                self.registering_due(step, &name);
                continue;
            }
            match &agent.run.phase {
                RunPhase::Cooling { .. } => self.restart(step, &name),
                RunPhase::Running(_) => self.settled_in(step, &name),
                RunPhase::Registering(_) | RunPhase::Starting => {}
            }
        }
        if self.unanswered_due().is_some_and(|at| at <= now) {
            self.tick_unanswered(step);
        }
    }

    /// The order that ends an agent's program, to be given while no step can be taken; `None` when none runs.
    pub(super) fn hang_up(&self, name: &AgentName, grace: Duration) -> Option<Effect> {
        let agent = self.all.get(name).filter(|agent| agent.is_live())?;
        let stop = AgentCommand::Stop { grace };
        Some(Effect::Agent(name.clone(), agent.run.id, stop))
    }

    // ---- what other parts tell ----------------------------------------------------------------------------------

    /// The engine listens: who ended meanwhile, and who wants an identity.
    pub(super) fn link_open(&mut self, step: &mut AgentStep) {
        self.send_farewells(step);
        self.offer_refused();
        self.register_waiting(step);
        self.find_unanswered(step);
        self.join_again(step);
    }

    pub(super) fn link_lost(&mut self, step: &mut AgentStep) {
        self.unheard.clear();
        self.registrations_lost(step);
        self.renewals_lost();
    }

    pub(super) fn replied(&mut self, step: &mut AgentStep, reply: &EngineReply) {
        if !self.renewed(step, &reply.id, &reply.data) {
            self.agent_registered(step, &reply.id, &reply.data);
        }
    }

    pub(super) fn complained(&mut self, step: &mut AgentStep, error: &ErrorFrame) {
        if !self.renewal_refused(step, error) && !self.agent_refused(step, error) {
            log::warn!(event = "engine_error"; "the engine complains: {} {}", error.code, error.message);
        }
    }

    /// One that runs on another node is ended; any other is asked for anew, as a new agent only: who runs on another node is
    /// not given to us then, and so not taken away from there ([engine-protocol 3.4](crate::docs::engine_protocol#3.4),
    /// [2.3](crate::docs::engine_protocol#2.3)).
    pub(super) fn disputed(
        &mut self,
        step: &mut AgentStep,
        refused: Vec<Refused>,
        list_again: bool,
    ) {
        let mut news = list_again;
        for Refused { name, code } in refused {
            news |= match code.as_deref() {
                Some(Refused::ELSEWHERE) => self.moved(step, &name),
                _ => self.renew(step, &name, code),
            };
        }
        if news {
            step.notice(Notice::RosterChanged);
        }
    }

    /// A message ended in its terminal.
    pub(super) fn mail_settled(&mut self, name: &AgentName, at: Wall) {
        if let Some(agent) = self.all.get_mut(name) {
            agent.last_activity = at;
        }
    }

    #[cfg(test)]
    pub(super) fn run_of(&self, name: &AgentName) -> Run {
        self.all[name].run.id
    }

    #[cfg(test)]
    pub(super) fn is_running(&self, name: &AgentName) -> bool {
        self.all[name].is_running()
    }

    #[cfg(test)]
    pub(super) fn is_starting(&self, name: &AgentName) -> bool {
        matches!(self.all[name].run.phase, RunPhase::Starting)
    }
}
