//! The API with a made-up dispatcher: calls without a socket, streams (in `streams.rs`) over loopback.

mod bad_input;
mod calls;
mod mcp;
mod probes;

mod streams;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crossbeam_channel::{Receiver, unbounded};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::server::respond;
use super::state::{Api, explain};
use super::{ApiContext, BrokerLife, BrokerStage, SessionFacts};
use crate::domain::DeliveryMode;
use crate::ids::{AgentName, NodeId};
use crate::msg::{Answer, ApiCall, ExpectedMode, Published, Refusal, RefusalKind, Reply, Secret};
use crate::net::{HandlerOutcome, Request};
use crate::pubsub::{Latest, Topic};
use crate::registry::Registry;
use crate::sys::clock;
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
            lease: None,
            started: clock::now().mono,
        },
        api_key: Secret::new(KEY),
        allowed_hosts: Vec::new(),
        stop: Box::new(move || {
            stop.send(()).expect("the test lives");
            Duration::from_secs(6)
        }),
        reload: Arc::default(),
        pid: std::process::id(),
        life,
        declared: vec!["w1".into()],
        ready_grace: Duration::from_secs(60),
        agents_may: Vec::new(),
        metrics_key: None,
        latencies: Arc::default(),
        journal_dir: "/no/such/folder".into(),
    };
    let mut api = Api::new(context);
    api.receipt_limit = Duration::from_millis(20);
    World {
        api: Arc::new(api),
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
        (200, json!({"status": "shutting_down", "within_ms": 6000}))
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
    let insights = local::CrashInsights {
        total_crashes: 1,
        health_score: 90,
        ..local::CrashInsights::default()
    };
    let insights = Ok(Reply::CrashInsights(insights));
    let (_, _, body) = w.told(insights, "GET", "/api/crash-insights", "");
    assert_eq!(
        body,
        json!({"total_crashes": 1, "recent": [], "patterns": [], "health_score": 90})
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
        (200, json!({"status": "shutting_down", "within_ms": 6000}))
    );
    w.stops.try_recv().expect("it was asked");
}

// ---- calls ------------------------------------------------------------------------------------------------------

fn picture(screen: &str, offset: u64) -> local::Snapshot {
    local::Snapshot {
        format: "ansi".into(),
        rows: 40,
        cols: 120,
        cursor: (1, 1),
        screen: STANDARD.encode(screen),
        offset,
        terminal: None,
    }
}
