//! Assembly: open, replay, wire up, start, stop. Every thread of a broker is started from here and ends through here.

mod identity;
mod shell;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::agent::{hook, landed_note, profiles::Profiles, running};
use crate::api;
use crate::dispatch::{Dispatcher, Limits, NodeConfig, Out};
use crate::handlers::{Handlers, News};
use crate::identity::store;
use crate::ids::AgentName;
use crate::journal::{self, Journal, Lock, Opened, Recovery};
use crate::ledger::Record;
use crate::machine::{Machine, persist};
use crate::msg::{ActionSpec, Event, Harness, Published, Refusal, RefusalKind, Secret};
use crate::pubsub::{Latest, Topic};
use crate::registry::{Registry, SidecarRegistry};
use crate::sys::disk::{create_private_dir, read_small, sweep_drafts, write_private};
use crate::sys::reap::Reaper;
use crate::sys::{clock, entropy, failpoint, limits, stdio, thread};
use crate::time::Now;
use crate::uplink::proxy::Proxy;
use crate::uplink::rest::RestJobs;
use crate::uplink::socket::{Uplink, UplinkSettings};
use crate::wire::local::{ConnectionFile, SpawnRequest};
use identity::{Identity, enroller, identify, node_token};
use shell::{Inbound, Shell};

/// How many events wait for the dispatcher. Full means that whoever has news waits: back-pressure, toward the network and
/// the terminals, where it belongs.
const INBOX: usize = 1024;
/// How many events are kept for subscribers that come back ([local-api 3.1](crate::docs::local_api#3.1)).
const EVENTS_KEPT: usize = 1000;
/// How many bytes they may take together; the oldest go first.
const EVENTS_BYTES: usize = 4 * 1024 * 1024;
/// How long a hurried end may take.
const HURRY: Duration = Duration::from_millis(500);
/// Beyond the agents' grace, for putting everything away.
const STOP_SLACK: Duration = Duration::from_millis(1500);

/// Everything a broker is told at its start; `config` makes it, nothing changes it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub name: String,
    /// Journal, lock, `connection.json`.
    pub state_dir: PathBuf,
    /// Machine seed and node tokens, shared by all brokers of this user.
    pub data_dir: PathBuf,
    /// The engine's base URL, without a trailing slash.
    pub engine_url: String,
    /// The way to it, if not direct.
    pub proxy: Option<Proxy>,
    /// Opens the workspace; starts with `rk_`.
    pub workspace_key: Secret,
    /// Where the local API listens.
    pub api_bind: IpAddr,
    /// 0 for any free port.
    pub api_port: u16,
    /// Made at random when absent.
    pub api_key: Option<Secret>,
    /// Pins the node id.
    pub node_id: Option<String>,
    /// Pins the node token; never stored.
    pub node_token: Option<Secret>,
    /// Started with the broker.
    pub agents: Vec<SpawnRequest>,
    /// Names `h` for which this node offers `spawn:h`.
    pub harnesses: Vec<String>,
    /// How some of them, and others, are started.
    pub harness_table: BTreeMap<String, Harness>,
    /// Actions that programs of the operator's serve.
    pub actions: BTreeMap<String, ActionSpec>,
    /// What the operator knows about agent programs.
    pub rows: Profiles,
    /// 0 for no limit.
    pub max_agents: u64,
    /// Refuse to start on a journal damaged in its middle.
    pub strict_journal: bool,
    /// This program, for starting agents through it.
    pub exe: PathBuf,
    /// Between hang-up and kill of an agent.
    pub grace: Duration,
    /// How much mail may wait for one agent, and how long.
    pub limits: Limits,
}

/// Why a broker did not start: one line that names the thing and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        1
    }

    fn because(what: impl std::fmt::Display) -> Self {
        Self(what.to_string())
    }
}

