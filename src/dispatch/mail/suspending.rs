//! Messages of agents that seem to answer each other without end: held, never dropped, until a person speaks to either of the
//! two, or `flush` lets them go. That they are held is in the journal, so that a restart lets nothing loose; what was counted
//! until then is not, so that a new life of the broker counts anew.

use super::delivery::emit_blocked;
use super::loops::Suspicion;
use super::speaker::Speaker;
use super::state::{Mail, MailStep};
use crate::ids::{AgentName, DeliveryId};
use crate::ledger::{Delivery, Record};
use crate::wire::event::BrokerEvent;
use std::collections::BTreeMap;

/// Why such a message waits, in words.
pub(in crate::dispatch) const SUSPENDED: &str = "the agents seem to answer each other without end; a person's word to one of them, or `relay-broker flush`, lets it go";

impl Mail {
    /// Counts a message that was just taken on; whether it is one too many and is held.
    pub(super) fn suspects(
        &mut self,
        step: &mut MailStep,
        id: &DeliveryId,
        speaker: &Speaker,
    ) -> bool {
        let Some(pending) = step.ledger().mail().get(id) else {
            return false;
        };
        let delivery = pending.delivery.clone();
        let from = match speaker {
            Speaker::Agent(from) => from,
            Speaker::Person => {
                self.let_go(step, &delivery.agent, "person_spoke");
                return false;
            }
            Speaker::Stranger | Speaker::Nobody => return false,
        };
        // What comes after a message that is held may not overtake it.
        let before = is_suspended(step, from, &delivery.agent);
        let limits = step.config().limits.talk;
        let suspicion = match before {
            true => {
                self.loops.wrote(step.now.mono, from);
                None
            }
            false => self
                .loops
                .count(&limits, step.now.mono, from, &delivery.agent),
        };
        if !before && suspicion.is_none() {
            return false;
        }
        step.record(Record::Suspended { id: id.clone() });
        if let Some(suspicion) = suspicion {
            tell(step, &delivery, from, suspicion);
        }
        let event_id = delivery.msg_id.clone();
        emit_blocked(step, &delivery.agent, id, event_id, SUSPENDED.to_owned());
        true
    }

    /// Lets go what is held of an agent's, on its way to it or from it; how many messages.
    pub(super) fn let_go(&mut self, step: &mut MailStep, name: &AgentName, why: &str) -> u64 {
        self.loops.let_go(name);
        let mut held: BTreeMap<AgentName, Vec<DeliveryId>> = BTreeMap::new();
        let mail = step.ledger().mail();
        for agent in mail.suspects() {
            let of_name = mail.of(agent).filter(|pending| {
                let from = &pending.delivery.from;
                pending.suspended && (agent == name || AgentName::meant(from) == *name)
            });
            let ids: Vec<DeliveryId> = of_name.map(|p| p.delivery.id.clone()).collect();
            if !ids.is_empty() {
                held.insert(agent.clone(), ids);
            }
        }
        let mut total = 0;
        for (agent, ids) in held {
            let count = ids.len() as u64;
            total += count;
            for id in ids {
                step.record(Record::Resumed { id });
            }
            log::info!(event = "agent_pending_drained", agent:% = agent; "{count} messages for {agent} that were held go on ({why})");
            step.publish(BrokerEvent::AgentPendingDrained {
                name: agent.clone(),
                count,
                reason: why.to_owned(),
            });
            self.type_next(step, &agent);
        }
        total
    }
}

/// Whether something of that sender is held already on its way to that agent.
fn is_suspended(step: &MailStep, from: &AgentName, to: &AgentName) -> bool {
    let mail = step.ledger().mail();
    mail.suspended(to) > 0
        && mail
            .of(to)
            .any(|pending| pending.suspended && AgentName::meant(&pending.delivery.from) == *from)
}

fn tell(step: &mut MailStep, delivery: &Delivery, from: &AgentName, suspicion: Suspicion) {
    let Suspicion {
        count,
        limit,
        window,
    } = suspicion;
    let to = &delivery.agent;
    let reason = match window {
        Some(window) => format!(
            "{count} messages between {from} and {to} within {} min, and {limit} may be (pair_limit): {SUSPENDED}",
            window.as_secs() / 60
        ),
        None => format!(
            "{count} messages, each an answer to the one before, the last from {from} to {to}, and {limit} may be (chain_limit): {SUSPENDED}"
        ),
    };
    log::warn!(event = "loop_suspected", agent:% = to, message_id:% = delivery.msg_id; "{reason}");
    step.publish(BrokerEvent::LoopSuspected {
        name: to.clone(),
        from: from.clone(),
        event_id: delivery.msg_id.clone(),
        count,
        limit,
        window_secs: window.map(|window| window.as_secs()),
        reason,
    });
}
