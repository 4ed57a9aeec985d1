//! The stage of the demo: the broker it starts, what it sends, and how it counts at the agents' end.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;
use serde_json::{Value, json};

use super::client::Client;
use super::demo_agent::{self, WORK};
use super::demo_life::{
    DemoBroker, LOOK, PATIENCE, Seen, SentWords, event_id, first_line, read_connection, watch,
};
use super::demo_show::{Count, Show};
use super::failure::Failure;
use super::render::span;
use crate::config;
use crate::sys::session::alive;
use crate::sys::signal::Stops;
use crate::sys::sysexit::Sysexit;
use crate::sys::{clock, thread};
use crate::time::Mono;
use crate::wire::event::BrokerEvent;
use crate::wire::local::{ConnectionFile, Status};

/// The first agent; it is asked to talk.
pub(super) const ADA: &str = "ada";
/// The second; it is busy when the broker dies.
pub(super) const BOB: &str = "bob";
/// Who writes to them from outside.
pub(super) const USER: &str = "demo-user";
/// How long ada and bob talk.
pub(super) const TURNS: u32 = 4;
/// Messages under way when the broker dies.
pub(super) const NOTES: u32 = 5;

/// A demo under way.
pub(super) struct DemoStage {
    begun: Mono,
    pub(super) show: Show,
    exe: PathBuf,
    dir: PathBuf,
    /// The broker's process, for the clean-up when a signal ends the demo.
    child: Arc<AtomicU32>,
    sent: SentWords,
}

impl DemoStage {
    /// Nothing is started yet.
    pub(super) fn new(show: Show, exe: PathBuf, dir: PathBuf) -> Self {
        Self {
            begun: clock::now().mono,
            show,
            exe,
            dir,
            child: Arc::default(),
            sent: SentWords::default(),
        }
    }

