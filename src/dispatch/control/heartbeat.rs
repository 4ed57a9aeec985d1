//! How this node is, told to the engine again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{Control, ControlStep, ControlView};
use crate::msg::Effect;
use crate::wire::up::{Capability, NodeHeartbeat, Up};

/// Between heartbeats; the engine takes a node for dead after 45 s ([engine-protocol 6](crate::docs::engine_protocol#6)).
pub(in crate::dispatch) const HEARTBEAT: Duration = Duration::from_secs(12);
/// Inventory is repeated with every this many heartbeats, so that a lost one heals within a minute.
const INVENTORY_EVERY: u32 = 5;
/// What software we say we are.
pub const VERSION: &str = concat!("relay-broker/", env!("CARGO_PKG_VERSION"));

impl Control {
    pub(super) fn heartbeat(&mut self, step: &mut ControlStep) {
        self.link.next_heartbeat = Some(step.now.mono + HEARTBEAT);
        step.effect(self.beat(step.view()));
    }

    /// How we are.
    pub(super) fn beat(&self, view: ControlView) -> Effect {
        let active = view.peers.agents.active();
        let max_agents = view.peers.actions.max_agents(view.config());
        let load = match max_agents {
            0 => 0.0,
            max => (active as f64 / max as f64).min(1.0),
        };
        let serves = !self.capabilities(view).is_empty();
        Effect::Send(Up::NodeHeartbeat(NodeHeartbeat {
            name: Some(self.node_name.clone()),
            node_id: Some(self.node_id.clone()),
            handlers_live: serves && !self.stop.is_under_way(),
            capabilities: Some(self.advertised(view)),
            max_agents: Some(max_agents),
            version: Some(VERSION.into()),
            load: Some(load),
            active_agents: active,
            provider: None,
        }))
    }

    /// A sign of life while no step can be taken, once heartbeats are under way.
    pub(in crate::dispatch) fn sign_of_life(&self, view: ControlView) -> Option<Effect> {
        self.link.beating().then(|| self.beat(view))
    }

    pub(super) fn tick_heartbeat(&mut self, step: &mut ControlStep) {
        let now = step.now.mono;
        if self.link.next_heartbeat.is_some_and(|at| at <= now) {
            self.link.beats += 1;
            self.link.relisted = false;
            if self.link.beats.is_multiple_of(INVENTORY_EVERY) {
                self.inventory(step);
            }
            self.heartbeat(step);
        }
    }

    /// `spawn:<harness>` for each harness, as capacity. Never a bare `spawn`: on old engines it would catch every spawn of
    /// the workspace ([engine-protocol 5.1](crate::docs::engine_protocol#5.1)).
    pub(super) fn capabilities(&self, view: ControlView) -> Vec<Capability> {
        let spawns = view.config().harnesses.iter();
        let spawns = spawns.map(|h| Capability::of(format!("spawn:{h}"), "capacity"));
        let all = spawns.chain(view.peers.actions.capabilities(view.config()));
        // The last of one name counts: what a sidecar says of it.
        let by_name: BTreeMap<String, Capability> = all.map(|c| (c.name.clone(), c)).collect();
        by_name.into_values().collect()
    }

    /// Tells the engine at once what can be done here. Only a registration makes actions known
    /// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)).
    pub(in crate::dispatch) fn capabilities_changed(&mut self, step: &mut ControlStep) {
        if self.link.up {
            self.register_node(step);
            self.announce(step);
        }
    }
}
