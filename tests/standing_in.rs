//! The program in the place of upstream's broker: started by a client for itself, with `init`.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Process, Scratch, command, http, run, until};

/// A broker that `init` has started.
struct Init {
    process: Process,
    state: PathBuf,
    url: String,
    key: String,
}

impl Init {
    fn start(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::launch(dir, args, variables).unwrap_or_else(|e| panic!("init {args:?}: {e:?}"))
    }

    fn launch(
        dir: &Path,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, (Option<i32>, String)> {
        let all = [&["init", "--instance-name", "shop floor"], args].concat();
        let temp = dir.join("temp");
        std::fs::create_dir_all(&temp).expect("room");
        let mut variables = variables.to_vec();
        variables.push(("TMPDIR", temp.to_str().expect("a path")));
        variables.push(("RELAY_BROKER_API_KEY", "br_of_the_client"));
        let process = Process::try_start_in(dir, &all, &variables)?;
        let state = match args.contains(&"--persist") {
            true => dir.join(".agentworkforce/relay"),
            false => folders(&temp).pop().expect("a temporary folder"),
        };
        let file = std::fs::read(state.join("connection.json")).expect("connection.json");
        let file: Value = serde_json::from_slice(&file).expect("JSON");
        assert_eq!(file["api_key"], "br_of_the_client");
        Ok(Self {
            process,
            state,
            url: file["url"].as_str().expect("a URL").to_owned(),
            key: "br_of_the_client".to_owned(),
        })
    }

    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, body) = http(method, &format!("{}{path}", self.url), &self.key, body);
        assert_eq!(status, 200, "{method} {path}: {body}");
        body
    }

    fn spawn(&self, name: &str, more: &Value) -> Value {
        let mut body = json!({"name": name, "cli": "cat"});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.call("POST", "/api/spawn", Some(body))
    }
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("readable");
    entries
        .map(|entry| entry.expect("readable").path())
        .collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn a_broker_of_a_client_says_one_line_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let mut command = command(
        scratch.path(),
        &["init", "--name", "shop", "--channels", "a,b"],
    );
    let temp = scratch.path().join("temp");
    std::fs::create_dir(&temp).expect("room");
    command.env("TMPDIR", &temp).stderr(Stdio::piped());
    let child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let state = until("connection.json", || {
        let state = folders(&temp).pop()?;
        state.join("connection.json").is_file().then_some(state)
    });
    let name = state.file_name().expect("a name").to_string_lossy();
    let start = format!("agent-relay-ephemeral-{}-shop-", child.id());
    assert!(name.starts_with(&start), "{name}");
    assert_eq!(mode(&state), 0o700);
    // Answered before it is told to go, so that the line has been said.
    let file = std::fs::read(state.join("connection.json")).expect("a file");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    let (url, key) = (file["url"].as_str().expect("a URL"), &file["api_key"]);
    let key = key.as_str().expect("a key");
    let (_, session) = http("GET", &format!("{url}/api/session"), key, None);
    assert_eq!(session["mode"], "ephemeral");
    let (_, lease) = http("POST", &format!("{url}/api/session/renew"), key, None);
    assert_eq!(
        lease,
        json!({"renewed": true, "expires_in_secs": 120, "persist": false})
    );
    http("POST", &format!("{url}/api/shutdown"), key, None);
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0));
    let line = format!("[agent-relay] API listening on {url}\n");
    assert_eq!(String::from_utf8_lossy(&out.stdout), line);
    let said = String::from_utf8_lossy(&out.stderr);
    for word in ["attach", "relay-broker send", "stopped"] {
        assert!(!said.contains(word), "{said}");
    }
    assert_eq!(folders(&temp), Vec::<PathBuf>::new());
}

