//! One agent's mail: numbered rows from the post to the acknowledgement
//! ([engine-protocol 4](crate::docs::engine_protocol#4)). Numbers are never used twice and outlive the agent's moves between
//! nodes. It holds references to messages, never their text.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::id::Id;
use super::limits;

/// Why a row exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Said in a channel.
    Message,
    /// Said in a channel, naming the agent.
    Mention,
    /// Said to the agent.
    Dm,
    /// Said in a thread.
    ThreadReply,
}

impl Reason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Message => "message",
            Reason::Mention => "mention",
            Reason::Dm => "dm",
            Reason::ThreadReply => "thread-reply",
        }
    }
}

/// One message for one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub seq: u64,
    pub message: Id,
    pub reason: Reason,
    /// For how long the engine has run while nobody was there to take it; the highest number for one that is given up.
    #[serde(default)]
    pub waited_ms: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// Unacknowledged, ascending; may have gaps.
    rows: VecDeque<Row>,
    /// The highest number given out.
    last: u64,
    /// Everything up to here is done.
    acked: u64,
}

impl Mailbox {
    /// Whether a further row would be refused.
    pub fn is_full(&self) -> bool {
        self.rows.len() >= limits::MAILBOX
    }

    /// The cumulative cursor.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// All unacknowledged rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// Messages that are still to be received.
    pub fn messages(&self) -> impl Iterator<Item = Id> {
        self.rows.iter().map(|r| r.message)
    }

    /// The first row above `seq`.
    pub fn next_after(&self, seq: u64) -> Option<&Row> {
        let from = self.rows.partition_point(|r| r.seq <= seq);
        self.rows.get(from)
    }

    /// The row of that number.
    pub fn row(&self, seq: u64) -> Option<&Row> {
        let at = self.rows.binary_search_by_key(&seq, |r| r.seq).ok()?;
        self.rows.get(at)
    }

    /// The row of that message.
    pub fn row_of(&self, message: Id) -> Option<&Row> {
        self.rows.iter().find(|r| r.message == message)
    }

    /// Adds a row with the next number, unless the mailbox is full: then `None`, and no number is used.
    pub fn push(&mut self, message: Id, reason: Reason) -> Option<u64> {
        if self.is_full() {
            return None;
        }
        self.last += 1;
        self.rows.push_back(Row {
            seq: self.last,
            message,
            reason,
            waited_ms: 0,
        });
        Some(self.last)
    }

    /// Moves the cursor and returns the messages that are now received. A number at or below the cursor changes
    /// nothing; one that was never given out counts as the highest that was.
    pub fn ack(&mut self, up_to: u64) -> Vec<Id> {
        let up_to = up_to.min(self.last);
        if up_to <= self.acked {
            return Vec::new();
        }
        self.acked = up_to;
        let done = self.rows.partition_point(|r| r.seq <= up_to);
        self.rows.drain(..done).map(|r| r.message).collect()
    }

    /// Drops one row and returns its message. The cursor moves over it when nothing below it waits, so that the gap
    /// never blocks a client that wants every number.
    pub fn close(&mut self, seq: u64) -> Option<Id> {
        let at = self.rows.binary_search_by_key(&seq, |r| r.seq).ok()?;
        let row = self.rows.remove(at)?;
        if at == 0 {
            self.acked = self.acked.max(seq);
        }
        Some(row.message)
    }

    /// So much longer have all rows waited.
    pub fn waited(&mut self, ms: u64) {
        for row in &mut self.rows {
            row.waited_ms = row.waited_ms.saturating_add(ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(rows: u64) -> Mailbox {
        let mut m = Mailbox::default();
        for n in 1..=rows {
            assert_eq!(m.push(100 + n, Reason::Message), Some(n));
        }
        m
    }

    #[test]
    fn an_ack_is_cumulative_and_never_goes_back() {
        let mut m = with(4);
        assert_eq!(m.ack(3), [101, 102, 103]);
        assert!(m.ack(2).is_empty());
        assert!(m.ack(3).is_empty());
        assert_eq!((m.acked(), m.rows().count()), (3, 1));
    }

    #[test]
    fn acking_what_was_never_sent_does_not_swallow_the_future() {
        let mut m = with(1);
        m.ack(99);
        assert_eq!(m.acked(), 1);
        assert_eq!(m.push(7, Reason::Dm), Some(2));
        assert_eq!(m.next_after(m.acked()).map(|r| r.seq), Some(2));
    }

    #[test]
    fn a_full_mailbox_refuses_without_using_a_number() {
        let mut m = with(limits::MAILBOX as u64);
        assert_eq!(m.push(1, Reason::Dm), None);
        m.ack(1);
        assert_eq!(m.push(1, Reason::Dm), Some(limits::MAILBOX as u64 + 1));
    }

    #[test]
    fn the_cursor_moves_over_a_dead_row_only_when_it_is_the_lowest() {
        let mut m = with(3);
        assert_eq!(m.close(2), Some(102));
        assert_eq!(m.acked(), 0);
        assert_eq!(m.close(1), Some(101));
        assert_eq!(m.acked(), 1);
        assert_eq!(m.next_after(m.acked()).map(|r| r.seq), Some(3));
    }
}
