//! Several machines in one workspace, from the command line of one of them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Node, Process, Scratch, command, run, until};

/// An engine alone and two brokers that joined its workspace, `one` and `two`, each in a folder of its name.
fn two_nodes(folder: &Scratch) -> (Process, Node, Node) {
    let engine = Process::start(folder.path(), &["engine", "--listen", "127.0.0.1:0"]);
    let key = folder.path().join(".relay-broker/engine/workspace-key");
    let url = until("the engine's address", || {
        let said = std::fs::read_to_string(folder.path().join("stderr.log")).ok()?;
        let said = format!("{}\n{said}", engine.first_line);
        let from = said.split("http://").nth(1)?;
        let end = from.find(|c: char| c.is_whitespace() || c == ' ')?;
        Some(format!("http://{}", &from[..end]))
    });
    let up = |name: &str| {
        let dir = folder.path().join(name);
        std::fs::create_dir_all(&dir).expect("room");
        let key = key.to_string_lossy().into_owned();
        let args = [
            "--engine",
            &url,
            "--workspace-key-file",
            &key,
            "--name",
            name,
            "--harness",
            "cat",
            "--harness",
            name,
        ];
        let node = Node::up(&dir, &args);
        until("registered", || node.events("node_registered").pop());
        node
    };
    (engine, up("one"), up("two"))
}

