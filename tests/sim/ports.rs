//! The dispatcher's ways out in a world: what goes through them is noted and carried out by the world. Some are shut now and
//! then.

use relay_broker::broker::driver::Ports;
use relay_broker::ids::{AgentName, InvocationId, JobId, Run, SidecarId};
use relay_broker::ledger::Record;
use relay_broker::msg::{
    AgentCommand, AgentSpec, Answer, HandlerRun, RestCall, RestDone, SidecarPush,
};
use relay_broker::prng::Prng;
use relay_broker::time::Wall;
use relay_broker::wire::event::BrokerEvent;
use relay_broker::wire::local::Supervision;
use relay_broker::wire::up::Up;

use crate::people::Caller;
use crate::process::Tape;

/// What left the dispatcher.
#[derive(Debug)]
pub enum Act {
    Answer(Caller, Answer),
    Send(Box<Up>),
    Reconnect,
    Finish,
    /// With false, the thread's program does not start.
    Spawn(Run, Box<AgentSpec>, bool),
    Order(AgentName, Run, AgentCommand),
    Publish(u64, Box<BrokerEvent>),
    Rest(JobId, Box<RestCall>),
}

/// Who waits, and until when.
pub struct Waiting {
    pub caller: Caller,
    pub give_up: u64,
}

/// See the module.
pub struct SimPorts {
    tape: Tape<Record, Act>,
    prng: Prng,
    /// The world's time.
    pub now: u64,
    /// Once in a thousand, so many times an agent's thread takes no orders.
    pub full_queue: u64,
    /// The same for threads that are not to be had, and for programs that do not start.
    pub unborn: u64,
}

impl SimPorts {
    pub fn new(tape: Tape<Record, Act>, seed: u64) -> Self {
        Self {
            tape,
            prng: Prng::new(seed),
            now: 0,
            full_queue: 0,
            unborn: 0,
        }
    }
}

impl Ports for SimPorts {
    type Caller = Waiting;

    fn claim(&mut self, waiting: &Waiting) -> bool {
        self.now <= waiting.give_up
    }

    fn answer(&mut self, waiting: Waiting, answer: Answer) {
        self.tape.did(Act::Answer(waiting.caller, answer));
    }

    fn send(&mut self, frame: Up) {
        self.tape.did(Act::Send(Box::new(frame)));
    }

    fn reconnect(&mut self) {
        self.tape.did(Act::Reconnect);
    }

    fn finish(&mut self) {
        self.tape.did(Act::Finish);
    }

    fn spawn(&mut self, run: Run, spec: AgentSpec) -> Result<(), String> {
        let starts = self.prng.below(1000) >= self.unborn;
        if !starts && self.prng.below(2) == 0 {
            return Err("no thread left".into());
        }
        self.tape.did(Act::Spawn(run, Box::new(spec), starts));
        Ok(())
    }

    fn order(
        &mut self,
        name: &AgentName,
        run: Run,
        command: AgentCommand,
    ) -> Result<(), AgentCommand> {
        if matches!(command, AgentCommand::Inject(_)) && self.prng.below(1000) < self.full_queue {
            return Err(command);
        }
        self.tape.did(Act::Order(name.clone(), run, command));
        Ok(())
    }

    /// What a release leaves with the engine is cleared. All other calls of the dispatcher to the engine are none of this
    /// simulation's business: none succeeds.
    fn rest_job(&mut self, id: JobId, call: RestCall) -> Option<RestDone> {
        if matches!(
            call,
            RestCall::Find { .. } | RestCall::Leftovers { .. } | RestCall::Close { .. }
        ) {
            self.tape.did(Act::Rest(id, Box::new(call)));
            return None;
        }
        Some(RestDone::Failed {
            status: None,
            code: "unreachable".into(),
            message: "nobody answers".into(),
        })
    }

    /// No world here serves actions.
    fn handle(&mut self, _: InvocationId, _: HandlerRun) -> Option<String> {
        None
    }

    fn launch(&mut self, _: Supervision) -> Option<String> {
        None
    }

    fn push(&mut self, _: SidecarId, _: SidecarPush) {}

    fn publish(&mut self, seq: u64, _: Wall, event: BrokerEvent) {
        self.tape.did(Act::Publish(seq, Box::new(event)));
    }

    fn leave(&mut self) {}
}
