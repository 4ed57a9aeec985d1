//! The API with a made-up dispatcher: calls without a socket, streams (in `streams.rs`) over loopback.

mod streams;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crossbeam_channel::{Receiver, unbounded};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::server::{Api, explain, respond};
use super::{ApiContext, BrokerLife, BrokerStage, SessionFacts};
use crate::ids::{AgentName, NodeId};
use crate::msg::{Answer, ApiCall, Published, Refusal, RefusalKind, Reply, Secret};
use crate::net::{HandlerOutcome, Request};
use crate::pubsub::{Latest, Topic};
use crate::registry::Registry;
use crate::sys::clock;
use crate::wire::event::DeliveryMode;
use crate::wire::local;

const KEY: &str = "br_key";

/// An API whose dispatcher answers what the test says.
struct World {
    api: Arc<Api>,
    answers: Arc<Mutex<Vec<Answer>>>,
    calls: Receiver<ApiCall>,
    stops: Receiver<()>,
}

fn world() -> World {
    let answers: Arc<Mutex<Vec<Answer>>> = Arc::default();
    let (called, calls) = unbounded();
    let (stop, stops) = unbounded();
    let theirs = answers.clone();
    let life = Arc::new(BrokerLife::new());
    life.set(BrokerStage::Running);
    let context = ApiContext {
        ask: Box::new(move |call, _| {
            called.send(call).expect("the test lives");
            let next = theirs.lock().pop();
            next.unwrap_or_else(|| Err(Refusal::new(RefusalKind::Timeout, "no answer was made up")))
        }),
        events: Arc::new(Topic::new(1000)),
        sidecars: Arc::default(),
        registry: Arc::new(Registry::default()),
        published: Arc::new(Latest::new(Published {
            node_id: NodeId::new("node_1"),
            node_name: "box".into(),
            workspace_id: Some("ws_1".into()),
            degraded: None,
            leave_by: None,
        })),
        session: SessionFacts {
            version: "1.2.3".into(),
            workspace_key: Secret::new("rk_live_x"),
            engine_url: "http://127.0.0.1:9".into(),
            node_token: Box::new(|| Some(Secret::new("nt_live_x"))),
            persist: true,
            started: clock::now().mono,
        },
        api_key: Secret::new(KEY),
        allowed_hosts: Vec::new(),
        stop: Box::new(move || stop.send(()).expect("the test lives")),
        pid: std::process::id(),
        life,
    };
    World {
        api: Arc::new(Api::new(context)),
        answers,
        calls,
        stops,
    }
}

/// A request with key and host; `target` may have a query.
fn request(method: &str, target: &str, body: &str) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    Request {
        method: method.into(),
        path: path.into(),
        query: pairs.map(|(k, v)| (k.into(), v.into())).collect(),
        headers: vec![
            ("host".into(), "127.0.0.1:3889".into()),
            ("x-api-key".into(), KEY.into()),
            ("content-type".into(), "application/json".into()),
        ],
        body: body.into(),
    }
}

impl World {
    fn send(&self, request: &Request) -> (u16, Value) {
        match respond(&self.api, request) {
            HandlerOutcome::Respond(r) => {
                let text = String::from_utf8(r.body).expect("text");
                let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
                (r.status, body)
            }
            HandlerOutcome::Upgrade(_) => (101, Value::Null),
        }
    }

    fn ask(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        self.send(&request(method, target, body))
    }

    /// Asks, with the dispatcher giving this answer; returns what it was asked too.
    fn told(
        &self,
        answer: Answer,
        method: &str,
        target: &str,
        body: &str,
    ) -> (ApiCall, u16, Value) {
        self.answers.lock().push(answer);
        let (status, body) = self.ask(method, target, body);
        let call = self.calls.try_recv().expect("the dispatcher was asked");
        (call, status, body)
    }

