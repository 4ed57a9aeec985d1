//! What supervisors ask a running broker: whether it works, and whether it can be given work.

use crate::support::{Node, Scratch, run, try_http, until};

/// The status of a probe that is asked without a key.
fn probe(node: &Node, path: &str) -> u16 {
    try_http("GET", &format!("{}{path}", node.api), "", None).map_or(0, |(status, _)| status)
}

#[test]
fn a_broker_is_ready_once_its_engine_and_agents_are_there_and_not_when_one_is_gone() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=sh -c 'read x'"]);
    until("readiness", || {
        (probe(&node, "/readyz") == 200).then_some(())
    });
    let health = |flag| run(folder.path(), &["health", flag]);
    assert_eq!(
        health("--ready"),
        (Some(0), "ready\n".into(), String::new())
    );
    assert_eq!(health("--live"), (Some(0), "alive\n".into(), String::new()));
    // A word ends its program.
    let (status, body) = node.call(
        "POST",
        "/api/send",
        Some(serde_json::json!({"to": "ada", "text": "go", "raw": true})),
    );
    assert_eq!(status, 200, "{body}");
    until("its end", || (probe(&node, "/readyz") == 503).then_some(()));
    let (code, out, err) = health("--ready");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.starts_with("relay-broker: the broker is not ready: agents: ") && !err.contains("ada"),
        "{err}"
    );
    let (code, out, _) = run(folder.path(), &["health", "--ready", "--json"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("\"failed\""), "{out}");
    assert_eq!(probe(&node, "/livez"), 200);
    let (code, _, err) = run(folder.path(), &["release", "ada"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(probe(&node, "/readyz"), 200, "nobody wants it any more");
}

#[test]
fn an_engine_that_goes_away_is_waited_for_as_long_as_the_operator_says_and_kills_nobody() {
    let (theirs, patient, strict) = (Scratch::new(), Scratch::new(), Scratch::new());
    let engine = Node::up(theirs.path(), &[]);
    let (url, key) = (engine.engine.url.clone(), engine.engine.key.clone());
    let flags = ["--engine", &url, "--workspace-key", &key, "--ready-grace"];
    let patient = Node::up(patient.path(), &[&flags[..], &["1h"]].concat());
    let strict = Node::up(strict.path(), &[&flags[..], &["0s"]].concat());
    for node in [&patient, &strict] {
        until("readiness", || {
            (probe(node, "/readyz") == 200).then_some(())
        });
    }
    assert_eq!(engine.process.stop(), Some(0));
    for node in [&patient, &strict] {
        until("the lost link", || {
            (node.get("/health")["nodeConnected"] == false).then_some(())
        });
        assert_eq!(probe(node, "/livez"), 200);
    }
    assert_eq!(probe(&patient, "/readyz"), 200);
    assert_eq!(probe(&strict, "/readyz"), 503);
}

#[test]
fn a_program_that_cannot_be_started_is_listed_with_the_reason_and_the_broker_is_not_ready() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=/no/such/program"]);
    let told = until("that it did not start", || {
        let (_, out, _) = run(folder.path(), &["agents"]);
        out.contains("ada ended").then_some(out)
    });
    assert!(
        told.contains("ada ended at ") && told.contains("\"/no/such/program\": no such file"),
        "{told}"
    );
    assert_eq!(probe(&node, "/readyz"), 503);
    assert_eq!(run(folder.path(), &["release", "ada"]).0, Some(0));
    until("readiness, as nobody wants it any more", || {
        (probe(&node, "/readyz") == 200).then_some(())
    });
}
