//! Mail of agents that are not here. It waits for them, and ends in the dead letters when they do not come. Its time is
//! counted by the monotonic clock while a broker runs and the agent is away, and written down, so that it goes on over a
//! restart: the wall clock, which may jump, has no say in it.

use std::time::Duration;

use super::state::{Mail, MailStep, MailView};
use crate::dispatch::rest_jobs::RestJob;
use crate::domain::Mode;
use crate::ids::{AgentId, AgentName, DeliveryId, MsgId, Ticket};
use crate::ledger::{Delivery, Origin, Pending, Record, Verdict};
use crate::msg::{Answer, Reply, RestCall, RestDone};
use crate::time::{Mono, Wall, soonest};
use crate::wire::down::{ContextUpdate, Deliver};
use crate::wire::event::BrokerEvent;
use crate::wire::local::{PendingList, PendingView};
use crate::wire::rest;
use crate::wire::up::{DeliveryAck, Up};

/// A reader gets at least this long to come back after a start, however long the mail has waited; less if the operator
/// wants it.
const GRACE: Duration = Duration::from_secs(60);
/// How much of the waiting a kill of the broker may make forgotten.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);

impl Mail {
    /// The waiting of a name's mail begins, or goes on in a new life of the broker.
    pub(super) fn await_reader(&mut self, step: &mut MailStep, name: &AgentName) {
        if !step.peers.agents.is_here(name) && step.ledger().mail().waiting(name) > 0 {
            self.absent_since
                .entry(name.clone())
                .or_insert(step.now.mono);
            self.watch_absent(step);
        }
    }

    /// The same for everybody for whom mail waits.
    pub(in crate::dispatch) fn await_readers(&mut self, step: &mut MailStep) {
        let waiting = step.ledger().mail().fronts().map(|(name, _)| name.clone());
        for name in waiting.collect::<Vec<_>>() {
            self.await_reader(step, &name);
        }
    }

    /// A reader comes: what waited so far is written down, and nothing is counted while it is here.
    pub(super) fn reader_comes(&mut self, step: &mut MailStep, name: &AgentName) {
        self.write_waited(step, name);
        self.absent_since.remove(name);
    }

    /// Writes down how long a name's mail has waited since that was last done.
    pub(super) fn write_waited(&mut self, step: &mut MailStep, name: &AgentName) {
        if step.ledger().mail().waiting(name) == 0 || step.config().limits.ttl.is_none() {
            return;
        }
        let Some(since) = self.absent_since.get_mut(name) else {
            return;
        };
        let ms = u64::try_from(step.now.mono.since(*since).as_millis()).unwrap_or(u64::MAX);
        if ms > 0 {
            *since = *since + Duration::from_millis(ms);
            let agent = name.clone();
            step.record(Record::Waited { agent, ms });
        }
    }

    /// The last act of an orderly stop: a stop loses nothing, and says how much it keeps and for whom.
    pub(in crate::dispatch) fn leaving(&mut self, step: &mut MailStep) {
        let names: Vec<AgentName> = self.absent_since.keys().cloned().collect();
        for name in names {
            self.write_waited(step, &name);
        }
        let mail = step.ledger().mail();
        let count = mail.len() as u64;
        if count == 0 {
            return;
        }
        let names: Vec<AgentName> = mail.fronts().map(|(name, _)| name.clone()).collect();
        let list: Vec<&str> = names.iter().map(AgentName::as_str).collect();
        log::info!(
            event = "deliveries_kept";
            "{count} messages are kept for the next start, for {}",
            list.join(", ")
        );
        step.publish(BrokerEvent::DeliveriesKept { count, names });
    }

    fn watch_absent(&mut self, step: &mut MailStep) {
        if let Some(ttl) = step.config().limits.ttl {
            let first = ttl.min(WRITTEN_EVERY);
            self.absent_check = soonest(self.absent_check, Some(step.now.mono + first));
        }
    }

