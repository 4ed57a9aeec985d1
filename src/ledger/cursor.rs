//! Where one agent's mail from the engine stands. Looks at a frame and says what it is; changes only through `Ledger`.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::ids::{MsgId, Seq};

/// How many message ids are remembered per agent, first in, first out (what upstream keeps,
/// [engine-protocol 4.4](crate::docs::engine_protocol#4.4)).
pub const REMEMBERED: usize = 512;

/// One agent id's sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The highest number taken in since the engine began to count, or counted anew; 0 before the first.
    received: Seq,
    /// Numbers taken in and not ended yet.
    open: BTreeSet<Seq>,
    /// Message ids seen lately, the oldest first.
    recent: VecDeque<MsgId>,
}

/// What a frame is, seen from the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next one, or the very first, whose number is then the base.
    Fresh,
    /// Taken in already and not ended: it needs neither typing nor acknowledging.
    Pending,
    /// Ended already: the acknowledgement is repeated.
    Stale,
    /// A message we have under another number: done with, never typed.
    Copy,
    /// Numbers before it are missing.
    Gap,
}

impl Cursor {
    /// Judges a frame by its number and message id, without touching anything. Number 0 is outside the sequence.
    pub fn judge(&self, seq: Seq, msg_id: &MsgId) -> Verdict {
        let known = self.knows(msg_id);
        if seq == Seq(0) {
            return if known { Verdict::Copy } else { Verdict::Fresh };
        }
        if seq <= self.received {
            return match self.open.contains(&seq) {
                _ if self.is_another(msg_id) => Verdict::Fresh,
                true => Verdict::Pending,
                false => Verdict::Stale,
            };
        }
        if self.received != Seq(0) && seq > self.received.next() {
            return Verdict::Gap;
        }
        if known { Verdict::Copy } else { Verdict::Fresh }
    }

    /// Whether a message under a number that was taken in is not the one that had that number: an engine that was put back
    /// to an earlier state counts on from there. Told only while no message id was forgotten yet, because an unknown one
    /// may be forgotten after that.
    fn is_another(&self, msg_id: &MsgId) -> bool {
        self.recent.len() < REMEMBERED && !self.knows(msg_id)
    }

    /// The longest finished prefix: what may be acknowledged. `None` before the first frame.
    pub fn settled(&self) -> Option<Seq> {
        match self.open.first() {
            // Those that are open from before the engine counted anew may lie beyond.
            Some(first) => Some(Seq(first.0.saturating_sub(1)).min(self.received)),
            None => (self.received != Seq(0)).then_some(self.received),
        }
    }

    /// Whether everything taken in has ended.
    pub(super) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether that message was seen lately.
    pub fn knows(&self, msg_id: &MsgId) -> bool {
        self.recent.contains(msg_id)
    }

    /// The highest number taken in.
    pub fn received(&self) -> Seq {
        self.received
    }

    /// Takes a number in; `open` says whether it still has to end.
    pub(super) fn take(&mut self, seq: Seq, msg_id: &MsgId, open: bool) {
        let counts_anew = seq <= self.received && self.is_another(msg_id);
        if !self.recent.contains(msg_id) {
            if self.recent.len() >= REMEMBERED {
                self.recent.pop_front();
            }
            self.recent.push_back(msg_id.clone());
        }
        if seq == Seq(0) {
            return;
        }
        self.received = if counts_anew {
            seq
        } else {
            self.received.max(seq)
        };
        if open {
            self.open.insert(seq);
        }
    }

    /// One that was open has ended.
    pub(super) fn end(&mut self, seq: Seq) {
        self.open.remove(&seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> MsgId {
        MsgId::new(format!("m{n}"))
    }

    #[test]
    fn only_the_finished_prefix_may_be_acknowledged() {
        let mut c = Cursor::default();
        assert_eq!(c.settled(), None);
        for n in 5..=7 {
            assert_eq!(
                c.judge(Seq(n), &id(n)),
                Verdict::Fresh,
                "the first number is the base, the rest follow"
            );
            c.take(Seq(n), &id(n), true);
        }
        assert_eq!(c.settled(), Some(Seq(4)));
        c.end(Seq(6));
        assert_eq!(c.settled(), Some(Seq(4)), "6 is done but 5 is not");
        c.end(Seq(5));
        assert_eq!(c.settled(), Some(Seq(6)));
        c.end(Seq(7));
        assert_eq!(c.settled(), Some(Seq(7)));
    }

    #[test]
    fn frames_sent_again_are_told_apart_by_whether_they_ended() {
        let mut c = Cursor::default();
        c.take(Seq(1), &id(1), true);
        c.take(Seq(2), &id(2), true);
        c.end(Seq(1));
        assert_eq!(c.judge(Seq(1), &id(1)), Verdict::Stale);
        assert_eq!(c.judge(Seq(2), &id(2)), Verdict::Pending);
        assert_eq!(c.judge(Seq(3), &id(2)), Verdict::Copy);
        assert_eq!(c.judge(Seq(5), &id(5)), Verdict::Gap);
    }

    #[test]
    fn frames_outside_the_sequence_never_move_it_and_are_known_again() {
        let mut c = Cursor::default();
        c.take(Seq(3), &id(3), false);
        assert_eq!(c.judge(Seq(0), &id(9)), Verdict::Fresh);
        c.take(Seq(0), &id(9), false);
        assert_eq!(c.judge(Seq(0), &id(9)), Verdict::Copy);
        assert_eq!(c.settled(), Some(Seq(3)));
    }

    /// N26: only what was forgotten can be taken for one that ended.
    #[test]
    fn another_message_under_a_known_number_is_fresh_while_no_id_was_forgotten() {
        let mut c = Cursor::default();
        for n in 1..REMEMBERED as u64 {
            c.take(Seq(n), &id(n), false);
        }
        assert_eq!(c.judge(Seq(9), &id(9)), Verdict::Stale);
        assert_eq!(c.judge(Seq(9), &id(1000)), Verdict::Fresh);
        let mut anew = c.clone();
        anew.take(Seq(9), &id(1000), true);
        assert_eq!((anew.received(), anew.settled()), (Seq(9), Some(Seq(8))));
        c.take(Seq(512), &id(512), false);
        assert_eq!(c.judge(Seq(9), &id(1000)), Verdict::Stale);
    }

    #[test]
    fn memory_of_message_ids_is_bounded() {
        let mut c = Cursor::default();
        for n in 0..2000 {
            c.take(Seq(n + 1), &id(n), false);
        }
        assert_eq!(c.recent.len(), REMEMBERED);
    }
}
