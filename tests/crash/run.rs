//! One run: an engine, a broker with four readers, a burst, the deaths of the plan, and quiet at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::burst::{Door, Sent, by_door, by_engine};
use crate::life::{Autopsy, Life, Typed, autopsy, readers_gone};
use crate::plan::{Kill, Plan};
use crate::support::{Engine, Process, Scratch, http};
use crate::verdict::{Evidence, Read, Tally, judge, reading};

/// Two whose terminal is a cooked one, and two that take it raw and show what they read themselves, as agents' programs do.
const AGENTS: [(&str, &str); 4] = [("ada", COOKED), ("bob", RAW), ("cy", COOKED), ("dot", RAW)];
const COOKED: &str = "ready; exec cat >> FILE";
const RAW: &str = "stty raw -echo; ready; exec tee -a FILE";
/// How long everything may take to arrive once the last life has begun.
const PATIENCE: Duration = Duration::from_secs(40);

/// A program that keeps what it reads, whatever becomes of its terminal.
fn reader(name: &str, script: &str) -> String {
    let ready = "echo $$ >> pids; echo '->pty:ready'";
    let script = script
        .replace("ready", ready)
        .replace("FILE", &format!("{name}.txt"));
    let script = format!("trap '' HUP; {script}");
    format!("{name}={}", shell_words::join(["sh", "-c", &script]))
}

/// Runs the plan and judges what came of it. Keeps the folder when something is wrong.
pub fn run(plan: &Plan) -> Tally {
    let (folder, alone) = (Scratch::new(), Scratch::new());
    let evidence = gather(plan, folder.path(), alone.path());
    let mut tally = judge(&evidence);
    if !tally.violations.is_empty() {
        for violation in &mut tally.violations {
            *violation = format!(
                "CRASH_SEED={} {plan}: {violation} (see {})",
                plan.seed,
                folder.path().display()
            );
        }
        std::mem::forget(folder);
    }
    tally
}

fn gather(plan: &Plan, dir: &Path, alone: &Path) -> Evidence {
    let engine_process =
        Process::start(alone, &["engine", "--listen", "127.0.0.1:0", "--dir", "e"]);
    let line = &engine_process.first_line;
    let url = line.split_whitespace().last().expect("a URL").to_owned();
    let key = std::fs::read_to_string(alone.join("e/workspace-key")).expect("the key");
    let key = key.trim().to_owned();
    let engine = Engine { url, key };
    let boss = engine.register("boss");
    let door = Mutex::new(Door::default());
    std::thread::scope(|scope| {
        let senders: Vec<_> = AGENTS
            .iter()
            .flat_map(|(agent, _)| {
                let (engine, boss, door) = (&engine, &boss, &door);
                [
                    scope.spawn(move || by_engine(engine, boss, agent)),
                    scope.spawn(move || by_door(door, agent)),
                ]
            })
            .collect();
        let mut lives = Lives {
            plan,
            dir,
            args: arguments(&engine),
            door: &door,
            typed: Arc::default(),
            deaths: Vec::new(),
            points: BTreeSet::new(),
        };
        let last = lives.all_but_the_last();
        let sent: Vec<Sent> = senders
            .into_iter()
            .flat_map(|sender| sender.join().expect("a sender"))
            .collect();
        let (read, dead) = quiet(dir, &last, &sent);
        last.end();
        let typed = lives.typed.lock().expect("no holder panics").clone();
        Evidence {
            sent,
            read,
            dead,
            deaths: lives.deaths,
            points: lives.points,
            typed,
        }
    })
}

fn arguments(engine: &Engine) -> Vec<String> {
    let mut args = vec!["up", "--grace", "2s", "--engine", &engine.url];
    args.extend(["--workspace-key", &engine.key]);
    let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    for (name, script) in AGENTS {
        args.extend(["--agent".to_owned(), reader(name, script)]);
    }
    args
}

struct Lives<'a> {
    plan: &'a Plan,
    dir: &'a Path,
    args: Vec<String>,
    door: &'a Mutex<Door>,
    typed: Arc<Mutex<Vec<Typed>>>,
    deaths: Vec<Autopsy>,
    points: BTreeSet<&'static str>,
}

impl Lives<'_> {
    /// Lives and dies as the plan says; gives the life that is to last.
    fn all_but_the_last(&mut self) -> Life {
        for (number, kill) in self.plan.kills.iter().enumerate() {
            let faults = self.plan.faults(number);
            if let Some(mut life) = self.begin(number, &faults) {
                let at_point = matches!(kill, Kill::At(..));
                if at_point && !dies(&mut life, self.dir) {
                    // It never came there so often: the burst is over, and it lives on.
                    return life;
                }
                if let Kill::After(time) = kill {
                    std::thread::sleep(*time);
                }
                life.end();
            }
            if let Kill::At(point, _) = kill {
                self.points.insert(point);
            }
            readers_gone(&self.dir.join("pids"));
            self.deaths
                .push(autopsy(self.dir, &self.dir.join("autopsy")));
        }
        let number = self.plan.kills.len();
        let faults = self.plan.faults(number);
        self.begin(number, &faults)
            .expect("nobody kills the last life")
    }

    fn begin(&self, number: usize, faults: &str) -> Option<Life> {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let life = Life::begin(self.dir, &args, faults, number, &self.typed)?;
        *self.door.lock().expect("no holder panics") = life.door.clone();
        Some(life)
    }
}

/// Waits for a death by its own hand; `false` once everything has been quiet for a while.
fn dies(life: &mut Life, dir: &Path) -> bool {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        if life.process.ended() {
            return true;
        }
        let size = AGENTS
            .iter()
            .map(|(name, _)| std::fs::metadata(file(dir, name)).map_or(0, |m| m.len()))
            .sum();
        if size != before {
            (before, since) = (size, Instant::now());
        }
        if since.elapsed() > Duration::from_millis(1500) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn file(dir: &Path, agent: &str) -> std::path::PathBuf {
    dir.join(format!("{agent}.txt"))
}

/// Waits until nothing is pending and everything answered for is somewhere; gives what there is even if that never comes.
fn quiet(
    dir: &Path,
    life: &Life,
    sent: &[Sent],
) -> (BTreeMap<String, Vec<Read>>, BTreeSet<String>) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let pending = get(life, "/api/status")["pending_delivery_count"].clone();
        let dead = dead_letters(life);
        let read: BTreeMap<String, Vec<Read>> = AGENTS
            .iter()
            .map(|(name, _)| {
                let bytes = std::fs::read(file(dir, name)).unwrap_or_default();
                (
                    (*name).to_owned(),
                    reading(&String::from_utf8_lossy(&bytes)),
                )
            })
            .collect();
        let there: BTreeSet<&str> = read
            .values()
            .flatten()
            .map(|read| read.id.as_str())
            .chain(dead.iter().map(String::as_str))
            .collect();
        let all = sent
            .iter()
            .filter_map(|sent| sent.id.as_deref())
            .all(|id| there.contains(id));
        if (all && pending == 0) || Instant::now() > give_up {
            return (read, dead);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn get(life: &Life, path: &str) -> Value {
    let (status, body) = http(
        "GET",
        &format!("{}{path}", life.door.url),
        &life.door.key,
        None,
    );
    assert_eq!(status, 200, "GET {path}: {body}");
    body
}

fn dead_letters(life: &Life) -> BTreeSet<String> {
    get(life, "/api/dead-letters")["dead_letters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|letter| letter["event_id"].as_str().expect("an id").to_owned())
        .collect()
}
