//! What goes on while the journal cannot be written: looks, signs of life, and the end of agents. Nothing here changes
//! anything, so every step that waits for the disk is taken later exactly as it would have been. What a look shows may not
//! be durable yet; it is what is known.

use std::time::Duration;

use super::Dispatcher;
use super::roster::Phase;
use crate::ids::AgentName;
use crate::msg::{AgentCommand, Answer, ApiCall, Effect, Event, Reply};
use crate::time::Now;
use crate::wire::local;

impl Dispatcher {
    /// See [`crate::machine::Machine::meanwhile`].
    pub(super) fn aside(&self, now: Now, event: &Event, effects: &mut Vec<Effect>) -> bool {
        match event {
            Event::Call(ticket, ApiCall::Release { name, .. }) => {
                // It is the name's own end that a disk may be full of, so it does not wait for the record.
                if self.hang_up(name, self.facts.grace, effects) {
                    let name = name.clone();
                    effects.push(Effect::Reply(*ticket, Ok(Reply::Releasing { name })));
                }
                false
            }
            Event::Call(ticket, call) => match self.look(now, call) {
                Some(answer) => {
                    effects.push(Effect::Reply(*ticket, answer));
                    true
                }
                None => false,
            },
            Event::Shutdown { .. } => {
                for name in self.members.keys() {
                    self.hang_up(name, self.facts.grace, effects);
                }
                false
            }
            Event::Tick => {
                if self.link.beating() {
                    effects.push(self.beat());
                }
                false
            }
            _ => false,
        }
    }

    /// The answer to a call that only looks; `None` for any other.
    pub(super) fn look(&self, now: Now, call: &ApiCall) -> Option<Answer> {
        Some(match call {
            ApiCall::Agents => Ok(Reply::Agents(local::AgentList {
                agents: self.agent_views(now),
                departed: self.departed_views(),
            })),
            ApiCall::Pending(name) => self.pending(now, name),
            ApiCall::Mode(name) => self.mode(name),
            ApiCall::Status => Ok(Reply::Status(Box::new(self.status(now)))),
            ApiCall::DeadLetters => Ok(Reply::DeadLetters(self.dead_views(now))),
            _ => return None,
        })
    }

    /// Ends an agent's program; `false` when none runs.
    fn hang_up(&self, name: &AgentName, grace: Duration, effects: &mut Vec<Effect>) -> bool {
        let member = self.members.get(name);
        let Some(member) = member.filter(|m| matches!(m.phase, Phase::Running | Phase::Stopping))
        else {
            return false;
        };
        let stop = AgentCommand::Stop { grace };
        effects.push(Effect::Agent(name.clone(), member.run, stop));
        true
    }
}
