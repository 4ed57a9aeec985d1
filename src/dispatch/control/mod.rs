//! This node at the engine: the link, the node's registration, heartbeats and lists of agents, and the orderly goodbye.

mod heartbeat;
mod inventory;
mod link;
mod location_conflict;
mod node_registration;
mod state;
mod stopping;

pub use heartbeat::VERSION;
pub(super) use state::{Control, ControlPeers, ControlStep, ControlView};

#[cfg(test)]
pub(super) use {heartbeat::HEARTBEAT, inventory::QUIET};

use std::time::Duration;

use self::link::Link;
use self::state::Stop;
use super::engine_version::EngineVersion;
use super::node_config::NodeConfig;
use super::notice::Notice;
use super::questions::ControlQuestions;
use crate::ids::NodeId;
use crate::msg::Effect;
use crate::time::{Mono, soonest};
use crate::wire::event::BrokerEvent;

impl ControlQuestions for Control {
    fn is_up(&self) -> bool {
        self.link.up
    }

    fn is_open(&self) -> bool {
        self.link.is_open()
    }

    fn lists_until(&self) -> Option<Mono> {
        self.link.lists.awaited_until
    }

    fn why_down(&self) -> Option<&str> {
        self.link.why_down.as_deref()
    }

    fn gone_for(&self, now: Mono) -> Duration {
        let since = self.link.down_since;
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    fn engine_version(&self) -> EngineVersion {
        self.link.version
    }

    fn node_name(&self) -> &str {
        &self.node_name
    }

    fn node_id(&self) -> &NodeId {
        &self.node_id
    }

    fn is_stopping(&self) -> bool {
        self.stop.is_under_way()
    }
}

impl Control {
    pub(super) fn new(config: &NodeConfig) -> Self {
        Self {
            node_name: config.node_name.clone(),
            node_id: config.node_id.clone(),
            link: Link::default(),
            stop: Stop::default(),
        }
    }

    /// The engine listens: who runs here, and how we are.
    pub(super) fn link_open(&mut self, step: &mut ControlStep) {
        self.inventory_needed(step);
        self.beat_behind_list(step);
    }

    pub(super) fn tick(&mut self, step: &mut ControlStep) {
        self.tick_registration(step);
        self.tick_list(step);
        self.tick_heartbeat(step);
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        soonest(self.link.deadline(), self.stop.deadline())
    }

    // ---- the link -----------------------------------------------------------------------------------------------

    /// A node token is at hand, and with it the names that the engine knows us by.
    pub(super) fn enrolled(&mut self, step: &mut ControlStep, node_id: NodeId, node_name: String) {
        self.node_id = node_id;
        if !node_name.is_empty() {
            self.node_name = node_name;
        }
        self.link.enrolled = true;
        step.effect(Effect::Enrolled {
            node_id: self.node_id.clone(),
            node_name: self.node_name.clone(),
        });
    }

    /// Whether a node token is at hand.
    pub(super) fn is_enrolled(&self) -> bool {
        self.link.enrolled
    }

    /// Whether the engine took our registration on this link.
    pub(super) fn is_registered(&self) -> bool {
        self.link.registered
    }

    /// Since when that is no longer so, if it was before.
    pub(super) fn lost_at(&self) -> Option<Mono> {
        self.link.lost_at
    }

    /// When the engine last sent anything.
    pub(super) fn last_frame(&self) -> Option<Mono> {
        self.link.last_frame
    }

    /// The engine sent something.
    pub(super) fn heard(&mut self, step: &mut ControlStep) {
        step.count().engine_frames += 1;
        self.link.last_frame = Some(step.now.mono);
    }

    /// It sent something that was not taken in.
    pub(super) fn passed_over(&mut self, step: &mut ControlStep) {
        step.count().engine_frames_refused += 1;
    }

    /// The first word on a new link is who we are; nothing else is said until the engine has taken it.
    pub(super) fn link_up(&mut self, step: &mut ControlStep) {
        self.link.up = true;
        self.link.why_down = None;
        self.link.down_since = None;
        self.link.unregister(step.now.mono);
        step.notice(Notice::LinkUp);
        self.begin_registration(step);
        step.publish(BrokerEvent::NodeLink {
            connected: true,
            reason: None,
        });
    }

    pub(super) fn link_lost(&mut self, step: &mut ControlStep, why: &str) {
        let was_up = self.link.up;
        let news = self.link.why_down.as_deref() != Some(why);
        self.link.broke(step.now.mono, why);
        step.notice(Notice::LinkLost);
        if was_up {
            step.count().link_losses += 1;
        }
        if was_up || news {
            emit_down(step, why);
        }
    }

    pub(super) fn link_refused(&mut self, step: &mut ControlStep, why: &str) {
        if self.link.why_down.as_deref() != Some(why) {
            log::error!(event = "node_refused"; "{why}");
            self.link.why_down = Some(why.to_owned());
            emit_down(step, why);
        }
    }
}

fn emit_down(step: &mut ControlStep, why: &str) {
    step.publish(BrokerEvent::NodeLink {
        connected: false,
        reason: Some(why.to_owned()),
    });
}
