//! An agent's one thread: it makes the process, then sleeps in one `poll` over the terminal and its mailbox, and feeds the
//! loop that drives the core, whose ways out it is. It never waits for the program. Decides nothing about messages.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::TryRecvError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::agent::core::{AgentCore, Ending, Event};
use crate::agent::driver::{AgentLoop, AgentPorts};
use crate::agent::given_tools::{self, GivenTools};
use crate::agent::hint::FirstHint;
use crate::agent::hook::{self, Hook};
use crate::agent::landed_note::{LandedNote, tell_noted};
use crate::agent::profile::{Profile, Source};
use crate::agent::proof::MessageHead;
use crate::agent::pty::{Birth, PtyRead, StartReport, Terminal};
use crate::agent::running::Running;
use crate::agent::seen_note;
use crate::agent::transcript::Transcript;
use crate::agent::tty_state::TtyState;
use crate::history::HistoryQueue;
use crate::ids::{AgentName, DeliveryId};
use crate::msg::{AgentCommand, AgentReport, AgentSpec, How, Size};
use crate::pubsub::Topic;
use crate::recording::Tape;
use crate::registry::{AGENT_QUEUE, AgentInput, Chunk, LastOutput};
use crate::screen::utf8::Pieces;
use crate::sys::reap::Reaper;
use crate::sys::wake::{Receiver, Sender};
use crate::sys::{clock, failpoint};
use crate::time::Mono;
use crate::wire::event::{BrokerEvent, Numbered};

/// The most output one round takes before orders get their turn: seven reads of a terminal. The round's copy stays below
/// 32 KiB, from where on the allocator of the static build asks the kernel for each piece, which costs more than the copy.
pub(super) const ROUND: usize = 28 * 1024;
/// The most that a hook's program may tell in one round.
const PROMPTS: usize = 16;
/// How long the new process has to become the program.
const BIRTH: Duration = Duration::from_secs(5);
/// How long what a dead program left behind may go on writing into its terminal.
const DRAIN: Duration = Duration::from_millis(500);

/// What an agent's thread is given.
pub struct Job {
    pub spec: AgentSpec,
    pub profile: Profile,
    pub mark: Option<LandedNote>,
    /// Where what it prints is recorded, if it is.
    pub tape: Option<Tape>,
    /// Where sockets and settings of programs' hooks are.
    pub hooks: PathBuf,
    /// Where it is noted which processes are agents.
    pub running: PathBuf,
    pub reaper: Arc<Reaper>,
    pub report: Box<dyn Fn(AgentReport) + Send>,
    pub input: Receiver<AgentInput>,
    pub own_input: Sender<AgentInput>,
    pub output: Arc<Topic<Chunk>>,
    pub activity: Arc<LastOutput>,
    pub events: Arc<Topic<Arc<str>>>,
    pub history: HistoryQueue,
}

/// The thread's body, from making the process to reporting its end.
pub fn run(mut job: Job, exe: &Path) {
    let asks = job.profile.hook || job.profile.tools.is_some();
    let kept = asks.then(|| hook::kept(&job.hooks, exe));
    let hook = kept.as_ref().and_then(|kept| hook(&mut job, kept));
    // The file, if it is one, is there as long as the program.
    let tools = kept.as_ref().and_then(|kept| tools(&mut job, kept));
    let hint = FirstHint::of(&job.profile, tools.is_some());
    let Birth { terminal, status } = match Terminal::spawn(&job.spec, exe) {
        Ok(birth) => birth,
        Err(why_not) => return (job.report)(why_not),
    };
    let pid = terminal.pid();
    // Before the process may become the program. Removed when this thread is done with it.
    let _running = Running::note(&job.running, &job.spec.name, pid);
    let ended = claim(&job, pid);
    let mut backlog = VecDeque::new();
    match await_program(&status, pid, &ended, &job.input, &mut backlog) {
        Ok(()) => {
            if let Some(tape) = &job.tape {
                tape.begun(clock::now().wall);
            }
            (job.report)(AgentReport::Started { pid });
        }
        Err(why) => {
            terminal.signal(Ending::Kill);
            return (job.report)(AgentReport::NotStarted { why });
        }
    }
    drop(status);
    let mut actor = Actor::new(job, terminal, hook, hint, ended);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| actor.live(backlog))) {
        let ports = actor.agent.ports();
        ports.signal(Ending::Kill);
        (ports.report)(failed(&*panic));
    }
}

/// Has the end of the process told to this thread, and kept.
pub(super) fn claim(job: &Job, pid: u32) -> Arc<OnceLock<How>> {
    let ended = Arc::new(OnceLock::new());
    let (slot, waker) = (ended.clone(), job.own_input.clone());
    job.reaper.claim(
        pid,
        Box::new(move |how: How| {
            let _ = slot.set(how);
            // With a full queue the thread is awake anyway, and finds the end in the slot.
            let _ = waker.try_send(AgentInput::Exited);
        }),
    );
    ended
}

