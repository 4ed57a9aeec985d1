//! How much may wait. The engine's mail beyond the limit is not taken and so stays the engine's; it is asked for again when
//! half of what waited is gone.

use super::state::{Mail, MailStep, MailView};
use crate::dispatch::notice::Notice;
use crate::ids::{AgentId, AgentName, Seq};
use crate::msg::{Effect, LinkCommand};
use crate::wire::down::Deliver;
use crate::wire::event::BrokerEvent;

/// Who would have to take a message back that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It stays the engine's.
    Engine,
    /// Its sender on this machine is refused.
    Local,
}

impl Mail {
    /// Whether the engine still has to keep this frame: too much waits for its agent. Frames outside the sequence never
    /// come again, and acknowledgements pass over what is behind the cursor, so both are taken all the same.
    pub(super) fn defer(&mut self, step: &mut MailStep, frame: &Deliver) -> bool {
        if frame.seq == Seq(0) || frame.seq <= step.ledger().received(&frame.agent_id) {
            return false;
        }
        let Some(crowd) = self.crowd(step.view(), &frame.agent, Side::Engine, frame.bytes) else {
            return false;
        };
        let waiting = step.ledger().mail().waiting_engine(&frame.agent);
        step.count().deliveries_refused += 1;
        let (id, name) = (frame.agent_id.clone(), frame.agent.clone());
        self.gaps.remove(&id);
        self.leave_to_engine(step, frame);
        if self.full.insert(id, name.clone()).is_none() {
            let reason = format!(
                "{crowd}; what comes now is left to the engine until half of them are read"
            );
            log::warn!(event = "delivery_deferred", agent:% = name; "{reason}");
            let event = BrokerEvent::DeliveryDeferred {
                name,
                pending_delivery_count: waiting as u64,
                reason,
            };
            step.publish(event);
        }
        true
    }

    /// Why the next message of this machine would be refused; `None` while there is room for it.
    pub(in crate::dispatch) fn crowded(&self, view: MailView, name: &AgentName) -> Option<String> {
        self.crowd(view, name, Side::Local, 1)
    }

    /// What is in the way of a further message of about `weight` bytes, in words; `None` while there is room for it.
    pub(super) fn crowd(
        &self,
        view: MailView,
        name: &AgentName,
        side: Side,
        weight: usize,
    ) -> Option<String> {
        let (mail, limits) = (view.ledger().mail(), &view.config().limits);
        let (count, bytes, most) = match side {
            Side::Engine => (
                mail.waiting_engine(name),
                mail.bytes_engine(name),
                limits.engine,
            ),
            Side::Local => (
                mail.waiting_local(name),
                mail.bytes_local(name),
                limits.local,
            ),
        };
        if count >= most {
            return Some(format!("{count} messages wait for '{name}' already"));
        }
        if count > 0 && bytes + weight > limits.bytes {
            let kib = bytes / 1024;
            return Some(format!("{kib} KiB of messages wait for '{name}' already"));
        }
        (count > 0 && mail.bytes() + weight > limits.total_bytes).then(|| {
            let kib = mail.bytes() / 1024;
            format!("{kib} KiB of messages wait for the agents of this node already")
        })
    }

    /// Whether so much has been read that the engine may be asked for what was left to it.
    fn has_room_again(&self, view: MailView, name: &AgentName) -> bool {
        let (mail, limits) = (view.ledger().mail(), &view.config().limits);
        let count = mail.waiting_engine(name);
        count == 0
            || count <= limits.engine / 2
                && mail.bytes_engine(name) <= limits.bytes / 2
                && mail.bytes() <= limits.total_bytes / 2
    }

    /// Of an agent without a base the first number that was left must be remembered: what comes next would be its base.
    pub(super) fn leave_to_engine(&mut self, step: &mut MailStep, frame: &Deliver) {
        if step.ledger().received(&frame.agent_id) == Seq(0) {
            let first = self.left.entry(frame.agent_id.clone());
            let first = first.or_insert(frame.seq);
            *first = frame.seq.min(*first);
        }
    }

    /// Whether a number below this one was left to the engine, so that this one is no base.
    pub(super) fn is_behind_what_was_left(&self, view: MailView, frame: &Deliver) -> bool {
        let first = self.left.get(&frame.agent_id);
        first.is_some_and(|first| frame.seq > *first)
            && view.ledger().received(&frame.agent_id) == Seq(0)
    }

    /// Whether frames for that agent are left to the engine at the moment.
    pub(super) fn is_full(&self, agent_id: &AgentId) -> bool {
        self.full.contains_key(agent_id)
    }

    /// Something ended: there may be room again, also for agents that the mail of others kept out. Mail waits by name, so
    /// it may have been an earlier bearer's, and the one who bears the name now whose mail was left to the engine.
    pub(super) fn drained(&mut self, step: &mut MailStep) {
        let full = self
            .full
            .iter()
            .filter(|(_, of)| self.has_room_again(step.view(), of));
        let full: Vec<AgentId> = full.map(|(agent_id, _)| agent_id.clone()).collect();
        if full.is_empty() {
            return;
        }
        for agent_id in full {
            self.full.remove(&agent_id);
            if step.peers.control.is_open() {
                self.gaps.entry(agent_id).or_default();
            }
        }
        // A new link while something runs here that the engine asked for would have it done twice.
        let may_cut = step.peers.control.is_open() && step.peers.actions.is_idle();
        if may_cut && self.lists_replay_nothing {
            step.effect(Effect::Link(LinkCommand::Reconnect));
        } else {
            step.notice(Notice::MailMissing);
        }
    }
}
