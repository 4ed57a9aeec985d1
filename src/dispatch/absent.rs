//! Mail of agents that are not here. It waits for them, and ends in the dead letters when they do not come. Its time is
//! counted by the monotonic clock while a broker runs and the agent is away, and written down, so that it goes on over a
//! restart: the wall clock, which may jump, has no say in it.

use std::time::Duration;

use serde_json::Value;

use super::calls::RestJob;
use super::{Dispatcher, Out};
use crate::ids::{AgentId, AgentName, DeliveryId, MsgId, Ticket};
use crate::ledger::{Pending, Record, Verdict};
use crate::msg::{Answer, Delivery, Effect, Origin, Reply, RestCall};
use crate::time::{Mono, Now, Wall, soonest};
use crate::wire::down::{Deliver, Mode};
use crate::wire::local::{PendingList, PendingView};
use crate::wire::rest;
use crate::wire::up::{DeliveryAck, Up};

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

    /// The engine inside gives a message up whose agent did not come to any node. It is ours to keep as a dead letter, and
    /// the engine lets go of it once it hears that we have it.
    pub(super) fn handed_over(&mut self, now: Now, frame: Deliver, why: &str, out: &mut Out) {
        let (agent, up_to_seq) = (frame.agent.clone(), frame.seq);
        let engines_name = self.called.get(&frame.agent_id).cloned();
        match self.judge(&frame) {
            Verdict::Stale => {}
            Verdict::Copy => self.note(&frame, out),
            Verdict::Pending => {
                self.give_up(now, &frame.delivery_id, why, out);
            }
            Verdict::Fresh | Verdict::Gap => self.accept_frame(now, frame, Some(why), out),
        }
        if self.link.up {
            self.counters.acks_sent += 1;
            let agent = engines_name.unwrap_or(agent);
            let ack = DeliveryAck { agent, up_to_seq };
            out.effects.push(Effect::Send(Up::DeliveryAck(ack)));
        }
    }

    /// The engine says that a message will not arrive ([engine-protocol 4.6](crate::docs::engine_protocol#4.6)). What it has
    /// handed to a broker, and what we took in before, has its own end.
    pub(super) fn engine_gave_up(&mut self, now: Now, data: &Value, out: &mut Out) {
        let text = |key: &str| data[key].as_str().filter(|text| !text.is_empty());
        let (Some(message), Some(name)) = (text("message_id"), text("target_agent_name")) else {
            return;
        };
        let target = text("target_agent_id").unwrap_or(name);
        let id =
            text("delivery_id").map_or_else(|| format!("del_{message}_{target}"), str::to_owned);
        let (id, msg_id) = (DeliveryId::new(id), MsgId::new(message));
        let ours = self.ledger.mail().get(&id).is_some()
            || self.ledger.dead().get(&id).is_some()
            || self.ledger.knows(&AgentId::new(target), &msg_id);
        if ours || text("kept_by").is_some() || self.stopping.is_some() {
            return;
        }
        let why = text("error")
            .or(text("reason"))
            .unwrap_or("it does not say why");
        let why = format!("the engine gave it up: {why}");
        let delivery = Delivery {
            id: id.clone(),
            msg_id,
            agent: AgentName::new(name),
            origin: Origin::Acknowledged,
            from: text("from_name").unwrap_or("unknown").to_owned(),
            target: name.to_owned(),
            body: text("text").unwrap_or_default().to_owned(),
            thread_id: None,
            mode: Mode::Wait,
            raw: false,
            queued_at: now.wall,
        };
        self.take_on(delivery, out);
        self.bury(now, &id, &why, out);
    }

    // ---- what is shown of it ------------------------------------------------------------------------------------

    /// Until when a message waits, as the wall clock is now; `None` for ever, or while its agent is here.
    pub(super) fn waits_until(&self, now: Now, pending: &Pending) -> Option<Wall> {
        let name = &pending.delivery.agent;
        let ttl = self.facts.limits.ttl?;
        let absent = !self.members.contains_key(name);
        let left = absent.then(|| self.left(now, name, pending.waited_ms, ttl));
        left.map(|left| now.wall + left)
    }

    /// What waits for an agent that is not here: some of it here, the rest with the engine, which is asked.
    pub(super) fn pending_absent(&mut self, ticket: Ticket, name: AgentName, out: &mut Out) {
        let call = RestCall::Waiting(name.clone());
        self.rest_job(call, RestJob::Waiting(ticket, name), out);
    }

    pub(super) fn waiting_answered(
        &self,
        now: Now,
        name: &AgentName,
        theirs: Vec<rest::WaitingRow>,
    ) -> Answer {
        if theirs.is_empty() {
            return self.pending(now, name);
        }
        let mut pending: Vec<PendingView> = self
            .ledger
            .mail()
            .of(name)
            .map(|p| self.pending_view(now, p))
            .collect();
        let here = |row: &rest::WaitingRow| self.ledger.mail().get(&row.delivery_id).is_some();
        let rows = theirs.into_iter().filter(|row| !here(row));
        pending.extend(rows.map(|row| PendingView {
            from: row.from,
            body: row.text,
            priority: if row.target.starts_with('#') { 3 } else { 2 },
            target: row.target,
            mode: row.mode,
            queued_at_ms: row.posted_at_ms,
            thread_id: None,
            workspace_id: self.facts.workspace_id.clone(),
            event_id: Some(row.message_id),
            lies_at: Some("engine".into()),
            until_ms: row.left_ms.map(|ms| now.wall + Duration::from_millis(ms)),
        }));
        Ok(Reply::Pending(PendingList { pending }))
    }
}
