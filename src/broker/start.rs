//! The start of a broker: open, replay, wire up, start. Every thread of a broker is started from here.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::driver::{DispatchDriver, Inbound};
use super::handle::{Broker, Reloader, Stopper};
use super::identity::{Identity, enroller, identify, identity_folder, node_token};
use super::ports::{DispatchInput, ThreadPorts};
use super::settings::{NodeSettings, Settings};
use super::start_error::StartError;
use super::stopwatch::Stopwatch;
use super::{calls, connection, import, lease, notices, story};
use crate::agent::profiles::Profiles;
use crate::agent::{hook, landed_note, running};
use crate::api;
use crate::dispatch::{Dispatcher, NodeConfig};
use crate::handlers::{HandlerRunner, News};
use crate::history::{self, HistoryFact, HistoryQueue};
use crate::ids::AgentName;
use crate::journal::{self, Journal, Lock, Opened, Recovery, Tenant};
use crate::ledger::Record;
use crate::machine::Machine;
use crate::machine::event_loop::EventLoop;
use crate::msg::{Event, Published, Secret};
use crate::pubsub::{Latest, Topic};
use crate::recording::Recorder;
use crate::registry::{Registry, SidecarRegistry};
use crate::sys::disk::{create_private_dir, sweep_drafts};
use crate::sys::reap::Reaper;
use crate::sys::sysexit::Sysexit;
use crate::sys::{clock, entropy, failpoint, limits, stdio, thread};
use crate::time::Now;
use crate::uplink::rest::RestJobs;
use crate::uplink::socket::{Uplink, UplinkSettings};

/// How many events wait for the dispatcher. Full means that whoever has news waits: back-pressure, toward the network and
/// the terminals, where it belongs.
const INBOX: usize = 1024;
/// How many events are kept for subscribers that come back ([local-api 3.1](crate::docs::local_api#3.1)).
const EVENTS_KEPT: usize = 1000;
/// How many bytes they may take together; the oldest go first.
const EVENTS_BYTES: usize = 4 * 1024 * 1024;
/// How long the last lines of the log may take before a process aborts.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl Broker {
    /// Starts everything; when it returns, the local API answers.
    ///
    /// # Errors
    /// [`StartError`] says what is in the way: the folder is in use or unwritable, the journal is of a newer version, the
    /// port is taken, the engine refuses the key, or cannot be reached at the very first start.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let node = &settings.node;
        let (lock, journal_dir) = take_folder(&node.state_dir)?;
        let identity_dir = identity_folder(node)?;
        // Before anything can start others of their names.
        let outlived = running::end_survivors(&node.state_dir.join(running::FOLDER), node.grace);
        let listener = bind(node.api_bind, node.api_port)?;
        let opened = open_journal(&journal_dir, node.strict_journal)?;
        failpoint::hit("open.read");
        let identity = identify(&settings, identity_dir)?;
        let api_key = api_key(&settings.node)?;
        hook::sweep(&settings.node.state_dir.join(hook::FOLDER));
        let assembly = Assembly {
            settings,
            journal_dir,
            identity,
            api_key,
            started: clock::now(),
            latencies: Arc::default(),
        };
        let outlived = outlived.into_iter().map(|s| (s.agent, s.fate)).collect();
        let dispatcher = assembly.wake(opened, outlived)?;
        assembly.run(dispatcher, listener, lock)
    }
}

/// Makes the state folder ours; also gives the folder of the journal.
fn take_folder(dir: &Path) -> Result<(Lock, PathBuf), StartError> {
    // Before anything is made, so that a refusal leaves nothing behind.
    import::check_free(dir)?;
    create_private_dir(dir)
        .map_err(|e| StartError::folder(format!("state folder {}: {e}", dir.display())))?;
    let journal_dir = dir.join("journal");
    create_private_dir(&journal_dir).map_err(|e| {
        StartError::folder(format!("journal folder {}: {e}", journal_dir.display()))
    })?;
    let lock = Lock::take(Tenant::Broker, dir, std::process::id())?;
    sweep_drafts(dir, true);
    Ok((lock, journal_dir))
}

fn bind(ip: IpAddr, port: u16) -> Result<TcpListener, StartError> {
    let addr = SocketAddr::new(ip, port);
    TcpListener::bind(addr).map_err(|e| {
        let exit = match e.kind() {
            io::ErrorKind::PermissionDenied => Sysexit::NoPermission,
            _ => Sysexit::Failure,
        };
        let text = format!(
            "failed to bind API on {addr}: {e}; choose another --api-port, or 0 for any free one"
        );
        StartError::new(exit, text)
    })
}

