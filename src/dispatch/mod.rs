//! The broker's core: everything that can happen to it comes in here as an [`Event`], and everything it does leaves as an
//! [`Effect`] once the records behind it are durable. Pure: it never blocks, fails, asks the time or touches a file.
//!
//! Four parts, each with a `state` that no other can name: `mail` has what is on its way to agents, `agents` who runs,
//! `control` this node at the engine, `actions` what the engine has done here. The [`Dispatcher`] hands each event to the
//! part that it is about (`routes`). A part gets a `step` with it: it reads the ledger, writes records, speaks, and asks its
//! peers `questions`. What it wants of them it leaves as a `notice`, which is handed round once it is done. A new kind of
//! event or notice does not compile until it is said there whose it is. Whoever asked the local API is answered last.
//!
//! Two kinds of state. The [`Ledger`] changes only through a step's records; the rest (who runs, who waits for an answer,
//! timers) is volatile and rebuilt from nothing at start.

mod actions;
mod agents;
mod calls;
mod control;
mod engine_version;
mod mail;
mod node_config;
mod notice;
mod outbox;
mod questions;
mod rest_jobs;
mod routes;
mod step;
#[cfg(test)]
mod tests;

pub use control::VERSION;
pub use mail::Estate;
pub use node_config::{Limits, NodeConfig, SpawnDefaults, SteerFrom, TalkLimits};
pub use step::Out;

use self::actions::{ActionPeers, ActionStep, Actions};
use self::agents::{AgentPeers, AgentStep, Agents};
use self::calls::ApiViews;
use self::control::{Control, ControlPeers, ControlStep};
use self::mail::{Mail, MailPeers, MailStep};
use self::step::{Common, PartStep};
use crate::domain::Proof;
use crate::ids::{AgentName, DeliveryId};
use crate::ledger::{Ledger, Record};
use crate::machine::Machine;
use crate::msg::{ApiCall, Effect, Event, Reply};
use crate::time::{Mono, Now, soonest};

/// The broker's core. Routes, and decides nothing itself.
pub struct Dispatcher {
    common: Common,
    mail: Mail,
    agents: Agents,
    control: Control,
    actions: Actions,
}

impl Dispatcher {
    /// A broker that has replayed nothing yet. Call [`Machine::replay`] with every record of the journal, then
    /// [`Dispatcher::open`] once.
    pub fn new(config: NodeConfig, started: Now) -> Self {
        Self {
            mail: Mail::default(),
            agents: Agents::new(),
            control: Control::new(&config),
            actions: Actions::default(),
            common: Common::new(config, started),
        }
    }

    /// The first step of a life: settles what an agent's thread of the last life saw arrive without anybody writing it down
    /// (`landed`), leaves other attempts in doubt, and starts the agents that belong to the broker or come back to it.
    pub fn open(&mut self, now: Now, landed: Vec<(AgentName, DeliveryId, Proof)>, out: &mut Out) {
        self.common.open();
        let (mine, outlived) = self.common.take_starters();
        self.mail(now, out, |mail, step| {
            step.record(Record::Opened { at: step.now.wall });
            for (name, id, proof) in landed {
                mail.settle_landed(step, &name, &id, proof);
            }
        });
        self.hand_round(now, out);
        self.agents(now, out, |agents, step| {
            agents.resume(step, mine, &outlived)
        });
        self.hand_round(now, out);
        self.mail(now, out, Mail::await_readers);
    }

    /// Part of a life's first step, after [`Dispatcher::open`]: what a broker of another program has left behind is this
    /// one's.
    pub fn take_over(&mut self, now: Now, estate: Estate, out: &mut Out) {
        self.mail(now, out, |mail, step| mail.take_over(step, estate));
        self.hand_round(now, out);
    }

    /// The durable truth, for looking.
    pub fn ledger(&self) -> &Ledger {
        self.common.ledger()
    }

    // ---- one part's step, with the others to ask ----------------------------------------------------------------

    fn mail<'a, T>(
        &'a mut self,
        now: Now,
        out: &'a mut Out,
        act: impl FnOnce(&mut Mail, &mut MailStep<'a>) -> T,
    ) -> T {
        let peers = MailPeers {
            agents: &self.agents,
            control: &self.control,
            actions: &self.actions,
        };
        let mut step = PartStep::new(now, &mut self.common, peers, out);
        act(&mut self.mail, &mut step)
    }

    fn agents<'a, T>(
        &'a mut self,
        now: Now,
        out: &'a mut Out,
        act: impl FnOnce(&mut Agents, &mut AgentStep<'a>) -> T,
    ) -> T {
        let peers = AgentPeers {
            mail: &self.mail,
            control: &self.control,
            actions: &self.actions,
        };
        let mut step = PartStep::new(now, &mut self.common, peers, out);
        act(&mut self.agents, &mut step)
    }

