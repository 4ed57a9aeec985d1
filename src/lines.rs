//! The direct lines between an agent's thread and whoever is attached to it. Terminal bytes skip the dispatcher both ways:
//! an attached client looks the line up here, reads from its topic and writes to its thread, which alone decides how
//! typing and injection take turns. The lock is a leaf: held to look up or replace a line, never across IO.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::hub::Topic;
use crate::ids::{AgentName, Run, SidecarId};
use crate::msg::{AgentCommand, How, SidecarPush, Size};
use crate::sys::wake::Sender;

/// How many inputs wait for one agent's thread. Full means the agent's thread is wedged.
pub const AGENT_QUEUE: usize = 64;

/// Everything an agent's thread is sent.
#[derive(Debug)]
pub enum AgentInput {
    /// An order of the dispatcher.
    Command(AgentCommand),
    /// Keys of an attached client, as they are. The answer comes once they are in the terminal: how many bytes, or why not.
    Type {
        /// What was pressed.
        bytes: Vec<u8>,
        /// Dropped unanswered when the agent goes away.
        done: Option<crossbeam_channel::Sender<Result<usize, String>>>,
    },
    /// The terminal's new size.
    Resize(Size),
    /// The reaper says that the process ended.
    Exited(How),
}

/// A piece of terminal output.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// As the program wrote it; may end inside a character or an escape sequence.
    pub bytes: Arc<[u8]>,
    /// Bytes of output so far, this piece included. A snapshot with the same or a higher offset holds it already.
    pub offset: u64,
}

/// One agent's line.
#[derive(Clone)]
pub struct Line {
    /// Which life of the name.
    pub run: Run,
    /// To its thread.
    pub input: Sender<AgentInput>,
    /// Its output.
    pub output: Arc<Topic<Chunk>>,
}

/// The lines to connected programs that serve actions.
#[derive(Default)]
pub struct Sidecars {
    last: AtomicU64,
    open: RwLock<HashMap<SidecarId, Sender<SidecarPush>>>,
}

impl Sidecars {
    /// Puts a line up, under a number of its own.
    pub fn open(&self, line: Sender<SidecarPush>) -> SidecarId {
        let id = SidecarId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        self.open.write().insert(id, line);
        id
    }

    /// Takes it down.
    pub fn close(&self, id: SidecarId) {
        self.open.write().remove(&id);
    }

    /// Whether the line is still up.
    pub fn is_open(&self, id: SidecarId) -> bool {
        self.open.read().contains_key(&id)
    }

    /// Sends without waiting. A program that does not read what it is sent loses its line, and so its connection.
    pub fn push(&self, id: SidecarId, push: SidecarPush) {
        let line = self.open.read().get(&id).cloned();
        if line.is_some_and(|line| line.try_send(push).is_err()) {
            self.close(id);
        }
    }
}

/// All lines by name.
#[derive(Default)]
pub struct Lines(RwLock<HashMap<AgentName, Line>>);

impl Lines {
    /// The line of a running agent.
    pub fn get(&self, name: &AgentName) -> Option<Line> {
        self.0.read().get(name).cloned()
    }

    /// Puts a line up, replacing one of an earlier life.
    pub fn put(&self, name: AgentName, line: Line) {
        self.0.write().insert(name, line);
    }

    /// Takes the line of that life down; a later life's stays.
    pub fn remove(&self, name: &AgentName, run: Run) {
        let mut lines = self.0.write();
        if lines.get(name).is_some_and(|line| line.run == run)
            && let Some(line) = lines.remove(name)
        {
            line.output.close();
        }
    }
}
