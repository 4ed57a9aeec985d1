//! A hang-up signal: the operator's file is read again, and what a running broker can take over counts at once.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Node, Scratch, http, signal, until};

fn configure(folder: &Scratch, text: &str) {
    fs::write(folder.path().join("relay-broker.toml"), text).expect("a file");
}

fn log(folder: &Scratch) -> String {
    fs::read_to_string(folder.path().join("stderr.log")).unwrap_or_default()
}

/// Sends the signal and waits until the log says so once more.
fn reload(folder: &Scratch, node: &Node, said: &str) {
    let before = log(folder).matches(said).count();
    signal(node.process.pid(), "HUP");
    until(said, || {
        (log(folder).matches(said).count() > before).then_some(())
    });
}

const DONE: &str = "SIGHUP: harnesses, actions, profiles and the log level are read again";

/// What the engine lists as offered here.
fn offered(node: &Node) -> Vec<String> {
    let (status, nodes) = http(
        "GET",
        &format!("{}/v1/nodes", node.engine.url),
        &node.engine.key,
        None,
    );
    assert_eq!(status, 200, "{nodes}");
    let capabilities = nodes["data"][0]["capabilities"].as_array();
    let name = |c: &Value| c.as_str().or(c["name"].as_str()).map(str::to_owned);
    capabilities
        .into_iter()
        .flatten()
        .filter_map(name)
        .collect()
}

fn starts(node: &Node, name: &str, command: &str) -> (u16, Value) {
    let body = json!({"name": name, "cli": command});
    node.call("POST", "/api/spawn", Some(body))
}

#[test]
fn harnesses_actions_and_the_log_level_of_the_file_count_after_a_hang_up_and_agents_go_on() {
    let folder = Scratch::new();
    configure(
        &folder,
        "[harness.one]\ncommand = \"cat\"\n[action.build]\ncommand = [\"true\"]\n",
    );
    let node = Node::up(folder.path(), &[]);
    assert_eq!(starts(&node, "ada", "one").0, 200);
    node.ready("ada");
    until("the old offers", || {
        let offers = offered(&node);
        (offers.contains(&"spawn:one".into()) && offers.contains(&"build".into())).then_some(())
    });
    assert_ne!(starts(&node, "bob", "two").0, 200);
    assert!(!log(&folder).contains(" TRACE "), "{}", log(&folder));
    configure(
        &folder,
        "[log]\nlevel = \"trace\"\n[harness.two]\ncommand = \"cat\"\n[action.test]\ncommand = [\"true\"]\n",
    );
    reload(&folder, &node, DONE);
    until("the new offers", || {
        let offers = offered(&node);
        let all = ["spawn:two", "test"]
            .iter()
            .all(|new| offers.iter().any(|o| o == new));
        let none = ["spawn:one", "build"]
            .iter()
            .all(|old| offers.iter().all(|o| o != old));
        (all && none).then_some(())
    });
    assert_eq!(starts(&node, "bob", "two").0, 200);
    node.ready("bob");
    node.ready("ada");
    until("finer lines", || {
        log(&folder).contains(" TRACE ").then_some(())
    });
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn a_file_that_cannot_be_meant_changes_nothing_and_is_told_of() {
    let folder = Scratch::new();
    configure(&folder, "[harness.one]\ncommand = \"cat\"\n");
    let node = Node::up(folder.path(), &[]);
    configure(
        &folder,
        "[harness.two]\ncommand = \"cat\"\ncolour = \"red\"\n",
    );
    reload(&folder, &node, "all settings stay as they are");
    let text = log(&folder);
    assert!(
        text.contains("relay-broker.toml:3: [harness.two] colour is not a key"),
        "{text}"
    );
    assert_eq!(starts(&node, "ada", "one").0, 200);
    configure(&folder, "[log]\nlevel = \"loud\"\n");
    reload(&folder, &node, "all settings stay as they are");
    assert!(log(&folder).contains("[log] level = \"loud\""));
    configure(&folder, "[harness.two]\ncommand = \"cat\"\n");
    reload(&folder, &node, DONE);
    assert_eq!(starts(&node, "bob", "two").0, 200);
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn what_counts_from_the_next_start_only_is_said() {
    let (theirs, ours) = (Scratch::new(), Scratch::new());
    let engine = Node::up(theirs.path(), &[]);
    let key = ours.path().join("key");
    fs::write(&key, &engine.engine.key).expect("room");
    let key = key.to_str().expect("text");
    let metrics = ours.path().join("metrics");
    fs::write(&metrics, "one").expect("room");
    let metrics = metrics.to_str().expect("text");
    let flags = ["--engine", &engine.engine.url, "--workspace-key-file", key];
    let node = Node::up(
        ours.path(),
        &[&flags[..], &["--metrics-key-file", metrics]].concat(),
    );
    reload(&ours, &node, DONE);
    assert!(!log(&ours).contains("counts from the next start"));
    fs::write(key, "rk_live_another").expect("room");
    fs::write(metrics, "two").expect("room");
    reload(&ours, &node, "counts from the next start");
    let text = log(&ours);
    let said = "the engine or its workspace key, the key of --metrics-key-file changed";
    assert!(
        text.contains(said) && !text.contains("rk_live_another"),
        "{text}"
    );
    assert_eq!(node.process.stop(), Some(0));
}