fn open_journal(dir: &Path, strict: bool) -> Result<Opened<Record>, StartError> {
    let mut options = journal::Options {
        strict,
        ..journal::Options::default()
    };
    if let Some(bytes) = failpoint::rotate_bytes() {
        options.rotate_bytes = bytes;
    }
    let opened = Journal::<Record>::open(dir, "broker", options).map_err(StartError::folder)?;
    match &opened.recovery {
        Recovery::Damaged(damage) => log::error!("{damage}"),
        torn @ Recovery::TailCut { .. } => log::warn!("{torn}"),
        Recovery::Fresh | Recovery::Clean { .. } => {}
    }
    Ok(opened)
}

fn api_key(settings: &NodeSettings) -> Result<Secret, StartError> {
    match &settings.api_key {
        Some(key) => Ok(key.clone()),
        None => {
            let random = entropy::hex::<16>().map_err(StartError::because)?;
            Ok(Secret::new(format!("br_{random}")))
        }
    }
}

/// The dispatcher with everything it remembers, and its first decisions.
struct LoadedDispatcher {
    event_loop: EventLoop<Dispatcher, Journal<Record>>,
    /// The highest event number that may have been used.
    numbered: u64,
}

impl LoadedDispatcher {
    /// Starts the `dispatch` thread: first what was decided already, then whatever comes.
    fn start_thread(
        mut self,
        mut driver: DispatchDriver<ThreadPorts>,
        inbox: Receiver<DispatchInput>,
    ) -> io::Result<thread::Handle> {
        thread::start("dispatch", 1024, move || {
            let _guard = AbortOnPanic;
            thread::drive(&mut self.event_loop, &mut driver, &inbox);
        })
    }
}

/// What several threads of a broker look at.
struct Shared {
    registry: Arc<Registry>,
    sidecars: Arc<SidecarRegistry>,
    events: Arc<Topic<Arc<str>>>,
    published: Arc<Latest<Published>>,
    rows: Arc<Latest<Profiles>>,
    reload: Arc<OnceLock<api::Reload>>,
    recorder: Arc<Recorder>,
}

/// Everything that is known before the first thread runs.
struct Assembly {
    settings: Settings,
    journal_dir: PathBuf,
    identity: Identity,
    api_key: Secret,
    started: Now,
    latencies: Arc<api::Latencies>,
}

impl Assembly {
    fn wake(
        &self,
        opened: Opened<Record>,
        outlived: Vec<(AgentName, String)>,
    ) -> Result<LoadedDispatcher, StartError> {
        let Opened {
            mut journal,
            records,
            recovery,
        } = opened;
        journal.measure(self.latencies.synced.clone());
        let config = self.node_config(recovery.degraded(), outlived);
        let mut dispatcher = Dispatcher::new(config, self.started);
        records.iter().for_each(|record| dispatcher.replay(record));
        let numbered = dispatcher.ledger().numbered();
        let dir = &self.settings.node.state_dir;
        let notes = dir.join(landed_note::FOLDER);
        let import = import::find(dir);
        let estate = import.estate.clone();
        let open = |dispatcher: &mut Dispatcher, out: &mut _| {
            dispatcher.open(self.started, landed_note::read_all(&notes), out);
            dispatcher.take_over(self.started, estate, out);
            failpoint::hit("open.replayed");
        };
        let event_loop = EventLoop::begin(dispatcher, journal, self.started, open)
            .map_err(StartError::folder)?;
        failpoint::hit("open.durable");
        import.put_aside(dir)?;
        Ok(LoadedDispatcher {
            event_loop,
            numbered,
        })
    }

    fn node_config(
        &self,
        damage: Option<String>,
        outlived: Vec<(AgentName, String)>,
    ) -> NodeConfig {
        let node = &self.settings.node;
        let state_dir = node.state_dir.canonicalize();
        NodeConfig {
            node_name: node.name.clone(),
            node_id: self.identity.node_id.clone(),
            engine_url: self.settings.engine_url.clone(),
            workspace_id: Some(self.identity.workspace_id.to_string()),
            state_dir: state_dir
                .unwrap_or(node.state_dir.clone())
                .to_string_lossy()
                .into_owned(),
            max_agents: node.max_agents,
            harnesses: node.harnesses.clone(),
            grace: node.grace,
            harness_table: node.harness_table.clone(),
            actions: node.actions.clone(),
            profiles: node.rows.names(),
            limits: node.limits,
            spawn_defaults: node.spawn_defaults.clone(),
            pid: std::process::id(),
            agents: node.agents.clone(),
            damage,
            outlived,
        }
    }

