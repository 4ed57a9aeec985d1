//! What callers say of agents to start, and of the models that these are to use.

use serde_json::{Map, Value};

use super::bodies::{object, one_of, read};
use super::sizes::check_side;
use crate::api::auth::Principal;
use crate::api::render::ApiError;
use crate::ids::AgentName;
use crate::json_schema::ValueSchema;
use crate::msg::{ApiCall, SpawnSource};
use crate::net::Request;
use crate::wire::local::SpawnRequest;

const RESULT_SCHEMA: &[&str] = &["agent_result_schema", "agentResultSchema", "resultSchema"];

/// A wish to spawn.
#[derive(Debug)]
pub(crate) struct SpawnWish {
    pub(crate) call: ApiCall,
    pub(crate) name: String,
}

impl SpawnWish {
    /// The same of whoever asks: an agent is the parent of what it starts.
    pub(crate) fn of(mut self, who: &Principal) -> Self {
        if let (Principal::Agent(agent), ApiCall::Spawn(request, _)) = (who, &mut self.call) {
            request.parent = Some(agent.clone());
        }
        self
    }
}

/// `POST /api/spawn`.
pub(crate) fn spawn(request: &Request) -> Result<SpawnWish, ApiError> {
    spawn_of(object(request)?)
}

/// The same from a sidecar's frame.
pub(crate) fn spawn_of(mut map: Map<String, Value>) -> Result<SpawnWish, ApiError> {
    for spellings in [
        &["transport", "runtime"][..],
        &["idle_threshold_secs", "idleThresholdSecs"],
        &["harness_config", "harnessConfig", "harness_plan"],
        &["agent_token", "agentToken"],
        &["spawn_mode", "spawnMode"],
        &["exit_after_task", "exitAfterTask"],
        &["resume", "session_ref"],
        &["continue_from", "continueFrom"],
        &["session_id", "sessionId"],
        &["skip_relay_prompt", "skipRelayPrompt"],
        RESULT_SCHEMA,
        &["harness_id", "harnessId"],
        &["restart_policy", "restartPolicy"],
    ] {
        one_of(&mut map, spellings);
    }
    if let Some(Value::Object(harness)) = map.get_mut("harness_config") {
        harness.retain(|_, value| !value.is_null());
        one_of(harness, &["session_id", "sessionId"]);
    }
    if map.contains_key("harness_id") {
        return Err(ApiError::invalid(
            "harnessId is not known here; give the whole harnessConfig",
        ));
    }
    let driver = map
        .get("harness_config")
        .and_then(|h| h["driver"].as_str())
        .map(str::to_owned);
    ends_with_task(&mut map)?;
    if let Some(schema) = map.get(RESULT_SCHEMA[0]) {
        ValueSchema::read(schema)
            .map_err(|why| ApiError::invalid(format!("`agentResultSchema`: {why}")))?;
    }
    let spawn: SpawnRequest = read(map)?;
    AgentName::check(&spawn.name).map_err(ApiError::invalid)?;
    if let Some(model) = spawn.model.as_ref().filter(|model| !is_model(model)) {
        let why = format!("the model {model:?} is not a name without blanks");
        return Err(ApiError::invalid(why));
    }
    let harness = spawn.harness_config.as_ref();
    let harness = harness.and_then(|h| h.runtime.as_deref());
    for runtime in [spawn.transport.as_deref(), harness, driver.as_deref()] {
        check_runtime(runtime)?;
    }
    for side in [spawn.rows, spawn.cols].into_iter().flatten() {
        check_side("rows and cols", u64::from(side))?;
    }
    Ok(SpawnWish {
        name: spawn.name.clone(),
        call: ApiCall::Spawn(Box::new(spawn), SpawnSource::Api),
    })
}

/// A mode that ends with the task is said by another key.
fn ends_with_task(map: &mut Map<String, Value>) -> Result<(), ApiError> {
    match map.get("spawn_mode").map(Value::as_str) {
        None | Some(Some("interactive")) => Ok(()),
        Some(Some("task_exit" | "task-exit" | "single_shot" | "single-shot")) => {
            map.insert("exit_after_task".to_owned(), Value::Bool(true));
            Ok(())
        }
        Some(_) => Err(ApiError::invalid(
            "spawnMode is none of interactive, task_exit and single_shot",
        )),
    }
}

fn check_runtime(runtime: Option<&str>) -> Result<(), ApiError> {
    match runtime {
        None | Some("pty" | "headless") => Ok(()),
        Some(word @ ("app_server" | "native")) => Err(ApiError::new(
            400,
            "unsupported_runtime",
            format!(
                "agents run in terminals here or headless, not as {word}; ask for runtime \"pty\" or \"headless\""
            ),
        )),
        Some(word) => Err(ApiError::invalid(format!(
            "the runtime {word:?} is unknown; ask for \"pty\" or \"headless\""
        ))),
    }
}

/// `POST …/model`: the model's name, one word as it is typed.
pub(crate) fn model(request: &Request) -> Result<String, ApiError> {
    let mut map = object(request)?;
    match map.remove("model") {
        Some(Value::String(model)) if is_model(&model) => Ok(model),
        Some(_) => Err(ApiError::invalid("`model` is not a name without blanks")),
        None => Err(ApiError::invalid("`model` is missing; name one")),
    }
}

fn is_model(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('-') && name.chars().all(|c| c.is_ascii_graphic())
}
