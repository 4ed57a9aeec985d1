//! A broker with its agents, as the engine drives it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::agent;
use crate::disk::Delay;
use crate::engine::{Engine, deliver};
use crate::now_ns;

/// After this something has gone wrong.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Messages for each agent before anything is measured.
const WARM_UP: usize = 20;

/// The program that cargo has built for this run.
pub fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_relay-broker"))
}

/// Which agents.
#[derive(Clone, Copy)]
pub struct Agents {
    pub count: usize,
    /// `raw` or `line`.
    pub terminal: &'static str,
}

/// Several bursts.
pub struct Bursts {
    /// Messages per second of each, from the first byte sent to the last acknowledgement.
    pub rates: Vec<f64>,
    /// Microseconds that the broker ran for each message; unlike the rate it hardly depends on what else runs.
    pub cpu_us: Option<f64>,
}

/// See the module. Killed when dropped.
pub struct Node {
    broker: Child,
    engine: Engine,
    dir: PathBuf,
    /// What each agent was sent last; messages carry their number in the sequence.
    sent: BTreeMap<String, u64>,
}

impl Node {
    /// Starts it in a new folder; every agent has acknowledged some messages when this returns.
    pub fn start(dir: &Path, delay: Option<&Delay>, agents: Agents) -> io::Result<Node> {
        Self::start_of(built(), dir, delay, agents)
    }

    /// The same with another program.
    pub fn start_of(
        broker: &Path,
        dir: &Path,
        delay: Option<&Delay>,
        agents: Agents,
    ) -> io::Result<Node> {
        std::fs::create_dir_all(dir)?;
        let engine = Engine::start()?;
        let program = std::env::current_exe()?;
        let mut command = command(broker, dir, &engine)?;
        let names: Vec<String> = (0..agents.count).map(|n| format!("a{n}")).collect();
        for name in &names {
            let program = program.to_string_lossy();
            let log = log(dir, name);
            let argv = [&*program, "agent", &*log.to_string_lossy(), agents.terminal];
            let argv = shell_words::join(argv);
            command.arg("--agent").arg(format!("{name}={argv}"));
        }
        if let Some(delay) = delay {
            delay.put_on(&mut command);
        }
        let mut node = Node {
            broker: command.spawn()?,
            engine,
            dir: dir.to_owned(),
            sent: names.into_iter().map(|name| (name, 0)).collect(),
        };
        let end = Instant::now() + PATIENCE;
        while !node.engine.connected() {
            if Instant::now() > end || node.broker.try_wait()?.is_some() {
                return Err(node.stuck("the broker does not connect"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        node.burst(WARM_UP * agents.count)?;
        Ok(node)
    }

    /// One message to the first agent: when it was sent, acknowledged, and readable.
    pub fn one(&mut self) -> io::Result<(u64, u64, u64)> {
        let frame = self.next("a0");
        let sent = self.engine.send(&frame)?;
        let acked = self.until_acked()?;
        let number = usize::try_from(self.sent["a0"]).unwrap_or(usize::MAX);
        let read = agent::read_at(&log(&self.dir, "a0"), number);
        let read = read.ok_or_else(|| self.stuck("a message was acknowledged and not read"))?;
        Ok((sent, acked, read))
    }

    /// Several bursts.
    #[allow(clippy::cast_precision_loss)] // far below where it matters
    pub fn bursts(&mut self, size: usize, count: usize) -> io::Result<Bursts> {
        let before = self.cpu_ns();
        let rates = (0..count)
            .map(|_| self.burst(size))
            .collect::<Result<_, _>>()?;
        let messages = (size * count) as f64;
        let cpu_us = self
            .cpu_ns()
            .zip(before)
            .map(|(after, before)| (after - before) as f64 / 1e3 / messages);
        Ok(Bursts { rates, cpu_us })
    }

    /// The bytes of memory that the broker has touched and that are its own; `None` where the system does not say.
    pub fn resident(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.broker.id())).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    }

    /// How long the first agent takes to print `bytes` bytes, in nanoseconds: it waits while the broker does not read.
    pub fn flood(&mut self, bytes: usize) -> io::Result<u64> {
        let log = log(&self.dir, "a0");
        let frame = self.next_saying("a0", &agent::order(bytes));
        self.engine.send(&frame)?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(took) = agent::flood_took(&log) {
                self.until_acked()?;
                return Ok(took);
            }
            if Instant::now() > end {
                return Err(self.stuck("an agent's output is not taken"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What all threads of the broker have run; `None` where the system does not say.
    pub fn cpu_ns(&self) -> Option<u64> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.broker.id())).ok()?;
        let ran = threads.flatten().filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Some(ran.sum())
    }

    #[allow(clippy::cast_precision_loss)] // far below where it matters
    fn burst(&mut self, size: usize) -> io::Result<f64> {
        let names: Vec<String> = self.sent.keys().cloned().collect();
        let frames: Vec<Vec<u8>> = (0..size)
            .map(|n| self.next(&names[n % names.len()]))
            .collect();
        let begin = self.engine.send(&frames.concat())?;
        let end = self.until_acked()?;
        Ok(size as f64 * 1e9 / (end - begin) as f64)
    }

    fn next(&mut self, name: &str) -> Vec<u8> {
        let number = self.sent.get(name).copied().unwrap_or_default() + 1;
        let text = agent::text(usize::try_from(number).unwrap_or(usize::MAX));
        self.next_saying(name, &text)
    }

    fn next_saying(&mut self, name: &str, text: &str) -> Vec<u8> {
        let seq = self.sent.entry(name.to_owned()).or_default();
        *seq += 1;
        deliver(name, *seq, text)
    }

    /// Waits until everything sent is acknowledged; when the last acknowledgement came.
    fn until_acked(&mut self) -> io::Result<u64> {
        let mut open = self.sent.clone();
        loop {
            let ack = self.engine.acks.recv_timeout(PATIENCE);
            let ack = ack.map_err(|_| self.stuck("no acknowledgement comes"))?;
            if open.get(&ack.agent).is_some_and(|last| ack.up_to >= *last) {
                open.remove(&ack.agent);
            }
            if open.is_empty() {
                return Ok(ack.at);
            }
        }
    }

    fn stuck(&self, what: &str) -> io::Error {
        let log = std::fs::read_to_string(self.dir.join("broker.log")).unwrap_or_default();
        io::Error::other(format!("{what}; the broker says:\n{log}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

/// Nanoseconds from the program's start in an empty folder, enrolment included, until the engine has its `node.register`.
pub fn cold_start(broker: &Path, dir: &Path) -> io::Result<u64> {
    std::fs::create_dir_all(dir)?;
    let engine = Engine::start()?;
    let mut command = command(broker, dir, &engine)?;
    let begun = now_ns();
    let mut broker = command.spawn()?;
    let registered = engine.registered.recv_timeout(PATIENCE);
    let _ = broker.kill();
    let _ = broker.wait();
    let registered = registered.map_err(|_| io::Error::other("the broker does not register"))?;
    Ok(registered - begun)
}

fn command(broker: &Path, dir: &Path, engine: &Engine) -> io::Result<Command> {
    let mut command = Command::new(broker);
    command
        .args(["up", "--api-port", "0", "--state-dir"])
        .arg(dir.join("state"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("RUST_LOG", "warn")
        .env("RELAY_BASE_URL", format!("http://{}", engine.addr))
        .env("RELAY_WORKSPACE_KEY", "rk_live_bench")
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("broker.log"))?);
    Ok(command)
}

fn log(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}
