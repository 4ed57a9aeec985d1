//! A person at the command line: what is asked, what is answered, and with which exit code.

use std::process::Stdio;

use serde_json::Value;

use crate::support::{Node, Scratch, command, run, script, until};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_message_can_be_sent_and_waited_for() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    let ask = |args: &[&str]| run(folder.path(), args);

    let (code, out, err) = ask(&["send", "ada", "hello", "there", "--wait"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("queued for ada (message "), "{out}");
    assert!(out.contains("ada: verified by echo in "), "{out}");
    let (_, shown, _) = ask(&["snapshot", "ada"]);
    assert!(shown.contains("]: hello there"), "{shown}");

    let (_, out, _) = ask(&["agents"]);
    assert!(out.contains("ada") && out.contains("ready/"), "{out}");
    let (code, out, _) = ask(&["status", "--json"]);
    assert_eq!(code, Some(0));
    assert_eq!(json(&out)["counters"]["deliveries_verified"], 1);
    let (code, out, _) = ask(&["health"]);
    assert_eq!((code, out.trim()), (Some(0), "ok"));
}

#[test]
fn a_stopped_broker_is_told_to_be_unwell_soon_and_how_it_goes_on() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let pid = node.process.pid();
    crate::support::signal(pid, "STOP");
    let asked = [&["health"][..], &["health", "--live"], &["stop"]];
    let asked = asked.map(|args| run(folder.path(), args));
    crate::support::signal(pid, "CONT");
    for (code, out, err) in asked {
        assert_eq!((code, out.as_str()), (Some(1), ""));
        for part in ["is there and does not answer within 4s", "kill -CONT"] {
            assert!(err.contains(part), "{err}");
        }
    }
    let well = || (run(folder.path(), &["health"]).1 == "ok\n").then_some(());
    until("good health once it goes on", well);
}

#[test]
fn held_messages_are_listed_and_typed_when_asked_for() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    let ask = |args: &[&str]| run(folder.path(), args);

    assert_eq!(ask(&["hold", "ada"]).0, Some(0));
    let (code, _, err) = ask(&["send", "ada", "later", "--wait", "--timeout", "200ms"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("not verified within 200ms: ada's messages are held"),
        "{err}"
    );
    let (_, out, _) = ask(&["pending", "ada"]);
    assert!(out.contains("later"), "{out}");
    assert_eq!(ask(&["flush", "ada"]).1, "1 message handed on\n");
    until("the held message in the terminal", || {
        ask(&["snapshot", "ada"])
            .1
            .contains("]: later")
            .then_some(())
    });
    assert_eq!(ask(&["pending", "ada"]).1, "nothing waits for ada\n");
}

/// D6, N27: whoever writes to an agent that is not here is told so, can see the message, and hears of its end.
#[test]
fn a_message_for_an_agent_that_does_not_run_is_seen_until_it_is_a_dead_letter() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--message-ttl", "4s"]);
    node.spawn("eve", &["cat"]);
    node.ready("eve");
    let ask = |args: &[&str]| run(folder.path(), args);
    assert_eq!(ask(&["release", "eve"]).0, Some(0));

    let (code, out, _) = ask(&["send", "eve", "later"]);
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with("eve does not run here; the message waits until 20"),
        "{out}"
    );
    let (_, out, _) = ask(&["pending", "eve"]);
    assert!(out.contains("later") && out.contains("engine"), "{out}");
    until("the end of its time", || {
        let (_, out, _) = ask(&["dead"]);
        out.contains("nobody came within 4s to read it")
            .then_some(())
    });
    assert_eq!(ask(&["pending", "eve"]).1, "nothing waits for eve\n");
    assert_eq!(node.events("dead_letter_added").len(), 1);
    node.spawn("eve", &["cat"]);
    node.ready("eve");
    assert_eq!(ask(&["redeliver", "--all"]).0, Some(0));
    until("the message in the terminal", || {
        ask(&["snapshot", "eve"])
            .1
            .contains("]: later")
            .then_some(())
    });
}

#[test]
fn agents_come_and_go_by_command() {
    let folder = Scratch::new();
    let _node = Node::up(folder.path(), &[]);
    let ask = |args: &[&str]| run(folder.path(), args);

    let (code, out, _) = ask(&["spawn", "eve", "--json", "--", "sh", "-c", "pwd; exec cat"]);
    assert_eq!(code, Some(0));
    assert_eq!(json(&out)["name"], "eve");
    let here = folder
        .path()
        .file_name()
        .and_then(|n| n.to_str())
        .expect("a name");
    until("the folder the command was given in", || {
        ask(&["snapshot", "eve"]).1.contains(here).then_some(())
    });
    let (code, _, err) = ask(&["spawn", "bad", "--", "/no/such/program"]);
    assert_eq!(code, Some(1));
    assert!(
        err.starts_with("relay-broker: ") && err.contains("/no/such/program"),
        "{err}"
    );
    assert_eq!(ask(&["release", "eve"]).0, Some(0));
    let (code, _, err) = ask(&["release", "eve"]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert!(
        err.contains("'eve' runs on no node") && err.contains("relay-broker spawn eve"),
        "{err}"
    );
    assert!(!err.contains("409"), "{err}");
}

#[test]
fn events_can_be_read_and_continued() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    let (code, out, _) = run(folder.path(), &["events", "--json"]);
    assert_eq!(code, Some(0));
    let events: Vec<Value> = out.lines().map(json).collect();
    assert!(events.iter().any(|e| e["kind"] == "worker_ready"), "{out}");
    let last = events.last().expect("some")["seq"].to_string();
    let (_, out, _) = run(folder.path(), &["events", "--json", "--since", &last]);
    assert_eq!(out, "");
}

