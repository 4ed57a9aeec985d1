//! Stories told to the dispatcher without threads, files or clocks.

mod absent;
mod actions;
mod agent_registration;
mod blocked;
mod channels;
mod clients;
mod dead_letters;
mod declared;
mod dialogs;
mod draining;
mod estate;
mod gaps;
mod headless;
mod limits;
mod location_conflict;
mod loops;
mod mail;
mod node_registration;
mod oversize;
mod releases;
mod restart;
mod routing;
mod running;
mod sequence;
mod sessions;
mod told_back;
mod unanswered;
mod unregistered;
mod urgent;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::control::{HEARTBEAT, QUIET};
use super::questions::{AgentQuestions, ControlQuestions};
use super::{Dispatcher, Limits, NodeConfig, Out, VERSION};
use crate::domain::{DeliveryMode, Mode, Outcome, Proof};
use crate::ids::{
    AgentId, AgentName, DeliveryId, InvocationId, JobId, MsgId, NodeId, Run, Seq, Ticket,
};
use crate::ledger::{Ledger, Record};
use crate::machine::Machine;
use crate::msg::{
    AgentCommand, AgentReport, Answer, ApiCall, Effect, Event, How, Identified, Injection,
    LinkReport, RefusalKind, Reply, RestCall, RestDone, Secret, SpawnSource,
};
use crate::time::{Mono, Now, Wall};
use crate::wire::down::{ActionInvoke, Deliver, Down};
use crate::wire::event::BrokerEvent;
use crate::wire::local;
use crate::wire::up::{DeliveryAck, NodeHeartbeat, Up};

/// A dispatcher, what it wrote down, and what it did since one last looked.
struct World {
    d: Dispatcher,
    journal: Vec<Record>,
    effects: Vec<Effect>,
    now: Now,
    /// Lists of agents that the engine has not answered. It does before it sends an order, unless orders are to cross them.
    lists: Vec<String>,
    orders_cross: bool,
}

impl World {
    fn new() -> Self {
        Self::after(Vec::new())
    }

    /// One with a link to an old engine, and an agent that is ready.
    fn with_agent(name: &str) -> (Self, Run) {
        let mut world = Self::new();
        world.link_up();
        let run = world.spawn(name);
        (world, run)
    }

    /// A new life on an old journal.
    fn after(journal: Vec<Record>) -> Self {
        Self::after_landing(journal, Vec::new())
    }

    /// A new life on an old journal, with notes of what had arrived by then.
    fn after_landing(journal: Vec<Record>, landed: Vec<(AgentName, DeliveryId, Proof)>) -> Self {
        Self::begin(journal, landed, Vec::new())
    }

    /// A new life on an old journal, with agents that the operator declares.
    fn after_declaring(journal: Vec<Record>, agents: Vec<local::SpawnRequest>) -> Self {
        Self::begin(journal, Vec::new(), agents)
    }

    fn begin(
        journal: Vec<Record>,
        landed: Vec<(AgentName, DeliveryId, Proof)>,
        agents: Vec<local::SpawnRequest>,
    ) -> Self {
        let facts = NodeConfig {
            node_name: "box-1".into(),
            node_id: NodeId::new("node_0a1b"),
            engine_url: "http://127.0.0.1:1".into(),
            workspace_id: Some("ws".into()),
            state_dir: "/state".into(),
            max_agents: 0,
            harnesses: vec!["claude".into()],
            grace: Duration::from_secs(1),
            limits: Limits::default(),
            spawn_defaults: crate::dispatch::SpawnDefaults::default(),
            harness_table: BTreeMap::new(),
            actions: BTreeMap::new(),
            profiles: ["claude".to_owned()].into(),
            pid: 1,
            agents,
            damage: None,
            outlived: Vec::new(),
        };
        let now = Now {
            mono: Mono(1),
            wall: Wall(1000),
        };
        let mut d = Dispatcher::new(facts, now);
        journal.iter().for_each(|r| d.replay(r));
        let mut world = Self {
            d,
            journal,
            effects: Vec::new(),
            now,
            lists: Vec::new(),
            orders_cross: false,
        };
        let mut out = Out::default();
        world.d.open(world.now, landed, &mut out);
        world.keep(out);
        world
    }

