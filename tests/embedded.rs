//! The embedded engine over real sockets: what a client library or a broker of somebody else's would meet.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use relay_broker::engine::server::{Engine, EngineSettings};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::support::{Scratch, until};

const PATIENCE: Duration = Duration::from_secs(60);

pub fn start(dir: &Path) -> Engine {
    let settings = EngineSettings {
        dir: dir.to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        workspace_key: None,
        workspace_name: "local".into(),
    };
    Engine::start(settings).expect("the engine starts")
}

pub fn call_with(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    token: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (u16, Value) {
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "application/json");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if method == "GET" {
        String::new()
    } else {
        body.to_string()
    };
    let request = request.body(body).expect("a request");
    let mut response = agent.run(request).expect("an answer");
    let text = response.body_mut().read_to_string().expect("a body");
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    (response.status().as_u16(), body)
}

pub fn client() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

pub fn call(e: &Engine, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
    let url = format!("{}{path}", e.url());
    call_with(&client(), method, &url, token, &[], &body)
}

pub fn ok(e: &Engine, method: &str, path: &str, token: &str, body: Value) -> Value {
    let (status, answer) = call(e, method, path, token, body);
    assert!(status < 300, "{method} {path}: {status} {answer}");
    answer["data"].clone()
}

pub fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

pub fn agent(e: &Engine, name: &str) -> String {
    let key = e.workspace_key().to_owned();
    text(&ok(e, "POST", "/v1/agents", &key, json!({"name": name}))["token"])
}

fn dm(e: &Engine, from: &str, to: &str, words: &str) -> Value {
    ok(e, "POST", "/v1/dm", from, json!({"to": to, "text": words}))
}

