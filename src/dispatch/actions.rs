//! Actions the engine asks of this node, answered once per invocation: a repetition gets the same answer, and one that is
//! still running is not started again ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)).

use serde_json::Value;

use super::{Dispatcher, Out};
use crate::ids::{AgentName, InvocationId};
use crate::ledger::Record;
use crate::msg::{Effect, SpawnSource};
use crate::time::Now;
use crate::wire::down::ActionInvoke;
use crate::wire::local::{HarnessConfig, SpawnRequest};
use crate::wire::up::{ActionResult, Outcome, Up};

impl Dispatcher {
    pub(super) fn invoke(&mut self, now: Now, invoke: ActionInvoke, out: &mut Out) {
        let id = invoke.invocation_id.clone();
        if let Some(Some(outcome)) = self.ledger.answer(&id) {
            let outcome = outcome.clone();
            self.send_answer(id, outcome, out);
            return;
        }
        if self.invocations.contains(&id) {
            // Running in this very life: its answer will serve both.
            return;
        }
        if self.stopping.is_some() {
            // Unanswered, so the engine gives it to somebody else.
            return;
        }
        if self.invoke_agent(now, &invoke, out) || self.invoke_sidecar(&invoke, out) {
            return;
        }
        let name = agent_of(&invoke);
        match (invoke.action.as_str(), name) {
            ("release", None) => {
                self.answer(id, Outcome::Error("release_missing_agent_name".into()), out)
            }
            ("release", Some(name)) => {
                self.begin(&id, out);
                self.release_invoked(now, &name, id, out);
            }
            (action, name) if action == "spawn" || action.starts_with("spawn:") => {
                let Some(name) = name else {
                    self.answer(id, Outcome::Error("spawn_missing_agent_name".into()), out);
                    return;
                };
                let Some(request) = spawn_request(&invoke, &name) else {
                    self.answer(id, Outcome::Error("spawn_missing_cli".into()), out);
                    return;
                };
                self.begin(&id, out);
                self.spawn(now, None, request, SpawnSource::Invocation(id), out);
            }
            (action, _) if self.facts.actions.contains_key(action) => {
                self.handle(id, action, invoke.input.clone(), out);
            }
            _ => self.unavailable(id, out),
        }
    }

    /// Nobody here can serve it (any more). Not written down: the engine gives it to somebody else, perhaps to us again.
    pub(super) fn unavailable(&mut self, id: InvocationId, out: &mut Out) {
        self.invocations.remove(&id);
        self.send_answer(id, Outcome::Error("handler_unavailable".into()), out);
        self.inventory_if_owed(out);
    }

    fn begin(&mut self, id: &InvocationId, out: &mut Out) {
        self.record(Record::Invoked { id: id.clone() }, out);
        self.invocations.insert(id.clone());
    }

    /// Ends an invocation. The answer is durable before it is sent.
    pub(super) fn answer(&mut self, id: InvocationId, outcome: Outcome, out: &mut Out) {
        self.invocations.remove(&id);
        self.record(
            Record::Answered {
                id: id.clone(),
                outcome: outcome.clone(),
            },
            out,
        );
        self.send_answer(id, outcome, out);
        self.inventory_if_owed(out);
    }

    pub(super) fn send_answer(
        &mut self,
        invocation_id: InvocationId,
        outcome: Outcome,
        out: &mut Out,
    ) {
        self.link.note_answer(&invocation_id);
        if self.link.is_open() {
            out.effects
                .push(Effect::Send(Up::ActionResult(ActionResult {
                    invocation_id,
                    outcome,
                })));
        }
    }
}

impl Dispatcher {
    /// What was answered on a link that broke, or without one, may never have arrived, and before the list says that it is
    /// over: the engine gives what it still waits for to another node then
    /// ([engine-protocol 3.9](crate::docs::engine_protocol#3.9)). It takes each answer once.
    pub(super) fn answer_again(&mut self, out: &mut Out) {
        for id in self.link.take_answers() {
            if let Some(Some(outcome)) = self.ledger.answer(&id) {
                let outcome = outcome.clone();
                self.send_answer(id, outcome, out);
            }
        }
    }
}

/// Looks a text up in the input, or one level down under `agent` ([engine-protocol 5.4](crate::docs::engine_protocol#5.4)).
fn field<'a>(input: &'a Value, names: &[&str]) -> Option<&'a str> {
    let levels = [Some(input), input.get("agent").filter(|a| a.is_object())];
    levels.into_iter().flatten().find_map(|level| {
        names.iter().find_map(|name| {
            level
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        })
    })
}

fn agent_of(invoke: &ActionInvoke) -> Option<AgentName> {
    if let Some(name) = &invoke.agent_name {
        return Some(name.clone());
    }
    let named = field(&invoke.input, &["name", "agent_name", "agent"]).map(AgentName::new);
    named.or_else(|| {
        invoke
            .agent_id
            .as_ref()
            .map(|id| AgentName::new(id.as_str()))
    })
}

fn spawn_request(invoke: &ActionInvoke, name: &AgentName) -> Option<SpawnRequest> {
    let input = &invoke.input;
    let suffix = invoke
        .action
        .strip_prefix("spawn:")
        .filter(|s| !s.is_empty());
    let cli = field(input, &["cli", "command", "provider"]).or(suffix)?;
    let list = |key: &str| -> Vec<String> {
        let items = input
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        items
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let mut channels = list("channels");
    channels.extend(field(input, &["channel"]).map(str::to_owned));
    Some(SpawnRequest {
        name: name.to_string(),
        cli: Some(cli.to_owned()),
        args: list("args"),
        cwd: field(input, &["cwd"]).map(str::to_owned),
        task: field(input, &["task", "initial_task", "prompt"]).map(str::to_owned),
        model: field(input, &["model"]).map(str::to_owned),
        team: field(input, &["team"]).map(str::to_owned),
        channels,
        harness_config: field(input, &["session_ref"]).map(|session| HarnessConfig {
            session_id: Some(session.to_owned()),
            ..HarnessConfig::default()
        }),
        ..SpawnRequest::default()
    })
}
