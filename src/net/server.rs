//! Accepting connections and ending them. Each connection has a thread of its own (`conn.rs`); who has a place is in
//! `connections.rs`. Parses nothing.

use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::conn;
use super::connections::{Doing, OpenConnection, Room, ServerState};
use super::handler::{Handler, ServerLimits};
use super::link;
use crate::sys::{clock, limits, thread};

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
        let shared = Arc::new(ServerState::new(limits, handler)?);
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
        self.shared.stop();
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
                        conn::turn_away(&stream, &*shared.handler, &e);
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
    attended.inspect_err(|e| conn::turn_away(&socket, &*shared.handler, e))
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
