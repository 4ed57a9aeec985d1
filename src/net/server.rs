//! Accepting connections, counting them, and ending them. Each connection has a thread of its own (`conn.rs`); this file
//! owns the list of them, so that a full server can make room and a stopping one can wake every sleeper. It parses
//! nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};

use super::conn;
use super::head::plain;
use super::http::{HandlerOutcome, Request, Response};
use super::link;
use crate::sys::wake::Wake;
use crate::sys::{clock, limits, thread};
use crate::time::Mono;

/// Answers requests. Called on the connection's own thread, so it may block. A `HEAD` request arrives as `GET`; the
/// server leaves the body of the answer away.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request) -> HandlerOutcome;

    /// Whether a request shows by its head that its sender may ask; its body is not read yet. Asked again after the answer,
    /// for where only answers tell who may. Who is not known is a stranger: may be put out in the middle of an answer, and
    /// has little time for everything.
    fn knows(&self, _head: &Request) -> bool {
        true
    }

    /// Words the server's own refusals as this handler's clients read them.
    fn refuse(&self, status: u16, code: &'static str, message: &str) -> Response {
        plain(status, code, message)
    }
}

/// Bounds on what a stranger can make the server hold.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at one time, WebSockets aside. When all are taken, one is closed to make room: the oldest of a stranger,
    /// of those who have asked for something before those who have not yet, else the one that has waited longest for a
    /// request, else one that does not read its answer; if all are at work for somebody known, the new one gets 503.
    pub connections: usize,
    /// WebSockets at one time; one more gets 503. They stay for as long as their owners like, so they have places of their
    /// own and take none from callers.
    pub sockets: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Bytes of a request's body; more gets 413.
    pub body_bytes: usize,
    /// The same for a stranger: the request is answered without its body.
    pub stranger_body_bytes: usize,
    /// Bytes of one WebSocket message.
    pub frame_bytes: usize,
    /// From the first byte of a head to its last.
    pub head_time: Duration,
    /// From the end of the head to the end of the body.
    pub body_time: Duration,
    /// Between requests on one connection.
    pub idle_time: Duration,
    /// For reading an answer.
    pub write_time: Duration,
    /// Both of the last, for strangers: who never showed a key.
    pub stranger_time: Duration,
    /// How long each connection may keep its place to show a key, however many others want one; they wait meanwhile.
    pub newcomer_time: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            sockets: 64,
            head_bytes: 16 * 1024,
            body_bytes: 8 * 1024 * 1024,
            stranger_body_bytes: 8 * 1024 * 1024,
            frame_bytes: 4 * 1024 * 1024,
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            stranger_time: Duration::from_secs(10),
            newcomer_time: Duration::from_millis(250),
        }
    }
}

/// Connections beyond the limit that are told so; any further one is closed without a word.
const REFUSALS: usize = 16;
/// How long answers under way may still take when the server stops.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long [`Server::stop`] waits in all.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// Between tries while the process has no descriptors left to accept with.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Between looks whether one of the newcomers who have all places has spoken.
const NEWCOMERS_RETRY: Duration = Duration::from_millis(10);
/// Stack of every thread of the server.
const STACK_KIB: usize = 512;

/// One connection as the rest of the server sees it.
struct OpenConnection {
    /// A second descriptor of the same socket: shutting it down wakes the thread.
    socket: Arc<TcpStream>,
    thread: Option<thread::Handle>,
    accepted: Mono,
    doing: Doing,
    /// Whether a request on it was believed.
    known: bool,
    /// Whether it has asked for anything.
    asked: bool,
    /// Only here to be told that there is no room.
    refused: bool,
    /// A WebSocket by now.
    socketed: bool,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It waits for a request, since then.
    Waiting(Mono),
    /// A request is being answered.
    Working,
    /// The other side does not read its answer, since then.
    Unread(Mono),
    /// It is being seen off.
    Leaving,
}

impl OpenConnection {
    /// Who is closed first when room is needed; `None` for whom never. Anybody of this machine can connect, so those who
    /// have shown no key must not keep out those who have one. Among them it is the oldest, and last of all who has not
    /// asked for anything: a newcomer is about to show a key.
    fn turn_to_go(&self) -> Option<(u8, Mono)> {
        match self.doing {
            Doing::Leaving => Some((0, self.accepted)),
            _ if self.is_newcomer() => Some((2, self.accepted)),
            _ if !self.known => Some((1, self.accepted)),
            Doing::Waiting(since) => Some((3, since)),
            Doing::Unread(since) => Some((4, since)),
            Doing::Working => None,
        }
    }

