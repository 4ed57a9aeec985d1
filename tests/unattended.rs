//! Brokers that nobody looks after: started by cron again and again, and left alone in the background.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use relay_broker::prng::Prng;
use relay_broker::sys::session::{alive, has_open};
use serde_json::Value;

use crate::support::{Node, Scratch, command, http, run, script, signal, until};

/// A project whose brokers have left the test's own process, and end with it all the same.
struct Project {
    folder: Scratch,
    agent: String,
}

/// What a command of cron's ended with, and all that it would have mailed.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: Option<i32>,
    said: String,
}

impl Project {
    fn new() -> Self {
        let folder = Scratch::new();
        // Deaf to the hang-up, so that only a start that looks for it ends one that was left.
        let text = "trap '' HUP; echo '->pty:ready'; exec sleep 100000";
        let agent = format!("ada={}", script(folder.path(), "agent", text));
        Self { folder, agent }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join(".relay-broker")
    }

    /// `up` with these flags, as cron runs it.
    fn begin(&self, flags: &[&str]) -> Child {
        let mut up = command(
            self.folder.path(),
            &["up", "--grace", "200ms", "--agent", &self.agent],
        );
        if !self.state().join("engine-address").exists() {
            up.args(["--engine-listen", "127.0.0.1:0"]);
        }
        up.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
        up.spawn().expect("it starts")
    }

    fn up(&self, flags: &[&str]) -> Ran {
        Ran::whole(self.begin(flags))
    }

    /// A minute of cron, for whom a broker is stuck that has not answered for a moment.
    fn minute(&self) -> Ran {
        self.up(&["--if-not-running", "--detach", "--stuck-after", "400ms"])
    }

    /// A minute of cron as it usually is, still under way.
    fn patient_minute(&self) -> Child {
        self.begin(&["--if-not-running", "--detach"])
    }

    /// Which processes have the folder's lock open. A child of one has it, too, until it becomes a program of its own.
    fn brokers(&self) -> Vec<u32> {
        let lock = self.state().join("broker.lock");
        let mut found = processes();
        found.retain(|pid| has_open(*pid, &lock) && alive(*pid));
        let all = found.clone();
        found.retain(|pid| parent(*pid).is_none_or(|parent| !all.contains(&parent)));
        found
    }

    /// Which processes are the agent.
    fn agents(&self) -> Vec<u32> {
        let mark = format!("RELAY_BROKER_STATE_DIR={}", self.state().display());
        let mut found = processes();
        found.retain(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut parts = environment.split(|byte| *byte == 0);
            alive(*pid) && parts.any(|part| part == mark.as_bytes())
        });
        found
    }

    /// The one broker, once it is the only one, answers, and has its agent once.
    fn settled(&self) -> u32 {
        until("one broker with one agent", || {
            let brokers = self.brokers();
            assert!(brokers.len() < 2, "{brokers:?}");
            let agents = self.agents();
            let row = self.row()?;
            let running = row["pid"].as_u64().map(|pid| agents == [pid as u32]);
            (running == Some(true))
                .then(|| brokers.first().copied())
                .flatten()
        })
    }

    /// The agent as the broker has it.
    fn row(&self) -> Option<Value> {
        let file = fs::read(self.state().join("connection.json")).ok()?;
        let file: Value = serde_json::from_slice(&file).ok()?;
        let url = format!("{}/api/spawned", file["url"].as_str()?);
        let (status, list) =
            crate::support::try_http("GET", &url, file["api_key"].as_str()?, None).ok()?;
        let rows = list["agents"].as_array().filter(|_| status == 200)?;
        assert!(rows.len() < 2, "{list}");
        rows.first().cloned()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        for pid in self.brokers().into_iter().chain(self.agents()) {
            let _ = std::process::Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status();
        }
    }
}

impl Ran {
    fn whole(child: Child) -> Self {
        let out = child.wait_with_output().expect("ours");
        let said = [out.stdout, out.stderr].concat();
        Self {
            code: out.status.code(),
            said: String::from_utf8_lossy(&said).into_owned(),
        }
    }

    /// No mail, and no alarm.
    fn quiet() -> Self {
        Self {
            code: Some(0),
            said: String::new(),
        }
    }
}

fn processes() -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("Linux").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// What a descriptor of a process leads to.
fn descriptor(pid: u32, number: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/fd/{number}")).expect("it is open")
}

