//! The broker's mind: everything that can happen to it comes in here as an [`Event`], and everything it does leaves as an
//! [`Effect`] once the records behind it are durable. Pure: it never blocks, fails, asks the time or touches a file.
//!
//! Two kinds of state. The [`Ledger`] changes only through `Dispatcher::record`; the rest (who runs, who waits for an
//! answer, timers) is volatile and rebuilt from nothing at start.

mod absent;
mod actions;
mod agent_registration;
mod backoff;
mod blocked;
mod calls;
mod channels;
mod dead_letters;
mod delivery;
mod dialogs;
mod handlers;
mod heartbeat;
mod hosted;
mod inbound;
mod limits;
mod location_conflict;
mod meanwhile;
mod node_registration;
mod outbox;
mod oversize;
mod release;
mod restart;
mod roster;
mod sidecars;
mod spawn;
#[cfg(test)]
mod tests;
mod urgent;

pub use heartbeat::VERSION;
pub use limits::Limits;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{AgentId, AgentName, DeliveryId, InvocationId, JobId, NodeId, Run, Seq};
use crate::ledger::{Ledger, Record};
use crate::machine::{self, Machine};
use crate::msg::{
    ActionSpec, Answer, ApiCall, Effect, Event, Harness, LinkReport, RestCall, Secret,
};
use crate::time::{Mono, Now, soonest};
use crate::wire::down::Down;
use crate::wire::event::{BrokerEvent, Proof};
use crate::wire::local;

/// Where records and effects go.
pub type Out = machine::Out<Record, Effect>;

/// What the dispatcher is told at its start and never asks again.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name; the engine may hold another.
    pub node_name: String,
    /// Our node id; the engine may hold another.
    pub node_id: NodeId,
    /// The engine's base URL, shown and given to agents.
    pub engine_url: String,
    /// The workspace, if known.
    pub workspace_id: Option<String>,
    /// The state folder, given to agents so that they find the command line's broker.
    pub state_dir: String,
    /// 0 for no limit.
    pub max_agents: u64,
    /// Names `h` for which `spawn:h` is advertised.
    pub harnesses: Vec<String>,
    /// How some of them, and others, are started.
    pub harness_table: BTreeMap<String, Harness>,
    /// Actions that programs of the operator's serve.
    pub actions: BTreeMap<String, ActionSpec>,
    /// Names of what is known about agent programs.
    pub profiles: BTreeSet<String>,
    /// Between hang-up and kill.
    pub grace: Duration,
    /// How much may wait, and how long.
    pub limits: Limits,
    /// Our process id.
    pub pid: u32,
    /// Started with the broker.
    pub agents: Vec<local::SpawnRequest>,
    /// What the journal may have lost before this start.
    pub damage: Option<String>,
    /// Agents whose programs outlived an earlier broker, and what became of them.
    pub outlived: Vec<(AgentName, String)>,
}

/// See the module.
pub struct Dispatcher {
    facts: NodeConfig,
    ledger: Ledger,
    members: BTreeMap<AgentName, roster::Member>,
    link: heartbeat::Link,
    jobs: BTreeMap<JobId, calls::RestJob>,
    /// Invocations that run in this very life.
    invocations: BTreeSet<InvocationId>,
    handlers: handlers::Handlers,
    sidecars: sidecars::Sidecars,
    gaps: BTreeMap<AgentId, inbound::Gap>,
    /// Whose missing mail was asked for by a new link, and how far it had come by then.
    asked_anew: BTreeMap<AgentId, Seq>,
    /// For whom too much waits, so that the engine's mail is left to the engine.
    full: BTreeMap<AgentId, AgentName>,
    /// What the engine calls agents that go by another name here, by their ids.
    called: BTreeMap<AgentId, AgentName>,
    /// Of whom nothing was taken in yet: the first number that was left to the engine on this link.
    left: BTreeMap<AgentId, Seq>,
    /// Of agents that are not here, from when on the waiting of their mail is not written down yet.
    absent_since: BTreeMap<AgentName, Mono>,
    /// When to see whether mail has waited too long for an agent that is not here.
    absent_check: Option<Mono>,
    counters: local::Counters,
    next_run: Run,
    next_job: JobId,
    next_request: u64,
    event_seq: u64,
    started: Now,
    stopping: Option<Mono>,
    /// The stop's deadline passed once; agents that are left have been killed.
    hurried: bool,
    exited: bool,
}

