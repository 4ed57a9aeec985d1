//! Actions the engine asks of this node, answered once per invocation: a repetition gets the same answer, and one that is
//! still running is not started again ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)).

use serde_json::{Value, json};

use super::state::{ActionStep, Actions};
use crate::dispatch::notice::Notice;
use crate::domain::Outcome;
use crate::ids::{AgentName, InvocationId};
use crate::ledger::Record;
use crate::wire::down::ActionInvoke;
use crate::wire::local::{HarnessConfig, SpawnRequest};
use crate::wire::up::{ActionResult, Up};

/// How many answers are sent again on the next link. The engine asks again for others.
const ANSWERS: usize = 16;

impl Actions {
    /// The engine wants an action of this node.
    pub(in crate::dispatch) fn invoke(&mut self, step: &mut ActionStep, invoke: ActionInvoke) {
        let id = invoke.invocation_id.clone();
        if let Some(Some(outcome)) = step.ledger().answer(&id) {
            let outcome = outcome.clone();
            self.send_answer(step, id, outcome);
            return;
        }
        if self.invocations.contains(&id) {
            // Running in this very life: its answer will serve both.
            return;
        }
        if step.peers.control.is_stopping() {
            // Unanswered, so the engine gives it to somebody else.
            return;
        }
        let lists_until = step.peers.control.lists_until();
        if let Some(until) = lists_until.filter(|until| *until > step.now.mono) {
            return self.hold(invoke, until);
        }
        if self.invoke_agent(step, &invoke) || self.invoke_sidecar(step, &invoke) {
            return;
        }
        let name = agent_of(&invoke);
        match (invoke.action.as_str(), name) {
            ("release", None) => self.answer(
                step,
                id,
                Outcome::Error("release_missing_agent_name".into()),
            ),
            ("release", Some(name)) => {
                self.begin(step, &id);
                step.notice(Notice::ReleaseWanted(name, id));
            }
            (action, name) if action == "spawn" || action.starts_with("spawn:") => {
                let Some(name) = name else {
                    self.answer(step, id, Outcome::Error("spawn_missing_agent_name".into()));
                    return;
                };
                let Some(request) = spawn_request(&invoke, &name) else {
                    self.answer(step, id, Outcome::Error("spawn_missing_cli".into()));
                    return;
                };
                self.begin(step, &id);
                step.notice(Notice::SpawnWanted(Box::new(request), id));
            }
            (action, _) if step.config().actions.contains_key(action) => {
                self.handle(step, id, action, invoke.input.clone());
            }
            _ => self.unavailable(step, id),
        }
    }

    /// Nobody here can serve it (any more). Not written down: the engine gives it to somebody else, perhaps to us again.
    pub(in crate::dispatch) fn unavailable(&mut self, step: &mut ActionStep, id: InvocationId) {
        self.invocations.remove(&id);
        self.send_answer(step, id, Outcome::Error("handler_unavailable".into()));
        step.notice(Notice::Answered);
    }

    /// One came whose frame is larger than one may be.
    pub(in crate::dispatch) fn too_large(
        &mut self,
        step: &mut ActionStep,
        id: InvocationId,
        bytes: u64,
    ) {
        let why = format!("input_too_large: {bytes} bytes; 4 MiB are taken in");
        match step.ledger().answer(&id).flatten().cloned() {
            Some(outcome) => self.send_answer(step, id, outcome),
            None => self.answer(step, id, Outcome::Error(why)),
        }
    }

    fn begin(&mut self, step: &mut ActionStep, id: &InvocationId) {
        step.record(Record::Invoked { id: id.clone() });
        self.invocations.insert(id.clone());
    }

    /// Ends an invocation. The answer is durable before it is sent.
    pub(in crate::dispatch) fn answer(
        &mut self,
        step: &mut ActionStep,
        id: InvocationId,
        outcome: Outcome,
    ) {
        self.invocations.remove(&id);
        step.record(Record::Answered {
            id: id.clone(),
            outcome: outcome.clone(),
        });
        self.send_answer(step, id, outcome);
        step.notice(Notice::Answered);
    }

    pub(super) fn send_answer(
        &mut self,
        step: &mut ActionStep,
        invocation_id: InvocationId,
        outcome: Outcome,
    ) {
        if self.answers.len() >= ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(invocation_id.clone());
        if step.peers.control.is_open() {
            step.send(Up::ActionResult(ActionResult {
                invocation_id,
                outcome,
            }));
        }
    }

    /// What was answered on a link that broke, or without one, may never have arrived, and before the list says that it is
    /// over: the engine gives what it still waits for to another node then
    /// ([engine-protocol 3.9](crate::docs::engine_protocol#3.9)). It takes each answer once.
    pub(in crate::dispatch) fn answer_again(&mut self, step: &mut ActionStep) {
        for id in std::mem::take(&mut self.answers) {
            if let Some(Some(outcome)) = step.ledger().answer(&id) {
                let outcome = outcome.clone();
                self.send_answer(step, id, outcome);
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
        skip_relay_prompt: input.get("skip_relay_prompt") == Some(&Value::Bool(true)),
        team: field(input, &["team"]).map(str::to_owned),
        channels,
        harness_config: field(input, &["session_ref"]).map(|session| HarnessConfig {
            session_id: Some(session.to_owned()),
            ..HarnessConfig::default()
        }),
        ..SpawnRequest::default()
    })
}

/// Clients read an output only if it is an object or null ([engine-protocol 2.7](crate::docs::engine_protocol#2.7)).
pub(super) fn as_object(output: Value) -> Value {
    match output {
        Value::Null | Value::Object(_) => output,
        value => json!({ "value": value }),
    }
}
