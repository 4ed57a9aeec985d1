//! What the dispatcher decides is done here: each effect goes out through one of the [`Ports`], callers get their tickets
//! and their answers, and nobody is waited for meanwhile. Threads and sockets are behind the ports, so the simulation runs
//! this driver too.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::ids::{AgentName, DeliveryId, InvocationId, JobId, Run, SidecarId, Ticket};
use crate::machine::Machine;
use crate::machine::event_loop::Driver;
use crate::msg::{
    AgentCommand, AgentReport, AgentSpec, Answer, ApiCall, Effect, Event, HandlerRun, LinkCommand,
    Published, Reply, RestCall, RestDone, SidecarPush,
};
use crate::pubsub::Latest;
use crate::sys::failpoint;
use crate::time::{Now, Wall};
use crate::wire::event::BrokerEvent;
use crate::wire::local::Supervision;
use crate::wire::up::Up;

/// What comes in for the dispatcher.
pub enum Inbound<C> {
    /// Something happened.
    Event(Event),
    /// A call, and who waits for its answer.
    Call(ApiCall, C),
}

/// The ways out of the dispatcher. None of them waits; what cannot be handed over is said at once.
pub trait Ports {
    /// Somebody who waits for the answer to a call.
    type Caller;

    /// Whether the caller still waits. If so, the call is begun, and its caller can no longer take it back.
    fn claim(&mut self, caller: &Self::Caller) -> bool;

    /// Answers a caller, who may have gone away.
    fn answer(&mut self, caller: Self::Caller, answer: Answer);

    /// A frame for the engine.
    fn send(&mut self, frame: Up);

    /// Drops the link and opens another.
    fn reconnect(&mut self);

    /// Lets the link say goodbye and end.
    fn finish(&mut self);

    /// Starts an agent's thread.
    ///
    /// # Errors
    /// The limit of the operating system that is in the way.
    fn spawn(&mut self, run: Run, spec: AgentSpec) -> Result<(), String>;

    /// An order to an agent's thread. An order to one that is gone is dropped: it has reported its end.
    ///
    /// # Errors
    /// The order, when the thread does not take any.
    fn order(
        &mut self,
        name: &AgentName,
        run: Run,
        command: AgentCommand,
    ) -> Result<(), AgentCommand>;

    /// An HTTP call to the engine; how it ended, if it did at once.
    fn rest_job(&mut self, id: JobId, call: RestCall) -> Option<RestDone>;

    /// Runs a program that serves an action; why not, if it cannot.
    fn handle(&mut self, id: InvocationId, run: HandlerRun) -> Option<String>;

    /// Starts a connected program again that serves actions; why not, if it cannot.
    fn launch(&mut self, order: Supervision) -> Option<String>;

    /// Tells a connected program that serves actions.
    fn push(&mut self, id: SidecarId, push: SidecarPush);

    /// Tells every subscriber what was decided at that time.
    fn publish(&mut self, seq: u64, at: Wall, event: BrokerEvent);

    /// The process ends: no program that serves actions goes on.
    fn leave(&mut self);
}

/// See the module.
pub struct DispatchDriver<P: Ports> {
    /// The ways out.
    pub ports: P,
    published: Arc<Latest<Published>>,
    callers: HashMap<Ticket, P::Caller>,
    next_ticket: Ticket,
}

impl<P: Ports> DispatchDriver<P> {
    /// A driver without callers that keeps `published` as it is decided.
    pub fn new(ports: P, published: Arc<Latest<Published>>) -> Self {
        Self {
            ports,
            published,
            callers: HashMap::new(),
            next_ticket: Ticket(1),
        }
    }

