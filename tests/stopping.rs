//! Signals to a running broker: how it stops, and what it does instead.

use std::fs;
use std::path::Path;

use relay_broker::sys::session::alive;
use serde_json::json;

use crate::support::{Node, Scratch, command, run, script, signal, until};

fn log(folder: &Scratch) -> String {
    fs::read_to_string(folder.path().join("stderr.log")).unwrap_or_default()
}

/// A program that reads nothing before a file is there.
fn late_reader(folder: &Path) -> String {
    let text = "echo '->pty:ready'; while [ ! -e go ]; do sleep 0.02; done; exec cat";
    script(folder, "late", text)
}

fn send(node: &Node, to: &str, text: &str) {
    let body = json!({"to": to, "text": text});
    let (status, body) = node.call("POST", "/api/send", Some(body));
    assert_eq!(status, 200, "{body}");
}

/// A broker that drains for long when asked to stop, and its agent, which has a message and reads nothing yet.
fn typing_node(folder: &Scratch) -> Node {
    let node = Node::up(folder.path(), &["--drain", "10m"]);
    node.spawn("ada", &[&late_reader(folder.path())]);
    send(&node, "ada", "first");
    until("the message typed", || {
        node.events("delivery_injected").pop()
    });
    node
}

/// Waits until a broker has heard that it is to stop.
fn until_it_drains(node: &Node) {
    until("the drain", || {
        (node.call("GET", "/readyz", None).0 == 503).then_some(())
    });
}

#[test]
fn a_broker_that_drains_ends_its_agents_once_what_is_being_typed_has_arrived() {
    let folder = Scratch::new();
    let node = typing_node(&folder);
    send(&node, "ada", "second");
    signal(node.process.pid(), "TERM");
    until_it_drains(&node);
    // Everything but new work goes on, so that somebody can look and help.
    assert!(node.agent("ada").is_some());
    let (status, body) = node.call(
        "POST",
        "/api/send",
        Some(json!({"to": "ada", "text": "third"})),
    );
    assert_eq!(status, 503, "{body}");
    assert!(alive(node.process.pid()));
    fs::write(folder.path().join("go"), "").expect("room");
    let mut process = node.process;
    until("its end", || process.ended().then_some(()));
    assert_eq!(process.code(), Some(0));
    let text = log(&folder);
    assert!(text.contains("has arrived, in 10m at most"), "{text}");
    let node = Node::up(folder.path(), &[]);
    let (status, pending) = node.call("GET", "/api/spawned/ada/pending", None);
    assert_eq!(status, 200, "{pending}");
    let waiting = pending["pending"].as_array().expect("a list");
    assert_eq!(waiting.len(), 1, "{pending}");
    assert!(pending.to_string().contains("second"), "{pending}");
}

#[test]
fn who_asks_a_draining_broker_twice_does_not_wait() {
    for stop in [
        |node: &Node| signal(node.process.pid(), "INT"),
        |node: &Node| assert_eq!(node.call("POST", "/api/shutdown", None).0, 200),
    ] {
        let folder = Scratch::new();
        let node = typing_node(&folder);
        stop(&node);
        until_it_drains(&node);
        stop(&node);
        let mut process = node.process;
        until("its end", || process.ended().then_some(()));
        assert_eq!(process.code(), Some(0));
    }
}

#[test]
fn a_time_to_drain_that_cannot_be_meant_is_refused_with_2() {
    let folder = Scratch::new();
    let (code, _, said) = run(folder.path(), &["up", "--drain", "soon"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--drain"), "{said}");
}

#[test]
fn who_wants_to_upgrade_a_running_broker_is_told_what_to_do_instead() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    signal(node.process.pid(), "USR2");
    until("the word about it", || {
        log(&folder)
            .contains("cannot be upgraded in place")
            .then_some(())
    });
    assert!(node.agent("ada").is_some());
    assert_eq!(node.process.stop(), Some(0));
    // An engine alone goes on, too.
    let mut engine = command(folder.path(), &["engine", "--listen", "127.0.0.1:0"]);
    engine.arg("--dir").arg(folder.path().join("engine"));
    let engine = crate::support::Process::launch(folder.path(), engine).expect("it starts");
    for name in ["USR1", "USR2", "HUP"] {
        signal(engine.pid(), name);
    }
    assert_eq!(engine.stop(), Some(0));
}
