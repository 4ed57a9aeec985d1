//! Who runs here, told to the engine as one list.

use std::time::Duration;

use serde_json::Value;

use super::state::{Control, ControlStep};
use crate::dispatch::notice::Notice;
use crate::time::{Mono, soonest};
use crate::wire::up::{InventorySync, Up};

/// How long a list that agents' mail depends on waits for what runs here. By then an engine has given what it had no answer
/// to to another node anyway, list or not ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)).
const LIST_WAITS: Duration = Duration::from_secs(45);
/// How long a list waits behind an order, its answer, and a registration. Orders come in bursts: behind the answer to a
/// registration, and one after another. One that crosses a list on its way looks to the engine as if this node knew
/// nothing of it, and is given to another node too ([engine-protocol 3.9](crate::docs::engine_protocol#3.9)).
pub(in crate::dispatch) const QUIET: Duration = Duration::from_millis(150);

impl Control {
    /// Tells the engine at once who runs here, after each change of the live set.
    pub(in crate::dispatch) fn announce(&mut self, step: &mut ControlStep) {
        if self.link.is_open() {
            self.inventory(step);
            self.beat_behind_list(step);
        }
    }

    /// How we are, at once, or behind a list that waits for no more than a moment.
    pub(super) fn beat_behind_list(&mut self, step: &mut ControlStep) {
        if self.link.inventory_owed && step.peers.actions.is_idle() {
            let with_it = self.quiet_at(step);
            self.link.next_heartbeat = soonest(self.link.next_heartbeat, Some(with_it));
        } else {
            self.heartbeat(step);
        }
    }

    /// The complete live set, as soon as nothing that the engine asked for runs here, and no more has come for a moment: it
    /// gives to another node what it has open on this one and does not find in the list
    /// ([engine-protocol 3.9](crate::docs::engine_protocol#3.9)), and two would do it.
    pub(super) fn inventory(&mut self, step: &mut ControlStep) {
        self.link.inventory_owed = true;
        let quiet = step.peers.actions.is_idle() && self.quiet_at(step) <= step.now.mono;
        if quiet || step.peers.agents.listed().is_empty() {
            self.list(step);
        }
    }

    /// An order came or was answered, or a registration was taken: more orders may follow in a moment.
    pub(in crate::dispatch) fn expect_orders(&mut self, step: &mut ControlStep) {
        self.link.orders_until = Some(step.now.mono + QUIET);
    }

    /// From when on no more are expected.
    fn quiet_at(&self, step: &ControlStep) -> Mono {
        let now = step.now.mono;
        let answered = self.link.busy && step.peers.actions.is_idle();
        let until = if answered {
            Some(now + QUIET)
        } else {
            self.link.orders_until
        };
        until.unwrap_or(now)
    }

    /// An owed list goes when no more orders are expected, unless one is still open then. The last thing of each step.
    pub(in crate::dispatch) fn time_list(&mut self, step: &mut ControlStep) {
        let idle = step.peers.actions.is_idle();
        self.link.orders_until = Some(self.quiet_at(step)).filter(|at| *at > step.now.mono);
        self.link.busy = !idle;
        let goes = self.link.inventory_owed && self.link.is_open() && idle;
        self.link.inventory_at = goes.then(|| self.quiet_at(step));
    }

    /// The moment is over, or it has been too long for mail to wait.
    pub(super) fn tick_list(&mut self, step: &mut ControlStep) {
        let due = soonest(self.link.inventory_at, self.link.inventory_by);
        if due.is_some_and(|at| at <= step.now.mono) {
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

    /// The engine thinks that an agent is gone. Where it runs here it has signed off by itself, and no mail comes for it
    /// until a list names it ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)). One list between two heartbeats, so
    /// that nobody who signs off again and again has us send nothing else.
    pub(in crate::dispatch) fn presence(&mut self, step: &mut ControlStep, news: &Value) {
        let gone = news["status"] == "offline";
        let listed = step.peers.agents.listed();
        let runs = |id: &Value| listed.iter().any(|member| id == member.agent_id.as_str());
        if gone && !self.link.relisted && runs(&news["agent_id"]) {
            self.link.relisted = true;
            self.inventory_needed(step);
        }
    }

    /// Never empty: an empty list would take agents offline that a lost list might still name
    /// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)); agents that end are deregistered one by one.
    pub(super) fn list(&mut self, step: &mut ControlStep) {
        self.link.inventory_owed = false;
        self.link.inventory_at = None;
        self.link.inventory_by = None;
        let agents = step.peers.agents.listed();
        if agents.is_empty() {
            step.notice(Notice::Listed(None));
            return;
        }
        let id = step.request_id("inventory");
        self.link.lists.sent(&id, agents.len(), step.now.mono);
        step.notice(Notice::Listed(Some(id.clone())));
        step.send(Up::InventorySync(InventorySync {
            id: Some(id),
            agents,
        }));
    }
}