    fn order(&mut self, name: AgentName, run: Run, command: AgentCommand, events: &mut Vec<Event>) {
        if matches!(command, AgentCommand::Inject(_)) {
            failpoint::hit("inject.durable");
        }
        match self.ports.order(&name, run, command) {
            Ok(()) => {}
            Err(AgentCommand::Inject(injection)) => {
                events.push(not_taken(name, run, injection.delivery_id));
            }
            Err(_) => {
                log::error!(event = "order_lost", agent:% = name; "the thread of agent {name} does not take orders")
            }
        }
    }

    fn reply(&mut self, ticket: Ticket, answer: Answer) {
        if matches!(answer, Ok(Reply::Sent(_))) {
            failpoint::hit("reply.durable");
        }
        if let Some(caller) = self.callers.remove(&ticket) {
            self.ports.answer(caller, answer);
        }
    }
}

fn not_taken(name: AgentName, run: Run, id: DeliveryId) -> Event {
    let why = "the agent's thread does not take orders; the message waits".to_owned();
    Event::Agent(name, run, AgentReport::NotTaken(id, why))
}

impl<M, P> Driver<M> for DispatchDriver<P>
where
    M: Machine<Event = Event, Effect = Effect>,
    P: Ports,
{
    type Inbound = Inbound<P::Caller>;

    const MEANWHILE: usize = 16 * 1024;

    fn accept(&mut self, inbound: Self::Inbound) -> Event {
        match inbound {
            Inbound::Event(event) => event,
            // What its caller was told did not happen must not happen later. A tick is always harmless.
            Inbound::Call(_, caller) if !self.ports.claim(&caller) => Event::Tick,
            Inbound::Call(call, caller) => {
                let ticket = self.next_ticket;
                self.next_ticket = ticket.next();
                self.callers.insert(ticket, caller);
                Event::Call(ticket, call)
            }
        }
    }

    fn tick(&self) -> Event {
        Event::Tick
    }

    fn perform(&mut self, at: Wall, effect: Effect, events: &mut Vec<Event>) -> ControlFlow<()> {
        match effect {
            Effect::Send(ack @ Up::DeliveryAck(_)) => {
                failpoint::hit("ack.durable");
                self.ports.send(ack);
                failpoint::hit("ack.sent");
            }
            Effect::Send(frame) => self.ports.send(frame),
            Effect::Link(LinkCommand::Finish) => self.ports.finish(),
            Effect::Link(LinkCommand::Reconnect) => self.ports.reconnect(),
            Effect::Spawn(run, spec) => {
                let name = spec.name.clone();
                if let Err(why) = self.ports.spawn(run, *spec) {
                    events.push(Event::Agent(name, run, AgentReport::NoRoom { why }));
                }
            }
            Effect::Agent(name, run, command) => self.order(name, run, command, events),
            Effect::RestJob(id, call) => {
                let done = self.ports.rest_job(id, call);
                events.extend(done.map(|done| Event::RestJob(id, done)));
            }
            Effect::Handle(id, run) => {
                let why = self.ports.handle(id.clone(), *run);
                events.extend(why.map(|why| Event::Handled(id, Err(why))));
            }
            Effect::Sidecar(id, push) => self.ports.push(id, push),
            Effect::Launch(order) => {
                let argv = order.argv.clone();
                let why = self.ports.launch(*order);
                events.extend(why.map(|why| Event::LaunchEnded(argv, why)));
            }
            Effect::Reply(ticket, answer) => self.reply(ticket, answer),
            Effect::Enrolled { node_id, node_name } => self.published.update(|published| {
                (published.node_id, published.node_name) = (node_id, node_name);
            }),
            Effect::Publish(seq, event) => self.ports.publish(seq, at, event),
            Effect::Exit(reason) => {
                log::info!(event = "broker_leaving"; "leaving: {reason:?}");
                self.ports.leave();
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn degraded(&mut self, why: Option<&str>) {
        self.published
            .update(|published| published.degraded = why.map(str::to_owned));
    }

    fn gives_up(&self, now: Now) -> bool {
        let leave_by = self.published.get().leave_by;
        leave_by.is_some_and(|at| at <= now.mono)
    }
}
