//! A message's way from its acceptance on: typed, verified, settled, acknowledged. Each agent has at most one delivery in
//! its terminal, so its mail ends in the order it came, but for what interrupts.

use std::time::Duration;

use super::desk::{Block, MailDesk};
use super::line::injection;
use super::speaker::Speaker;
use super::state::{Mail, MailStep};
use super::urgent;
use crate::domain::{DeliveryMode, Mode, Proof};
use crate::ids::{AgentName, DeliveryId, MsgId};
use crate::ledger::{Delivery, Origin, Pending, Record};
use crate::msg::AgentCommand;
use crate::wire::event::BrokerEvent;

/// How long a thread that takes no orders is left alone.
const GIVE_AGAIN: Duration = Duration::from_secs(1);

/// How often in a row a program may drop a message until that is given up.
const DROPS_MAX: u32 = 4;

/// Of so many messages of one agent each is told that it waits behind a blocked one; of more, `status` tells.
const BLOCKED_TOLD: usize = 256;

impl Mail {
    /// Takes responsibility for a delivery, and has it typed when its turn comes.
    pub(super) fn accept(&mut self, step: &mut MailStep, delivery: Delivery, speaker: &Speaker) {
        let (name, urgent) = (delivery.agent.clone(), delivery.mode == Mode::Steer);
        let id = delivery.id.clone();
        // What waited before this message is not counted as its own waiting.
        self.write_waited(step, &name);
        self.take_on(step, delivery);
        self.await_reader(step, &name);
        if self.suspects(step, &id, speaker) {
            return;
        }
        self.make_way(step, &name, urgent);
        self.type_next(step, &name);
    }

    /// From its record on a delivery is ours to bring to an end.
    pub(super) fn take_on(&mut self, step: &mut MailStep, delivery: Delivery) {
        step.count().deliveries_accepted += 1;
        step.publish(BrokerEvent::RelayInbound {
            event_id: delivery.msg_id.clone(),
            from: delivery.from.clone(),
            target: delivery.target.clone(),
            body: delivery.body.clone(),
            thread_id: delivery.thread_id.clone(),
            mode: delivery.mode.as_str().into(),
            by_operator: delivery.by_operator,
            name: Some(delivery.agent.clone()),
            delivery_id: Some(delivery.id.clone()),
            engine_seq: delivery.origin.seq().map(|seq| seq.0),
            from_engine: delivery.origin.is_engine(),
        });
        self.threads.note(step.now.wall, &delivery);
        let id = delivery.id.clone();
        step.record(Record::Accepted { delivery });
        self.emit_queued(step, &id);
    }

    /// Tells that a delivery waits, and whether it is parked.
    pub(super) fn emit_queued(&mut self, step: &mut MailStep, id: &DeliveryId) {
        let Some(Pending { delivery, .. }) = step.ledger().mail().get(id) else {
            return;
        };
        let parked = step.ledger().mode(&delivery.agent) == DeliveryMode::ManualFlush;
        let event = BrokerEvent::DeliveryQueued {
            name: delivery.agent.clone(),
            delivery_id: (!parked).then(|| id.clone()),
            event_id: delivery.msg_id.clone(),
            from: parked.then(|| delivery.from.clone()),
            target: parked.then(|| delivery.target.clone()),
            reason: parked.then(|| "inbound_delivery_manual_flush".into()),
        };
        let (name, event_id) = (delivery.agent.clone(), delivery.msg_id.clone());
        step.publish(event);
        let desk = self.desks.get(&name).filter(|desk| desk.stalled.is_some());
        let first = desk.and_then(|desk| step.ledger().mail().get(desk.in_flight.as_ref()?));
        if let Some(first) = first.filter(|_| !parked)
            && step.ledger().mail().waiting(&name) <= BLOCKED_TOLD
        {
            let reason = behind(&first.delivery.msg_id);
            emit_blocked(step, &name, id, event_id, reason);
        }
    }

    /// The initial task goes the way of any message: behind mail that waited for this agent already.
    pub(in crate::dispatch) fn first_task(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        parent: Option<AgentName>,
        task: String,
    ) {
        let id = format!("task_{}", step.unused());
        let from = match parent {
            Some(agent) => agent.to_string(),
            None => step.peers.control.node_name().to_owned(),
        };
        self.say_as(step, name, from, (Origin::Task, id), task);
    }

