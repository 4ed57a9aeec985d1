//! The broker's process: its dispatch thread, its start as `broker::Broker::start` does it, and its ends: orderly, killed,
//! or with the power.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use relay_broker::broker::driver::{DispatchDriver, Inbound};
use relay_broker::dispatch::{Dispatcher, NodeConfig};
use relay_broker::ids::{AgentName, NodeId};
use relay_broker::ledger::Record;
use relay_broker::machine::event_loop::Progress;
use relay_broker::msg::{ApiCall, Event, Published};
use relay_broker::pubsub::Latest;
use relay_broker::time::{Mono, Now};
use relay_broker::wire::event::BrokerEvent;
use relay_broker::wire::local::SpawnRequest;
use relay_broker::wire::up::Up;

use crate::agents::AgentThread;
use crate::disk::{Crash, SimDisk};
use crate::network::{LinkInput, Uplink};
use crate::people::{Caller, To};
use crate::ports::{Act, SimPorts, Waiting};
use crate::process::{Deed, FOLDER, Process, Woken};
use crate::tui::{COLS, ROWS};
use crate::world::{MS, SECOND, What, World, tell};

/// How long a caller of the local API waits.
const PATIENCE: u64 = 30 * SECOND;
/// More steps than any world's broker takes without waiting for something.
const STEPS_AT_ONCE: u32 = 10_000;

