//! A state folder that is copied while its broker works, and a node that starts from the copy somewhere else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::{Node, Scratch, run, until};

/// Writes down what it reads, slowly enough for messages to wait.
const READER: &str =
    "ada=sh -c 'while read -r line; do echo \"$line\" >>read.txt; sleep 0.02; done'";

/// How often each numbered message stands in what the agent wrote down.
fn read(dir: &Path) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(dir.join("read.txt")).unwrap_or_default();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        if let Some((_, body)) = line.rsplit_once(": ") {
            *counts.entry(body.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// The texts that a journal holds, each with whether it is settled.
fn held(dir: &Path) -> BTreeMap<String, bool> {
    let (code, out, err) = run(dir, &["journal", "show", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let (mut texts, mut held) = (BTreeMap::new(), BTreeMap::new());
    let lines: Vec<Value> = (out.lines().rev())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for line in &lines {
        let record = &line["record"];
        if record["t"] == "accepted" {
            let text = |key: &str| {
                record["delivery"][key]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            texts.insert(text("id"), text("body"));
            held.insert(text("body"), false);
        }
        if record["t"] == "settled" {
            let id = record["id"].as_str().unwrap_or_default();
            held.insert(texts[id].clone(), true);
        }
    }
    held
}

#[test]
fn a_backup_taken_under_traffic_goes_on_elsewhere_and_loses_and_doubles_nothing_it_holds() {
    let (home, other) = (Scratch::new(), Scratch::new());
    let node = Node::up(home.path(), &["--agent", READER]);
    node.ready("ada");
    let id = node.get("/api/session")["node_id"].clone();
    let token = node.engine.register("writer");
    let (posted, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let count = || posted.lock().expect("no panics").len();
    let many = |n| until("traffic", || (count() >= n).then_some(()));
    let backup = other.path().join(".relay-broker");
    let before = std::thread::scope(|threads| {
        threads.spawn(|| {
            for n in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let text = format!("m-{n:04}");
                match n % 2 {
                    0 => drop(node.engine.dm(&token, "ada", &text)),
                    _ => {
                        let body = json!({"to": "ada", "text": text, "from": "writer"});
                        let (status, body) = node.call("POST", "/api/send", Some(body));
                        assert_eq!(status, 200, "{body}");
                    }
                }
                posted.lock().expect("no panics").push(text);
            }
        });
        many(80);
        let before = count();
        let args = ["backup", backup.to_str().expect("text"), "--json"];
        let (code, out, err) = run(home.path(), &args);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let facts: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((&facts["running"], &facts["node_id"]), (&json!(true), &id));
        many(before + 40);
        over.store(true, Ordering::Relaxed);
        before
    });
    node.process.kill9();
    let settled: Vec<String> = (held(other.path()).into_iter())
        .filter_map(|(text, settled)| settled.then_some(text))
        .collect();
    let held_at_least = posted.lock().expect("no panics")[..before].to_vec();
    assert!(
        !settled.is_empty() && settled.len() < held_at_least.len(),
        "some were waiting"
    );

    let node = Node::up(other.path(), &["--agent", READER]);
    assert_eq!(node.get("/api/session")["node_id"], id, "another node");
    node.engine.dm(&token, "ada", "afterwards");
    until("all that was held and what came later", || {
        let now = held(other.path());
        let done = |text: &String| now.get(text) == Some(&true);
        (held_at_least.iter().all(done) && done(&"afterwards".to_owned())).then_some(())
    });
    let seen = read(other.path());
    let doubled: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "read twice: {doubled:?}");
    let again: Vec<_> = settled
        .iter()
        .filter(|text| seen.contains_key(*text))
        .collect();
    assert!(
        again.is_empty(),
        "settled in the backup, and read again: {again:?}"
    );
    assert_eq!(seen.get("afterwards"), Some(&1));
    // What had landed at the moment of the copy, and was not settled yet, is settled without being typed again.
    let landed = read(home.path());
    let lost = |text: &&String| !settled.contains(text) && !seen.contains_key(*text);
    let lost: Vec<_> = held_at_least.iter().filter(lost).collect();
    assert!(
        lost.iter().all(|text| landed.contains_key(*text)),
        "lost: {lost:?}"
    );
    assert!(
        lost.len() <= 1,
        "one agent reads one message at a time: {lost:?}"
    );
}

#[test]
fn a_backup_is_whole_or_not_there_and_never_written_over_another() {
    let (home, other) = (Scratch::new(), Scratch::new());
    let to = other.path().join("kept");
    let path = to.to_str().expect("text").to_owned();
    let (code, _, err) = run(home.path(), &["backup", &path]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there is no .relay-broker in"), "{err}");
    let node = Node::up(home.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    assert_eq!(node.process.stop(), Some(0));
    let (code, out, err) = run(home.path(), &["backup", &path]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("0 messages wait, 0 are dead letters"), "{out}");
    let (code, _, err) = run(home.path(), &["backup", &path]);
    assert_eq!(code, Some(73));
    assert!(err.contains("is not empty"), "{err}");
    for inside in [
        ".relay-broker",
        ".relay-broker/kept",
        ".relay-broker/journal/kept",
    ] {
        let (code, _, err) = run(home.path(), &["backup", inside]);
        assert_eq!(code, Some(73), "{inside}: {err}");
        assert!(err.contains("is in the state folder"), "{err}");
        assert!(err.contains("name a folder elsewhere"), "{err}");
    }
    assert!(!home.path().join(".relay-broker/kept").exists());
    let check = |flag: &[&str]| {
        run(
            home.path(),
            &[&["--state-dir", &path, "journal", "check"], flag].concat(),
        )
    };
    assert_eq!((check(&[]).0, check(&["--engine"]).0), (Some(0), Some(0)));
    let names = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("a folder");
        let name = |e: std::fs::DirEntry| e.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.map(|e| name(e.expect("an entry"))).collect();
        names.sort();
        names
    };
    assert_eq!(names(other.path()), ["kept"], "a draft is left");
    let mut found = names(&to);
    // Notes of what agents have read may be there, and say nothing here.
    found.retain(|name| name != "landed");
    let holds = [
        "engine",
        "engine-address",
        "journal",
        "machine-id",
        "node-id",
        "node-tokens",
        "workspace.json",
    ];
    assert_eq!(found, holds);
    // A damaged journal is nothing to rely on.
    let journal = home.path().join(".relay-broker/journal/journal.1");
    let mut bytes = std::fs::read(&journal).expect("a journal");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&journal, bytes).expect("room");
    let path = other.path().join("damaged");
    let (code, _, err) = run(home.path(), &["backup", path.to_str().expect("text")]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("is damaged from byte"), "{err}");
    assert_eq!(names(other.path()), ["kept"]);
}
