//! A message's way from its acceptance on: typed, verified, settled, acknowledged. Each agent has at most one delivery in
//! its terminal, so its mail ends in the order it came, but for what interrupts.

use std::time::Duration;

use super::blocked::Block;
use super::{Dispatcher, Out, urgent};
use crate::ids::{AgentId, AgentName, DeliveryId, MsgId, Seq};
use crate::ledger::{Pending, Record};
use crate::msg::{AgentCommand, Answer, Delivery, Effect, Injection, Origin, Reply};
use crate::time::Now;
use crate::wire::down::Mode;
use crate::wire::event::{BrokerEvent, DeliveryMode, Proof};
use crate::wire::local;
use crate::wire::up::{DeliveryAck, Up};
use crate::words;

/// How long a thread that takes no orders is left alone.
const GIVE_AGAIN: Duration = Duration::from_secs(1);

/// Of so many messages of one agent each is told that it waits behind a blocked one; of more, `status` tells.
const BLOCKED_TOLD: usize = 256;

impl Dispatcher {
    /// Takes responsibility for a delivery, and has it typed when its turn comes.
    pub(super) fn accept(&mut self, now: Now, delivery: Delivery, out: &mut Out) {
        let (name, urgent) = (delivery.agent.clone(), delivery.mode == Mode::Steer);
        // What waited before this message is not counted as its own waiting.
        self.write_waited(now, &name, out);
        self.take_on(delivery, out);
        self.await_reader(now, &name);
        self.make_way(now, &name, urgent, out);
        self.type_next(now, &name, out);
    }

    /// From its record on a delivery is ours to bring to an end.
    pub(super) fn take_on(&mut self, delivery: Delivery, out: &mut Out) {
        self.counters.deliveries_accepted += 1;
        self.publish(
            BrokerEvent::RelayInbound {
                event_id: delivery.msg_id.clone(),
                from: delivery.from.clone(),
                target: delivery.target.clone(),
                body: delivery.body.clone(),
                thread_id: delivery.thread_id.clone(),
                mode: delivery.mode.as_str().into(),
            },
            out,
        );
        let id = delivery.id.clone();
        self.record(Record::Accepted { delivery }, out);
        self.emit_queued(&id, out);
    }

    /// Tells that a delivery waits, and whether it is parked.
    pub(super) fn emit_queued(&mut self, id: &DeliveryId, out: &mut Out) {
        let Some(Pending { delivery, .. }) = self.ledger.mail().get(id) else {
            return;
        };
        let parked = self.ledger.mode(&delivery.agent) == DeliveryMode::ManualFlush;
        let event = BrokerEvent::DeliveryQueued {
            name: delivery.agent.clone(),
            delivery_id: (!parked).then(|| id.clone()),
            event_id: delivery.msg_id.clone(),
            from: parked.then(|| delivery.from.clone()),
            target: parked.then(|| delivery.target.clone()),
            reason: parked.then(|| "inbound_delivery_manual_flush".into()),
        };
        let (name, event_id) = (delivery.agent.clone(), delivery.msg_id.clone());
        self.publish(event, out);
        let member = self.members.get(&name).filter(|m| m.stalled.is_some());
        let first = member.and_then(|m| self.ledger.mail().get(m.in_flight.as_ref()?));
        if let Some(first) = first.filter(|_| !parked)
            && self.ledger.mail().waiting(&name) <= BLOCKED_TOLD
        {
            let reason = behind(&first.delivery.msg_id);
            self.emit_blocked(&name, id, event_id, reason, out);
        }
    }

    fn emit_blocked(
        &mut self,
        name: &AgentName,
        id: &DeliveryId,
        event_id: MsgId,
        reason: String,
        out: &mut Out,
    ) {
        let event = BrokerEvent::DeliveryBlocked {
            name: name.clone(),
            delivery_id: id.clone(),
            event_id,
            reason,
        };
        self.publish(event, out);
    }