fn json(dir: &Path, args: &[&str]) -> Value {
    let (code, out, err) = run(dir, args);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn the_nodes_of_a_workspace_are_listed_by_what_they_offer() {
    let folder = Scratch::new();
    let (_engine, one, _two) = two_nodes(&folder);
    let dir = folder.path().join("one");
    let names = |args: &[&str]| -> Vec<String> {
        let all = json(&dir, args);
        let nodes = all["nodes"].as_array().expect("a list").iter();
        nodes
            .map(|n| n["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names(&["nodes", "--json"]), ["one", "two"]);
    assert_eq!(
        names(&["nodes", "--capability", "spawn:two", "--json"]),
        ["two"]
    );
    let id = one.get("/api/session")["node_id"].clone();
    let shown = json(&dir, &["nodes", "--json"]);
    let mut rows = shown["nodes"].as_array().expect("a list").iter();
    let row = rows.find(|n| n["name"] == "one").expect("listed");
    assert_eq!((&row["id"], &row["node_id"]), (&id, &id));
    let (_, out, _) = run(&dir, &["nodes"]);
    assert!(
        out.contains("live") && out.contains("spawn:cat") && out.contains(" ago"),
        "{out}"
    );
    let (code, out, _) = run(&dir, &["nodes", "--capability", "spawn:nothing"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("no node offers that"), "{out}");
}

#[test]
fn an_agent_is_started_on_another_node_written_to_and_released_from_here() {
    let folder = Scratch::new();
    let (_engine, _one, two) = two_nodes(&folder);
    let dir = folder.path().join("one");
    let ask = |args: &[&str]| run(&dir, args);
    let (code, out, err) = ask(&["spawn", "far", "--on", "two", "--", "cat"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "far runs on two\n");
    two.ready("far");
    assert_eq!(ask(&["send", "far", "hello", "from", "one"]).0, Some(0));
    until("the message over there", || {
        two.events("delivery_verified").pop()
    });
    let (code, out, err) = ask(&["send", "far", "and again", "--wait"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("far: received on another node in "), "{out}");
    two.call(
        "PUT",
        "/api/spawned/far/delivery-mode",
        Some(serde_json::json!({"mode": "manual_flush"})),
    );
    let (code, out, err) = ask(&["send", "far", "held", "--wait", "--timeout", "1s"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("far has not read it yet"), "{err}");

    let (code, _, err) = ask(&["spawn", "far", "--on", "two", "--", "cat"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("spawn_agent_name_in_use"), "{err}");
    assert!(err.contains("relay-broker release far"), "{err}");
    let (code, _, err) = ask(&["spawn", "x", "--on", "nowhere", "--", "cat"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("no node is named 'nowhere'; there are: one, two"),
        "{err}"
    );
    let (code, _, err) = ask(&["spawn", "x", "--on", "two", "--", "no-such-program"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("capability_mismatch"), "{err}");
    let advice = "two offers spawn:cat, spawn:two: start its broker there with `relay-broker up --harness no-such-program`";
    assert!(err.contains(advice), "{err}");
    let (code, _, err) = ask(&["spawn", "x", "--on", "any", "--", "no-such-program"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("no live node offers spawn:no-such-program"),
        "{err}"
    );

    assert_eq!(ask(&["release", "far"]).1, "far is released\n");
    until("far to be gone", || {
        two.agent("far").is_none().then_some(())
    });
    let (code, _, err) = ask(&["release", "nobody"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("no agent is named 'nobody' (no agents run here)"),
        "{err}"
    );
}

#[test]
fn an_agent_for_any_node_goes_to_the_one_with_the_least_to_do() {
    let folder = Scratch::new();
    let (_engine, one, two) = two_nodes(&folder);
    let dir = folder.path().join("one");
    one.spawn("busy", &["cat"]);
    let (code, out, err) = run(&dir, &["spawn", "free", "--on", "any", "--", "cat"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "free runs on two\n");
    two.ready("free");
    let (code, _, _) = run(&dir, &["spawn", "here", "--on", "self", "--", "cat"]);
    assert_eq!(code, Some(0));
    one.ready("here");
}

#[test]
fn an_agent_on_another_node_is_waited_for_as_far_as_that_can_be_known() {
    let folder = Scratch::new();
    let (_engine, _one, two) = two_nodes(&folder);
    let dir = folder.path().join("one");
    two.spawn("far", &["cat"]);
    let (code, out, err) = run(&dir, &["wait", "far", "--until", "idle", "--timeout", "1h"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    let told =
        "far runs on node two, not on this one; only its broker there knows whether it is idle";
    assert!(err.contains(told), "{err}");
    let (code, _, err) = run(
        &dir,
        &["wait", "far", "--until", "exit", "--timeout", "300ms"],
    );
    assert_eq!(code, Some(1));
    assert!(
        err.contains("far runs on node two still, after 300ms"),
        "{err}"
    );
    let mut waiting = command(&dir, &["wait", "far", "--until", "exit", "--timeout", "1m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut begun = String::new();
    let told = waiting.stderr.take().expect("piped");
    BufReader::new(told).read_line(&mut begun).expect("text");
    assert!(
        begun.contains("waiting for the engine to say that it ended"),
        "{begun}"
    );
    let (status, body) = two.call("DELETE", "/api/spawned/far", None);
    assert_eq!(status, 200, "{body}");
    let out = waiting.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0));
    let out = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.starts_with("far runs nowhere any more"), "{out}");
}

#[test]
fn a_node_that_is_gone_for_good_is_taken_off_the_list_and_one_that_lives_is_not() {
    let folder = Scratch::new();
    let (_engine, one, two) = two_nodes(&folder);
    let dir = folder.path().join("one");
    one.spawn("ada", &["cat"]);
    let names = |args: &[&str]| -> Vec<String> {
        let all = json(&dir, args);
        let nodes = all["nodes"].as_array().expect("a list").iter();
        let names = nodes.map(|n| n["name"].as_str().expect("a name").to_owned());
        names.collect()
    };
    let direct = |names: &[String]| names.iter().any(|name| name.starts_with("direct-"));
    assert_eq!(names(&["nodes", "--json"]), ["one", "two"]);
    let all = names(&["nodes", "--all", "--json"]);
    assert!(direct(&all), "{all:?}");
    let (_, shown, _) = run(&dir, &["nodes"]);
    assert!(
        !shown.contains("direct-") && !shown.contains("away"),
        "{shown}"
    );
    let (_, shown, _) = run(&dir, &["nodes", "--all"]);
    assert!(shown.contains("direct-"), "{shown}");

    let rm = |name: &str| run(&dir, &["nodes", "rm", name, "--json"]);
    let refused = |name: &str, word: &str| {
        let (code, out, err) = rm(name);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(
            err.contains(&format!("{{\"error\":{{\"code\":\"{word}\"")),
            "{err}"
        );
    };
    refused("two", "node_in_use");
    refused("three", "node_not_found");
    let client = all.iter().find(|name| name.starts_with("direct-"));
    refused(client.expect("one"), "node_in_use");
    assert_eq!(two.process.stop(), Some(0));
    until("two to be offline", || {
        let (_, shown, _) = run(&dir, &["nodes"]);
        let row = shown.lines().find(|row| row.starts_with("two "))?;
        row.contains("offline").then_some(())
    });
    let (code, out, err) = rm("two");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let facts: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&facts["name"], &facts["removed"]),
        (&"two".into(), &true.into())
    );
    assert_eq!(names(&["nodes", "--json"]), ["one"]);
    assert_eq!(run(&dir, &["agents"]).0, Some(0), "the others go on");
}
