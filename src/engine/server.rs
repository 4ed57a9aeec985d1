//! The engine's threads: one that owns the core and its journal, one that accepts, one per connection. Everything here
//! carries messages to the core and performs what it says; no rule of the engine lives here. `faults` are
//! those of the network that a test double makes.

#[cfg(feature = "faults")]
mod faults;
#[cfg(not(feature = "faults"))]
#[path = "server/no_faults.rs"]
mod faults;
mod gateway;
mod known;
mod words;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use serde_json::Value;

use self::faults::NetworkFaults;
use self::gateway::Gateway;
use self::known::KnownTokens;
use self::words::{Admission, EngineInbound, Timed, Word};
use super::core::EngineCore;
use super::event::{Effect, Event};
#[cfg(feature = "faults")]
use super::faults::Behave;
use super::faults::NO_GOODBYE;
use super::live::ConnId;
use super::record::EngineRecord;
use crate::ids::Ticket;
use crate::journal::{Journal, Lock, LockError, OpenError, Options, Recovery, Tenant};
use crate::machine::event_loop::{Driver, EventLoop};
use crate::machine::{CommitError, Machine};
use crate::msg::Right;
use crate::net::{Server, ServerLimits};
use crate::sys::{self, clock, disk, entropy, thread, wake};
use crate::time::Wall;

/// What waits for the core; senders wait when it is full.
const INBOX: usize = 1024;
/// Callers at one time.
const CONNECTIONS: usize = 256;
/// Links of nodes, agents and viewers at one time.
const SOCKETS: usize = 4096;
/// How long a stopping engine waits for its last step.
const STOP_LIMIT: Duration = Duration::from_secs(5);
const STACK_KIB: usize = 2048;

/// How an engine is to run.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Its folder: `journal/` and `workspace-key` live in it.
    pub dir: PathBuf,
    /// Where it listens; port 0 for any.
    pub listen: SocketAddr,
    /// The key of a workspace that must exist. `None`: the one in `dir/workspace-key`, made up if there is none.
    pub workspace_key: Option<String>,
    /// The name of that workspace if it has to be made.
    pub workspace_name: String,
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Its folder cannot be used.
    #[error("the engine's folder cannot be used: {0}")]
    Folder(io::Error),
    /// Another process, or another engine of this one, uses the folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// Its journal cannot be opened.
    #[error("the engine's journal cannot be opened: {0}")]
    Journal(#[from] OpenError),
    /// Its journal cannot be written.
    #[error("the engine's journal cannot be written: {0}")]
    Write(#[from] CommitError),
    /// The address is taken or not ours.
    #[error(
        "the engine cannot listen on {addr}: {error}; choose another port, or stop what uses this one"
    )]
    Listen {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// A test double would be within reach of strangers.
    #[error(
        "an engine that misbehaves on order listens on loopback only, not on {0}; \
         leave --behave away or listen on 127.0.0.1"
    )]
    Exposed(SocketAddr),
    /// The key is no workspace key.
    #[error("the workspace key in {from} does not start with `rk_`; remove it to have one made")]
    Key {
        /// Where the key comes from.
        from: String,
    },
    /// No thread or random numbers to be had.
    #[error("the engine cannot start: {}", sys::limits::explain(.0))]
    System(io::Error),
}

/// A running engine; dropping it stops it. What it answered is on disk.
pub struct Engine {
    // Dropped in this order: connections end before the core that they speak to.
    server: Server,
    inbox: Sender<EngineInbound>,
    core: thread::Handle,
    key: String,
    faults: Arc<NetworkFaults>,
    _lock: Lock,
}

impl Engine {
    /// Opens the journal, makes sure the workspace exists, and listens.
    ///
    /// # Errors
    /// [`EngineError`]; nothing keeps running then.
    pub fn start(settings: EngineSettings) -> Result<Self, EngineError> {
        Self::open(settings, EngineCore::new(), Arc::default(), None)
    }