/// A WebSocket client that waits for what it wants to hear.
pub struct Socket(WebSocket<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Opens one; the HTTP status and error code if it is refused.
    pub fn open(e: &Engine, path: &str, token: &str) -> Result<Self, (u16, Value)> {
        let url = format!("ws://{}{path}?token={token}&origin_client=test", e.addr());
        let request = url.into_client_request().expect("a request");
        match tungstenite::connect(request) {
            Ok((socket, _)) => {
                if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
                    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                }
                Ok(Self(socket))
            }
            Err(tungstenite::Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                Err((answer.status().as_u16(), body["error"]["code"].clone()))
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub fn send(&mut self, mut frame: Value) {
        frame["v"] = json!(1);
        self.0
            .send(Message::text(frame.to_string()))
            .expect("the frame leaves");
    }

    /// The next frame.
    fn next(&mut self) -> Value {
        loop {
            match self.0.read().expect("a frame in time") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The next frame of that type; others are passed over.
    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Why the other side closes; `None` when it just ends.
    pub fn end(&mut self) -> Option<(u16, String)> {
        loop {
            match self.0.read() {
                Ok(Message::Close(Some(f))) => return Some((f.code.into(), f.reason.to_string())),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    pub fn register(&mut self, node_id: &str, name: &str, capabilities: Value) -> Value {
        self.send(json!({
            "type": "node.register", "id": "reg", "node_id": node_id, "name": name,
            "capabilities": capabilities, "max_agents": 4, "tags": [], "version": "test/1",
        }));
        self.next_of("reply")
    }

    fn ack(&mut self, agent: &str, up_to_seq: u64) {
        self.send(json!({"type": "delivery.ack", "agent": agent, "up_to_seq": up_to_seq}));
    }
}

/// An agent's own socket, as the SDKs open it.
fn direct(e: &Engine, token: &str) -> Socket {
    let node = ok(e, "POST", "/v1/agent/node-token", token, json!({}));
    let mut socket = Socket::open(e, "/v1/node/ws", &text(&node["token"])).expect("admitted");
    let reply = socket.register(
        &text(&node["node_id"]),
        &text(&node["node_name"]),
        json!([]),
    );
    assert_eq!(reply["data"]["role"], "direct");
    socket
}

fn waiting(e: &Engine, token: &str) -> usize {
    let rows = ok(e, "GET", "/v1/deliveries", token, json!({}));
    rows.as_array().map_or(0, Vec::len)
}

pub fn enrol(e: &Engine, id: &str, name: &str) -> String {
    let key = e.workspace_key().to_owned();
    let body = json!({"node_id": id, "name": name, "kind": "ws", "role": "broker", "version": "t"});
    text(&ok(e, "POST", "/v1/nodes", &key, body)["token"])
}

#[test]
fn an_agent_gets_its_mail_once_and_in_order_across_absence_and_restart() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let (lead, w1) = (agent(&e, "lead"), agent(&e, "w1"));
    for n in 1..=3 {
        dm(&e, &lead, "w1", &format!("m{n}"));
    }
    let mut socket = direct(&e, &w1);
    for n in 1..=3 {
        let frame = socket.next_of("deliver");
        assert_eq!(frame["seq"], n);
        assert_eq!(frame["payload"]["data"]["text"], format!("m{n}"));
    }
    socket.ack("w1", 2);
    until("two acknowledged", || (waiting(&e, &w1) == 1).then_some(()));
    drop(socket);

    let key = e.workspace_key().to_owned();
    drop(e);
    let e = start(dir.path());
    assert_eq!(e.workspace_key(), key, "the key is kept");
    let mut socket = direct(&e, &w1);
    dm(&e, &lead, "w1", "m4");
    assert_eq!(socket.next_of("deliver")["seq"], 3);
    assert_eq!(socket.next_of("deliver")["seq"], 4);
    socket.ack("w1", 4);
    until("all acknowledged", || (waiting(&e, &w1) == 0).then_some(()));
}

#[test]
fn a_broker_enrols_spawns_and_delivers() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let key = e.workspace_key().to_owned();
    let lead = agent(&e, "lead");
    let token = enrol(&e, "node_1", "box");
    let mut node = Socket::open(&e, "/v1/node/ws", &token).expect("admitted");
    let capabilities = json!([{"name": "spawn:codex", "kind": "capacity"}]);
    let reply = node.register("node_1", "box", capabilities);
    assert_eq!(reply["data"]["live"], true);
    assert_eq!(reply["data"]["accepted_capabilities"][0]["accepted"], true);
    node.send(
        json!({"type": "node.heartbeat", "load": 0, "active_agents": 0, "handlers_live": true}),
    );

    let input = json!({"input": {"name": "w2", "cli": "codex", "target_node": "box"}});
    let started = ok(&e, "POST", "/v1/actions/spawn/invoke", &lead, input);
    assert_eq!(started["handler_node_id"], "node_1");
    let invoke = node.next_of("action.invoke");
    assert_eq!(invoke["action"], "spawn:codex");
    let id = invoke["invocation_id"].clone();
    node.send(json!({"type": "agent.register", "id": "a1", "name": "w2", "invocation_id": id}));
    let agent = node.next_of("reply");
    assert_eq!(agent["id"], "a1");
    node.send(json!({"type": "action.result", "invocation_id": id, "output": {"spawned": true}}));
    let path = format!("/v1/actions/spawn/invocations/{}", text(&id));
    until("the spawn to end", || {
        let i = ok(&e, "GET", &path, &lead, json!({}));
        (i["status"] == "completed").then_some(())
    });

    dm(&e, &lead, "w2", "hello");
    let frame = node.next_of("deliver");
    assert_eq!((&frame["agent"], &frame["seq"]), (&json!("w2"), &json!(1)));
    assert_eq!(frame["agent_id"], agent["data"]["agent_id"]);
    node.ack("w2", 1);
    let w2 = text(&agent["data"]["token"]);
    until("acknowledged", || (waiting(&e, &w2) == 0).then_some(()));

    node.send(json!({"type": "node.deregister"}));
    until("the node to be gone", || {
        let entry = ok(&e, "GET", "/v1/nodes/box", &key, json!({}));
        (entry["live"] == false).then_some(())
    });
}

#[test]
fn a_taken_name_is_rotated_and_the_old_token_is_dead() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let key = e.workspace_key().to_owned();
    let old = agent(&e, "lead");
    let (status, answer) = call(&e, "POST", "/v1/agents", &key, json!({"name": "lead"}));
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("agent_already_exists"))
    );
    let new = ok(&e, "POST", "/v1/agents/lead/rotate-token", &key, json!({}));
    let (status, answer) = call(&e, "GET", "/v1/agent", &old, json!({}));
    assert_eq!(
        (status, &answer["error"]["code"]),
        (401, &json!("agent_token_invalid"))
    );
    let me = ok(&e, "GET", "/v1/agent", &text(&new["token"]), json!({}));
    assert_eq!(me["name"], "lead");
}

#[test]
fn a_bad_token_is_refused_before_the_socket_opens() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let lead = agent(&e, "lead");
    for token in ["nt_live_bogus", "", lead.as_str(), e.workspace_key()] {
        let refused = Socket::open(&e, "/v1/node/ws", token).err();
        assert_eq!(refused, Some((401, json!("node_token_invalid"))), "{token}");
    }
    assert_eq!(
        Socket::open(&e, "/v1/ws", &lead).err().map(|r| r.0),
        Some(401)
    );
    let (status, _) = call(&e, "GET", "/v1/node/ws", &lead, json!({}));
    assert_eq!(status, 426);
    let (status, answer) = call(&e, "GET", "/v1/planets", &lead, json!({}));
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("not_found"))
    );
    // An empty token in the query hides no token in the header.
    let token = enrol(&e, "node_1", "box");
    let mut request = format!("ws://{}/v1/node/ws?token=", e.addr())
        .into_client_request()
        .expect("a request");
    let bearer = format!("Bearer {token}").parse().expect("a header");
    request.headers_mut().insert("authorization", bearer);
    assert!(tungstenite::connect(request).is_ok());
}

