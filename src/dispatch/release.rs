//! Releases: the end of a life by somebody's wish. What waited for the agent becomes dead letters, the engine has its
//! acknowledgement, and the next agent of the name finds nothing of the one before.

use std::collections::BTreeSet;

use super::roster::Phase;
use super::{Dispatcher, Out};
use crate::ids::{AgentId, AgentName, DeliveryId, InvocationId, Ticket};
use crate::msg::{AgentCommand, Answer, Effect, Origin, Refusal, RefusalKind, Reply};
use crate::time::Now;
use crate::wire::event::{BrokerEvent, DeliveryMode};
use crate::wire::up::Outcome;

/// Who waits for a release.
#[derive(Clone, Debug)]
pub(super) enum Releaser {
    Caller(Ticket),
    Invocation(InvocationId),
}

/// How a life came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Without anybody's wish, so that whoever bears the name next takes over the mail.
    Itself,
    /// By somebody's wish.
    Released,
    /// The engine has the agent on another node, which gets the engine's mail from the engine.
    Moved,
}

/// How many senders an event names.
const SENDERS_NAMED: usize = 16;

impl Dispatcher {
    /// Leaves nothing that the next agent of the name could trip over: what waits becomes dead letters, frames that came too
    /// early are forgotten, and messages are no longer held.
    pub(super) fn clear(&mut self, now: Now, name: &AgentName, end: End, out: &mut Out) {
        if let Some(agent_id) = self.ledger.bound(name).cloned() {
            self.gaps.remove(&agent_id);
            self.asked_anew.remove(&agent_id);
            self.left.remove(&agent_id);
            self.called.remove(&agent_id);
        }
        self.full.retain(|_, of| of != name);
        self.bury_all(now, name, end, out);
        if self.ledger.mode(name) == DeliveryMode::ManualFlush {
            self.change_mode(name, DeliveryMode::AutoInject, out);
        }
    }

    fn bury_all(&mut self, now: Now, name: &AgentName, end: End, out: &mut Out) {
        let waiting: Vec<DeliveryId> = self
            .ledger
            .mail()
            .of(name)
            .map(|p| p.delivery.id.clone())
            .collect();
        if waiting.is_empty() {
            return;
        }
        self.emit_dropped(name, waiting.len() as u64, end, out);
        let mut finished: BTreeSet<AgentId> = BTreeSet::new();
        for id in waiting {
            if let Some(delivery) = self.give_up(now, &id, end.why(), out)
                && let Origin::Engine { agent_id, .. } = delivery.origin
            {
                finished.insert(agent_id);
            }
        }
        if end != End::Moved {
            for agent_id in finished {
                self.acknowledge(name, &agent_id, out);
            }
        }
    }

    fn emit_dropped(&mut self, name: &AgentName, count: u64, end: End, out: &mut Out) {
        let mut senders: Vec<String> = Vec::new();
        for pending in self.ledger.mail().of(name) {
            let from = &pending.delivery.from;
            if senders.len() < SENDERS_NAMED && !senders.contains(from) {
                senders.push(from.clone());
            }
        }
        let reason = format!("{}; `relay-broker dead` lists what waited", end.why());
        let event = BrokerEvent::DeliveryDropped {
            name: name.clone(),
            count,
            reason,
            senders,
        };
        self.publish(event, out);
    }

    /// What to say to who starts an agent whose name is still on hold: its task would wait in silence.
    pub(super) fn held_warning(&self, name: &AgentName) -> Option<String> {
        let held = self.ledger.mode(name) == DeliveryMode::ManualFlush;
        held.then(|| {
            format!("messages for '{name}' are held since before this start; `relay-broker auto {name}` lets them through")
        })
    }

    /// Whether somebody who is not here left mail, or a hold, for whoever bears the name next.
    fn left_something(&self, name: &AgentName) -> bool {
        self.ledger.mail().waiting(name) > 0
            || self.ledger.mode(name) == DeliveryMode::ManualFlush
            || self.ledger.lives().departed().any(|(of, _)| of == name)
    }

    pub(super) fn release_call(
        &mut self,
        now: Now,
        ticket: Ticket,
        name: &AgentName,
        reason: Option<&str>,
        out: &mut Out,
    ) -> Option<Answer> {
        if !self.members.contains_key(name) {
            if !self.left_something(name) {
                return Some(Err(self.unknown(name)));
            }
            self.life_over(now, name, End::Released, out);
            return Some(Ok(Reply::Released { name: name.clone() }));
        }
        log::info!("releasing {name}: {}", reason.unwrap_or("asked to"));
        self.begin_release(now, name, Releaser::Caller(ticket), out);
        None
    }

    /// For the engine's `release`. An agent that is gone already counts as released
    /// ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)); a name that never was here is an error and leaves no trace,
    /// whoever makes it up.
    pub(super) fn release_invoked(
        &mut self,
        now: Now,
        name: &AgentName,
        id: InvocationId,
        out: &mut Out,
    ) {
        if self.members.contains_key(name) {
            self.begin_release(now, name, Releaser::Invocation(id), out);
        } else if self.ledger.bound(name).is_some() || self.left_something(name) {
            self.life_over(now, name, End::Released, out);
            self.answer_releasers(name, &[Releaser::Invocation(id)], out);
        } else {
            let why = format!("release_failed: no agent named '{name}' has run on this node");
            self.answer(id, Outcome::Error(why), out);
        }
    }

    fn begin_release(&mut self, now: Now, name: &AgentName, who: Releaser, out: &mut Out) {
        let grace = self.facts.grace;
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.releasing.push(who);
        member.released = true;
        match member.phase {
            Phase::Registering { .. } => {
                let why = format!("agent '{name}' was released before it started");
                self.spawn_failed(now, name, &Refusal::new(RefusalKind::SpawnFailed, why), out);
            }
            Phase::Cooling { .. } => self.released_between_runs(now, name, out),
            Phase::Starting | Phase::Stopping => {}
            Phase::Running => {
                member.phase = Phase::Stopping;
                let run = member.run;
                out.effects.push(Effect::Agent(
                    name.clone(),
                    run,
                    AgentCommand::Stop { grace },
                ));
            }
        }
    }

    /// Its program does not run at the moment, so its life ends here and now.
    fn released_between_runs(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let Some(member) = self.members.remove(name) else {
            return;
        };
        self.life_over(now, name, End::Released, out);
        if let Some(agent_id) = member.agent_id {
            self.deregister(agent_id, Some(name.clone()), out);
        }
        self.publish(BrokerEvent::AgentReleased { name: name.clone() }, out);
        self.answer_releasers(name, &member.releasing, out);
        self.leave_if_empty(now, out);
    }

    pub(super) fn answer_releasers(&mut self, name: &AgentName, who: &[Releaser], out: &mut Out) {
        for releaser in who {
            match releaser {
                Releaser::Caller(ticket) => {
                    out.effects.push(Effect::Reply(
                        *ticket,
                        Ok(Reply::Released { name: name.clone() }),
                    ));
                }
                Releaser::Invocation(id) => {
                    let output = serde_json::json!({ "released": true, "name": name.as_str() });
                    self.answer(id.clone(), Outcome::Output(output), out);
                }
            }
        }
    }
}

impl End {
    fn why(self) -> &'static str {
        match self {
            End::Itself => "the agent ended",
            End::Released => "the agent was released before it read the message",
            End::Moved => "the agent runs on another node now",
        }
    }
}
