//! The world: one heap of events in virtual time, ordered by time and number, and everything that lives in it. A single
//! thread takes the earliest event and does it; the same seed gives the same world. Real are the minds (dispatcher,
//! ledger, journal, uplink, agents, engine); made up are disks, network, terminals, clocks and people.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use relay_broker::domain::Proof;
use relay_broker::engine::HttpCall;
use relay_broker::ids::{AgentName, DeliveryId, JobId, Run};
use relay_broker::msg::{RestCall, RestDone};
use relay_broker::prng::Prng;
use relay_broker::time::{Mono, Now, Wall};
use serde_json::Value;

use crate::broker::Broker;
use crate::disk::SimDisk;
use crate::laws::Laws;
use crate::network::{Asker, Network, ToEngine, ToNode};
use crate::peer::Engine;
use crate::people::{Message, Step};
use crate::swarm::Options;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;
/// When worlds begin, in milliseconds since 1970.
const BIRTH_MS: u64 = 1_782_640_800_000;

/// Everything that can be due.
#[derive(Debug)]
pub enum What {
    BrokerBoot,
    BrokerRuns(u64),
    AgentBorn(u64, AgentName, Run),
    AgentWakes(u64, AgentName, Run),
    SeatActs(u64, AgentName, Run),
    UplinkRuns(u64),
    EngineBoot,
    EngineRuns(u64),
    HttpArrives(Asker, HttpCall),
    HttpDone(Asker, Option<(u16, Value)>),
    Rest(u64, JobId, Box<RestCall>),
    RestDone(u64, JobId, RestDone),
    Down(u64, ToNode),
    Up(u64, ToEngine),
    Step(Step),
}

#[derive(Debug)]
struct Entry {
    at: u64,
    number: u64,
    what: What,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// See the module.
pub struct World {
    /// Nanoseconds since it began.
    pub now: u64,
    number: u64,
    heap: BinaryHeap<Reverse<Entry>>,
    pub prng: Prng,
    pub options: Options,
    pub broker: Option<Broker>,
    pub engine: Option<Engine>,
    pub broker_disk: SimDisk,
    pub engine_disk: SimDisk,
    /// The notes beside the journal.
    pub marks: BTreeMap<AgentName, (DeliveryId, Proof)>,
    pub network: Network,
    pub lives: u64,
    pub engine_lives: u64,
    /// How far the broker's machine is off.
    pub wall_off_ms: i64,
    /// How far the engine's is.
    pub engine_off_ms: i64,
    /// Who is not spawned again before that time.
    pub away: BTreeMap<AgentName, u64>,
    pub messages: Vec<Message>,
    pub senders: Vec<String>,
    pub names: Vec<AgentName>,
    pub laws: Laws,
    /// Troubles have stopped.
    pub healed: bool,
    /// Whose first message has been the same for how many looks.
    pub stuck: BTreeMap<AgentName, (DeliveryId, u32)>,
    pub telling: bool,
    story: Vec<String>,
    /// Of all that happened.
    pub hash: u64,
    pub events: u64,
}

/// Adds a line to the story, and costs nothing when nobody listens.
macro_rules! tell {
    ($world:expr, $($part:tt)*) => {
        if $world.telling {
            let line = format!($($part)*);
            $world.said(line);
        }
    };
}
pub(crate) use tell;

impl World {
    /// A world with an engine and its workspace, before the broker's first start.
    pub fn new(seed: u64, options: Options) -> Self {
        let mut prng = Prng::new(seed ^ 0x5eed);
        let names = (0..options.manners.len())
            .map(|n| AgentName::new(format!("w{n}")))
            .collect();
        let laws = Laws::new(options.limits.ttl);
        let mut world = Self {
            now: SECOND,
            number: 0,
            heap: BinaryHeap::new(),
            broker: None,
            engine: None,
            broker_disk: SimDisk::new(prng.next_u64()),
            engine_disk: SimDisk::new(prng.next_u64()),
            prng,
            options,
            marks: BTreeMap::new(),
            network: Network::default(),
            lives: 0,
            engine_lives: 0,
            wall_off_ms: 0,
            engine_off_ms: 0,
            away: BTreeMap::new(),
            messages: Vec::new(),
            senders: Vec::new(),
            names,
            laws,
            healed: false,
            stuck: BTreeMap::new(),
            telling: false,
            story: Vec::new(),
            hash: seed,
            events: 0,
        };
        world.boot_engine();
        world.enrol_senders();
        world.at(0, What::BrokerBoot);
        world
    }

