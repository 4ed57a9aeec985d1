//! Releases: the end of a life by somebody's wish. What waited for the agent becomes dead letters, the engine has its
//! acknowledgement, and the next agent of the name finds nothing of the one before.

use super::agent::{Releaser, RunPhase};
use super::agent_registration::identity_over;
use super::restart::life_over;
use super::state::{AgentStep, Agents};
use super::stopping::hang_up;
use crate::dispatch::notice::{End, Notice};
use crate::dispatch::questions::AgentQuestions;
use crate::domain::{DeliveryMode, Outcome};
use crate::ids::{AgentName, InvocationId, Ticket};
use crate::msg::{Answer, Refusal, RefusalKind, Reply};
use crate::wire::event::BrokerEvent;

impl Agents {
    /// Somebody wants an agent ended, or what one left put away.
    pub(in crate::dispatch) fn release_call(
        &mut self,
        step: &mut AgentStep,
        ticket: Ticket,
        name: &AgentName,
        reason: Option<&str>,
    ) -> Option<Answer> {
        if !self.all.contains_key(name) {
            if !left_something(step, name) {
                return Some(Err(self.unknown(name)));
            }
            life_over(step, name, End::Released, None);
            self.released(step, name, &[Releaser::Caller(ticket)]);
            return None;
        }
        log::info!(event = "agent_releasing", agent:% = name; "releasing {name}: {}", reason.unwrap_or("asked to"));
        self.begin_release(step, name, Releaser::Caller(ticket));
        None
    }

    /// For the engine's `release`. An agent that is gone already counts as released
    /// ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)); a name that never was here is an error and leaves no trace,
    /// whoever makes it up.
    pub(in crate::dispatch) fn release_invoked(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        id: InvocationId,
    ) {
        if self.all.contains_key(name) {
            self.begin_release(step, name, Releaser::Invocation(id));
        } else if step.ledger().bound(name).is_some() || left_something(step, name) {
            life_over(step, name, End::Released, None);
            self.released(step, name, &[Releaser::Invocation(id)]);
        } else {
            let why = format!("release_failed: no agent named '{name}' has run on this node");
            step.notice(Notice::InvocationOver(id, Outcome::Error(why)));
        }
    }

    /// An agent that was started for its task alone is done with it.
    pub(super) fn release_done(&mut self, step: &mut AgentStep, name: &AgentName) {
        self.begin_release(step, name, Releaser::Itself);
    }

    fn begin_release(&mut self, step: &mut AgentStep, name: &AgentName, who: Releaser) {
        let grace = step.config().grace;
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        agent.releasing.push(who);
        agent.released = true;
        match &agent.run.phase {
            RunPhase::Registering(_) => {
                let why = format!("agent '{name}' was released before it started");
                self.spawn_failed(step, name, &Refusal::new(RefusalKind::SpawnFailed, why));
            }
            RunPhase::Cooling { .. } => self.released_between_runs(step, name),
            RunPhase::Running(program) if !program.leaving => hang_up(step, name, agent, grace),
            RunPhase::Starting | RunPhase::Running(_) => {}
        }
    }

    /// Its program does not run at the moment, so its life ends here and now.
    fn released_between_runs(&mut self, step: &mut AgentStep, name: &AgentName) {
        let Some(agent) = self.all.remove(name) else {
            return;
        };
        life_over(step, name, End::Released, None);
        step.notice(Notice::AgentGone(name.clone()));
        if let Some(agent_id) = agent.agent_id {
            identity_over(step, name, agent_id, false);
        }
        step.publish(BrokerEvent::AgentReleased {
            name: name.clone(),
            generation: Some(agent.generation),
        });
        self.released(step, name, &agent.releasing);
    }

    /// Whoever wanted an agent released hears that it is. What comes for the name from then on is the next bearer's, so the
    /// engine is to have nothing of the last by then; it is not waited for when it is away.
    pub(super) fn released(&mut self, step: &mut AgentStep, name: &AgentName, who: &[Releaser]) {
        let control = step.peers.control;
        let ledger = step.ledger();
        let owed = ledger.bound(name).is_some() || ledger.unanswered(name).is_some();
        let waits = owed && control.is_open() && !control.is_stopping();
        for releaser in who {
            // The engine goes on with what it has only once it has its answer.
            match releaser {
                Releaser::Caller(_) if waits => {
                    let releasers = self.releasers.entry(name.clone()).or_default();
                    releasers.push(releaser.clone());
                }
                releaser => answer_releasers(step, name, std::slice::from_ref(releaser)),
            }
        }
    }

    /// The engine has nothing more for a name, or will not say so soon.
    pub(in crate::dispatch) fn cleared(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        all: bool,
    ) {
        if let Some(who) = self.releasers.remove(name) {
            answer_releasers(step, name, &who);
        }
        if all {
            self.name_is_free(step, name);
        }
    }

    /// The broker stops, and asks the engine for nothing more.
    pub(super) fn all_clearing_over(&mut self, step: &mut AgentStep) {
        for (name, who) in std::mem::take(&mut self.releasers) {
            answer_releasers(step, &name, &who);
        }
    }
}

/// What to say to who starts an agent whose name is still on hold: its task would wait in silence.
pub(super) fn held_warning(step: &AgentStep, name: &AgentName) -> Option<String> {
    let held = step.ledger().mode(name) == DeliveryMode::ManualFlush;
    held.then(|| {
        format!("messages for '{name}' are held since before this start; `relay-broker auto {name}` lets them through")
    })
}

/// Whether somebody who is not here left mail, or a hold, for whoever bears the name next.
fn left_something(step: &AgentStep, name: &AgentName) -> bool {
    step.ledger().mail().waiting(name) > 0
        || step.ledger().mode(name) == DeliveryMode::ManualFlush
        || step.ledger().lives().departed_as(name).is_some()
        || step.ledger().unanswered(name) == Some(false)
}

pub(super) fn answer_releasers(step: &mut AgentStep, name: &AgentName, who: &[Releaser]) {
    for releaser in who {
        match releaser {
            Releaser::Itself => {}
            Releaser::Caller(ticket) => {
                step.reply(*ticket, Ok(Reply::Released { name: name.clone() }));
            }
            Releaser::Invocation(id) => {
                let output = serde_json::json!({ "released": true, "name": name.as_str() });
                step.notice(Notice::InvocationOver(id.clone(), Outcome::Output(output)));
            }
        }
    }
}
