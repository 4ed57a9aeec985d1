//! What this part keeps, and whom it may ask.

use std::time::Duration;

use super::link::Link;
use crate::dispatch::questions::{ActionQuestions, AgentQuestions};
use crate::dispatch::step::{PartStep, PartView};
use crate::ids::NodeId;
use crate::time::{Mono, soonest};

/// Whom control may ask.
#[derive(Clone, Copy)]
pub(in crate::dispatch) struct ControlPeers<'a> {
    pub(in crate::dispatch) agents: &'a dyn AgentQuestions,
    pub(in crate::dispatch) actions: &'a dyn ActionQuestions,
}

/// A step of this part.
pub(in crate::dispatch) type ControlStep<'a> = PartStep<'a, ControlPeers<'a>>;
/// A look of this part.
pub(in crate::dispatch) type ControlView<'a> = PartView<'a, ControlPeers<'a>>;

/// This node at the engine.
pub(in crate::dispatch) struct Control {
    pub(super) node_name: String,
    pub(super) node_id: NodeId,
    pub(super) link: Link,
    pub(super) stop: Stop,
}

/// How far the orderly end has come.
#[derive(Debug, Default)]
pub(super) struct Stop {
    /// Until when messages that are being typed may still arrive, and how long the end may take after it.
    pub(super) drain: Option<(Mono, Duration)>,
    pub(super) deadline: Option<Mono>,
    /// The deadline passed once; agents that are left have been killed.
    pub(super) hurried: bool,
    pub(super) exited: bool,
}

impl Stop {
    pub(super) fn is_under_way(&self) -> bool {
        self.drain.is_some() || self.is_ending()
    }

    /// Agents are being ended.
    pub(super) fn is_ending(&self) -> bool {
        self.deadline.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let drained = self.drain.map(|(until, _)| until);
        soonest(self.deadline, drained).filter(|_| !self.exited)
    }
}
