//! What heartbeats say of a node ([engine-protocol 6](crate::docs::engine_protocol#6)).

use crate::engine::capability::CURSOR_CAPABILITY;
use crate::engine::id::Id;
use crate::engine::limits;
use crate::engine::live::Here;
use crate::engine::step::Step;
use crate::engine::sweep;
use crate::wire::up::NodeHeartbeat;

impl Step<'_> {
    pub fn heartbeat(&mut self, here: &Here, f: &NodeHeartbeat) {
        if f.node_id
            .as_ref()
            .is_some_and(|id| id.as_str() != here.node)
        {
            let why = format!("This token belongs to node {}", here.node);
            return self.complain(here.conn, None, "node_id_mismatch", &why);
        }
        if f.capabilities.is_some() || f.max_agents.is_some() || f.version.is_some() {
            self.refresh(here, f);
        }
        let (now, ws) = (self.now, here.ws);
        let Some(a) = self.core.live.get_mut(ws, &here.node, &here.provider) else {
            return;
        };
        a.beat = now.mono;
        a.beat_at = now.wall;
        a.load = f.load.filter(|l| l.is_finite()).unwrap_or(0.0).max(0.0);
        a.active = f.active_agents;
        a.handlers_live = f.handlers_live;
        let back = std::mem::take(&mut a.stale);
        let listed: Vec<Id> = a
            .ready
            .iter()
            .filter(|(_, r)| back && r.listed)
            .map(|(id, _)| *id)
            .collect();
        for agent in listed {
            if let Some(name) = self.agent(ws, agent).map(|a| a.name.clone()) {
                self.announce_presence(ws, &name, true);
            }
        }
        self.core.remind(now.mono, limits::LIVENESS + sweep::GRACE);
        self.place_waiting(ws);
    }

    /// Takes over what a heartbeat repeats of the registration.
    fn refresh(&mut self, here: &Here, f: &NodeHeartbeat) {
        let stored = self.node(here.ws, &here.node);
        let Some(stored) = stored.filter(|n| !n.is_direct()) else {
            return;
        };
        let known = stored
            .providers
            .get(&here.provider)
            .cloned()
            .unwrap_or_default();
        let version = f.version.clone().unwrap_or_else(|| stored.version.clone());
        let name = stored.name.clone();
        let mut capabilities = f.capabilities.clone().unwrap_or(known.capabilities.clone());
        capabilities.retain(|c| !self.is_claimed(here, c));
        if !known.capabilities.is_empty()
            && !capabilities.iter().any(|c| c.name == CURSOR_CAPABILITY)
        {
            // Negotiated once per connection; heartbeats that leave it out do not take it back.
            let cursor = known
                .capabilities
                .iter()
                .find(|c| c.name == CURSOR_CAPABILITY);
            capabilities.extend(cursor.cloned());
        }
        let max_agents = f.max_agents.unwrap_or(known.max_agents);
        self.describe(here, &name, None, &version, capabilities, max_agents);
    }
}