#[test]
fn the_variables_for_an_sdk_open_the_workspace() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let (_, out, _) = run(folder.path(), &["env"]);
    let expected = format!(
        "export RELAY_BASE_URL={} RELAY_WORKSPACE_KEY={}\n",
        node.engine.url, node.engine.key
    );
    assert_eq!(out, expected);
    assert!(!node.engine.register("somebody").is_empty());
}

/// N35, D2: from the command line, of an agent that ended by itself; and a stop says what it keeps.
#[test]
fn what_an_ended_agent_left_is_released_and_what_a_stop_keeps_is_said() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat", "--agent", "bob=cat"]);
    for name in ["ada", "bob"] {
        node.ready(name);
        assert_eq!(run(folder.path(), &["hold", name]).0, Some(0));
        assert_eq!(run(folder.path(), &["send", name, "hello"]).0, Some(0));
    }
    let pid = node.agent("ada").expect("runs")["pid"]
        .as_u64()
        .expect("a number");
    crate::support::signal(u32::try_from(pid).expect("a pid"), "KILL");
    until("the end of ada", || {
        node.agent("ada").is_none().then_some(())
    });
    let (_, out, _) = run(folder.path(), &["agents"]);
    assert!(
        out.contains("ada ended at ") && out.contains("a message waits for it"),
        "{out}"
    );
    let (code, out, err) = run(folder.path(), &["release", "ada"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "ada is released\n"),
        "{err}"
    );
    let (_, out, _) = run(folder.path(), &["dead"]);
    assert!(out.contains("ada"), "{out}");
    assert!(!run(folder.path(), &["agents"]).1.contains("ada ended"));
    let (code, out, _) = run(folder.path(), &["stop"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        "stopped; a message for bob is kept for the next start\n"
    );
}

#[test]
fn stop_ends_the_broker_and_then_there_is_none() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    assert!(
        node.process
            .first_line
            .starts_with("[agent-relay] API listening on http://127.0.0.1:")
    );
    // The broker is this test's child, so it stays a zombie until it is asked about; that counts as gone.
    let (code, out, err) = run(folder.path(), &["stop"]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (Some(0), "stopped\n", "")
    );
    let (code, _, err) = run(folder.path(), &["agents"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("no broker is running here; start one with `relay-broker up`"),
        "{err}"
    );
}

#[test]
fn a_broker_that_was_killed_is_called_gone_and_a_second_one_is_refused() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let (code, _, err) = run(folder.path(), &["up"]);
    assert_eq!(code, Some(75));
    let text = format!(
        "another broker instance is already running in this directory (pid: {}, ",
        node.process.pid()
    );
    assert!(err.contains(&text), "{err}");
    node.process.kill9();
    let (code, _, err) = run(folder.path(), &["status"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("has ended without a goodbye"), "{err}");
}

#[test]
fn what_cannot_be_meant_ends_with_2_and_one_line() {
    let folder = Scratch::new();
    for (args, word) in [
        (
            &["sned", "ada", "hi"][..],
            "similar subcommand exists: 'send'",
        ),
        (
            &["up", "--engine", "http://127.0.0.1:1"],
            "RELAY_WORKSPACE_KEY",
        ),
        (&["up", "--workspace-key", "nonsense"], "starts with rk_"),
        (&["up", "--agent", "ada"], "NAME=CMD"),
    ] {
        let (code, out, err) = run(folder.path(), args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
        assert!(
            err.starts_with("relay-broker: ") && err.contains(word),
            "{err}"
        );
    }
    assert_eq!(run(folder.path(), &["--help"]).0, Some(0));
}

#[test]
fn help_and_version_are_json_where_json_is_asked_for() {
    let folder = Scratch::new();
    for (words, key) in [
        (&["--json", "--version"][..], "version"),
        (&["--json", "--help"], "help"),
        (&["--json", "help"], "help"),
        (&["up", "--help", "--json"], "help"),
    ] {
        let (code, out, err) = run(folder.path(), words);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}");
        let said: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert!(said[key].is_string(), "{words:?}: {out}");
    }
}

