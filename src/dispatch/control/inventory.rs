//! Who runs here, told to the engine as one list.

use std::time::Duration;

use super::{Control, ControlStep};
use crate::dispatch::notice::Notice;
use crate::wire::up::{InventorySync, Up};

/// How long a list that agents' mail depends on waits for what runs here. By then an engine has given what it had no answer
/// to to another node anyway, list or not ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)).
const LIST_WAITS: Duration = Duration::from_secs(45);

impl Control {
    /// Tells the engine at once who runs here, after each change of the live set.
    pub(in crate::dispatch) fn announce(&mut self, step: &mut ControlStep) {
        if self.link.is_open() {
            self.inventory(step);
            self.heartbeat(step);
        }
    }

    /// The complete live set, as soon as nothing that the engine asked for runs here: it gives to another node what it has
    /// open on this one and does not find in the list ([engine-protocol 3.9](crate::docs::engine_protocol#3.9)), and two
    /// would do it.
    pub(super) fn inventory(&mut self, step: &mut ControlStep) {
        self.link.inventory_owed = !step.peers.actions.is_idle();
        if !self.link.inventory_owed {
            self.list(step);
        }
    }

    /// The same, where mail depends on it: on a new link the engine sends none before a list, and none again without one
    /// ([engine-protocol 4.4](crate::docs::engine_protocol#4.4), [3.9](crate::docs::engine_protocol#3.9)). This one does not
    /// wait for ever.
    pub(in crate::dispatch) fn inventory_needed(&mut self, step: &mut ControlStep) {
        if !self.link.is_open() {
            return;
        }
        self.inventory(step);
        if self.link.inventory_owed {
            let by = step.now.mono + LIST_WAITS;
            self.link.inventory_by.get_or_insert(by);
        }
    }

    /// An invocation was answered: the list that waited for it can go.
    pub(in crate::dispatch) fn inventory_if_owed(&mut self, step: &mut ControlStep) {
        if self.link.inventory_owed && self.link.is_open() {
            self.inventory(step);
        }
    }

    /// Never empty: an empty list would take agents offline that a lost list might still name
    /// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)); agents that end are deregistered one by one.
    pub(super) fn list(&mut self, step: &mut ControlStep) {
        self.link.inventory_owed = false;
        self.link.inventory_by = None;
        let agents = step.peers.agents.listed();
        if agents.is_empty() {
            step.notice(Notice::Listed(None));
            return;
        }
        let id = step.request_id("inventory");
        self.link.lists.sent(&id, agents.len());
        step.notice(Notice::Listed(Some(id.clone())));
        step.send(Up::InventorySync(InventorySync {
            id: Some(id),
            agents,
        }));
    }
}
