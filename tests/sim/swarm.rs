//! What kind of world: how many agents of which manners, and which troubles how often. Drawn from the seed, so that one
//! world has few kinds of trouble and another many.

use std::time::Duration;

use relay_broker::dispatch::Limits;
use relay_broker::prng::Prng;
use relay_broker::wire::local::{RestartPolicy, RestartWhen};

use crate::tui::{Kind, Manner};

/// See the module. Times are microseconds where the name ends so, else milliseconds; a mean of 0 means never. Chances
/// are per thousand.
#[derive(Clone, Debug)]
pub struct Options {
    pub manners: Vec<Manner>,
    pub messages: u64,
    /// In which messages and troubles come; later everything is made well.
    pub span_ms: u64,
    /// Agents start with the broker, or are spawned over the API.
    pub with_broker: bool,
    pub rotate_bytes: u64,
    pub latency_us: u64,
    pub sync_us: u64,
    /// Shares of all messages.
    pub local: u64,
    /// Every second message over the local API is an agent's, and few of these are usual.
    pub among_agents: bool,
    pub channel: u64,
    pub steer: u64,
    pub long: u64,
    /// Messages come at once.
    pub burst: bool,
    /// How much may wait, and how long.
    pub limits: Limits,
    /// Agents are started again when they end, and have a first task.
    pub restart: Option<RestartPolicy>,
    pub tasks: bool,
    // troubles, mean time between two
    pub cut_ms: u64,
    pub hole_ms: u64,
    pub engine_kill_ms: u64,
    pub broker_kill_ms: u64,
    pub stop_ms: u64,
    pub full_disk_ms: u64,
    pub failed_sync_ms: u64,
    pub io_error_ms: u64,
    pub wall_jump_ms: u64,
    pub release_ms: u64,
    pub hold_ms: u64,
    pub death_ms: u64,
    pub redeliver_ms: u64,
    /// Somebody goes away and is not spawned again for a while.
    pub away_ms: u64,
    // troubles, chances
    pub kill_in_write: u64,
    pub kill_in_effects: u64,
    pub power: u64,
    pub again: u64,
    pub lost_frames: u64,
    pub full_queue: u64,
    pub unborn: u64,
    /// Releases and spawns come from the engine, and a release may take the agent's name away.
    pub from_engine: u64,
    pub deletes: u64,
}

impl Options {
    /// A world without trouble.
    pub fn calm(manners: Vec<Manner>) -> Self {
        Self {
            manners,
            messages: 0,
            span_ms: 0,
            with_broker: true,
            rotate_bytes: 4 << 20,
            latency_us: 300,
            sync_us: 200,
            local: 0,
            among_agents: false,
            channel: 0,
            steer: 0,
            long: 0,
            burst: false,
            limits: Limits::default(),
            restart: None,
            tasks: false,
            cut_ms: 0,
            hole_ms: 0,
            engine_kill_ms: 0,
            broker_kill_ms: 0,
            stop_ms: 0,
            full_disk_ms: 0,
            failed_sync_ms: 0,
            io_error_ms: 0,
            wall_jump_ms: 0,
            release_ms: 0,
            hold_ms: 0,
            death_ms: 0,
            redeliver_ms: 0,
            away_ms: 0,
            kill_in_write: 0,
            kill_in_effects: 0,
            power: 0,
            again: 0,
            lost_frames: 0,
            full_queue: 0,
            unborn: 0,
            from_engine: 0,
            deletes: 0,
        }
    }

