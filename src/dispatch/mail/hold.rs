//! What waits for an agent, shown, held and released.

use super::state::{Mail, MailStep, MailView};
use crate::domain::DeliveryMode;
use crate::ids::AgentName;
use crate::ledger::{Pending, Record};
use crate::msg::{AgentCommand, Answer, ExpectedMode, Reply};
use crate::wire::event::BrokerEvent;
use crate::wire::local;

impl Mail {
    pub(in crate::dispatch) fn pending(&self, view: MailView, name: &AgentName) -> Answer {
        if !view.peers.agents.is_here(name) && view.ledger().bound(name).is_none() {
            return Err(view.peers.agents.unknown(name));
        }
        let mail = view.ledger().mail().of(name);
        Ok(Reply::Pending(local::PendingList {
            pending: mail.map(|p| self.pending_view(view, p)).collect(),
        }))
    }

    pub(super) fn pending_view(&self, view: MailView, p: &Pending) -> local::PendingView {
        let channel = p.delivery.target.starts_with('#');
        let absent = !view.peers.agents.is_here(&p.delivery.agent);
        local::PendingView {
            from: p.delivery.from.clone(),
            body: p.delivery.body.clone(),
            target: p.delivery.target.clone(),
            priority: if channel { 3 } else { 2 },
            mode: p.delivery.mode,
            queued_at_ms: p.delivery.queued_at,
            thread_id: p.delivery.thread_id.clone(),
            workspace_id: view.config().workspace_id.clone(),
            event_id: Some(p.delivery.msg_id.clone()),
            lies_at: absent.then(|| "broker".into()),
            until_ms: self.waits_until(view, p),
            suspended: p.suspended,
        }
    }

    pub(in crate::dispatch) fn mode(&self, view: MailView, name: &AgentName) -> Answer {
        if view.peers.agents.is_here(name) {
            Ok(Reply::Mode(local::ModeView {
                mode: view.ledger().mode(name),
                revision: self.mode_revision(view, name).to_string(),
            }))
        } else {
            Err(view.peers.agents.unknown(name))
        }
    }

    /// What is parked now goes out in order; the agent stays on hold for what comes later. A message that something in the
    /// terminal holds up goes on as well.
    pub(in crate::dispatch) fn flush(&mut self, step: &mut MailStep, name: &AgentName) -> Answer {
        let Some(desk) = self.desks.get(name) else {
            return Err(step.peers.agents.unknown(name));
        };
        let mut count = 0;
        if let (Some(_), Some(run)) = (&desk.in_flight, desk.run()) {
            count += u64::from(desk.stalled.is_some());
            step.order(name.clone(), run, AgentCommand::Insist);
        }
        let resumed = self.let_go(step, name, "explicit_flush");
        count += match step.ledger().mode(name) {
            DeliveryMode::ManualFlush => self.drain(step, name, "explicit_flush"),
            DeliveryMode::AutoInject => resumed,
        };
        Ok(Reply::Flushed(count))
    }

    fn drain(&mut self, step: &mut MailStep, name: &AgentName, reason: &str) -> u64 {
        let mail = step.ledger().mail();
        let waiting = (mail.waiting(name) - mail.suspended(name)) as u64;
        let held = step.ledger().mode(name) == DeliveryMode::ManualFlush;
        let Some(desk) = self.desks.get_mut(name) else {
            return 0;
        };
        // What is in the terminal already was let through before.
        let count = waiting - u64::from(desk.in_flight.is_some() && waiting > 0);
        desk.flush_left = if held { count } else { 0 };
        if count > 0 {
            let event = BrokerEvent::AgentPendingDrained {
                name: name.clone(),
                count,
                reason: reason.into(),
            };
            step.publish(event);
        }
        self.type_next(step, name);
        count
    }

    pub(super) fn change_mode(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        mode: DeliveryMode,
    ) {
        let previous_mode = step.ledger().mode(name);
        let held = Record::Held {
            agent: name.clone(),
            mode,
        };
        step.record(held);
        let words = match mode {
            DeliveryMode::ManualFlush => "is held",
            DeliveryMode::AutoInject => "is delivered as it comes",
        };
        let kind = "agent_inbound_delivery_mode_changed";
        log::info!(event = kind, agent:% = name; "mail for {name} {words}");
        let event = BrokerEvent::AgentInboundDeliveryModeChanged {
            name: name.clone(),
            previous_mode,
            mode,
        };
        step.publish(event);
        self.mode_changes.insert(name.clone(), step.event_number());
    }

    /// Which change of the agent's mode was the last: the number of its event. No event of another life of the broker has it.
    fn mode_revision(&self, view: MailView, name: &AgentName) -> u64 {
        let changed = self.mode_changes.get(name).copied();
        changed.unwrap_or(view.first_event())
    }

    /// Changes the mode, unless it is not, or not any more, as the caller believes.
    pub(in crate::dispatch) fn swap_mode(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        mode: DeliveryMode,
        expected: ExpectedMode,
    ) -> Answer {
        let current = step.ledger().mode(name);
        let revision = self.mode_revision(step.view(), name);
        let matched = expected.mode.is_none_or(|mode| mode == current)
            && expected.revision.is_none_or(|number| number == revision);
        if matched || !step.peers.agents.is_here(name) {
            return self.set_mode(step, name, mode);
        }
        Ok(Reply::ModeChanged(local::ModeChanged {
            mode: current,
            flushed: 0,
            matched,
            revision: revision.to_string(),
        }))
    }

    pub(in crate::dispatch) fn set_mode(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        mode: DeliveryMode,
    ) -> Answer {
        if !step.peers.agents.is_here(name) {
            return Err(step.peers.agents.unknown(name));
        }
        let previous_mode = step.ledger().mode(name);
        let mut flushed = 0;
        if previous_mode != mode {
            self.change_mode(step, name, mode);
            if let Some(desk) = self.desks.get_mut(name) {
                desk.flush_left = 0;
            }
            if mode == DeliveryMode::AutoInject {
                flushed = self.drain(step, name, "delivery_mode_transition");
            }
        }
        Ok(Reply::ModeChanged(local::ModeChanged {
            mode,
            flushed,
            matched: true,
            revision: self.mode_revision(step.view(), name).to_string(),
        }))
    }
}
