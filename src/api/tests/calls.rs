//! Calls: agents, messages, holds, pictures.

use super::*;

pub(super) fn spawned() -> local::Spawned {
    local::Spawned {
        generation: None,
        success: true,
        name: w1(),
        runtime: "pty".into(),
        model: None,
        session_id: None,
        pid: Some(42),
        pre_registered: true,
        warning: None,
    }
}

#[test]
fn an_agent_is_spawned_as_its_caller_says() {
    let w = world();
    let body = r#"{"name":"w1","cli":"cat","exitAfterTask":true,"agentResultSchema":{}}"#;
    let (call, status, body) = w.told(Ok(Reply::Spawned(spawned())), "POST", "/api/spawn", body);
    assert!(
        matches!(call, ApiCall::Spawn(r, _) if r.name == "w1" && r.cli.as_deref() == Some("cat") && r.exit_after_task
            && r.agent_result_schema == Some(json!({})))
    );
    assert_eq!(
        (status, &body["name"], &body["runtime"]),
        (200, &json!("w1"), &json!("pty"))
    );
    assert_eq!(body["warning"], Value::Null);
}

#[test]
fn a_spawn_that_fails_names_the_agent_and_the_reason() {
    let w = world();
    for (kind, code) in [
        (RefusalKind::NameTaken, "agent_already_exists"),
        (RefusalKind::SpawnFailed, "spawn_failed"),
    ] {
        let no = Err(Refusal::new(kind, "agent 'w1' already exists"));
        let (_, status, body) = w.told(no, "POST", "/api/spawn", r#"{"name":"w1"}"#);
        assert_eq!(status, 500);
        assert_eq!(body["success"], false);
        assert_eq!(body["name"], "w1");
        assert_eq!(body["error"], "agent 'w1' already exists");
        assert_eq!(body["code"], code);
    }
}

#[test]
fn a_spawn_that_cannot_be_meant_is_refused_before_anything_starts() {
    let w = world();
    for (body, expected) in [
        (r#"{"cli":"cat"}"#, (400, "invalid_request")),
        (r#"{"name":"","cli":"cat"}"#, (400, "invalid_request")),
        (r#"{"name":"a/b"}"#, (400, "invalid_request")),
        (r#"{"name":"w","args":"x"}"#, (400, "invalid_request")),
        (
            r#"{"name":"w","rows":60000,"cols":60000}"#,
            (400, "invalid_request"),
        ),
        (
            r#"{"name":"w","spawnMode":"odd"}"#,
            (400, "invalid_request"),
        ),
        (
            r#"{"name":"w","transport":"native"}"#,
            (400, "unsupported_runtime"),
        ),
        (
            r#"{"name":"w","harnessConfig":{"runtime":"headless","driver":"app_server"}}"#,
            (400, "unsupported_runtime"),
        ),
        (
            r#"{"name":"w","harnessConfig":{"runtime":"app_server"}}"#,
            (400, "unsupported_runtime"),
        ),
        ("[]", (400, "invalid_json")),
        ("{", (400, "invalid_json")),
        ("", (400, "invalid_json")),
    ] {
        let (status, code) = w.refusal("POST", "/api/spawn", body);
        assert_eq!((status, code.as_str()), expected, "{body}");
    }
}

#[test]
fn a_body_of_another_kind_is_refused() {
    let w = world();
    let mut r = request("POST", "/api/send", r#"{"to":"a","text":"x"}"#);
    r.headers[2].1 = "text/plain;charset=UTF-8".into();
    assert_eq!(w.send(&r).0, 415);
    r.headers[2].1 = "application/json; charset=utf-8".into();
    r.body = b"{\"to\":\"a\",\"text\":\"\xff\"}".to_vec();
    assert_eq!(w.send(&r).1["code"], "invalid_utf8");
    assert!(w.calls.is_empty());
}

#[test]
fn a_message_is_sent_and_one_that_cannot_be_is_refused_with_a_sentence() {
    let w = world();
    let sent = local::Sent {
        success: true,
        event_id: crate::ids::MsgId::new("http_1"),
        delivered: 1,
        local: true,
        relaycast_published: None,
        targets: vec!["w1".into()],
        workspace_id: None,
        workspace_alias: None,
        waits: None,
        suspended: false,
        steer_refused: false,
    };
    let body = r#"{"to":"w1","message":"hi"}"#;
    let (call, status, body) = w.told(Ok(Reply::Sent(sent)), "POST", "/api/send", body);
    assert!(matches!(call, ApiCall::Send(s) if s.text == "hi"));
    assert_eq!((status, &body["targets"]), (200, &json!(["w1"])));

    for body in [
        r#"{"text":"x"}"#,
        r#"{"to":"w1"}"#,
        r#"{"to":" ","text":"x"}"#,
        r#"{"to":"w1","text":""}"#,
        r#"{"to":"w1","text":"x","mode":"shout"}"#,
    ] {
        assert_eq!(
            w.refusal("POST", "/api/send", body),
            (400, "invalid_request".into()),
            "{body}"
        );
    }
    let long = json!({"to": "w1", "text": "x".repeat(1024 * 1024 + 1)}).to_string();
    assert_eq!(
        w.refusal("POST", "/api/send", &long),
        (413, "text_too_large".into())
    );
}

#[test]
fn each_refusal_has_its_status() {
    let w = world();
    for (kind, expected, retryable) in [
        (RefusalKind::Invalid, 400, false),
        (RefusalKind::UnknownAgent, 404, false),
        (RefusalKind::Full, 429, true),
        (RefusalKind::NotAtEngine, 404, false),
        (RefusalKind::Engine, 502, true),
        (RefusalKind::NoRoom, 503, true),
        (RefusalKind::Stopping, 503, true),
        (RefusalKind::Degraded, 503, true),
        (RefusalKind::Timeout, 504, true),
        (RefusalKind::Begun, 504, false),
    ] {
        let no = Err(Refusal::new(kind, "because"));
        let (_, status, body) = w.told(no, "POST", "/api/send", r#"{"to":"w1","text":"hi"}"#);
        assert_eq!((status, &body["error"]), (expected, &json!("because")));
        assert_eq!(body["retryable"], retryable);
    }
}

#[test]
fn an_agent_is_released_with_a_reason_or_without() {
    let w = world();
    let done = || Ok(Reply::Released { name: w1() });
    let (call, status, body) = w.told(done(), "DELETE", "/api/spawned/w1", "");
    assert_eq!(
        (status, body),
        (200, json!({"success": true, "name": "w1"}))
    );
    assert_eq!(
        call,
        ApiCall::Release {
            name: w1(),
            reason: None
        }
    );
    let (call, ..) = w.told(done(), "DELETE", "/api/spawned/w1", r#"{"reason":"done"}"#);
    assert!(matches!(call, ApiCall::Release { reason: Some(r), .. } if r == "done"));
    let no = Err(Refusal::new(RefusalKind::UnknownAgent, "no such agent"));
    assert_eq!(w.told(no, "DELETE", "/api/spawned/w2", "").1, 404);
    assert_eq!(
        w.refusal("DELETE", "/api/spawned/%23x", ""),
        (404, "agent_not_found".into())
    );
}

#[test]
fn messages_are_held_looked_at_and_let_go() {
    let w = world();
    let path = "/api/spawned/w1/delivery-mode";
    let hold = Ok(Reply::ModeChanged(local::ModeChanged {
        mode: DeliveryMode::ManualFlush,
        flushed: 0,
        matched: true,
        revision: "7".into(),
    }));
    let (call, _, body) = w.told(hold, "PUT", path, r#"{"mode":"manual_flush"}"#);
    assert_eq!(call, ApiCall::SetMode(w1(), DeliveryMode::ManualFlush));
    assert_eq!(
        body,
        json!({"mode": "manual_flush", "flushed": 0, "matched": true, "revision": "7"})
    );
    let held = || {
        Ok(Reply::Mode(local::ModeView {
            mode: DeliveryMode::ManualFlush,
            revision: "7".into(),
        }))
    };
    assert_eq!(
        w.told(held(), "GET", path, "").2,
        json!({"mode": "manual_flush", "revision": "7"})
    );
    let guarded =
        r#"{"mode":"manual_flush","expected_mode":"auto_inject","expected_revision":"6"}"#;
    let expected = ExpectedMode {
        mode: Some(DeliveryMode::AutoInject),
        revision: Some(6),
    };
    let (call, _, _) = w.told(held(), "PUT", path, guarded);
    assert_eq!(
        call,
        ApiCall::SwapMode(w1(), DeliveryMode::ManualFlush, expected)
    );
    for wrong in ["6", r#""6a""#, r#""""#, "-1", "true"] {
        let body = format!(r#"{{"mode":"manual_flush","expected_revision":{wrong}}}"#);
        assert_eq!(
            w.refusal("PUT", path, &body),
            (400, "invalid_revision".into())
        );
    }
    assert_eq!(
        w.refusal("PUT", path, r#"{"mode":"odd"}"#),
        (400, "invalid_mode".into())
    );
    assert_eq!(w.refusal("PUT", path, "{}"), (400, "invalid_mode".into()));

    let (_, _, body) = w.told(Ok(Reply::Flushed(3)), "POST", "/api/spawned/w1/flush", "");
    assert_eq!(body, json!({"flushed": 3}));
    let none = Ok(Reply::Pending(local::PendingList::default()));
    assert_eq!(
        w.told(none, "GET", "/api/spawned/w1/pending", "").2,
        json!({"pending": []})
    );
}

#[test]
fn a_picture_is_asked_for_in_two_formats() {
    let w = world();
    let path = "/api/spawned/w1/snapshot";
    for (query, wanted) in [
        ("", false),
        ("?format=plain", false),
        ("?format=ansi", true),
    ] {
        let answer = Ok(Reply::Snapshot(picture("x", 1)));
        let (call, status, body) = w.told(answer, "GET", &format!("{path}{query}"), "");
        assert_eq!(
            call,
            ApiCall::Snapshot {
                name: w1(),
                ansi: wanted
            }
        );
        assert_eq!((status, &body["cursor"]), (200, &json!([1, 1])));
    }
    let odd = format!("{path}?format=png");
    assert_eq!(w.refusal("GET", &odd, ""), (400, "invalid_format".into()));
}

#[test]
fn a_program_is_interrupted_by_either_path_and_it_is_said_why_not() {
    let w = world();
    for path in [
        "/api/spawned/w1/interrupt",
        "/api/agents/by-name/w1/interrupt",
    ] {
        let answer = Ok(Reply::Interrupted(local::Interrupted {
            success: true,
            name: w1(),
            interrupted: false,
            reason: Some("it rests".into()),
        }));
        let (call, status, body) = w.told(answer, "POST", path, "");
        assert_eq!((call, status), (ApiCall::Interrupt(w1()), 200));
        assert_eq!(body["reason"], "it rests");
    }
}

#[test]
fn wrong_paths_and_methods_are_told_apart() {
    let w = world();
    assert_eq!(
        w.refusal("GET", "/api/nothing", ""),
        (404, "not_found".into())
    );
    assert_eq!(
        w.refusal("DELETE", "/api/send", ""),
        (405, "method_not_allowed".into())
    );
    match respond(
        &w.api,
        &request("POST", "/api/spawned/w1/delivery-mode", "{}"),
    ) {
        HandlerOutcome::Respond(r) => assert!(r.headers.contains(&("allow", "GET, PUT".into()))),
        HandlerOutcome::Upgrade(_) => panic!("no socket was asked for"),
    }
    let no = Err(Refusal::new(RefusalKind::Unsupported, "it has only a menu"));
    let (call, status, body) = w.told(no, "POST", "/api/spawned/w1/model", r#"{"model":"m1"}"#);
    assert_eq!(call, ApiCall::SetModel(w1(), "m1".into()));
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("unsupported_operation"))
    );
    let names = r#"{"agents":[{"name":"w9","cli":"cat"}]}"#;
    let (call, _, body) = w.told(Ok(Reply::Queued(1)), "POST", "/api/preflight", names);
    assert_eq!(call, ApiCall::Preflight(vec![AgentName::new("w9")]));
    assert_eq!(body, json!({"queued": 1}));
}
