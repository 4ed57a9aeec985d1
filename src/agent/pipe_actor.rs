//! The thread of an agent without a terminal: it makes the process, then sleeps in one `poll` over pipes and mailbox, and
//! feeds the loop that drives the core. It never waits for the program. Decides nothing about messages.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::actor::{self, Job};
use super::pipes::{self, PipeRead, Pipes};
use crate::agent::core::Ending;
use crate::agent::headless::core::{Effect, Event, HeadlessCore};
use crate::agent::headless::without_session;
use crate::agent::hint::FirstHint;
use crate::agent::hook::{self, Hook};
use crate::agent::landed_note::{LandedNote, tell_noted};
use crate::agent::running::Running;
use crate::ids::AgentName;
use crate::known_clis::HeadlessCli;
use crate::machine::NoLog;
use crate::machine::event_loop::{Driver, EventLoop};
use crate::msg::{AgentCommand, AgentReport, How};
use crate::pubsub::Topic;
use crate::recording::Tape;
use crate::registry::{AGENT_QUEUE, AgentInput, Chunk, LastOutput};
use crate::sys::wake::Receiver;
use crate::sys::{clock, entropy, failpoint};
use crate::time::{Mono, Wall};

/// How long what a dead program left behind may go on writing.
const DRAIN: Duration = Duration::from_millis(500);

/// The thread's body, from making the process to reporting its end.
pub(super) fn run(mut job: Job, cli: HeadlessCli, exe: &Path) {
    let kept = hook::kept(&job.hooks, exe);
    // The settings that let it use its tools come with the hook; what that tells is told better over the pipes.
    let hook = actor::hook(&mut job, &kept);
    let tools = actor::tools(&mut job, &kept);
    let hint = FirstHint::of(&job.profile, tools.is_some());
    let session = match cli {
        HeadlessCli::Claude => Vec::new(),
        HeadlessCli::Opencode => {
            let (argv, session) = without_session(&job.spec.argv);
            job.spec.argv = argv;
            session
        }
    };
    let salt = match entropy::hex::<8>() {
        Ok(salt) => salt,
        Err(e) => {
            let why = format!("cannot start agent: no randomness for its messages' names: {e}");
            return (job.report)(AgentReport::NotStarted { why });
        }
    };
    let (pipes, status) = match Pipes::spawn(&job.spec, exe) {
        Ok(made) => made,
        Err(why_not) => return (job.report)(why_not),
    };
    let pid = pipes.pid();
    // Before the process may become the program. Removed when this thread is done with it.
    let _running = Running::note(&job.running, &job.spec.name, pid);
    let ended = actor::claim(&job, pid);
    let mut backlog = VecDeque::new();
    if let Err(why) = actor::await_program(&status, pid, &ended, &job.input, &mut backlog) {
        pipes.signal(Ending::Kill);
        return (job.report)(AgentReport::NotStarted { why });
    }
    if let Some(tape) = &job.tape {
        tape.begun(clock::now().wall);
    }
    (job.report)(AgentReport::Started { pid });
    drop(status);
    let core = HeadlessCore::new(&job.spec, cli, session, salt, clock::now().mono);
    let mut actor = PipeActor::new(job, core, pipes, hook, hint, ended);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| actor.live(backlog))) {
        actor.ports.pipes.signal(Ending::Kill);
        (actor.ports.report)(actor::failed(&*panic));
    }
}

/// Performs the effects of the core.
struct PipePorts {
    name: AgentName,
    pipes: Pipes,
    unwritten: VecDeque<u8>,
    mark: Option<LandedNote>,
    tape: Option<Tape>,
    /// What the first message says besides, until it has landed.
    hint: Option<FirstHint>,
    report: Box<dyn Fn(AgentReport) + Send>,
    output: Arc<Topic<Chunk>>,
    events: Arc<Topic<Arc<str>>>,
    offset: u64,
    /// The program is gone: there is only something to report.
    over: bool,
}

impl Driver<HeadlessCore> for PipePorts {
    type Inbound = Event;

    fn accept(&mut self, event: Event) -> Event {
        event
    }

    fn tick(&self) -> Event {
        Event::Tick
    }

    fn perform(&mut self, _: Wall, effect: Effect, _: &mut Vec<Event>) -> ControlFlow<()> {
        match effect {
            Effect::Report(report) => {
                if let AgentReport::Landed(id, ..) = &report {
                    self.hint.take_if(|hint| hint.is_told_by(id));
                }
                tell_noted(self.mark.as_ref(), &self.report, report);
            }
            Effect::Show(text) => self.show("stdout", text),
            Effect::ShowError(text) => self.show("stderr", text),
            _ if self.over => {}
            Effect::Write(bytes) => self.unwritten.extend(bytes),
            Effect::Signal(ending) => self.pipes.signal(ending),
        }
        ControlFlow::Continue(())
    }

    /// An agent writes nothing down.
    fn degraded(&mut self, _: Option<&str>) {}
}

impl PipePorts {
    /// Words go to whoever listens, and on the tape.
    fn show(&mut self, stream: &str, mut text: String) {
        text.push('\n');
        self.offset += text.len() as u64;
        if let Some(tape) = &self.tape {
            tape.output(clock::now().wall, text.as_bytes());
        }
        if self.output.heard() {
            let chunk = Chunk {
                bytes: text.as_bytes().into(),
                offset: self.offset,
            };
            self.output.publish(None, &chunk);
        }
        if self.events.heard() {
            actor::publish_output(&self.events, &self.name, stream, text, self.offset);
        }
    }

