//! Somebody has an agent's program stop what it does, without a message: its thread knows whether and how.

use super::agent::LocalAgent;
use super::state::{AgentStep, Agents};
use crate::dispatch::questions::AgentQuestions;
use crate::ids::{AgentName, Ticket};
use crate::msg::{AgentCommand, Answer, Reply};
use crate::wire::local;

impl Agents {
    /// The answer comes from the agent's thread.
    pub(in crate::dispatch) fn interrupt_call(
        &mut self,
        step: &mut AgentStep,
        ticket: Ticket,
        name: &AgentName,
    ) -> Option<Answer> {
        let agent = self.all.get_mut(name);
        let run = agent.as_ref().map(|agent| agent.run.id);
        match (agent.and_then(LocalAgent::program_mut), run) {
            (Some(program), Some(run)) => {
                program.waiting.push(ticket);
                step.order(name.clone(), run, AgentCommand::Interrupt(ticket));
                None
            }
            _ => Some(Err(self.unknown(name))),
        }
    }

    pub(in crate::dispatch) fn interrupted(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        ticket: Ticket,
        result: Result<(), String>,
    ) {
        self.answered(name, ticket);
        let answer = local::Interrupted {
            success: true,
            name: name.clone(),
            interrupted: result.is_ok(),
            reason: result.err(),
        };
        step.reply(ticket, Ok(Reply::Interrupted(answer)));
    }
}
