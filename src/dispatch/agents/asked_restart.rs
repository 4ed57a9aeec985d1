//! Restarts that somebody asks for: the program of an agent that runs is ended and started again within the same life, one
//! that cools down has waited long enough, and one that ended is started as it was. Its mail stays where it is, and its task
//! is typed once.

use std::time::Duration;

use super::agent::{LocalAgent, RestartedFrom, RunPhase};
use super::release::held_warning;
use super::restart::remember_anew;
use super::state::{AgentStep, Agents};
use super::stopping::hang_up;
use crate::dispatch::questions::AgentQuestions;
use crate::ids::{AgentName, Ticket};
use crate::msg::{Answer, How, Refusal, RefusalKind, Reply, SpawnSource};
use crate::wire::local::{Restarted, SpawnRequest};

impl Agents {
    /// Somebody wants an agent's program started again.
    pub(in crate::dispatch) fn restart_call(
        &mut self,
        step: &mut AgentStep,
        ticket: Ticket,
        name: &AgentName,
    ) -> Option<Answer> {
        let grace = step.config().grace;
        let Some(agent) = self.all.get_mut(name) else {
            return self.start_departed(step, ticket, name);
        };
        if agent.released {
            return Some(Err(on_its_way_out(name)));
        }
        let was = match &agent.run.phase {
            RunPhase::Running(_) => RestartedFrom::Running,
            RunPhase::Cooling { .. } => RestartedFrom::Cooling,
            RunPhase::Registering(_) | RunPhase::Starting => RestartedFrom::Starting,
        };
        agent.restarters.push((ticket, was));
        match was {
            RestartedFrom::Running if agent.is_running() => hang_up(step, name, agent, grace),
            RestartedFrom::Cooling => {
                remember_anew(step, name, &agent.request);
                self.restart(step, name);
            }
            RestartedFrom::Running | RestartedFrom::Starting | RestartedFrom::Departed => {}
        }
        None
    }

    /// One that ended without anybody's wish is started as it was.
    fn start_departed(
        &mut self,
        step: &mut AgentStep,
        ticket: Ticket,
        name: &AgentName,
    ) -> Option<Answer> {
        let Some(departed) = step.ledger().lives().departed_as(name) else {
            return Some(Err(self.unknown(name)));
        };
        let Some(request) = departed.request.clone() else {
            let why = format!(
                "'{name}' ended under an earlier version, which did not write down how it was started; start it with \
                 `relay-broker spawn {name} -- COMMAND`"
            );
            return Some(Err(Refusal::new(RefusalKind::UnknownAgent, why)));
        };
        let request = SpawnRequest::from(*request);
        let source = SpawnSource::Api;
        match self.check_spawn(step.view(), &request, source.is_own()) {
            Ok((spec, request)) => self.enlist(step, None, request, source, spec),
            Err(refusal) => return Some(Err(refusal)),
        }
        if let Some(agent) = self.all.get_mut(name) {
            agent.restarters.push((ticket, RestartedFrom::Departed));
        }
        None
    }

    /// A program has ended because somebody wants it started again. Its failures until now do not count any more.
    pub(super) fn goes_on_as_asked(&mut self, step: &mut AgentStep, agent: LocalAgent, how: &How) {
        remember_anew(step, &agent.spec.name, &agent.request);
        self.cools_down(step, agent, how, Duration::ZERO);
    }
}

fn on_its_way_out(name: &AgentName) -> Refusal {
    let why = format!(
        "agent '{name}' is being ended for good; once it is gone, `relay-broker spawn {name} -- COMMAND` starts it anew"
    );
    Refusal::new(RefusalKind::UnknownAgent, why)
}

/// Whoever wanted a restart hears that the program runs.
pub(super) fn answer_restarters(step: &mut AgentStep, name: &AgentName, agent: &mut LocalAgent) {
    for (ticket, was) in std::mem::take(&mut agent.restarters) {
        let restarted = Restarted {
            success: true,
            name: name.clone(),
            pid: agent.pid(),
            was: was.word().into(),
            pending_messages: step.ledger().mail().waiting(name) as u64,
            warning: held_warning(step, name),
        };
        step.reply(ticket, Ok(Reply::Restarted(restarted)));
    }
}

/// Whoever wanted a restart hears why there is none.
pub(super) fn refuse_restarters(step: &mut AgentStep, agent: &mut LocalAgent, refusal: &Refusal) {
    for (ticket, _) in std::mem::take(&mut agent.restarters) {
        step.reply(ticket, Err(refusal.clone()));
    }
}
