//! The seam between thinking and doing: a [`Machine`] decides, [`commit`] makes the decision durable, and only then may
//! its effects leave. Every core of the broker and of the embedded engine is driven through here, live, on replay and
//! in simulation. This file knows no domain and performs no IO of its own.

pub mod event_loop;

use crate::time::{Mono, Now, Wall};

/// A pure state machine: it never blocks, never fails, and reads no clock.
pub trait Machine {
    /// What can happen to it.
    type Event;
    /// What it wants remembered: a fact in the past tense.
    type Record;
    /// What it wants done, once its records are durable.
    type Effect;

    /// Takes one event and adds records and effects to `out`. Records are applied to its own state at once; that is
    /// safe because nothing leaves before they are on disk.
    fn step(&mut self, now: Now, event: Self::Event, out: &mut Out<Self::Record, Self::Effect>);

    /// What may be done about an event while earlier records wait for the disk, and so can no step be taken: looks at what is
    /// known, orders that rest on no record, and signs of life. Changes nothing. The answer says whether that was all;
    /// otherwise the event still takes its step later, after those that came before.
    fn meanwhile(&self, _now: Now, _event: &Self::Event, _effects: &mut Vec<Self::Effect>) -> bool {
        false
    }

    /// Puts what one batch decided into the order in which it leaves, once the last event of the batch has taken its step,
    /// and leaves out what a later effect of the batch makes idle.
    fn arrange(_effects: &mut Vec<Self::Effect>) {}

    /// Applies a record read back from the journal, through the same function the live path uses.
    fn replay(&mut self, record: &Self::Record);

    /// One record that stands for all records so far; the journal starts a new file with it. `None` for a machine
    /// without durable state.
    fn snapshot(&self) -> Option<Self::Record>;

    /// About how many bytes [`Machine::snapshot`] would take in the journal. Asked after each commit, so the answer must
    /// cost next to nothing.
    fn snapshot_size(&self) -> u64 {
        0
    }

    /// When it wants to be called with its tick event, if nothing else happens before.
    fn deadline(&self) -> Option<Mono>;
}

/// What one or more steps decided and is not yet done.
#[derive(Debug)]
pub struct Out<R, E> {
    /// To be made durable, in order.
    pub records: Vec<R>,
    /// To be performed, in order, after all of `records` are durable.
    pub effects: Vec<E>,
    /// When the last of it was decided.
    pub at: Option<Wall>,
}

impl<R, E> Default for Out<R, E> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            effects: Vec::new(),
            at: None,
        }
    }
}

/// The batch did not reach the disk. Nothing of it may leave; the same records may be offered again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CommitError(pub String);

/// A place where records become durable.
pub trait Log<R> {
    /// Returns once all `records` are on disk, as one unit: after a crash either all of them are there or none.
    ///
    /// # Errors
    /// [`CommitError`] when they are not (full disk, failed fsync); the log may be offered the same records again.
    fn commit(&mut self, records: &[R]) -> Result<(), CommitError>;

    /// What is committed from now on was decided at this time.
    fn date(&mut self, _: Wall) {}

    /// Whether the log has grown so long that a snapshot of about `snapshot_size` bytes should replace it.
    fn is_long(&self, snapshot_size: u64) -> bool;

    /// Whether its file can no longer be trusted (a failed fsync), so that it takes a snapshot before anything else.
    fn needs_replacement(&self) -> bool {
        false
    }

    /// Looks whether what was committed can still be found. If not, the log needs replacement from then on.
    fn look(&mut self) {}

    /// Replaces all history by `snapshot`.
    ///
    /// # Errors
    /// [`CommitError`] when the new file could not be made durable; the old one then still stands.
    fn replace(&mut self, snapshot: &R) -> Result<(), CommitError>;
}

/// A log that keeps nothing, for machines without durable state.
#[derive(Debug)]
pub struct NoLog;

impl<R> Log<R> for NoLog {
    fn commit(&mut self, _: &[R]) -> Result<(), CommitError> {
        Ok(())
    }

    fn is_long(&self, _: u64) -> bool {
        false
    }

    fn replace(&mut self, _: &R) -> Result<(), CommitError> {
        Ok(())
    }
}

/// Feeds a batch of events to the machine. Decides only; see [`persist`].
pub fn decide<M: Machine>(
    machine: &mut M,
    now: Now,
    batch: impl IntoIterator<Item = M::Event>,
    out: &mut Out<M::Record, M::Effect>,
) {
    out.at = Some(now.wall);
    for event in batch {
        machine.step(now, event, out);
    }
    M::arrange(&mut out.effects);
}

