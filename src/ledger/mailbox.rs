//! What waits for each agent, in the order it will be typed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::ids::{AgentName, DeliveryId};
use crate::msg::{Delivery, Origin};

/// A delivery that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// What was accepted.
    pub delivery: Delivery,
    /// How often typing it began.
    pub attempts: u32,
}

/// All mailboxes of the node. Keyed by name, because mail waits for whoever bears the name next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mailboxes {
    order: BTreeMap<AgentName, VecDeque<DeliveryId>>,
    pending: HashMap<DeliveryId, Pending>,
}

impl Mailboxes {
    /// The delivery to type next.
    pub fn front(&self, agent: &AgentName) -> Option<&Pending> {
        self.pending.get(self.order.get(agent)?.front()?)
    }

    /// Everything for one agent, in order.
    pub fn of(&self, agent: &AgentName) -> impl Iterator<Item = &Pending> {
        self.order
            .get(agent)
            .into_iter()
            .flatten()
            .filter_map(|id| self.pending.get(id))
    }

    /// Everything, by agent and then in order.
    pub fn all(&self) -> impl Iterator<Item = &Pending> {
        self.order
            .values()
            .flatten()
            .filter_map(|id| self.pending.get(id))
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
        self.order.get(agent).map_or(0, VecDeque::len)
    }

    /// How many local sends wait for one agent.
    pub fn waiting_local(&self, agent: &AgentName) -> usize {
        self.of(agent)
            .filter(|p| p.delivery.origin == Origin::Local)
            .count()
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
        self.order
            .entry(pending.delivery.agent.clone())
            .or_default()
            .push_back(id.clone());
        self.pending.insert(id, pending);
    }

    pub(super) fn attempted(&mut self, id: &DeliveryId) {
        if let Some(pending) = self.pending.get_mut(id) {
            pending.attempts = pending.attempts.saturating_add(1);
        }
    }

    pub(super) fn take(&mut self, id: &DeliveryId) -> Option<Pending> {
        let pending = self.pending.remove(id)?;
        let agent = &pending.delivery.agent;
        if let Some(queue) = self.order.get_mut(agent) {
            // Almost always the front one, so this is no search.
            queue.retain_first(id);
            if queue.is_empty() {
                self.order.remove(agent);
            }
        }
        Some(pending)
    }
}

trait RetainFirst {
    fn retain_first(&mut self, id: &DeliveryId);
}

impl RetainFirst for VecDeque<DeliveryId> {
    /// Removes the first entry equal to `id`.
    fn retain_first(&mut self, id: &DeliveryId) {
        if let Some(at) = self.iter().position(|other| other == id) {
            self.remove(at);
        }
    }
}
