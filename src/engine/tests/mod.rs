//! The engine driven as a value: no socket, no thread, no clock but the one in the test's hand.

mod absent;
mod access;
mod ages;
mod faults;
mod journal;
mod mail;
mod nodes;
mod rules;
mod work;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::behaviour::UpstreamVersion;
use super::core::EngineCore;
use super::event::{Effect, Event, SocketKind};
use super::http::call::HttpCall;
use super::live::ConnId;
use super::record::EngineRecord;
use crate::ids::Ticket;
use crate::machine::{Machine, Out};
use crate::time::{Mono, Now, Wall};

const KEY: &str = "rk_live_test";

#[derive(Default)]
struct World {
    core: EngineCore,
    records: Vec<EngineRecord>,
    now: Now,
    tickets: u64,
    pushed: HashMap<ConnId, Vec<Value>>,
    closed: Vec<(ConnId, u16, &'static str)>,
    answers: HashMap<u64, (u16, Value)>,
    admitted: HashMap<u64, ConnId>,
}

impl World {
    fn new() -> Self {
        Self::with(EngineCore::new())
    }

    /// With an engine of that age that also has faults on order.
    fn of(age: UpstreamVersion) -> Self {
        let mut core = EngineCore::behaving(age);
        core.allow_faults();
        Self::with(core)
    }

    fn with(core: EngineCore) -> Self {
        let mut world = Self {
            core,
            now: Now {
                mono: Mono(1),
                wall: Wall(1_782_640_800_000),
            },
            ..Self::default()
        };
        world.step(Event::Ensure {
            name: "local".into(),
            key: KEY.into(),
        });
        world
    }

    fn step(&mut self, event: Event) {
        let mut out = Out::default();
        self.core.step(self.now, event, &mut out);
        self.records.append(&mut out.records);
        for effect in out.effects {
            match effect {
                Effect::Answer {
                    ticket,
                    status,
                    body,
                } => {
                    let body = body.unwrap_or_default();
                    self.answers.insert(ticket.0, (status, body));
                }
                Effect::Admit { ticket, conn } => {
                    self.admitted.insert(ticket.0, conn);
                }
                Effect::Push { conn, text } => {
                    let frame = serde_json::from_str(&text).expect("frames are JSON");
                    self.pushed.entry(conn).or_default().push(frame);
                }
                Effect::Close { conn, code, reason } => self.closed.push((conn, code, reason)),
                Effect::Exit => {}
            }
        }
    }

    fn entropy(&mut self) -> [u8; 32] {
        self.tickets += 1;
        let mut entropy = [7; 32];
        entropy[..8].copy_from_slice(&self.tickets.to_be_bytes());
        entropy
    }

    fn call(&mut self, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
        self.call_with_key(method, path, token, None, body)
    }

    fn call_with_key(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        key: Option<&str>,
        body: Value,
    ) -> (u16, Value) {
        let entropy = self.entropy();
        let ticket = self.tickets;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = query.split('&').filter_map(|p| p.split_once('='));
        let call = HttpCall {
            method: method.into(),
            segments: path
                .split('/')
                .filter(|s| !s.is_empty())
                .map(String::from)
                .collect(),
            query: query.map(|(k, v)| (k.into(), v.into())).collect(),
            bearer: (!token.is_empty()).then(|| token.to_owned()),
            idempotency_key: key.map(String::from),
            body: Some(body),
        };
        self.step(Event::Http {
            ticket: Ticket(ticket),
            call,
            entropy,
        });
        self.answers
            .remove(&ticket)
            .expect("every call is answered")
    }

    /// The `data` of a call that must succeed.
    fn ok(&mut self, method: &str, path: &str, token: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, token, body);
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer["data"].clone()
    }

    /// Status and code of a call that must fail.
    fn refused(&mut self, method: &str, path: &str, token: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.call(method, path, token, body);
        assert_eq!(answer["ok"], false, "{answer}");
        (
            status,
            answer["error"]["code"].as_str().unwrap_or("").into(),
        )
    }

    /// Registers an agent over HTTP and returns its token and id.
    fn agent(&mut self, name: &str) -> (String, String) {
        let data = self.ok("POST", "/v1/agents", KEY, json!({"name": name}));
        let text = |key: &str| data[key].as_str().expect("a text").to_owned();
        (text("token"), text("id"))
    }

