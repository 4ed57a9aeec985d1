//! How long messages take, seen at the dispatcher's way out: when what happened is durable and told. Owned by the
//! dispatcher's thread; others only read the [`Latencies`].

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::Latencies;
use crate::ids::{AgentName, DeliveryId};
use crate::sys::clock;
use crate::time::{Mono, Wall};
use crate::wire::event::BrokerEvent;
use crate::wire::up::Up;

/// Of how many messages that are under way the time is taken; what comes beyond is not measured.
const MOST: usize = 8192;

/// See the module.
pub(super) struct Stopwatch {
    latencies: Arc<Latencies>,
    /// Since when a message waits for its next step: from its queue on, and from its typing on.
    under_way: HashMap<DeliveryId, Mono>,
    /// When an agent's last message was decided to have arrived, until the engine is told.
    arrived: HashMap<AgentName, Wall>,
}

impl Stopwatch {
    pub fn new(latencies: Arc<Latencies>) -> Self {
        Self {
            latencies,
            under_way: HashMap::new(),
            arrived: HashMap::new(),
        }
    }

    /// Subscribers are told this, which was decided at that time.
    pub fn told(&mut self, at: Wall, event: &BrokerEvent) {
        match event {
            BrokerEvent::DeliveryQueued {
                delivery_id: Some(id),
                ..
            } if self.under_way.len() < MOST => {
                self.under_way.insert(id.clone(), clock::now().mono);
            }
            BrokerEvent::DeliveryInjected { delivery_id, .. } => {
                if let Some(since) = self.under_way.get_mut(delivery_id) {
                    let now = clock::now().mono;
                    self.latencies.typed.observe(now.since(*since));
                    *since = now;
                }
            }
            BrokerEvent::DeliveryVerified {
                name, delivery_id, ..
            } => {
                if let Some(since) = self.under_way.remove(delivery_id) {
                    let took = clock::now().mono.since(since);
                    self.latencies.verified.observe(took);
                }
                if self.arrived.len() < MOST || self.arrived.contains_key(name) {
                    self.arrived.insert(name.clone(), at);
                }
            }
            BrokerEvent::DeadLetterAdded { delivery_id, .. } => {
                self.under_way.remove(delivery_id);
            }
            BrokerEvent::AgentReleased { name, .. } => {
                self.arrived.remove(name);
            }
            _ => {}
        }
    }

    /// The engine is told this.
    pub fn sent(&mut self, frame: &Up) {
        if let Up::DeliveryAck(ack) = frame
            && let Some(at) = self.arrived.remove(&ack.agent)
        {
            self.latencies.acked.observe(clock::now().wall - at);
        }
    }
}
