//! Actions that a program of the operator's serves, one process per invocation: how many run at once, who waits, and
//! what comes of it. The process itself is an edge's business.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::invocations::as_object;
use super::state::{ActionStep, Actions};
use crate::dispatch::notice::Notice;
use crate::domain::Outcome;
use crate::ids::InvocationId;
use crate::ledger::Record;
use crate::msg::{Effect, HandlerRun};

/// How many invocations wait for one action; the engine keeps as many for a node
/// ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)). One more is refused.
const WAITING: usize = 100;

impl Actions {
    /// Takes an invocation of a configured action. Durable before its program starts, so that a repetition that comes
    /// while it runs is known, and one that comes after it is answered alike.
    pub(super) fn handle(
        &mut self,
        step: &mut ActionStep,
        id: InvocationId,
        action: &str,
        input: Value,
    ) {
        let Some(spec) = step.config().actions.get(action) else {
            return;
        };
        let waiting = self.handlers.waiting.get(action).map_or(0, VecDeque::len);
        if !self.handlers.free_place(action, spec.concurrency) && waiting >= WAITING {
            let why = format!("{WAITING} invocations of {action} wait here already");
            self.answer(step, id, Outcome::Error(why));
            return;
        }
        step.record(Record::Invoked { id: id.clone() });
        self.invocations.insert(id.clone());
        let queue = self.handlers.waiting.entry(action.to_owned());
        queue.or_default().push_back((id, input));
        self.run_waiting(step, action);
    }

    /// Other actions may be served here, by other programs and more or fewer of them at once. Nobody waits any longer for
    /// one that is not; those that run go on.
    pub(in crate::dispatch) fn reloaded(&mut self, step: &mut ActionStep) {
        let actions: Vec<String> = self.handlers.waiting.keys().cloned().collect();
        for action in actions {
            if step.config().actions.contains_key(&action) {
                self.run_waiting(step, &action);
                continue;
            }
            let waiting = self.handlers.waiting.remove(&action).unwrap_or_default();
            for (id, _) in waiting {
                let why = format!("the action {action} is not served here any more");
                self.answer(step, id, Outcome::Error(why));
            }
        }
        step.notice(Notice::CapabilitiesChanged);
    }

    fn run_waiting(&mut self, step: &mut ActionStep, action: &str) {
        let Some(spec) = step.config().actions.get(action).cloned() else {
            return;
        };
        while self.handlers.free_place(action, spec.concurrency) {
            let queue = self.handlers.waiting.get_mut(action);
            let Some((id, input)) = queue.and_then(VecDeque::pop_front) else {
                break;
            };
            let running = self.handlers.running.entry(action.to_owned());
            running.or_default().insert(id.clone());
            let run = HandlerRun {
                action: action.to_owned(),
                spec: spec.clone(),
                input,
                env: environment(step, action, &id),
            };
            step.effect(Effect::Handle(id, Box::new(run)));
        }
    }

    /// A handler's program ended.
    pub(in crate::dispatch) fn handled(
        &mut self,
        step: &mut ActionStep,
        id: InvocationId,
        result: Result<Value, String>,
    ) {
        let Some(action) = self.handlers.action_of(&id) else {
            return;
        };
        if let Some(running) = self.handlers.running.get_mut(&action) {
            running.remove(&id);
        }
        let outcome = match result {
            Ok(output) => Outcome::Output(as_object(output)),
            Err(why) => {
                log::warn!(event = "action_failed"; "action {action} failed ({id}): {why}");
                Outcome::Error(why)
            }
        };
        self.answer(step, id, outcome);
        if !step.peers.control.is_stopping() {
            self.run_waiting(step, &action);
        }
    }
}

fn environment(step: &ActionStep, action: &str, id: &InvocationId) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut add = |key: &str, value: &str| env.insert(key.to_owned(), value.to_owned());
    add("RELAY_ACTION", action);
    add("RELAY_INVOCATION_ID", id.as_str());
    add("RELAY_NODE_NAME", step.peers.control.node_name());
    add("RELAY_BASE_URL", &step.config().engine_url);
    add("RELAY_BROKER_STATE_DIR", &step.config().state_dir);
    env
}
