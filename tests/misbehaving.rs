//! The engine as a test double: what bad weather and other versions look like from outside, and that a broker bears them.

use std::path::Path;
use std::time::{Duration, Instant};

use relay_broker::engine::behaviour::UpstreamVersion;
use relay_broker::engine::faults::Behave;
use relay_broker::engine::server::{Engine, EngineError, EngineSettings};
use serde_json::{Value, json};

use crate::embedded::{Socket, call, call_with, client, enrol, ok, text};
use crate::support::{self, Node, Process, Scratch, run, until};

fn settings(dir: &Path) -> EngineSettings {
    EngineSettings {
        dir: dir.to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        workspace_key: None,
        workspace_name: "local".into(),
    }
}

fn start(dir: &Path, words: &[&str]) -> Engine {
    let behave = Behave::parse(words.iter().copied()).expect("words that mean something");
    Engine::start_behaving(settings(dir), &behave).expect("the engine starts")
}

fn order(e: &Engine, orders: Value) -> Value {
    ok(e, "POST", "/__behave", "", orders)
}

/// A node's socket that has registered.
fn registered(e: &Engine) -> Socket {
    let token = enrol(e, "node_1", "box");
    let mut socket = Socket::open(e, "/v1/node/ws", &token).expect("admitted");
    socket.register("node_1", "box", json!([]));
    socket
}

fn ask(name: &str) -> Value {
    json!({"type": "agent.register", "id": "ask", "name": name})
}

#[test]
fn frames_and_answers_come_as_late_as_ordered_and_in_order() {
    let dir = Scratch::new();
    let e = start(dir.path(), &["delay_ms=150"]);
    let late = Duration::from_millis(150);
    let since = Instant::now();
    let mut socket = registered(&e);
    assert!(since.elapsed() >= 3 * late, "mint, upgrade and reply");
    let since = Instant::now();
    for name in ["a", "b", "c"] {
        socket.send(ask(name));
    }
    for name in ["a", "b", "c"] {
        assert_eq!(socket.next_of("reply")["data"]["name"], name);
    }
    assert!(since.elapsed() >= late);
    order(&e, json!({"delay_ms": 0}));
    socket.send(ask("d"));
    assert_eq!(socket.next_of("reply")["data"]["name"], "d");
}

#[test]
fn a_black_hole_keeps_sockets_silent_until_it_is_lifted() {
    let dir = Scratch::new();
    let e = start(dir.path(), &[]);
    let mut socket = registered(&e);
    order(&e, json!({"black_hole": "sockets"}));
    socket.send(ask("w1"));
    let key = e.workspace_key().to_owned();
    let (status, _) = call(&e, "GET", "/v1/agents/w1", &key, json!({}));
    assert_eq!(status, 404, "calls are answered, frames are not read");
    order(&e, json!({"black_hole": false}));
    assert_eq!(socket.next_of("reply")["data"]["name"], "w1");
}

#[test]
fn a_black_hole_answers_no_call_and_lets_the_engine_stop_all_the_same() {
    let dir = Scratch::new();
    let e = start(dir.path(), &["black_hole"]);
    let hurried: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_millis(200)))
        .build()
        .into();
    let url = format!("{}/v1/workspace", e.url());
    assert!(hurried.get(&url).call().is_err());
    let seen = ok(&e, "GET", "/__behave", "", json!({}));
    assert_eq!(seen["age"], Value::Null);
    let since = Instant::now();
    drop(e);
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_cut_is_no_goodbye_and_a_superseded_socket_hears_why() {
    let dir = Scratch::new();
    let e = start(dir.path(), &[]);
    let mut socket = registered(&e);
    order(&e, json!({"cut": true}));
    assert_eq!(socket.end(), None);
    let mut socket = registered(&e);
    order(&e, json!({"supersede": true}));
    assert_eq!(socket.end(), Some((1000, "superseded".into())));
}