/// Event numbers are reserved this many at a time, so that most events cost no record.
const NUMBERS_RESERVED: u64 = 1000;

impl Dispatcher {
    /// A broker that has replayed nothing yet. Call [`Machine::replay`] with every record of the journal, then
    /// [`Dispatcher::open`] once.
    pub fn new(facts: NodeConfig, started: Now) -> Self {
        Self {
            facts,
            ledger: Ledger::default(),
            members: BTreeMap::new(),
            link: heartbeat::Link::default(),
            jobs: BTreeMap::new(),
            invocations: BTreeSet::new(),
            handlers: handlers::Handlers::default(),
            sidecars: sidecars::Sidecars::default(),
            gaps: BTreeMap::new(),
            asked_anew: BTreeMap::new(),
            full: BTreeMap::new(),
            called: BTreeMap::new(),
            left: BTreeMap::new(),
            absent_since: BTreeMap::new(),
            absent_check: None,
            hurried: false,
            counters: local::Counters::default(),
            next_run: Run(1),
            next_job: JobId(1),
            next_request: 1,
            event_seq: 0,
            started,
            stopping: None,
            exited: false,
        }
    }

    /// The first turn of a life: settles what an agent's thread of the last life saw arrive without anybody writing it down
    /// (`landed`), leaves other attempts in doubt, and starts the agents that belong to the broker or come back to it.
    pub fn open(&mut self, now: Now, landed: Vec<(AgentName, DeliveryId, Proof)>, out: &mut Out) {
        self.event_seq = self.ledger.numbered();
        self.record(Record::Opened { at: now.wall }, out);
        for (name, id, proof) in landed {
            if self
                .ledger
                .mail()
                .get(&id)
                .is_some_and(|pending| pending.attempts > 0)
            {
                self.settle(now, &name, &id, proof, None, out);
            }
        }
        self.resume_lives(now, out);
    }

    /// The durable truth, for looking.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Changes the ledger and queues the record: the only way to do either.
    fn record(&mut self, record: Record, out: &mut Out) {
        self.ledger.apply(&record);
        out.records.push(record);
    }

    /// Tells subscribers. The number is reserved durably before it is used, so it never comes twice.
    fn publish(&mut self, event: BrokerEvent, out: &mut Out) {
        self.event_seq += 1;
        if self.event_seq > self.ledger.numbered() {
            let upto = self.event_seq - 1 + NUMBERS_RESERVED;
            self.record(Record::Numbered { upto }, out);
        }
        out.effects.push(Effect::Publish(self.event_seq, event));
    }

    /// A name for what is accepted next, never used before and never again: by the number of its first event. The wall
    /// clock is in it for people; alone it would not do, because it can jump back over a restart.
    fn unused(&self, now: Now) -> String {
        format!("{:012x}{:08x}", now.wall.0, self.event_seq + 1)
    }

    fn request_id(&mut self, what: &str) -> String {
        let id = format!("{what}_{}", self.next_request);
        self.next_request += 1;
        id
    }
}

impl Machine for Dispatcher {
    type Event = Event;
    type Record = Record;
    type Effect = Effect;

    fn step(&mut self, now: Now, event: Event, out: &mut Out) {
        match event {
            Event::Link(LinkReport::Enrolled { node_id, node_name }) => {
                self.enrolled(node_id, node_name, out);
            }
            Event::Link(LinkReport::Up) => self.link_up(now, out),
            Event::Link(LinkReport::Lost(why)) => self.link_lost(now, &why, out),
            Event::Link(LinkReport::Refused(why)) => self.link_refused(&why, out),
            Event::Link(LinkReport::Frame(frame)) => self.frame(now, frame, out),
            Event::Link(LinkReport::TooLarge(frame, bytes)) => {
                self.too_large(now, frame, bytes, out);
            }
            Event::Link(LinkReport::PassedOver) => self.counters.engine_frames_refused += 1,
            Event::Agent(name, run, report) => self.agent_report(now, &name, run, report, out),
            Event::Call(ticket, call) => self.call(now, ticket, call, out),
            Event::RestJob(id, done) => self.job_done(now, id, done, out),
            Event::Handled(id, result) => self.handled(id, result, out),
            Event::LaunchEnded(argv, how) => self.launch_ended(now, &argv, &how),
            Event::Tick => self.tick(now, out),
            Event::Shutdown { deadline } => self.shutdown(now, deadline, out),
        }
        self.time_gaps(now);
    }