    /// The initial task goes the way of any message: behind mail that waited for this agent already.
    pub(super) fn first_task(&mut self, now: Now, name: &AgentName, task: String, out: &mut Out) {
        let id = format!("task_{}", self.unused(now));
        let delivery = Delivery {
            id: DeliveryId::new(format!("del_{id}")),
            msg_id: MsgId::new(id),
            agent: name.clone(),
            origin: Origin::Task,
            from: self.facts.node_name.clone(),
            target: name.to_string(),
            body: task,
            thread_id: None,
            mode: Mode::Wait,
            raw: false,
            queued_at: now.wall,
        };
        self.accept(now, delivery, out);
    }

    // ---- typing -------------------------------------------------------------------------------------------------

    /// Gives the agent's thread its next message if it is free. Attempted is durable before a byte is typed.
    pub(super) fn type_next(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let held = self.ledger.mode(name) == DeliveryMode::ManualFlush;
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if held && member.flush_left == 0 {
            return;
        }
        if !member.ready
            || member.in_flight.is_some()
            || member.backoff.until.is_some_and(|at| at > now.mono)
            || member.phase != super::roster::Phase::Running
        {
            return;
        }
        let Some(pending) = urgent::next(&self.ledger, name) else {
            return;
        };
        let injection = injection(pending, self.facts.workspace_id.as_deref());
        member.in_flight = Some(injection.delivery_id.clone());
        if held {
            member.flush_left -= 1;
        }
        let (run, id) = (member.run, injection.delivery_id.clone());
        if !member.yielding.stands_for(&id) {
            self.record(Record::Attempted { id }, out);
        }
        out.effects.push(Effect::Agent(
            name.clone(),
            run,
            AgentCommand::Inject(Box::new(injection)),
        ));
    }