/// What is told of an agent whose thread failed.
pub(super) fn failed(panic: &(dyn Any + Send)) -> AgentReport {
    let what = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    AgentReport::Exited(How {
        note: Some(format!("the broker's thread for this agent failed: {what}")),
        ..How::default()
    })
}

/// The hook of a program that takes one. Without it the screen must do.
pub(super) fn hook(job: &mut Job, exe: &Path) -> Option<Hook> {
    if !job.profile.hook {
        return None;
    }
    let more = job.profile.tools.map(|_| given_tools::claude_settings());
    let hook = Hook::open(&job.hooks, exe, &more.unwrap_or_default())
        .inspect_err(|e| log::warn!(event = "hook_missing", agent:% = job.spec.name; "{} gets no hook, the screen must do: {e}", job.spec.name))
        .ok()?;
    hook.join(&mut job.spec.argv, &job.profile.program)
        .then_some(hook)
}

/// The agent goes on without tools where it cannot be given any.
pub(super) fn tools(job: &mut Job, exe: &Path) -> Option<GivenTools> {
    let way = job.profile.tools?;
    let (argv, env) = (&mut job.spec.argv, &mut job.spec.env);
    given_tools::give(way, &job.profile.program, argv, env, &job.hooks, exe)
        .inspect_err(|e| log::warn!(event = "tools_missing", agent:% = job.spec.name; "{} gets no tools: {e}", job.spec.name))
        .ok()
        .flatten()
}

