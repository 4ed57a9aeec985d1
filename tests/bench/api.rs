//! How fast the local API answers while a long message waits for a program that hardly reads, as any client sees it.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::{Agents, Node, PATIENCE};
use crate::now_ns;

/// Bytes of the message; the agent takes a hundred a second.
const MESSAGE: usize = 20_000;

/// Nanoseconds of so many `GET /api/status`.
pub fn answers(dir: &Path, count: usize) -> io::Result<Vec<u64>> {
    let agents = Agents {
        count: 1,
        terminal: "raw",
    };
    let _node = Node::start(dir, None, agents)?;
    let client = Client::of(dir)?;
    let program = std::env::current_exe()?;
    let log = dir.join("slow.log");
    client.call(
        "POST",
        "/api/spawn",
        &json!({"name": "slow", "harness_config": {"command": program, "args": ["agent", log, "slow"]}}),
    )?;
    client.until(|client| {
        let list = client.call("GET", "/api/spawned", &Value::Null)?;
        let rows = list["agents"].as_array().into_iter().flatten();
        Ok(rows
            .filter(|row| row["name"] == "slow")
            .any(|row| row["phase"] == "ready"))
    })?;
    let text = "a word ".repeat(MESSAGE / 7);
    client.call("POST", "/api/send", &json!({"to": "slow", "text": text}))?;
    client.until(|_| Ok(log.exists()))?;
    let mut took = Vec::new();
    for _ in 0..count {
        let begun = now_ns();
        let status = client.call("GET", "/api/status", &Value::Null)?;
        took.push(now_ns() - begun);
        if status["pending_delivery_count"] != 1 {
            return Err(io::Error::other(format!("it was to wait: {status}")));
        }
    }
    Ok(took)
}

struct Client {
    agent: ureq::Agent,
    url: String,
    key: String,
}

impl Client {
    /// Of the broker that keeps its state below that folder.
    fn of(dir: &Path) -> io::Result<Client> {
        let file = std::fs::read_to_string(dir.join("state/connection.json"))?;
        let file: Value = serde_json::from_str(&file)?;
        let word = |name: &str| file[name].as_str().unwrap_or_default().to_owned();
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE));
        Ok(Client {
            agent: config.build().into(),
            url: word("url"),
            key: word("api_key"),
        })
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(if body.is_null() {
                String::new()
            } else {
                body.to_string()
            })
            .map_err(io::Error::other)?;
        let mut answer = self.agent.run(request).map_err(io::Error::other)?;
        let text = answer
            .body_mut()
            .read_to_string()
            .map_err(io::Error::other)?;
        Ok(serde_json::from_str(&text)?)
    }

    fn until(&self, done: impl Fn(&Client) -> io::Result<bool>) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !done(self)? {
            if Instant::now() > end {
                return Err(io::Error::other("the slow agent does not begin"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
