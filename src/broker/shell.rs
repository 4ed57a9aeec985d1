//! The dispatcher's hands: performs its effects, gives out tickets, and never waits for anybody while doing so.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use crate::agent;
use crate::agent::profiles::Profiles;
use crate::dispatch::{self, Dispatcher};
use crate::handlers::Handlers;
use crate::ids::{AgentName, Run, Ticket};
use crate::msg::{
    AgentCommand, AgentReport, AgentSpec, Answer, ApiCall, Effect, Event, LinkCommand, Published,
    Reply,
};
use crate::pubsub::{Latest, Topic};
use crate::registry::{AgentInput, Registry, SidecarRegistry};
use crate::sys::reap::Reaper;
use crate::sys::{clock, failpoint, limits, thread};
use crate::time::{Now, Wall};
use crate::uplink::rest::RestJobs;
use crate::uplink::socket::{LinkInput, Uplink};
use crate::wire::event::Numbered;
use crate::wire::up::Up;

/// What comes in for the dispatcher.
pub(super) enum Inbound {
    /// News.
    Event(Event),
    /// A caller who waits on the channel, for as long as the flag is up.
    Call(ApiCall, Sender<Answer>, Arc<AtomicBool>),
}

/// What the shell works with.
pub(super) struct Hands {
    pub inbox: Sender<Inbound>,
    pub uplink: Uplink,
    pub jobs: RestJobs,
    pub handlers: Handlers,
    pub registry: Arc<Registry>,
    pub sidecars: Arc<SidecarRegistry>,
    pub events: Arc<Topic<Arc<str>>>,
    pub reaper: Arc<Reaper>,
    pub exe: PathBuf,
    pub state_dir: PathBuf,
    pub rows: Profiles,
    pub published: Arc<Latest<Published>>,
}

pub(super) struct Shell {
    hands: Hands,
    desk: HashMap<Ticket, Sender<Answer>>,
    next_ticket: Ticket,
    own: Vec<Event>,
    /// When the turn was decided whose effects are performed.
    decided: Wall,
}

impl Shell {
    pub(super) fn new(hands: Hands) -> Self {
        Self {
            hands,
            desk: HashMap::new(),
            next_ticket: Ticket(1),
            own: Vec::new(),
            decided: Wall::default(),
        }
    }

    /// Performs what the opening turn decided.
    pub(super) fn begin(&mut self, out: dispatch::Out) {
        self.decided = out.at.unwrap_or_default();
        for effect in out.effects {
            let _ = thread::Shell::perform(self, effect);
        }
    }

    fn spawn(&mut self, run: Run, spec: AgentSpec) {
        let name = spec.name.clone();
        let (inbox, registry, who) = (
            self.hands.inbox.clone(),
            self.hands.registry.clone(),
            name.clone(),
        );
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let report = move |report: AgentReport| {
            if matches!(
                report,
                AgentReport::Exited(_)
                    | AgentReport::NotStarted { .. }
                    | AgentReport::NoRoom { .. }
            ) {
                ended.store(true, Ordering::Release);
                registry.remove(&who, run);
            }
            let _ = inbox.send(Inbound::Event(Event::Agent(who.clone(), run, report)));
        };
        let grounds = agent::Grounds {
            exe: &self.hands.exe,
            state: &self.hands.state_dir,
            rows: &self.hands.rows,
        };
        let (reaper, events) = (self.hands.reaper.clone(), self.hands.events.clone());
        match agent::start(run, spec, grounds, reaper, Box::new(report), events) {
            // The thread reports its own end, so nobody has to join it.
            Ok((line, _thread)) => {
                self.hands.registry.put(name.clone(), line);
                // It may have ended before its line was up.
                if over.load(Ordering::Acquire) {
                    self.hands.registry.remove(&name, run);
                }
            }
            Err(e) => {
                let why = format!("cannot start agent '{name}': {}", limits::explain(&e));
                self.own
                    .push(Event::Agent(name, run, AgentReport::NoRoom { why }));
            }
        }
    }

