//! What every part is handed: the time, the durable truth, and the ways out. A part changes nothing but itself and what goes
//! through here; what it wants to know of others it asks its `peers`, which only answer.

use std::collections::{BTreeMap, VecDeque};

use super::node_config::NodeConfig;
use super::notice::Notice;
use super::rest_jobs::RestJob;
use crate::ids::{AgentName, Generation, JobId, Run, Ticket};
use crate::ledger::{Ledger, Record};
use crate::machine;
use crate::msg::{AgentCommand, Answer, Effect, ProgramTables, RestCall};
use crate::time::{Now, Wall};
use crate::wire::event::BrokerEvent;
use crate::wire::local::{Counters, SpawnRequest};
use crate::wire::up::Up;

/// Where records and effects go.
pub type Out = machine::Out<Record, Effect>;

/// Event numbers are reserved this many at a time, so that most events cost no record.
const NUMBERS_RESERVED: u64 = 1000;

/// What all parts read and none owns.
pub(super) struct Common {
    config: NodeConfig,
    ledger: Ledger,
    counters: Counters,
    jobs: BTreeMap<JobId, RestJob>,
    notices: VecDeque<Notice>,
    replies: Vec<(Ticket, Answer)>,
    next_job: JobId,
    next_request: u64,
    event_seq: u64,
    /// The number before the first event of this life.
    first_event: u64,
    started: Now,
}

impl Common {
    pub(super) fn new(config: NodeConfig, started: Now) -> Self {
        Self {
            config,
            ledger: Ledger::default(),
            counters: Counters::default(),
            jobs: BTreeMap::new(),
            notices: VecDeque::new(),
            replies: Vec::new(),
            next_job: JobId(1),
            next_request: 1,
            event_seq: 0,
            first_event: 0,
            started,
        }
    }

    /// Applies a record read back from the journal.
    pub(super) fn replay(&mut self, record: &Record) {
        self.ledger.apply(record);
    }

    /// A new life begins on what was replayed.
    pub(super) fn open(&mut self) {
        self.event_seq = self.ledger.numbered();
        self.first_event = self.event_seq;
    }

    /// Who starts with the broker, and who outlived an earlier one; asked once.
    pub(super) fn take_starters(&mut self) -> (Vec<SpawnRequest>, Vec<(AgentName, String)>) {
        let config = &mut self.config;
        (config.agents.clone(), std::mem::take(&mut config.outlived))
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes over what the operator's file says by now; whether that is anything new.
    pub(super) fn reload(&mut self, tables: ProgramTables) -> bool {
        let ProgramTables {
            harnesses,
            harness_table,
            actions,
            profiles,
        } = tables;
        let config = &mut self.config;
        let is_new = config.harnesses != harnesses
            || config.harness_table != harness_table
            || config.actions != actions
            || config.profiles != profiles;
        config.harnesses = harnesses;
        config.harness_table = harness_table;
        config.actions = actions;
        config.profiles = profiles;
        is_new
    }

    /// Why an HTTP call that has ended was made; `None` for one of an earlier life.
    pub(super) fn job_ended(&mut self, id: JobId) -> Option<RestJob> {
        self.jobs.remove(&id)
    }

    /// The oldest notice that was not handed round yet.
    pub(super) fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whoever asked is answered now.
    pub(super) fn answer_all(&mut self, out: &mut Out) {
        let replies = self.replies.drain(..);
        out.effects
            .extend(replies.map(|(ticket, answer)| Effect::Reply(ticket, answer)));
    }

    /// What is to be seen of it, for a part that asks `peers`.
    pub(super) fn view<P>(&self, now: Now, peers: P) -> PartView<'_, P> {
        PartView {
            now,
            peers,
            common: self,
        }
    }

    #[cfg(test)]
    pub(super) fn started_at(&mut self, wall: Wall) {
        self.started.wall = wall;
    }

    #[cfg(test)]
    pub(super) fn config_mut(&mut self) -> &mut NodeConfig {
        &mut self.config
    }
}

/// One step of one part, whose peers are `P`.
pub(super) struct PartStep<'a, P> {
    pub(super) now: Now,
    pub(super) peers: P,
    common: &'a mut Common,
    out: &'a mut Out,
}

/// The same for looking only.
#[derive(Clone, Copy)]
pub(super) struct PartView<'a, P> {
    pub(super) now: Now,
    pub(super) peers: P,
    common: &'a Common,
}

impl<'a, P: Copy> PartStep<'a, P> {
    pub(super) fn new(now: Now, common: &'a mut Common, peers: P, out: &'a mut Out) -> Self {
        Self {
            now,
            peers,
            common,
            out,
        }
    }

