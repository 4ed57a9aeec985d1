//! Registrations without an answer. The engine may have made such an agent, and take mail for it, although nobody here knows
//! its identity: the link broke before the answer, the broker was killed, or the answer was an error of something later. That
//! an identity is asked for is on the disk before the engine hears of it; once its agent is gone, the engine is asked who
//! bears the name, and one that this node made there is signed off, and cleared if it was released.

use std::time::Duration;

use super::agent::{LocalAgent, Unheard};
use super::agent_registration::ANSWER_WITHIN;
use super::state::{AgentStep, Agents};
use crate::dispatch::notice::Notice;
use crate::dispatch::rest_jobs::{RestJob, sentence};
use crate::ids::{AgentId, AgentName};
use crate::ledger::Record;
use crate::msg::{RestCall, RestDone};
use crate::time::Mono;
use crate::wire::up::{AgentDeregister, Up};

/// How many agents that ended without a link are still to be told of. More are told by the next list of those that live.
const FAREWELLS: usize = 1024;
/// How many names are looked for at a time.
const AT_ONCE: usize = 4;
/// When the engine is asked again that gave no answer.
const AGAIN: Duration = Duration::from_secs(3);

impl Agents {
    /// An agent goes whose request may be answered yet.
    pub(super) fn goes_unheard(&mut self, step: &AgentStep, agent: &LocalAgent) {
        let request = agent.asking().and_then(|asking| asking.request.clone());
        if let Some(request) = request {
            let name = agent.spec.name.clone();
            let until = step.now.mono + ANSWER_WITHIN;
            self.unheard.insert(request, Unheard { name, until });
        }
    }

    pub(super) fn unanswered_due(&self) -> Option<Mono> {
        let unheard = self.unheard.values().map(|unheard| unheard.until);
        unheard.chain(self.find_at).min()
    }

    pub(super) fn tick_unanswered(&mut self, step: &mut AgentStep) {
        let now = step.now.mono;
        self.unheard.retain(|_, unheard| unheard.until > now);
        if self.find_at.is_some_and(|at| at <= now) {
            let owed = step.ledger().all_unanswered().cloned();
            for name in owed.collect::<Vec<_>>() {
                self.cleared(step, &name, false);
            }
        }
        self.find_unanswered(step);
    }

    /// Looks for those that are gone, or were released, and that nobody has looked for yet. Without a link nothing is done:
    /// the engine may yet read the request.
    pub(in crate::dispatch) fn find_unanswered(&mut self, step: &mut AgentStep) {
        self.find_at = None;
        if !step.peers.control.is_open() || step.peers.control.is_stopping() {
            return;
        }
        let of = |job: &RestJob, name: &AgentName| match job {
            RestJob::Find(n) | RestJob::Identify { name: n, .. } => n == name,
            _ => false,
        };
        let ledger = step.ledger();
        let owed = ledger
            .all_unanswered()
            .filter(|name| ledger.unanswered(name) == Some(true) || !self.all.contains_key(*name));
        let (busy, idle): (Vec<_>, Vec<_>) = owed.cloned().partition(|name| {
            self.unheard.values().any(|unheard| unheard.name == *name)
                || step.awaits(|job| of(job, name))
        });
        if !busy.is_empty() || !idle.is_empty() {
            self.find_at = Some(step.now.mono + AGAIN);
        }
        let room = AT_ONCE.saturating_sub(busy.len());
        for name in idle.into_iter().take(room) {
            find(step, name);
        }
    }

    /// The engine says who bears the name, or will not.
    pub(in crate::dispatch) fn bearer_found(
        &mut self,
        step: &mut AgentStep,
        name: AgentName,
        done: &RestDone,
    ) {
        match done {
            RestDone::Found(Some(agent_id)) => self.answered_late(step, name, agent_id.clone()),
            RestDone::Found(None) => self.was_never_made(step, name),
            RestDone::Failed {
                status: Some(status),
                ..
            } if *status < 500 && *status != 429 => {
                log::warn!("who bears the name {name} is not known: {}", sentence(done));
                self.was_never_made(step, name);
            }
            _ => {
                let again = step.now.mono + AGAIN;
                self.find_at.get_or_insert(again);
                return;
            }
        }
        self.find_unanswered(step);
    }

    /// The engine has an agent of this node of which nobody here knew. Who asks again under its name gets the same one,
    /// unless it was released.
    pub(super) fn answered_late(
        &mut self,
        step: &mut AgentStep,
        name: AgentName,
        agent_id: AgentId,
    ) {
        let released = step.ledger().unanswered(&name) == Some(true);
        if released || !self.all.contains_key(&name) {
            step.notice(Notice::FoundLate {
                name,
                agent_id,
                released,
            });
        }
    }

    /// Nobody bears an identity here that the engine has on this node. One that was released is cleared by what the engine
    /// has of it.
    pub(in crate::dispatch) fn sign_off(
        &mut self,
        step: &mut AgentStep,
        name: AgentName,
        agent_id: AgentId,
    ) {
        self.deregister(step, agent_id, Some(name.clone()));
        if step.ledger().unanswered(&name) == Some(false) {
            step.record(Record::Cleared { agent: name });
        }
    }

    /// The engine must not believe that the agent runs here. Without a link it is told on the next.
    pub(super) fn deregister(
        &mut self,
        step: &mut AgentStep,
        agent_id: AgentId,
        name: Option<AgentName>,
    ) {
        if !step.peers.control.is_open() {
            if let Some(name) = name
                && self.farewells.len() < FAREWELLS
            {
                self.farewells.insert(name, agent_id);
            }
            return;
        }
        step.send(Up::AgentDeregister(AgentDeregister {
            id: None,
            agent_id,
            name,
        }));
    }

    pub(super) fn send_farewells(&mut self, step: &mut AgentStep) {
        for (name, agent_id) in std::mem::take(&mut self.farewells) {
            self.deregister(step, agent_id, Some(name));
        }
    }

    fn was_never_made(&mut self, step: &mut AgentStep, name: AgentName) {
        match step.ledger().unanswered(&name) {
            Some(true) => {
                let agent = name.clone();
                step.record(Record::Cleared { agent });
                self.cleared(step, &name, true);
            }
            Some(false) if !self.all.contains_key(&name) => {
                step.record(Record::Cleared { agent: name });
            }
            _ => {}
        }
    }
}

fn find(step: &mut AgentStep, name: AgentName) {
    let known = step.ledger().bound(&name).cloned();
    let wanted = Box::new(step.peers.control.wanted(&name));
    step.rest_job(RestCall::Find { wanted, known }, RestJob::Find(name));
}