    /// The same as a part of a broker: mail waits so long for agents that are not here, `None` for ever, and agents may do
    /// what the broker lets them.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_inside(
        settings: EngineSettings,
        message_ttl: Option<Duration>,
        agents_may: &[Right],
    ) -> Result<Self, EngineError> {
        let mut core = EngineCore::new();
        core.keep_mail_for(message_ttl);
        core.let_agents(agents_may.to_vec());
        Self::open(settings, core, Arc::default(), None)
    }

    /// The same as a test double: an engine of a certain age, with faults from the start, and more of it on order at
    /// [`super::faults::ROUTE`].
    ///
    /// # Errors
    /// As [`Engine::start`], and when it would listen beyond this machine.
    #[cfg(feature = "faults")]
    pub fn start_behaving(settings: EngineSettings, behave: &Behave) -> Result<Self, EngineError> {
        if !settings.listen.ip().is_loopback() {
            return Err(EngineError::Exposed(settings.listen));
        }
        let mut core = behave
            .age
            .map_or_else(EngineCore::new, EngineCore::behaving);
        core.allow_faults();
        let faults = Arc::new(NetworkFaults::default());
        faults.obey(&behave.orders);
        let first = Event::Order {
            orders: Box::new(behave.orders.clone()),
            entropy: entropy::bytes().map_err(EngineError::System)?,
        };
        Self::open(settings, core, faults, Some(first))
    }

    fn open(
        settings: EngineSettings,
        mut core: EngineCore,
        faults: Arc<NetworkFaults>,
        first: Option<Event>,
    ) -> Result<Self, EngineError> {
        let journal_dir = settings.dir.join("journal");
        disk::create_private_dir(&journal_dir).map_err(EngineError::Folder)?;
        let lock = Lock::take(Tenant::Engine, &journal_dir, std::process::id())?;
        disk::sweep_drafts(&settings.dir, true);
        let key = workspace_key(&settings)?;
        let opened = Journal::<EngineRecord>::open(&journal_dir, "engine", Options::default())?;
        match &opened.recovery {
            found @ (Recovery::Damaged(_) | Recovery::TailCut { .. }) => {
                log::warn!("embedded engine: {found}");
            }
            Recovery::Fresh | Recovery::Clean { .. } => {}
        }
        for record in &opened.records {
            core.replay(record);
        }
        let mut wake = vec![
            Event::Ensure {
                name: settings.workspace_name.clone(),
                key: key.clone(),
            },
            Event::Tick,
        ];
        wake.extend(first);
        let now = clock::now();
        let mut event_loop = EventLoop::begin(core, opened.journal, now, |core, out| {
            wake.into_iter()
                .for_each(|event| core.step(now, event, out));
        })?;

        let listener = TcpListener::bind(settings.listen).map_err(|error| EngineError::Listen {
            addr: settings.listen,
            error,
        })?;
        let (inbox, events) = bounded(INBOX);
        let mut driver = EngineDriver {
            faults: faults.clone(),
            ..EngineDriver::default()
        };
        let running = thread::start("engine", STACK_KIB, move || {
            thread::drive(&mut event_loop, &mut driver, &events);
        })
        .map_err(EngineError::System)?;
        let limits = ServerLimits {
            connections: CONNECTIONS,
            sockets: SOCKETS,
            ..ServerLimits::default()
        };
        let known = KnownTokens::default();
        known.add(&key);
        let gateway = Arc::new(Gateway {
            inbox: inbox.clone(),
            faults: faults.clone(),
            known,
            local: settings.listen.ip().is_loopback(),
        });
        let server = Server::start("engine:accept", listener, limits, gateway)
            .map_err(EngineError::System)?;
        Ok(Self {
            server,
            inbox,
            core: running,
            key,
            faults,
            _lock: lock,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Its base URL, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The key of the workspace that was asked for.
    pub fn workspace_key(&self) -> &str {
        &self.key
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.faults.end();
        self.server.stop();
        // Connections are gone or will be; the core ends here even if one of them holds on to its inbox.
        let _ = self.inbox.send_timeout(EngineInbound::Stop, STOP_LIMIT);
        self.core.join_within(STOP_LIMIT);
    }
}

/// The key that was given, or the one that is kept, or a new one that is kept from now on.
fn workspace_key(settings: &EngineSettings) -> Result<String, EngineError> {
    let path = settings.dir.join("workspace-key");
    let (key, from) = match &settings.workspace_key {
        Some(key) => (key.trim().to_owned(), "the settings".to_owned()),
        None => (kept_key(&path)?, path.display().to_string()),
    };
    if key.starts_with("rk_") {
        Ok(key)
    } else {
        Err(EngineError::Key { from })
    }
}

fn kept_key(path: &Path) -> Result<String, EngineError> {
    match disk::read_private(path) {
        Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(EngineError::Folder(e)),
    }
    let key = format!(
        "rk_live_{}",
        entropy::hex::<16>().map_err(EngineError::System)?
    );
    disk::write_private(path, format!("{key}\n").as_bytes()).map_err(EngineError::Folder)?;
    Ok(key)
}

/// Who waits for an answer.
enum Waiting {
    Http(Sender<(u16, Option<Value>)>),
    Socket(wake::Sender<Timed>, Sender<Admission>),
}

/// Does what the core decides: keeps tickets and connections by number.
#[derive(Default)]
struct EngineDriver {
    last_ticket: u64,
    waiting: HashMap<u64, Waiting>,
    conns: HashMap<ConnId, wake::Sender<Timed>>,
    faults: Arc<NetworkFaults>,
}

impl EngineDriver {
    fn ticket(&mut self, who: Waiting) -> Ticket {
        self.last_ticket += 1;
        self.waiting.insert(self.last_ticket, who);
        Ticket(self.last_ticket)
    }
}

impl Driver<EngineCore> for EngineDriver {
    type Inbound = EngineInbound;

    fn accept(&mut self, inbound: EngineInbound) -> Event {
        match inbound {
            EngineInbound::Http {
                call,
                proof,
                entropy,
                reply,
            } => {
                let ticket = self.ticket(Waiting::Http(reply));
                match proof {
                    None => Event::Http {
                        ticket,
                        call,
                        entropy,
                    },
                    Some(proof) => Event::HttpWithProof {
                        ticket,
                        call,
                        proof,
                        entropy,
                    },
                }
            }
            EngineInbound::Socket {
                kind,
                token,
                queue,
                reply,
            } => Event::SocketWanted {
                ticket: self.ticket(Waiting::Socket(queue, reply)),
                kind,
                token,
            },
            EngineInbound::Frame {
                conn,
                text,
                entropy,
            } => Event::SocketFrame {
                conn,
                text,
                entropy,
            },
            EngineInbound::Drained { conn, frames } => Event::SocketDrained { conn, frames },
            EngineInbound::Closed { conn } => {
                self.conns.remove(&conn);
                Event::SocketClosed { conn }
            }
            EngineInbound::Stop => Event::Stop,
        }
    }

    fn tick(&self) -> Event {
        Event::Tick
    }

    fn perform(&mut self, _: Wall, effect: Effect, _: &mut Vec<Event>) -> ControlFlow<()> {
        match effect {
            // Whoever asked may be gone by now; then nobody is told.
            Effect::Answer {
                ticket,
                status,
                body,
            } => match self.waiting.remove(&ticket.0) {
                Some(Waiting::Http(reply)) => {
                    let _ = reply.try_send((status, body));
                }
                Some(Waiting::Socket(_, reply)) => {
                    let _ = reply.try_send(Err((status, body)));
                }
                None => {}
            },
            Effect::Admit { ticket, conn } => {
                if let Some(Waiting::Socket(queue, reply)) = self.waiting.remove(&ticket.0) {
                    self.conns.insert(conn, queue);
                    let _ = reply.try_send(Ok(conn));
                }
            }
            Effect::Push { conn, text } => self.send(conn, Word::Text(text)),
            Effect::Close { conn, code, reason } => {
                let word = match code {
                    NO_GOODBYE => Word::Cut,
                    code => Word::Close(code, reason),
                };
                self.send(conn, word);
                self.conns.remove(&conn);
            }
            Effect::Exit => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn degraded(&mut self, why: Option<&str>) {
        // While the disk refuses, callers wait: nothing is answered that is not written.
        if let Some(why) = why {
            log::error!("embedded engine: {why}");
        }
    }
}

impl EngineDriver {
    fn send(&mut self, conn: ConnId, word: Word) {
        let Some(queue) = self.conns.get(&conn) else {
            return;
        };
        let due = self.faults.delay().map(|d| clock::now().mono + d);
        if queue.try_send((due, word)).is_err() {
            log::warn!("embedded engine: connection {conn} does not keep up and is dropped");
            self.conns.remove(&conn);
        }
    }
}