    fn control<'a, T>(
        &'a mut self,
        now: Now,
        out: &'a mut Out,
        act: impl FnOnce(&mut Control, &mut ControlStep<'a>) -> T,
    ) -> T {
        let peers = ControlPeers {
            agents: &self.agents,
            actions: &self.actions,
        };
        let mut step = PartStep::new(now, &mut self.common, peers, out);
        act(&mut self.control, &mut step)
    }

    fn actions<'a, T>(
        &'a mut self,
        now: Now,
        out: &'a mut Out,
        act: impl FnOnce(&mut Actions, &mut ActionStep<'a>) -> T,
    ) -> T {
        let peers = ActionPeers {
            agents: &self.agents,
            control: &self.control,
        };
        let mut step = PartStep::new(now, &mut self.common, peers, out);
        act(&mut self.actions, &mut step)
    }

    /// All parts, for looking.
    fn views(&self, now: Now) -> ApiViews<'_> {
        let mail = MailPeers {
            agents: &self.agents,
            control: &self.control,
            actions: &self.actions,
        };
        let agents = AgentPeers {
            mail: &self.mail,
            control: &self.control,
            actions: &self.actions,
        };
        let control = ControlPeers {
            agents: &self.agents,
            actions: &self.actions,
        };
        ApiViews {
            mail: (&self.mail, self.common.view(now, mail)),
            agents: (&self.agents, self.common.view(now, agents)),
            control: (&self.control, self.common.view(now, control)),
        }
    }
}

impl Machine for Dispatcher {
    type Event = Event;
    type Record = Record;
    type Effect = Effect;

    fn step(&mut self, now: Now, event: Event, out: &mut Out) {
        match event {
            Event::Link(report) => self.link(now, report, out),
            Event::Agent(name, run, report) => self.agent(now, &name, run, report, out),
            Event::Call(ticket, call) => self.call(now, ticket, call, out),
            Event::RestJob(id, done) => self.job_done(now, id, done, out),
            Event::Handled(id, result) => {
                self.actions(now, out, |actions, step| actions.handled(step, id, result));
            }
            Event::LaunchEnded(argv, how) => self.actions(now, out, |actions, step| {
                actions.launch_ended(step, &argv, &how);
            }),
            Event::Tick => self.tick(now, out),
            Event::Reload(tables) => {
                if self.common.reload(*tables) {
                    self.actions(now, out, Actions::reloaded);
                }
            }
            Event::Drain { until, rest } => {
                self.control(now, out, |control, step| control.drain(step, until, rest));
            }
            Event::Shutdown { deadline } => {
                self.control(now, out, |control, step| control.shutdown(step, deadline));
            }
        }
        self.hand_round(now, out);
        self.common.answer_all(out);
        if self.control.is_draining() {
            let typing = self.mail.is_typing();
            self.control(now, out, |c, step| c.end_once_drained(step, typing));
            self.hand_round(now, out);
        }
        self.control(now, out, Control::leave_if_empty);
        self.hand_round(now, out);
        self.control(now, out, Control::time_list);
    }

    fn meanwhile(&self, now: Now, event: &Event, effects: &mut Vec<Effect>) -> bool {
        let views = self.views(now);
        match event {
            Event::Call(ticket, ApiCall::Release { name, .. }) => {
                // It is the name's own end that a disk may be full of, so it does not wait for the record.
                if let Some(order) = views.hang_up(name) {
                    effects.push(order);
                    let name = name.clone();
                    effects.push(Effect::Reply(*ticket, Ok(Reply::Releasing { name })));
                }
                false
            }
            Event::Call(ticket, call) => {
                let answer = views.look(call);
                let was_all = answer.is_some();
                effects.extend(answer.map(|answer| Effect::Reply(*ticket, answer)));
                was_all
            }
            Event::Shutdown { .. } => {
                effects.extend(views.hang_up_all());
                false
            }
            Event::Tick => {
                effects.extend(views.sign_of_life());
                false
            }
            Event::Link(_)
            | Event::Agent(..)
            | Event::RestJob(..)
            | Event::Handled(..)
            | Event::LaunchEnded(..)
            | Event::Reload(_)
            | Event::Drain { .. } => false,
        }
    }

    fn arrange(effects: &mut Vec<Effect>) {
        outbox::arrange(effects);
    }

    fn replay(&mut self, record: &Record) {
        self.common.replay(record);
    }

    fn snapshot(&self) -> Option<Record> {
        Some(Record::Snapshot(Box::new(self.ledger().image())))
    }

    fn snapshot_size(&self) -> u64 {
        (self.ledger().mail().bytes() + self.ledger().dead().bytes()) as u64
    }

    fn deadline(&self) -> Option<Mono> {
        [
            self.mail.deadline(),
            self.agents.deadline(),
            self.actions.deadline(),
        ]
        .into_iter()
        .fold(self.control.deadline(), soonest)
    }
}