/// A running broker. The fields are in the order in which they are dropped.
pub struct Broker {
    api: api::ApiServer,
    url: String,
    connection: PathBuf,
    running: PathBuf,
    events: Arc<Topic<Arc<str>>>,
    uplink: thread::Handle,
    dispatch: thread::Handle,
    stopper: Stopper,
    /// Last: nobody else may open the folder while anything above is alive.
    _lock: Lock,
}

/// Asks a broker to leave, from any thread.
#[derive(Clone)]
pub struct Stopper {
    inbox: Sender<Inbound>,
    grace: Duration,
    asked: Arc<Mutex<bool>>,
    published: Arc<Latest<Published>>,
    life: Arc<api::BrokerLife>,
}

impl Stopper {
    /// The first call starts an orderly end, bounded by the agents' grace; a second one ends it at once.
    pub fn stop(&self) {
        self.life.set(api::BrokerStage::Stopping);
        let again = std::mem::replace(&mut *self.asked.lock(), true);
        let now = clock::now().mono;
        let deadline = if again {
            now + HURRY
        } else {
            now + self.grace + STOP_SLACK
        };
        // Heard even while the journal cannot be written and the inbox is full.
        self.published
            .update(|published| published.leave_by = Some(deadline));
        let order = Inbound::Event(Event::Shutdown { deadline });
        let _ = self.inbox.send_timeout(order, Duration::from_secs(1));
    }
}

impl Broker {
    /// Starts everything; when it returns, the local API answers.
    ///
    /// # Errors
    /// [`StartError`] says what is in the way: the folder is in use or unwritable, the journal is of a newer version, the
    /// port is taken, the engine refuses the key, or cannot be reached at the very first start.
    pub fn start(mut settings: Settings) -> Result<Self, StartError> {
        let dir = &settings.state_dir;
        create_private_dir(dir)
            .map_err(|e| StartError(format!("state folder {}: {e}", dir.display())))?;
        let journal_dir = dir.join("journal");
        create_private_dir(&journal_dir)
            .map_err(|e| StartError(format!("journal folder {}: {e}", journal_dir.display())))?;
        let pid = std::process::id();
        let lock = Lock::take(dir, pid).map_err(StartError::because)?;
        sweep_drafts(dir, true);
        settings.data_dir = store::folder(&settings.data_dir, dir).map_err(StartError::because)?;
        // Before anything can start others of their names.
        let outlived = running::end_survivors(&dir.join(running::FOLDER), settings.grace);
        let listener = bind(settings.api_bind, settings.api_port)?;
        let addr = listener.local_addr().map_err(StartError::because)?;
        let mut options = journal::Options {
            strict: settings.strict_journal,
            ..journal::Options::default()
        };
        if let Some(bytes) = failpoint::rotate_bytes() {
            options.rotate_bytes = bytes;
        }
        let opened = Journal::<Record>::open(&journal_dir, "broker", options)
            .map_err(StartError::because)?;
        match &opened.recovery {
            Recovery::Damaged(damage) => log::error!("{damage}"),
            torn @ Recovery::TailCut { .. } => log::warn!("{torn}"),
            Recovery::Fresh | Recovery::Clean { .. } => {}
        }
        failpoint::hit("open.read");
        let identity = identify(&settings)?;
        let api_key = match &settings.api_key {
            Some(key) => key.clone(),
            None => Secret::new(format!(
                "br_{}",
                entropy::hex::<16>().map_err(StartError::because)?
            )),
        };
        let parts = Parts {
            settings,
            identity,
            api_key,
            opened,
            outlived: outlived.into_iter().map(|s| (s.agent, s.fate)).collect(),
            pid,
            addr,
            listener,
        };
        parts.start(lock)
    }

    /// Where the local API answers, for example `http://127.0.0.1:3889`.
    pub fn api_url(&self) -> String {
        self.url.clone()
    }

    /// The event stream, as subscribers of the local API get it.
    pub fn events(&self) -> Arc<Topic<Arc<str>>> {
        self.events.clone()
    }