    /// The world of a seed.
    pub fn draw(prng: &mut Prng) -> Self {
        // How troubled it is at all.
        let trouble = prng.below(4);
        let mut some = |mean: u64| match prng.below(6) < trouble {
            true => mean / 2 + prng.below(mean),
            false => 0,
        };
        let mut options = Self {
            cut_ms: some(8_000),
            hole_ms: some(40_000),
            engine_kill_ms: some(20_000),
            broker_kill_ms: some(15_000),
            stop_ms: some(40_000),
            full_disk_ms: some(25_000),
            failed_sync_ms: some(10_000),
            io_error_ms: some(15_000),
            wall_jump_ms: some(15_000),
            release_ms: some(15_000),
            hold_ms: some(10_000),
            death_ms: some(15_000),
            redeliver_ms: some(20_000),
            away_ms: some(20_000),
            kill_in_write: some(20),
            kill_in_effects: some(20),
            power: some(500),
            again: some(50),
            lost_frames: some(50),
            full_queue: some(50),
            unborn: some(200),
            from_engine: some(500),
            deletes: some(300),
            ..Self::calm(Vec::new())
        };
        if options.lost_frames > 0 {
            // An engine that loses frames is not one that also repeats them out of turn.
            options.again = 0;
        }
        options.messages = 5 + prng.below(40);
        if prng.below(50) == 0 {
            // More than may wait.
            options.messages = 300 + prng.below(100);
            options.local = 1000;
        }
        options.span_ms = 10_000 + prng.below(60_000);
        options.with_broker = prng.below(2) == 0;
        options.rotate_bytes = [2_000, 20_000, 4 << 20][prng.below(3) as usize];
        options.latency_us = [100, 2_000, 200_000][prng.below(3) as usize];
        options.sync_us = [100, 10_000, 300_000][prng.below(3) as usize];
        options.local = options.local.max(prng.below(2) * prng.below(1000));
        options.channel = prng.below(2) * prng.below(700);
        options.steer = prng.below(2) * prng.below(500);
        options.long = prng.below(2) * prng.below(500);
        options.burst = prng.below(4) == 0;
        options.limits = limits(prng);
        options.restart = (prng.below(2) == 0).then(|| policy(prng));
        options.tasks = prng.below(4) == 0;
        let agents = 1 + prng.below(3);
        options.manners = (0..agents).map(|_| manner(prng, trouble)).collect();
        options.among_agents = prng.below(3) == 0;
        if options.among_agents {
            options.limits.talk.pair = 1 + prng.below(3) as u32;
            options.limits.talk.chain = prng.below(5) as u32;
        }
        options
    }
}

fn limits(prng: &mut Prng) -> Limits {
    let dice = prng.below(16) as usize;
    let ttl = [None, Some(30), Some(90), Some(3600)][dice % 4];
    let blocked = [None, None, Some(3), Some(30)][dice / 4];
    let bytes = [8 << 20, 1500, 4000][prng.below(3) as usize];
    Limits {
        bytes,
        total_bytes: 2 * bytes,
        engine: [1024, 4, 12][prng.below(3) as usize],
        local: [256, 3, 20][prng.below(3) as usize],
        ttl: ttl.map(Duration::from_secs),
        blocked: blocked.map(Duration::from_secs),
        ..Limits::default()
    }
}

fn policy(prng: &mut Prng) -> RestartPolicy {
    RestartPolicy {
        enabled: true,
        when: [RestartWhen::OnFailure, RestartWhen::Always][prng.below(2) as usize],
        max_restarts: prng.below(4) as u32,
        cooldown_ms: prng.below(4000),
        max_cooldown_ms: None,
        max_consecutive_failures: prng.below(4) as u32,
    }
}

fn manner(prng: &mut Prng, trouble: u64) -> Manner {
    let kind = match prng.below(6) {
        0 | 1 => Kind::Registry,
        2 => Kind::Raw { echo: true },
        3 => Kind::Raw { echo: false },
        4 => Kind::Composer { known: false },
        _ => Kind::Composer { known: true },
    };
    let mut manner = Manner {
        start_us: 1_000 + prng.below(400_000),
        read_us: [500, 20_000, 2_000_000][prng.below(3) as usize],
        chunk: [4096, 64, 7][prng.below(3) as usize],
        ..Manner::good(kind)
    };
    let mut some = |most: u64| match prng.below(6) < trouble {
        true => 1 + prng.below(most),
        false => 0,
    };
    manner.deaf = some(300);
    manner.deaf_us = 1 + some(90_000_000);
    manner.swallows = some(400);
    manner.dialogs = some(100);
    manner.keeps = some(1000);
    manner.tells = some(1000);
    manner.signs = some(1000);
    manner.chatter_us = some(3) * 100_000;
    manner.dies = some(100);
    manner.flushes = some(2) == 1;
    manner.hidden = some(2) == 1;
    if some(2) == 1 {
        // A launcher, which is long in coming up.
        manner.start_us += some(20) * 1_000_000;
    }
    manner.stubborn = some(2) == 1;
    manner
}
