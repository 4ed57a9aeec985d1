//! Actions the engine asks of this node, answered once per invocation: a repetition gets the same answer, and one that is
//! still running is not started again ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)).

use serde_json::{Value, json};

use super::state::{ActionStep, Actions};
use crate::dispatch::notice::Notice;
use crate::domain::Outcome;
use crate::ids::{AgentName, InvocationId};
use crate::known_clis::{self, SessionWish};
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
                let request = match spawn_request(&invoke, &name) {
                    Ok(request) => request,
                    Err(why) => return self.answer(step, id, Outcome::Error(why)),
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

/// What a spawn of the engine's asks for, in the words of the local API.
fn spawn_request(invoke: &ActionInvoke, name: &AgentName) -> Result<SpawnRequest, String> {
    let input = &invoke.input;
    let suffix = invoke
        .action
        .strip_prefix("spawn:")
        .filter(|s| !s.is_empty());
    let cli = field(input, &["cli", "command", "provider"]).or(suffix);
    let cli = cli.ok_or("spawn_missing_cli")?;
    all_texts(input)?;
    let mut channels = list(input, "channels")?;
    channels.extend(field(input, &["channel"]).map(str::to_owned));
    let owned = |names: &[&str]| field(input, names).map(str::to_owned);
    let model = owned(&["model"]);
    if let Some(model) = model
        .as_ref()
        .filter(|m| !m.chars().all(|c| c.is_ascii_graphic()))
    {
        return Err(format!(
            "spawn_failed: the model {model:?} is not a name without blanks"
        ));
    }
    let transport = owned(&["runtime", "transport"]);
    if let Some(word) = transport
        .as_ref()
        .filter(|w| !matches!(w.as_str(), "pty" | "headless"))
    {
        return Err(format!(
            "spawn_failed: agents do not run as {word:?} here; ask for runtime \"pty\" or \"headless\""
        ));
    }
    Ok(SpawnRequest {
        name: name.to_string(),
        cli: Some(cli.to_owned()),
        args: list(input, "args")?,
        cwd: owned(&["cwd"]),
        task: owned(&["task", "initial_task", "prompt"]),
        model,
        transport,
        resume: match resumes(cli) {
            true => owned(RESUME),
            false => owned(&RESUME[..1]),
        },
        // The engine's callers name a session of any program; one that has none is shown with it.
        harness_config: owned(&RESUME[1..])
            .filter(|_| !resumes(cli))
            .map(|session| HarnessConfig {
                session_id: Some(session),
                ..HarnessConfig::default()
            }),
        session_id: owned(&["session_id", "sessionId"]),
        continue_from: owned(&["continue_from", "continueFrom"]),
        skip_relay_prompt: input.get("skip_relay_prompt") == Some(&Value::Bool(true)),
        team: owned(&["team"]),
        channels,
        ..SpawnRequest::default()
    })
}

/// Whether it is known how a program goes on with a session.
fn resumes(cli: &str) -> bool {
    let words = shell_words::split(cli).unwrap_or_default();
    known_clis::tell(&words, None, SessionWish::Resume("s".to_owned())).is_ok()
}

/// The session that goes on, under the names that callers give it.
const RESUME: &[&str] = &["resume", "session_ref", "sessionRef", "session"];

/// Refuses what is no text where one stands, rather than start an agent without it.
fn all_texts(input: &Value) -> Result<(), String> {
    let others = [
        "model",
        "runtime",
        "transport",
        "session_id",
        "sessionId",
        "continue_from",
        "continueFrom",
        "channel",
        "cwd",
        "task",
    ];
    let mut keys = RESUME.iter().chain(&others);
    let wrong = keys.find(|key| {
        !matches!(
            input.get(**key),
            None | Some(Value::Null | Value::String(_))
        )
    });
    wrong.map_or(Ok(()), |key| {
        Err(format!("spawn_failed: `{key}` is no text"))
    })
}

fn list(input: &Value, key: &str) -> Result<Vec<String>, String> {
    let items = input.get(key).cloned().filter(|items| !items.is_null());
    items
        .map(serde_json::from_value)
        .transpose()
        .map(Option::unwrap_or_default)
        .map_err(|e| format!("spawn_failed: `{key}`: {e}"))
}

/// Clients read an output only if it is an object or null ([engine-protocol 2.7](crate::docs::engine_protocol#2.7)).
pub(super) fn as_object(output: Value) -> Value {
    match output {
        Value::Null | Value::Object(_) => output,
        value => json!({ "value": value }),
    }
}
