//! The engine's process: the real core with its own journal on a disk of its own, answering HTTP calls and pushing frames
//! over sockets, as `engine::server` runs it. It can be killed too.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use relay_broker::engine::{Effect, EngineCore, EngineRecord, Event, HttpCall, SocketKind};
use relay_broker::ids::{AgentId, Seq, Ticket};
use relay_broker::machine::Machine;
use relay_broker::machine::event_loop::{Driver, Progress};
use relay_broker::time::Wall;
use relay_broker::wire::Parsed;
use relay_broker::wire::down::Down;
use serde_json::{Value, json};

use crate::disk::Crash;
use crate::network::{Asker, ToNode};
use crate::people::{To, Told};
use crate::process::{Deed, Process, Tape, Watched, Woken};
use crate::world::{SECOND, What, World, tell};

pub const KEY: &str = "rk_live_sim";

/// Notes what the engine does.
struct EngineDriver(Tape<EngineRecord, Effect>);

impl Driver<Watched<EngineCore, Effect>> for EngineDriver {
    type Inbound = Event;

    fn accept(&mut self, event: Event) -> Event {
        event
    }

    fn tick(&self) -> Event {
        Event::Tick
    }

    fn perform(&mut self, _: Wall, effect: Effect, _: &mut Vec<Event>) -> ControlFlow<()> {
        self.0.did(effect);
        ControlFlow::Continue(())
    }

    fn degraded(&mut self, _: Option<&str>) {}
}

/// A running engine.
pub struct Engine {
    pub life: u64,
    process: Process<EngineCore, Effect, EngineDriver>,
    waiting: BTreeMap<u64, Asker>,
    /// Which link each of its connections is.
    links: BTreeMap<u64, u64>,
    last_ticket: u64,
}

/// A call as clients make it.
pub fn http(method: &str, path: &str, bearer: &str, key: Option<String>, body: Value) -> HttpCall {
    HttpCall {
        method: method.into(),
        segments: path
            .split('/')
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect(),
        query: Vec::new(),
        bearer: (!bearer.is_empty()).then(|| bearer.to_owned()),
        idempotency_key: key,
        body: Some(body),
    }
}

impl World {
    pub fn boot_engine(&mut self) {
        if self.engine.is_some() {
            return;
        }
        self.engine_lives += 1;
        let life = self.engine_lives;
        let mut core = EngineCore::new();
        core.keep_mail_for(self.options.limits.ttl);
        let rotate = self.options.rotate_bytes.max(20_000);
        let Ok(woken) = Woken::wake(&self.engine_disk, "engine", rotate, core) else {
            return self.at(SECOND, What::EngineBoot);
        };
        if let Some(damage) = &woken.damage {
            self.laws.break_law(|| format!("engine: {damage}"));
        }
        let ensure = Event::Ensure {
            name: "sim".into(),
            key: KEY.into(),
        };
        let now = self.engine_now();
        let driver = EngineDriver(woken.tape.clone());
        let begun = woken.begin(now, driver, |core, out| {
            core.step(now, ensure, out);
            core.step(now, Event::Tick, out);
        });
        let Ok(mut process) = begun else {
            self.engine_disk.crash(Crash::Kill);
            return self.at(SECOND, What::EngineBoot);
        };
        // Nobody is connected yet, so there is nobody to hear of what this does.
        process.run(now);
        tell!(self, "the engine starts (life {life})");
        self.engine = Some(Engine {
            life,
            process,
            waiting: BTreeMap::new(),
            links: BTreeMap::new(),
            last_ticket: 0,
        });
    }

    /// The senders exist before anything else happens.
    pub fn enrol_senders(&mut self) {
        for name in ["lead", "peer"] {
            let call = http("POST", "/v1/agents", KEY, None, json!({"name": name}));
            let body = self.engine_at_once(call);
            let token = body["data"]["token"].as_str().unwrap_or_default();
            self.senders.push(token.to_owned());
        }
    }

    /// Asks the engine who bears the names that it was asked to take away.
    pub fn look_who_is_there(&mut self) {
        let idle = self.engine.as_ref().is_some_and(|e| e.process.is_idle());
        for name in self.laws.may_be_gone().into_iter().filter(|_| idle) {
            let call = http("GET", &format!("/v1/agents/{name}"), KEY, None, json!({}));
            let body = self.engine_at_once(call);
            let bearer = body["data"]["id"].as_str().map(AgentId::new);
            self.laws.borne_by(&name, bearer.as_ref());
        }
    }

