//! Programs are hung up on, for a release as well as for the orderly end of the broker.

use std::time::Duration;

use super::agent::{LocalAgent, RunPhase};
use super::state::{AgentStep, Agents};
use crate::dispatch::notice::Notice;
use crate::ids::AgentName;
use crate::msg::{AgentCommand, Refusal, RefusalKind};

impl Agents {
    /// For the orderly end. A second order shortens the grace of the first.
    pub(in crate::dispatch) fn stop_all(&mut self, step: &mut AgentStep, grace: Duration) {
        self.all_clearing_over(step);
        let names: Vec<_> = self.all.keys().cloned().collect();
        for name in names {
            let Some(agent) = self.all.get_mut(&name) else {
                continue;
            };
            match &agent.run.phase {
                RunPhase::Registering(_) => {
                    let why = "the broker is stopping";
                    self.spawn_failed(step, &name, &Refusal::new(RefusalKind::Stopping, why));
                }
                RunPhase::Cooling { .. } => {
                    // Its life goes on with the next broker.
                    self.all.remove(&name);
                    step.notice(Notice::AgentGone(name));
                }
                RunPhase::Running(_) => {
                    agent.released = true;
                    hang_up(step, &name, agent, grace);
                }
                RunPhase::Starting => {}
            }
        }
    }
}

/// Has a program that runs end within `grace`.
pub(super) fn hang_up(
    step: &mut AgentStep,
    name: &AgentName,
    agent: &mut LocalAgent,
    grace: Duration,
) {
    let run = agent.run.id;
    if let Some(program) = agent.program_mut() {
        program.leaving = true;
        step.order(name.clone(), run, AgentCommand::Stop { grace });
        step.notice(Notice::AgentLeaving(name.clone()));
    }
}