    pub(super) fn clean_up_on_signals(&self, keep: bool) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("cannot take signals: {e}"));
        let mut stops = Stops::listen().map_err(failed)?;
        let (child, dir) = (self.child.clone(), self.dir.clone());
        thread::start("signals", 128, move || {
            if stops.wait().is_none() {
                return;
            }
            let pid = i32::try_from(child.load(Ordering::SeqCst)).unwrap_or(0);
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            if !keep {
                let _ = std::fs::remove_dir_all(&dir);
            }
            std::process::exit(1);
        })
        .map(drop)
        .map_err(failed)
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn receipts(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.receipts"))
    }

    fn wake(&self) -> PathBuf {
        self.dir.join("wake")
    }

    fn agent(&self, name: &str, peer: &str) -> String {
        let words = [
            self.exe.display().to_string(),
            "__demo-agent".into(),
            "--name".into(),
            name.into(),
            "--peer".into(),
            peer.into(),
            "--receipts".into(),
            self.receipts(name).display().to_string(),
            "--wake".into(),
            self.wake().display().to_string(),
        ];
        format!("{name}={}", shell_words::join(words))
    }

    /// Starts a broker with both agents, and shows it come up.
    pub(super) fn start(&mut self, first: bool) -> Result<DemoBroker, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("cannot start the broker: {e}"));
        if !first {
            self.begun = clock::now().mono;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.dir.join("broker.log"))
            .map_err(failed)?;
        let mut command = Command::new(&self.exe);
        for name in config::VARIABLES {
            command.env_remove(name).env_remove(format!("{name}_FILE"));
        }
        command
            .arg("up")
            .args(["--name", "demo", "--grace", "1s", "--state-dir"])
            .arg(self.state_dir())
            .args([
                "--agent",
                &self.agent(ADA, BOB),
                "--agent",
                &self.agent(BOB, ADA),
            ])
            .env("XDG_DATA_HOME", self.dir.join("data"))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        if first {
            // Later the engine finds its own way back to the address it had.
            command.args(["--engine-listen", "127.0.0.1:0"]);
        }
        let mut child = command.spawn().map_err(failed)?;
        self.child.store(child.id(), Ordering::SeqCst);
        let mut life = match self.greet(&mut child, first) {
            Ok((client, file, seen)) => DemoBroker {
                child,
                client,
                engine_url: file.engine_url,
                workspace_key: file.workspace_key,
                seen,
                kept: RefCell::default(),
                agents: Vec::new(),
            },
            Err(failure) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failure);
            }
        };
        self.step(
            "engine",
            &format!(
                "engine on {} (inside the broker's process)",
                life.engine_url
            ),
        )?;
        self.come_up(&mut life)?;
        Ok(life)
    }

    /// Waits until the broker answers.
    fn greet(
        &self,
        child: &mut Child,
        first: bool,
    ) -> Result<(Client, ConnectionFile, Receiver<Seen>), Failure> {
        let word = if first { "started" } else { "started again" };
        self.step(
            "started",
            &format!("broker {word} (process {})", child.id()),
        )?;
        let line = first_line(child);
        let Some(url) = line.strip_prefix("[agent-relay] API listening on ") else {
            return Err(Failure::new(
                "the broker did not come up; its last words are above",
            ));
        };
        self.step("listening", &format!("local API on {url}"))?;
        let file = read_connection(&self.state_dir())?;
        let client = Client::new(&file);
        let seen = watch(&client)?;
        Ok((client, file, seen))
    }

    /// Shows the node register and both agents get ready, in whatever order.
    fn come_up(&self, life: &mut DemoBroker) -> Result<(), Failure> {
        let (mut registered, mut ready) = (false, 0);
        while !registered || ready < 2 {
            let seen = life.next("the node and its agents to come up", |event| {
                use BrokerEvent as E;
                matches!(
                    event,
                    E::NodeRegistered { .. }
                        | E::AgentSpawned { .. }
                        | E::WorkerReady { .. }
                        | E::WorkerError { .. }
                )
            })?;
            let at = seen.at.since(self.begun);
            match &seen.event {
                BrokerEvent::NodeRegistered { node_id, node_name } => {
                    registered = true;
                    self.show.step(
                        "registered",
                        at,
                        &format!("node registered as {node_name} ({node_id})"),
                    )?;
                }
                BrokerEvent::AgentSpawned { name, pid, .. } => {
                    life.agents.extend(pid);
                    let pid = pid.map_or(String::new(), |pid| {
                        format!(" (process {pid}, a terminal of its own)")
                    });
                    self.show
                        .step("spawned", at, &format!("{name} spawned{pid}"))?;
                }
                BrokerEvent::WorkerReady { name, evidence, .. } => {
                    ready += 1;
                    self.show
                        .step("ready", at, &format!("{name} ready ({evidence})"))?;
                }
                BrokerEvent::WorkerError { name, message, .. } => {
                    return Err(Failure::new(format!("{name} cannot be started: {message}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn step(&self, step: &str, text: &str) -> Result<(), Failure> {
        self.show
            .step(step, clock::now().mono.since(self.begun), text)
    }

    /// Registers the user at the engine, as any SDK client would.
    pub(super) fn enter(&self, life: &DemoBroker) -> Result<String, Failure> {
        let body = json!({"name": USER, "type": "human"});
        let data = life.call("/v1/agents", &life.workspace_key, &body)?;
        let token = data["token"]
            .as_str()
            .ok_or_else(|| Failure::new("the engine gave no token for the demo's user"))?;
        self.step(
            "user",
            &format!("{USER} registered at the engine over HTTP"),
        )?;
        Ok(token.to_owned())
    }

    /// Posts a direct message to the engine; from there it finds its own way.
    pub(super) fn post(
        &mut self,
        life: &DemoBroker,
        token: &str,
        to: &str,
        text: &str,
    ) -> Result<String, Failure> {
        let data = life.call("/v1/dm", token, &json!({"to": to, "text": text}))?;
        let list = if to == ADA {
            &mut self.sent.ada
        } else {
            &mut self.sent.bob
        };
        list.push(text.to_owned());
        data["id"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::new("the engine took a message and gave no id for it"))
    }

    /// Shows every station of one message.
    pub(super) fn follow(
        &self,
        life: &DemoBroker,
        id: &str,
        from: Mono,
        text: &str,
    ) -> Result<(), Failure> {
        self.show.step(
            "posted",
            Duration::ZERO,
            &format!("{USER} to {ADA}: {text}"),
        )?;
        loop {
            let seen = life.next("the message to arrive", |event| event_id(event) == Some(id))?;
            let at = seen.at.since(from);
            match &seen.event {
                BrokerEvent::RelayInbound { .. } => {
                    self.show
                        .step("received", at, "received over the node WebSocket")?;
                }
                BrokerEvent::DeliveryQueued { .. } => {
                    self.show.step(
                        "journalled",
                        at,
                        "journalled: on disk before anything else happens",
                    )?;
                }
                BrokerEvent::DeliveryInjected { name, .. } => {
                    self.show
                        .step("typed", at, &format!("typed into {name}'s terminal"))?;
                }
                BrokerEvent::DeliveryAck { .. } => {
                    self.show
                        .step("acknowledged", at, "acknowledged to the engine")?;
                }
                BrokerEvent::DeliveryVerified { name, proof, .. } => {
                    return self.show.step(
                        "verified",
                        at,
                        &format!("{} ({name} has it)", proof.words()),
                    );
                }
                BrokerEvent::MessageDeliveryFailed { last_error, .. } => {
                    return Err(Failure::new(format!(
                        "the first message was given up: {last_error}"
                    )));
                }
                _ => {}
            }
        }
    }

    /// Shows the agents' own messages until the last turn is verified.
    pub(super) fn talk(&mut self, life: &DemoBroker, from: Mono) -> Result<(), Failure> {
        let mut open = Vec::new();
        let mut said = 0;
        while said < TURNS || !open.is_empty() {
            let seen = life.next("the agents to talk", |event| match event {
                BrokerEvent::RelayInbound { from, .. } => from != USER,
                _ => event_id(event).is_some_and(|id| open.iter().any(|other| other == id)),
            })?;
            let at = seen.at.since(from);
            match &seen.event {
                BrokerEvent::RelayInbound {
                    event_id,
                    from,
                    target,
                    body,
                    ..
                } => {
                    self.show
                        .step("said", at, &format!("{from} to {target}: {body}"))?;
                    let list = if target == ADA {
                        &mut self.sent.ada
                    } else {
                        &mut self.sent.bob
                    };
                    list.push(body.clone());
                    open.push(event_id.as_str().to_owned());
                    said += 1;
                }
                BrokerEvent::DeliveryVerified {
                    name,
                    event_id,
                    proof,
                    ..
                } => {
                    let text = format!("  {} by {name}", proof.words());
                    self.show.step("heard", at, &text)?;
                    open.retain(|other| other != event_id.as_str());
                }
                BrokerEvent::MessageDeliveryFailed { last_error, .. } => {
                    let text = format!("an agent's message was given up: {last_error}");
                    return Err(Failure::new(text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes bob deaf, then writes to him until one message is typed that he has not read.
    pub(super) fn write_to_busy(
        &mut self,
        life: &DemoBroker,
        user: &str,
    ) -> Result<Vec<String>, Failure> {
        let id = self.post(life, user, BOB, WORK)?;
        life.next("bob to begin his work", |event| {
            matches!(event, BrokerEvent::DeliveryVerified { .. }) && event_id(event) == Some(&id)
        })?;
        self.begun = clock::now().mono;
        self.step(
            "busy",
            &format!("{BOB} is busy and reads nothing; {USER} writes to him all the same"),
        )?;
        let mut ids = Vec::new();
        for number in 1..=NOTES {
            ids.push(self.post(life, user, BOB, &format!("note {number}"))?);
        }
        let posted = clock::now().mono;
        let first = &ids[0];
        let typed = life.next("the first note to be typed", |event| {
            matches!(event, BrokerEvent::DeliveryInjected { .. }) && event_id(event) == Some(first)
        })?;
        let mut steps = [
            (
                posted,
                "posted",
                format!("{NOTES} notes posted to the engine"),
            ),
            (
                typed.at,
                "typed",
                format!("note 1 is typed; {BOB} has not read it, so it is not acknowledged"),
            ),
        ];
        steps.sort_by_key(|(at, ..)| *at);
        for (at, step, text) in steps {
            self.show.step(step, at.since(self.begun), &text)?;
        }
        if self.read_by(BOB)?.iter().any(|body| body == "note 1") {
            return Err(Failure::new(
                "bob read a note while he was busy; the crash would prove nothing",
            ));
        }
        Ok(ids)
    }

    /// SIGKILL, in the middle of it all.
    pub(super) fn crash(&mut self, mut life: DemoBroker, user: String) -> Result<String, Failure> {
        let status: Status = life.client.read("/api/status")?;
        let rows = &status.pending_deliveries;
        let typed = rows.iter().filter(|row| row.attempts > 0).count();
        self.step(
            "pending",
            &format!(
                "pending in the journal: {} ({typed} typed and unconfirmed, {} waiting)",
                status.pending_delivery_count,
                rows.len().saturating_sub(typed)
            ),
        )?;
        let pid = life.child.id();
        life.child
            .kill()
            .and_then(|()| life.child.wait())
            .map_err(|e| Failure::new(format!("cannot kill the broker: {e}")))?;
        self.step(
            "killed",
            &format!("SIGKILL: broker and engine (process {pid}) are gone, with no warning"),
        )?;
        let begun = clock::now().mono;
        while life.agents.iter().any(|pid| alive(*pid)) && clock::now().mono.since(begun) < PATIENCE
        {
            std::thread::sleep(LOOK);
        }
        if life.agents.iter().any(|pid| alive(*pid)) {
            return Err(Failure::new(
                "an agent outlived its broker; its terminal should have hung up",
            ));
        }
        self.step("hung-up", "their terminals closed, the agents ended too")?;
        std::fs::write(self.wake(), "")
            .map_err(|e| Failure::new(format!("cannot write into {}: {e}", self.dir.display())))?;
        Ok(user)
    }

    /// Everything that was under way arrives, and so does what comes after.
    pub(super) fn finish(
        &mut self,
        life: &DemoBroker,
        user: &str,
        ids: &[String],
    ) -> Result<(), Failure> {
        let notes: Vec<(String, u32)> = ids.iter().cloned().zip(1..).collect();
        self.arrive(life, &notes)?;
        let last = NOTES + 1;
        let id = self.post(life, user, BOB, &format!("note {last}"))?;
        self.step(
            "posted",
            &format!("{USER} goes on with the token of before: note {last} posted"),
        )?;
        self.arrive(life, &[(id, last)])
    }

    /// Shows notes, by their message and number, until all are verified.
    fn arrive(&self, life: &DemoBroker, notes: &[(String, u32)]) -> Result<(), Failure> {
        let mut open: Vec<&str> = notes.iter().map(|(id, _)| id.as_str()).collect();
        while !open.is_empty() {
            let seen = life.next("the notes to arrive after the crash", |event| {
                event_id(event).is_some_and(|id| open.contains(&id))
            })?;
            let Some((id, number)) = notes
                .iter()
                .find(|(id, _)| event_id(&seen.event) == Some(id.as_str()))
            else {
                continue;
            };
            let at = seen.at.since(self.begun);
            match &seen.event {
                BrokerEvent::DeliveryInjected {
                    redelivered: true, ..
                } => {
                    let text = format!(
                        "note {number} typed again: the journal knew that nobody had read it"
                    );
                    self.show.step("typed-again", at, &text)?;
                }
                BrokerEvent::DeliveryVerified { name, proof, .. } => {
                    let text = format!("note {number} {} by {name}", proof.words());
                    self.show.step("verified", at, &text)?;
                    open.retain(|other| other != id);
                }
                BrokerEvent::MessageDeliveryFailed { last_error, .. } => {
                    return Err(Failure::new(format!(
                        "note {number} was given up: {last_error}"
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The words of every relay line an agent has read, over both lives.
    fn read_by(&self, name: &str) -> Result<Vec<String>, Failure> {
        let path = self.receipts(name);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))?;
        let words = |line: &str| {
            let entry: Value = serde_json::from_str(line).ok()?;
            let (_, body) = demo_agent::relay_line(entry["line"].as_str()?)?;
            Some(body.to_owned())
        };
        Ok(text.lines().filter_map(words).collect())
    }

    /// Counts where it matters: at the agents' end.
    pub(super) fn count(&self) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        let (mut sent, mut read) = (0, 0);
        for (name, list) in [(ADA, &self.sent.ada), (BOB, &self.sent.bob)] {
            let lines = self.read_by(name)?;
            wrong.extend(Count::of(list, &lines).words(name));
            sent += list.len();
            read += lines.len();
        }
        let fine = wrong.is_empty() && sent == read;
        let text = if fine {
            format!(
                "{sent} messages sent, {read} read by the agents over both lives; none lost, none doubled"
            )
        } else {
            format!(
                "{sent} messages sent, {read} read by the agents; {}",
                wrong.join("; ")
            )
        };
        self.show.verdict(
            fine,
            &text,
            &json!({"sent": sent, "read": read, "wrong": wrong}),
        )?;
        if fine {
            Ok(())
        } else {
            Err(Failure::silent(Sysexit::Failure))
        }
    }

    pub(super) fn stop(&self, mut life: DemoBroker) -> Result<(), Failure> {
        let begun = clock::now().mono;
        life.client.post("/api/shutdown", &json!({}))?;
        let code = loop {
            match life.child.try_wait() {
                Ok(Some(status)) => break status.code(),
                Ok(None) if clock::now().mono.since(begun) < PATIENCE => std::thread::sleep(LOOK),
                _ => return Err(Failure::new("the broker did not stop when asked")),
            }
        };
        let took = span(clock::now().mono.since(begun));
        self.show.line(&format!(
            "stopped in {took} with exit code {}",
            code.unwrap_or(-1)
        ))
    }
}