    /// Looks, as the owner of a message can, where each is that the engine has taken: it came to the broker, or the engine
    /// lists it.
    pub fn account_for_all(&mut self) {
        let engine = self.engine.as_ref().is_some_and(|e| e.process.is_idle());
        let broker = self.broker.as_ref().is_some_and(|b| b.is_idle());
        self.laws.all_pending_are_listed();
        if !engine || !broker {
            return;
        }
        let mut call = http("GET", "/v1/deliveries/waiting", KEY, None, json!({}));
        call.query.push(("all".into(), "true".into()));
        let body = self.engine_at_once(call);
        let rows = body["data"].as_array().cloned().unwrap_or_default();
        let lies = |id: &str, name: &str| {
            rows.iter()
                .any(|row| row["message_id"] == id && row["agent_name"] == name)
        };
        let lost = self
            .messages
            .iter()
            .find_map(|message| match (&message.told, &message.to) {
                (Told::Taken(id), To::Agent(name)) => {
                    let found = self.laws.came(id, name) || lies(id, name.as_str());
                    (!found).then(|| (id.clone(), name.clone()))
                }
                _ => None,
            });
        if let Some((id, name)) = lost {
            self.laws
                .break_law(|| format!("message {id} for {name} is nowhere: {rows:?}"));
        }
    }

    /// Whether the engine could answer at this instant; `None` while there is none.
    pub fn engine_listens(&self) -> Option<bool> {
        Some(self.engine.as_ref()?.process.is_idle())
    }

    pub fn engine_at_once(&mut self, call: HttpCall) -> Value {
        let (now, entropy) = (self.engine_now(), self.entropy());
        let Some(engine) = &mut self.engine else {
            return Value::Null;
        };
        let asked = Ticket(u64::MAX);
        let event = Event::Http {
            ticket: asked,
            call,
            entropy,
        };
        let mut answer = Value::Null;
        for deed in engine.process.at_once(now, event) {
            match deed {
                Deed::Did(Effect::Answer { ticket, body, .. }) if ticket == asked => {
                    answer = body.unwrap_or_default();
                }
                Deed::Did(effect) => self.engine_does(effect),
                Deed::Died => {
                    let how = self.crash_kind();
                    self.kill_engine(how);
                    return Value::Null;
                }
                Deed::Decided(_) | Deed::Written => {}
            }
        }
        answer
    }

    fn entropy(&mut self) -> [u8; 32] {
        let mut entropy = [0; 32];
        for chunk in entropy.chunks_mut(8) {
            chunk.copy_from_slice(&self.prng.next_u64().to_be_bytes());
        }
        entropy
    }

    pub fn kill_engine(&mut self, how: Crash) {
        let Some(engine) = self.engine.take() else {
            return;
        };
        tell!(self, "the engine is killed ({how:?})");
        for (_, asker) in engine.waiting {
            let after = self.latency();
            self.at(after, What::HttpDone(asker, None));
        }
        for link in engine.links.into_values() {
            self.engine_hangs_up(link, "the engine went away");
        }
        self.engine_disk.crash(how);
        let after = if self.healed {
            SECOND
        } else {
            self.prng.below(8 * SECOND)
        };
        self.at(after, What::EngineBoot);
    }

    // ---- what comes in ------------------------------------------------------------------------------------------

    fn tell_engine(&mut self, event: Event) {
        let soon = self.prng.below(50_000);
        let Some(engine) = &mut self.engine else {
            return;
        };
        engine.process.send(event);
        let (life, at) = (engine.life, self.now + soon);
        self.plan_engine(life, at);
    }

    fn plan_engine(&mut self, life: u64, at: u64) {
        let at = at.max(self.now);
        if let Some(engine) = &mut self.engine
            && engine.process.plan(at)
        {
            self.at_time(at, What::EngineRuns(life));
        }
    }

    pub fn http_arrives(&mut self, asker: Asker, call: HttpCall) {
        let entropy = self.entropy();
        let Some(engine) = &mut self.engine else {
            let after = self.latency();
            return self.at(after, What::HttpDone(asker, None));
        };
        engine.last_ticket += 1;
        let ticket = Ticket(engine.last_ticket);
        let event = match &asker {
            Asker::Open { token, .. } => Event::SocketWanted {
                ticket,
                kind: SocketKind::Node,
                token: Some(token.clone()),
            },
            _ => Event::Http {
                ticket,
                call,
                entropy,
            },
        };
        engine.waiting.insert(ticket.0, asker);
        self.tell_engine(event);
    }

    pub fn engine_hears(&mut self, link: u64, text: String) {
        let entropy = self.entropy();
        if let Some(conn) = self.conn_of(link) {
            self.tell_engine(Event::SocketFrame {
                conn,
                text,
                entropy,
            });
        }
    }

    pub fn engine_loses(&mut self, link: u64) {
        if let Some(conn) = self.conn_of(link) {
            if let Some(engine) = &mut self.engine {
                engine.links.remove(&conn);
            }
            self.tell_engine(Event::SocketClosed { conn });
        }
    }

    pub fn engine_drained(&mut self, link: u64, frames: u32) {
        if let Some(conn) = self.conn_of(link) {
            self.tell_engine(Event::SocketDrained { conn, frames });
        }
    }

