//! Deliveries that were given up, and their second chance.

use super::limits::{MIB, Side};
use super::{Dispatcher, Out};
use crate::ids::DeliveryId;
use crate::ledger::{Dead, Record, dead_letters};
use crate::msg::{Answer, Delivery, Origin, Refusal, RefusalKind, Reply};
use crate::time::Now;
use crate::wire::event::BrokerEvent;
use crate::wire::local::{Redelivered, RedeliveredLetter, SkippedLetter};

impl Dispatcher {
    /// Gives a delivery up, with a reason for everybody who watches.
    pub(super) fn bury(&mut self, now: Now, id: &DeliveryId, why: &str, out: &mut Out) {
        if let Some(delivery) = self.give_up(now, id, why, out) {
            self.ended(now, &delivery, out);
        }
    }

    /// The same without a word to the engine.
    pub(super) fn give_up(
        &mut self,
        now: Now,
        id: &DeliveryId,
        why: &str,
        out: &mut Out,
    ) -> Option<Delivery> {
        let pending = self.ledger.mail().get(id).cloned()?;
        let weight = pending.weight();
        let (delivery, attempts) = (pending.delivery, pending.attempts);
        self.counters.deliveries_dead += 1;
        log::warn!(
            "message {} for {}: failed: {why}",
            delivery.msg_id,
            delivery.agent
        );
        self.emit_forgotten(weight, out);
        self.record(
            Record::DeadLettered {
                id: id.clone(),
                reason: why.into(),
                at: now.wall,
            },
            out,
        );
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
        self.publish(failed, out);
        self.publish(dead, out);
        self.nobody_serves(&delivery, why, out);
        Some(delivery)
    }

    /// Only so many dead letters are kept, and none goes in silence.
    fn emit_forgotten(&mut self, weight: usize, out: &mut Out) {
        let forgotten = self.ledger.dead().next_forgotten(weight);
        let told = |dead: &Dead| {
            let letter = &dead.pending.delivery;
            let reason = format!(
                "{} dead letters of at most {} MiB together are kept; the oldest, message {} from {}, is forgotten",
                dead_letters::KEPT,
                dead_letters::KEPT_BYTES / MIB,
                letter.msg_id,
                letter.from
            );
            log::warn!("{reason}");
            BrokerEvent::DeliveryDropped {
                name: letter.agent.clone(),
                count: 1,
                reason,
                senders: vec![letter.from.clone()],
            }
        };
        for event in forgotten.map(told).collect::<Vec<_>>() {
            self.publish(event, out);
        }
    }

    /// One dead letter, or all, are put behind what waits for their agents.
    pub(super) fn redeliver(
        &mut self,
        now: Now,
        which: Option<&DeliveryId>,
        out: &mut Out,
    ) -> Answer {
        if self.stopping.is_some() {
            let text = "the broker is stopping and redelivers nothing; start it again";
            return Err(Refusal::new(RefusalKind::Stopping, text));
        }
        let letters: Vec<Dead> = match which {
            None => self.ledger.dead().iter().cloned().collect(),
            Some(id) => match self.ledger.dead().get(id) {
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
            match self.obstacle(&dead) {
                Some(reason) => answer.skipped.push(SkippedLetter {
                    delivery_id: dead.pending.delivery.id,
                    worker_name: dead.pending.delivery.agent,
                    reason,
                }),
                None => answer.redelivered.push(self.raise(now, dead, out)),
            }
        }
        Ok(Reply::Redelivered(answer))
    }

    fn obstacle(&self, dead: &Dead) -> Option<String> {
        let name = &dead.pending.delivery.agent;
        if !self.members.contains_key(name) {
            return Some(format!(
                "no agent named '{name}' runs here; spawn it, then redeliver"
            ));
        }
        if dead.pending.delivery.body.is_empty() {
            return Some("only the engine has its words; ask its sender to send it again".into());
        }
        let crowd = self.crowd(name, Side::Local, dead.pending.weight())?;
        Some(format!("{crowd}; try again later"))
    }

    fn raise(&mut self, now: Now, dead: Dead, out: &mut Out) -> RedeliveredLetter {
        let old = dead.pending.delivery;
        let id = DeliveryId::new(format!("redo_{}", self.unused(now)));
        let delivery = Delivery {
            id: id.clone(),
            origin: match &old.origin {
                // The engine has its acknowledgement, and its words stay a peer's words.
                Origin::Engine { .. } => Origin::Acknowledged,
                other => other.clone(),
            },
            queued_at: now.wall,
            ..old.clone()
        };
        self.counters.deliveries_redelivered += 1;
        self.record(
            Record::Redelivered {
                id: old.id.clone(),
                delivery,
            },
            out,
        );
        let event = BrokerEvent::DeadLetterRedelivered {
            name: old.agent.clone(),
            delivery_id: old.id,
            new_delivery_id: id.clone(),
            event_id: old.msg_id.clone(),
        };
        self.publish(event, out);
        self.emit_queued(&id, out);
        self.type_next(now, &old.agent, out);
        RedeliveredLetter {
            delivery_id: id,
            worker_name: old.agent,
            event_id: old.msg_id,
        }
    }
}