    /// A handle that asks it to leave.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it has left, puts the rest away, and gives the process's exit code.
    pub fn wait(self) -> u8 {
        self.dispatch.join();
        // Agents that are left when the time is up, or when nothing can be written and so nothing be done in order.
        running::end_survivors(&self.running, Duration::ZERO);
        self.uplink.join_within(Duration::from_secs(1));
        self.events.close();
        remove_connection(&self.connection);
        drop(self.api);
        0
    }
}

fn bind(ip: IpAddr, port: u16) -> Result<TcpListener, StartError> {
    let addr = SocketAddr::new(ip, port);
    TcpListener::bind(addr).map_err(|e| {
        StartError(format!(
            "failed to bind API on {addr}: {e}; choose another --api-port, or 0 for any free one"
        ))
    })
}

/// What `start` has gathered.
struct Parts {
    settings: Settings,
    identity: Identity,
    api_key: Secret,
    opened: Opened<Record>,
    outlived: Vec<(AgentName, String)>,
    pid: u32,
    addr: SocketAddr,
    listener: TcpListener,
}

impl Parts {
    fn start(self, lock: Lock) -> Result<Broker, StartError> {
        let Self {
            settings,
            identity,
            api_key,
            opened,
            outlived,
            pid,
            addr,
            listener,
        } = self;
        hook::sweep(&settings.state_dir.join(hook::FOLDER));
        let started = clock::now();
        let facts = facts(&settings, &identity, &opened, pid, outlived);
        let mind = Mind::wake(
            facts,
            started,
            opened,
            &settings.state_dir.join(landed_note::FOLDER),
        )?;

        let (inbox, events_in) = bounded::<Inbound>(INBOX);
        let shared = Shared::new(&settings, &identity, mind.numbered);
        let (uplink, uplink_thread) = uplink(&settings, &identity, inbox.clone())?;
        let jobs = rest_jobs(&settings, &identity, inbox.clone())?;
        let reaper = Reaper::start().map_err(no_thread)?;
        reaper.adopt_orphans(pid == 1).map_err(no_thread)?;
        let handlers = handlers(reaper.clone(), inbox.clone());

        let hands = shared.hands(&settings, inbox.clone(), (uplink, jobs, handlers), reaper);
        let dispatch = mind
            .think(Shell::new(hands), events_in)
            .map_err(no_thread)?;

        let stopper = Stopper {
            inbox: inbox.clone(),
            grace: settings.grace,
            asked: Arc::default(),
            published: shared.published.clone(),
            life: Arc::new(api::BrokerLife::new()),
        };
        let url = format!("http://{addr}");
        let connection = settings.state_dir.join("connection.json");
        write_connection(&connection, &settings, &url, addr.port(), &api_key, pid)?;
        failpoint::hit("open.connection");
        stopper.life.set(api::BrokerStage::Running);
        let stop = stopper.clone();
        let context = api::ApiContext {
            ask: ask(inbox),
            events: shared.events.clone(),
            registry: shared.registry,
            sidecars: shared.sidecars,
            published: shared.published,
            session: session(&settings, &identity, started),
            api_key,
            allowed_hosts: vec![addr.ip().to_string()],
            stop: Box::new(move || stop.stop()),
            pid,
            life: stopper.life.clone(),
        };
        let api = api::start(listener, context).map_err(no_thread)?;
        Ok(Broker {
            api,
            url,
            connection,
            running: settings.state_dir.join(running::FOLDER),
            events: shared.events,
            uplink: uplink_thread,
            dispatch,
            stopper,
            _lock: lock,
        })
    }
}

/// What several threads of a broker look at.
struct Shared {
    registry: Arc<Registry>,
    sidecars: Arc<SidecarRegistry>,
    events: Arc<Topic<Arc<str>>>,
    published: Arc<Latest<Published>>,
}

