//! Starts agents' threads, each with what it is given.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::agent::{actor, hook, landed_note, profiles, running};
use crate::ids::Run;
use crate::msg::{AgentReport, AgentSpec};
use crate::pubsub::Topic;
use crate::registry::{AGENT_QUEUE, AgentHandle, Chunk, Seats};
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
    /// The operator's profile rows.
    pub rows: &'a profiles::Profiles,
}

/// Starts an agent's thread, which starts the program: whether that worked is its first report, `Started` or
/// `NotStarted` or `NoRoom`; the last is `Exited` unless it was one of these. The caller puts the line up and takes it down
/// again. `events` gets rendered `worker_stream` events while anybody listens.
///
/// # Errors
/// When there is no descriptor, thread or memory to be had.
pub fn start(
    run: Run,
    spec: AgentSpec,
    grounds: Grounds<'_>,
    reaper: Arc<Reaper>,
    report: Box<dyn Fn(AgentReport) + Send>,
    events: Arc<Topic<Arc<str>>>,
) -> io::Result<(AgentHandle, Handle)> {
    limits::check_room_for_agent(STACK_KIB as u64 * 1024)?;
    let (sender, input) = mailbox(AGENT_QUEUE)?;
    let output = Arc::new(Topic::new(0).weighing(|chunk: &Chunk| chunk.bytes.len()));
    let agent = AgentHandle {
        run,
        input: sender.clone(),
        output: output.clone(),
        seats: Arc::new(Seats::new(spec.size)),
    };
    let mark = landed_note::LandedNote::open(&grounds.state.join(landed_note::FOLDER), &spec.name)
        .inspect_err(|e| log::warn!("no note is kept of what {} has read: {e}", spec.name))
        .ok();
    let name = format!("agent:{}", spec.name);
    let job = actor::Job {
        profile: grounds.rows.of(&spec),
        spec,
        mark,
        hooks: grounds.state.join(hook::FOLDER),
        running: grounds.state.join(running::FOLDER),
        reaper,
        report,
        input,
        own_input: sender,
        output,
        events,
    };
    let exe = grounds.exe.to_owned();
    let handle = thread::start(name, STACK_KIB, move || actor::run(job, &exe))?;
    Ok((agent, handle))
}
