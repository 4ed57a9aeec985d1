//! Mail that is held back from an agent that is here: a dialog stands in its terminal, or its thread takes no orders. It
//! waits, and once it has waited as long as the operator wants it ends in the dead letters, if nothing of it was typed.

use std::time::Duration;

use super::desk::Block;
use super::state::{Mail, MailStep};
use crate::ids::{AgentName, DeliveryId};
use crate::msg::AgentCommand;

/// How often a thread is asked to forget a message. It does not as long as the message's text is in the terminal.
const ASK_AGAIN: Duration = Duration::from_secs(10);

impl Mail {
    /// The message in flight is held back. All that wait behind it have waited as long, so the block counts, not each
    /// message's own turn; but none is given up sooner than the limit after it came.
    pub(super) fn count_block(&mut self, step: &mut MailStep, name: &AgentName, id: &DeliveryId) {
        let (Some(limit), Some(pending), Some(desk)) = (
            step.config().limits.blocked,
            step.ledger().mail().get(id),
            self.desks.get_mut(name),
        ) else {
            return;
        };
        let since = *desk.block.since.get_or_insert(step.now.mono);
        if desk.in_flight.as_ref() == Some(id) && desk.block.give_up_at.is_none() {
            let waited = step
                .now
                .mono
                .since(since)
                .min(step.now.wall - pending.delivery.queued_at);
            desk.block.give_up_at = Some(step.now.mono + limit.saturating_sub(waited));
        }
    }

    /// Without mail nothing is held back, whatever stands in the terminal.
    fn end_block_if_none_waits(&mut self, step: &mut MailStep, name: &AgentName) {
        if step.ledger().mail().waiting(name) == 0
            && let Some(desk) = self.desks.get_mut(name)
        {
            desk.block = Block::default();
        }
    }

    /// It is time to give up the message in flight.
    pub(super) fn block_due(&mut self, step: &mut MailStep, name: &AgentName) {
        let Some(desk) = self.desks.get_mut(name) else {
            return;
        };
        let due = desk.block.give_up_at.is_some_and(|at| at <= step.now.mono);
        let (Some(id), Some(run)) = (desk.in_flight.clone().filter(|_| due), desk.reader()) else {
            return;
        };
        if desk.again_at.take().is_some() {
            // Its thread does not know of it.
            return self.withdrawn(step, name, &id);
        }
        desk.block.give_up_at = Some(step.now.mono + ASK_AGAIN);
        step.order(name.clone(), run, AgentCommand::Withdraw(id));
    }

    /// Nothing of it was typed, and nothing will be.
    pub(in crate::dispatch) fn withdrawn(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        id: &DeliveryId,
    ) {
        if self.made_way(step, name, id) {
            return;
        }
        let why = self.desks.get(name).and_then(|desk| desk.stalled.clone());
        if self.free(name, id).is_none() {
            return;
        }
        let limit = step.config().limits.blocked.unwrap_or_default();
        let why = format!(
            "held back for {} s, which is the limit (--blocked-limit): {}",
            limit.as_secs(),
            why.as_deref().unwrap_or("its terminal took no message")
        );
        step.count().deliveries_blocked += 1;
        self.bury(step, id, &why);
        self.end_block_if_none_waits(step, name);
        self.type_next(step, name);
    }
}