    fn is_newcomer(&self) -> bool {
        !self.known && !self.asked
    }
}

/// What the accept thread, the connections and the owner share.
pub(super) struct ServerState {
    pub(super) limits: ServerLimits,
    pub(super) handler: Arc<dyn Handler>,
    stopping: AtomicBool,
    /// A leaf lock: held to look or change, never across IO that can block.
    entries: Mutex<HashMap<u64, OpenConnection>>,
    wake: Wake,
}

impl ServerState {
    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Notes what a connection is doing. `false`: it has been given up.
    pub(super) fn mark(&self, id: u64, doing: Doing) -> bool {
        self.change(id, |entry| entry.doing = doing)
    }

    /// Notes that the head of a request came. `false`: it has been given up.
    pub(super) fn has_asked(&self, id: u64) -> bool {
        self.change(id, |entry| entry.asked = true)
    }

    /// Notes that a request on a connection was believed. `false`: it has been given up.
    pub(super) fn believe(&self, id: u64) -> bool {
        self.change(id, |entry| entry.known = true)
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut OpenConnection)) -> bool {
        self.entries.lock().get_mut(&id).map(change).is_some()
    }

    /// Notes that a connection becomes a WebSocket. `false`: there are as many as there may be.
    pub(super) fn becomes_socket(&self, id: u64) -> bool {
        let mut entries = self.entries.lock();
        if entries.values().filter(|e| e.socketed).count() >= self.limits.sockets {
            return false;
        }
        if let Some(entry) = entries.get_mut(&id) {
            entry.socketed = true;
        }
        true
    }

    /// Makes room for one more connection, if that can be done without cutting off work.
    fn make_room(&self) -> Room {
        let mut entries = self.entries.lock();
        let sockets = entries.values().filter(|e| e.socketed).count();
        let serving = entries.values().filter(|e| !e.refused).count() - sockets;
        if serving < self.limits.connections {
            return Room::Serve;
        }
        if let Some(id) = first_to_go(&entries)
            && let Some(entry) = entries.remove(&id)
        {
            let _ = entry.socket.shutdown(Shutdown::Both);
            return Room::Serve;
        }
        if entries.len() - sockets - serving < REFUSALS {
            Room::Refuse
        } else {
            Room::Drop
        }
    }

    /// Whether all places are taken and the next to go has only just come: then others wait, or a crowd that keeps coming
    /// back would put everybody out before a word is said.
    fn is_full_of_newcomers(&self) -> bool {
        let entries = self.entries.lock();
        let serving = entries.values().filter(|e| !e.refused && !e.socketed);
        if serving.count() < self.limits.connections {
            return false;
        }
        let first = first_to_go(&entries).and_then(|id| entries.get(&id));
        let young =
            |e: &OpenConnection| clock::now().mono.since(e.accepted) < self.limits.newcomer_time;
        first.is_some_and(|e| e.is_newcomer() && e.doing != Doing::Leaving && young(e))
    }
}

fn first_to_go(entries: &HashMap<u64, OpenConnection>) -> Option<u64> {
    let callers = entries.iter().filter(|(_, e)| !e.refused && !e.socketed);
    let all = callers.filter_map(|(id, e)| Some((e.turn_to_go()?, *id)));
    all.min().map(|(_, id)| id)
}

enum Room {
    Serve,
    Refuse,
    Drop,
}

/// A running server; dropping it stops accepting and closes its connections.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<ServerState>,
    accepting: thread::Handle,
}

