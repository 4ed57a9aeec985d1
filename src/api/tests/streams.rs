//! Keys, sizes, pictures and the three streams.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, client::IntoClientRequest};

use super::super::ApiServer;
use super::super::server::serve;
use super::calls::spawned;
use super::{KEY, World, picture, request, w1, world};
use crate::ids::{InvocationId, Run};
use crate::msg::{ApiCall, Reply, Size, SpawnSource};
use crate::pubsub::{SUBSCRIBER_QUEUE, Topic};
use crate::registry::{AgentHandle, AgentInput, Chunk};
use crate::sys::wake::{self, mailbox};
use crate::wire::local;

/// No wait of these tests is longer.
const PATIENCE: Duration = Duration::from_secs(10);

// ---- terminals --------------------------------------------------------------------------------------------------

struct FakeAgent {
    inbox: wake::Receiver<AgentInput>,
    output: Arc<Topic<Chunk>>,
}

impl World {
    /// Puts up the line of `w1`; what it is sent stays in the returned inbox.
    fn agent(&self) -> FakeAgent {
        let (input, inbox) = mailbox(4).expect("descriptors");
        let output = Arc::new(Topic::new(0));
        let line = AgentHandle {
            run: Run(1),
            token: None,
            input,
            output: output.clone(),
            seats: Arc::default(),
            activity: Arc::default(),
            has_terminal: true,
        };
        self.api.context.registry.put(w1(), line);
        FakeAgent { inbox, output }
    }

    fn serve(&self) -> ApiServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        serve(listener, self.api.clone()).expect("threads")
    }
}

impl FakeAgent {
    /// The next thing it is sent.
    fn next(&self) -> AgentInput {
        let mut fds = [rustix::event::PollFd::new(
            &self.inbox,
            rustix::event::PollFlags::IN,
        )];
        loop {
            if let Ok(input) = self.inbox.try_recv() {
                return input;
            }
            crate::net::link::wait(&mut fds, Some(PATIENCE)).expect("poll");
            assert!(!fds[0].revents().is_empty(), "nothing came");
            self.inbox.clear();
        }
    }

    /// Takes what is typed next, and answers for it.
    fn takes(&self, answer: Result<usize, String>) -> Vec<u8> {
        match self.next() {
            AgentInput::Type { bytes, done } => {
                if let Some(done) = done {
                    done.send(answer).expect("somebody waits");
                }
                bytes
            }
            other => panic!("{other:?}"),
        }
    }

    fn writes(&self, text: &str, offset: u64) {
        let chunk = Chunk {
            bytes: text.as_bytes().into(),
            offset,
        };
        self.output.publish(None, &chunk);
    }
}