    /// Status and code of a refusal, after a look at its shape.
    fn refusal(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let (status, body) = self.ask(method, target, body);
        assert!(self.calls.is_empty(), "the dispatcher was not to be asked");
        assert_eq!(body["success"], false, "{body}");
        assert_eq!(body["statusCode"], status, "{body}");
        assert_eq!(body["error"], body["message"], "{body}");
        let code = body["code"].as_str().unwrap_or_default();
        (status, code.to_owned())
    }
}

fn w1() -> AgentName {
    AgentName::new("w1")
}

fn status() -> local::Status {
    let agent = json!({"name":"w1","runtime":"pty","provider":null,"cli":"cat","model":null,"sessionId":null,
        "team":null,"channels":["general"],"parent":"Dashboard","pid":std::process::id(),"workerPid":null,
        "last_activity_ms":5,"last_activity_at":"","context_budget_pct":null,"current_state":"idle",
        "pending_messages":0,"phase":"ready","agent_id":"7","mode":"auto_inject","uptime_secs":9});
    serde_json::from_value(json!({"agent_count":1,"agents":[agent],"pending_delivery_count":2,"pending_deliveries":[],
        "dead_letter_count":3,"auth":{},"node_connected":true,"node_delivery":{"token_present":true,"connected":true},
        "status":"ok","degraded_reason":null,"node_id":"node_1","node_name":"box","relay_base_url":"","version":"1",
        "pid":1,"uptime_secs":10,"last_engine_frame_secs":null,"oldest_pending_ms":null,
        "counters":{"agents_spawned":4,"agents_crashed":1,"deliveries_accepted":0,"deliveries_verified":0,
        "deliveries_unverified":0,"deliveries_dead":0,"engine_frames":0,"acks_sent":0,"link_losses":0}}))
    .expect("a whole status")
}

// ---- who may ask ------------------------------------------------------------------------------------------------

#[test]
fn nobody_without_the_key_learns_anything_but_health() {
    let w = world();
    let mut r = request("GET", "/api/session", "");
    r.headers.retain(|(n, _)| n != "x-api-key");
    let (status, body) = w.send(&r);
    assert_eq!(status, 401);
    assert_eq!(body["code"], "unauthorized");
    assert_eq!(body["message"], body["error"]["message"]);
    assert_eq!(body["error"]["statusCode"], 401);
    r.path = "/ws".into();
    r.headers.push(("upgrade".into(), "websocket".into()));
    assert_eq!(w.send(&r).0, 401);
    r.path = "/no/such/path".into();
    assert_eq!(w.send(&r).0, 401);
    r.path = "/health".into();
    assert_eq!(w.send(&r).0, 200);
    let mut bearer = request("GET", "/api/session", "");
    bearer.headers[1] = ("authorization".into(), format!("Bearer {KEY}"));
    assert_eq!(w.send(&bearer).0, 200);
}

#[test]
fn a_web_page_that_found_our_address_is_turned_away_even_with_the_key() {
    let w = world();
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        for path in ["/api/session", "/health", "/ws"] {
            let mut r = request("GET", path, "");
            r.headers.retain(|(n, _)| n != name);
            r.headers.push((name.into(), value.into()));
            let (status, body) = w.send(&r);
            assert_eq!(
                (status, &body["code"]),
                (403, &json!("forbidden")),
                "{path}"
            );
        }
    }
}

#[test]
fn before_the_broker_is_up_only_health_answers() {
    let w = world();
    w.api.context.life.set(BrokerStage::Starting);
    let text = json!("Broker is starting, please retry");
    assert_eq!(w.ask("GET", "/api/session", ""), (503, text));
    let (status, body) = w.ask("GET", "/health", "");
    assert_eq!(
        (status, &body["service"]),
        (200, &json!("agent-relay-listen"))
    );
    assert!(w.calls.is_empty());
}

#[test]
fn while_the_broker_leaves_calls_are_refused_with_a_reason() {
    let w = world();
    w.api.context.life.set(BrokerStage::Stopping);
    assert_eq!(
        w.refusal("POST", "/api/send", "{}"),
        (503, "shutting_down".into())
    );
    assert_eq!(
        w.ask("POST", "/api/shutdown", ""),
        (200, json!({"status": "shutting_down"}))
    );
    assert_eq!(w.ask("GET", "/health", "").0, 200);
}