    pub(super) fn tick_absent(&mut self, step: &mut MailStep) {
        if self.absent_check.is_none_or(|at| at > step.now.mono) {
            return;
        }
        self.absent_check = None;
        let Some(ttl) = step.config().limits.ttl else {
            return;
        };
        self.absent_since
            .retain(|name, _| step.ledger().mail().waiting(name) > 0);
        let names: Vec<AgentName> = self.absent_since.keys().cloned().collect();
        for name in names {
            for id in self.overdue(step.view(), &name, ttl) {
                let secs = humantime::format_duration(ttl);
                let why = format!("no agent named '{name}' came within {secs} to read it");
                self.bury(step, &id, &why);
            }
            let since = self.absent_since.get(&name).copied();
            if since.is_some_and(|since| step.now.mono.since(since) >= WRITTEN_EVERY) {
                self.write_waited(step, &name);
            }
            let next = self.next_overdue(step.view(), &name, ttl);
            self.absent_check = soonest(self.absent_check, next);
        }
    }

    /// How long a message of that name has to wait yet.
    fn left(&self, view: MailView, name: &AgentName, waited_ms: u64, ttl: Duration) -> Duration {
        let since = self.absent_since.get(name);
        let unwritten = since.map_or(Duration::ZERO, |since| view.now.mono.since(*since));
        let waited = Duration::from_millis(waited_ms) + unwritten;
        let grace = ttl.min(GRACE);
        let grace_left = grace.saturating_sub(view.now.mono.since(view.started().mono));
        ttl.saturating_sub(waited).max(grace_left)
    }

    fn overdue(&self, view: MailView, name: &AgentName, ttl: Duration) -> Vec<DeliveryId> {
        let mail = view.ledger().mail().of(name);
        mail.filter(|p| self.left(view, name, p.waited_ms, ttl).is_zero())
            .map(|p| p.delivery.id.clone())
            .collect()
    }

    fn next_overdue(&self, view: MailView, name: &AgentName, ttl: Duration) -> Option<Mono> {
        // The first has waited longest.
        let first = view.ledger().mail().front(name)?;
        let left = self.left(view, name, first.waited_ms, ttl);
        Some(view.now.mono + left.min(WRITTEN_EVERY))
    }

    /// The engine inside gives a message up whose agent did not come to any node. It is ours to keep as a dead letter, and
    /// the engine lets go of it once it hears that we have it.
    pub(super) fn handed_over(&mut self, step: &mut MailStep, frame: Deliver, why: &str) {
        let (agent, agent_id, seq) = (frame.agent.clone(), frame.agent_id.clone(), frame.seq);
        let engines_name = self.called.get(&frame.agent_id).cloned();
        match self.judge(step.view(), &frame) {
            Verdict::Stale => {}
            Verdict::Copy => self.note(step, &frame),
            Verdict::Pending => {
                if let Some(delivery) = self.give_up(step, &frame.delivery_id, why) {
                    self.tell_back(step, std::slice::from_ref(&delivery), why);
                }
            }
            Verdict::Fresh | Verdict::Gap => self.accept_frame(step, frame, Some(why)),
        }
        self.unsaid.insert(agent.clone());
        if step.peers.control.is_up() {
            step.count().acks_sent += 1;
            // What came behind this one may have been read before.
            let up_to_seq = step.ledger().settled(&agent_id).unwrap_or(seq).max(seq);
            let agent = engines_name.unwrap_or(agent);
            let ack = DeliveryAck { agent, up_to_seq };
            step.send(Up::DeliveryAck(ack));
        }
    }

    /// The engine says that a message will not arrive ([engine-protocol 4.6](crate::docs::engine_protocol#4.6)). What it has
    /// handed to a broker, and what we took in before, has its own end. What another node keeps is told only to its writer,
    /// if that is an agent here.
    pub(in crate::dispatch) fn engine_gave_up(
        &mut self,
        step: &mut MailStep,
        news: &ContextUpdate,
    ) {
        let text = |key: &str| news.data[key].as_str().filter(|text| !text.is_empty());
        let (Some(message), Some(name)) = (text("message_id"), text("target_agent_name")) else {
            return;
        };
        let target = text("target_agent_id").unwrap_or(name);
        let id =
            text("delivery_id").map_or_else(|| format!("del_{message}_{target}"), str::to_owned);
        let (id, msg_id) = (DeliveryId::new(id), MsgId::new(message));
        let ours = step.ledger().mail().get(&id).is_some()
            || step.ledger().dead().get(&id).is_some()
            || step.ledger().knows(&AgentId::new(target), &msg_id);
        if ours || step.peers.control.is_stopping() {
            return;
        }
        let why = text("error")
            .or(text("reason"))
            .unwrap_or("it does not say why");
        let why = format!("the engine gave it up: {why}");
        let writer = writer_here(step.view(), news);
        if let Some(keeper) = text("kept_by") {
            let control = step.peers.control;
            let is_ours = [control.node_id().as_str(), control.node_name()].contains(&keeper);
            if let Some(writer) = writer.filter(|_| !is_ours) {
                self.tell_of_other(step, &writer, message, name, &why);
            }
            return;
        }
        let writer = writer.map(|writer| writer.to_string());
        let from = text("from_name").map(str::to_owned).or(writer);
        let delivery = Delivery {
            id: id.clone(),
            msg_id,
            agent: AgentName::new(name),
            origin: Origin::Acknowledged,
            from: from.unwrap_or_else(|| "unknown".to_owned()),
            target: name.to_owned(),
            body: text("text").unwrap_or_default().to_owned(),
            thread_id: None,
            mode: Mode::Wait,
            raw: false,
            by_operator: false,
            queued_at: step.now.wall,
        };
        self.take_on(step, delivery);
        self.bury(step, &id, &why);
    }

