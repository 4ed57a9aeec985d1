//! People and misfortune: who posts and sends, who spawns, holds and releases, and what goes wrong when. All of it drawn
//! from the seed by the world's options, until the time comes when everything is made well.

use relay_broker::domain::DeliveryMode;
use relay_broker::ids::{AgentName, MsgId};
use relay_broker::msg::{Answer, ApiCall, Reply, SpawnSource};
use relay_broker::wire::local::SendRequest;
use serde_json::{Value, json};

use crate::disk::SimDisk;
use crate::network::Asker;
use crate::peer::http;
use crate::world::{MS, SECOND, What, World, tell};

/// For whom a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Through the engine, to one agent.
    Agent(AgentName),
    /// Through the engine, to everybody in the channel.
    Channel,
    /// Over the local API.
    Local(AgentName),
    /// The first task of an agent, given with the wish for it.
    Task(AgentName),
}

/// How far it is, as its sender knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    /// Asked, and not answered; perhaps never.
    Asked,
    /// Taken, under that id.
    Taken(String),
    /// Nobody bears the name.
    Refused,
}

/// One message; its place in the list is its number.
#[derive(Clone, Debug)]
pub struct Message {
    pub to: To,
    pub body: String,
    pub steer: bool,
    pub sender: usize,
    pub told: Told,
}

/// What people do, and what befalls the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Say(usize),
    /// Agents that are missing are spawned.
    Keep,
    Trouble(Trouble),
    RoomAgain,
    /// Release a hold on the agent of that number.
    LetGo(usize),
    /// Troubles stop.
    Heal,
    /// Who is stuck is looked after.
    Mend,
}

/// See [`crate::swarm::Options`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Cut,
    Hole,
    EngineKill,
    BrokerKill,
    Stop,
    FullDisk,
    FailedSync,
    IoError,
    WallJump,
    Release,
    Hold,
    Death,
    Redeliver,
    Away,
}

const TROUBLES: [Trouble; 14] = [
    Trouble::Cut,
    Trouble::Hole,
    Trouble::EngineKill,
    Trouble::BrokerKill,
    Trouble::Stop,
    Trouble::FullDisk,
    Trouble::FailedSync,
    Trouble::IoError,
    Trouble::WallJump,
    Trouble::Release,
    Trouble::Hold,
    Trouble::Death,
    Trouble::Redeliver,
    Trouble::Away,
];

/// Who waits for an answer of the local API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    Sender(usize),
    Nobody(&'static str),
}

impl World {
    /// Plans everything that the options ask for.
    pub fn plan(&mut self) {
        let span = self.options.span_ms * MS;
        let burst_at = self.prng.below(span);
        for _ in 0..self.options.messages {
            let index = self.draw_message();
            let after = match self.options.burst {
                true => burst_at,
                false => self.prng.below(span),
            };
            self.at(after, What::Step(Step::Say(index)));
        }
        for trouble in TROUBLES {
            self.plan_trouble(trouble);
        }
        self.at(SECOND, What::Step(Step::Keep));
        self.at(span, What::Step(Step::Heal));
    }

    fn draw_message(&mut self) -> usize {
        let name = self.any_name();
        let to = if self.prng.below(1000) < self.options.local {
            To::Local(name)
        } else if self.prng.below(1000) < self.options.channel {
            To::Channel
        } else {
            To::Agent(name)
        };
        let long = self.prng.below(1000) < self.options.long;
        let words = if long {
            let lines = 1 + self.prng.below(3);
            let times = match self.prng.below(10) {
                // More than a line can have in line mode.
                0 => 160,
                _ => 1 + self.prng.below(25),
            };
            let line = "lorem ipsum dolor sit amet ".repeat(times as usize);
            vec![line; lines as usize].join("\n")
        } else {
            "please look".to_owned()
        };
        let steer = self.prng.below(1000) < self.options.steer;
        self.message(to, &words, steer)
    }

    /// A message that somebody is to say.
    pub fn message(&mut self, to: To, words: &str, steer: bool) -> usize {
        let index = self.messages.len();
        let sender = self.prng.below(self.senders.len() as u64) as usize;
        self.messages.push(Message {
            to,
            body: format!("m={index}; {words}"),
            steer,
            sender,
            told: Told::Nothing,
        });
        index
    }

    fn any_name(&mut self) -> AgentName {
        let at = self.prng.below(self.names.len() as u64) as usize;
        self.names[at].clone()
    }

