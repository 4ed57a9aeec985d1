//! A message from a real engine reaches a real program.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Engine, Node, Process, Scratch, until};

/// A program that keeps what it reads: `cat`, appending to a file in the node's folder.
pub fn keeper(file: &str) -> [String; 3] {
    ["sh".into(), "-c".into(), format!("exec cat >> {file}")]
}

/// The messages in a keeper's file, by the word after `@@`.
pub fn kept(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split("@@").nth(1))
        .map(str::to_owned)
        .collect()
}

/// Numbers `range` of one agent's burst, as `kept` will show them.
pub fn numbers(agent: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{agent}-{n}")).collect()
}

/// Sends a burst from several threads at once, each agent's messages in order.
pub fn burst(engine: &Engine, token: &str, agents: &[String], per_agent: usize) {
    std::thread::scope(|scope| {
        for part in agents.chunks(agents.len().div_ceil(4)) {
            scope.spawn(move || {
                for n in 0..per_agent {
                    for agent in part {
                        engine.dm(token, agent, &format!("burst @@{agent}-{n}@@"));
                    }
                }
            });
        }
    });
}

/// D4: the event says `echo`.
#[test]
fn a_direct_message_is_typed_verified_and_acknowledged() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &["cat"]);
    let boss = node.engine.register("boss");
    let id = node.engine.dm(&boss, "ada", "hello @@1@@ from the engine");
    let verified = until("delivery_verified", || {
        node.events("delivery_verified")
            .into_iter()
            .find(|e| e["event_id"] == id.as_str())
    });
    assert_eq!(verified["verification"], "echo");
    let (_, screen) = node.call("GET", "/api/spawned/ada/snapshot?format=plain", None);
    let shown = screen["screen"].as_str().expect("text");
    assert!(
        shown.contains("Relay message from boss [") && shown.contains(&id),
        "{shown}"
    );
    let order: Vec<Value> = node.get("/api/events/replay?sinceSeq=0")["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter(|e| e["event_id"] == id.as_str())
        .map(|e| e["kind"].clone())
        .collect();
    assert_eq!(
        order,
        [
            "relay_inbound",
            "delivery_queued",
            "delivery_injected",
            "delivery_ack",
            "message_delivery_confirmed",
            "delivery_verified"
        ]
    );
}

#[test]
fn a_local_message_needs_no_engine_and_says_when_it_arrived() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &["cat"]);
    let (status, sent) = node.call(
        "POST",
        "/api/send",
        Some(json!({"to": "ada", "text": "hi", "from": "me"})),
    );
    assert_eq!(
        (status, &sent["local"], &sent["targets"]),
        (200, &json!(true), &json!(["ada"]))
    );
    until("delivery_verified", || {
        node.events("delivery_verified").pop()
    });
}

#[test]
fn a_thousand_messages_at_once_reach_one_agent_in_order_and_once() {
    thousand(1);
}

#[test]
fn a_thousand_messages_at_once_reach_ten_agents_in_order_and_once() {
    thousand(10);
}

fn thousand(count: usize) {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let agents: Vec<String> = (0..count).map(|n| format!("b{n}")).collect();
    for agent in &agents {
        let [sh, c, script] = keeper(&format!("{agent}.txt"));
        node.spawn(agent, &[&sh, &c, &script]);
    }
    let boss = node.engine.register("boss");
    let per_agent = 1000 / count;
    burst(&node.engine, &boss, &agents, per_agent);
    for agent in &agents {
        let file = folder.path().join(format!("{agent}.txt"));
        until(&format!("all mail of {agent}"), || {
            node.get("/health");
            (kept(&file).len() >= per_agent).then_some(())
        });
        assert_eq!(kept(&file), numbers(agent, 0..per_agent));
    }
    until("nothing pending", || {
        (node.get("/api/status")["pending_delivery_count"] == 0).then_some(())
    });
}

#[test]
fn an_engine_that_dies_in_the_middle_of_a_thousand_loses_and_doubles_nothing() {
    let (folder, alone) = (Scratch::new(), Scratch::new());
    let serve =
        |listen: &str| Process::start(alone.path(), &["engine", "--listen", listen, "--dir", "e"]);
    let mut process = serve("127.0.0.1:0");
    let url = process
        .first_line
        .split_whitespace()
        .last()
        .expect("a URL")
        .to_owned();
    let key = std::fs::read_to_string(alone.path().join("e/workspace-key"))
        .expect("the key")
        .trim()
        .to_owned();
    let engine = Engine {
        url: url.clone(),
        key: key.clone(),
    };
    let node = Node::up(folder.path(), &["--engine", &url, "--workspace-key", &key]);
    let [sh, c, script] = keeper("ada.txt");
    node.spawn("ada", &[&sh, &c, &script]);
    let boss = engine.register("boss");
    let agents = ["ada".to_owned()];
    for n in 0..500 {
        engine.dm(&boss, "ada", &format!("burst @@ada-{n}@@"));
    }
    process.kill9();
    process = serve(url.trim_start_matches("http://"));
    for n in 500..1000 {
        engine.dm(&boss, "ada", &format!("burst @@ada-{n}@@"));
    }
    let file = folder.path().join("ada.txt");
    until("all mail", || (kept(&file).len() >= 1000).then_some(()));
    assert_eq!(kept(&file), numbers(&agents[0], 0..1000));
    drop(process);
}
