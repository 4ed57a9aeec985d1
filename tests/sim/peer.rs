//! The engine's process: the real core with its own journal on a disk of its own, answering HTTP calls and pushing frames
//! over sockets, as `engine::server` runs it. It can be killed too.

use std::collections::{BTreeMap, VecDeque};

use relay_broker::engine::{Effect, EngineCore, Event, HttpCall, SocketKind};
use relay_broker::ids::{AgentId, Seq, Ticket};
use relay_broker::machine::Machine;
use relay_broker::wire::Parsed;
use relay_broker::wire::down::Down;
use serde_json::{Value, json};

use crate::disk::Crash;
use crate::mind::{Mind, Phase, Wrote};
use crate::network::{Asker, ToNode};
use crate::people::{To, Told};
use crate::world::{MS, SECOND, What, World, tell};

pub const KEY: &str = "rk_live_sim";
const BATCH: usize = 1024;
const RETRY: u64 = 500 * MS;

/// A running engine.
pub struct Engine {
    pub life: u64,
    mind: Mind<EngineCore>,
    inbox: VecDeque<Event>,
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
        let woken = Mind::wake(&self.engine_disk, "engine", rotate, core);
        let mut mind = match woken {
            Ok((mind, damage)) => {
                if !damage.is_empty() {
                    self.laws.break_law(|| format!("engine: {damage}"));
                }
                mind
            }
            Err(_) => return self.at(SECOND, What::EngineBoot),
        };
        let ensure = Event::Ensure {
            name: "sim".into(),
            key: KEY.into(),
        };
        mind.decide(self.engine_now(), [ensure, Event::Tick]);
        if !matches!(mind.write(), Wrote::Nothing | Wrote::Done) {
            self.engine_disk.crash(Crash::Kill);
            return self.at(SECOND, What::EngineBoot);
        }
        mind.out.effects.clear();
        tell!(self, "the engine starts (life {life})");
        self.engine = Some(Engine {
            life,
            mind,
            inbox: VecDeque::new(),
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
        let idle = self.engine.as_ref().map(|e| e.mind.phase) == Some(Phase::Idle);
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
        let phases = (
            self.engine.as_ref().map(|e| e.mind.phase),
            self.broker.as_ref().map(|b| b.mind.phase),
        );
        self.laws.all_pending_are_listed();
        if phases != (Some(Phase::Idle), Some(Phase::Idle)) {
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

    fn engine_at_once(&mut self, call: HttpCall) -> Value {
        let (now, entropy) = (self.engine_now(), self.entropy());
        let Some(engine) = &mut self.engine else {
            return Value::Null;
        };
        let ticket = Ticket(u64::MAX);
        engine.mind.decide(
            now,
            [Event::Http {
                ticket,
                call,
                entropy,
            }],
        );
        engine.mind.write();
        let effects = std::mem::take(&mut engine.mind.out.effects);
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Answer { body, .. } => body,
            _ => None,
        });
        answer.unwrap_or_default()
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
        engine.inbox.push_back(event);
        let (life, at) = (engine.life, self.now + soon);
        self.plan_engine_turn(life, at);
    }

    fn plan_engine_turn(&mut self, life: u64, at: u64) {
        let at = at.max(self.now);
        if let Some(engine) = &mut self.engine
            && engine.mind.phase == Phase::Idle
            && engine.mind.turn_at.is_none_or(|planned| planned > at)
        {
            engine.mind.turn_at = Some(at);
            self.at_time(at, What::EngineTurn(life));
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

    // ---- its turn -----------------------------------------------------------------------------------------------

    pub fn engine_turn(&mut self, life: u64) {
        let (now, when) = (self.now, self.engine_now());
        let Some(engine) = self.engine.as_mut().filter(|e| e.life == life) else {
            return;
        };
        if engine.mind.phase != Phase::Idle || engine.mind.turn_at != Some(now) {
            return;
        }
        engine.mind.turn_at = None;
        let take = engine.inbox.len().min(BATCH);
        let mut batch: Vec<Event> = engine.inbox.drain(..take).collect();
        if engine.mind.machine.deadline().is_some_and(|at| at.0 <= now) {
            batch.push(Event::Tick);
        }
        engine.mind.decide(when, batch);
        if !engine.mind.out.records.is_empty() && self.chance(self.options.kill_in_write / 2) {
            let operation = self.prng.below(3) as u32;
            self.engine_disk.die_in(Some(operation));
        }
        self.engine_writes(life);
    }

    fn engine_writes(&mut self, life: u64) {
        let Some(engine) = self.engine.as_mut().filter(|e| e.life == life) else {
            return;
        };
        match engine.mind.write() {
            Wrote::Nothing => self.engine_performs(life),
            Wrote::Done => {
                engine.mind.phase = Phase::Syncing;
                let after = self.sync_time();
                self.at(after, What::EngineSynced(life));
            }
            Wrote::Trouble => {
                engine.mind.phase = Phase::Trouble;
                self.at(RETRY, What::EngineRetry(life));
            }
            Wrote::Died => {
                let how = self.crash_kind();
                self.kill_engine(how);
            }
        }
    }

    pub fn engine_retry(&mut self, life: u64) {
        self.engine_writes(life);
    }

    pub fn engine_synced(&mut self, life: u64) {
        self.engine_performs(life);
    }

    fn engine_performs(&mut self, life: u64) {
        let Some(engine) = self.engine.as_mut().filter(|e| e.life == life) else {
            return;
        };
        let effects = std::mem::take(&mut engine.mind.out.effects);
        for effect in effects {
            self.engine_does(effect);
        }
        let Some(engine) = self.engine.as_mut() else {
            return;
        };
        engine.mind.phase = Phase::Idle;
        let idle = engine.inbox.is_empty();
        let deadline = engine.mind.machine.deadline().map(|at| at.0);
        if !idle {
            self.plan_engine_turn(life, self.now + 10_000);
        } else if let Some(at) = deadline {
            self.plan_engine_turn(life, at);
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