    /// Writes what the pipe takes; how many bytes that was.
    fn flush(&mut self) -> usize {
        if self.unwritten.is_empty() {
            return 0;
        }
        let wrote = self.pipes.write(self.unwritten.make_contiguous());
        self.unwritten.drain(..wrote);
        if wrote > 0 {
            failpoint::hit("agent.wrote");
        }
        wrote
    }
}

struct PipeActor {
    event_loop: EventLoop<HeadlessCore, NoLog>,
    ports: PipePorts,
    input: Receiver<AgentInput>,
    hook: Option<Hook>,
    activity: Arc<LastOutput>,
    ended: Arc<OnceLock<How>>,
    /// Standard output and standard error have come to their end.
    closed: [bool; 2],
    more_orders: bool,
}

impl PipeActor {
    fn new(
        job: Job,
        core: HeadlessCore,
        pipes: Pipes,
        hook: Option<Hook>,
        hint: Option<FirstHint>,
        ended: Arc<OnceLock<How>>,
    ) -> Self {
        Self {
            event_loop: EventLoop::new(core, NoLog),
            ports: PipePorts {
                name: job.spec.name,
                pipes,
                unwritten: VecDeque::new(),
                mark: job.mark,
                tape: job.tape,
                hint,
                report: job.report,
                output: job.output,
                events: job.events,
                offset: 0,
                over: false,
            },
            input: job.input,
            hook,
            activity: job.activity,
            ended,
            closed: [false; 2],
            more_orders: false,
        }
    }

    fn feed(&mut self, event: Event) {
        self.event_loop.take(clock::now(), event, &mut self.ports);
    }

    /// Does what the core wants until it wants nothing more and the pipe takes nothing more.
    fn settle(&mut self) -> Option<Mono> {
        loop {
            let until = self.event_loop.settle(clock::now, &mut self.ports);
            match self.ports.flush() {
                0 => return until,
                wrote => self.feed(Event::Wrote(wrote)),
            }
        }
    }

    fn live(&mut self, backlog: VecDeque<AgentInput>) {
        self.feed(Event::Began);
        for input in backlog {
            self.take(input);
        }
        let mut buffer = vec![0; actor::ROUND];
        let mut until = self.settle();
        while self.ended.get().is_none() {
            self.wait(until);
            self.orders();
            self.pump(&mut buffer);
            while self.hook.as_mut().and_then(Hook::told).is_some() {}
            until = self.settle();
        }
        self.die(&mut buffer);
    }

    /// Sleeps until something happens: output, room, an order, or the core's deadline.
    fn wait(&self, until: Option<Mono>) {
        let timeout = match self.more_orders {
            true => Some(Duration::ZERO),
            false => until.map(|at| at.since(clock::now().mono)),
        };
        let timeout = timeout.map(actor::timespec);
        let pipes = &self.ports.pipes;
        let mut fds = vec![PollFd::new(&self.input, PollFlags::IN)];
        if let Some(hook) = &self.hook {
            fds.push(PollFd::new(hook, PollFlags::IN));
        }
        // What has come to its end stays "ready" for ever.
        for (pipe, closed) in [&pipes.output, &pipes.errors].into_iter().zip(self.closed) {
            if !closed {
                fds.push(PollFd::new(pipe, PollFlags::IN));
            }
        }
        if !self.ports.unwritten.is_empty() && !pipes::is_closed(&pipes.input) {
            fds.push(PollFd::new(&pipes.input, PollFlags::OUT));
        }
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn orders(&mut self) {
        self.input.clear();
        self.more_orders = false;
        for _ in 0..AGENT_QUEUE {
            match self.input.try_recv() {
                Ok(input) => self.take(input),
                Err(_) => return,
            }
        }
        self.more_orders = true;
    }

    fn take(&mut self, input: AgentInput) {
        if let AgentInput::Command(mut command) = input {
            if let AgentCommand::Inject(injection) = &mut command {
                failpoint::hit("agent.ordered");
                if let Some(hint) = &mut self.ports.hint {
                    hint.add(injection);
                }
            }
            self.feed(Event::Command(command));
        }
    }

    /// Reads what is there, but no more than a round's worth of each pipe; whether there may be more.
    fn pump(&mut self, buffer: &mut [u8]) -> bool {
        let mut more = false;
        for which in [0, 1] {
            if self.closed[which] {
                continue;
            }
            let pipes = &self.ports.pipes;
            let pipe = [&pipes.output, &pipes.errors][which];
            match pipes::read(pipe, buffer) {
                PipeRead::Nothing => {}
                PipeRead::End => self.closed[which] = true,
                PipeRead::Some(n) => {
                    more = true;
                    self.activity.note(clock::now().wall);
                    let bytes = buffer[..n].to_vec();
                    self.feed(match which {
                        0 => Event::Output(bytes),
                        _ => Event::Errors(bytes),
                    });
                    self.settle();
                }
            }
        }
        more
    }

    /// The process ended: its last words are heard, then its end is reported.
    fn die(&mut self, buffer: &mut [u8]) {
        self.ports.over = true;
        self.ports.unwritten.clear();
        let give_up = clock::now().mono + DRAIN;
        // All that the program itself wrote is readable by now, so silence is the end of it.
        while self.pump(buffer) {
            if clock::now().mono >= give_up {
                log::warn!(
                    "{}: something it started still writes to its pipes; left behind",
                    self.ports.name
                );
                break;
            }
        }
        if self.event_loop.machine().stopping() {
            // It was to end with all its children.
            self.ports.pipes.kill_session();
        }
        let how = self.ended.get().cloned().unwrap_or_default();
        if let Some(tape) = self.ports.tape.take() {
            tape.ended(clock::now().wall, how.to_string());
        }
        self.feed(Event::Exited(how));
        self.settle();
    }
}
