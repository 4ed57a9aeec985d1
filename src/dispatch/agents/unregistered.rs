//! Agents that run before the engine knows them: while it is away, a program is started without an identity, which is asked
//! for until it comes. Mail of this machine reaches such an agent; the engine's follows with the identity.

use super::agent::{Asking, LocalAgent, RunPhase};
use super::agent_registration::ASK_AGAIN;
use super::state::{AgentStep, Agents};
use crate::dispatch::notice::Notice;
use crate::ids::AgentName;
use crate::msg::Refusal;
use crate::wire::event::{BrokerEvent, NestedError};

impl LocalAgent {
    /// Whether it may run without an identity. What the engine asked for goes to another node when the link is gone; who
    /// brings a token of its own has an identity already.
    fn may_run_unregistered(&self) -> bool {
        let engines_own = self.run.source.invocation().is_some();
        !engines_own && self.token.is_none() && matches!(self.run.phase, RunPhase::Registering(_))
    }
}

impl Agents {
    /// The engine has not answered. Where it is known to be away, the program starts all the same; says whether it does.
    pub(super) fn start_unregistered(&mut self, step: &mut AgentStep, name: &AgentName) -> bool {
        let Some(why) = step.peers.control.why_down().map(str::to_owned) else {
            return false;
        };
        let may = self
            .all
            .get(name)
            .is_some_and(LocalAgent::may_run_unregistered);
        if !may || step.peers.control.is_open() {
            return false;
        }
        log::warn!(event = "agent_unregistered", agent:% = name; "agent {name} starts without an identity, because the engine is away: {why}");
        // An answer that is still on its way is waited for.
        let asked = self.all.get(name).and_then(LocalAgent::asking);
        let job = asked.and_then(|asking| asking.job);
        self.start_program(step, name);
        if let Some(agent) = self.all.get_mut(name) {
            agent.late = Some(Asking {
                http_at: job.is_none().then(|| step.now.mono + ASK_AGAIN),
                job,
                ..Asking::default()
            });
        }
        true
    }

    /// The identity of an agent whose program was started without one has come.
    pub(super) fn registered_late(&mut self, step: &mut AgentStep, name: &AgentName) {
        if let Some(agent) = self.all.get_mut(name) {
            agent.late = None;
            agent.trouble = None;
        }
        self.join_channels(step, name);
        step.notice(Notice::RosterChanged);
    }

    /// The engine gives an agent no identity: one whose program runs goes on, without the engine's mail.
    pub(super) fn identity_refused(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        refusal: &Refusal,
    ) {
        let late = self.all.get_mut(name).filter(|agent| agent.late.is_some());
        let Some(agent) = late else {
            return self.spawn_failed(step, name, refusal);
        };
        agent.late = None;
        agent.trouble = Some(format!(
            "it runs unknown to the engine: {}",
            refusal.message
        ));
        log::error!(
            event = "not_registered", agent:% = name;
            "{}; its program runs on, without mail of the engine",
            refusal.message
        );
        let error = NestedError {
            code: "not_registered".into(),
            message: refusal.message.clone(),
            retryable: false,
        };
        step.publish(BrokerEvent::WorkerError {
            name: name.clone(),
            code: error.code.clone(),
            message: error.message.clone(),
            error,
        });
    }

    /// The engine listens: who was refused before is offered once more.
    pub(super) fn offer_refused(&mut self) {
        for agent in self.all.values_mut() {
            let runs = matches!(agent.run.phase, RunPhase::Running(_) | RunPhase::Starting);
            if runs && agent.agent_id.is_none() && !agent.moved {
                agent.late.get_or_insert_default();
            }
        }
    }
}
