//! What this part keeps, and whom it may ask.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::sidecars::Sidecars;
use crate::dispatch::questions::{AgentQuestions, ControlQuestions};
use crate::dispatch::step::PartStep;
use crate::ids::InvocationId;
use crate::time::Mono;
use crate::wire::down::ActionInvoke;

/// Whom actions may ask.
#[derive(Clone, Copy)]
pub(in crate::dispatch) struct ActionPeers<'a> {
    pub(in crate::dispatch) agents: &'a dyn AgentQuestions,
    pub(in crate::dispatch) control: &'a dyn ControlQuestions,
}

/// A step of this part.
pub(in crate::dispatch) type ActionStep<'a> = PartStep<'a, ActionPeers<'a>>;

/// What the engine has this node do.
#[derive(Default)]
pub(in crate::dispatch) struct Actions {
    /// Invocations that run in this very life.
    pub(super) invocations: BTreeSet<InvocationId>,
    /// Orders that wait for the answer to a list that they may have crossed.
    pub(super) held: Vec<HeldOrder>,
    /// How long they do.
    pub(super) held_until: Option<Mono>,
    /// Which were answered since the last link began.
    pub(super) answers: VecDeque<InvocationId>,
    pub(super) handlers: Handlers,
    pub(super) sidecars: Sidecars,
}

/// An order that waits.
#[derive(Debug)]
pub(super) struct HeldOrder {
    pub(super) order: ActionInvoke,
    /// It came twice, so this node has it after the list, too.
    pub(super) again: bool,
}

/// Programs of the operator's configuration that serve actions: what runs and waits.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    pub(super) running: BTreeMap<String, BTreeSet<InvocationId>>,
    pub(super) waiting: BTreeMap<String, VecDeque<(InvocationId, Value)>>,
}

impl Handlers {
    pub(super) fn free_place(&self, action: &str, places: usize) -> bool {
        self.running.get(action).map_or(0, BTreeSet::len) < places
    }

    pub(super) fn action_of(&self, id: &InvocationId) -> Option<String> {
        let mut runs = self.running.iter();
        runs.find(|(_, ids)| ids.contains(id))
            .map(|(action, _)| action.clone())
    }
}