    /// Its thread is wedged: the message is held back and given to it once more later. The attempt that is written down
    /// stands for both, because nothing of the first reached the terminal.
    pub(super) fn not_taken(
        &mut self,
        now: Now,
        name: &AgentName,
        id: &DeliveryId,
        why: &str,
        out: &mut Out,
    ) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.again_at = Some(now.mono + GIVE_AGAIN);
        if member.stalled.is_none() {
            self.stalled(now, name, id, why, out);
        }
    }

    /// Gives the thread what it did not take, if it is time.
    pub(super) fn give_again(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if member.again_at.take_if(|at| *at <= now.mono).is_none() {
            return;
        }
        let runs = member.phase == super::roster::Phase::Running;
        let pending = member.in_flight.as_ref().filter(|_| runs);
        if let Some(pending) = pending.and_then(|id| self.ledger.mail().get(id)) {
            let injection = injection(pending, self.facts.workspace_id.as_deref());
            let command = AgentCommand::Inject(Box::new(injection));
            out.effects
                .push(Effect::Agent(name.clone(), member.run, command));
        }
    }

    pub(super) fn typed(&mut self, name: &AgentName, id: &DeliveryId, out: &mut Out) {
        let Some(pending) = self.ledger.mail().get(id) else {
            return;
        };
        let (event_id, redelivered) = (pending.delivery.msg_id.clone(), pending.attempts > 1);
        self.publish(
            BrokerEvent::DeliveryInjected {
                name: name.clone(),
                delivery_id: id.clone(),
                event_id,
                redelivered,
            },
            out,
        );
    }

    pub(super) fn stalled(
        &mut self,
        now: Now,
        name: &AgentName,
        id: &DeliveryId,
        why: &str,
        out: &mut Out,
    ) {
        let member = self.members.get_mut(name);
        if member.is_some_and(|member| member.stalled.replace(why.to_owned()).is_none()) {
            self.emit_blocked_on_send(now, name, out);
        }
        self.count_block(now, name, id);
        let Some(pending) = self.ledger.mail().get(id) else {
            return;
        };
        let event_id = pending.delivery.msg_id.clone();
        log::warn!("message {event_id} is held back from {name}: {why}");
        let reason = behind(&event_id);
        self.emit_blocked(name, id, event_id, why.to_owned(), out);
        let member = self.members.get_mut(name);
        if member.is_none_or(|member| std::mem::replace(&mut member.told_blocked, true)) {
            return;
        }
        let waiting = self.ledger.mail().of(name).map(|pending| &pending.delivery);
        let others: Vec<_> = waiting
            .filter(|delivery| delivery.id != *id)
            .take(BLOCKED_TOLD)
            .map(|delivery| (delivery.id.clone(), delivery.msg_id.clone()))
            .collect();
        for (id, event_id) in others {
            self.emit_blocked(name, &id, event_id, reason.clone(), out);
        }
    }

    /// It arrived, or was typed and nothing was seen. Settled is durable before the engine hears of it.
    pub(super) fn landed(
        &mut self,
        now: Now,
        name: &AgentName,
        id: &DeliveryId,
        proof: Proof,
        reason: Option<String>,
        out: &mut Out,
    ) {
        let Some(member) = self.free(name, id) else {
            return;
        };
        member.block = Block::default();
        member.told_blocked = false;
        match proof.is_seen() {
            true => member.backoff.verified(now),
            false => member.backoff.unverified(now),
        }
        self.settle(now, name, id, proof, reason, out);
        self.type_next(now, name, out);
    }

    pub(super) fn settle(
        &mut self,
        now: Now,
        name: &AgentName,
        id: &DeliveryId,
        proof: Proof,
        reason: Option<String>,
        out: &mut Out,
    ) {
        let Some(pending) = self.ledger.mail().get(id).cloned() else {
            return;
        };
        self.record(
            Record::Settled {
                id: id.clone(),
                proof,
            },
            out,
        );
        let (message, words) = (&pending.delivery.msg_id, proof.words());
        match proof.is_seen() {
            false => {
                self.counters.deliveries_unverified += 1;
                let why = reason.as_deref().unwrap_or("nothing was seen");
                log::info!("message {message} for {name}: {words}: {why}");
            }
            true => {
                self.counters.deliveries_verified += 1;
                log::debug!("message {message} for {name}: {words}");
            }
        }
        if let Some(member) = self.members.get_mut(name) {
            member.last_activity = now.wall;
            member.took(id, message);
        }
        self.ended(now, &pending.delivery, out);
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
            verification: proof.verification(),
            proof,
            reason,
        };
        for event in [ack, confirmed, verified] {
            self.publish(event, out);
        }
    }

    /// The program acts on a message that it took earlier.
    pub(super) fn turn_started(
        &mut self,
        name: &AgentName,
        id: &DeliveryId,
        proof: Proof,
        out: &mut Out,
    ) {
        let member = self.members.get_mut(name);
        let Some(event_id) = member.and_then(|member| member.begins(id)) else {
            return;
        };
        let event = BrokerEvent::TurnStarted {
            name: name.clone(),
            delivery_id: id.clone(),
            event_id,
            proof,
        };
        self.publish(event, out);
    }

    /// It cannot be typed into this terminal at all.
    pub(super) fn untypable(
        &mut self,
        now: Now,
        name: &AgentName,
        id: &DeliveryId,
        why: &str,
        out: &mut Out,
    ) {
        let Some(member) = self.free(name, id) else {
            return;
        };
        member.backoff.failed(now);
        self.counters.deliveries_failed += 1;
        if let Some(pending) = self.ledger.mail().get(id) {
            let event_id = pending.delivery.msg_id.clone();
            let event = BrokerEvent::DeliveryFailed {
                name: name.clone(),
                delivery_id: id.clone(),
                event_id,
                reason: why.into(),
            };
            self.publish(event, out);
        }
        self.bury(now, id, why, out);
        self.type_next(now, name, out);
    }

    /// The agent's thread is done with this delivery.
    pub(super) fn free(
        &mut self,
        name: &AgentName,
        id: &DeliveryId,
    ) -> Option<&mut super::roster::Member> {
        let member = self.members.get_mut(name)?;
        if member.in_flight.as_ref() != Some(id) {
            return None;
        }
        member.in_flight = None;
        member.yielding.is_over();
        member.stalled = None;
        member.block.give_up_at = None;
        Some(member)
    }

    /// A delivery is over, one way or the other: whoever sent it hears of it, and there is room for another.
    pub(super) fn ended(&mut self, now: Now, delivery: &Delivery, out: &mut Out) {
        if let Origin::Engine { agent_id, .. } = &delivery.origin {
            self.acknowledge(&delivery.agent, agent_id, out);
        }
        self.drained(now, out);
    }

    /// Acknowledges the longest finished prefix. Without a link nothing is sent: the engine sends the frames again on the
    /// next one, and is then answered from the ledger.
    pub(super) fn acknowledge(&mut self, agent: &AgentName, agent_id: &AgentId, out: &mut Out) {
        // The engine takes the name for whoever bears it now; numbers of an earlier bearer would finish somebody else's mail.
        let other = self
            .ledger
            .bound(agent)
            .is_some_and(|bound| bound != agent_id);
        let moved = self.members.get(agent).is_some_and(|member| member.moved);
        if !self.link.is_open() || other || moved {
            return;
        }
        let up_to_seq = self.ledger.settled(agent_id).unwrap_or(Seq(0));
        self.counters.acks_sent += 1;
        out.effects.push(Effect::Send(Up::DeliveryAck(DeliveryAck {
            agent: self.called.get(agent_id).unwrap_or(agent).clone(),
            up_to_seq,
        })));
    }

    // ---- hold and release ---------------------------------------------------------------------------------------

    pub(super) fn pending(&self, now: Now, name: &AgentName) -> Answer {
        if !self.members.contains_key(name) && self.ledger.bound(name).is_none() {
            return Err(self.unknown(name));
        }
        let mail = self.ledger.mail().of(name);
        Ok(Reply::Pending(local::PendingList {
            pending: mail.map(|p| self.pending_view(now, p)).collect(),
        }))
    }

    pub(super) fn pending_view(&self, now: Now, p: &Pending) -> local::PendingView {
        let channel = p.delivery.target.starts_with('#');
        let absent = !self.members.contains_key(&p.delivery.agent);
        local::PendingView {
            from: p.delivery.from.clone(),
            body: p.delivery.body.clone(),
            target: p.delivery.target.clone(),
            priority: if channel { 3 } else { 2 },
            mode: p.delivery.mode,
            queued_at_ms: p.delivery.queued_at,
            thread_id: p.delivery.thread_id.clone(),
            workspace_id: self.facts.workspace_id.clone(),
            event_id: Some(p.delivery.msg_id.clone()),
            lies_at: absent.then(|| "broker".into()),
            until_ms: self.waits_until(now, p),
        }
    }

    pub(super) fn mode(&self, name: &AgentName) -> Answer {
        if self.members.contains_key(name) {
            Ok(Reply::Mode(self.ledger.mode(name)))
        } else {
            Err(self.unknown(name))
        }
    }

    /// What is parked now goes out in order; the agent stays on hold for what comes later. A message that something in the
    /// terminal holds up goes on as well.
    pub(super) fn flush(&mut self, now: Now, name: &AgentName, out: &mut Out) -> Answer {
        let Some(member) = self.members.get(name) else {
            return Err(self.unknown(name));
        };
        let mut count = 0;
        if member.in_flight.is_some() {
            count += u64::from(member.stalled.is_some());
            let order = Effect::Agent(name.clone(), member.run, AgentCommand::Insist);
            out.effects.push(order);
        }
        if self.ledger.mode(name) == DeliveryMode::ManualFlush {
            count += self.drain(now, name, "explicit_flush", out);
        }
        Ok(Reply::Flushed(count))
    }

    fn drain(&mut self, now: Now, name: &AgentName, reason: &str, out: &mut Out) -> u64 {
        let waiting = self.ledger.mail().waiting(name) as u64;
        let held = self.ledger.mode(name) == DeliveryMode::ManualFlush;
        let Some(member) = self.members.get_mut(name) else {
            return 0;
        };
        // What is in the terminal already was let through before.
        let count = waiting - u64::from(member.in_flight.is_some() && waiting > 0);
        member.flush_left = if held { count } else { 0 };
        if count > 0 {
            let event = BrokerEvent::AgentPendingDrained {
                name: name.clone(),
                count,
                reason: reason.into(),
            };
            self.publish(event, out);
        }
        self.type_next(now, name, out);
        count
    }

    pub(super) fn change_mode(&mut self, name: &AgentName, mode: DeliveryMode, out: &mut Out) {
        let previous_mode = self.ledger.mode(name);
        let held = Record::Held {
            agent: name.clone(),
            mode,
        };
        self.record(held, out);
        let event = BrokerEvent::AgentInboundDeliveryModeChanged {
            name: name.clone(),
            previous_mode,
            mode,
        };
        self.publish(event, out);
    }

    pub(super) fn set_mode(
        &mut self,
        now: Now,
        name: &AgentName,
        mode: DeliveryMode,
        out: &mut Out,
    ) -> Answer {
        if !self.members.contains_key(name) {
            return Err(self.unknown(name));
        }
        let previous_mode = self.ledger.mode(name);
        let mut flushed = 0;
        if previous_mode != mode {
            self.change_mode(name, mode, out);
            if let Some(member) = self.members.get_mut(name) {
                member.flush_left = 0;
            }
            if mode == DeliveryMode::AutoInject {
                flushed = self.drain(now, name, "delivery_mode_transition", out);
            }
        }
        Ok(Reply::ModeChanged(local::ModeChanged {
            mode,
            flushed,
            matched: true,
        }))
    }
}

