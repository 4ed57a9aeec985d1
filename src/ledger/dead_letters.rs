//! What could not be delivered, kept so that a person can see it and why.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::mailbox::Pending;
use crate::ids::DeliveryId;
use crate::time::Wall;

/// How many are kept; the oldest go first (what upstream keeps, [local-api 5.1](crate::docs::local_api#5.1)).
pub const KEPT: usize = 500;
/// What all that are kept may weigh together, in bytes; the oldest go first, but never the newest.
pub const KEPT_BYTES: usize = 16 * 1024 * 1024;

/// One delivery that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dead {
    /// What it was.
    pub pending: Pending,
    /// Why it was given up, for people.
    pub reason: String,
    /// When it was given up.
    pub at: Wall,
}

/// The dead letters, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeadLetters(VecDeque<Dead>);

impl DeadLetters {
    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Dead> {
        self.0.iter()
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by its id.
    pub fn get(&self, id: &DeliveryId) -> Option<&Dead> {
        self.iter().find(|dead| dead.pending.delivery.id == *id)
    }

    /// What all that are kept weigh, in bytes (see [`Pending::weight`]).
    pub fn bytes(&self) -> usize {
        self.iter().map(|dead| dead.pending.weight()).sum()
    }

    /// Those that the burial of a delivery of that weight pushes out, the oldest first.
    pub fn next_forgotten(&self, weight: usize) -> impl Iterator<Item = &Dead> {
        let (mut count, mut bytes) = (self.0.len(), self.bytes() + weight);
        self.iter().take_while(move |oldest| {
            let goes = count >= KEPT || bytes > KEPT_BYTES;
            count -= 1;
            bytes -= oldest.pending.weight();
            goes
        })
    }

    pub(super) fn take(&mut self, id: &DeliveryId) -> Option<Dead> {
        let at = self
            .iter()
            .position(|dead| dead.pending.delivery.id == *id)?;
        self.0.remove(at)
    }

    pub(super) fn push(&mut self, dead: Dead) {
        let forgotten = self.next_forgotten(dead.pending.weight()).count();
        self.0.drain(..forgotten);
        self.0.push_back(dead);
    }
}