    fn conn_of(&self, link: u64) -> Option<u64> {
        let links = &self.engine.as_ref()?.links;
        links
            .iter()
            .find(|(_, l)| **l == link)
            .map(|(conn, _)| *conn)
    }

    // ---- its thread ---------------------------------------------------------------------------------------------

    fn engine_of(&mut self, life: u64) -> Option<&mut Engine> {
        self.engine.as_mut().filter(|e| e.life == life)
    }

    pub fn engine_runs(&mut self, life: u64) {
        let now = self.now;
        if self.engine_of(life).is_some_and(|e| e.process.wakes(now)) {
            self.engine_steps(life);
        }
    }

    /// Lets the loop step until it waits for something.
    fn engine_steps(&mut self, life: u64) {
        loop {
            let armed = self.chance(self.options.kill_in_write / 2);
            if armed {
                let operation = self.prng.below(3) as u32;
                self.engine_disk.die_in(Some(operation));
            }
            let when = self.engine_now();
            let Some(engine) = self.engine_of(life) else {
                return;
            };
            let (progress, deeds) = engine.process.run(when);
            if armed && !deeds.iter().any(|d| matches!(d, Deed::Decided(_))) {
                self.engine_disk.die_in(None);
            }
            let wrote = deeds.iter().any(|d| matches!(d, Deed::Written));
            for deed in deeds {
                match deed {
                    Deed::Died => {
                        let how = self.crash_kind();
                        return self.kill_engine(how);
                    }
                    Deed::Did(effect) => self.engine_does(effect),
                    Deed::Decided(_) | Deed::Written => {}
                }
            }
            match progress {
                Progress::Durable(_) if wrote => return self.engine_syncs(life),
                Progress::Durable(_) => {}
                Progress::Performed => {
                    if self.engine_of(life).is_some_and(|e| e.process.has_more()) {
                        return self.plan_engine(life, self.now + 10_000);
                    }
                }
                Progress::Waiting(Some(at)) | Progress::Refused(at) => {
                    return self.plan_engine(life, at.0);
                }
                Progress::Waiting(None) | Progress::Ended => return,
            }
        }
    }

    fn engine_syncs(&mut self, life: u64) {
        let until = self.now + self.sync_time();
        if let Some(engine) = self.engine_of(life) {
            engine.process.sync_until(until);
            self.at_time(until, What::EngineRuns(life));
        }
    }

    fn engine_does(&mut self, effect: Effect) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        match effect {
            Effect::Answer {
                ticket,
                status,
                body,
            } => {
                if let Some(asker) = engine.waiting.remove(&ticket.0) {
                    let after = self.latency();
                    let answer = Some((status, body.unwrap_or_default()));
                    self.at(after, What::HttpDone(asker, answer));
                }
            }
            Effect::Admit { ticket, conn } => {
                if let Some(asker) = engine.waiting.remove(&ticket.0)
                    && let Asker::Open { link, .. } = asker
                {
                    engine.links.insert(conn, link);
                    self.admitted(asker, link);
                }
            }
            Effect::Push { conn, text } => {
                if let Some(link) = engine.links.get(&conn).copied()
                    && let Ok(Parsed::Known(frame)) = Down::parse(&text)
                {
                    self.push(link, frame);
                }
            }
            Effect::Close { conn, reason, .. } => {
                if let Some(link) = engine.links.remove(&conn) {
                    let superseded = reason == "superseded";
                    self.send_down(link, ToNode::Closed(reason.into(), superseded));
                    // The real connection's thread reports the end of every connection, also of one the core closed.
                    self.tell_engine(Event::SocketClosed { conn });
                }
            }
            Effect::Exit => {}
        }
    }

    fn push(&mut self, link: u64, frame: Down) {
        if let Down::Deliver(deliver) = &frame {
            tell!(
                self,
                "the engine sends {} to {} as {}",
                deliver.msg_id,
                deliver.agent,
                deliver.seq
            );
            // A replay is whole and in order; what may be lost is what is sent as it comes.
            let again = self.laws.was_sent(deliver);
            self.laws.sent(deliver);
            // The first number a node sees is its base; what was lost before it cannot be missed.
            let based = self.laws.durable().received(&deliver.agent_id) > Seq(0);
            if based && !again && self.chance(self.options.lost_frames) {
                let row = (deliver.agent_id.clone(), deliver.seq);
                self.network.lost.insert(row);
                tell!(self, "and that frame is lost");
                return;
            }
            if self.chance(self.options.again) {
                let again = Down::Deliver(deliver.clone());
                self.send_down(link, ToNode::Frame(Box::new(frame)));
                self.send_down(link, ToNode::Frame(Box::new(again)));
                return;
            }
        }
        self.send_down(link, ToNode::Frame(Box::new(frame)));
    }
}
