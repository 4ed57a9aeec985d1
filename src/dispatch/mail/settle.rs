//! The end of a delivery that arrived, and what the engine is told of finished mail.

use super::state::{Mail, MailStep};
use crate::dispatch::notice::Notice;
use crate::domain::Proof;
use crate::ids::{AgentId, AgentName, DeliveryId, Seq};
use crate::ledger::{Delivery, Origin, Record};
use crate::wire::event::BrokerEvent;
use crate::wire::up::{DeliveryAck, Up};

impl Mail {
    /// The thread of an agent of the last life saw it arrive, and nobody wrote that down.
    pub(in crate::dispatch) fn settle_landed(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
        proof: Proof,
    ) {
        let pending = step.ledger().mail().get(id);
        if pending.is_some_and(|pending| pending.attempts > 0) {
            self.settle(step, name, id, proof, None);
        }
    }

    /// It arrived. Settled is durable before the engine hears of it.
    pub(super) fn settle(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
        proof: Proof,
        reason: Option<String>,
    ) {
        let Some(pending) = step.ledger().mail().get(id).cloned() else {
            return;
        };
        step.record(Record::Settled {
            id: id.clone(),
            proof,
        });
        let (message, words) = (&pending.delivery.msg_id, proof.words());
        match proof.is_seen() {
            false => {
                step.count().deliveries_unverified += 1;
                let why = reason.as_deref().unwrap_or("nothing was seen");
                log::info!(event = "delivery_verified", agent:% = name, message_id:% = message; "message {message} for {name}: {words}: {why}");
            }
            true => {
                step.count().deliveries_verified += 1;
                log::debug!(event = "delivery_verified", agent:% = name, message_id:% = message; "message {message} for {name}: {words}");
            }
        }
        if let Some(desk) = self.desks.get_mut(name) {
            desk.took(id, message);
        }
        step.notice(Notice::Settled(name.clone()));
        self.ended(step, &pending.delivery);
        let d = &pending.delivery;
        let (event_id, delivery_id) = (d.msg_id.clone(), d.id.clone());
        let ack = BrokerEvent::DeliveryAck {
            name: name.clone(),
            delivery_id: delivery_id.clone(),
            event_id: event_id.clone(),
        };
        let confirmed = BrokerEvent::MessageDeliveryConfirmed {
            name: name.clone(),
            delivery_id: delivery_id.clone(),
            event_id: event_id.clone(),
            from: d.from.clone(),
            to: name.to_string(),
        };
        let verified = BrokerEvent::DeliveryVerified {
            name: name.clone(),
            delivery_id,
            event_id,
            verification: proof.into(),
            proof,
            reason,
        };
        for event in [ack, confirmed, verified] {
            step.publish(event);
        }
    }

    /// A delivery is over, one way or the other: whoever sent it hears of it, and there is room for another.
    pub(super) fn ended(&mut self, step: &mut MailStep, delivery: &Delivery) {
        if let Origin::Engine { agent_id, .. } = &delivery.origin {
            if !step.peers.agents.is_here(&delivery.agent) {
                self.unsaid.insert(delivery.agent.clone());
            }
            self.acknowledge(step, &delivery.agent, agent_id);
        }
        self.drained(step);
    }

    /// An identity that nobody bears here is about to be signed off, and can acknowledge nothing after that.
    pub(in crate::dispatch) fn acknowledge_last(
        &mut self,
        step: &mut MailStep,
        agent: &AgentName,
        agent_id: &AgentId,
    ) {
        let ledger = step.ledger();
        let ended = ledger.settled(agent_id).is_some_and(|seq| seq != Seq(0));
        if ended && ledger.bound(agent) == Some(agent_id) {
            self.acknowledge(step, agent, agent_id);
        }
    }

    /// Acknowledges the longest finished prefix. Without a link nothing is sent: the next one begins with the
    /// acknowledgements of all agents here and of those whose mail ended since, and what the engine sends again is answered
    /// from the ledger.
    pub(super) fn acknowledge(
        &mut self,
        step: &mut MailStep,
        agent: &AgentName,
        agent_id: &AgentId,
    ) {
        // The engine takes the name for whoever bears it now; numbers of an earlier bearer would finish somebody else's mail.
        let other = step
            .ledger()
            .bound(agent)
            .is_some_and(|bound| bound != agent_id);
        let moved = step.peers.agents.is_moved(agent);
        if !step.peers.control.is_open() || other || moved {
            return;
        }
        let up_to_seq = step.ledger().settled(agent_id).unwrap_or(Seq(0));
        step.count().acks_sent += 1;
        step.send(Up::DeliveryAck(DeliveryAck {
            agent: self.called.get(agent_id).unwrap_or(agent).clone(),
            up_to_seq,
        }));
    }
}