    /// What the dispatcher was told at its start, changed after it.
    fn config(&mut self) -> &mut NodeConfig {
        self.d.common.config_mut()
    }

    fn counters(&self) -> local::Counters {
        self.d.views(self.now).agents.1.counters()
    }

    fn keep(&mut self, out: Out) {
        self.journal.extend(out.records);
        self.lists
            .extend(out.effects.iter().filter_map(|e| match e {
                Effect::Send(Up::InventorySync(list)) => list.id.clone(),
                _ => None,
            }));
        self.effects.extend(out.effects);
        let mut replayed = Ledger::default();
        self.journal.iter().for_each(|r| replayed.apply(r));
        assert_eq!(
            &replayed,
            self.d.ledger(),
            "replaying the journal must give the live ledger"
        );
    }

    fn tell(&mut self, event: Event) {
        let is_order = matches!(event, Event::Link(LinkReport::Frame(Down::ActionInvoke(_))));
        if is_order && !self.orders_cross {
            self.lists_answered(0);
        }
        let mut out = Out::default();
        self.d.step(self.now, event, &mut out);
        self.keep(out);
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now {
            mono: self.now.mono + time,
            wall: Wall(self.now.wall.0 + time.as_millis() as u64),
        };
        if self.d.deadline().is_some_and(|at| at <= self.now.mono) {
            self.tell(Event::Tick);
            let next = self.d.deadline();
            assert!(
                next.is_none_or(|at| at > self.now.mono),
                "a tick leaves a time that has come, so that it would tick without end"
            );
        }
    }