    pub(super) fn view(&self) -> PartView<'_, P> {
        self.common.view(self.now, self.peers)
    }

    // ---- looking ------------------------------------------------------------------------------------------------

    pub(super) fn ledger(&self) -> &Ledger {
        &self.common.ledger
    }

    pub(super) fn config(&self) -> &NodeConfig {
        &self.common.config
    }

    /// Whether a call to the engine is under way for that reason.
    pub(super) fn awaits(&self, why: impl Fn(&RestJob) -> bool) -> bool {
        self.common.jobs.values().any(why)
    }

    // ---- deciding -----------------------------------------------------------------------------------------------

    /// Changes the ledger and queues the record: the only way to do either.
    pub(super) fn record(&mut self, record: Record) {
        self.common.ledger.apply(&record);
        self.out.records.push(record);
    }

    /// Tells subscribers. The number is reserved durably before it is used, so it never comes twice.
    pub(super) fn publish(&mut self, event: BrokerEvent) {
        self.common.event_seq += 1;
        let number = self.common.event_seq;
        if number > self.common.ledger.numbered() {
            let upto = number - 1 + NUMBERS_RESERVED;
            self.record(Record::Numbered { upto });
        }
        self.effect(Effect::Publish(number, event));
    }

    /// The number of the event that was told last.
    pub(super) fn event_number(&self) -> u64 {
        self.common.event_seq
    }

    /// Tells of an agent that has been silent since then while messages wait for it, as other brokers have it.
    pub(super) fn publish_blocked_on_send(&mut self, name: &AgentName, since: Option<Wall>) {
        let waiting = self.ledger().mail().waiting(name) as u64;
        if let Some(since) = since.filter(|_| waiting > 0) {
            self.publish(BrokerEvent::AgentBlockedOnSend {
                name: name.clone(),
                blocked_secs: (self.now.wall - since).as_secs(),
                pending_delivery_count: waiting,
            });
        }
    }

    /// Tells the other parts, once this one is done.
    pub(super) fn notice(&mut self, notice: Notice) {
        self.common.notices.push_back(notice);
    }

    /// The counters of this life.
    pub(super) fn count(&mut self) -> &mut Counters {
        &mut self.common.counters
    }

    /// A name for what is accepted next, never used before and never again: by the number of its first event. The wall
    /// clock is in it for people; alone it would not do, because it can jump back over a restart.
    pub(super) fn unused(&self) -> String {
        format!("{:012x}{:08x}", self.now.wall.0, self.common.event_seq + 1)
    }

    /// A name for one life of an agent, in the form of a UUID (version 8): what [`PartStep::unused`] is made of, and the
    /// run, because two lives may begin between two events.
    pub(super) fn generation(&self, run: Run) -> Generation {
        let (time, number) = (self.now.wall.0, self.common.event_seq + 1);
        Generation::new(format!(
            "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
            (time >> 16) & 0xffff_ffff,
            time & 0xffff,
            run.0 & 0xfff,
            0x8000 | (run.0 >> 12) & 0x3fff,
            number & 0xffff_ffff_ffff,
        ))
    }

    /// The id of a request on the link.
    pub(super) fn request_id(&mut self, what: &str) -> String {
        let id = format!("{what}_{}", self.common.next_request);
        self.common.next_request += 1;
        id
    }

    // ---- doing --------------------------------------------------------------------------------------------------

    pub(super) fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    /// Sends the engine a frame.
    pub(super) fn send(&mut self, frame: Up) {
        self.effect(Effect::Send(frame));
    }

    /// Answers whoever asked the local API, once the engine and all who watch have been told.
    pub(super) fn reply(&mut self, ticket: Ticket, answer: Answer) {
        self.common.replies.push((ticket, answer));
    }

    /// Gives an agent's thread an order.
    pub(super) fn order(&mut self, name: AgentName, run: Run, command: AgentCommand) {
        self.effect(Effect::Agent(name, run, command));
    }

    /// Calls the engine by HTTP.
    pub(super) fn rest_job(&mut self, call: RestCall, why: RestJob) -> JobId {
        let id = self.common.next_job;
        self.common.next_job = id.next();
        self.common.jobs.insert(id, why);
        self.effect(Effect::RestJob(id, call));
        id
    }

    /// The key under which the engine takes the next message of ours once, however often it is posted.
    pub(super) fn idempotency_key(&self, node: &impl std::fmt::Display) -> String {
        format!(
            "{node}-{}-{}-{}",
            self.common.started.wall.0,
            self.common.ledger.numbered(),
            self.common.next_job
        )
    }
}

impl<'a, P> PartView<'a, P> {
    pub(super) fn ledger(&self) -> &'a Ledger {
        &self.common.ledger
    }

    pub(super) fn config(&self) -> &'a NodeConfig {
        &self.common.config
    }

    pub(super) fn counters(&self) -> Counters {
        self.common.counters
    }

    /// A number of events that no event of this life has, and none of another life in which it could be asked for.
    pub(super) fn first_event(&self) -> u64 {
        self.common.first_event
    }

    /// When this life began.
    pub(super) fn started(&self) -> Now {
        self.common.started
    }
}
