//! Frames of one agent that are kept until what is missing before them has come.

use std::collections::BTreeMap;

use crate::ids::Seq;
use crate::time::Mono;
use crate::wire::down::Deliver;

/// Frames that came before their turn.
#[derive(Debug, Default)]
pub(super) struct Gap {
    pub(super) early: BTreeMap<Seq, Deliver>,
    /// How much they say, in bytes.
    pub(super) bytes: usize,
    /// More came than are kept.
    pub(super) overflowed: bool,
    /// When to ask in another way; not before it was asked for.
    pub(super) give_up_at: Option<Mono>,
    /// The request by which the engine was asked for what is missing, until it answers.
    pub(super) asked: Option<String>,
    /// It has answered: what it sends from now on is the replay.
    pub(super) answered: bool,
}

/// A new link was asked for, because numbers were missing that no list of agents brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AskedAnew {
    /// How far the agent's mail had come by then.
    pub(super) received: Seq,
    /// The link on which they were missing is gone. Until then the engine has not sent anything for the asking.
    pub(super) old_link_gone: bool,
}

impl Gap {
    pub(super) fn insert(&mut self, frame: Deliver) {
        self.bytes += frame.bytes;
        if let Some(copy) = self.early.insert(frame.seq, frame) {
            self.bytes -= copy.bytes;
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.give_up_at
    }

    /// Counted anew from what is there.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.early.values().map(|frame| frame.bytes).sum()
    }

    /// The first of them.
    pub(super) fn pop(&mut self) -> Option<Deliver> {
        let (_, frame) = self.early.pop_first()?;
        self.bytes -= frame.bytes;
        Some(frame)
    }
}
