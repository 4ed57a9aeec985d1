//! The broker that the demo runs, seen from outside: its process, its folder, its event stream, and its engine's HTTP.
//! Decides nothing about the play.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use serde_json::Value;

use super::client::{Client, Heard};
use super::failure::Failure;
use super::find;
use crate::net::link::wait;
use crate::sys::{clock, entropy, thread};
use crate::time::Mono;
use crate::wire::event::{BrokerEvent, Numbered};
use crate::wire::local::ConnectionFile;

/// The longest wait for any one thing.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at what cannot be waited for.
pub const LOOK: Duration = Duration::from_millis(5);

/// A folder of our own that goes away with us.
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    keep: bool,
}

impl Folder {
    /// Makes one that nobody else may read.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn make(within: &Path, keep: bool) -> Result<Self, Failure> {
        let failed = |e: &dyn std::fmt::Display| {
            Failure::new(format!(
                "cannot make a temporary folder: {e}; set TMPDIR to one that is writable"
            ))
        };
        let name = format!(
            "relay-demo-{}",
            entropy::hex::<4>().map_err(|e| failed(&e))?
        );
        let path = within.join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| failed(&e))?;
        Ok(Self { path, keep })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// What was sent to each agent, in order.
#[derive(Default)]
pub struct SentWords {
    /// To the first.
    pub ada: Vec<String>,
    /// To the second.
    pub bob: Vec<String>,
}

/// An event and when it reached us.
pub struct Seen {
    /// When it reached us.
    pub at: Mono,
    /// What happened.
    pub event: BrokerEvent,
}

/// One life of the broker.
pub struct DemoBroker {
    /// The broker's process; killed when this is dropped.
    pub child: Child,
    /// Of its local API.
    pub client: Client,
    /// Of the engine inside it.
    pub engine_url: String,
    /// Opens the engine's workspace.
    pub workspace_key: String,
    /// Its events, as they came.
    pub seen: Receiver<Seen>,
    /// Events that nobody has wanted yet.
    pub kept: RefCell<VecDeque<Seen>>,
    /// The processes of the broker's agents.
    pub agents: Vec<u32>,
}

impl Drop for DemoBroker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl DemoBroker {
    /// The first event that is wanted, now or later. Others are kept for whoever wants them: things happen side by side,
    /// and a play tells them one after the other.
    ///
    /// # Errors
    /// When the broker ends, or nothing wanted comes for too long.
    pub fn next(&self, what: &str, wanted: impl Fn(&BrokerEvent) -> bool) -> Result<Seen, Failure> {
        let mut kept = self.kept.borrow_mut();
        if let Some(at) = kept.iter().position(|seen| wanted(&seen.event))
            && let Some(seen) = kept.remove(at)
        {
            return Ok(seen);
        }
        let deadline = clock::now().mono + PATIENCE;
        loop {
            let left = deadline.since(clock::now().mono);
            let seen = self.seen.recv_timeout(left).map_err(|_| {
                Failure::new(format!(
                    "waited {} s in vain for {what}",
                    PATIENCE.as_secs()
                ))
            })?;
            if wanted(&seen.event) {
                return Ok(seen);
            }
            kept.push_back(seen);
        }
    }

    /// One HTTP call to the engine.
    pub fn call(&self, path: &str, token: &str, body: &Value) -> Result<Value, Failure> {
        let failed = |e: ureq::Error| {
            Failure::new(format!(
                "the engine does not answer at {}: {e}",
                self.engine_url
            ))
        };
        let mut answer = ureq::Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent()
            .post(format!("{}{path}", self.engine_url))
            .header("authorization", format!("Bearer {token}"))
            .send_json(body)
            .map_err(failed)?;
        let mut body: Value = answer.body_mut().read_json().map_err(failed)?;
        if body["ok"] != Value::Bool(true) {
            return Err(Failure::new(format!(
                "the engine refused POST {path}: {}",
                body["error"]
            )));
        }
        Ok(body["data"].take())
    }
}

/// Stamps every event when it comes, on a thread of its own, so that no other wait makes it look late.
pub fn watch(client: &Client) -> Result<Receiver<Seen>, Failure> {
    let begun = clock::now().mono;
    let mut stream = loop {
        match client.events(0) {
            Ok(stream) => break stream,
            Err(failure) if clock::now().mono.since(begun) >= PATIENCE => return Err(failure),
            // The API may still be warming up.
            Err(_) => std::thread::sleep(LOOK),
        }
    };
    let (send, seen) = bounded(4096);
    thread::start("watch", 256, move || {
        while let Heard::Event(value) = stream.next(None) {
            let at = clock::now().mono;
            if let Ok(Numbered { event, .. }) = serde_json::from_value(value)
                && send.send(Seen { at, event }).is_err()
            {
                return;
            }
        }
    })
    .map_err(|e| Failure::new(format!("cannot start a thread: {e}")))?;
    Ok(seen)
}

/// The message an event is about.
pub fn event_id(event: &BrokerEvent) -> Option<&str> {
    use BrokerEvent as E;
    match event {
        E::RelayInbound { event_id, .. }
        | E::DeliveryQueued { event_id, .. }
        | E::DeliveryInjected { event_id, .. }
        | E::DeliveryAck { event_id, .. }
        | E::DeliveryVerified { event_id, .. } => Some(event_id.as_str()),
        E::MessageDeliveryFailed { event_id, .. } => event_id.as_ref().map(|id| id.as_str()),
        _ => None,
    }
}

/// What the broker says first on standard output; empty when it ends or is silent too long.
pub fn first_line(child: &mut Child) -> String {
    let Some(out) = child.stdout.as_mut() else {
        return String::new();
    };
    let begun = clock::now().mono;
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        let left = PATIENCE.saturating_sub(clock::now().mono.since(begun));
        let mut fds = [rustix::event::PollFd::new(
            out,
            rustix::event::PollFlags::IN,
        )];
        if wait(&mut fds, Some(left)).is_err() || fds[0].revents().is_empty() {
            break;
        }
        match out.read(&mut byte) {
            Ok(1) if byte[0] != b'\n' => line.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&line).into_owned()
}

pub fn read_connection(dir: &Path) -> Result<ConnectionFile, Failure> {
    let path = dir.join(find::CONNECTION);
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))?;
    serde_json::from_str(&text)
        .map_err(|e| Failure::new(format!("{} is not readable: {e}", path.display())))
}