    fn order(&mut self, name: &AgentName, run: Run, command: AgentCommand) {
        // An agent whose line is down has already reported its end.
        let Some(line) = self.hands.registry.get(name).filter(|line| line.run == run) else {
            return;
        };
        match line.input.try_send_urgent(AgentInput::Command(command)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(AgentInput::Command(AgentCommand::Inject(injection)))) => {
                let why = "the agent's thread does not take orders; the message waits".to_owned();
                self.own.push(Event::Agent(
                    name.clone(),
                    run,
                    AgentReport::NotTaken(injection.delivery_id, why),
                ));
            }
            Err(TrySendError::Full(_)) => {
                log::error!("the thread of agent {name} does not take orders")
            }
        }
    }
}

impl thread::Shell<Dispatcher> for Shell {
    type Inbound = Inbound;

    const MEANWHILE: usize = 16 * 1024;

    fn accept(&mut self, inbound: Inbound) -> Event {
        match inbound {
            Inbound::Event(event) => event,
            // What its caller was told did not happen must not happen later. A tick is always harmless.
            Inbound::Call(_, _, waiting) if !waiting.swap(false, Ordering::AcqRel) => Event::Tick,
            Inbound::Call(call, caller, _) => {
                let ticket = self.next_ticket;
                self.next_ticket = ticket.next();
                self.desk.insert(ticket, caller);
                Event::Call(ticket, call)
            }
        }
    }

    fn tick(&self) -> Event {
        Event::Tick
    }

    fn decided(&mut self, now: Now) {
        self.decided = now.wall;
    }

    fn perform(&mut self, effect: Effect) -> ControlFlow<()> {
        match effect {
            Effect::Send(ack @ Up::DeliveryAck(_)) => {
                failpoint::hit("ack.durable");
                self.hands.uplink.send(LinkInput::Frame(ack));
                failpoint::hit("ack.sent");
            }
            Effect::Send(frame) => self.hands.uplink.send(LinkInput::Frame(frame)),
            Effect::Link(LinkCommand::Finish) => self.hands.uplink.finish(),
            Effect::Link(command) => self.hands.uplink.send(LinkInput::Command(command)),
            Effect::Spawn(run, spec) => self.spawn(run, *spec),
            Effect::Agent(name, run, command) => {
                if matches!(command, AgentCommand::Inject(_)) {
                    failpoint::hit("inject.durable");
                }
                self.order(&name, run, command);
            }
            Effect::RestJob(id, call) => {
                if let Some(busy) = self.hands.jobs.hand_over(id, call) {
                    self.own.push(Event::RestJob(id, busy));
                }
            }
            Effect::Handle(id, run) => {
                if let Some(why) = self.hands.handlers.start(id.clone(), *run) {
                    self.own.push(Event::Handled(id, Err(why)));
                }
            }
            Effect::Sidecar(id, push) => self.hands.sidecars.push(id, push),
            Effect::Launch(order) => {
                let argv = order.argv.clone();
                if let Some(why) = self.hands.handlers.launch(*order) {
                    self.own.push(Event::LaunchEnded(argv, why));
                }
            }
            Effect::Reply(ticket, answer) => {
                if matches!(answer, Ok(Reply::Sent(_))) {
                    failpoint::hit("reply.durable");
                }
                if let Some(caller) = self.desk.remove(&ticket) {
                    // A caller who gave up has dropped its end.
                    let _ = caller.try_send(answer);
                }
            }
            Effect::Enrolled { node_id, node_name } => self.hands.published.update(|published| {
                (published.node_id, published.node_name) = (node_id, node_name);
            }),
            Effect::Publish(seq, event) => {
                let text = serde_json::to_string(&Numbered {
                    seq: Some(seq),
                    timestamp: Some(self.decided),
                    event,
                })
                .unwrap_or_default();
                self.hands.events.publish(Some(seq), &Arc::from(text));
            }
            Effect::Exit(reason) => {
                log::info!("leaving: {reason:?}");
                self.hands.handlers.stop();
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn own_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.own)
    }

    fn give_up(&self) -> bool {
        let leave_by = self.hands.published.get().leave_by;
        leave_by.is_some_and(|at| at <= clock::now().mono)
    }

    fn trouble(&mut self, what: Option<&str>) {
        self.hands
            .published
            .update(|published| published.degraded = what.map(str::to_owned));
    }
}
