//! What waits for each agent, in the order it will be typed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::delivery::Delivery;
use crate::domain::Mode;
use crate::ids::{AgentName, DeliveryId};

/// A delivery that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// What was accepted.
    pub delivery: Delivery,
    /// How often typing it began.
    pub attempts: u32,
    /// For how long a broker has run while its agent was not here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited_ms: u64,
    /// It waits for a person's word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// All mailboxes of the node. Keyed by name, because mail waits for whoever bears the name next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mailboxes {
    order: BTreeMap<AgentName, Queue>,
    pending: HashMap<DeliveryId, Pending>,
    bytes: usize,
}

/// One agent's mail.
#[derive(Clone, Debug, Default, PartialEq)]
struct Queue {
    ids: VecDeque<DeliveryId>,
    /// How many of them the engine keeps a copy of.
    engine: usize,
    /// What those weigh.
    engine_bytes: usize,
    /// What all of them weigh.
    bytes: usize,
    /// How many of them are to interrupt.
    steers: usize,
    /// How many of them wait for a person's word.
    suspended: usize,
}

impl Pending {
    fn interrupts(&self) -> bool {
        self.delivery.mode == Mode::Steer
    }

    /// About how many bytes a delivery takes in memory, and in the journal as plain text.
    pub fn weight(&self) -> usize {
        const REST: usize = 512;
        REST + self.delivery.body.len()
    }
}

impl Mailboxes {
    /// The delivery to type next: the oldest that is to interrupt, else the oldest.
    pub fn next(&self, agent: &AgentName) -> Option<&Pending> {
        let queue = self.order.get(agent)?;
        if queue.steers == 0 {
            return self.front(agent);
        }
        let urgent = |pending: &&Pending| pending.interrupts() && !pending.suspended;
        let mut pending = queue.ids.iter().filter_map(|id| self.pending.get(id));
        pending.find(urgent).or_else(|| self.front(agent))
    }

    /// The delivery that came first, of those that do not wait for a person's word.
    pub fn front(&self, agent: &AgentName) -> Option<&Pending> {
        self.of(agent).find(|pending| !pending.suspended)
    }

    /// How many of an agent's messages wait for a person's word.
    pub fn suspended(&self, agent: &AgentName) -> usize {
        self.order.get(agent).map_or(0, |queue| queue.suspended)
    }

    /// Whose messages wait for a person's word.
    pub fn suspects(&self) -> impl Iterator<Item = &AgentName> {
        let some = self.order.iter().filter(|(_, queue)| queue.suspended > 0);
        some.map(|(name, _)| name)
    }

    /// Everything for one agent, in order.
    pub fn of(&self, agent: &AgentName) -> impl Iterator<Item = &Pending> {
        self.order
            .get(agent)
            .into_iter()
            .flat_map(|queue| &queue.ids)
            .filter_map(|id| self.pending.get(id))
    }

    /// Everything, by agent and then in order.
    pub fn all(&self) -> impl Iterator<Item = &Pending> {
        self.order
            .values()
            .flat_map(|queue| &queue.ids)
            .filter_map(|id| self.pending.get(id))
    }

    /// Everybody who has mail, with what comes first.
    pub fn fronts(&self) -> impl Iterator<Item = (&AgentName, &Pending)> {
        self.order
            .iter()
            .filter_map(|(name, queue)| Some((name, self.pending.get(queue.ids.front()?)?)))
    }

    /// What everything that waits weighs, in bytes (see [`Pending::weight`]).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the engine's mail for one agent weighs, in bytes.
    pub fn bytes_engine(&self, agent: &AgentName) -> usize {
        self.order.get(agent).map_or(0, |queue| queue.engine_bytes)
    }

    /// What this machine's own mail for one agent weighs, in bytes.
    pub fn bytes_local(&self, agent: &AgentName) -> usize {
        let queue = self.order.get(agent);
        queue.map_or(0, |queue| queue.bytes - queue.engine_bytes)
    }

    /// How much waits in all.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// How much waits for one agent.
    pub fn waiting(&self, agent: &AgentName) -> usize {
        self.order.get(agent).map_or(0, |queue| queue.ids.len())
    }

    /// How much of the engine's mail waits for one agent.
    pub fn waiting_engine(&self, agent: &AgentName) -> usize {
        self.order.get(agent).map_or(0, |queue| queue.engine)
    }

    /// How much of this machine's own mail waits for one agent.
    pub fn waiting_local(&self, agent: &AgentName) -> usize {
        self.waiting(agent) - self.waiting_engine(agent)
    }

    /// One by its id.
    pub fn get(&self, id: &DeliveryId) -> Option<&Pending> {
        self.pending.get(id)
    }

    pub(super) fn push(&mut self, pending: Pending) {
        let id = pending.delivery.id.clone();
        if self.pending.contains_key(&id) {
            return;
        }
        let queue = self.order.entry(pending.delivery.agent.clone());
        let queue = queue.or_default();
        queue.ids.push_back(id.clone());
        let weight = pending.weight();
        queue.bytes += weight;
        queue.steers += usize::from(pending.interrupts());
        queue.suspended += usize::from(pending.suspended);
        self.bytes += weight;
        if pending.delivery.origin.is_engine() {
            queue.engine += 1;
            queue.engine_bytes += weight;
        }
        self.pending.insert(id, pending);
    }

    pub(super) fn attempted(&mut self, id: &DeliveryId) {
        if let Some(pending) = self.pending.get_mut(id) {
            pending.attempts = pending.attempts.saturating_add(1);
        }
    }

    pub(super) fn suspend(&mut self, id: &DeliveryId, suspended: bool) {
        let Some(pending) = self.pending.get_mut(id) else {
            return;
        };
        if std::mem::replace(&mut pending.suspended, suspended) == suspended {
            return;
        }
        if let Some(queue) = self.order.get_mut(&pending.delivery.agent) {
            match suspended {
                true => queue.suspended += 1,
                false => queue.suspended -= 1,
            }
        }
    }

    pub(super) fn waited(&mut self, agent: &AgentName, ms: u64) {
        let ids = self
            .order
            .get(agent)
            .into_iter()
            .flat_map(|queue| &queue.ids);
        for id in ids {
            if let Some(pending) = self.pending.get_mut(id) {
                pending.waited_ms = pending.waited_ms.saturating_add(ms);
            }
        }
    }

    pub(super) fn take(&mut self, id: &DeliveryId) -> Option<Pending> {
        let pending = self.pending.remove(id)?;
        let (agent, weight) = (&pending.delivery.agent, pending.weight());
        self.bytes -= weight;
        if let Some(queue) = self.order.get_mut(agent) {
            // Almost always the front one, so this is no search.
            if let Some(at) = queue.ids.iter().position(|other| other == id) {
                queue.ids.remove(at);
                queue.bytes -= weight;
                queue.steers -= usize::from(pending.interrupts());
                queue.suspended -= usize::from(pending.suspended);
                if pending.delivery.origin.is_engine() {
                    queue.engine -= 1;
                    queue.engine_bytes -= weight;
                }
            }
            if queue.ids.is_empty() {
                self.order.remove(agent);
            }
        }
        Some(pending)
    }
}