    // ---- what is shown of it ------------------------------------------------------------------------------------

    /// Until when a message waits, as the wall clock is now; `None` for ever, or while its agent is here.
    pub(super) fn waits_until(&self, view: MailView, pending: &Pending) -> Option<Wall> {
        let name = &pending.delivery.agent;
        let ttl = view.config().limits.ttl?;
        let absent = !view.peers.agents.is_here(name);
        let left = absent.then(|| self.left(view, name, pending.waited_ms, ttl));
        left.map(|left| view.now.wall + left)
    }

    /// What waits for an agent. For one that is not here some of it waits here, the rest with the engine, which is asked; the
    /// answer comes later then.
    pub(in crate::dispatch) fn pending_call(
        &self,
        step: &mut MailStep,
        ticket: Ticket,
        name: AgentName,
    ) -> Option<Answer> {
        if step.peers.agents.is_here(&name) {
            return Some(self.pending(step.view(), &name));
        }
        let call = RestCall::Waiting(name.clone());
        step.rest_job(call, RestJob::Waiting(ticket, name));
        None
    }

    /// The engine has answered, or will not.
    pub(in crate::dispatch) fn waiting_answered(
        &self,
        step: &mut MailStep,
        ticket: Ticket,
        name: &AgentName,
        done: RestDone,
    ) {
        let theirs = match done {
            RestDone::Waiting(rows) => rows,
            _ => Vec::new(),
        };
        let answer = self.pending_with(step.view(), name, theirs);
        step.reply(ticket, answer);
    }

    fn pending_with(
        &self,
        view: MailView,
        name: &AgentName,
        theirs: Vec<rest::WaitingRow>,
    ) -> Answer {
        if theirs.is_empty() {
            return self.pending(view, name);
        }
        let mut pending: Vec<PendingView> = view
            .ledger()
            .mail()
            .of(name)
            .map(|p| self.pending_view(view, p))
            .collect();
        let here = |row: &rest::WaitingRow| view.ledger().mail().get(&row.delivery_id).is_some();
        let rows = theirs.into_iter().filter(|row| !here(row));
        pending.extend(rows.map(|row| {
            PendingView {
                from: row.from,
                body: row.text,
                priority: if row.target.starts_with('#') { 3 } else { 2 },
                target: row.target,
                mode: row.mode,
                queued_at_ms: row.posted_at_ms,
                thread_id: None,
                workspace_id: view.config().workspace_id.clone(),
                event_id: Some(row.message_id),
                lies_at: Some("engine".into()),
                until_ms: row
                    .left_ms
                    .map(|ms| view.now.wall + Duration::from_millis(ms)),
                suspended: false,
            }
        }));
        Ok(Reply::Pending(PendingList { pending }))
    }
}

/// The agent here that wrote the message which such news is about: whom they concern, by its identity.
fn writer_here(view: MailView, news: &ContextUpdate) -> Option<AgentName> {
    let writers = news.agent_ids.as_deref().unwrap_or_default();
    let mut here = view.peers.agents.here().into_iter();
    let writer = here.find(|(name, id)| {
        let id = id.or_else(|| view.ledger().bound(name));
        id.is_some_and(|id| writers.contains(id))
    });
    writer.map(|(name, _)| name.clone())
}