    /// Words of the node's own for one agent.
    pub(super) fn say(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        origin: Origin,
        id: String,
        body: String,
    ) {
        let from = step.peers.control.node_name().to_owned();
        self.say_as(step, name, from, (origin, id), body);
    }

    /// The same in the name of whoever has the node say it. It is nobody's message that an answer could be counted with.
    fn say_as(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        from: String,
        (origin, id): (Origin, String),
        body: String,
    ) {
        let delivery = Delivery {
            id: DeliveryId::new(format!("del_{id}")),
            msg_id: MsgId::new(id),
            agent: name.clone(),
            origin,
            from,
            target: name.to_string(),
            body,
            thread_id: None,
            mode: Mode::Wait,
            raw: false,
            by_operator: false,
            queued_at: step.now.wall,
        };
        self.accept(step, delivery, &Speaker::Nobody);
    }

    // ---- typing -------------------------------------------------------------------------------------------------

    /// Gives the agent's thread its next message if it is free. Attempted is durable before a byte is typed.
    pub(super) fn type_next(&mut self, step: &mut MailStep, name: &AgentName) {
        if step.peers.control.is_stopping() {
            return;
        }
        let held = step.ledger().mode(name) == DeliveryMode::ManualFlush;
        let Some(desk) = self.desks.get_mut(name) else {
            return;
        };
        if held && desk.flush_left == 0 {
            return;
        }
        let Some(run) = desk.free_reader(step.now.mono) else {
            return;
        };
        let Some(pending) = urgent::next(step.ledger(), name) else {
            return;
        };
        let injection = injection(pending, step.config().workspace_id.as_deref());
        desk.in_flight = Some(injection.delivery_id.clone());
        if held {
            desk.flush_left -= 1;
        }
        let id = injection.delivery_id.clone();
        if !desk.yielding.stands_for(&id) {
            step.record(Record::Attempted { id });
        }
        step.order(name.clone(), run, AgentCommand::Inject(Box::new(injection)));
    }

    /// Its thread is wedged: the message is held back and given to it once more later. The attempt that is written down
    /// stands for both, because nothing of the first reached the terminal.
    pub(in crate::dispatch) fn not_taken(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
        why: &str,
    ) {
        let Some(desk) = self.desks.get_mut(name) else {
            return;
        };
        desk.again_at = Some(step.now.mono + GIVE_AGAIN);
        if desk.stalled.is_none() {
            self.stalled(step, name, id, why);
        }
    }

    /// Gives the thread what it did not take, if it is time.
    pub(super) fn give_again(&mut self, step: &mut MailStep, name: &AgentName) {
        let Some(desk) = self.desks.get_mut(name) else {
            return;
        };
        if desk.again_at.take_if(|at| *at <= step.now.mono).is_none() {
            return;
        }
        let pending = desk.in_flight.as_ref();
        let pending = pending.and_then(|id| step.ledger().mail().get(id));
        if let (Some(pending), Some(run)) = (pending, desk.reader()) {
            let injection = injection(pending, step.config().workspace_id.as_deref());
            let command = AgentCommand::Inject(Box::new(injection));
            step.order(name.clone(), run, command);
        }
    }

    pub(in crate::dispatch) fn typed(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
    ) {
        let Some(pending) = step.ledger().mail().get(id) else {
            return;
        };
        let (event_id, redelivered) = (pending.delivery.msg_id.clone(), pending.attempts > 1);
        step.publish(BrokerEvent::DeliveryInjected {
            name: name.clone(),
            delivery_id: id.clone(),
            event_id,
            redelivered,
        });
    }

    pub(in crate::dispatch) fn stalled(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
        why: &str,
    ) {
        let desk = self.desks.get_mut(name);
        if desk.is_some_and(|desk| desk.stalled.replace(why.to_owned()).is_none()) {
            step.publish_blocked_on_send(name, step.peers.agents.idle_since(name));
        }
        self.count_block(step, name, id);
        let Some(pending) = step.ledger().mail().get(id) else {
            return;
        };
        let event_id = pending.delivery.msg_id.clone();
        log::warn!(event = "delivery_blocked", agent:% = name, message_id:% = event_id; "message {event_id} is held back from {name}: {why}");
        let reason = behind(&event_id);
        emit_blocked(step, name, id, event_id, why.to_owned());
        let desk = self.desks.get_mut(name);
        if desk.is_none_or(|desk| std::mem::replace(&mut desk.told_blocked, true)) {
            return;
        }
        let waiting = step
            .ledger()
            .mail()
            .of(name)
            .map(|pending| &pending.delivery);
        let others: Vec<_> = waiting
            .filter(|delivery| delivery.id != *id)
            .take(BLOCKED_TOLD)
            .map(|delivery| (delivery.id.clone(), delivery.msg_id.clone()))
            .collect();
        for (id, event_id) in others {
            emit_blocked(step, name, &id, event_id, reason.clone());
        }
    }