    fn plan_trouble(&mut self, trouble: Trouble) {
        let o = &self.options;
        let mean_ms = match trouble {
            Trouble::Cut => o.cut_ms,
            Trouble::Hole => o.hole_ms,
            Trouble::EngineKill => o.engine_kill_ms,
            Trouble::BrokerKill => o.broker_kill_ms,
            Trouble::Stop => o.stop_ms,
            Trouble::FullDisk => o.full_disk_ms,
            Trouble::FailedSync => o.failed_sync_ms,
            Trouble::IoError => o.io_error_ms,
            Trouble::WallJump => o.wall_jump_ms,
            Trouble::Release => o.release_ms,
            Trouble::Hold => o.hold_ms,
            Trouble::Death => o.death_ms,
            Trouble::Redeliver => o.redeliver_ms,
            Trouble::Away => o.away_ms,
        };
        if mean_ms > 0 && !self.healed {
            let after = self.spread(mean_ms * MS);
            self.at(after, What::Step(Step::Trouble(trouble)));
        }
    }

    pub fn people_do(&mut self, step: Step) {
        match step {
            Step::Say(index) => self.say(index),
            Step::Keep => {
                self.keep();
                let after = if self.healed {
                    SECOND
                } else {
                    SECOND + self.prng.below(6 * SECOND)
                };
                self.at(after, What::Step(Step::Keep));
            }
            Step::Trouble(trouble) if !self.healed => {
                self.befall(trouble);
                self.plan_trouble(trouble);
            }
            Step::Trouble(_) => {}
            Step::RoomAgain => {
                self.broker_disk.set_full(false);
                self.engine_disk.set_full(false);
            }
            Step::LetGo(at) => self.let_go(at),
            Step::Heal => self.heal(),
            Step::Mend => self.mend(),
        }
    }

