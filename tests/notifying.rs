//! The operator's command for events that want a person: run with the event, never waited for, and never too often.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Node, Scratch, run, until};

fn start(node: &Node, name: &str, script: &str) {
    let body = json!({"name": name, "cli": "sh", "args": ["-c", script]});
    let (status, answer) = node.call("POST", "/api/spawn", Some(body));
    assert_eq!(status, 200, "{answer}");
}

fn told(folder: &Scratch, file: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.path().join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_command_gets_the_event_and_no_other_than_those_that_were_asked_for() {
    let folder = Scratch::new();
    let config =
        "[notify]\ncommand = [\"sh\", \"-c\", \"cat >> told; echo >> told\"]\non = [\"exited\"]\n";
    fs::write(folder.path().join("relay-broker.toml"), config).expect("room");
    let node = Node::up(folder.path(), &["--name", "shop"]);
    start(&node, "ada", "exit 3");
    start(&node, "bob", "exit 0");
    let lines = until("two notices", || {
        Some(told(&folder, "told")).filter(|lines| lines.len() == 2)
    });
    let first: Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!(
        (&first["notice"], &first["node"]),
        (&json!("exited"), &json!("shop"))
    );
    assert_eq!(
        (&first["left_out"], &first["event"]["kind"]),
        (&json!(0), &json!("agent_exited"))
    );
    let mut names: Vec<String> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["event"]["name"].to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["\"ada\"", "\"bob\""]);
}

#[test]
fn a_command_that_hangs_is_ended_holds_nobody_up_and_is_complained_of_once() {
    let folder = Scratch::new();
    let config = "[notify]\ncommand = [\"sh\", \"-c\", \"echo began >> told; sleep 600\"]\ntimeout = \"200ms\"\n";
    fs::write(folder.path().join("relay-broker.toml"), config).expect("room");
    let node = Node::up(folder.path(), &["--log-file", "log"]);
    for name in ["ada", "bob", "eve"] {
        start(&node, name, "exit 1");
    }
    node.spawn("cat", &["cat"]);
    let (code, out, err) = run(folder.path(), &["send", "cat", "hello", "--wait"]);
    assert_eq!(code, Some(0), "{out}{err}");
    until("three that began", || {
        (told(&folder, "told").len() == 3).then_some(())
    });
    let complaints = || {
        let log = told(&folder, "log");
        log.iter()
            .filter(|line| line.contains("was not given"))
            .count()
    };
    until("a complaint", || (complaints() > 0).then_some(()));
    node.process.stop();
    assert_eq!(complaints(), 1, "{:?}", told(&folder, "log"));
}

#[test]
fn only_wanted_events_are_shown() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    start(&node, "ada", "exit 3");
    start(&node, "bob", "exit 3");
    until("both ended", || {
        (node.events("agent_exited").len() == 2).then_some(())
    });
    let (_, out, _) = run(
        folder.path(),
        &[
            "events",
            "--only",
            "agent_exited,agent_idle",
            "--agent",
            "ada",
        ],
    );
    assert!(
        out.contains("ada ended") && out.lines().count() == 1,
        "{out}"
    );
    let (code, _, err) = run(folder.path(), &["events", "--only", "agent_flown"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("agent_exited"), "{err}");
}