/// A running broker.
pub struct Broker {
    pub life: u64,
    process: Process<Dispatcher, Act, DispatchDriver<SimPorts>>,
    published: Arc<Latest<Published>>,
    pub agents: BTreeMap<AgentName, AgentThread>,
    pub uplink: Uplink,
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
            spawn_defaults: relay_broker::dispatch::SpawnDefaults::default(),
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
        let woken = match Woken::wake(&self.broker_disk, "broker", rotate, dispatcher) {
            Ok(woken) => woken,
            Err(error) => {
                tell!(self, "the broker does not start: {error}");
                if !matches!(error, relay_broker::journal::OpenError::Disk(_)) {
                    self.laws.break_law(|| error.to_string());
                }
                self.broker_disk.crash(Crash::Kill);
                return self.boot_later(500);
            }
        };
        if let Some(damage) = woken.damage.clone() {
            self.laws.break_law(|| damage);
        }
        self.laws.recovered(woken.machine().ledger());
        let Some((process, published)) = self.begin_broker(now, woken) else {
            tell!(self, "the broker does not start: it cannot write");
            self.broker_disk.crash(Crash::Kill);
            return self.boot_later(500);
        };
        tell!(self, "the broker starts (life {life})");
        let seed = self.prng.next_u64();
        self.broker = Some(Broker {
            life,
            process,
            published,
            agents: BTreeMap::new(),
            uplink: Uplink::new(seed),
        });
        self.start_uplink(life);
        self.broker_steps(life);
    }

    #[allow(clippy::type_complexity)]
    fn begin_broker(
        &mut self,
        now: Now,
        woken: Woken<Dispatcher, Act>,
    ) -> Option<(
        Process<Dispatcher, Act, DispatchDriver<SimPorts>>,
        Arc<Latest<Published>>,
    )> {
        let published = Arc::new(Latest::new(Published {
            node_id: NodeId::new("node_sim"),
            node_name: "here".into(),
            workspace_id: Some("ws".into()),
            degraded: None,
            leave_by: None,
        }));
        let tape = woken.tape.clone();
        let ports = SimPorts::new(tape.clone(), self.prng.next_u64());
        let driver = DispatchDriver::new(ports, published.clone());
        let marks = self
            .marks
            .iter()
            .map(|(name, (id, proof))| (name.clone(), id.clone(), *proof));
        let marks = marks.collect();
        let begun = woken.begin(now, driver, |dispatcher, out| {
            dispatcher.open(now, marks, out)
        });
        for deed in tape.take() {
            match deed {
                Deed::Decided(records) => self.laws.decided(&records),
                Deed::Written => self.laws.persisted(),
                Deed::Died | Deed::Did(_) => {}
            }
        }
        Some((begun.ok()?, published))
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
            let deadline = Mono(deadline);
            broker.published.update(|p| p.leave_by = Some(deadline));
            let drains = self.prng.below(2) == 0;
            tell!(self, "the broker is told to stop (drain: {drains})");
            self.tell_broker(match drains {
                true => Event::Drain {
                    until: Mono(self.now + 1500 * MS),
                    rest: Duration::from_secs(2),
                },
                false => Event::Shutdown { deadline },
            });
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
            self.inbound(Inbound::Call(call, Waiting { caller, give_up }));
        }
        up
    }

    fn inbound(&mut self, inbound: Inbound<Waiting>) {
        if let Some(broker) = &mut self.broker {
            broker.process.send(inbound);
            let life = broker.life;
            let soon = self.prng.below(50_000);
            self.plan_broker(life, self.now + soon);
        }
    }

    fn plan_broker(&mut self, life: u64, at: u64) {
        let at = at.max(self.now);
        if let Some(broker) = &mut self.broker
            && broker.process.plan(at)
        {
            self.at_time(at, What::BrokerRuns(life));
        }
    }

    fn broker_of(&mut self, life: u64) -> Option<&mut Broker> {
        self.broker.as_mut().filter(|b| b.life == life)
    }

    // ---- its thread ---------------------------------------------------------------------------------------------

    pub fn broker_runs(&mut self, life: u64) {
        let now = self.now;
        if self.broker_of(life).is_some_and(|b| b.process.wakes(now)) {
            self.broker_steps(life);
        }
    }

    /// Lets the loop step until it waits for something.
    fn broker_steps(&mut self, life: u64) {
        for step in 0.. {
            if step > STEPS_AT_ONCE {
                return self
                    .laws
                    .break_law(|| "the broker steps without end in one moment".into());
            }
            // In the middle of its next write, if it writes.
            let armed = self.chance(self.options.kill_in_write);
            if armed {
                let operation = self.prng.below(3) as u32;
                self.broker_disk.die_in(Some(operation));
            }
            let Some((progress, deeds)) = self.broker_step(life) else {
                return;
            };
            if armed && !deeds.iter().any(|d| matches!(d, Deed::Decided(_))) {
                self.broker_disk.die_in(None);
            }
            let wrote = deeds.iter().any(|d| matches!(d, Deed::Written));
            if !self.broker_did(life, deeds) {
                return;
            }
            match progress {
                Progress::Durable(_) if wrote => return self.broker_syncs(life),
                Progress::Durable(_) => {}
                Progress::Performed => {
                    self.laws.all_ends_are_told();
                    if self.prng.below(64) == 0 {
                        self.compare_with_disk();
                        self.account_for_all();
                    }
                    if self.broker_of(life).is_some_and(|b| b.process.has_more()) {
                        let soon = self.prng.below(20_000);
                        return self.plan_broker(life, self.now + soon);
                    }
                }
                Progress::Waiting(None) => return,
                Progress::Waiting(Some(at)) | Progress::Refused(at) => {
                    return self.plan_broker(life, at.0);
                }
                Progress::Ended => return self.broker_left(),
            }
        }
    }

    fn broker_step(&mut self, life: u64) -> Option<(Progress, Vec<Deed<Record, Act>>)> {
        let (now, when, healed) = (self.now, self.broker_now(), self.healed);
        let rate = |rate: u64| if healed { 0 } else { rate };
        let (full_queue, unborn) = (rate(self.options.full_queue), rate(self.options.unborn));
        let broker = self.broker_of(life)?;
        let was_degraded = broker.is_degraded();
        let ports = &mut broker.process.driver.ports;
        (ports.now, ports.full_queue, ports.unborn) = (now, full_queue, unborn);
        let stepped = broker.process.run(when);
        if broker.is_degraded() && !was_degraded {
            tell!(self, "the broker cannot write");
        }
        Some(stepped)
    }

    fn broker_syncs(&mut self, life: u64) {
        let until = self.now + self.sync_time();
        if let Some(broker) = self.broker_of(life) {
            broker.process.sync_until(until);
            self.at_time(until, What::BrokerRuns(life));
        }
    }

    /// The process alone, or the whole machine.
    pub fn crash_kind(&mut self) -> Crash {
        match self.chance(self.options.power) {
            true => Crash::Power,
            false => Crash::Kill,
        }
    }

    /// Tells the laws what the process did, and carries out what left it; false when it is no more.
    fn broker_did(&mut self, life: u64, deeds: Vec<Deed<Record, Act>>) -> bool {
        let acts = deeds.iter().filter(|d| matches!(d, Deed::Did(_))).count() as u64;
        let mut dies_after = match acts > 0 && self.chance(self.options.kill_in_effects) {
            true => self.prng.below(acts + 1),
            false => u64::MAX,
        };
        for deed in deeds {
            let dead = match deed {
                Deed::Decided(records) => {
                    self.laws.decided(&records);
                    false
                }
                Deed::Written => {
                    self.laws.persisted();
                    false
                }
                Deed::Died => true,
                Deed::Did(_) if dies_after == 0 => true,
                Deed::Did(act) => {
                    dies_after -= 1;
                    self.carry_out(act);
                    false
                }
            };
            if dead {
                let how = self.crash_kind();
                self.kill_broker(how);
                return false;
            }
        }
        self.broker_of(life).is_some()
    }

    /// With nothing in flight the synced disk and the live ledger must say the same.
    pub fn compare_with_disk(&mut self) {
        let Some(broker) = self.broker.as_ref().filter(|b| b.process.is_idle()) else {
            return;
        };
        let disk = self.broker_disk.after_power_loss();
        match replay(&disk) {
            Ok(ledger) => self
                .laws
                .replayed(&ledger, broker.process.machine().ledger()),
            Err(why) => self.laws.break_law(|| why),
        }
    }

    // ---- what leaves it -----------------------------------------------------------------------------------------

    fn carry_out(&mut self, act: Act) {
        match act {
            Act::Send(frame) => {
                match &*frame {
                    Up::DeliveryAck(ack) => {
                        tell!(self, "acknowledged: {} up to {}", ack.agent, ack.up_to_seq);
                        self.laws.acknowledged(&ack.agent, ack.up_to_seq);
                    }
                    Up::AgentDeregister(gone) => self.laws.deregistered(&gone.agent_id),
                    Up::ActionResult(result) => {
                        let (id, outcome) = (&result.invocation_id, &result.outcome);
                        tell!(self, "{id} is answered: {outcome:?}");
                        self.laws.answered(id, outcome);
                    }
                    _ => {}
                }
                self.tell_uplink(LinkInput::Frame(frame));
            }
            Act::Finish => self.tell_uplink(LinkInput::Finish),
            Act::Reconnect => self.tell_uplink(LinkInput::Reconnect),
            Act::Spawn(run, spec, starts) => self.start_agent(run, *spec, starts),
            Act::Order(name, run, command) => self.order(&name, run, command),
            Act::Answer(caller, answer) => self.answered(caller, answer),
            Act::Publish(number, event) => self.publish(number, &event),
            Act::Rest(id, call) => {
                let (life, after) = (self.lives, self.latency());
                self.at(after, What::Rest(life, id, call));
            }
        }
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
    /// Whether the local API refuses because nothing can be written.
    pub fn is_degraded(&self) -> bool {
        self.published.get().degraded.is_some()
    }

    /// Whether nothing is under way to the disk or out of it.
    pub fn is_idle(&self) -> bool {
        self.process.is_idle()
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
