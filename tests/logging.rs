//! The log: where it goes, what its lines look like, and what signals do about it.

use std::fs;
use std::path::Path;

use relay_broker::sys::session::alive;
use serde_json::{Value, json};

use crate::delivering::keeper;
use crate::support::{Engine, Node, Process, Scratch, command, run, script, signal, until};

/// Whether a line begins with a time such as `2026-06-28T10:00:00.000Z`.
fn has_time(line: &str) -> bool {
    let shape: String = line
        .chars()
        .take(24)
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape == "0000-00-00T00:00:00.000Z"
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn every_line_that_is_not_for_a_terminal_has_its_time() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    assert_eq!(node.process.stop(), Some(0));
    let log = read(&folder.path().join("stderr.log"));
    assert!(log.lines().count() > 5, "{log}");
    for line in log.lines() {
        assert!(has_time(line), "{line}");
    }
}

#[test]
fn a_log_file_that_is_moved_away_is_begun_anew_at_a_hang_up_which_ends_nothing() {
    let folder = Scratch::new();
    let (log, old) = (folder.path().join("log"), folder.path().join("log.1"));
    let node = Node::up(folder.path(), &["--log-file", "log", "--agent", "ada=cat"]);
    node.ready("ada");
    assert!(read(&log).contains("engine"), "{}", read(&log));
    assert_eq!(read(&folder.path().join("stderr.log")), "");
    fs::rename(&log, &old).expect("ours");
    signal(node.process.pid(), "HUP");
    until("a new file", || read(&log).contains("SIGHUP").then_some(()));
    assert!(!read(&old).contains("SIGHUP"));
    assert!(alive(node.process.pid()));
    node.ready("ada");
    assert_eq!(node.process.stop(), Some(0));
    assert!(read(&log).ends_with("stopped\n"));
}

#[test]
fn who_asks_by_signal_how_things_stand_is_told_in_the_log() {
    let folder = Scratch::new();
    let mut node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    let log = folder.path().join("stderr.log");
    let told = |times| {
        until("the state of things", || {
            let log = read(&log);
            let agents = log.matches("status: agent ada: ready").count();
            (agents == times && log.contains("1 agents, 0 messages wait")).then_some(())
        });
    };
    signal(node.process.pid(), "USR1");
    told(1);
    node.get("/api/status");
    signal(node.process.pid(), "QUIT");
    told(2);
    let code = until("its end", || {
        node.process.ended().then(|| node.process.code())
    });
    assert_eq!(code, Some(0));
}

#[test]
fn a_level_on_the_command_line_wins_over_the_variable() {
    let folder = Scratch::new();
    let lines = |args: &[&str]| {
        let log = folder.path().join("stderr.log");
        let _ = fs::remove_file(&log);
        let node = Node::up_in(folder.path(), args, &[("RUST_LOG", "debug")]);
        assert_eq!(node.process.stop(), Some(0));
        read(&log).matches(" DEBUG ").count()
    };
    assert!(lines(&[]) > 0);
    assert_eq!(lines(&["--log-level", "warn"]), 0);
}

#[test]
fn a_log_file_that_cannot_be_written_ends_the_start_and_a_failed_start_speaks_on_standard_error_too()
 {
    let folder = Scratch::new();
    let out = command(folder.path(), &["up", "--log-file", "no/such/folder/log"]).output();
    let out = out.expect("it starts");
    assert_eq!(out.status.code(), Some(73));
    let node = Node::up(folder.path(), &[]);
    let out = command(folder.path(), &["up", "--log-file", "log"]).output();
    let out = out.expect("it starts");
    assert_eq!(out.status.code(), Some(75));
    for said in [
        String::from_utf8_lossy(&out.stderr).into_owned(),
        read(&folder.path().join("log")),
    ] {
        assert!(said.contains("another broker instance"), "{said}");
    }
    assert_eq!(node.process.stop(), Some(0));
}

/// Every line of a log as the JSON that it is.
fn lines(log: &str) -> Vec<Value> {
    let parse = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(value[key].is_string(), "{key}: {line}");
        }
        assert!(
            has_time(value["timestamp"].as_str().unwrap_or_default()),
            "{line}"
        );
        value
    };
    log.lines().map(parse).collect()
}

/// A line about the event, and about that agent and message where they are named.
fn is_about(line: &Value, event: &str, agent: &str, message: &str) -> bool {
    let is = |key: &str, value: &str| value.is_empty() || line[key] == value;
    is("event", event) && is("agent", agent) && is("message_id", message)
}

