//! The dispatcher's ways out in a running broker: mailboxes of threads, registries, a topic.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use super::driver::{Inbound, Ports};
use super::stopwatch::Stopwatch;
use super::story;
use crate::agent;
use crate::agent::profiles::Profiles;
use crate::handlers::HandlerRunner;
use crate::history::{HistoryFact, HistoryQueue, HistoryStep};
use crate::ids::{AgentName, InvocationId, JobId, Run, SidecarId};
use crate::msg::{
    AgentCommand, AgentReport, AgentSpec, Answer, Event, HandlerRun, LinkCommand, RestCall,
    RestDone, SidecarPush,
};
use crate::pubsub::{Latest, Topic};
use crate::recording::Recorder;
use crate::registry::{AgentInput, Registry, SidecarRegistry};
use crate::sys::reap::Reaper;
use crate::sys::{clock, limits};
use crate::time::Wall;
use crate::uplink::rest::RestJobs;
use crate::uplink::socket::{LinkInput, Uplink};
use crate::wire::event::{BrokerEvent, Numbered};
use crate::wire::local::Supervision;
use crate::wire::up::Up;

/// What the dispatcher's inbox holds.
pub(super) type DispatchInput = Inbound<ApiCaller>;

/// Somebody who waits on a channel for an answer, for as long as the flag is up.
pub(super) struct ApiCaller {
    pub answer: Sender<Answer>,
    pub waiting: Arc<AtomicBool>,
}

/// See the module.
pub(super) struct ThreadPorts {
    pub inbox: Sender<DispatchInput>,
    pub uplink: Uplink,
    pub jobs: RestJobs,
    pub handlers: HandlerRunner,
    pub registry: Arc<Registry>,
    pub sidecars: Arc<SidecarRegistry>,
    pub events: Arc<Topic<Arc<str>>>,
    pub stopwatch: Stopwatch,
    pub reaper: Arc<Reaper>,
    pub exe: PathBuf,
    pub state_dir: PathBuf,
    pub rows: Arc<Latest<Profiles>>,
    pub recorder: Arc<Recorder>,
    pub history: HistoryQueue,
}

impl ThreadPorts {
    /// Has a step written into the history, if anybody keeps one.
    fn note(&self, step: impl FnOnce(Wall) -> Option<HistoryStep>) {
        if !self.history.is_kept() {
            return;
        }
        if let Some(step) = step(clock::now().wall) {
            self.history.note(step);
        }
    }

    /// How an agent's thread reports. It leaves the registry with the last report. Also gives the flag that says so.
    fn reporter(
        &self,
        name: &AgentName,
        run: Run,
    ) -> (Box<dyn Fn(AgentReport) + Send>, Arc<AtomicBool>) {
        let (inbox, registry, who) = (self.inbox.clone(), self.registry.clone(), name.clone());
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let report = move |report: AgentReport| {
            if is_last(&report) {
                ended.store(true, Ordering::Release);
                registry.remove(&who, run);
            }
            let _ = inbox.send(Inbound::Event(Event::Agent(who.clone(), run, report)));
        };
        (Box::new(report), over)
    }
}

/// Whether an agent's thread says nothing after it.
fn is_last(report: &AgentReport) -> bool {
    matches!(
        report,
        AgentReport::Exited(_) | AgentReport::NotStarted { .. } | AgentReport::NoRoom { .. }
    )
}

impl Ports for ThreadPorts {
    type Caller = ApiCaller;

    fn claim(&mut self, caller: &ApiCaller) -> bool {
        caller.waiting.swap(false, Ordering::AcqRel)
    }

    fn answer(&mut self, caller: ApiCaller, answer: Answer) {
        // A caller who gave up has dropped its end.
        let _ = caller.answer.try_send(answer);
    }

    fn send(&mut self, frame: Up) {
        self.stopwatch.sent(&frame);
        self.note(|now| story::of_frame(now, &frame));
        self.uplink.send(LinkInput::Frame(frame));
    }

    fn reconnect(&mut self) {
        self.uplink.send(LinkInput::Command(LinkCommand::Reconnect));
    }

    fn finish(&mut self) {
        self.uplink.finish();
    }

    fn spawn(&mut self, run: Run, spec: AgentSpec) -> Result<(), String> {
        let name = spec.name.clone();
        let (report, over) = self.reporter(&name, run);
        let rows = self.rows.get();
        let grounds = agent::Grounds {
            exe: &self.exe,
            state: &self.state_dir,
            rows: &rows,
            recorder: Some(&self.recorder),
            history: &self.history,
        };
        let (reaper, events) = (self.reaper.clone(), self.events.clone());
        // The thread reports its own end, so nobody has to join it.
        let (handle, _thread) = agent::start(run, spec, grounds, reaper, report, events)
            .map_err(|e| format!("cannot start agent '{name}': {}", limits::explain(&e)))?;
        self.registry.put(name.clone(), handle);
        // It may have ended before it was registered.
        if over.load(Ordering::Acquire) {
            self.registry.remove(&name, run);
        }
        Ok(())
    }

    fn order(
        &mut self,
        name: &AgentName,
        run: Run,
        command: AgentCommand,
    ) -> Result<(), AgentCommand> {
        let Some(handle) = self.registry.get(name).filter(|handle| handle.run == run) else {
            return Ok(());
        };
        self.note(|now| story::of_order(now, name, &command));
        match handle.input.try_send_urgent(AgentInput::Command(command)) {
            Err(TrySendError::Full(AgentInput::Command(command))) => Err(command),
            _ => Ok(()),
        }
    }

    fn rest_job(&mut self, id: JobId, call: RestCall) -> Option<RestDone> {
        self.jobs.hand_over(id, call)
    }

    fn handle(&mut self, id: InvocationId, run: HandlerRun) -> Option<String> {
        self.handlers.start(id, run)
    }

    fn launch(&mut self, order: Supervision) -> Option<String> {
        self.handlers.launch(order)
    }

    fn push(&mut self, id: SidecarId, push: SidecarPush) {
        self.sidecars.push(id, push);
    }

    fn publish(&mut self, seq: u64, at: Wall, event: BrokerEvent) {
        self.stopwatch.told(at, &event);
        self.note(|now| story::of_event(at, now, &event));
        let text = serde_json::to_string(&Numbered {
            seq: Some(seq),
            timestamp: Some(at),
            event,
        })
        .unwrap_or_default();
        self.events.publish(Some(seq), &Arc::from(text));
    }

    fn leave(&mut self) {
        self.note(|now| Some(story::of_broker(now, HistoryFact::Closed)));
        self.handlers.stop();
    }
}
