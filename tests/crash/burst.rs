//! Who sends what: to each agent, one sender through the engine and one through the broker's own API, each in order and
//! each waiting for its answer. They outlive the broker and go on when it is back.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Engine, try_http};

/// Messages per agent and sender.
pub const EACH: usize = 25;
/// How long a sender goes on trying.
const PATIENCE: Duration = Duration::from_secs(60);

/// Through whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Engine,
    Local,
}

/// One message, as its marker tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub agent: String,
    pub source: Source,
    pub number: usize,
}

impl Name {
    /// What is at the end of its body.
    pub fn marker(&self) -> String {
        let source = match self.source {
            Source::Engine => 'e',
            Source::Local => 'l',
        };
        format!("@@{source}-{}@@", self.number)
    }

    /// Some are long, none longer than a cooked terminal's line.
    fn body(&self) -> String {
        let filler = if self.number % 10 == 3 { 2500 } else { 20 };
        format!("{} {}", "word ".repeat(filler / 5), self.marker())
    }
}

/// A message and whether somebody answered for it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub name: Name,
    /// The message's id: taken by the engine, or answered with 2xx. Without one it may come or not.
    pub id: Option<String>,
}

/// Where the local API is at the moment; the number grows with each life.
#[derive(Clone, Debug, Default)]
pub struct Door {
    pub life: usize,
    pub url: String,
    pub key: String,
}

/// Sends one agent's messages through the engine. Before the agent is known there, the engine refuses.
pub fn by_engine(engine: &Engine, token: &str, agent: &str) -> Vec<Sent> {
    let give_up = Instant::now() + PATIENCE;
    let url = format!("{}/v1/dm", engine.url);
    let mut sent = Vec::new();
    for number in 0..EACH {
        let name = Name {
            agent: agent.to_owned(),
            source: Source::Engine,
            number,
        };
        let body = json!({"to": agent, "text": name.body()});
        let id = loop {
            let answer = try_http("POST", &url, token, Some(body.clone())).expect("the engine");
            match answer {
                (201, body) => break body["data"]["id"].as_str().expect("an id").to_owned(),
                (404, _) if Instant::now() < give_up => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                (status, body) => panic!("the engine refuses {name:?}: {status} {body}"),
            }
        };
        sent.push(Sent { name, id: Some(id) });
    }
    sent
}

/// Sends one agent's messages through the broker's own API. One that was cut off by a death is not sent again: nobody
/// knows whether it was taken.
pub fn by_door(door: &Mutex<Door>, agent: &str) -> Vec<Sent> {
    let give_up = Instant::now() + PATIENCE;
    let mut sent = Vec::new();
    let mut dead_life = 0;
    for number in 0..EACH {
        let name = Name {
            agent: agent.to_owned(),
            source: Source::Local,
            number,
        };
        let body = json!({"to": agent, "text": name.body(), "from": "me"});
        let id = loop {
            assert!(Instant::now() < give_up, "nobody takes {name:?}");
            let at = door.lock().expect("no holder panics").clone();
            if at.life <= dead_life {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let url = format!("{}/api/send", at.url);
            match try_http("POST", &url, &at.key, Some(body.clone())) {
                Ok((200..=299, body)) => {
                    break Some(body["event_id"].as_str().expect("an id").to_owned());
                }
                // Begun, and not seen to end.
                Ok((504, _)) => break None,
                // A refusal: it was not taken.
                Ok(_) => std::thread::sleep(Duration::from_millis(5)),
                Err(_) => {
                    dead_life = at.life;
                    break None;
                }
            }
        };
        sent.push(Sent { name, id });
    }
    sent
}