#[test]
fn input_is_answered_once_it_is_in_the_terminal() {
    let w = world();
    let agent = w.agent();
    let (status, body) = std::thread::scope(|s| {
        let asked = s.spawn(|| w.ask("POST", "/api/input/w1", r#"{"data":"é\r"}"#));
        assert_eq!(agent.takes(Ok(3)), "é\r".as_bytes());
        asked.join().expect("an answer")
    });
    assert_eq!(
        (status, body),
        (200, json!({"name": "w1", "bytes_written": 3}))
    );
    assert_eq!(w.refusal("POST", "/api/input/w1", "{}").0, 400);
    let nobody = w.refusal("POST", "/api/input/w2", r#"{"data":"x"}"#);
    assert_eq!(nobody, (404, "agent_not_found".into()));
}

#[test]
fn input_for_an_agent_that_has_stopped_reading_is_refused() {
    let w = world();
    let agent = w.agent();
    for _ in 0..4 {
        let line = w.api.context.registry.get(&w1()).expect("it is up");
        line.input
            .try_send(AgentInput::Resize(Size::default()))
            .expect("room");
    }
    let full = w.refusal("POST", "/api/input/w1", r#"{"data":"x"}"#);
    assert_eq!(full, (503, "pty_write_queue_full".into()));
    drop(agent);
    let gone = w.refusal("POST", "/api/input/w1", r#"{"data":"x"}"#);
    assert_eq!(gone, (404, "agent_not_found".into()));
}

#[test]
fn a_terminal_is_resized_within_reason() {
    let w = world();
    let agent = w.agent();
    let (status, body) = w.ask("POST", "/api/resize/w1", r#"{"rows":50,"cols":100}"#);
    assert_eq!(
        (status, &body["applied"], &body["rows"]),
        (200, &json!(true), &json!(50))
    );
    assert!(matches!(
        agent.next(),
        AgentInput::Resize(Size {
            rows: 50,
            cols: 100
        })
    ));
    for body in [
        r#"{"rows":0,"cols":80}"#,
        r#"{"rows":24}"#,
        r#"{"rows":60000,"cols":60000}"#,
        r#"{"rows":-1,"cols":80}"#,
    ] {
        let refused = w.refusal("POST", "/api/resize/w1", body);
        assert_eq!(refused, (400, "invalid_request".into()), "{body}");
    }
}

#[test]
fn one_client_at_a_time_sets_the_size_of_a_terminal_until_it_gives_that_up() {
    let w = world();
    let agent = w.agent();
    let resize = |body: Value| w.ask("POST", "/api/resize/w1", &body.to_string()).1;
    let told = |body: &Value| {
        ["applied", "released", "resized"].map(|key| body[key].as_bool().expect("it is said"))
    };
    let first = resize(json!({"rows": 50, "cols": 100, "session_id": "s1"}));
    assert_eq!(told(&first), [true, false, true]);
    assert!(matches!(agent.next(), AgentInput::Resize(_)));
    let second = resize(json!({"rows": 10, "cols": 20, "session_id": "s2"}));
    assert_eq!(told(&second), [false, false, false]);
    assert_eq!(
        (&second["rows"], &second["cols"]),
        (&json!(50), &json!(100)),
        "as it is"
    );
    let other = resize(json!({"release": true, "session_id": "s2"}));
    assert_eq!(
        told(&other),
        [false, false, false],
        "it is not his to give up"
    );
    // Who names no session is not asked whose it is.
    assert_eq!(
        told(&resize(json!({"rows": 30, "cols": 80}))),
        [true, false, true]
    );
    let given_up = resize(json!({"rows": 51, "cols": 100, "session_id": "s1", "release": true}));
    assert_eq!(told(&given_up), [true, true, true]);
    assert_eq!(
        told(&resize(json!({"rows": 10, "cols": 20, "session_id": "s2"}))),
        [true, false, true]
    );
}

#[test]
fn a_stream_without_a_websocket_is_refused_before_anything_is_done() {
    let w = world();
    let _agent = w.agent();
    for path in ["/ws", "/api/attach/w1", "/api/input/w1/stream"] {
        assert_eq!(
            w.refusal("GET", path, ""),
            (426, "upgrade_required".into()),
            "{path}"
        );
    }
}

// ---- streams ----------------------------------------------------------------------------------------------------

type Client = WebSocket<TcpStream>;

fn connect(server: &ApiServer, target: &str) -> Client {
    let stream = TcpStream::connect(server.addr()).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut request = format!("ws://{}{target}", server.addr())
        .into_client_request()
        .expect("an address");
    let key = KEY.parse().expect("a header");
    request.headers_mut().insert("x-api-key", key);
    tungstenite::client(request, stream).expect("a handshake").0
}

fn hear(client: &mut Client) -> Value {
    match client.read().expect("a message") {
        Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

fn hear_bytes(client: &mut Client) -> Vec<u8> {
    match client.read().expect("a message") {
        Message::Binary(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn hear_close(client: &mut Client) -> (u16, String) {
    loop {
        match client.read().expect("a close") {
            Message::Close(Some(f)) => return (f.code.into(), f.reason.as_str().to_owned()),
            Message::Close(None) => panic!("without a word"),
            _ => {}
        }
    }
}

fn publish(w: &World, number: u64) {
    let text: Arc<str> = format!(r#"{{"seq":{number},"kind":"agent_idle"}}"#).into();
    w.api.context.events.publish(Some(number), &text);
}

#[test]
fn a_subscriber_hears_the_past_and_then_the_present() {
    let w = world();
    let server = w.serve();
    publish(&w, 1);
    publish(&w, 2);
    let mut all = connect(&server, "/ws?sinceSeq=0");
    let mut rest = connect(&server, "/ws?sinceSeq=1");
    assert_eq!(hear(&mut all)["seq"], 1);
    assert_eq!(hear(&mut all)["seq"], 2);
    assert_eq!(hear(&mut rest)["seq"], 2);
    publish(&w, 3);
    assert_eq!(hear(&mut all)["seq"], 3);
    assert_eq!(hear(&mut rest)["seq"], 3);
    w.api.context.events.close();
    assert_eq!(hear_close(&mut all).0, 1001);
}

#[test]
fn a_subscriber_who_names_no_number_hears_the_present_alone() {
    let w = world();
    let server = w.serve();
    publish(&w, 1);
    let mut live = connect(&server, "/ws");
    while !w.api.context.events.heard() {
        std::thread::yield_now();
    }
    publish(&w, 2);
    assert_eq!(hear(&mut live)["seq"], 2);
}

#[test]
fn a_subscriber_who_missed_events_is_told_first() {
    let w = world();
    let server = w.serve();
    for number in 1..=1003 {
        publish(&w, number);
    }
    let mut c = connect(&server, "/ws?since_seq=2");
    let gap = json!({"kind": "replay_gap", "requestedSinceSeq": 2, "oldestAvailable": 4, "droppedCount": 1, "seq": 3});
    let mut heard = hear(&mut c);
    let at = heard.as_object_mut().and_then(|o| o.remove("timestamp"));
    assert!(at.is_some_and(|at| at.is_u64()), "it says when it was told");
    assert_eq!(heard, gap);
    assert_eq!(hear(&mut c)["seq"], 4);
    // Also who asks for all, of which three are no longer kept.
    let mut c = connect(&server, "/ws?sinceSeq=0");
    let heard = hear(&mut c);
    assert_eq!(
        (&heard["kind"], &heard["droppedCount"]),
        (&json!("replay_gap"), &json!(3))
    );

    let (_, body) = w.ask("GET", "/api/events/replay?sinceSeq=2", "");
    assert_eq!(
        (&body["gap"], &body["oldestAvailable"]),
        (&json!(true), &json!(4))
    );
    assert_eq!(
        (&body["droppedCount"], &body["currentSeq"]),
        (&json!(1), &json!(1003))
    );
    assert_eq!(body["events"].as_array().map(Vec::len), Some(1000));
    let (_, body) = w.ask("GET", "/api/events/replay?sinceSeq=9007199254740991", "");
    assert_eq!(
        (&body["events"], &body["currentSeq"]),
        (&json!([]), &json!(1003))
    );
    assert_eq!(w.refusal("GET", "/api/events/replay?sinceSeq=x", "").0, 400);
}

#[test]
fn a_subscriber_who_does_not_read_is_sent_away_with_its_last_number() {
    let w = world();
    let server = w.serve();
    let mut c = connect(&server, "/ws?sinceSeq=0");
    publish(&w, 1);
    assert_eq!(hear(&mut c)["seq"], 1);
    let padding = "x".repeat(64 * 1024);
    let mut number = 1;
    // It is dropped once its socket and its queue are full.
    while w.api.context.events.heard() {
        number += 1;
        let text: Arc<str> = format!(r#"{{"seq":{number},"kind":"x","x":"{padding}"}}"#).into();
        w.api.context.events.publish(Some(number), &text);
        assert!(number < 10_000, "nobody was dropped");
    }
    assert!(number > SUBSCRIBER_QUEUE as u64);
    let mut last = 1;
    let (code, reason) = loop {
        match c.read().expect("a message") {
            Message::Text(text) => {
                last = serde_json::from_str::<Value>(&text).expect("JSON")["seq"]
                    .as_u64()
                    .expect("a number");
            }
            Message::Close(Some(f)) => break (u16::from(f.code), f.reason.as_str().to_owned()),
            _ => {}
        }
    };
    assert_eq!(code, 1013);
    assert_eq!(reason, format!("too slow; reconnect with sinceSeq={last}"));
}

#[test]
fn typed_frames_are_acknowledged_in_order() {
    let w = world();
    let agent = w.agent();
    let server = w.serve();
    let mut c = connect(&server, "/api/input/w1/stream");
    assert_eq!(
        hear(&mut c),
        json!({"type": "pty_input_ready", "name": "w1"})
    );
    c.send(Message::text("ls")).expect("open");
    c.send(Message::binary(b"\r".to_vec())).expect("open");
    c.send(Message::text(r#"{"type":"pty_input","data":"abc"}"#))
        .expect("open");
    for (typed, count) in [("ls", 2), ("\r", 1), ("abc", 3)] {
        assert_eq!(agent.takes(Ok(count)), typed.as_bytes());
        let ack = json!({"type": "pty_input_ack", "name": "w1", "bytes_written": count});
        assert_eq!(hear(&mut c), ack);
    }
}

#[test]
fn a_write_that_takes_too_long_fails_alone_and_a_gone_agent_ends_the_stream() {
    let mut w = world();
    Arc::get_mut(&mut w.api)
        .expect("not shared yet")
        .input_limit = Duration::from_millis(50);
    let agent = w.agent();
    let server = w.serve();
    let mut c = connect(&server, "/api/input/w1/stream");
    hear(&mut c);
    c.send(Message::text("a")).expect("open");
    let late = hear(&mut c);
    assert_eq!(
        (&late["code"], &late["statusCode"]),
        (&json!("worker_timeout"), &json!(504))
    );
    drop(agent);
    c.send(Message::text("b")).expect("still open");
    let gone = hear(&mut c);
    assert_eq!(
        (&gone["type"], &gone["code"]),
        (&json!("pty_input_error"), &json!("agent_not_found"))
    );
    assert_eq!(hear_close(&mut c).0, 1011);
}

#[test]
fn a_stream_for_nobody_is_refused_before_it_opens() {
    let w = world();
    for path in ["/api/input/w2/stream", "/api/attach/w2"] {
        let mut r = request("GET", path, "");
        r.headers.push(("upgrade".into(), "websocket".into()));
        let (status, body) = w.send(&r);
        assert_eq!((status, &body["code"]), (404, &json!("agent_not_found")));
    }
}

#[test]
fn an_attached_person_sees_the_picture_then_the_output_and_types() {
    let w = world();
    let agent = w.agent();
    let server = w.serve();
    w.answers
        .lock()
        .push(Ok(Reply::Snapshot(picture("PICTURE", 10))));
    let mut c = connect(&server, "/api/attach/w1?rows=30&cols=90");
    assert!(matches!(
        agent.next(),
        AgentInput::Resize(Size { rows: 30, cols: 90 })
    ));
    let attached = json!({"type": "attached", "name": "w1", "rows": 40, "cols": 120, "offset": 10});
    assert_eq!(hear(&mut c), attached);
    assert_eq!(hear_bytes(&mut c), b"PICTURE");
    agent.writes("old", 8);
    agent.writes("ldnew", 13);
    agent.writes("more", 17);
    assert_eq!(hear_bytes(&mut c), b"new");
    assert_eq!(hear_bytes(&mut c), b"more");
    c.send(Message::binary(b"\x03".to_vec())).expect("open");
    assert_eq!(agent.takes(Ok(1)), b"\x03");
    c.send(Message::text(r#"{"type":"resize","rows":5,"cols":6}"#))
        .expect("open");
    assert!(matches!(
        agent.next(),
        AgentInput::Resize(Size { rows: 5, cols: 6 })
    ));
    w.api.context.registry.remove(&w1(), Run(1));
    assert_eq!(hear(&mut c), json!({"type": "gone"}));
    assert_eq!(hear_close(&mut c).0, 1000);
}

#[test]
fn a_viewer_sees_but_does_not_type() {
    let w = world();
    let agent = w.agent();
    let server = w.serve();
    w.answers.lock().push(Ok(Reply::Snapshot(picture("P", 0))));
    let mut c = connect(&server, "/api/attach/w1?mode=view");
    hear(&mut c);
    hear_bytes(&mut c);
    c.send(Message::binary(b"rm -rf".to_vec())).expect("open");
    c.send(Message::text(r#"{"type":"resize","rows":5,"cols":6}"#))
        .expect("open");
    assert!(
        matches!(agent.next(), AgentInput::Resize(_)),
        "the keys came through"
    );
    let mut r = request("GET", "/api/attach/w1?mode=own", "");
    r.headers.push(("upgrade".into(), "websocket".into()));
    assert_eq!(w.send(&r).0, 400);
}

#[test]
fn an_attached_person_who_falls_behind_gets_a_fresh_picture() {
    let w = world();
    let agent = w.agent();
    let server = w.serve();
    w.answers
        .lock()
        .push(Ok(Reply::Snapshot(picture("FIRST", 0))));
    let mut c = connect(&server, "/api/attach/w1");
    hear(&mut c);
    assert_eq!(hear_bytes(&mut c), b"FIRST");
    w.answers
        .lock()
        .push(Ok(Reply::Snapshot(picture("FRESH", u64::MAX))));
    let noise = "x".repeat(64 * 1024);
    let mut offset = 0;
    while agent.output.heard() {
        offset += noise.len() as u64;
        agent.writes(&noise, offset);
        assert!(offset < 1 << 30, "nobody was dropped");
    }
    loop {
        match c.read().expect("a message") {
            Message::Text(text) => {
                assert!(text.contains(r#""type":"attached""#), "{text}");
                break;
            }
            Message::Binary(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(hear_bytes(&mut c), b"FRESH");
}

// ---- connected programs -----------------------------------------------------------------------------------------

/// Sends a frame to which the dispatcher gives this answer; the answer, and what the dispatcher was asked.
fn said(
    w: &World,
    client: &mut Client,
    kind: &str,
    payload: Value,
    answer: Reply,
) -> (Value, ApiCall) {
    w.answers.lock().push(Ok(answer));
    let frame = json!({"v": 2, "type": kind, "request_id": 7, "payload": payload});
    client
        .send(Message::text(frame.to_string()))
        .expect("it is read");
    let answer = hear(client);
    assert_eq!(answer["request_id"], 7, "{answer}");
    (answer, w.calls.try_recv().expect("the dispatcher is asked"))
}

#[test]
fn a_connected_program_changes_the_channels_of_an_agent() {
    let w = world();
    let server = w.serve();
    let mut client = connect(&server, "/api/fleet/ws");
    for (kind, wanted) in [
        ("subscribe_channels", true),
        ("unsubscribe_channels", false),
    ] {
        let channels = vec!["ops".to_owned()];
        let changed = Reply::Channels(local::ChannelsChanged {
            name: w1(),
            channels: channels.clone(),
        });
        let payload = json!({"name": "w1", "channels": channels});
        let (answer, call) = said(&w, &mut client, kind, payload, changed);
        assert_eq!(answer["type"], "ok", "{answer}");
        let now = json!({"name": "w1", "channels": ["ops"]});
        assert_eq!(answer["payload"]["result"], now);
        let ApiCall::Channels {
            name,
            channels: asked,
            listens,
        } = call
        else {
            panic!("{call:?}");
        };
        assert_eq!((name, asked, listens), (w1(), channels, wanted));
    }
}

/// N12: the engine knows an agent by the invocation that a connected program starts it for.
#[test]
fn what_a_connected_program_starts_for_an_invocation_is_told_with_it() {
    let w = world();
    let server = w.serve();
    let mut client = connect(&server, "/api/fleet/ws");
    for (invocation, source) in [
        (json!("i1"), SpawnSource::Served(InvocationId::new("i1"))),
        (json!(""), SpawnSource::Api),
        (Value::Null, SpawnSource::Api),
    ] {
        let payload = json!({"agent": {"name": "w1", "cli": "cat"}, "invocation_id": invocation});
        let spawned = Reply::Spawned(spawned());
        let (answer, call) = said(&w, &mut client, "spawn_agent", payload, spawned);
        assert_eq!(answer["type"], "ok", "{answer}");
        assert!(
            matches!(&call, ApiCall::Spawn(_, asked) if *asked == source),
            "{invocation}: {call:?}"
        );
    }
}
