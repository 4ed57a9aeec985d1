//! The broker's process: its dispatch thread as `broker::shell` and `sys::thread::drive` run it, its start as
//! `broker::Broker::start` does it, and its ends: orderly, killed, or with the power.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use relay_broker::dispatch::{Dispatcher, NodeConfig};
use relay_broker::ids::{AgentName, NodeId, Ticket};
use relay_broker::machine::Machine;
use relay_broker::msg::{ApiCall, Effect, Event, LinkCommand};
use relay_broker::time::Mono;
use relay_broker::wire::event::BrokerEvent;
use relay_broker::wire::local::SpawnRequest;
use relay_broker::wire::up::{DeliveryAck, Up};

use crate::agents::AgentThread;
use crate::disk::{Crash, SimDisk};
use crate::mind::{FOLDER, Mind, Phase, Wrote};
use crate::network::{LinkInput, Uplink};
use crate::people::{Caller, To};
use crate::tui::{COLS, ROWS};
use crate::world::{MS, SECOND, What, World, tell};

/// The most events of one batch, as in `sys::thread`.
const BATCH: usize = 1024;
/// Between tries while the disk refuses, as in `sys::thread`.
const RETRY: u64 = 500 * MS;
/// How long a caller of the local API waits.
const PATIENCE: u64 = 30 * SECOND;

/// What comes in for the dispatcher.
pub enum Inbound {
    Event(Event),
    Call(ApiCall, Caller, u64),
}

/// A running broker.
pub struct Broker {
    pub life: u64,
    pub mind: Mind<Dispatcher>,
    inbox: VecDeque<Inbound>,
    own: Vec<Event>,
    desk: BTreeMap<Ticket, Caller>,
    next_ticket: Ticket,
    pub agents: BTreeMap<AgentName, AgentThread>,
    pub uplink: Uplink,
    /// Told to stop; leaves by then even if nothing can be written.
    leave_by: Option<u64>,
}

impl World {
    /// How every agent here is asked for.
    pub fn spawn_request(&mut self, name: &AgentName) -> SpawnRequest {
        let at = self.names.iter().position(|n| n == name).unwrap_or(0);
        let task = self.options.tasks.then(|| {
            let index = self.message(To::Task(name.clone()), "begin with this", false);
            self.messages[index].body.clone()
        });
        SpawnRequest {
            name: name.to_string(),
            task,
            restart_policy: self.options.restart.clone(),
            cli: Some(self.options.manners[at].command().into()),
            rows: Some(ROWS),
            cols: Some(COLS),
            idle_threshold_secs: Some(20),
            ..SpawnRequest::default()
        }
    }

    /// The one place that makes them.
    fn facts(&mut self) -> NodeConfig {
        let names = match self.options.with_broker {
            true => self.names.clone(),
            false => Vec::new(),
        };
        let agents = names.iter().map(|n| self.spawn_request(n)).collect();
        NodeConfig {
            node_name: "here".into(),
            node_id: NodeId::new("node_sim"),
            engine_url: "http://engine".into(),
            workspace_id: Some("ws".into()),
            state_dir: "/state".into(),
            max_agents: 0,
            harnesses: vec!["claude".into()],
            grace: Duration::from_secs(2),
            limits: self.options.limits,
            harness_table: BTreeMap::new(),
            actions: BTreeMap::new(),
            profiles: ["claude".to_owned()].into(),
            pid: 1,
            agents,
            damage: None,
            outlived: Vec::new(),
        }
    }

    // ---- its life -----------------------------------------------------------------------------------------------

    /// Tries again later, as a supervisor would.
    fn boot_later(&mut self, least_ms: u64) {
        let after = least_ms * MS + self.prng.below(3 * SECOND);
        self.at(after, What::BrokerBoot);
    }