#[test]
fn what_a_killed_broker_has_left_goes_with_the_next_start_in_the_same_place_and_nothing_else_does()
{
    let scratch = Scratch::new();
    let first = Init::start(scratch.path(), &[], &[]);
    let left = first.state.clone();
    let temp = scratch.path().join("temp");
    first.process.kill9();
    assert!(left.is_dir());
    // Upstream's, of a process that is gone as well, and what only looks alike.
    let others = [
        "agent-relay-ephemeral-4194999-shop-1",
        "agent-relay-ephemeral-x",
        "else",
    ];
    for other in others {
        std::fs::create_dir(temp.join(other)).expect("room");
    }
    let variables = [("TMPDIR", temp.to_str().expect("a path"))];
    let start = || Process::try_start_in(scratch.path(), &["init"], &variables);
    let brokers = [start().expect("it starts"), start().expect("it starts")];
    assert!(!left.exists());
    for path in others.map(|other| temp.join(other)) {
        assert!(path.is_dir(), "{}", path.display());
    }
    assert_eq!(folders(&temp).len(), others.len() + brokers.len());
}

#[test]
fn what_is_to_persist_is_kept_in_the_projects_folder_for_its_owner_alone() {
    let scratch = Scratch::new();
    let state = scratch.path().join(".agentworkforce/relay");
    std::fs::create_dir_all(&state).expect("room");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&state, open).expect("ours");
    std::fs::write(state.join("connection.json"), "{}").expect("room");
    let broker = Init::start(scratch.path(), &["--persist"], &[]);
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("connection.json")), 0o600);
    assert_eq!(broker.call("GET", "/api/session", None)["mode"], "persist");
    assert_eq!(
        broker.call("POST", "/api/session/renew", None),
        json!({"renewed": true, "expires_in_secs": 0, "persist": true})
    );
    broker.spawn("ada", &json!({}));
    // The command line finds it from here.
    let (code, listed, said) = run(scratch.path(), &["agents"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(listed.contains("ada"), "{listed}");
    // A second one is told, in the words that clients look for, and with a code that they know.
    let taken = Init::launch(scratch.path(), &["--persist"], &[])
        .err()
        .expect("refused");
    assert_eq!(taken.0, Some(1));
    let words = "another broker instance is already running in this directory";
    assert!(taken.1.contains(words), "{}", taken.1);
    assert_eq!(broker.process.stop(), Some(0));
    assert!(state.join("journal").is_dir());
}

#[test]
fn a_broker_whose_owner_is_gone_stops_in_order_and_takes_its_agents_along() {
    let scratch = Scratch::new();
    let short = [("RELAY_BROKER_FAULTS", "lease=1200")];
    let mut broker = Init::start(scratch.path(), &[], &short);
    let agent = broker.spawn("ada", &json!({}));
    // Renewed beyond the time that it would have without.
    until("a life longer than the lease", || {
        broker.call("POST", "/api/session/renew", None);
        let session = broker.call("GET", "/api/session", None);
        (session["uptime_secs"].as_u64() >= Some(3)).then_some(())
    });
    assert!(!broker.process.ended());
    until("the end of the broker", || {
        broker.process.ended().then_some(())
    });
    assert_eq!(broker.process.code(), Some(0));
    let agent = PathBuf::from(format!("/proc/{}", agent["pid"]));
    assert!(!agent.exists(), "the agent is left");
    assert!(!broker.state.exists(), "the folder is left");
    let log = std::fs::read_to_string(scratch.path().join("stderr.log")).expect("a log");
    assert!(log.contains("nobody renewed the lease"), "{log}");
}

#[test]
fn a_named_folder_stays_and_the_lease_is_on_all_the_same() {
    let scratch = Scratch::new();
    let named = scratch.path().join("named");
    let args = ["init", "--state-dir", named.to_str().expect("a path")];
    let faults = "lease=600";
    let mut process = Process::try_start_with(scratch.path(), &args, faults).expect("it starts");
    until("the end of the broker", || process.ended().then_some(()));
    assert_eq!(process.code(), Some(0));
    assert!(named.join("journal").is_dir());
    assert!(!named.join("connection.json").exists());
}

#[test]
fn terminals_and_channels_of_spawns_that_ask_for_none_are_those_of_upstream() {
    let scratch = Scratch::new();
    let variables = [("RELAY_DEFAULT_CHANNELS", "ops, #dev")];
    let broker = Init::start(scratch.path(), &[], &variables);
    broker.spawn("ada", &json!({}));
    broker.spawn(
        "bob",
        &json!({"channels": ["general"], "rows": 30, "cols": 90}),
    );
    let listed = broker.call("GET", "/api/spawned", None);
    let of = |name: &str| {
        let all = listed["agents"].as_array().expect("a list");
        all.iter()
            .find(|a| a["name"] == name)
            .expect("listed")
            .clone()
    };
    assert_eq!(of("ada")["channels"], json!(["ops", "dev"]));
    assert_eq!(of("bob")["channels"], json!(["general"]));
    for (name, rows, cols) in [("ada", 24, 80), ("bob", 30, 90)] {
        let picture = broker.call("GET", &format!("/api/spawned/{name}/snapshot"), None);
        assert_eq!(
            (&picture["rows"], &picture["cols"]),
            (&json!(rows), &json!(cols))
        );
    }
}

#[test]
fn stubborn_agents_end_before_the_client_loses_patience() {
    let scratch = Scratch::new();
    let mut broker = Init::start(scratch.path(), &[], &[]);
    let stubborn =
        json!({"harness_config": {"command": "sh", "args": ["-c", "trap '' HUP TERM; cat"]}});
    let pids: Vec<Value> = ["a1", "a2", "a3", "a4"]
        .iter()
        .map(|name| broker.spawn(name, &stubborn)["pid"].clone())
        .collect();
    let answer = broker.call("POST", "/api/shutdown", None);
    assert!(answer["within_ms"].as_u64() < Some(5000), "{answer}");
    until("the end of the broker", || {
        broker.process.ended().then_some(())
    });
    for pid in pids {
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "{pid}");
    }
}