/// Waits until the process has become the program. Orders that come meanwhile go to the backlog.
pub(super) fn await_program(
    status: &StartReport,
    pid: u32,
    ended: &OnceLock<How>,
    input: &Receiver<AgentInput>,
    backlog: &mut VecDeque<AgentInput>,
) -> Result<(), String> {
    let give_up = clock::now().mono + BIRTH;
    let (mut stream, mut said) = (None, Vec::new());
    loop {
        let over = ended.get().is_some();
        if stream.is_none() {
            stream = status.accept(pid);
        }
        if let Some(stream) = &mut stream {
            match stream.read_to_end(&mut said) {
                Ok(_) if said.is_empty() => return Ok(()),
                Ok(_) => return Err(String::from_utf8_lossy(&said).into_owned()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => {
                    return Err(format!(
                        "cannot start agent: its status cannot be read: {e}"
                    ));
                }
            }
        }
        if over {
            let how = ended.get().cloned().unwrap_or_default();
            return Err(format!(
                "cannot start agent: the new process ended before it became the program ({how})"
            ));
        }
        let left = give_up.since(clock::now().mono);
        if left.is_zero() {
            return Err(format!(
                "cannot start agent: the new process has not become the program within {BIRTH:?}"
            ));
        }
        let mut fds = [
            PollFd::new(input, PollFlags::IN),
            match &stream {
                Some(stream) => PollFd::new(stream, PollFlags::IN),
                None => PollFd::new(status.listener(), PollFlags::IN),
            },
        ];
        let _ = poll(&mut fds, Some(&timespec(left)));
        if !fds[0].revents().is_empty() {
            input.clear();
            backlog.extend(std::iter::from_fn(|| input.try_recv().ok()));
        }
    }
}

/// What there is to do.
struct ActorWake {
    terminal: bool,
    mailbox: bool,
    hook: bool,
}

/// The core's ways out: the program's terminal, its history, the dispatcher, and whoever types.
struct ActorPorts {
    terminal: Terminal,
    mark: Option<LandedNote>,
    tape: Option<Tape>,
    /// Until a message has brought it.
    hint: Option<FirstHint>,
    history: Option<Transcript>,
    report: Box<dyn Fn(AgentReport) + Send>,
    typists: HashMap<u64, crossbeam_channel::Sender<Result<usize, String>>>,
    /// What landed since the terminal was last looked at for it.
    landed: Vec<DeliveryId>,
    /// The terminal hung up: nothing more to read or write.
    hung_up: bool,
}

impl AgentPorts for ActorPorts {
    fn tty_state(&mut self) -> TtyState {
        self.terminal.facts()
    }

    fn awaited(&mut self) -> Option<bool> {
        self.terminal.awaited()
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        if self.hung_up {
            return 0;
        }
        loop {
            match self.terminal.write(bytes) {
                Ok(0) => return 0,
                Ok(n) => {
                    failpoint::hit("agent.wrote");
                    return n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return 0,
            }
        }
    }

    fn resize(&mut self, size: Size) {
        if let Some(tape) = &self.tape {
            tape.resized(clock::now().wall, size);
        }
        self.terminal.resize(size);
    }

    fn signal(&mut self, ending: Ending) {
        self.terminal.signal(ending);
    }

    fn note_history(&mut self, source: Source) {
        // Not before: a launcher becomes the program some time after its start.
        let pid = self.terminal.pid();
        self.history
            .get_or_insert_with(|| Transcript::of(source, pid))
            .note();
    }

    fn is_in_history(&mut self, head: &MessageHead, may_be_placeholder: bool) -> bool {
        let history = self.history.as_ref();
        history.is_some_and(|history| history.has(head, may_be_placeholder))
    }

    fn report(&mut self, report: AgentReport) {
        if let AgentReport::Landed(id, ..) = &report {
            self.hint.take_if(|hint| hint.is_told_by(id));
            self.landed.push(id.clone());
        }
        tell_noted(self.mark.as_ref(), &self.report, report);
    }

    fn pressed(&mut self, number: u64, result: Result<usize, String>) {
        if let Some(done) = self.typists.remove(&number) {
            let _ = done.try_send(result);
        }
    }
}

struct Actor {
    name: AgentName,
    agent: AgentLoop<ActorPorts>,
    input: Receiver<AgentInput>,
    hook: Option<Hook>,
    output: Arc<Topic<Chunk>>,
    activity: Arc<LastOutput>,
    events: Arc<Topic<Arc<str>>>,
    history: HistoryQueue,
    pieces: Pieces,
    typed: u64,
    ended: Arc<OnceLock<How>>,
    /// The mailbox was not emptied, so that the terminal gets its turn.
    more_orders: bool,
}

impl Actor {
    fn new(
        job: Job,
        terminal: Terminal,
        hook: Option<Hook>,
        hint: Option<FirstHint>,
        ended: Arc<OnceLock<How>>,
    ) -> Self {
        let core = AgentCore::new(&job.spec, job.profile, clock::now().mono);
        let ports = ActorPorts {
            terminal,
            mark: job.mark,
            tape: job.tape,
            hint,
            history: None,
            report: job.report,
            typists: HashMap::new(),
            landed: Vec::new(),
            hung_up: false,
        };
        Self {
            name: job.spec.name,
            agent: AgentLoop::new(core, ports),
            input: job.input,
            hook,
            output: job.output,
            activity: job.activity,
            events: job.events,
            history: job.history,
            pieces: Pieces::default(),
            typed: 0,
            ended,
            more_orders: false,
        }
    }

    fn feed(&mut self, event: Event) {
        self.agent.take(clock::now(), event);
    }

    fn live(&mut self, backlog: VecDeque<AgentInput>) {
        let mut buffer = vec![0; ROUND];
        for input in backlog {
            self.take(input);
        }
        let mut until = self.agent.settle(clock::now);
        while self.ended.get().is_none() {
            let ActorWake {
                terminal,
                mailbox,
                hook,
            } = self.wait(until);
            if mailbox {
                self.orders();
            }
            if hook {
                self.prompts();
            }
            if terminal {
                self.pump(&mut buffer);
            }
            until = self.agent.settle(clock::now);
            let landed = std::mem::take(&mut self.agent.ports().landed);
            let screen = self.agent.core().screen();
            seen_note::seen(&self.history, &self.name, landed, screen);
        }
        self.die(&mut buffer);
    }

    /// Sleeps until something happens: output, room, an order, or the core's deadline.
    fn wait(&mut self, until: Option<Mono>) -> ActorWake {
        let timeout = match self.more_orders {
            true => Some(Duration::ZERO),
            false => until.map(|at| at.since(clock::now().mono)),
        };
        let timeout = timeout.map(timespec);
        let mut interest = PollFlags::IN;
        if self.agent.has_unwritten() {
            interest |= PollFlags::OUT;
        }
        let hook = match &self.hook {
            Some(hook) => PollFd::new(hook, PollFlags::IN),
            None => PollFd::new(&self.input, PollFlags::empty()),
        };
        let ports = self.agent.ports();
        let hung_up = ports.hung_up;
        let mut fds = [
            PollFd::new(&self.input, PollFlags::IN),
            hook,
            PollFd::new(&ports.terminal, interest),
        ];
        // A terminal that hung up stays "ready" for ever.
        let watched = if hung_up { 2 } else { 3 };
        match poll(&mut fds[..watched], timeout.as_ref()) {
            Ok(_) => ActorWake {
                terminal: fds[2]
                    .revents()
                    .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
                mailbox: self.more_orders || !fds[0].revents().is_empty(),
                hook: fds[1].revents().contains(PollFlags::IN),
            },
            // Interrupted, or out of memory for a moment: look at everything.
            Err(_) => ActorWake {
                terminal: !hung_up,
                mailbox: true,
                hook: true,
            },
        }
    }

    /// What the program's hook told, but no more than a round's worth.
    fn prompts(&mut self) {
        for _ in 0..PROMPTS {
            let Some(prompt) = self.hook.as_mut().and_then(Hook::told) else {
                return;
            };
            self.feed(Event::Prompted(prompt));
        }
    }

    fn orders(&mut self) {
        self.input.clear();
        self.more_orders = false;
        for _ in 0..AGENT_QUEUE {
            match self.input.try_recv() {
                Ok(input) => self.take(input),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
        self.more_orders = true;
    }

    fn take(&mut self, input: AgentInput) {
        let event = match input {
            AgentInput::Command(mut command) => {
                if let AgentCommand::Inject(injection) = &mut command {
                    failpoint::hit("agent.ordered");
                    if let Some(hint) = &mut self.agent.ports().hint {
                        hint.add(injection);
                    }
                }
                Event::Command(command)
            }
            AgentInput::Resize(size) => Event::Resize(size),
            AgentInput::Type { bytes, done } => {
                self.typed += 1;
                if let Some(done) = done {
                    self.agent.ports().typists.insert(self.typed, done);
                }
                Event::Keys(self.typed, bytes)
            }
            // The slot says how, and cannot overflow.
            AgentInput::Exited => return,
        };
        self.feed(event);
    }

    /// Reads what is there, but no more than a round's worth.
    fn pump(&mut self, buffer: &mut [u8]) -> bool {
        let mut filled = 0;
        let (mut more, mut flushed) = (true, false);
        let ports = self.agent.ports();
        while more && filled < buffer.len() {
            match ports.terminal.read(&mut buffer[filled..]) {
                Ok(PtyRead::End) => {
                    ports.hung_up = true;
                    more = false;
                }
                Ok(PtyRead::Output(n)) => filled += n,
                Ok(PtyRead::Flushed) => flushed = true,
                Ok(PtyRead::Nothing) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => more = false,
            }
        }
        if filled > 0 {
            let bytes = &buffer[..filled];
            self.tell(bytes);
            self.feed(Event::Output(bytes.to_vec()));
        }
        if flushed {
            self.feed(Event::Flushed);
        }
        self.agent.settle(clock::now);
        more
    }

    /// Output goes to whoever listens, and on the tape.
    fn tell(&mut self, bytes: &[u8]) {
        let now = clock::now().wall;
        self.activity.note(now);
        if let Some(tape) = &self.agent.ports().tape {
            tape.output(now, bytes);
        }
        let offset = self.agent.core().screen().offset() + bytes.len() as u64;
        if self.output.heard() {
            let chunk = Chunk {
                bytes: bytes.into(),
                offset,
            };
            self.output.publish(None, &chunk);
        }
        if self.events.heard() {
            let text = self.pieces.push(bytes);
            self.publish(text, offset);
        } else {
            self.pieces = Pieces::default();
        }
    }

    fn publish(&self, chunk: String, offset: u64) {
        if !chunk.is_empty() {
            publish_output(&self.events, &self.name, "stdout", chunk, offset);
        }
    }

    /// The process ended: its last words are heard, then its end is reported.
    fn die(&mut self, buffer: &mut [u8]) {
        self.agent.let_go();
        self.agent.ports().terminal.let_go();
        let give_up: Mono = clock::now().mono + DRAIN;
        // All that the program itself wrote is readable by now, so silence is the end of it.
        while self.pump(buffer) {
            if clock::now().mono >= give_up {
                log::warn!(
                    "{}: something it started still writes to its terminal; left behind",
                    self.name
                );
                break;
            }
        }
        let offset = self.agent.core().screen().offset();
        let rest = self.pieces.finish();
        if self.events.heard() {
            self.publish(rest, offset);
        }
        if self.agent.core().stopping() {
            // It was to end with all its children, and those that ignore a hang-up are still there.
            self.agent.ports().terminal.kill_session();
        }
        let how = self.ended.get().cloned().unwrap_or_default();
        // The next life may begin as soon as this one's end is told.
        if let Some(tape) = self.agent.ports().tape.take() {
            tape.ended(clock::now().wall, how.to_string());
        }
        self.agent.end(clock::now, how);
    }
}

/// Tells whoever listens what a program wrote.
pub(super) fn publish_output(
    events: &Topic<Arc<str>>,
    name: &AgentName,
    stream: &str,
    chunk: String,
    offset: u64,
) {
    let event = Numbered {
        seq: None,
        timestamp: Some(clock::now().wall),
        event: BrokerEvent::WorkerStream {
            name: name.clone(),
            stream: stream.into(),
            chunk,
            offset,
        },
    };
    match serde_json::to_string(&event) {
        Ok(text) => events.publish(None, &text.into()),
        Err(e) => {
            log::warn!(event = "output_untold", agent:% = name; "output of {name} cannot be told: {e}")
        }
    }
}

pub(super) fn timespec(wait: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    }
}