    fn dm(&mut self, from: &str, to: &str, text: &str) {
        self.ok("POST", "/v1/dm", from, json!({"to": to, "text": text}));
    }

    fn socket(&mut self, kind: SocketKind, token: &str) -> Result<ConnId, (u16, String)> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.step(Event::SocketWanted {
            ticket: Ticket(ticket),
            kind,
            token: Some(token.to_owned()),
        });
        if let Some(conn) = self.admitted.remove(&ticket) {
            return Ok(conn);
        }
        let (status, body) = self.answers.remove(&ticket).expect("an answer");
        Err((status, body["error"]["code"].as_str().unwrap_or("").into()))
    }

    fn send(&mut self, conn: ConnId, frame: Value) {
        let mut frame = frame;
        frame["v"] = json!(1);
        let entropy = self.entropy();
        self.step(Event::SocketFrame {
            conn,
            text: frame.to_string(),
            entropy,
        });
    }

    /// What was pushed to a connection since the last look.
    fn heard(&mut self, conn: ConnId) -> Vec<Value> {
        self.pushed.remove(&conn).unwrap_or_default()
    }

    /// The `seq` of each durable delivery since the last look.
    fn seqs(&mut self, conn: ConnId) -> Vec<u64> {
        let frames = self.heard(conn);
        frames
            .iter()
            .filter(|f| f["type"] == "deliver")
            .filter_map(|f| f["seq"].as_u64())
            .filter(|seq| *seq > 0)
            .collect()
    }

    /// Makes a node and returns its token.
    fn node(&mut self, id: &str, name: &str) -> String {
        let body =
            json!({"node_id": id, "name": name, "kind": "ws", "role": "broker", "version": "t"});
        let data = self.ok("POST", "/v1/nodes", KEY, body);
        data["token"].as_str().expect("a token").to_owned()
    }

    /// Connects and registers a node with these capabilities.
    fn broker(&mut self, token: &str, id: &str, name: &str, capabilities: &[&str]) -> ConnId {
        let conn = self.socket(SocketKind::Node, token).expect("admitted");
        let capabilities: Vec<Value> = capabilities.iter().map(|c| json!({"name": c})).collect();
        self.send(
            conn,
            json!({
                "type": "node.register", "id": "reg", "name": name, "node_id": id, "version": "t",
                "capabilities": capabilities, "max_agents": 0, "tags": [],
            }),
        );
        conn
    }

    /// Registers an agent over a node and returns its token and id.
    fn hosted(&mut self, conn: ConnId, name: &str) -> (String, String) {
        self.send(
            conn,
            json!({"type": "agent.register", "id": "ar", "name": name}),
        );
        let frames = self.heard(conn);
        let reply = frames
            .iter()
            .find(|f| f["id"] == "ar" && f["ok"] == true)
            .unwrap_or_else(|| panic!("no reply in {frames:?}"));
        let text = |key: &str| reply["data"][key].as_str().expect("a text").to_owned();
        (text("token"), text("agent_id"))
    }

    fn ack(&mut self, conn: ConnId, agent: &str, up_to: u64) {
        self.send(
            conn,
            json!({"type": "delivery.ack", "agent": agent, "up_to_seq": up_to}),
        );
    }

    fn beat(&mut self, conn: ConnId, active: u64) {
        self.send(
            conn,
            json!({"type": "node.heartbeat", "load": null, "active_agents": active, "handlers_live": true}),
        );
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.wall = Wall(self.now.wall.0 + u64::try_from(time.as_millis()).expect("short"));
        if self.core.deadline().is_some_and(|at| at <= self.now.mono) {
            self.step(Event::Tick);
        }
    }

    /// The same engine after a restart: what the journal says, and nothing else.
    fn restart(&mut self) {
        let mut core = EngineCore {
            behaviour: self.core.behaviour,
            ttl: self.core.ttl,
            ..EngineCore::new()
        };
        for record in &self.records {
            let line = serde_json::to_string(record).expect("records are plain data");
            core.replay(&serde_json::from_str(&line).expect("what was written"));
        }
        assert_eq!(
            core.state, self.core.state,
            "replaying gives the live state"
        );
        self.core = core;
        // Connections are counted anew.
        self.pushed.clear();
        self.step(Event::Tick);
    }
}
