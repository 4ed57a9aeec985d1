//! The list of a server's connections, so that a full one can make room and a stopping one can wake every sleeper. Accepts
//! nothing and reads nothing.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::handler::{Handler, ServerLimits};
use crate::sys::wake::Wake;
use crate::sys::{clock, thread};
use crate::time::Mono;

/// Connections beyond the limit that are told so; any further one is closed without a word.
const REFUSALS: usize = 16;

/// One connection as the rest of the server sees it.
pub(super) struct OpenConnection {
    /// A second descriptor of the same socket: shutting it down wakes the thread.
    pub(super) socket: Arc<TcpStream>,
    pub(super) thread: Option<thread::Handle>,
    pub(super) accepted: Mono,
    pub(super) doing: Doing,
    /// Whether a request on it was believed.
    pub(super) known: bool,
    /// Whether it has asked for anything.
    pub(super) asked: bool,
    /// Only here to be told that there is no room.
    pub(super) refused: bool,
    /// A WebSocket by now.
    pub(super) socketed: bool,
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
    pub(super) entries: Mutex<HashMap<u64, OpenConnection>>,
    pub(super) wake: Wake,
}

impl ServerState {
    /// A server without connections.
    ///
    /// # Errors
    /// When there is no descriptor to be had.
    pub(super) fn new(limits: ServerLimits, handler: Arc<dyn Handler>) -> io::Result<Self> {
        Ok(Self {
            limits,
            handler,
            stopping: AtomicBool::new(false),
            entries: Mutex::new(HashMap::new()),
            wake: Wake::new()?,
        })
    }

    /// From here on no connection is taken.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.poke();
    }

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
    pub(super) fn make_room(&self) -> Room {
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
    pub(super) fn is_full_of_newcomers(&self) -> bool {
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

/// What there is for one more connection.
pub(super) enum Room {
    Serve,
    Refuse,
    Drop,
}