    fn shared(&self, numbered: u64) -> Result<Shared, StartError> {
        let node = &self.settings.node;
        let recorder = Recorder::start(node.state_dir.clone(), node.recording);
        let events = Topic::after(EVENTS_KEPT, numbered);
        Ok(Shared {
            registry: Arc::default(),
            sidecars: Arc::default(),
            events: Arc::new(events.at_most(EVENTS_BYTES, |event| event.len())),
            published: Arc::new(Latest::new(Published {
                node_id: self.identity.node_id.clone(),
                node_name: self.settings.node.name.clone(),
                workspace_id: Some(self.identity.workspace_id.to_string()),
                degraded: None,
                leave_by: None,
            })),
            rows: Arc::new(Latest::new(self.settings.node.rows.clone())),
            reload: Arc::default(),
            recorder: Arc::new(recorder.map_err(no_thread)?),
        })
    }

    /// Starts the threads and, last, the local API.
    fn run(
        self,
        dispatcher: LoadedDispatcher,
        listener: TcpListener,
        lock: Lock,
    ) -> Result<Broker, StartError> {
        let addr = listener.local_addr().map_err(StartError::because)?;
        let (inbox, events_in) = bounded(INBOX);
        let shared = self.shared(dispatcher.numbered)?;
        let (queue, history) = self.history();
        let (ports, uplink) = self.ports(&shared, &inbox, queue)?;
        let driver = DispatchDriver::new(ports, shared.published.clone());
        let dispatch = dispatcher
            .start_thread(driver, events_in)
            .map_err(no_thread)?;

        let stopper = Stopper {
            inbox: inbox.clone(),
            drain: self.settings.node.drain,
            grace: self.settings.node.grace,
            asked: Arc::default(),
            published: shared.published.clone(),
            life: Arc::new(api::BrokerLife::new()),
            told: Arc::default(),
        };
        let reloader = Reloader {
            inbox: inbox.clone(),
            rows: shared.rows.clone(),
            recorder: shared.recorder.clone(),
        };
        let url = format!("http://{addr}");
        let dir = &self.settings.node.state_dir;
        let (connection, running) = (dir.join("connection.json"), dir.join(running::FOLDER));
        connection::write(
            &connection,
            &self.settings,
            (&url, addr.port()),
            &self.api_key,
        )?;
        failpoint::hit("open.connection");
        stopper.life.set(api::BrokerStage::Running);
        let (events, reload) = (shared.events.clone(), shared.reload.clone());
        let lease = self.lease();
        let watch = lease::watch(&lease, &stopper).map_err(no_thread)?;
        let context = self.api_context(shared, inbox, &stopper, addr.ip(), lease);
        let api = api::start(listener, context).map_err(no_thread)?;
        Ok(Broker {
            api,
            url,
            connection,
            running,
            events,
            uplink,
            history,
            dispatch,
            stopper,
            reloader,
            _lease: watch,
            reload,
            _lock: lock,
        })
    }

    /// The thread that keeps the history. The broker goes on without one where there is none to be had.
    fn history(&self) -> (HistoryQueue, Option<thread::Handle>) {
        let node = &self.settings.node;
        if node.history.bytes == 0 {
            return (HistoryQueue::default(), None);
        }
        let dir = node.state_dir.join(history::FOLDER);
        match history::start(&dir, node.history) {
            Ok((queue, handle)) => {
                let pid = std::process::id();
                queue.note(story::of_broker(
                    clock::now().wall,
                    HistoryFact::Opened { pid },
                ));
                (queue, Some(handle))
            }
            Err(e) => {
                log::warn!(event = "history_missing"; "no history is kept in {}: {e}", dir.display());
                (HistoryQueue::default(), None)
            }
        }
    }

    fn lease(&self) -> Option<Arc<api::Lease>> {
        let span = failpoint::lease().or(self.settings.node.lease);
        let span = span.filter(|_| self.settings.node.lease.is_some())?;
        Some(Arc::new(api::Lease::new(span, clock::now().mono)))
    }