#[test]
fn a_newer_socket_of_a_node_takes_over_from_the_older() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let (lead, key) = (agent(&e, "lead"), e.workspace_key().to_owned());
    let token = enrol(&e, "node_1", "box");
    let mut old = Socket::open(&e, "/v1/node/ws", &token).expect("admitted");
    old.register("node_1", "box", json!([]));
    old.send(json!({"type": "agent.register", "id": "a", "name": "w1"}));
    old.next_of("reply");
    let mut new = Socket::open(&e, "/v1/node/ws", &token).expect("admitted");
    new.register("node_1", "box", json!([]));
    assert_eq!(old.end(), Some((1000, "superseded".into())));
    drop(old);
    dm(&e, &lead, "w1", "to the new one");
    assert_eq!(new.next_of("deliver")["seq"], 1);
    let entry = ok(&e, "GET", "/v1/nodes/box", &key, json!({}));
    assert_eq!(entry["live"], true);
}

#[test]
fn a_post_that_is_sent_twice_is_said_once() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let (lead, w1) = (agent(&e, "lead"), agent(&e, "w1"));
    let url = format!("{}/v1/channels/general/messages", e.url());
    let headers = [("idempotency-key", "6a1f"), ("x-sdk-version", "9")];
    let body = json!({"text": "once @w1"});
    let first = call_with(&client(), "POST", &url, &lead, &headers, &body);
    assert_eq!(first.0, 201);
    assert_eq!(first.1["data"]["mentions"], json!(["w1"]));
    assert_eq!(
        call_with(&client(), "POST", &url, &lead, &headers, &body),
        first
    );
    assert_eq!(waiting(&e, &w1), 1);
}

#[test]
fn a_reaction_reaches_the_author_outside_the_sequence_and_the_stream() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let (lead, w1) = (agent(&e, "lead"), agent(&e, "w1"));
    let key = e.workspace_key().to_owned();
    let mut stream = Socket::open(&e, "/v1/ws", &key).expect("admitted");
    let mut socket = direct(&e, &lead);
    let body = json!({"text": "look"});
    let posted = ok(&e, "POST", "/v1/channels/general/messages", &lead, body);
    let path = format!("/v1/messages/{}/reactions", text(&posted["id"]));
    ok(&e, "POST", &path, &w1, json!({"emoji": "eyes"}));
    let frame = socket.next_of("deliver");
    assert_eq!(frame["seq"], 0);
    assert_eq!(frame["payload"]["type"], "message.reacted");
    assert_eq!(frame["payload"]["data"]["agent_name"], "w1");
    assert_eq!(stream.next_of("message.created")["message"]["text"], "look");
    assert_eq!(stream.next_of("message.reacted")["emoji"], "eyes");
    stream.send(json!({"type": "ping"}));
    stream.next_of("pong");
}

#[test]
fn a_body_that_is_no_json_is_told_apart_from_one_that_lacks_something() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let url = format!("{}/v1/agents", e.url());
    for (body, code) in [
        ("{", "invalid_json"),
        ("", "invalid_request"),
        ("[]", "invalid_request"),
    ] {
        let request = ureq::http::Request::builder()
            .method("POST")
            .uri(&url)
            .header("authorization", format!("Bearer {}", e.workspace_key()))
            .body(body.to_owned())
            .expect("a request");
        let mut response = client().run(request).expect("an answer");
        assert_eq!(response.status().as_u16(), 400);
        let answer = response.body_mut().read_to_string().expect("a body");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["error"]["code"], code);
    }
}

#[test]
fn a_thousand_posts_of_twenty_clients_at_once_all_arrive_in_the_order_of_each() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let tokens: Vec<String> = (0..20).map(|n| agent(&e, &format!("lead{n}"))).collect();
    let w1 = agent(&e, "w1");
    let mut socket = direct(&e, &w1);
    let url = format!("{}/v1/dm", e.url());
    let mut came: Vec<Vec<u64>> = vec![Vec::new(); tokens.len()];
    std::thread::scope(|scope| {
        for token in &tokens {
            let url = &url;
            scope.spawn(move || {
                let client = client();
                for n in 0..50 {
                    let body = json!({"to": "w1", "text": n.to_string()});
                    assert_eq!(call_with(&client, "POST", url, token, &[], &body).0, 201);
                }
            });
        }
        for seq in 1..=1000 {
            let frame = socket.next_of("deliver");
            assert_eq!(frame["seq"], seq);
            socket.ack("w1", seq);
            let data = &frame["payload"]["data"];
            let from: usize = text(&data["from_name"])[4..].parse().expect("a number");
            came[from].push(text(&data["text"]).parse().expect("a number"));
        }
    });
    for each in came {
        assert_eq!(each, (0..50).collect::<Vec<u64>>());
    }
}

#[test]
fn two_engines_never_share_a_folder() {
    let dir = Scratch::new();
    let first = start(dir.path());
    let settings = EngineSettings {
        dir: dir.path().to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        workspace_key: None,
        workspace_name: "local".into(),
    };
    assert!(Engine::start(settings.clone()).is_err());
    drop(first);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address");
    let words = Engine::start(EngineSettings {
        listen,
        ..settings.clone()
    });
    let words = words.err().expect("refused").to_string();
    assert!(words.contains("cannot listen on"), "{words}");
    let wrong = Engine::start(EngineSettings {
        workspace_key: Some("at_live_0".into()),
        ..settings
    });
    assert!(wrong.is_err());
}