/// The most letters of a name that the line shows.
const NAME_SHOWN: usize = 128;

/// A name as the line may show it: on one line, from left to right, and without the brackets that end it, so that nobody
/// can write a header.
fn plain(name: &str) -> String {
    let letter = |c: char| match c {
        '[' => '(',
        ']' => ')',
        '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    words::marked(name, " ")
        .chars()
        .take(NAME_SHOWN)
        .map(letter)
        .collect()
}

/// What a terminal is given for a delivery.
fn injection(pending: &Pending, workspace: Option<&str>) -> Injection {
    Injection {
        delivery_id: pending.delivery.id.clone(),
        text: relay_line(&pending.delivery, workspace),
        mode: pending.delivery.mode,
        raw: is_raw(&pending.delivery),
    }
}

/// Never mail from the engine, whatever a record says.
fn is_raw(delivery: &Delivery) -> bool {
    delivery.raw && matches!(delivery.origin, Origin::Local)
}

/// The line an agent reads ([local-api 4.1](crate::docs::local_api#4.1)): who, where, which message, the words.
fn relay_line(delivery: &Delivery, workspace: Option<&str>) -> String {
    let body = delivery.body.trim_end_matches(['\n', '\r']);
    if is_raw(delivery) {
        return body.to_owned();
    }
    // Who speaks on this machine may write the line himself; a peer may not write it in another's name.
    let ours = matches!(delivery.origin, Origin::Local | Origin::Task);
    if ours && body.trim_start().starts_with("Relay message from ") {
        return body.trim().to_owned();
    }
    let sender = plain(
        delivery
            .from
            .strip_prefix("human:")
            .unwrap_or(&delivery.from),
    );
    let id = plain(delivery.msg_id.as_str());
    let context = match workspace {
        Some(workspace) => format!("{workspace} / {id}"),
        None => id,
    };
    match delivery.target.strip_prefix('#') {
        Some(channel) => {
            let channel = plain(channel);
            format!("Relay message from {sender} in #{channel} [{context}]: {body}")
        }
        None => format!("Relay message from {sender} [{context}]: {body}"),
    }
}

/// Why a message waits whose turn has not come.
fn behind(first: &MsgId) -> String {
    format!("it waits behind message {first}, which is held up")
}
