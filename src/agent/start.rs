//! Starts agents' threads, each with what it is given.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::agent::{actor, hook, landed_note, pipe_actor, profiles, running};
use crate::history::HistoryQueue;
use crate::ids::Run;
use crate::msg::{AgentReport, AgentSpec, Secret};
use crate::pubsub::Topic;
use crate::recording::Recorder;
use crate::registry::{AGENT_QUEUE, AgentHandle, Chunk, Seats};
use crate::sys::entropy;
use crate::sys::limits;
use crate::sys::reap::Reaper;
use crate::sys::thread::{self, Handle};
use crate::sys::wake::mailbox;

/// Stack of an agent's thread; the emulator and JSON are the deepest it gets.
const STACK_KIB: usize = 512;

/// What all agents of a broker are started with.
#[derive(Clone, Copy)]
pub struct Grounds<'a> {
    /// Our own binary (see [`exec`](crate::agent::exec)).
    pub exe: &'a Path,
    /// The folder that holds those of [`landed_note`], [`hook`] and [`running`].
    pub state: &'a Path,
    /// Where it is noted what a terminal showed when a message arrived.
    pub history: &'a HistoryQueue,
    /// The operator's profile rows.
    pub rows: &'a profiles::Profiles,
    /// Keeps what they print, if anything is kept.
    pub recorder: Option<&'a Recorder>,
}

/// Starts an agent's thread, which starts the program: whether that worked is its first report, `Started` or
/// `NotStarted` or `NoRoom`; the last is `Exited` unless it was one of these. The caller puts the line up and takes it down
/// again. `events` gets rendered `worker_stream` events while anybody listens.
///
/// # Errors
/// When there is no descriptor, thread or memory to be had.
pub fn start(
    run: Run,
    mut spec: AgentSpec,
    grounds: Grounds<'_>,
    reaper: Arc<Reaper>,
    report: Box<dyn Fn(AgentReport) + Send>,
    events: Arc<Topic<Arc<str>>>,
) -> io::Result<(AgentHandle, Handle)> {
    limits::check_room_for_agent(STACK_KIB as u64 * 1024)?;
    let (sender, input) = mailbox(AGENT_QUEUE)?;
    let token = local_token(&mut spec);
    let output = Arc::new(Topic::new(0).weighing(|chunk: &Chunk| chunk.bytes.len()));
    let agent = AgentHandle {
        run,
        token,
        input: sender.clone(),
        output: output.clone(),
        seats: Arc::new(Seats::new(spec.size)),
        activity: Arc::default(),
        has_terminal: spec.headless.is_none(),
    };
    let mark = landed_note::LandedNote::open(&grounds.state.join(landed_note::FOLDER), &spec.name)
        .inspect_err(|e| log::warn!(event = "landed_note_missing", agent:% = spec.name; "no note is kept of what {} has read: {e}", spec.name))
        .ok();
    let name = format!("agent:{}", spec.name);
    let (form, has_terminal) = (spec.treatment.record, spec.headless.is_none());
    let tape = grounds
        .recorder
        .and_then(|r| r.tape(&spec.name, form, has_terminal, spec.size));
    let job = actor::Job {
        profile: grounds.rows.of(&spec),
        spec,
        mark,
        tape,
        hooks: grounds.state.join(hook::FOLDER),
        running: grounds.state.join(running::FOLDER),
        reaper,
        report,
        input,
        own_input: sender,
        output,
        activity: agent.activity.clone(),
        events,
        history: grounds.history.clone(),
    };
    let exe = grounds.exe.to_owned();
    let handle = thread::start(name, STACK_KIB, move || match job.spec.headless {
        None => actor::run(job, &exe),
        Some(cli) => pipe_actor::run(job, cli, &exe),
    })?;
    Ok((agent, handle))
}

/// The variable by which a program shows the local API, and the engine, which agent it is.
const TOKEN: &str = "RELAY_AGENT_TOKEN";

/// What the program shows at the local API: its token of the engine, or one of this machine's alone where the engine has not
/// given any yet. `None` where there is no randomness to be had: it then has the rights of a stranger.
fn local_token(spec: &mut AgentSpec) -> Option<Secret> {
    if let Some(token) = &spec.token {
        return Some(token.clone());
    }
    if let Some(given) = spec.env.get(TOKEN) {
        return Some(Secret::new(given));
    }
    let random = entropy::hex::<24>()
        .inspect_err(|e| log::warn!("{} gets no token for the local API: {e}", spec.name))
        .ok()?;
    let token = format!("la_{random}");
    spec.env.insert(TOKEN.to_owned(), token.clone());
    Some(Secret::new(token))
}
