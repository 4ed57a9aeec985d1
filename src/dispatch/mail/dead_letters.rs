//! Deliveries that were given up, and their second chance.

use super::limits::Side;
use super::state::{Mail, MailStep, MailView};
use crate::dispatch::node_config::MIB;
use crate::dispatch::notice::{End, Notice};
use crate::ids::{AgentId, AgentName, DeliveryId};
use crate::ledger::{Dead, Delivery, Origin, Record, dead_letters};
use crate::msg::{Answer, Refusal, RefusalKind, Reply};
use crate::wire::event::BrokerEvent;
use crate::wire::local::{Redelivered, RedeliveredLetter, SkippedLetter};
use std::collections::BTreeSet;

/// How many senders an event names.
const SENDERS_NAMED: usize = 16;

impl Mail {
    /// Gives a delivery up, with a reason for everybody who watches.
    pub(super) fn bury(&mut self, step: &mut MailStep, id: &DeliveryId, why: &str) {
        if let Some(delivery) = self.give_up(step, id, why) {
            self.ended(step, &delivery);
            self.tell_back(step, std::slice::from_ref(&delivery), why);
        }
    }

    /// The same without a word to the engine.
    pub(super) fn give_up(
        &mut self,
        step: &mut MailStep,
        id: &DeliveryId,
        why: &str,
    ) -> Option<Delivery> {
        let pending = step.ledger().mail().get(id).cloned()?;
        let weight = pending.weight();
        let (delivery, attempts) = (pending.delivery, pending.attempts);
        step.count().deliveries_dead += 1;
        log::warn!(
            event = "message_delivery_failed", agent:% = delivery.agent, message_id:% = delivery.msg_id;
            "message {} for {}: failed: {why}",
            delivery.msg_id,
            delivery.agent
        );
        self.emit_forgotten(step, weight);
        step.record(Record::DeadLettered {
            id: id.clone(),
            reason: why.into(),
            at: step.now.wall,
        });
        let failed = BrokerEvent::MessageDeliveryFailed {
            name: delivery.agent.clone(),
            delivery_id: Some(id.clone()),
            event_id: Some(delivery.msg_id.clone()),
            from: delivery.from.clone(),
            to: delivery.agent.to_string(),
            attempts,
            last_error: why.into(),
        };
        let dead = BrokerEvent::DeadLetterAdded {
            name: delivery.agent.clone(),
            delivery_id: id.clone(),
            event_id: delivery.msg_id.clone(),
            from: delivery.from.clone(),
            reason: why.into(),
        };
        step.publish(failed);
        step.publish(dead);
        step.notice(Notice::Undelivered(
            Box::new(delivery.clone()),
            why.to_owned(),
        ));
        Some(delivery)
    }

    /// Nobody reads what waits for an agent whose life is over.
    pub(super) fn bury_all(&mut self, step: &mut MailStep, name: &AgentName, end: End) {
        let waiting: Vec<DeliveryId> = step
            .ledger()
            .mail()
            .of(name)
            .map(|p| p.delivery.id.clone())
            .collect();
        if waiting.is_empty() {
            return;
        }
        emit_dropped(step, name, &waiting, end);
        let given_up = waiting.iter();
        let given_up = given_up.filter_map(|id| self.give_up(step, id, end.why()));
        let given_up: Vec<Delivery> = given_up.collect();
        let finished: BTreeSet<AgentId> = given_up
            .iter()
            .filter_map(|delivery| match &delivery.origin {
                Origin::Engine { agent_id, .. } => Some(agent_id.clone()),
                _ => None,
            })
            .collect();
        if end != End::Moved {
            for agent_id in finished {
                self.acknowledge(step, name, &agent_id);
            }
        }
        self.tell_back(step, &given_up, end.why());
    }