impl Shared {
    fn new(settings: &Settings, identity: &Identity, numbered: u64) -> Self {
        let events = Topic::after(EVENTS_KEPT, numbered);
        Self {
            registry: Arc::default(),
            sidecars: Arc::default(),
            events: Arc::new(events.at_most(EVENTS_BYTES, |event| event.len())),
            published: Arc::new(Latest::new(Published {
                node_id: identity.node_id.clone(),
                node_name: settings.name.clone(),
                workspace_id: Some(identity.workspace_id.to_string()),
                degraded: None,
                leave_by: None,
            })),
        }
    }

    /// What the dispatcher's thread works with.
    fn hands(
        &self,
        settings: &Settings,
        inbox: Sender<Inbound>,
        (uplink, jobs, handlers): (Uplink, RestJobs, Handlers),
        reaper: Arc<Reaper>,
    ) -> shell::Hands {
        shell::Hands {
            inbox,
            uplink,
            jobs,
            handlers,
            registry: self.registry.clone(),
            sidecars: self.sidecars.clone(),
            events: self.events.clone(),
            reaper,
            exe: settings.exe.clone(),
            state_dir: settings.state_dir.clone(),
            rows: settings.rows.clone(),
            published: self.published.clone(),
        }
    }
}

/// The dispatcher with everything it remembers, and its first decisions.
struct Mind {
    dispatcher: Dispatcher,
    journal: Journal<Record>,
    /// Durable already; to be performed first.
    out: Out,
    /// The highest event number that may have been used.
    numbered: u64,
}

impl Mind {
    fn wake(
        facts: NodeConfig,
        started: Now,
        opened: Opened<Record>,
        marks: &Path,
    ) -> Result<Self, StartError> {
        let Opened {
            mut journal,
            records,
            ..
        } = opened;
        let mut dispatcher = Dispatcher::new(facts, started);
        records.iter().for_each(|record| dispatcher.replay(record));
        let numbered = dispatcher.ledger().numbered();
        let mut out = Out {
            at: Some(started.wall),
            ..Out::default()
        };
        dispatcher.open(started, landed_note::read_all(marks), &mut out);
        Dispatcher::arrange(&mut out.effects);
        failpoint::hit("open.replayed");
        persist(&dispatcher, &mut journal, &mut out).map_err(StartError::because)?;
        failpoint::hit("open.durable");
        Ok(Self {
            dispatcher,
            journal,
            out,
            numbered,
        })
    }

    /// Starts the `dispatch` thread: first what was decided already, then whatever comes.
    fn think(mut self, mut shell: Shell, inbox: Receiver<Inbound>) -> io::Result<thread::Handle> {
        thread::start("dispatch", 1024, move || {
            let _guard = AbortOnPanic;
            shell.begin(self.out);
            thread::drive(&mut self.dispatcher, &mut self.journal, &mut shell, &inbox);
        })
    }
}

fn uplink(
    settings: &Settings,
    identity: &Identity,
    inbox: Sender<Inbound>,
) -> Result<(Uplink, thread::Handle), StartError> {
    Uplink::start(uplink_settings(settings, identity), move |report| {
        let _ = inbox.send(Inbound::Event(Event::Link(report)));
    })
    .map_err(no_thread)
}

fn rest_jobs(
    settings: &Settings,
    identity: &Identity,
    inbox: Sender<Inbound>,
) -> Result<RestJobs, StartError> {
    RestJobs::start(
        identity.client.clone(),
        settings.name.clone(),
        move |id, done| {
            let _ = inbox.send(Inbound::Event(Event::RestJob(id, done)));
        },
    )
    .map_err(no_thread)
}

fn handlers(reaper: Arc<Reaper>, inbox: Sender<Inbound>) -> Handlers {
    Handlers::new(reaper, move |news| {
        let event = match news {
            News::Handled(id, result) => Event::Handled(id, result),
            News::LaunchEnded(argv, how) => Event::LaunchEnded(argv, how),
        };
        let _ = inbox.send(Inbound::Event(event));
    })
}

fn session(settings: &Settings, identity: &Identity, started: Now) -> api::SessionFacts {
    api::SessionFacts {
        version: env!("CARGO_PKG_VERSION").into(),
        workspace_key: settings.workspace_key.clone(),
        engine_url: settings.engine_url.clone(),
        node_token: node_token(settings, identity),
        persist: true,
        started: started.mono,
    }
}