/// Makes the records in `out` durable and forgets them; the effects stay for the caller to perform. A batch without
/// records costs no disk access.
///
/// # Errors
/// [`CommitError`] from the log: `out` is unchanged, so the caller can try again later and must perform no effect until
/// then.
pub fn persist<M: Machine, L: Log<M::Record>>(
    machine: &M,
    log: &mut L,
    out: &mut Out<M::Record, M::Effect>,
) -> Result<(), CommitError> {
    if let Some(at) = out.at {
        log.date(at);
    }
    if log.needs_replacement() {
        // The machine applied these records when it decided, so the snapshot stands for them too. Even without any: what
        // waits in its memory alone is not safe.
        let snapshot = machine.snapshot().ok_or_else(|| {
            CommitError(
                "the journal must begin anew, and there is no snapshot to begin it with".into(),
            )
        })?;
        log.replace(&snapshot)?;
        out.records.clear();
        return Ok(());
    }
    if out.records.is_empty() {
        return Ok(());
    }
    log.commit(&out.records)?;
    out.records.clear();
    if log.is_long(machine.snapshot_size())
        && let Some(snapshot) = machine.snapshot()
    {
        // The batch itself is durable; a failed rotation must not hold its effects back.
        if let Err(trouble) = log.replace(&snapshot) {
            log::warn!("the journal could not be shortened and goes on growing: {trouble}");
        }
    }
    Ok(())
}

/// Decides, makes durable, and only then lets the effects be performed: the caller performs `out.effects` after `Ok`.
///
/// # Errors
/// As [`persist`].
pub fn commit<M: Machine, L: Log<M::Record>>(
    machine: &mut M,
    log: &mut L,
    now: Now,
    batch: impl IntoIterator<Item = M::Event>,
    out: &mut Out<M::Record, M::Effect>,
) -> Result<(), CommitError> {
    decide(machine, now, batch, out);
    persist(machine, log, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counter(u64);

    impl Machine for Counter {
        type Event = u64;
        type Record = u64;
        type Effect = String;
        fn step(&mut self, _: Now, event: u64, out: &mut Out<u64, String>) {
            self.0 += event;
            out.records.push(event);
            out.effects.push(format!("{}", self.0));
        }
        fn replay(&mut self, record: &u64) {
            self.0 += record;
        }
        fn snapshot(&self) -> Option<u64> {
            Some(self.0)
        }
        fn deadline(&self) -> Option<Mono> {
            None
        }
    }

    #[derive(Default)]
    struct Memory {
        lines: Vec<u64>,
        full: bool,
        long: bool,
        poisoned: bool,
    }

    impl Log<u64> for Memory {
        fn commit(&mut self, records: &[u64]) -> Result<(), CommitError> {
            if self.full || self.poisoned {
                return Err(CommitError("disk full".into()));
            }
            self.lines.extend_from_slice(records);
            Ok(())
        }
        fn is_long(&self, _: u64) -> bool {
            self.long
        }
        fn needs_replacement(&self) -> bool {
            self.poisoned
        }
        fn replace(&mut self, snapshot: &u64) -> Result<(), CommitError> {
            if self.full {
                return Err(CommitError("disk full".into()));
            }
            self.lines = vec![*snapshot];
            self.poisoned = false;
            Ok(())
        }
    }

    /// D1: a failed write is tried again, and nothing is said meanwhile.
    #[test]
    fn a_full_disk_keeps_records_and_effects_for_another_try() {
        let (mut m, mut out) = (Counter::default(), Out::default());
        let mut log = Memory {
            full: true,
            ..Memory::default()
        };
        assert!(commit(&mut m, &mut log, Now::default(), [1, 2], &mut out).is_err());
        assert_eq!((out.records.len(), out.effects.len()), (2, 2));
        log.full = false;
        persist(&m, &mut log, &mut out).expect("the disk has room again");
        assert_eq!(log.lines, [1, 2]);
        assert_eq!(out.effects, ["1", "3"]);
    }

    /// D1: a log that failed to sync is not trusted again, and nothing is said before there is another.
    #[test]
    fn a_poisoned_log_takes_a_snapshot_before_anything_leaves() {
        let (mut m, mut out) = (Counter(10), Out::default());
        let mut log = Memory {
            full: true,
            poisoned: true,
            ..Memory::default()
        };
        assert!(commit(&mut m, &mut log, Now::default(), [1, 2], &mut out).is_err());
        assert_eq!((out.records.len(), out.effects.len()), (2, 2));
        log.full = false;
        persist(&m, &mut log, &mut out).expect("a new file could be begun");
        assert_eq!(log.lines, [13], "the snapshot stands for the batch");
        assert!(out.records.is_empty());
    }

    #[test]
    fn a_log_that_cannot_be_trusted_is_replaced_even_when_there_is_nothing_new() {
        let (m, mut out) = (Counter(10), Out::default());
        let mut log = Memory {
            poisoned: true,
            ..Memory::default()
        };
        persist(&m, &mut log, &mut out).expect("a new file could be begun");
        assert_eq!((log.lines.as_slice(), log.poisoned), (&[10][..], false));
    }

    #[test]
    fn a_long_log_is_replaced_by_one_snapshot() {
        let (mut m, mut out) = (Counter::default(), Out::default());
        let mut log = Memory {
            long: true,
            ..Memory::default()
        };
        commit(&mut m, &mut log, Now::default(), [1, 2, 3], &mut out).expect("memory never fails");
        assert_eq!(log.lines, [6]);
    }
}