    fn meanwhile(&self, now: Now, event: &Event, effects: &mut Vec<Effect>) -> bool {
        self.aside(now, event, effects)
    }

    fn arrange(effects: &mut Vec<Effect>) {
        outbox::arrange(effects);
    }

    fn replay(&mut self, record: &Record) {
        self.ledger.apply(record);
    }

    fn snapshot(&self) -> Option<Record> {
        Some(Record::Snapshot(Box::new(self.ledger.image())))
    }

    fn snapshot_size(&self) -> u64 {
        (self.ledger.mail().bytes() + self.ledger.dead().bytes()) as u64
    }

    fn deadline(&self) -> Option<Mono> {
        let members = self
            .members
            .values()
            .filter_map(roster::Member::deadline)
            .min();
        let gaps = self.gaps.values().filter_map(|gap| gap.give_up_at).min();
        [
            members,
            gaps,
            self.absent_deadline(),
            self.sidecars.deadline(),
            self.stopping.filter(|_| !self.exited),
        ]
        .into_iter()
        .fold(self.link.deadline(), soonest)
    }
}

impl Dispatcher {
    fn frame(&mut self, now: Now, frame: Down, out: &mut Out) {
        self.counters.engine_frames += 1;
        self.link.last_frame = Some(now.mono);
        match frame {
            Down::Deliver(deliver) => self.deliver(now, deliver, out),
            Down::ActionInvoke(invoke) => self.invoke(now, invoke, out),
            Down::Reply(reply) => self.reply(now, reply, out),
            Down::Error(error) => self.error_frame(now, error, out),
            Down::ContextUpdate(news) if news.event == "delivery.failed" => {
                self.engine_gave_up(now, &news.data, out);
            }
            // News for screens, and a ping that wants no answer (engine-protocol 3.1, 3.5).
            Down::ContextUpdate(_) | Down::Ping => {}
        }
    }

    fn tick(&mut self, now: Now, out: &mut Out) {
        self.tick_link(now, out);
        self.tick_members(now, out);
        self.tick_gaps(now, out);
        self.tick_absent(now, out);
        self.tick_sidecars(now, out);
        if self.stopping.is_some_and(|at| at <= now.mono) {
            self.stop_deadline(now, out);
        }
    }

    fn call(&mut self, now: Now, ticket: crate::ids::Ticket, call: ApiCall, out: &mut Out) {
        let answer: Option<Answer> = match call {
            ApiCall::Pending(name) if !self.members.contains_key(&name) => {
                self.pending_absent(ticket, name, out);
                None
            }
            ApiCall::Agents
            | ApiCall::Pending(_)
            | ApiCall::Mode(_)
            | ApiCall::Status
            | ApiCall::DeadLetters => self.look(now, &call),
            ApiCall::Spawn(request, source) => {
                self.spawn(now, Some(ticket), *request, source, out);
                None
            }
            ApiCall::Release { name, reason } => {
                self.release_call(now, ticket, &name, reason.as_deref(), out)
            }
            ApiCall::Send(request) => self.send(now, ticket, request, out),
            ApiCall::Snapshot { name, ansi } => self.snapshot_call(ticket, &name, ansi, out),
            ApiCall::Nodes => self.nodes_call(ticket, out),
            ApiCall::Readers(message) => {
                self.readers_call(ticket, message, out);
                None
            }
            ApiCall::Invoke { action, input } => {
                self.invocation_call(ticket, RestCall::Invoke { action, input }, out);
                None
            }
            ApiCall::Invocation { action, id } => {
                self.invocation_call(ticket, RestCall::Invocation { action, id }, out);
                None
            }
            ApiCall::Flush(name) => Some(self.flush(now, &name, out)),
            ApiCall::SetMode(name, mode) => Some(self.set_mode(now, &name, mode, out)),
            ApiCall::Channels {
                name,
                channels,
                listens,
            } => Some(self.change_channels(&name, &channels, listens, out)),
            ApiCall::Sidecar(id, call) => Some(self.sidecar_call(now, id, call, out)),
            ApiCall::Redeliver(which) => Some(self.redeliver(now, which.as_ref(), out)),
        };
        if let Some(answer) = answer {
            out.effects.push(Effect::Reply(ticket, answer));
        }
    }

    /// The token of a running agent, so that its messages go out in its own name.
    fn token_of(&self, name: &AgentName) -> Option<Secret> {
        self.members.get(name).and_then(|m| m.token.clone())
    }
}
