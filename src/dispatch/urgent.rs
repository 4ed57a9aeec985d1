//! A message that interrupts goes before those that wait, and one that was given to the agent's thread and of which nothing
//! is typed makes way for it.

use super::{Dispatcher, Out};
use crate::ids::{AgentName, DeliveryId};
use crate::ledger::{Ledger, Pending};
use crate::msg::{AgentCommand, Effect};
use crate::time::Now;
use crate::wire::down::Mode;
use crate::wire::event::DeliveryMode;

/// How far the message in flight makes way for one that interrupts.
#[derive(Debug, Default)]
pub(super) struct Yielding {
    /// The agent's thread was asked to give it back.
    asked: bool,
    /// The one that it gave back: the attempt that is written down was none, and stands for the next.
    untyped: Option<DeliveryId>,
}

impl Yielding {
    /// The thread is done with the message in flight, however.
    pub fn is_over(&mut self) {
        self.asked = false;
    }

    /// Whether an attempt at this message is written down that never began.
    pub fn stands_for(&mut self, id: &DeliveryId) -> bool {
        self.untyped.take_if(|untyped| untyped == id).is_some()
    }
}

/// The message whose turn it is. What is parked goes out in the order in which it came.
pub(super) fn next<'a>(ledger: &'a Ledger, name: &AgentName) -> Option<&'a Pending> {
    match ledger.mode(name) {
        DeliveryMode::ManualFlush => ledger.mail().front(name),
        DeliveryMode::AutoInject => ledger.mail().next(name),
    }
}

impl Dispatcher {
    /// A message came. If it interrupts, the one in flight that does not is asked to make way; it does unless something of it
    /// is in the terminal.
    pub(super) fn make_way(&mut self, now: Now, name: &AgentName, urgent: bool, out: &mut Out) {
        let held = self.ledger.mode(name) == DeliveryMode::ManualFlush;
        let Some(member) = self.members.get_mut(name).filter(|_| urgent && !held) else {
            return;
        };
        let mail = self.ledger.mail();
        let waits = |id: &DeliveryId| mail.get(id).is_some_and(|p| p.delivery.mode != Mode::Steer);
        let Some(id) = member.in_flight.clone().filter(waits) else {
            return;
        };
        member.yielding.asked = true;
        if member.again_at.take().is_some() {
            // Its thread does not know of it.
            self.made_way(now, name, &id, out);
            return;
        }
        let order = Effect::Agent(name.clone(), member.run, AgentCommand::Withdraw(id));
        out.effects.push(order);
    }

    /// The agent's thread has given a message back of which nothing was typed: whether that was to make way, and the next is
    /// given to it now.
    pub(super) fn made_way(
        &mut self,
        now: Now,
        name: &AgentName,
        id: &DeliveryId,
        out: &mut Out,
    ) -> bool {
        let asked = |member: &super::roster::Member| member.yielding.asked;
        if !self.members.get(name).is_some_and(asked) {
            return false;
        }
        let Some(member) = self.free(name, id) else {
            return false;
        };
        member.yielding.untyped = Some(id.clone());
        self.type_next(now, name, out);
        true
    }
}