impl Server {
    /// Starts threads `name` (accept) and `name:N` (connections).
    ///
    /// # Errors
    /// When a thread or descriptor is not to be had.
    pub fn start(
        name: &str,
        listener: TcpListener,
        limits: ServerLimits,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(ServerState {
            limits,
            handler,
            stopping: AtomicBool::new(false),
            entries: Mutex::new(HashMap::new()),
            wake: Wake::new()?,
        });
        let theirs = shared.clone();
        let prefix = name.to_owned();
        let accepting = thread::start(name, STACK_KIB, move || {
            accept_all(&prefix, &listener, &theirs);
        })?;
        Ok(Self {
            addr,
            shared,
            accepting,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting, lets answers under way finish for half a second, closes all sockets, and waits for the threads,
    /// two seconds in all. Doing it twice is harmless.
    pub fn stop(&self) {
        let began = clock::now().mono;
        let left = |limit: Duration| (began + limit).since(clock::now().mono);
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake.poke();
        self.accepting.join_within(left(STOP_LIMIT));

        let entries = std::mem::take(&mut *self.shared.entries.lock());
        for entry in entries.values() {
            // Sleepers see the end of the connection; an answer under way can still be written.
            let _ = entry.socket.shutdown(Shutdown::Read);
        }
        let threads = || entries.values().filter_map(|e| e.thread.as_ref());
        let patient = threads().all(|t| t.ends_within(left(LAST_WORDS)));
        if patient {
            return;
        }
        for entry in entries.values() {
            let _ = entry.socket.shutdown(Shutdown::Both);
        }
        for thread in threads() {
            thread.join_within(left(STOP_LIMIT));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept_all(name: &str, listener: &TcpListener, shared: &Arc<ServerState>) {
    let mut next_id = 0u64;
    let mut pause = None;
    let mut spare = spare();
    while !shared.stopping() {
        let mut fds = vec![PollFd::new(&shared.wake, PollFlags::IN)];
        if pause.is_none() {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        if let Err(e) = link::wait(&mut fds, pause) {
            log::error!("{name} stops accepting connections: {e}");
            return;
        }
        pause = None;
        loop {
            if shared.is_full_of_newcomers() {
                pause = Some(NEWCOMERS_RETRY);
                break;
            }
            match listener.accept() {
                Ok((stream, _)) => {
                    next_id += 1;
                    if let Err(e) = admit(name, next_id, stream, shared) {
                        log::warn!("{name} had to drop a connection: {}", limits::explain(&e));
                        pause = Some(ACCEPT_RETRY);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(e) => {
                    // The listener stays readable, so without a pause this would spin.
                    log::warn!("{name} cannot accept right now: {}", limits::explain(&e));
                    drop(spare.take());
                    if let Ok((stream, _)) = listener.accept()
                        && stream.set_nonblocking(true).is_ok()
                    {
                        conn::turn_away(&stream, &e);
                    }
                    spare = self::spare();
                    pause = Some(ACCEPT_RETRY);
                    break;
                }
            }
            if shared.stopping() {
                return;
            }
        }
    }
}

/// A descriptor to be closed when there is no other left, so that a client can be told.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Gives a connection its thread.
fn admit(name: &str, id: u64, stream: TcpStream, shared: &Arc<ServerState>) -> io::Result<()> {
    let refused = match shared.make_room() {
        Room::Serve => false,
        Room::Refuse => true,
        Room::Drop => return Ok(()),
    };
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let socket = Arc::new(stream);
    let attended = attend(name, id, &socket, shared, refused);
    attended.inspect_err(|e| conn::turn_away(&socket, e))
}

fn attend(
    name: &str,
    id: u64,
    socket: &Arc<TcpStream>,
    shared: &Arc<ServerState>,
    refused: bool,
) -> io::Result<()> {
    let stream = socket.try_clone()?;
    let socket = socket.clone();
    let now = clock::now().mono;
    let entry = OpenConnection {
        socket: socket.clone(),
        thread: None,
        accepted: now,
        doing: Doing::Waiting(now),
        known: false,
        asked: false,
        refused,
        socketed: false,
    };
    shared.entries.lock().insert(id, entry);
    let leave = Leave(shared.clone(), id);
    let started = thread::start(format!("{name}:{id}"), STACK_KIB, move || {
        let leave = leave;
        conn::serve(stream, &leave.0, leave.1, refused);
        leave.0.mark(leave.1, Doing::Leaving);
        conn::linger(&socket, &leave.0);
    })?;
    if let Some(entry) = shared.entries.lock().get_mut(&id) {
        entry.thread = Some(started);
    }
    Ok(())
}

/// Takes a connection off the list, however its thread ends.
struct Leave(Arc<ServerState>, u64);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.entries.lock().remove(&self.1);
    }
}
