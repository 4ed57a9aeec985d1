//! Where one agent's mail is typed: one delivery at a time, for one run of its program. A new run has a new desk.

use std::collections::VecDeque;

use super::backoff::Backoff;
use crate::ids::{DeliveryId, MsgId, Run};
use crate::time::{Mono, soonest};

/// How many messages that landed are remembered until their turns begin; most programs never say that one did.
const REMEMBERED: usize = 16;

/// One agent's desk.
#[derive(Debug, Default)]
pub(super) struct MailDesk {
    /// Whose terminal takes messages; none before the program is ready.
    reader: Option<Run>,
    /// Its program is being ended.
    closed: bool,
    /// The delivery its thread is typing.
    pub(super) in_flight: Option<DeliveryId>,
    /// What it took lately and has not been seen to act on.
    took: VecDeque<(DeliveryId, MsgId)>,
    pub(super) stalled: Option<String>,
    /// Those behind the message in flight were told that they wait.
    pub(super) told_blocked: bool,
    /// How long it has taken no messages.
    pub(super) block: Block,
    /// Whether the delivery makes way for one that interrupts.
    pub(super) yielding: Yielding,
    /// When to give its thread the delivery once more, because it took no orders.
    pub(super) again_at: Option<Mono>,
    /// While on hold: how many of the parked messages a flush still lets through.
    pub(super) flush_left: u64,
    pub(super) backoff: Backoff,
    /// The delivery that the program dropped last, and how often in a row.
    dropped: Option<(DeliveryId, u32)>,
}

impl MailDesk {
    /// The terminal of this run takes messages from now on.
    pub(super) fn open(&mut self, run: Run) {
        self.reader = Some(run);
    }

    /// Nothing more is typed in this run.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// The run that is ready, ending or not.
    pub(super) fn run(&self) -> Option<Run> {
        self.reader
    }

    /// The run that messages may be typed to.
    pub(super) fn reader(&self) -> Option<Run> {
        self.reader.filter(|_| !self.closed)
    }

    /// The run that the next message may be typed to now.
    pub(super) fn free_reader(&self, now: Mono) -> Option<Run> {
        let rests = self.backoff.until.is_some_and(|at| at > now);
        self.reader().filter(|_| self.in_flight.is_none() && !rests)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.reader()?;
        [self.again_at, self.block.give_up_at]
            .into_iter()
            .fold(self.backoff.until, soonest)
    }

    /// Its thread is done with this delivery; `false` if it had another.
    pub(super) fn finish(&mut self, id: &DeliveryId) -> bool {
        let had = self.in_flight.as_ref() == Some(id);
        if had {
            self.in_flight = None;
            self.yielding.is_over();
            self.stalled = None;
            self.block.give_up_at = None;
        }
        had
    }

    /// How often in a row the program has dropped this delivery, now included.
    pub(super) fn drops(&mut self, id: &DeliveryId) -> u32 {
        let before = self.dropped.take().filter(|(dropped, _)| dropped == id);
        let times = before.map_or(1, |(_, times)| times + 1);
        self.dropped = Some((id.clone(), times));
        times
    }

    /// Remembers a message that landed, until its turn begins or many others came after it.
    pub(super) fn took(&mut self, id: &DeliveryId, event_id: &MsgId) {
        if self.took.len() >= REMEMBERED {
            self.took.pop_front();
        }
        self.took.push_back((id.clone(), event_id.clone()));
    }

    /// The message of a delivery whose turn begins; told once.
    pub(super) fn begins(&mut self, id: &DeliveryId) -> Option<MsgId> {
        let at = self.took.iter().position(|(took, _)| took == id)?;
        self.took.remove(at).map(|(_, event_id)| event_id)
    }
}

/// Since when an agent takes no messages, and when the one in flight is given up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    pub(super) since: Option<Mono>,
    pub(super) give_up_at: Option<Mono>,
}

/// How far the message in flight makes way for one that interrupts.
#[derive(Debug, Default)]
pub(super) struct Yielding {
    /// The agent's thread was asked to give it back.
    pub(super) asked: bool,
    /// The one that it gave back: the attempt that is written down was none, and stands for the next.
    pub(super) untyped: Option<DeliveryId>,
}

impl Yielding {
    /// The thread is done with the message in flight, however.
    pub(super) fn is_over(&mut self) {
        self.asked = false;
    }

    /// Whether an attempt at this message is written down that never began.
    pub(super) fn stands_for(&mut self, id: &DeliveryId) -> bool {
        self.untyped.take_if(|untyped| untyped == id).is_some()
    }
}