#[test]
fn a_broker_that_is_detached_says_where_it_is_and_logs_into_a_file() {
    let project = Project::new();
    let ran = project.up(&["--detach"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let pid = project.settled();
    let log = project.state().join("broker.log");
    let (first, second) = ran.said.trim().split_once('\n').expect("two lines");
    assert!(
        first.starts_with("[agent-relay] API listening on http://"),
        "{first}"
    );
    assert_eq!(
        second,
        format!(
            "relay-broker runs as process {pid}; its log is {}",
            log.display()
        )
    );
    assert_eq!(descriptor(pid, 0), Path::new("/dev/null"));
    assert_eq!(descriptor(pid, 1), Path::new("/dev/null"));
    assert_eq!(descriptor(pid, 2), log);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let session = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(3));
    assert_eq!(session, Some(&*pid.to_string()), "a session of its own");
    until("its log", || {
        let text = fs::read_to_string(&log).expect("a log");
        text.contains("ada ready").then_some(())
    });
    // Standard error follows the log when it is moved away.
    fs::rename(&log, project.state().join("broker.log.1")).expect("ours");
    signal(pid, "HUP");
    until("the new log", || (descriptor(pid, 2) == log).then_some(()));
    let (code, said, _) = run(project.folder.path(), &["stop"]);
    assert_eq!((code, &*said), (Some(0), "stopped\n"));
}

#[test]
fn a_detached_start_that_fails_is_told_with_its_reason_and_code() {
    let project = Project::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ran = project.up(&["--detach", "--api-port", &port, "--log-file", "log"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.said.starts_with("relay-broker: failed to bind API on "),
        "{ran:?}"
    );
    let log = fs::read_to_string(project.folder.path().join("log")).expect("a log");
    assert!(log.contains("failed to bind API"), "{log}");
    let wrong = project.up(&["--detach", "--config", "missing"]);
    assert_eq!(wrong.code, Some(78), "{wrong:?}");
    assert_eq!(project.up(&["--detach"]).code, Some(0));
    let second = project.up(&["--detach"]);
    assert_eq!(second.code, Some(75), "{second:?}");
    assert!(
        second.said.contains("already running in this directory"),
        "{second:?}"
    );
    let flags = ["--stuck-after", "1s"];
    let contradicting = project.up(&flags);
    assert_eq!(contradicting.code, Some(2), "{contradicting:?}");
    assert!(
        contradicting.said.contains("--if-not-running"),
        "{contradicting:?}"
    );
}

#[test]
fn nothing_is_done_or_said_while_a_broker_is_well_also_with_a_configuration_that_is_broken_meanwhile()
 {
    let project = Project::new();
    let node = Node::up(project.folder.path(), &[]);
    assert_eq!(project.minute(), Ran::quiet());
    assert_eq!(project.up(&["--if-not-running"]), Ran::quiet());
    fs::write(project.folder.path().join("relay-broker.toml"), "[nonsense").expect("room");
    assert_eq!(project.minute(), Ran::quiet());
    assert_eq!(node.process.stop(), Some(0));
    // Whoever starts one has to know.
    assert_eq!(project.minute().code, Some(78));
}

#[test]
fn a_broker_that_is_stuck_is_ended_and_replaced_which_is_said() {
    let project = Project::new();
    assert_eq!(project.minute().code, Some(0));
    let old = project.settled();
    signal(old, "STOP");
    let ran = project.minute();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.said
            .contains(&format!("(process {old}) did not answer for 400ms")),
        "{ran:?}"
    );
    assert_ne!(project.settled(), old);
    assert!(!alive(old));
}

#[cfg(debug_assertions)]
#[test]
fn a_broker_that_cannot_write_is_left_alone_and_told_of() {
    let project = Project::new();
    let full = project.folder.path().join("full");
    let faults = format!("full={}", full.display());
    let node = Node::up_with(project.folder.path(), &[], &faults);
    node.spawn("bob", &["cat"]);
    fs::write(&full, "").expect("room");
    let (url, key) = (
        format!("{}/api/spawned/bob/delivery-mode", node.api),
        node.key.clone(),
    );
    let mode = serde_json::json!({"mode": "manual_flush"});
    let blocked = std::thread::spawn(move || http("PUT", &url, &key, Some(mode)));
    until("the trouble", || {
        (node.call("GET", "/livez", None).0 == 503).then_some(())
    });
    let ran = project.minute();
    assert_eq!(ran.code, Some(75), "{ran:?}");
    assert!(ran.said.contains("journal"), "{ran:?}");
    assert!(alive(node.process.pid()));
    fs::remove_file(&full).expect("ours");
    blocked.join().expect("no panic");
    until("health", || {
        (node.call("GET", "/livez", None).0 == 200).then_some(())
    });
    assert_eq!(project.minute(), Ran::quiet());
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn brokers_of_several_folders_that_start_at_the_same_moment_all_run() {
    let folders: [Scratch; 4] = std::array::from_fn(|_| Scratch::new());
    let starts = folders.each_ref().map(|folder| {
        let mut up = command(folder.path(), &["up", "--if-not-running", "--detach"]);
        up.stdout(Stdio::piped()).stderr(Stdio::piped());
        up.spawn().expect("it starts")
    });
    for start in starts {
        let ran = Ran::whole(start);
        assert_eq!(ran.code, Some(0), "{}", ran.said);
    }
    for folder in &folders {
        let (code, _, said) = run(folder.path(), &["stop"]);
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn a_broker_whose_connection_file_is_gone_is_named_and_replaced() {
    let project = Project::new();
    assert_eq!(project.minute().code, Some(0));
    let path = project.state().join("connection.json");
    let file: Value = serde_json::from_slice(&fs::read(&path).expect("it runs")).expect("JSON");
    fs::remove_file(&path).expect("it runs");
    let (code, _, said) = run(project.folder.path(), &["status"]);
    let named = format!("a broker (process {}) holds", file["pid"]);
    assert!(code == Some(1) && said.contains(&named), "{said}");
    let ran = project.minute();
    assert!(
        ran.said.contains("was ended; a new one starts"),
        "{}",
        ran.said
    );
    assert_eq!(run(project.folder.path(), &["stop"]).0, Some(0));
}

/// What befalls the broker between two minutes.
fn befall(project: &Project, prng: &mut Prng, broker: u32) -> &'static str {
    let state = project.state();
    let write = |name: &str, text: &str| fs::write(state.join(name), text).expect("room");
    match prng.below(40) {
        0 => {
            signal(broker, "STOP");
            return "stuck";
        }
        1 => {
            fs::remove_file(state.join("connection.json")).expect("it runs");
            return "unreachable";
        }
        2 | 3 => signal(broker, "TERM"),
        4..=8 => signal(broker, "KILL"),
        _ => return "well",
    }
    until("its end", || (!alive(broker)).then_some(()));
    let own = std::process::id();
    match prng.below(6) {
        0 => write("broker.lock", &format!("{own}\n")),
        1 => write("broker.lock", "no number"),
        2 => write("connection.json", "{"),
        3 => write(
            "connection.json",
            &format!(
                "{{\"url\":\"http://127.0.0.1:1\",\"port\":1,\"api_key\":\"k\",\"pid\":{own}}}"
            ),
        ),
        4 => write("running/ada", "stale"),
        _ => {}
    }
    "dead"
}

/// 1,440 minutes with `CRON_MINUTES=1440`, and other days with `CRON_SEED`.
#[test]
fn through_a_day_of_cron_there_is_one_broker_one_agent_and_no_mail_while_it_is_well() {
    let number = |name: &str, usual: u64| {
        let said = std::env::var(name).ok().and_then(|text| text.parse().ok());
        said.unwrap_or(usual)
    };
    let (minutes, seed) = (number("CRON_MINUTES", 40), number("CRON_SEED", 1));
    let project = Project::new();
    let mut prng = Prng::new(seed);
    let mut broker = None;
    for minute in 0..minutes {
        let what = broker.map_or("nobody", |broker| befall(&project, &mut prng, broker));
        let at = format!("minute {minute} of seed {seed}, {what}");
        let (ran, rival) = match what {
            // A rival's broker that is still starting would be stuck as well, for somebody so impatient.
            "stuck" | "unreachable" => (project.minute(), None),
            _ => {
                let rival = (prng.below(4) == 0).then(|| project.patient_minute());
                let ran = Ran::whole(project.patient_minute());
                (ran, rival.map(Ran::whole))
            }
        };
        for ran in rival.iter().chain([&ran]) {
            assert_eq!(ran.code, Some(0), "{at}: {ran:?}");
        }
        let starts = rival
            .iter()
            .chain([&ran])
            .filter(|ran| ran.said.contains("runs as process"));
        assert_eq!(
            starts.count(),
            usize::from(what != "well"),
            "{at}: {ran:?} {rival:?}"
        );
        if what == "well" {
            assert_eq!(ran, Ran::quiet(), "{at}");
        }
        let now = project.settled();
        assert_eq!(broker == Some(now), what == "well", "{at}");
        broker = Some(now);
    }
}
