//! Actions that the engine has this node do: what runs, who serves it, and the answers. An invocation is answered once,
//! whatever becomes of whoever served it.

mod handlers;
mod held;
mod hosted;
mod invocations;
mod sidecar_calls;
mod sidecars;
mod state;

pub(super) use state::{ActionPeers, ActionStep, Actions};

use super::node_config::NodeConfig;
use super::questions::ActionQuestions;
use crate::ids::InvocationId;
use crate::time::{Mono, soonest};
use crate::wire::up::Capability;

impl ActionQuestions for Actions {
    fn is_idle(&self) -> bool {
        self.invocations.is_empty() && self.held.is_empty()
    }

    fn is_open(&self, id: &InvocationId) -> bool {
        self.invocations.contains(id)
    }

    fn capabilities(&self, config: &NodeConfig) -> Vec<Capability> {
        let actions = config.actions.keys();
        let actions = actions.map(|name| Capability::of(name, "action"));
        actions.chain(self.sidecars.capabilities()).collect()
    }

    fn max_agents(&self, config: &NodeConfig) -> u64 {
        match config.max_agents {
            0 => self.sidecars.max_agents(),
            most => most,
        }
    }

    fn tags(&self) -> Vec<String> {
        self.sidecars.tags()
    }
}

impl Actions {
    pub(super) fn deadline(&self) -> Option<Mono> {
        soonest(self.held_until, self.sidecars.deadline())
    }

    pub(super) fn tick(&mut self, step: &mut ActionStep) {
        if self.held_until.is_some_and(|at| at <= step.now.mono) {
            self.lists_answered(step, false);
        }
        self.tick_sidecars(step);
    }
}