#[test]
fn a_token_shown_in_the_header_proves_whose_node_it_is() {
    let dir = Scratch::new();
    let e = start(dir.path(), &["9.0"]);
    let token = enrol(&e, "node_1", "box");
    let (url, key) = (format!("{}/v1/nodes", e.url()), e.workspace_key());
    let body = json!({"node_id": "node_1", "name": "box"});
    let mint = |headers: &[(&str, &str)]| call_with(&client(), "POST", &url, key, headers, &body);
    let (status, answer) = mint(&[]);
    assert_eq!(status, 409);
    assert_eq!(text(&answer["error"]["code"]), "node_token_proof_required");
    let (status, _) = mint(&[("x-relaycast-node-token", &token)]);
    assert_eq!(status, 201);
}

#[test]
fn a_test_double_never_listens_beyond_this_machine() {
    let dir = Scratch::new();
    let settings = EngineSettings {
        listen: ([0, 0, 0, 0], 0).into(),
        ..settings(dir.path())
    };
    let refused = Engine::start_behaving(settings, &Behave::as_of(UpstreamVersion::V8_2));
    assert!(matches!(refused.err(), Some(EngineError::Exposed(_))));
}

#[test]
fn an_engine_listens_beyond_this_machine_only_when_the_risk_is_taken_by_name() {
    let dir = Scratch::new();
    let everywhere = "0.0.0.0:0";
    for args in [
        ["engine", "--listen", everywhere],
        ["up", "--engine-listen", everywhere],
    ] {
        let (code, _, words) = run(dir.path(), &args);
        assert_eq!(code, Some(2), "{words}");
        assert!(words.contains("--allow-plain-http"), "{words}");
        assert!(words.contains("127.0.0.1"), "{words}");
    }
    let args = ["engine", "--listen", everywhere, "--allow-plain-http"];
    let process = Process::start(dir.path(), &args);
    assert_eq!(process.stop(), Some(0));
    // `up` remembers where its engine listened, but not that this was allowed.
    let up = ["up", "--engine-listen", everywhere, "--allow-plain-http"];
    let process = Process::start(dir.path(), &up);
    assert_eq!(process.stop(), Some(0));
    let refused = Process::try_start(dir.path(), &["up"]).err();
    let (code, words) = refused.expect("refused");
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("--allow-plain-http"), "{words}");
}

#[test]
fn an_unknown_way_to_behave_is_named() {
    let dir = Scratch::new();
    let (code, _, words) = run(dir.path(), &["engine", "--behave", "9.0,cats"]);
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("cats") && words.contains("5.0.1"), "{words}");
}

/// An engine of its own process; the process and how to reach it.
fn serve(dir: &Path, behave: &str) -> (Process, support::Engine) {
    let args = [
        "engine",
        "--listen",
        "127.0.0.1:0",
        "--dir",
        "e",
        "--behave",
        behave,
    ];
    let process = Process::start(dir, &args);
    let url = process.first_line.split_whitespace().last();
    let url = url.expect("a URL").to_owned();
    let key = std::fs::read_to_string(dir.join("e/workspace-key")).expect("the key");
    let key = key.trim().to_owned();
    (process, support::Engine { url, key })
}

#[test]
fn a_broker_types_what_engines_of_every_age_deliver() {
    for (name, _) in UpstreamVersion::ALL {
        let (folder, alone) = (Scratch::new(), Scratch::new());
        let (_process, engine) = serve(alone.path(), name);
        let args = ["--engine", &engine.url, "--workspace-key", &engine.key];
        let node = Node::up(folder.path(), &args);
        node.spawn("ada", &["cat"]);
        let boss = engine.register("boss");
        let id = engine.dm(&boss, "ada", "hello");
        until(&format!("a message under {name}"), || {
            let seen = node.events("delivery_verified");
            seen.iter()
                .any(|e| e.to_string().contains(&id))
                .then_some(())
        });
        until(&format!("the acknowledgement under {name}"), || {
            let url = format!("{}/v1/agents/ada", engine.url);
            let (_, agent) = call_with(&client(), "GET", &url, &engine.key, &[], &json!({}));
            (agent["data"]["pending_deliveries"] == 0).then_some(())
        });
    }
}