    pub fn boot_broker(&mut self) {
        if self.broker.is_some() {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        let now = self.broker_now();
        let dispatcher = Dispatcher::new(self.facts(), now);
        let rotate = self.options.rotate_bytes;
        let woken = Mind::wake(&self.broker_disk, "broker", rotate, dispatcher);
        let mut mind = match woken {
            Ok((mind, damage)) => {
                if !damage.is_empty() {
                    self.laws.break_law(|| damage);
                }
                mind
            }
            Err(error) => {
                tell!(self, "the broker does not start: {error}");
                if !matches!(error, relay_broker::journal::OpenError::Disk(_)) {
                    self.laws.break_law(|| error.to_string());
                }
                self.broker_disk.crash(Crash::Kill);
                return self.boot_later(500);
            }
        };
        self.laws.recovered(mind.machine.ledger());
        let marks = self
            .marks
            .iter()
            .map(|(name, (id, proof))| (name.clone(), id.clone(), *proof));
        let marks = marks.collect();
        let mut out = std::mem::take(&mut mind.out);
        mind.machine.open(now, marks, &mut out);
        Dispatcher::arrange(&mut out.effects);
        mind.out = out;
        self.laws.decided(&mind.out.records);
        match mind.write() {
            Wrote::Nothing | Wrote::Done => self.laws.persisted(),
            Wrote::Trouble | Wrote::Died => {
                tell!(self, "the broker does not start: it cannot write");
                self.broker_disk.crash(Crash::Kill);
                return self.boot_later(500);
            }
        }
        tell!(self, "the broker starts (life {life})");
        let seed = self.prng.next_u64();
        let broker = Broker {
            life,
            mind,
            inbox: VecDeque::new(),
            own: Vec::new(),
            desk: BTreeMap::new(),
            next_ticket: Ticket(1),
            agents: BTreeMap::new(),
            uplink: Uplink::new(seed),
            leave_by: None,
        };
        self.broker = Some(broker);
        self.start_uplink(life);
        self.perform_all(life);
    }

    /// The process is gone without a word.
    pub fn kill_broker(&mut self, how: Crash) {
        let Some(broker) = self.broker.take() else {
            return;
        };
        tell!(self, "the broker is killed ({how:?})");
        self.end_broker(broker, how);
        let after = if self.healed {
            100
        } else {
            self.prng.below(4000)
        };
        self.boot_later(after);
    }

    fn end_broker(&mut self, broker: Broker, how: Crash) {
        let Broker { agents, uplink, .. } = broker;
        self.agents_hang_up(agents.into_iter().collect(), how == Crash::Power);
        self.uplink_gone(&uplink, how == Crash::Power);
        self.broker_disk.crash(how);
        self.laws.crashed(how);
        if how == Crash::Power {
            let prng = &mut self.prng;
            self.marks.retain(|_, _| prng.below(2) == 0);
        }
    }

    /// Asks for an orderly end.
    pub fn stop_broker(&mut self) {
        let deadline = self.now + 3500 * MS;
        if let Some(broker) = &mut self.broker {
            broker.leave_by = Some(deadline);
            tell!(self, "the broker is told to stop");
            let deadline = Mono(deadline);
            self.tell_broker(Event::Shutdown { deadline });
        }
    }

    fn broker_left(&mut self) {
        if let Some(broker) = self.broker.take() {
            tell!(self, "the broker has left");
            self.end_broker(broker, Crash::Kill);
            self.boot_later(300);
        }
    }

    // ---- its inbox ----------------------------------------------------------------------------------------------

    pub fn tell_broker(&mut self, event: Event) {
        self.inbound(Inbound::Event(event));
    }

    /// Somebody calls the local API; false when nobody answers there.
    pub fn call(&mut self, call: ApiCall, caller: Caller) -> bool {
        let give_up = self.now + PATIENCE;
        let up = self.broker.is_some();
        if up {
            self.inbound(Inbound::Call(call, caller, give_up));
        }
        up
    }

    fn inbound(&mut self, inbound: Inbound) {
        if let Some(broker) = &mut self.broker {
            broker.inbox.push_back(inbound);
            let life = broker.life;
            let soon = self.prng.below(50_000);
            self.plan_broker_turn(life, self.now + soon);
        }
    }

    /// What the dispatcher's own hands give rise to.
    pub fn own_event(&mut self, event: Event) {
        if let Some(broker) = &mut self.broker {
            broker.own.push(event);
        }
    }

    fn plan_broker_turn(&mut self, life: u64, at: u64) {
        let at = at.max(self.now);
        if let Some(broker) = &mut self.broker
            && broker.mind.phase == Phase::Idle
            && broker.mind.turn_at.is_none_or(|planned| planned > at)
        {
            broker.mind.turn_at = Some(at);
            self.at_time(at, What::BrokerTurn(life));
        }
    }

    fn broker_of(&mut self, life: u64) -> Option<&mut Broker> {
        self.broker.as_mut().filter(|b| b.life == life)
    }

    // ---- its turn -----------------------------------------------------------------------------------------------

    pub fn broker_turn(&mut self, life: u64) {
        let (now, when) = (self.now, self.broker_now());
        let Some(broker) = self.broker_of(life) else {
            return;
        };
        if broker.mind.phase != Phase::Idle || broker.mind.turn_at != Some(now) {
            return;
        }
        broker.mind.turn_at = None;
        let mut batch = std::mem::take(&mut broker.own);
        while batch.len() < BATCH
            && let Some(inbound) = broker.inbox.pop_front()
        {
            batch.push(broker.accept(inbound, now));
        }
        let due = broker.mind.machine.deadline();
        if due.is_some_and(|at| at.0 <= now) {
            batch.push(Event::Tick);
        }
        broker.mind.decide(when, batch);
        let records = broker.mind.out.records.clone();
        self.laws.decided(&records);
        if !records.is_empty() && self.chance(self.options.kill_in_write) {
            let operation = self.prng.below(3) as u32;
            self.broker_disk.die_in(Some(operation));
        }
        self.broker_writes(life);
    }

    fn broker_writes(&mut self, life: u64) {
        let Some(broker) = self.broker_of(life) else {
            return;
        };
        let wrote = broker.mind.write();
        match wrote {
            Wrote::Nothing => self.perform_all(life),
            Wrote::Done => {
                broker.mind.phase = Phase::Syncing;
                self.laws.persisted();
                let after = self.sync_time();
                self.at(after, What::BrokerSynced(life));
            }
            Wrote::Trouble => {
                let news = broker.mind.phase != Phase::Trouble;
                broker.mind.phase = Phase::Trouble;
                if news {
                    tell!(self, "the broker cannot write");
                }
                self.at(RETRY, What::BrokerRetry(life));
            }
            Wrote::Died => {
                let how = self.crash_kind();
                self.kill_broker(how);
            }
        }
    }

    /// The process alone, or the whole machine.
    pub fn crash_kind(&mut self) -> Crash {
        match self.chance(self.options.power) {
            true => Crash::Power,
            false => Crash::Kill,
        }
    }

    pub fn broker_synced(&mut self, life: u64) {
        if self.broker_of(life).is_some() {
            self.perform_all(life);
        }
    }

    pub fn broker_retry(&mut self, life: u64) {
        let now = self.now;
        let Some(broker) = self.broker_of(life) else {
            return;
        };
        if broker.leave_by.is_some_and(|by| by <= now) {
            tell!(
                self,
                "the broker leaves without having written its last batch"
            );
            return self.broker_left();
        }
        self.broker_aside(life);
        self.broker_writes(life);
    }

    /// What goes on while nothing can be written, as `sys::thread` has it; the rest waits for its step.
    fn broker_aside(&mut self, life: u64) {
        let (now, when) = (self.now, self.broker_now());
        let Some(broker) = self.broker_of(life) else {
            return;
        };
        let mut effects = Vec::new();
        broker
            .mind
            .machine
            .meanwhile(when, &Event::Tick, &mut effects);
        while let Some(inbound) = broker.inbox.pop_front() {
            let event = broker.accept(inbound, now);
            if !broker.mind.machine.meanwhile(when, &event, &mut effects) {
                broker.own.push(event);
            }
        }
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform_all(&mut self, life: u64) {
        let Some(broker) = self.broker_of(life) else {
            return;
        };
        broker.mind.phase = Phase::Syncing;
        let effects = std::mem::take(&mut broker.mind.out.effects);
        let mut dies_after = match self.chance(self.options.kill_in_effects) {
            true => self.prng.below(effects.len() as u64 + 1),
            false => u64::MAX,
        };
        for effect in effects {
            if dies_after == 0 {
                let how = self.crash_kind();
                return self.kill_broker(how);
            }
            dies_after -= 1;
            if !self.perform(effect) {
                return self.broker_left();
            }
        }
        self.laws.all_ends_are_told();
        let Some(broker) = self.broker_of(life) else {
            return;
        };
        broker.mind.phase = Phase::Idle;
        let idle = broker.own.is_empty() && broker.inbox.is_empty();
        let deadline = broker.mind.machine.deadline().map(|at| at.0);
        if !idle {
            let soon = self.prng.below(20_000);
            self.plan_broker_turn(life, self.now + soon);
        } else if let Some(at) = deadline {
            self.plan_broker_turn(life, at);
        }
        if self.prng.below(64) == 0 {
            self.compare_with_disk();
            self.account_for_all();
        }
    }

    /// With nothing in flight the synced disk and the live ledger must say the same.
    pub fn compare_with_disk(&mut self) {
        let Some(broker) = self.broker.as_ref().filter(|b| b.mind.phase == Phase::Idle) else {
            return;
        };
        let disk = self.broker_disk.after_power_loss();
        match replay(&disk) {
            Ok(ledger) => self.laws.replayed(&ledger, broker.mind.machine.ledger()),
            Err(why) => self.laws.break_law(|| why),
        }
    }

    // ---- its hands ----------------------------------------------------------------------------------------------

    /// As `broker::shell`; false ends the process.
    fn perform(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Send(Up::DeliveryAck(DeliveryAck { agent, up_to_seq })) => {
                self.laws.acknowledged(&agent, up_to_seq);
                tell!(self, "acknowledged: {agent} up to {up_to_seq}");
                let frame = Up::DeliveryAck(DeliveryAck { agent, up_to_seq });
                self.tell_uplink(LinkInput::Frame(Box::new(frame)));
            }
            Effect::Send(frame) => {
                if let Up::ActionResult(result) = &frame {
                    tell!(
                        self,
                        "{} is answered: {:?}",
                        result.invocation_id,
                        result.outcome
                    );
                    self.laws.answered(&result.invocation_id, &result.outcome);
                }
                self.tell_uplink(LinkInput::Frame(Box::new(frame)));
            }
            Effect::Link(LinkCommand::Finish) => self.tell_uplink(LinkInput::Finish),
            Effect::Link(LinkCommand::Reconnect) => self.tell_uplink(LinkInput::Reconnect),
            Effect::Spawn(run, spec) => self.start_agent(run, *spec),
            Effect::Agent(name, run, command) => self.order(&name, run, command),
            Effect::RestJob(id, call) => self.rest_job(id, call),
            Effect::Reply(ticket, answer) => {
                let caller = self.broker.as_mut().and_then(|b| b.desk.remove(&ticket));
                if let Some(caller) = caller {
                    self.answered(caller, answer);
                }
            }
            Effect::Publish(number, event) => self.publish(number, &event),
            // No world here serves actions.
            Effect::Handle(..) | Effect::Sidecar(..) | Effect::Launch(_) => {}
            Effect::Enrolled { .. } => {}
            Effect::Exit(_) => return false,
        }
        true
    }

    fn publish(&mut self, number: u64, event: &BrokerEvent) {
        if !matches!(
            event,
            BrokerEvent::RelayInbound { .. } | BrokerEvent::MessageDeliveryConfirmed { .. }
        ) {
            tell!(self, "event {number}: {event:?}");
        }
        self.mix(number);
        self.laws.published(number, event);
    }
}

impl Broker {
    fn accept(&mut self, inbound: Inbound, now: u64) -> Event {
        match inbound {
            Inbound::Event(event) => event,
            // Its caller was told that it did not happen.
            Inbound::Call(_, _, give_up) if now > give_up => Event::Tick,
            Inbound::Call(call, caller, _) => {
                let ticket = self.next_ticket;
                self.next_ticket = ticket.next();
                self.desk.insert(ticket, caller);
                Event::Call(ticket, call)
            }
        }
    }

    /// Whether the local API refuses because nothing can be written.
    pub fn is_degraded(&self) -> bool {
        self.mind.phase == Phase::Trouble
    }
}

/// The ledger of a disk.
fn replay(disk: &SimDisk) -> Result<relay_broker::ledger::Ledger, String> {
    use relay_broker::journal::{Journal, Options};
    use relay_broker::ledger::{Ledger, Record};
    let opened = Journal::<Record, SimDisk>::open_on(
        disk.clone(),
        std::path::Path::new(FOLDER),
        "broker",
        Options::default(),
    );
    let opened = opened.map_err(|e| e.to_string())?;
    if let Some(why) = opened.recovery.degraded() {
        return Err(why);
    }
    let mut ledger = Ledger::default();
    opened
        .records
        .iter()
        .for_each(|record| ledger.apply(record));
    Ok(ledger)
}
