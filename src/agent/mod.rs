//! One agent: a program in a terminal, and the thread that types to it and listens. The parts that think are pure
//! ([`core`] and what it asks); [`pty`] and the actor touch the operating system. Never talks to the dispatcher except by
//! reports, and never to another agent.

mod actor;
mod consoles;
pub mod core;
mod draft;
pub mod exec;
mod gate;
mod inject;
pub mod mark;
mod profile;
mod prompt;
pub mod pty;
mod ready;
mod stream;
mod verify;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::hub::Topic;
use crate::ids::Run;
use crate::lines::{AGENT_QUEUE, Line};
use crate::msg::{AgentReport, AgentSpec};
use crate::sys::reap::Reaper;
use crate::sys::thread::{self, Handle};
use crate::sys::wake::mailbox;

/// Stack of an agent's thread; the emulator and JSON are the deepest it gets.
const STACK_KIB: usize = 512;

/// Starts an agent's thread, which starts the program: whether that worked is its first report, `Started` or
/// `NotStarted`; the last is `Exited` unless it was `NotStarted`. The caller puts the line up and takes it down again.
/// `exe` is our own binary (see [`exec`]); `marks` is the folder of [`mark`]; `events` gets rendered `worker_stream` events while anybody listens.
///
/// # Errors
/// When there is no descriptor or thread to be had.
pub fn start(
    run: Run,
    spec: AgentSpec,
    exe: &Path,
    marks: &Path,
    reaper: Arc<Reaper>,
    report: Box<dyn Fn(AgentReport) + Send>,
    events: Arc<Topic<Arc<str>>>,
) -> io::Result<(Line, Handle)> {
    let (sender, input) = mailbox(AGENT_QUEUE)?;
    let output = Arc::new(Topic::new(0));
    let line = Line {
        run,
        input: sender.clone(),
        output: output.clone(),
    };
    let mark = mark::Mark::open(marks, &spec.name)
        .inspect_err(|e| log::warn!("no note is kept of what {} has read: {e}", spec.name))
        .ok();
    let name = format!("agent:{}", spec.name);
    let job = actor::Job {
        spec,
        mark,
        reaper,
        report,
        input,
        own_input: sender,
        output,
        events,
    };
    let exe = exe.to_owned();
    let handle = thread::start(name, STACK_KIB, move || actor::run(job, &exe))?;
    Ok((line, handle))
}