/// What happens to a broker and its agents, from the first line to the last, with an engine that goes away. Gives the id of
/// a message that arrives and of one that is held up.
fn whole_life(node: &mut Node, engine: &Engine, process: Process, folder: &Path) -> [String; 2] {
    let boss = engine.register("boss");
    let [sh, c, keeps] = keeper("kept");
    node.spawn("ada", &[&sh, &c, &keeps]);
    let arrives = engine.dm(&boss, "ada", "hello");
    until("a message", || node.events("delivery_verified").pop());
    for mode in ["manual_flush", "auto_inject"] {
        let path = "/api/spawned/ada/delivery-mode";
        assert_eq!(node.call("PUT", path, Some(json!({ "mode": mode }))).0, 200);
    }
    let claude = script(folder, "claude", ASKS);
    let body = json!({"name": "bob", "harness_config": {"command": claude}});
    assert_eq!(node.call("POST", "/api/spawn", Some(body)).0, 200);
    until("a dialog", || node.events("agent_blocked").pop());
    let held_up = engine.dm(&boss, "bob", "hello");
    until("a message that is held up", || {
        node.events("delivery_blocked").pop()
    });
    assert_eq!(run(folder, &["restart", "ada"]).0, Some(0));
    node.ready("ada");
    assert_eq!(run(folder, &["release", "ada"]).0, Some(0));
    drop(process);
    until("an engine that is away", || {
        (node.get("/health")["nodeConnected"] == false).then_some(())
    });
    signal(node.process.pid(), "HUP");
    let log = folder.join("stderr.log");
    until("a reload", || {
        read(&log).contains("\"reloaded\"").then_some(())
    });
    [arrives, held_up]
}

/// Asks as Claude Code does whether a folder is to be trusted.
const ASKS: &str = "stty raw -echo; \
     printf '\\033[?2004hQuick safety check: is it yours?\\r\\n\\r\\n \u{276f} 1. Yes, I trust this folder\\r\\n'; \
     printf '   2. No, exit\\r\\n\\r\\n Enter to confirm\\033[3;2H'; exec cat >/dev/null";

#[test]
fn every_line_of_a_whole_life_is_json_with_fields_for_event_agent_and_message() {
    let folder = Scratch::new();
    let alone = folder.path().join("engine");
    fs::create_dir(&alone).expect("room");
    let process = Process::start(&alone, &["engine", "--listen", "127.0.0.1:0", "--dir", "e"]);
    let url = process.first_line.split_whitespace().last();
    let engine = Engine {
        url: url.expect("a URL").to_owned(),
        key: read(&alone.join("e/workspace-key")).trim().to_owned(),
    };
    let flags = ["--engine", &engine.url, "--workspace-key", &engine.key];
    let json_lines = ["--log-format", "json", "--log-level", "debug"];
    let mut node = Node::up(folder.path(), &[&flags[..], &json_lines].concat());
    let [arrives, held_up] = whole_life(&mut node, &engine, process, folder.path());
    assert_eq!(node.process.stop(), Some(0));
    let told = lines(&read(&folder.path().join("stderr.log")));
    for (event, agent, message) in [
        ("node_registered", "", ""),
        ("agent_spawned", "ada", ""),
        ("worker_ready", "ada", ""),
        ("delivery_verified", "ada", &*arrives),
        ("agent_inbound_delivery_mode_changed", "ada", ""),
        ("agent_blocked", "bob", ""),
        ("delivery_blocked", "bob", &*held_up),
        ("agent_exited", "ada", ""),
        ("agent_releasing", "ada", ""),
        ("agent_released", "ada", ""),
        ("node_link", "", ""),
        ("reloaded", "", ""),
        ("broker_stopping", "", ""),
        ("broker_stopped", "", ""),
    ] {
        let found = told
            .iter()
            .any(|line| is_about(line, event, agent, message));
        assert!(found, "{event} {agent} {message}: {told:#?}");
    }
    for line in &told {
        let text = line["message"].as_str().unwrap_or_default();
        for (id, key) in [
            (&*arrives, "message_id"),
            (&*held_up, "message_id"),
            ("agent ada", "agent"),
        ] {
            assert!(!text.contains(id) || line[key].is_string(), "{key}: {line}");
        }
    }
}

#[test]
fn a_start_that_fails_says_so_in_json_from_its_first_line_to_its_last() {
    let folder = Scratch::new();
    fs::write(folder.path().join("wrong.toml"), "[nonsense").expect("room");
    let here = folder.path().to_str().expect("text");
    for (args, exit) in [
        (&["--nonsense"][..], 2),
        (&["--config", "wrong.toml"], 78),
        (&["--log-file", "/proc/nowhere/log"], 73),
        (&["--state-dir", "/dev/null/state"], 73),
        (
            &[
                "--engine",
                "http://127.0.0.1:1",
                "--workspace-key",
                "rk_live_0",
            ],
            69,
        ),
        (
            &[
                "--detach",
                "--engine",
                "http://127.0.0.1:1",
                "--workspace-key",
                "rk_live_0",
            ],
            69,
        ),
    ] {
        for format in [&["--log-format", "json"][..], &["--log-format=json"]] {
            let up = [&["up"], format, args].concat();
            let out = command(folder.path(), &up).output().expect("it starts");
            let said = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.status.code(), Some(exit), "{up:?} in {here}: {said}");
            let lines = lines(&said);
            let last = lines.last().unwrap_or_else(|| panic!("no word: {up:?}"));
            assert!(is_about(last, "broker_failed", "", ""), "{last}");
        }
    }
}