    fn done(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The moment in which the engine may send more orders behind one, or behind a registration.
    fn quiet(&mut self) {
        self.pass(QUIET);
    }

    fn sent(&mut self) -> Vec<Up> {
        self.done()
            .into_iter()
            .filter_map(|e| {
                if let Effect::Send(up) = e {
                    Some(up)
                } else {
                    None
                }
            })
            .collect()
    }

    fn call(&mut self, call: ApiCall) -> Option<Answer> {
        self.tell(Event::Call(Ticket(77), call));
        self.effects.iter().rev().find_map(|e| match e {
            Effect::Reply(Ticket(77), answer) => Some(answer.clone()),
            _ => None,
        })
    }

    /// A link of an old engine, which takes our registration at once.
    fn link_up(&mut self) {
        self.link_up_to(json!({}));
    }

    /// A link whose engine takes our registration, and any that follows from that, with these words, and sends no orders.
    fn link_up_to(&mut self, data: Value) {
        self.link_opens();
        self.node_registered(data);
    }

    fn node_registered(&mut self, data: Value) {
        let asked = |w: &Self| {
            w.effects.iter().rev().find_map(|e| match e {
                Effect::Send(Up::NodeRegister(frame)) => frame.id.clone(),
                _ => None,
            })
        };
        let mut last = None;
        while let Some(id) = asked(self).filter(|id| last.as_ref() != Some(id)) {
            self.frame(json!({"type":"reply","id":id,"ok":true,"data":data}));
            last = Some(id);
        }
        self.quiet();
    }

    /// A link on which the engine has said nothing yet.
    fn link_opens(&mut self) {
        self.tell(Event::Link(LinkReport::Up));
    }

    fn frame(&mut self, frame: Value) {
        let mut frame = serde_json::from_value(frame).expect("a whole frame");
        if let Down::Deliver(deliver) = &mut frame {
            deliver.bytes = deliver.payload.to_string().len();
        }
        self.tell(Event::Link(LinkReport::Frame(frame)));
    }

    /// The engine answers all lists, and says how many orders it gives out again.
    fn lists_answered(&mut self, moved: u64) {
        for id in std::mem::take(&mut self.lists) {
            self.frame(json!({"type":"reply","id":id,"ok":true,
                "data":{"rescheduled_invocations":moved}}));
        }
    }

    fn mail(&mut self, agent: &str, seq: u64) {
        self.typed_mail(agent, seq, "message.created", &format!("m{seq}"));
    }

    /// Mail that is to interrupt.
    fn urgent_mail(&mut self, agent: &str, seq: u64) {
        self.mail_of(
            agent,
            seq,
            "message.created",
            &format!("m{seq}"),
            Mode::Steer,
        );
    }

    fn typed_mail(&mut self, agent: &str, seq: u64, kind: &str, msg: &str) {
        self.mail_of(agent, seq, kind, msg, Mode::Wait);
    }

    fn mail_of(&mut self, agent: &str, seq: u64, kind: &str, msg: &str, mode: Mode) {
        let frame = Down::Deliver(Deliver {
            delivery_id: DeliveryId::new(format!("del_{msg}_{agent}")),
            agent_id: AgentId::new(format!("id_{agent}")),
            agent: AgentName::new(agent),
            msg_id: MsgId::new(msg),
            seq: Seq(seq),
            mode,
            payload: json!({"type": kind, "data": {"id": msg, "agent_name": "lead", "text": format!("text {seq}")}}),
            left_out: false,
            bytes: 100,
        });
        self.tell(Event::Link(LinkReport::Frame(frame)));
    }

    /// Asks for an agent and plays engine and thread until it is ready.
    fn spawn(&mut self, name: &str) -> Run {
        self.call(ApiCall::Spawn(Box::new(request(name)), SpawnSource::Api));
        self.registered(name);
        let run = self.run_of(name);
        self.report(name, run, AgentReport::Started { pid: 4242 });
        self.report(
            name,
            run,
            AgentReport::Ready {
                evidence: "quiet".into(),
            },
        );
        run
    }

    fn registered(&mut self, name: &str) {
        let bound = self.effects.iter().rev().find_map(|e| match e {
            Effect::RestJob(id, RestCall::Identify(wanted)) if wanted.name.as_str() == name => {
                Some((*id, wanted.token.clone()?))
            }
            _ => None,
        });
        if let Some((id, token)) = bound {
            let identity = Identified {
                agent_id: AgentId::new(format!("id_{name}")),
                token,
                acked: None,
            };
            self.tell(Event::RestJob(id, RestDone::Identified(identity)));
            return;
        }
        let id = self
            .effects
            .iter()
            .rev()
            .find_map(|e| match e {
                Effect::Send(Up::AgentRegister(r)) if r.name.as_str() == name => r.id.clone(),
                _ => None,
            })
            .expect("it asked the engine for an identity");
        self.frame(json!({"type":"reply","id":id,"ok":true,
            "data":{"agent_id":format!("id_{name}"),"token":"at_live_x","name":name}}));
    }

    /// The engine is asked what it has for an agent that was released, and says.
    fn leftovers(&mut self, done: RestDone) {
        let asked = self.effects.iter().rev().find_map(|e| match e {
            Effect::RestJob(id, RestCall::Leftovers { .. }) => Some(*id),
            _ => None,
        });
        let asked = asked.expect("it asked what the engine has");
        self.tell(Event::RestJob(asked, done));
    }

    /// It has nothing.
    fn engine_has_nothing(&mut self) {
        self.leftovers(RestDone::Leftovers(Secret::new("at_live_y"), Vec::new()));
    }

    fn run_of(&self, name: &str) -> Run {
        self.d.agents.run_of(&AgentName::new(name))
    }

    fn report(&mut self, name: &str, run: Run, report: AgentReport) {
        self.tell(Event::Agent(AgentName::new(name), run, report));
    }

    /// The one message that was given to the agent's thread since the last look.
    fn injected(&mut self) -> Option<Injection> {
        let mut found = self.done().into_iter().filter_map(|e| match e {
            Effect::Agent(_, _, AgentCommand::Inject(injection)) => Some(*injection),
            _ => None,
        });
        let one = found.next();
        assert!(found.next().is_none(), "one message at a time");
        one
    }

    fn land(&mut self, name: &str, id: &DeliveryId) {
        let run = self.run_of(name);
        self.report(
            name,
            run,
            AgentReport::Landed(id.clone(), Proof::Echo, None),
        );
    }
}

fn request(name: &str) -> local::SpawnRequest {
    local::SpawnRequest {
        name: name.into(),
        cli: Some("cat -v".into()),
        ..Default::default()
    }
}

fn acks(sent: &[Up]) -> Vec<u64> {
    sent.iter()
        .filter_map(|up| {
            if let Up::DeliveryAck(DeliveryAck { up_to_seq, .. }) = up {
                Some(up_to_seq.0)
            } else {
                None
            }
        })
        .collect()
}
