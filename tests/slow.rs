//! Programs that read their terminal slowly, late or never: nothing is cut off, what is said about the message is true, and
//! the broker goes on answering everybody else.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Node, Scratch, http, until};

/// One line of so many bytes, which ends in a way of its own.
fn long(bytes: usize) -> String {
    let mut text = String::new();
    while text.len() + 8 < bytes {
        text += &format!("{:07} ", text.len());
    }
    text + "the end"
}

/// What the agent's file holds of the message once it has all been read.
fn whole(file: &Path, text: &str) -> String {
    until("the end of the message", || {
        let got = std::fs::read_to_string(file).ok()?;
        got.contains(text).then_some(got)
    })
}

fn verified(node: &Node, id: &str) -> Option<Value> {
    let events = node.events("delivery_verified");
    events.into_iter().find(|e| e["event_id"] == id)
}

/// What the status says about a message that waits.
fn pending(node: &Node, id: &str) -> Option<Value> {
    let status = node.get("/api/status");
    let rows = status["pending_deliveries"].as_array()?;
    rows.iter().find(|row| row["event_id"] == id).cloned()
}

/// How many deliveries the engine has no acknowledgement of.
fn unacknowledged(node: &Node, agent: &str) -> u64 {
    let url = format!("{}/v1/agents/{agent}", node.engine.url);
    let (_, answer) = http("GET", &url, &node.engine.key, None);
    answer["data"]["pending_deliveries"]
        .as_u64()
        .expect("a number")
}

/// Asks for the status again and again; how long answers took, sorted.
fn asked(node: &Node, times: usize) -> Vec<Duration> {
    let ask = |_| {
        let begun = Instant::now();
        node.get("/api/status");
        begun.elapsed()
    };
    let mut took: Vec<Duration> = (0..times).map(ask).collect();
    took.sort();
    took
}

#[test]
fn a_message_to_a_slow_reader_is_whole_and_not_verified_before_all_of_it_is_read() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let go = folder.path().join("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::RWXU).expect("fifo");
    // A hundred bytes at a time, with a rest in the middle that lasts until the test has seen enough.
    let script = "stty raw -echo; echo '->pty:ready'; n=0; while :; do \
                  dd bs=100 count=1 2>/dev/null >> got; n=$((n+1)); [ $n = 100 ] && read x < go; sleep 0.005; done";
    node.spawn("slow", &["sh", "-c", script]);
    node.spawn("quick", &["cat"]);
    let boss = node.engine.register("boss");
    let (text, file) = (long(20_000), folder.path().join("got"));
    let id = node.engine.dm(&boss, "slow", &text);
    until("it reads", || {
        let read = std::fs::metadata(&file).ok()?.len();
        (read > 0).then_some(())
    });
    let took = asked(&node, 100);
    let other = node.engine.dm(&boss, "quick", "hello");
    until("the other agent's message", || verified(&node, &other));
    assert_eq!(verified(&node, &id), None);
    assert_eq!(unacknowledged(&node, "slow"), 1);
    println!(
        "meanwhile an answer took {:?}, p99 {:?}",
        took[50], took[98]
    );
    std::fs::write(&go, "x\n").expect("fifo");
    until("delivery_verified", || verified(&node, &id));
    let got = whole(&file, &format!("{text}\r"));
    assert!(got.starts_with("Relay message from boss ["), "{got}");
    assert_eq!(got.len(), got.find(&text).expect("whole") + text.len() + 1);
    until("the acknowledgement", || {
        (unacknowledged(&node, "slow") == 0).then_some(())
    });
}

#[test]
fn a_message_that_is_never_read_is_said_to_be_unread_and_is_whole_when_it_is_read_at_last() {
    // Less than a terminal takes of what nobody reads, more, and much more.
    for bytes in [2000, 20_000, 300_000] {
        unread("stty raw -echo", &long(bytes), "\r");
    }
}

#[test]
fn lines_that_are_never_read_are_said_to_be_unread_and_are_whole_when_they_are_read_at_last() {
    for bytes in [2000, 20_000, 300_000] {
        unread("stty -echo", &long(bytes).replace("000 ", "000\n"), "\n");
    }
}

/// Sends the text to a program that reads nothing until it is told to.
fn unread(settings: &str, text: &str, enter: &str) {
    let folder = Scratch::new();
    let config = folder.path().join("relay-broker.toml");
    std::fs::write(&config, "[profile.sh]\none_line = false\n").expect("writable");
    let node = Node::up(folder.path(), &[]);
    let go = folder.path().join("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::RWXU).expect("fifo");
    let script = format!("{settings}; echo '->pty:ready'; read x < go; exec cat > got");
    node.spawn("deaf", &["sh", "-c", &script]);
    let boss = node.engine.register("boss");
    let id = node.engine.dm(&boss, "deaf", text);
    let why = until("what holds it up", || {
        let row = pending(&node, &id)?;
        row["last_error"].as_str().map(str::to_owned)
    });
    assert!(why.contains("has not read"), "{why}");
    let took = asked(&node, 100);
    println!(
        "{} bytes unread: an answer took {:?}, p99 {:?}",
        text.len(),
        took[50],
        took[98]
    );
    assert_eq!(verified(&node, &id), None);
    assert_eq!(unacknowledged(&node, "deaf"), 1);
    std::fs::write(&go, "x\n").expect("fifo");
    until("delivery_verified", || verified(&node, &id));
    let got = whole(&folder.path().join("got"), &format!("{text}{enter}"));
    assert_eq!(got.matches("Relay message from").count(), 1);
}