// ---- facts ------------------------------------------------------------------------------------------------------

#[test]
fn a_client_reads_session_and_config() {
    let w = world();
    let (status, body) = w.ask("GET", "/api/session", "");
    assert_eq!(status, 200);
    assert_eq!(body["broker_version"], "1.2.3");
    assert_eq!(body["protocol_version"], 2);
    assert_eq!(body["workspace_key"], "rk_live_x");
    assert_eq!(body["default_workspace_id"], "ws_1");
    assert_eq!(body["mode"], "persist");
    assert_eq!(body["node_name"], "box");
    assert_eq!(body["node_token"], "nt_live_x");
    let (_, body) = w.ask("POST", "/api/session/renew", "");
    assert_eq!(
        body,
        json!({"renewed": true, "expires_in_secs": 0, "persist": true})
    );
    let (_, body) = w.ask("GET", "/api/config", "");
    assert_eq!(body["workspaceKey"], "rk_live_x");
    assert_eq!(body["memberships"][0]["workspace_id"], "ws_1");
}

#[test]
fn health_and_metrics_tell_true_numbers() {
    let w = world();
    let up = || Ok(Reply::Status(Box::new(status())));
    let (_, code, body) = w.told(up(), "GET", "/health", "");
    assert_eq!(code, 200);
    assert_eq!(body["status"], "ok");
    assert_eq!(
        (&body["agentCount"], &body["pendingDeliveryCount"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        body["nodeDelivery"],
        json!({"tokenPresent": true, "connected": true})
    );
    let (_, _, body) = w.told(up(), "GET", "/api/metrics?agent=w1", "");
    assert_eq!(body["broker"]["total_agents_spawned"], 4);
    assert_eq!(body["agents"][0]["uptime_secs"], 9);
    #[cfg(target_os = "linux")]
    assert!(
        body["agents"][0]["memory_bytes"].as_u64() > Some(0),
        "{body}"
    );
    let (_, code, body) = w.told(up(), "GET", "/api/metrics?agent=w2", "");
    assert_eq!((code, &body["code"]), (404, &json!("agent_not_found")));
    let (_, _, body) = w.told(up(), "GET", "/api/crash-insights", "");
    assert_eq!(
        (&body["total_crashes"], &body["health_score"]),
        (&json!(1), &json!(90))
    );
    let (_, _, body) = w.told(up(), "GET", "/api/fleet-inventory", "");
    assert_eq!(body["agents"], json!([{"agent_id": "7", "name": "w1"}]));
}

#[test]
fn a_full_disk_shows_in_health_at_once_and_calls_say_why() {
    let w = world();
    w.told(
        Ok(Reply::Status(Box::new(status()))),
        "GET",
        "/api/status",
        "",
    );
    let full = Some("no space left".to_owned());
    w.api.context.published.update(|p| p.degraded = full);
    for path in ["/health", "/api/status"] {
        let known = Ok(Reply::Status(Box::new(status())));
        let silent = Err(Refusal::new(RefusalKind::Timeout, "no answer"));
        for answer in [known, silent] {
            let (call, status, body) = w.told(answer, "GET", path, "");
            assert_eq!(call, ApiCall::Status, "a look rests on no record");
            assert_eq!(
                (status, &body["status"]),
                (200, &json!("degraded")),
                "{path}"
            );
            assert!(body.to_string().contains("no space left"), "{body}");
            if path == "/api/status" {
                assert_eq!(body["agent_count"], 1);
            }
        }
    }
    let releasing = Ok(Reply::Releasing { name: w1() });
    let (_, status, body) = w.told(releasing, "DELETE", "/api/spawned/w1", "");
    assert_eq!((status, &body["success"]), (200, &json!(true)));
    assert!(
        body["warning"]
            .as_str()
            .is_some_and(|text| text.contains("written down"))
    );
    let send = r#"{"to":"w1","text":"hi"}"#;
    assert_eq!(
        w.refusal("POST", "/api/send", send),
        (503, "degraded".into())
    );
}

#[test]
fn who_is_refused_on_a_full_disk_is_told_whether_to_ask_again() {
    let refused = |kind| {
        let error = explain(Refusal::new(kind, "no answer"), Some("no space left"));
        let body = json!(error.body());
        assert_eq!(body["statusCode"], 503, "{body}");
        let text = body["message"].as_str().expect("a text").to_owned();
        assert!(text.contains("no space left"), "{text}");
        (
            body["retryable"] == true,
            text.contains("do not send it again"),
        )
    };
    assert_eq!(refused(RefusalKind::Timeout), (true, false));
    assert_eq!(refused(RefusalKind::Begun), (false, true));
}

#[test]
fn health_answers_although_the_broker_does_not() {
    let w = world();
    let (status, body) = w.ask("GET", "/health", "");
    assert_eq!((status, &body["status"]), (200, &json!("degraded")));
    assert!(
        body["degradedReason"]
            .as_str()
            .is_some_and(|r| r.contains("does not answer"))
    );
}

#[test]
fn a_client_can_ask_the_broker_to_leave() {
    let w = world();
    assert_eq!(
        w.ask("POST", "/api/shutdown", ""),
        (200, json!({"status": "shutting_down"}))
    );
    w.stops.try_recv().expect("it was asked");
}

// ---- calls ------------------------------------------------------------------------------------------------------

fn spawned() -> local::Spawned {
    local::Spawned {
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
fn an_agent_is_spawned_and_what_has_no_effect_is_said() {
    let w = world();
    let body = r#"{"name":"w1","cli":"cat","exitAfterTask":true,"continueFrom":"w0"}"#;
    let (call, status, body) = w.told(Ok(Reply::Spawned(spawned())), "POST", "/api/spawn", body);
    assert!(
        matches!(call, ApiCall::Spawn(r, _) if r.name == "w1" && r.cli.as_deref() == Some("cat"))
    );
    assert_eq!(
        (status, &body["name"], &body["runtime"]),
        (200, &json!("w1"), &json!("pty"))
    );
    assert_eq!(
        body["warning"],
        "without effect here: exitAfterTask, continueFrom"
    );
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
            r#"{"name":"w","transport":"headless"}"#,
            (400, "unsupported_runtime"),
        ),
        (
            r#"{"name":"w","runtime":"headless"}"#,
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
    }));
    let (call, _, body) = w.told(hold, "PUT", path, r#"{"mode":"manual_flush"}"#);
    assert_eq!(call, ApiCall::SetMode(w1(), DeliveryMode::ManualFlush));
    assert_eq!(
        body,
        json!({"mode": "manual_flush", "flushed": 0, "matched": true})
    );
    let held = || Ok(Reply::Mode(DeliveryMode::ManualFlush));
    assert_eq!(
        w.told(held(), "GET", path, "").2,
        json!({"mode": "manual_flush"})
    );
    let wrong = r#"{"mode":"manual_flush","expected_mode":"auto_inject"}"#;
    let (call, _, body) = w.told(held(), "PUT", path, wrong);
    assert_eq!(
        (call, &body["matched"]),
        (ApiCall::Mode(w1()), &json!(false))
    );
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

fn picture(screen: &str, offset: u64) -> local::Snapshot {
    local::Snapshot {
        format: "ansi".into(),
        rows: 40,
        cols: 120,
        cursor: (1, 1),
        screen: STANDARD.encode(screen),
        offset,
    }
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
    let model = w.refusal("POST", "/api/spawned/w1/model", "{}");
    assert_eq!(model, (400, "unsupported_operation".into()));
    assert_eq!(
        w.ask("POST", "/api/preflight", "{}"),
        (200, json!({"queued": 0}))
    );
}