    /// Both clocks as the broker's machine reads them. The monotonic one is another per life.
    pub fn broker_now(&self) -> Now {
        let wall = (BIRTH_MS + self.now / MS) as i64 + self.wall_off_ms;
        Now {
            mono: Mono(self.now),
            wall: Wall(wall.max(0) as u64),
        }
    }

    /// Both clocks as the engine's machine reads them.
    pub fn engine_now(&self) -> Now {
        let wall = (BIRTH_MS + self.now / MS) as i64 + self.engine_off_ms;
        Now {
            mono: Mono(self.now),
            wall: Wall(wall.max(0) as u64),
        }
    }

    /// Something will be due in so many nanoseconds.
    pub fn at(&mut self, after: u64, what: What) {
        self.at_time(self.now + after, what);
    }

    pub fn at_time(&mut self, at: u64, what: What) {
        self.number += 1;
        let at = at.max(self.now);
        self.heap.push(Reverse(Entry {
            at,
            number: self.number,
            what,
        }));
    }

    /// Once in a thousand, `chance` times; never once troubles have stopped.
    pub fn chance(&mut self, chance: u64) -> bool {
        chance > 0 && !self.healed && self.prng.below(1000) < chance
    }

    /// A time between two of something with that mean.
    pub fn spread(&mut self, mean: u64) -> u64 {
        mean / 4 + self.prng.below(mean + mean / 2 + 1)
    }

    /// The way over the network.
    pub fn latency(&mut self) -> u64 {
        20_000 + self.prng.below(self.options.latency_us * 1000 + 1)
    }

    /// How long a sync takes.
    pub fn sync_time(&mut self) -> u64 {
        let most = if self.healed {
            200
        } else {
            self.options.sync_us
        };
        50_000 + self.prng.below(most * 1000 + 1)
    }

    pub fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(23);
    }

    pub fn said(&mut self, line: String) {
        let at = self.now as f64 / SECOND as f64;
        self.story.push(format!("{at:11.6}  {line}"));
    }

    /// What happened, a line each.
    pub fn story(&self) -> String {
        self.story
            .iter()
            .fold(String::new(), |text, line| text + line + "\n")
    }

    /// Does the earliest thing that is due until that time; false when there is none, or a law was broken.
    pub fn step(&mut self, until: u64) -> bool {
        if self.laws.broken.is_some() {
            return false;
        }
        match self.heap.peek() {
            Some(Reverse(entry)) if entry.at <= until => {}
            _ => {
                self.now = self.now.max(until);
                return false;
            }
        }
        let Some(Reverse(entry)) = self.heap.pop() else {
            return false;
        };
        self.now = entry.at;
        self.laws.now = entry.at;
        self.events += 1;
        self.mix(entry.at ^ entry.number.rotate_left(40));
        self.happen(entry.what);
        true
    }

    fn happen(&mut self, what: What) {
        match what {
            What::BrokerBoot => self.boot_broker(),
            What::BrokerRuns(life) => self.broker_runs(life),
            What::AgentBorn(life, name, run) => self.agent_born(life, &name, run),
            What::AgentWakes(life, name, run) => self.agent_wakes(life, &name, run),
            What::SeatActs(life, name, run) => self.seat_acts(life, &name, run),
            What::UplinkRuns(life) => self.uplink_runs(life),
            What::EngineBoot => self.boot_engine(),
            What::EngineRuns(life) => self.engine_runs(life),
            What::HttpArrives(asker, call) => self.http_arrives(asker, call),
            What::HttpDone(asker, answer) => self.http_done(asker, answer),
            What::Rest(life, id, call) => self.rest_arrives(life, id, call),
            What::RestDone(life, id, done) => self.rest_done(life, id, done),
            What::Down(link, frame) => self.comes_down(link, frame),
            What::Up(link, frame) => self.comes_up(link, frame),
            What::Step(step) => self.people_do(step),
        }
    }

    /// Lets so many milliseconds pass.
    pub fn run_ms(&mut self, ms: u64) {
        let until = self.now + ms * MS;
        while self.step(until) {}
    }

    /// Lets time pass until it is so; false when it is not within that many milliseconds.
    pub fn run_until(&mut self, within_ms: u64, mut so: impl FnMut(&World) -> bool) -> bool {
        let until = self.now + within_ms * MS;
        loop {
            if so(self) {
                return true;
            }
            if !self.step(until) {
                return so(self);
            }
        }
    }
}