fn facts(
    settings: &Settings,
    identity: &Identity,
    opened: &Opened<Record>,
    pid: u32,
    outlived: Vec<(AgentName, String)>,
) -> NodeConfig {
    NodeConfig {
        node_name: settings.name.clone(),
        node_id: identity.node_id.clone(),
        engine_url: settings.engine_url.clone(),
        workspace_id: Some(identity.workspace_id.to_string()),
        state_dir: settings
            .state_dir
            .canonicalize()
            .unwrap_or(settings.state_dir.clone())
            .to_string_lossy()
            .into_owned(),
        max_agents: settings.max_agents,
        harnesses: settings.harnesses.clone(),
        grace: settings.grace,
        harness_table: settings.harness_table.clone(),
        actions: settings.actions.clone(),
        profiles: settings.rows.names(),
        limits: settings.limits,
        pid,
        agents: settings.agents.clone(),
        damage: opened.recovery.degraded(),
        outlived,
    }
}

fn uplink_settings(settings: &Settings, identity: &Identity) -> UplinkSettings {
    UplinkSettings {
        enroller: enroller(settings, &identity.client, identity.scope()),
        enrolment: identity.enrolment.clone(),
    }
}

/// How the local API asks the dispatcher: a call in, one answer out, within a time.
fn ask(inbox: Sender<Inbound>) -> api::Ask {
    Box::new(move |call, limit| {
        let gone = || Refusal::new(RefusalKind::Stopping, "the broker is stopping");
        let late = || {
            Refusal::new(
                RefusalKind::Timeout,
                format!("no answer within {} s", limit.as_secs()),
            )
        };
        let (answer, wait) = bounded(1);
        let waiting = Arc::new(AtomicBool::new(true));
        match inbox.send_timeout(Inbound::Call(call, answer, waiting.clone()), limit) {
            Ok(()) => {}
            Err(crossbeam_channel::SendTimeoutError::Timeout(_)) => return Err(late()),
            Err(crossbeam_channel::SendTimeoutError::Disconnected(_)) => return Err(gone()),
        }
        match wait.recv_timeout(limit) {
            Ok(answer) => answer,
            // Taken back before anybody looked at it: it will not happen.
            Err(crossbeam_channel::RecvTimeoutError::Timeout)
                if waiting.swap(false, Ordering::AcqRel) =>
            {
                Err(late())
            }
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                let message = format!("{}; it was begun and may still happen", late().message);
                Err(Refusal::new(RefusalKind::Begun, message))
            }
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Err(gone()),
        }
    })
}

fn write_connection(
    path: &Path,
    settings: &Settings,
    url: &str,
    port: u16,
    api_key: &Secret,
    pid: u32,
) -> Result<(), StartError> {
    let file = ConnectionFile {
        url: url.to_owned(),
        port,
        api_key: api_key.reveal().to_owned(),
        pid,
        engine_url: settings.engine_url.clone(),
        workspace_key: settings.workspace_key.reveal().to_owned(),
    };
    let bytes = serde_json::to_vec_pretty(&file).map_err(StartError::because)?;
    write_private(path, &bytes).map_err(|e| StartError(format!("{}: {e}", path.display())))
}

/// Removes the file if it is still ours.
fn remove_connection(path: &Path) {
    let ours = read_small(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<ConnectionFile>(&bytes).ok())
        .is_some_and(|file| file.pid == std::process::id());
    if ours && let Err(e) = std::fs::remove_file(path) {
        log::warn!("{}: {e}", path.display());
    }
}

fn no_thread(e: io::Error) -> StartError {
    StartError(format!("cannot start: {}", limits::explain(&e)))
}

/// The dispatcher's state cannot be trusted after a panic; the journal can, and the next start replays it.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            stdio::flush(HURRY);
            std::process::abort();
        }
    }
}
