//! Actions that a program of the operator's serves, one process per invocation: how many run at once, who waits, and
//! what comes of it. The process itself is an edge's business.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::{Dispatcher, Out};
use crate::ids::InvocationId;
use crate::ledger::Record;
use crate::msg::{Effect, HandlerRun};
use crate::wire::up::{Capability, Outcome};

/// How many invocations wait for one action; the engine keeps as many for a node
/// ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)). One more is refused.
const WAITING: usize = 100;

/// What runs and waits.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    running: BTreeMap<String, BTreeSet<InvocationId>>,
    waiting: BTreeMap<String, VecDeque<(InvocationId, Value)>>,
}

impl Handlers {
    fn free_place(&self, action: &str, places: usize) -> bool {
        self.running.get(action).map_or(0, BTreeSet::len) < places
    }

    fn action_of(&self, id: &InvocationId) -> Option<String> {
        let mut runs = self.running.iter();
        runs.find(|(_, ids)| ids.contains(id))
            .map(|(action, _)| action.clone())
    }
}

impl Dispatcher {
    /// Takes an invocation of a configured action. Durable before its program starts, so that a repetition that comes
    /// while it runs is known, and one that comes after it is answered alike.
    pub(super) fn handle(&mut self, id: InvocationId, action: &str, input: Value, out: &mut Out) {
        let Some(spec) = self.facts.actions.get(action) else {
            return;
        };
        let waiting = self.handlers.waiting.get(action).map_or(0, VecDeque::len);
        if !self.handlers.free_place(action, spec.concurrency) && waiting >= WAITING {
            let why = format!("{WAITING} invocations of {action} wait here already");
            self.answer(id, Outcome::Error(why), out);
            return;
        }
        self.record(Record::Invoked { id: id.clone() }, out);
        self.invocations.insert(id.clone());
        let queue = self.handlers.waiting.entry(action.to_owned());
        queue.or_default().push_back((id, input));
        self.run_waiting(action, out);
    }

    fn run_waiting(&mut self, action: &str, out: &mut Out) {
        let Some(spec) = self.facts.actions.get(action).cloned() else {
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
                env: self.handler_environment(action, &id),
            };
            out.effects.push(Effect::Handle(id, Box::new(run)));
        }
    }

    fn handler_environment(&self, action: &str, id: &InvocationId) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let mut add = |key: &str, value: &str| env.insert(key.to_owned(), value.to_owned());
        add("RELAY_ACTION", action);
        add("RELAY_INVOCATION_ID", id.as_str());
        add("RELAY_NODE_NAME", &self.facts.node_name);
        add("RELAY_BASE_URL", &self.facts.engine_url);
        add("RELAY_BROKER_STATE_DIR", &self.facts.state_dir);
        env
    }

    /// A handler's program ended.
    pub(super) fn handled(
        &mut self,
        id: InvocationId,
        result: Result<Value, String>,
        out: &mut Out,
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
                log::warn!("action {action} failed ({id}): {why}");
                Outcome::Error(why)
            }
        };
        self.answer(id, outcome, out);
        if self.stopping.is_none() {
            self.run_waiting(&action, out);
        }
    }

    /// The configured actions, as the engine is told of them.
    pub(super) fn action_capabilities(&self) -> impl Iterator<Item = Capability> {
        self.facts
            .actions
            .keys()
            .map(|name| Capability::of(name, "action"))
    }
}

/// Clients read an output only if it is an object or null ([engine-protocol 2.7](crate::docs::engine_protocol#2.7)).
pub(super) fn as_object(output: Value) -> Value {
    match output {
        Value::Null | Value::Object(_) => output,
        value => json!({ "value": value }),
    }
}
