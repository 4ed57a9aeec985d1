//! A message that interrupts goes before those that wait, and one that was given to the agent's thread and of which nothing
//! is typed makes way for it.

use super::desk::MailDesk;
use super::state::{Mail, MailStep};
use crate::domain::{DeliveryMode, Mode};
use crate::ids::{AgentName, DeliveryId};
use crate::ledger::{Ledger, Pending};
use crate::msg::AgentCommand;

/// The message whose turn it is. What is parked goes out in the order in which it came.
pub(super) fn next<'a>(ledger: &'a Ledger, name: &AgentName) -> Option<&'a Pending> {
    match ledger.mode(name) {
        DeliveryMode::ManualFlush => ledger.mail().front(name),
        DeliveryMode::AutoInject => ledger.mail().next(name),
    }
}

impl Mail {
    /// A message came. If it interrupts, the one in flight that does not is asked to make way; it does unless something of it
    /// is in the terminal.
    pub(super) fn make_way(&mut self, step: &mut MailStep, name: &AgentName, urgent: bool) {
        let held = step.ledger().mode(name) == DeliveryMode::ManualFlush;
        let Some(desk) = self.desks.get_mut(name).filter(|_| urgent && !held) else {
            return;
        };
        let mail = step.ledger().mail();
        let waits = |id: &DeliveryId| mail.get(id).is_some_and(|p| p.delivery.mode != Mode::Steer);
        let in_flight = desk.in_flight.clone().filter(waits);
        let (Some(id), Some(run)) = (in_flight, desk.run()) else {
            return;
        };
        desk.yielding.asked = true;
        if desk.again_at.take().is_some() {
            // Its thread does not know of it.
            self.made_way(step, name, &id);
            return;
        }
        step.order(name.clone(), run, AgentCommand::Withdraw(id));
    }

    /// The agent's thread has given a message back of which nothing was typed: whether that was to make way, and the next is
    /// given to it now.
    pub(super) fn made_way(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
    ) -> bool {
        let asked = |desk: &MailDesk| desk.yielding.asked;
        if !self.desks.get(name).is_some_and(asked) {
            return false;
        }
        let Some(desk) = self.free(name, id) else {
            return false;
        };
        desk.yielding.untyped = Some(id.clone());
        self.type_next(step, name);
        true
    }
}