    /// Starts everything that the dispatcher speaks to. Also gives the uplink's thread.
    fn ports(
        &self,
        shared: &Shared,
        inbox: &Sender<DispatchInput>,
        history: HistoryQueue,
    ) -> Result<(ThreadPorts, thread::Handle), StartError> {
        let (uplink, uplink_thread) = self.uplink(inbox.clone())?;
        let jobs = self.rest_jobs(inbox.clone())?;
        let reaper = Reaper::start().map_err(no_thread)?;
        // Emulators and sandboxes need not know what a subreaper is, and then nobody has made one of us.
        if let Err(e) = reaper.adopt_orphans(std::process::id() == 1) {
            log::info!("this system has no subreapers ({e})");
        }
        let node = &self.settings.node;
        let ports = ThreadPorts {
            inbox: inbox.clone(),
            uplink,
            jobs,
            handlers: handlers(reaper.clone(), inbox.clone()),
            registry: shared.registry.clone(),
            sidecars: shared.sidecars.clone(),
            events: shared.events.clone(),
            stopwatch: Stopwatch::new(self.latencies.clone()),
            reaper,
            exe: node.exe.clone(),
            state_dir: node.state_dir.clone(),
            rows: shared.rows.clone(),
            recorder: shared.recorder.clone(),
            history,
        };
        if let Some(notify) = node.notify.clone() {
            let (handlers, events) = (ports.handlers.clone(), shared.events.clone());
            notices::start(notify, node.name.clone(), handlers, events).map_err(no_thread)?;
        }
        Ok((ports, uplink_thread))
    }

    fn uplink(&self, inbox: Sender<DispatchInput>) -> Result<(Uplink, thread::Handle), StartError> {
        let client = &self.identity.client;
        let settings = UplinkSettings {
            enroller: enroller(&self.settings.node, client, self.identity.tokens()),
            enrolment: self.identity.enrolment.clone(),
        };
        Uplink::start(settings, move |report| {
            let _ = inbox.send(Inbound::Event(Event::Link(report)));
        })
        .map_err(no_thread)
    }

    fn rest_jobs(&self, inbox: Sender<DispatchInput>) -> Result<RestJobs, StartError> {
        let (client, name) = (
            self.identity.client.clone(),
            self.settings.node.name.clone(),
        );
        RestJobs::start(client, name, move |id, done| {
            let _ = inbox.send(Inbound::Event(Event::RestJob(id, done)));
        })
        .map_err(no_thread)
    }

    fn api_context(
        self,
        shared: Shared,
        inbox: Sender<DispatchInput>,
        stopper: &Stopper,
        ip: IpAddr,
        lease: Option<Arc<api::Lease>>,
    ) -> api::ApiContext {
        let stop = stopper.clone();
        let node = &self.settings.node;
        api::ApiContext {
            ask: calls::ask(inbox),
            events: shared.events,
            registry: shared.registry,
            sidecars: shared.sidecars,
            published: shared.published,
            session: api::SessionFacts {
                version: env!("CARGO_PKG_VERSION").into(),
                workspace_key: self.settings.workspace_key,
                engine_url: self.settings.engine_url,
                node_token: node_token(&self.settings.node, &self.identity),
                lease,
                started: self.started.mono,
            },
            api_key: self.api_key,
            allowed_hosts: vec![ip.to_string()],
            stop: Box::new(move || stop.stop()),
            reload: shared.reload,
            pid: std::process::id(),
            life: stopper.life.clone(),
            declared: node.agents.iter().map(|a| a.name.clone()).collect(),
            ready_grace: node.ready_grace,
            agents_may: node.agents_may.clone(),
            metrics_key: node.metrics_key.clone(),
            latencies: self.latencies,
            journal_dir: self.journal_dir,
        }
    }
}

fn handlers(reaper: Arc<Reaper>, inbox: Sender<DispatchInput>) -> HandlerRunner {
    HandlerRunner::new(reaper, move |news| {
        let event = match news {
            News::Handled(id, result) => Event::Handled(id, result),
            News::LaunchEnded(argv, how) => Event::LaunchEnded(argv, how),
        };
        let _ = inbox.send(Inbound::Event(event));
    })
}

fn no_thread(e: io::Error) -> StartError {
    StartError::new(
        Sysexit::OsError,
        format!("cannot start: {}", limits::explain(&e)),
    )
}

/// The dispatcher's state cannot be trusted after a panic; the journal can, and the next start replays it.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            stdio::flush(LAST_WORDS);
            std::process::abort();
        }
    }
}
