//! Orders that may have crossed a list of agents. An engine gives out again, to another node or to this one, what it has open
//! here and does not find in a list (`reconcileInventory` in the engine's `node.ts` at d0ed8bc), and says in its answer how
//! much that was. So an order that comes before that answer waits for it: one that was given out again is left alone, or two
//! nodes would do it.

use super::state::{ActionStep, Actions, HeldOrder};
use crate::time::Mono;
use crate::wire::down::ActionInvoke;

/// How many orders wait. An engine has no more open on one node, and gives out again what is left alone.
const HELD: usize = 100;

impl Actions {
    /// One that says nothing is not waited for.
    pub(super) fn hold(&mut self, order: ActionInvoke, until: Mono) {
        self.held_until = Some(until);
        let full = self.held.len() >= HELD;
        let id = &order.invocation_id;
        let mut held = self.held.iter_mut();
        match held.find(|held| held.order.invocation_id == *id) {
            Some(held) => held.again = true,
            None if full => {}
            None => self.held.push(HeldOrder {
                order,
                again: false,
            }),
        }
    }

    /// The engine has answered the lists. Where it gave anything out again, it does not say what: that is everything that
    /// came once. What it did not give out again after all it does once its time for this node is over.
    pub(in crate::dispatch) fn lists_answered(&mut self, step: &mut ActionStep, moved: bool) {
        self.held_until = None;
        for HeldOrder { order, again } in std::mem::take(&mut self.held) {
            if again || !moved {
                self.invoke(step, order);
            } else {
                let id = &order.invocation_id;
                log::info!(
                    "action {id} crossed a list of agents, and the engine gives it out again"
                );
            }
        }
    }

    /// The engine gives out again what it has open on a node that is gone.
    pub(in crate::dispatch) fn link_lost(&mut self) {
        self.held_until = None;
        self.held.clear();
    }
}