#[test]
fn a_message_that_the_engine_does_not_know_is_not_found_and_no_fault_of_the_engine() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let (status, body) = node.call("GET", "/api/messages/none/readers", None);
    assert_eq!(
        (status, &body["code"]),
        (404, &"not_found".into()),
        "{body}"
    );
    assert_eq!(body["retryable"], false, "{body}");
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn help_that_cannot_be_written_is_a_failure_and_help_that_nobody_reads_to_its_end_is_none() {
    let folder = Scratch::new();
    for asked in ["--help", "--version"] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let out = command(folder.path(), &[asked])
            .stdout(full.expect("a device that is always full"))
            .output()
            .expect("the program starts");
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{asked}: {err}");
        assert!(err.contains("cannot write to standard output"), "{err}");

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let out = command(folder.path(), &[asked])
            .stdout(writer)
            .output()
            .expect("the program starts");
        assert_eq!(out.status.code(), Some(0), "{asked}");
        assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    }
}

#[test]
fn the_demo_loses_and_doubles_nothing() {
    let folder = Scratch::new();
    let (code, out, err) = run(folder.path(), &["demo", "--json"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let steps: Vec<Value> = out.lines().map(json).collect();
    let verdict = steps.last().expect("steps");
    assert_eq!(
        (&verdict["step"], &verdict["ok"]),
        (&"verdict".into(), &true.into())
    );
    assert_eq!(verdict["sent"], verdict["read"]);
    for step in [
        "registered",
        "journalled",
        "typed",
        "verified",
        "acknowledged",
        "killed",
        "typed-again",
    ] {
        assert!(
            steps.iter().any(|s| s["step"] == step),
            "{step} is missing: {out}"
        );
    }
}

#[test]
fn a_demo_that_nobody_watches_to_its_end_leaves_nothing_behind_and_claims_nothing() {
    use std::io::{BufRead, BufReader};
    for lines in 1..=4 {
        let folder = Scratch::new();
        let mut demo = command(folder.path(), &["demo", "--json"])
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let out = BufReader::new(demo.stdout.take().expect("piped"));
        assert_eq!(out.lines().take(lines).count(), lines);
        assert_eq!(demo.wait().expect("ours").code(), Some(1));
        let left: Vec<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let broker = folder.path().to_string_lossy().into_owned();
        until("its broker to be gone", || {
            let runs = std::fs::read_dir("/proc")
                .expect("processes")
                .flatten()
                .any(|process| {
                    std::fs::read(process.path().join("cmdline"))
                        .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&broker))
                });
            (!runs).then_some(())
        });
    }
}

#[test]
fn a_script_can_wait_for_what_an_agent_does() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let wait = |name: &str, state: &str, timeout: &str| {
        run(
            folder.path(),
            &["wait", name, "--until", state, "--timeout", timeout],
        )
    };

    let (code, out, err) = wait("nobody", "exit", "30s");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("no agent is named 'nobody'") && err.contains("ever ran on this broker"),
        "{err}"
    );
    let (code, _, err) = wait("ada", "ready", "100ms");
    assert_eq!(code, Some(1));
    assert!(
        err.contains("no agent named ada runs on this broker") && err.contains("waited 100ms"),
        "{err}"
    );

    let body = serde_json::json!({
        "name": "ada", "idle_threshold_secs": 1,
        "harness_config": {"command": "sh", "args": ["-c", "sleep 1; exec cat"]},
    });
    assert_eq!(node.call("POST", "/api/spawn", Some(body)).0, 200);
    assert_eq!(
        wait("ada", "ready", "30s"),
        (Some(0), "ada is ready\n".into(), String::new())
    );
    assert_eq!(wait("ada", "ready", "0s").0, Some(0), "it is so already");
    assert_eq!(wait("ada", "idle", "30s").1, "ada is idle\n");
    let (code, _, err) = wait("ada", "exit", "100ms");
    assert_eq!(code, Some(1));
    assert!(
        err.contains("ada is still ready/idle within 100ms"),
        "{err}"
    );

    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait("ada", "exit", "30s"));
        assert_eq!(run(folder.path(), &["release", "ada"]).0, Some(0));
        assert_eq!(
            waiting.join().expect("no panic").1,
            "ada does not run on this broker\n"
        );
    });
    assert_eq!(wait("ada", "exit", "30s").0, Some(0), "it did run here");
}

#[test]
fn a_script_can_wait_for_an_agent_that_needs_a_person() {
    let folder = Scratch::new();
    // It takes pastes, and shows nothing of them.
    let deaf = "stty raw -echo\nprintf '\\033[?2004h->pty:ready'\nexec cat >/dev/null";
    let deaf = script(folder.path(), "deaf", deaf);
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &[&deaf]);
    assert_eq!(run(folder.path(), &["send", "ada", "hello"]).0, Some(0));
    let (code, out, err) = run(folder.path(), &["wait", "ada", "--until", "blocked"]);
    assert_eq!((code, out.as_str()), (Some(0), "ada is blocked\n"), "{err}");
    let agent = node.agent("ada").expect("it runs");
    assert_eq!(
        (&agent["phase"], &agent["current_state"]),
        (&"blocked".into(), &"blocked_on_send".into())
    );
    let blocked = &node.events("delivery_blocked")[0];
    assert!(
        blocked["reason"]
            .as_str()
            .is_some_and(|why| why.contains("Enter was not pressed")),
        "{blocked}"
    );
}
