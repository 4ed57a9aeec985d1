//! Who lives here, as far as the disk knows: what each agent was started with, so that a broker that comes back can
//! bring its agents back, and who was released, so that nobody waits for a reader who will not come.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::stored::StoredSpawn;
use crate::ids::AgentName;
use crate::time::Wall;

/// One agent's life, from its program's first start to its last end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Life {
    /// How it was started.
    pub request: StoredSpawn,
    /// How often the broker has started it again.
    #[serde(default)]
    pub restarts: u32,
    /// How many of these in a row came to nothing.
    #[serde(default)]
    pub failures: u32,
    /// The operator's configuration wants the agent, and only as long as it says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
    /// The program has not run yet, so the first task is still to be typed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
}

impl Life {
    /// One that begins now.
    pub(super) fn new(request: &StoredSpawn, declared: bool, waiting: bool) -> Self {
        Self {
            request: request.clone(),
            restarts: 0,
            failures: 0,
            declared,
            waiting,
        }
    }
}

/// How many agents that ended are remembered; the one that ended longest ago goes first.
pub const DEPARTED_KEPT: usize = 100;

/// An agent whose life ended without anybody's wish.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Departed {
    /// How it ended, for people.
    pub reason: String,
    /// Whether the broker was to start it again, and stopped trying.
    pub given_up: bool,
    /// When it ended.
    pub at: Wall,
    /// What ran, in one line.
    pub command: String,
    /// Its exit code, if it exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The number of the signal that killed it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What its terminal showed last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
    /// How to start it again; without the task, which it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<StoredSpawn>>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lives {
    running: BTreeMap<AgentName, Life>,
    released: BTreeSet<AgentName>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    departed: BTreeMap<AgentName, Departed>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sessions: BTreeMap<AgentName, LastSession>,
}

/// How many sessions of programs are remembered.
pub const SESSIONS_KEPT: usize = 1000;

/// A session that an agent's program had, for going on with it after the agent's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSession {
    /// The program, or its whole command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cli: Option<String>,
    /// The folder it worked in; some programs find a session only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Whether it had a terminal, as that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// The model that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The program's own id of it.
    pub id: String,
}

impl Lives {
    /// An agent that lives, or lived when the broker died.
    pub fn get(&self, agent: &AgentName) -> Option<&Life> {
        self.running.get(agent)
    }

    /// All that live.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentName, &Life)> {
        self.running.iter()
    }

    /// Whether the agent's last life ended by somebody's wish.
    pub fn was_released(&self, agent: &AgentName) -> bool {
        self.released.contains(agent)
    }

    /// Agents that ended without anybody's wish, and were neither released nor started again since.
    pub fn departed(&self) -> impl Iterator<Item = (&AgentName, &Departed)> {
        self.departed.iter()
    }

    /// How the last life of that name ended, if nobody wished it to.
    pub fn departed_as(&self, agent: &AgentName) -> Option<&Departed> {
        self.departed.get(agent)
    }

    /// The session that the last program of an agent had.
    pub fn session(&self, agent: &AgentName) -> Option<&LastSession> {
        self.sessions.get(agent)
    }

    fn note_session(&mut self, agent: &AgentName, request: &StoredSpawn) {
        let Some(id) = request.last_session.clone() else {
            return;
        };
        let session = LastSession {
            cli: request.cli.clone(),
            cwd: request.cwd.clone(),
            transport: request.transport.clone(),
            model: request.model.clone(),
            id,
        };
        self.sessions.insert(agent.clone(), session);
        if self.sessions.len() > SESSIONS_KEPT {
            let idle = self
                .sessions
                .keys()
                .find(|name| !self.running.contains_key(*name));
            if let Some(name) = idle.cloned() {
                self.sessions.remove(&name);
            }
        }
    }

    pub(super) fn depart(&mut self, agent: &AgentName, departed: &Departed) {
        self.departed.insert(agent.clone(), departed.clone());
        if self.departed.len() > DEPARTED_KEPT {
            let oldest = self.departed.iter().min_by_key(|(_, d)| d.at);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.departed.remove(&name);
            }
        }
    }

    pub(super) fn begin(&mut self, agent: &AgentName, begun: Life, anew: bool) {
        self.released.remove(agent);
        self.departed.remove(agent);
        // A program that was started again goes on with the life it had.
        let earlier = self.running.get(agent).filter(|_| !anew);
        let life = Life {
            restarts: earlier.map_or(0, |life| life.restarts),
            failures: earlier.map_or(0, |life| life.failures),
            ..begun
        };
        self.note_session(agent, &life.request);
        self.running.insert(agent.clone(), life);
    }

    pub(super) fn restart(&mut self, agent: &AgentName, failures: u32) {
        if let Some(life) = self.running.get_mut(agent) {
            life.restarts = life.restarts.saturating_add(1);
            life.failures = failures;
        }
    }

    pub(super) fn end(&mut self, agent: &AgentName, released: bool) {
        self.running.remove(agent);
        if released {
            self.departed.remove(agent);
            self.released.insert(agent.clone());
        }
    }

    pub(super) fn forget(&mut self, agent: &AgentName) {
        self.released.remove(agent);
    }
}
