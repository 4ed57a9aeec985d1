//! Mail that is held back from an agent that is here: a dialog stands in its terminal, or its thread takes no orders. It
//! waits, and once it has waited as long as the operator wants it ends in the dead letters, if nothing of it was typed.

use std::time::Duration;

use super::{Dispatcher, Out};
use crate::ids::{AgentName, DeliveryId};
use crate::msg::{AgentCommand, Effect};
use crate::time::{Mono, Now};

/// How often a thread is asked to forget a message. It does not as long as the message's text is in the terminal.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Since when an agent takes no messages, and when the one in flight is given up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    since: Option<Mono>,
    pub give_up_at: Option<Mono>,
}

impl Dispatcher {
    /// The message in flight is held back. All that wait behind it have waited as long, so the block counts, not each
    /// message's own turn; but none is given up sooner than the limit after it came.
    pub(super) fn count_block(&mut self, now: Now, name: &AgentName, id: &DeliveryId) {
        let (Some(limit), Some(pending), Some(member)) = (
            self.facts.limits.blocked,
            self.ledger.mail().get(id),
            self.members.get_mut(name),
        ) else {
            return;
        };
        let since = *member.block.since.get_or_insert(now.mono);
        if member.in_flight.as_ref() == Some(id) && member.block.give_up_at.is_none() {
            let waited = now
                .mono
                .since(since)
                .min(now.wall - pending.delivery.queued_at);
            member.block.give_up_at = Some(now.mono + limit.saturating_sub(waited));
        }
    }

    /// Without mail nothing is held back, whatever stands in the terminal.
    fn end_block_if_none_waits(&mut self, name: &AgentName) {
        if self.ledger.mail().waiting(name) == 0
            && let Some(member) = self.members.get_mut(name)
        {
            member.block = Block::default();
        }
    }

    /// It is time to give up the message in flight.
    pub(super) fn block_due(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let due = member.block.give_up_at.is_some_and(|at| at <= now.mono);
        let Some(id) = member.in_flight.clone().filter(|_| due) else {
            return;
        };
        if member.again_at.take().is_some() {
            // Its thread does not know of it.
            return self.withdrawn(now, name, &id, out);
        }
        member.block.give_up_at = Some(now.mono + ASK_AGAIN);
        let (run, order) = (member.run, AgentCommand::Withdraw(id));
        out.effects.push(Effect::Agent(name.clone(), run, order));
    }

    /// Nothing of it was typed, and nothing will be.
    pub(super) fn withdrawn(&mut self, now: Now, name: &AgentName, id: &DeliveryId, out: &mut Out) {
        if self.made_way(now, name, id, out) {
            return;
        }
        let why = self.members.get(name).and_then(|m| m.stalled.clone());
        if self.free(name, id).is_none() {
            return;
        }
        let limit = self.facts.limits.blocked.unwrap_or_default();
        let why = format!(
            "held back for {} s, which is the limit (--blocked-limit): {}",
            limit.as_secs(),
            why.as_deref().unwrap_or("its terminal took no message")
        );
        self.counters.deliveries_blocked += 1;
        self.bury(now, id, &why, out);
        self.end_block_if_none_waits(name);
        self.type_next(now, name, out);
    }
}