#[test]
fn an_engine_without_a_key_makes_a_workspace_which_is_kept() {
    let scratch = Scratch::new();
    let engine = Process::start(scratch.path(), &["engine", "--listen", "127.0.0.1:0"]);
    let (_, url) = engine
        .first_line
        .split_once("listening on ")
        .expect("a URL");
    let variables = [("RELAYCAST_BASE_URL", url)];
    let key = |args: &[&str]| {
        let broker = Init::start(scratch.path(), args, &variables);
        let session = broker.call("GET", "/api/session", None);
        assert_eq!(session["relay_base_url"], url);
        broker.process.stop();
        session["workspace_key"].as_str().expect("a key").to_owned()
    };
    let first = key(&["--persist"]);
    assert!(first.starts_with("rk_"), "{first}");
    assert_eq!(key(&["--persist"]), first);
    assert_ne!(key(&[]), first);
    let kept = scratch
        .path()
        .join(".agentworkforce/relay/made-workspace.json");
    assert_eq!(mode(&kept), 0o600);
}

#[test]
fn the_program_answers_to_upstreams_name() {
    let scratch = Scratch::new();
    let mut command = command(scratch.path(), &["--version"]);
    let out = command
        .arg0("/opt/agent-relay-broker")
        .output()
        .expect("it starts");
    let version = format!("agent-relay-broker {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&out.stdout), version);
}

#[test]
fn a_wrong_value_of_a_flag_is_named_and_starts_nothing() {
    let scratch = Scratch::new();
    for (args, word) in [
        (&["--api-port", "70000"][..], "--api-port"),
        (&["--api-bind", "nowhere"], "--api-bind"),
        (&["--api-bind", "0.0.0.0"], "--allow-plain-http"),
        (&["--workspace-key", "no key"], "--workspace-key"),
        (&["--unknown"], "--unknown"),
    ] {
        let (code, out, said) = run(scratch.path(), &[&["init"], args].concat());
        assert!(matches!(code, Some(1 | 2)), "{args:?}: {code:?}");
        assert!(said.contains(word), "{args:?}: {said}");
        assert_eq!(out, "", "{args:?}");
    }
}
