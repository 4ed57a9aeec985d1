//! Mail of agents that are not here. It waits for them, and ends in the dead letters when they do not come. Its time is
//! counted by the monotonic clock while a broker runs and the agent is away, and written down, so that it goes on over a
//! restart: the wall clock, which may jump, has no say in it.

use std::time::Duration;

use super::{Dispatcher, Out};
use crate::ids::{AgentName, DeliveryId};
use crate::ledger::Record;
use crate::time::{Mono, Now, soonest};

/// A reader gets at least this long to come back after a start, however long the mail has waited; less if the operator
/// wants it.
const GRACE: Duration = Duration::from_secs(60);
/// How much of the waiting a kill of the broker may make forgotten.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);

impl Dispatcher {
    /// Whether mail of that name waits for somebody who is not here.
    fn is_awaited(&self, name: &AgentName) -> bool {
        !self.members.contains_key(name) && self.ledger.mail().waiting(name) > 0
    }

    /// The waiting of a name's mail begins, or goes on in a new life of the broker.
    pub(super) fn await_reader(&mut self, now: Now, name: &AgentName) {
        if self.is_awaited(name) {
            self.absent_since.entry(name.clone()).or_insert(now.mono);
            self.watch_absent(now);
        }
    }

    /// A reader comes: what waited so far is written down, and nothing is counted while it is here.
    pub(super) fn reader_comes(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        self.write_waited(now, name, out);
        self.absent_since.remove(name);
    }

    /// Writes down how long a name's mail has waited since that was last done.
    pub(super) fn write_waited(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        if !self.is_awaited(name) || self.facts.limits.ttl.is_none() {
            return;
        }
        let Some(since) = self.absent_since.get_mut(name) else {
            return;
        };
        let ms = u64::try_from(now.mono.since(*since).as_millis()).unwrap_or(u64::MAX);
        if ms > 0 {
            *since = *since + Duration::from_millis(ms);
            let agent = name.clone();
            self.record(Record::Waited { agent, ms }, out);
        }
    }

    /// The same for everybody; the last act of an orderly stop.
    pub(super) fn write_all_waited(&mut self, now: Now, out: &mut Out) {
        let names: Vec<AgentName> = self.absent_since.keys().cloned().collect();
        for name in names {
            self.write_waited(now, &name, out);
        }
    }

    fn watch_absent(&mut self, now: Now) {
        if let Some(ttl) = self.facts.limits.ttl {
            let first = ttl.min(WRITTEN_EVERY);
            self.absent_check = soonest(self.absent_check, Some(now.mono + first));
        }
    }

    pub(super) fn tick_absent(&mut self, now: Now, out: &mut Out) {
        if self.absent_check.is_none_or(|at| at > now.mono) {
            return;
        }
        self.absent_check = None;
        let Some(ttl) = self.facts.limits.ttl else {
            return;
        };
        self.absent_since
            .retain(|name, _| self.ledger.mail().waiting(name) > 0);
        let names: Vec<AgentName> = self.absent_since.keys().cloned().collect();
        for name in names {
            for id in self.overdue(now, &name, ttl) {
                let secs = humantime::format_duration(ttl);
                let why = format!("no agent named '{name}' came within {secs} to read it");
                self.bury(now, &id, &why, out);
            }
            let since = self.absent_since.get(&name).copied();
            if since.is_some_and(|since| now.mono.since(since) >= WRITTEN_EVERY) {
                self.write_waited(now, &name, out);
            }
            let next = self.next_overdue(now, &name, ttl);
            self.absent_check = soonest(self.absent_check, next);
        }
    }

    /// How long a message of that name has to wait yet.
    fn left(&self, now: Now, name: &AgentName, waited_ms: u64, ttl: Duration) -> Duration {
        let since = self.absent_since.get(name);
        let unwritten = since.map_or(Duration::ZERO, |since| now.mono.since(*since));
        let waited = Duration::from_millis(waited_ms) + unwritten;
        let grace = ttl.min(GRACE);
        let grace_left = grace.saturating_sub(now.mono.since(self.started.mono));
        ttl.saturating_sub(waited).max(grace_left)
    }

    fn overdue(&self, now: Now, name: &AgentName, ttl: Duration) -> Vec<DeliveryId> {
        let mail = self.ledger.mail().of(name);
        mail.filter(|p| self.left(now, name, p.waited_ms, ttl).is_zero())
            .map(|p| p.delivery.id.clone())
            .collect()
    }

    fn next_overdue(&self, now: Now, name: &AgentName, ttl: Duration) -> Option<Mono> {
        // The first has waited longest.
        let first = self.ledger.mail().front(name)?;
        let left = self.left(now, name, first.waited_ms, ttl);
        Some(now.mono + left.min(WRITTEN_EVERY))
    }

    pub(super) fn absent_deadline(&self) -> Option<Mono> {
        self.absent_check
    }
}