    /// It arrived, or was typed and nothing was seen. Settled is durable before the engine hears of it.
    pub(in crate::dispatch) fn landed(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
        proof: Proof,
        reason: Option<String>,
    ) {
        let Some(desk) = self.free(name, id) else {
            return;
        };
        desk.block = Block::default();
        desk.told_blocked = false;
        match proof.is_seen() {
            true => desk.backoff.verified(step.now),
            false => desk.backoff.unverified(step.now),
        }
        self.settle(step, name, id, proof, reason);
        self.type_next(step, name);
    }

    /// The program acts on a message that it took earlier.
    pub(in crate::dispatch) fn turn_started(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
        proof: Proof,
    ) {
        let desk = self.desks.get_mut(name);
        let Some(event_id) = desk.and_then(|desk| desk.begins(id)) else {
            return;
        };
        let event = BrokerEvent::TurnStarted {
            name: name.clone(),
            delivery_id: id.clone(),
            event_id,
            proof,
        };
        step.publish(event);
    }

    /// The program had it and dropped it: it is given to it again, as another attempt, but not for ever.
    pub(in crate::dispatch) fn dropped(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
        why: &str,
    ) {
        let Some(desk) = self.desks.get_mut(name) else {
            return;
        };
        if desk.in_flight.as_ref() != Some(id) {
            return;
        }
        if desk.drops(id) >= DROPS_MAX {
            return self.untypable(step, name, id, why);
        }
        desk.finish(id);
        desk.backoff.failed(step.now);
        if let Some(pending) = step.ledger().mail().get(id) {
            let event_id = &pending.delivery.msg_id;
            log::warn!(event = "delivery_dropped_by_program", agent:% = name, message_id:% = event_id; "message {event_id} is given to {name} again: {why}");
        }
        self.type_next(step, name);
    }

    /// It cannot be typed into this terminal at all.
    pub(in crate::dispatch) fn untypable(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
        why: &str,
    ) {
        let Some(desk) = self.free(name, id) else {
            return;
        };
        desk.backoff.failed(step.now);
        step.count().deliveries_failed += 1;
        if let Some(pending) = step.ledger().mail().get(id) {
            let event_id = pending.delivery.msg_id.clone();
            let event = BrokerEvent::DeliveryFailed {
                name: name.clone(),
                delivery_id: id.clone(),
                event_id,
                reason: why.into(),
            };
            step.publish(event);
        }
        self.bury(step, id, why);
        self.type_next(step, name);
    }

    /// The agent's thread is done with this delivery.
    pub(super) fn free(&mut self, name: &AgentName, id: &DeliveryId) -> Option<&mut MailDesk> {
        let desk = self.desks.get_mut(name)?;
        desk.finish(id).then_some(desk)
    }

    /// Desks for which something is due.
    pub(super) fn tick_desks(&mut self, step: &mut MailStep) {
        let now = step.now.mono;
        let due = |desk: &MailDesk| desk.deadline().is_some_and(|at| at <= now);
        let late = self.desks.iter().filter(|(_, desk)| due(desk));
        let late: Vec<AgentName> = late.map(|(name, _)| name.clone()).collect();
        for name in late {
            self.block_due(step, &name);
            self.give_again(step, &name);
            if let Some(desk) = self.desks.get_mut(&name)
                && desk.backoff.until.take_if(|at| *at <= now).is_some()
            {
                self.type_next(step, &name);
            }
        }
    }
}

pub(super) fn emit_blocked(
    step: &mut MailStep,
    name: &AgentName,
    id: &DeliveryId,
    event_id: MsgId,
    reason: String,
) {
    let event = BrokerEvent::DeliveryBlocked {
        name: name.clone(),
        delivery_id: id.clone(),
        event_id,
        reason,
    };
    step.publish(event);
}

/// Why a message waits whose turn has not come.
fn behind(first: &MsgId) -> String {
    format!("it waits behind message {first}, which is held up")
}