    /// Only so many dead letters are kept, and none goes in silence.
    fn emit_forgotten(&mut self, step: &mut MailStep, weight: usize) {
        let forgotten = step.ledger().dead().next_forgotten(weight);
        let told = |dead: &Dead| {
            let letter = &dead.pending.delivery;
            let reason = format!(
                "{} dead letters of at most {} MiB together are kept; the oldest, message {} from {}, is forgotten",
                dead_letters::KEPT,
                dead_letters::KEPT_BYTES / MIB,
                letter.msg_id,
                letter.from
            );
            log::warn!(event = "delivery_dropped", agent:% = letter.agent, message_id:% = letter.msg_id; "{reason}");
            BrokerEvent::DeliveryDropped {
                name: letter.agent.clone(),
                count: 1,
                reason,
                senders: vec![letter.from.clone()],
            }
        };
        for event in forgotten.map(told).collect::<Vec<_>>() {
            step.publish(event);
        }
    }

    /// One dead letter, or all, are put behind what waits for their agents.
    pub(in crate::dispatch) fn redeliver(
        &mut self,
        step: &mut MailStep,
        which: Option<&DeliveryId>,
    ) -> Answer {
        if step.peers.control.is_stopping() {
            let text = "the broker is stopping and redelivers nothing; start it again";
            return Err(Refusal::new(RefusalKind::Stopping, text));
        }
        let letters: Vec<Dead> = match which {
            None => step.ledger().dead().iter().cloned().collect(),
            Some(id) => match step.ledger().dead().get(id) {
                Some(dead) => vec![dead.clone()],
                None => {
                    let text =
                        format!("no dead letter has the id '{id}'; `relay-broker dead` lists them");
                    return Err(Refusal::new(RefusalKind::UnknownLetter, text));
                }
            },
        };
        let mut answer = Redelivered::default();
        for dead in letters {
            match self.obstacle(step.view(), &dead) {
                Some(reason) => answer.skipped.push(SkippedLetter {
                    delivery_id: dead.pending.delivery.id,
                    worker_name: dead.pending.delivery.agent,
                    reason,
                }),
                None => answer.redelivered.push(self.raise(step, dead)),
            }
        }
        Ok(Reply::Redelivered(answer))
    }

    fn obstacle(&self, view: MailView, dead: &Dead) -> Option<String> {
        let name = &dead.pending.delivery.agent;
        if !view.peers.agents.is_here(name) {
            return Some(format!(
                "no agent named '{name}' runs here; spawn it, then redeliver"
            ));
        }
        if dead.pending.delivery.body.is_empty() {
            return Some("only the engine has its words; ask its sender to send it again".into());
        }
        let crowd = self.crowd(view, name, Side::Local, dead.pending.weight())?;
        Some(format!("{crowd}; try again later"))
    }

    fn raise(&mut self, step: &mut MailStep, dead: Dead) -> RedeliveredLetter {
        let old = dead.pending.delivery;
        let id = DeliveryId::new(format!("redo_{}", step.unused()));
        let delivery = Delivery {
            id: id.clone(),
            origin: match &old.origin {
                // The engine has its acknowledgement, and its words stay a peer's words.
                Origin::Engine { .. } => Origin::Acknowledged,
                other => other.clone(),
            },
            queued_at: step.now.wall,
            ..old.clone()
        };
        step.count().deliveries_redelivered += 1;
        step.record(Record::Redelivered {
            id: old.id.clone(),
            delivery,
        });
        let event = BrokerEvent::DeadLetterRedelivered {
            name: old.agent.clone(),
            delivery_id: old.id,
            new_delivery_id: id.clone(),
            event_id: old.msg_id.clone(),
        };
        step.publish(event);
        self.emit_queued(step, &id);
        self.type_next(step, &old.agent);
        RedeliveredLetter {
            delivery_id: id,
            worker_name: old.agent,
            event_id: old.msg_id,
        }
    }
}

/// Tells how many of an agent's messages are about to be given up at once, and whose they are.
pub(super) fn emit_dropped(step: &mut MailStep, name: &AgentName, ids: &[DeliveryId], end: End) {
    let mut senders: Vec<String> = Vec::new();
    for pending in ids.iter().filter_map(|id| step.ledger().mail().get(id)) {
        let from = &pending.delivery.from;
        if senders.len() < SENDERS_NAMED && !senders.contains(from) {
            senders.push(from.clone());
        }
    }
    let reason = format!("{}; `relay-broker dead` lists what waited", end.why());
    let event = BrokerEvent::DeliveryDropped {
        name: name.clone(),
        count: ids.len() as u64,
        reason,
        senders,
    };
    step.publish(event);
}