    fn befall(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Cut => self.cut(false),
            Trouble::Hole => self.cut(true),
            Trouble::EngineKill => {
                let how = self.crash_kind();
                self.kill_engine(how);
            }
            // Mostly in the middle of the next write.
            Trouble::BrokerKill if self.prng.below(4) > 0 => {
                let operation = self.prng.below(3) as u32;
                self.broker_disk.die_in(Some(operation));
            }
            Trouble::BrokerKill => {
                let how = self.crash_kind();
                self.kill_broker(how);
            }
            Trouble::Stop => self.stop_broker(),
            Trouble::FullDisk => {
                let disk = self.a_disk();
                tell!(self, "a disk is full");
                disk.set_full(true);
                let after = self.prng.below(8 * SECOND);
                self.at(after, What::Step(Step::RoomAgain));
            }
            Trouble::FailedSync => {
                let count = 1 + self.prng.below(2) as u32;
                tell!(self, "{count} syncs will fail");
                self.a_disk().fail_syncs(count);
            }
            Trouble::IoError => {
                let operation = self.prng.below(8) as u32;
                self.a_disk().fail_in(operation);
            }
            Trouble::WallJump => {
                let hours = self.prng.below(5) as i64 - 2;
                let rest = self.prng.below(4) as i64 * 250;
                self.wall_off_ms = hours * 3_600_000 + rest;
                self.engine_off_ms = (self.prng.below(5) as i64 - 2) * 3_600_000;
                tell!(self, "the clock jumps: {} ms off", self.wall_off_ms);
            }
            Trouble::Release => {
                let name = self.any_name();
                self.release(&name);
            }
            Trouble::Hold => {
                let at = self.prng.below(self.names.len() as u64) as usize;
                let name = self.names[at].clone();
                self.set_mode(&name, DeliveryMode::ManualFlush);
                let after = self.prng.below(10 * SECOND);
                self.at(after, What::Step(Step::LetGo(at)));
            }
            Trouble::Redeliver => {
                tell!(self, "somebody redelivers all dead letters");
                self.call(ApiCall::Redeliver(None), Caller::Nobody("redeliver"));
            }
            Trouble::Away => {
                let name = self.any_name();
                let until = self.now + self.prng.below(120 * SECOND);
                tell!(self, "{name} goes away");
                self.away.insert(name.clone(), until);
                if self.prng.below(2) == 0 {
                    return self.release(&name);
                }
                let now = self.now;
                self.with_seat(&name, |seat| seat.die(now));
            }
            Trouble::Death => {
                let (name, now) = (self.any_name(), self.now);
                self.with_seat(&name, |seat| seat.die(now));
            }
        }
    }

    /// Mostly the broker's.
    fn a_disk(&mut self) -> SimDisk {
        match self.prng.below(4) {
            0 => self.engine_disk.clone(),
            _ => self.broker_disk.clone(),
        }
    }

    pub fn release(&mut self, name: &AgentName) {
        if self.chance(self.options.from_engine) {
            let deletes = self.chance(self.options.deletes);
            tell!(
                self,
                "the engine is asked to release {name} (for ever: {deletes})"
            );
            if deletes {
                self.laws.may_be_deleted(name);
            }
            let body = json!({"name": name.as_str(), "delete_agent": deletes});
            return self.invoke("/v1/agents/release", body);
        }
        tell!(self, "somebody releases {name}");
        let call = ApiCall::Release {
            name: name.clone(),
            reason: None,
        };
        self.call(call, Caller::Nobody("release"));
    }

    pub fn set_mode(&mut self, name: &AgentName, mode: DeliveryMode) {
        tell!(self, "somebody sets {name} to {mode:?}");
        self.call(ApiCall::SetMode(name.clone(), mode), Caller::Nobody("mode"));
    }

    fn let_go(&mut self, at: usize) {
        let name = self.names[at].clone();
        if self.prng.below(2) == 0 {
            tell!(self, "somebody flushes {name}");
            self.call(ApiCall::Flush(name), Caller::Nobody("flush"));
            let after = SECOND + self.prng.below(10 * SECOND);
            self.at(after, What::Step(Step::LetGo(at)));
        } else {
            self.set_mode(&name, DeliveryMode::AutoInject);
        }
    }

    fn invoke(&mut self, path: &str, body: Value) {
        let call = http("POST", path, &self.senders[0], None, body);
        let after = self.latency();
        self.at(after, What::HttpArrives(Asker::Nobody, call));
    }

    pub fn spawn(&mut self, name: &AgentName) {
        let at = self.names.iter().position(|n| n == name).unwrap_or(0);
        let harness = self.options.manners[at].command();
        if harness == "claude" && self.chance(self.options.from_engine) {
            tell!(self, "the engine is asked to spawn {name}");
            let body = json!({"name": name.as_str(), "cli": harness});
            return self.invoke("/v1/agents/spawn", body);
        }
        let request = Box::new(self.spawn_request(name));
        self.call(
            ApiCall::Spawn(request, SpawnSource::Api),
            Caller::Nobody("spawn"),
        );
    }

    fn keep(&mut self) {
        let Some(broker) = self.broker.as_ref().filter(|b| !b.is_degraded()) else {
            return;
        };
        let back =
            |name: &AgentName| self.healed || self.away.get(name).is_none_or(|at| *at <= self.now);
        let missing = |name: &&AgentName| !broker.agents.contains_key(*name) && back(name);
        let missing: Vec<AgentName> = self.names.iter().filter(missing).cloned().collect();
        for name in missing {
            self.spawn(&name);
        }
    }

    // ---- what is said -------------------------------------------------------------------------------------------

    pub fn say(&mut self, index: usize) {
        let message = self.messages[index].clone();
        match &message.to {
            To::Local(name) => self.send_local(index, name, &message),
            To::Task(_) => {}
            To::Agent(name) => {
                let body =
                    json!({"to": name.as_str(), "text": message.body, "mode": mode(message.steer)});
                self.post(index, "/v1/dm", body, message.sender);
            }
            To::Channel => {
                let body = json!({"text": message.body, "mode": mode(message.steer)});
                self.post(index, "/v1/channels/general/messages", body, message.sender);
            }
        }
    }

    fn post(&mut self, index: usize, path: &str, body: Value, sender: usize) {
        self.messages[index].told = Told::Asked;
        let key = Some(format!("once-{index}"));
        let call = http("POST", path, &self.senders[sender], key, body);
        let after = self.latency();
        self.at(after, What::HttpArrives(Asker::Client(index), call));
    }

    /// The engine answered a client, or went away; then the client asks again under the same key.
    pub fn posted(&mut self, index: usize, answer: Option<(u16, Value)>) {
        match answer {
            Some((200..=299, body)) => {
                let id = body["data"]["id"].as_str().unwrap_or_default().to_owned();
                tell!(self, "message {index} is taken by the engine as {id}");
                self.laws.posted(MsgId::new(&id));
                self.messages[index].told = Told::Taken(id);
            }
            Some((404, _)) if self.healed && !self.laws.may_be_gone().is_empty() => {
                self.messages[index].told = Told::Refused;
            }
            _ => self.again(index),
        }
    }

    fn again(&mut self, index: usize) {
        self.messages[index].told = Told::Nothing;
        let after = SECOND / 2 + self.prng.below(2 * SECOND);
        self.at(after, What::Step(Step::Say(index)));
    }

    fn send_local(&mut self, index: usize, name: &AgentName, message: &Message) {
        if self.broker.as_ref().is_none_or(|b| b.is_degraded()) {
            return self.again(index);
        }
        self.messages[index].told = Told::Asked;
        let by_agent = self.options.among_agents && index.is_multiple_of(2);
        let from = match by_agent {
            true => self.names[index / 2 % self.names.len()].to_string(),
            false => "human:ann".to_owned(),
        };
        let request = SendRequest {
            to: name.to_string(),
            text: message.body.clone(),
            from: Some(from),
            mode: message.steer.then(|| "steer".to_owned()),
            raw: false,
            by_agent,
            ..SendRequest::default()
        };
        self.call(ApiCall::Send(request), Caller::Sender(index));
    }

    pub fn answered(&mut self, caller: Caller, answer: Answer) {
        match (caller, answer) {
            (Caller::Sender(index), Ok(Reply::Sent(sent))) if sent.local => {
                tell!(
                    self,
                    "message {index} is taken by the broker as {}",
                    sent.event_id
                );
                self.laws.promised(&sent.event_id);
                self.messages[index].told = Told::Taken(sent.event_id.to_string());
            }
            (Caller::Sender(index), _) => self.again(index),
            (Caller::Nobody(what), answer) => {
                tell!(self, "{what}: {answer:?}");
            }
        }
    }

    // ---- the end ------------------------------------------------------------------------------------------------

    fn heal(&mut self) {
        tell!(self, "---- troubles stop here ----");
        self.healed = true;
        self.broker_disk.heal();
        self.engine_disk.heal();
        let (names, now) = (self.names.clone(), self.now);
        for name in &names {
            self.with_seat(name, |seat| seat.behave(now));
            self.set_mode(name, DeliveryMode::AutoInject);
        }
        self.at(10 * SECOND, What::Step(Step::Mend));
    }

    /// Who makes no progress for a minute although nothing is wrong any more: where a dialog ate the message, or Enter was
    /// swallowed time after time, it takes a person, who starts the agent again; anything else breaks a law.
    fn mend(&mut self) {
        let names = self.names.clone();
        for (at, name) in names.iter().enumerate() {
            if self.laws.durable().mode(name) == DeliveryMode::ManualFlush {
                self.set_mode(name, DeliveryMode::AutoInject);
            }
            if self.laws.durable().mail().suspended(name) > 0 {
                tell!(self, "somebody has looked at {name}");
                self.call(ApiCall::Flush(name.clone()), Caller::Nobody("flush"));
            }
            let front = self.laws.durable().mail().front(name);
            let front = front.map(|p| p.delivery.id.clone());
            let waits = match (&front, self.stuck.get(name)) {
                (Some(id), Some((before, times))) if id == before => times + 1,
                _ => 0,
            };
            if let Some(id) = front {
                self.stuck.insert(name.clone(), (id, waits));
            }
            let manner = &self.options.manners[at];
            let stubborn = manner.dialogs > 0 || manner.swallows > 0;
            if waits == 6 && stubborn {
                self.release(name);
            } else if waits > 12 {
                let left = self.laws.left();
                self.laws.break_law(|| {
                    format!("mail of {name} makes no progress although it reads:{left}")
                });
            }
        }
        self.at(10 * SECOND, What::Step(Step::Mend));
    }

    /// Whether everybody has been answered and nothing is left to happen.
    pub fn is_quiet(&self) -> bool {
        self.broker.is_some()
            && self.laws.is_quiet()
            && self.messages.iter().all(|m| match (&m.told, &m.to) {
                (Told::Taken(id), To::Agent(name)) => self.laws.came(id, name),
                (Told::Taken(_) | Told::Refused, _) => true,
                // Its broker died before it answered.
                (Told::Asked, To::Local(_)) | (_, To::Task(_)) => true,
                _ => false,
            })
    }
}

fn mode(steer: bool) -> &'static str {
    if steer { "steer" } else { "wait" }
}
