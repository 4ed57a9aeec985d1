//! The one table of paths, and the reading of requests: from bytes to the call they mean. Tolerant of key spelling, strict
//! about values. Pure.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::render::ApiError;
use crate::domain::DeliveryMode;
use crate::ids::{AgentName, DeliveryId, InvocationId, MsgId};
use crate::msg::{ApiCall, Size, SpawnSource};
use crate::net::Request;
use crate::wire::local::{SendRequest, SpawnRequest, TEXT_MAX};

/// What a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Endpoint {
    Health,
    Livez,
    Readyz,
    Exposition,
    Session,
    Renew,
    Config,
    Shutdown,
    Reload,
    Preflight,
    Spawn,
    Agents,
    Release,
    Restart,
    Send,
    Pending,
    Flush,
    Mode,
    SetMode,
    Input,
    InputStream,
    Resize,
    Snapshot,
    Attach,
    Status,
    Metrics,
    CrashInsights,
    Inventory,
    DeadLetters,
    Redeliver,
    Nodes,
    RemoveNode,
    Whereabouts,
    Readers,
    Subscribe,
    Unsubscribe,
    Invoke,
    Invocation,
    Replay,
    Events,
    Fleet,
    Mcp,
    /// Known to clients, not offered by this broker.
    Unsupported,
}

/// Method, path, meaning. `{name}` stands for one segment.
const ROUTES: &[(&str, &str, Endpoint)] = &[
    ("GET", "/health", Endpoint::Health),
    ("GET", "/livez", Endpoint::Livez),
    ("GET", "/readyz", Endpoint::Readyz),
    ("GET", "/metrics", Endpoint::Exposition),
    ("GET", "/api/session", Endpoint::Session),
    ("POST", "/api/session/renew", Endpoint::Renew),
    ("GET", "/api/config", Endpoint::Config),
    ("POST", "/api/shutdown", Endpoint::Shutdown),
    ("POST", "/api/reload", Endpoint::Reload),
    ("POST", "/api/preflight", Endpoint::Preflight),
    ("POST", "/api/spawn", Endpoint::Spawn),
    ("GET", "/api/spawned", Endpoint::Agents),
    ("DELETE", "/api/spawned/{name}", Endpoint::Release),
    ("POST", "/api/spawned/{name}/restart", Endpoint::Restart),
    ("POST", "/api/send", Endpoint::Send),
    ("GET", "/api/spawned/{name}/pending", Endpoint::Pending),
    ("POST", "/api/spawned/{name}/flush", Endpoint::Flush),
    ("GET", "/api/spawned/{name}/delivery-mode", Endpoint::Mode),
    (
        "PUT",
        "/api/spawned/{name}/delivery-mode",
        Endpoint::SetMode,
    ),
    ("POST", "/api/input/{name}", Endpoint::Input),
    ("GET", "/api/input/{name}/stream", Endpoint::InputStream),
    ("POST", "/api/resize/{name}", Endpoint::Resize),
    ("GET", "/api/spawned/{name}/snapshot", Endpoint::Snapshot),
    ("GET", "/api/attach/{name}", Endpoint::Attach),
    ("GET", "/api/status", Endpoint::Status),
    ("GET", "/api/metrics", Endpoint::Metrics),
    ("GET", "/api/crash-insights", Endpoint::CrashInsights),
    ("GET", "/api/fleet-inventory", Endpoint::Inventory),
    ("GET", "/api/dead-letters", Endpoint::DeadLetters),
    ("POST", "/api/dead-letters/redeliver", Endpoint::Redeliver),
    ("GET", "/api/nodes", Endpoint::Nodes),
    ("DELETE", "/api/nodes/{name}", Endpoint::RemoveNode),
    ("GET", "/api/workspace/agents/{name}", Endpoint::Whereabouts),
    ("GET", "/api/messages/{name}/readers", Endpoint::Readers),
    ("POST", "/api/actions/{name}/invoke", Endpoint::Invoke),
    (
        "GET",
        "/api/actions/{name}/invocation",
        Endpoint::Invocation,
    ),
    ("GET", "/api/events/replay", Endpoint::Replay),
    ("GET", "/ws", Endpoint::Events),
    ("GET", "/api/fleet/ws", Endpoint::Fleet),
    ("POST", "/mcp", Endpoint::Mcp),
    ("POST", "/api/spawned/{name}/model", Endpoint::Unsupported),
    ("POST", "/api/spawned/{name}/subscribe", Endpoint::Subscribe),
    (
        "POST",
        "/api/spawned/{name}/unsubscribe",
        Endpoint::Unsubscribe,
    ),
];

impl Endpoint {
    /// Whether anybody may ask, key or not, however far the broker is.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Health | Self::Livez | Self::Readyz)
    }
}

/// What a request's method and path come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RouteMatch {
    /// This, with the agent name in the path.
    Here(Endpoint, Option<String>),
    /// The path exists, with these methods.
    OtherMethod(Vec<&'static str>),
    /// No such path.
    Nowhere,
}

/// Looks a request up in the table.
pub(crate) fn find(request: &Request) -> RouteMatch {
    let path = request.segments();
    let mut methods = Vec::new();
    for (method, pattern, endpoint) in ROUTES {
        let Some(name) = matches(pattern, &path) else {
            continue;
        };
        if *method == request.method {
            return RouteMatch::Here(*endpoint, name);
        }
        methods.push(*method);
    }
    if methods.is_empty() {
        RouteMatch::Nowhere
    } else {
        RouteMatch::OtherMethod(methods)
    }
}

/// `None` if the path is another; else the name in it, if the pattern has one.
fn matches(pattern: &str, path: &[String]) -> Option<Option<String>> {
    let mut name = None;
    let parts = pattern.split('/').filter(|p| !p.is_empty());
    if parts.clone().count() != path.len() {
        return None;
    }
    for (part, segment) in parts.zip(path) {
        if part == "{name}" {
            name = Some(segment.clone());
        } else if part != segment {
            return None;
        }
    }
    Some(name)
}

/// The largest number of rows or columns. A terminal holds its picture in memory, cell by cell.
const SIDE_MAX: u64 = 1000;

/// An agent's name from a path. One that no agent can have is not found rather than invalid.
pub(crate) fn agent(name: Option<&str>) -> Result<AgentName, ApiError> {
    let name = name.unwrap_or_default();
    AgentName::check(AgentName::meant(name).as_str()).map_err(|_| ApiError::no_agent(name))
}

/// A change of the channels that an agent listens to, of a body `{channels: […]}`.
pub(crate) fn channels(
    name: AgentName,
    mut body: Map<String, Value>,
    listens: bool,
) -> Result<ApiCall, ApiError> {
    let channels = body.remove("channels").unwrap_or_default();
    let channels: Vec<String> = serde_json::from_value(channels)
        .map_err(|e| ApiError::new(400, "invalid_request", format!("`channels`: {e}")))?;
    Ok(ApiCall::Channels {
        name,
        channels,
        listens,
    })
}

/// A message's id from a path.
pub(crate) fn message(id: Option<&str>) -> Result<MsgId, ApiError> {
    match id.filter(|id| !id.is_empty()) {
        Some(id) => Ok(MsgId::new(id)),
        None => Err(ApiError::new(
            400,
            "invalid_request",
            "name a message in the path",
        )),
    }
}

/// The body as a JSON object, without keys that are null: clients write those for "absent".
pub(crate) fn object(request: &Request) -> Result<Map<String, Value>, ApiError> {
    if let Some(kind) = request.header("content-type") {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::new(
                415,
                "unsupported_media_type",
                format!("the body is {kind:?}; send application/json"),
            ));
        }
    }
    let text = std::str::from_utf8(&request.body)
        .map_err(|e| ApiError::new(400, "invalid_utf8", format!("the body is not UTF-8: {e}")))?;
    if text.trim().is_empty() {
        return Err(ApiError::new(
            400,
            "invalid_json",
            "the body is empty; send a JSON object",
        ));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(mut map)) => {
            map.retain(|_, value| !value.is_null());
            Ok(map)
        }
        Ok(_) => Err(ApiError::new(
            400,
            "invalid_json",
            "the body is JSON, but not an object",
        )),
        Err(e) => Err(ApiError::new(
            400,
            "invalid_json",
            format!("the body is not JSON: {e}"),
        )),
    }
}

/// Leaves one of several spellings of a key, under the first: two in one body would count as a repetition.
fn one_of(map: &mut Map<String, Value>, spellings: &[&str]) {
    let found: Vec<Value> = spellings.iter().filter_map(|s| map.remove(*s)).collect();
    if let (Some(value), Some(key)) = (found.into_iter().next(), spellings.first()) {
        map.insert((*key).to_owned(), value);
    }
}

pub(crate) fn read<T: DeserializeOwned>(map: Map<String, Value>) -> Result<T, ApiError> {
    serde_json::from_value(Value::Object(map))
        .map_err(|e| ApiError::invalid(format!("the body does not fit: {e}")))
}

/// A wish to spawn, with what of it will not come true.
#[derive(Debug)]
pub(crate) struct SpawnWish {
    pub(crate) call: ApiCall,
    pub(crate) name: String,
    pub(crate) ignored: Vec<&'static str>,
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
        &["continue_from", "continueFrom"],
        &["agent_result_schema", "agentResultSchema", "resultSchema"],
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
    let ignored = ignored(&map)?;
    let spawn: SpawnRequest = read(map)?;
    AgentName::check(&spawn.name).map_err(ApiError::invalid)?;
    let harness = spawn.harness_config.as_ref();
    for runtime in [&spawn.transport, &harness.and_then(|h| h.runtime.clone())] {
        terminal_only(runtime.as_deref())?;
    }
    for side in [spawn.rows, spawn.cols].into_iter().flatten() {
        check_side("rows and cols", u64::from(side))?;
    }
    Ok(SpawnWish {
        name: spawn.name.clone(),
        call: ApiCall::Spawn(Box::new(spawn), SpawnSource::Api),
        ignored,
    })
}

/// Options whose effect nobody here provides: said in the answer, so that nobody waits for it.
fn ignored(map: &Map<String, Value>) -> Result<Vec<&'static str>, ApiError> {
    let mut ignored = Vec::new();
    match map.get("spawn_mode").map(Value::as_str) {
        None | Some(Some("interactive")) => {}
        Some(Some("task_exit" | "task-exit" | "single_shot" | "single-shot")) => {
            ignored.push("spawnMode");
        }
        Some(_) => {
            return Err(ApiError::invalid(
                "spawnMode is none of interactive, task_exit and single_shot",
            ));
        }
    }
    if map.get("exit_after_task") == Some(&Value::Bool(true)) {
        ignored.push("exitAfterTask");
    }
    if map.contains_key("continue_from") {
        ignored.push("continueFrom");
    }
    if map.contains_key("agent_result_schema") {
        ignored.push("agentResultSchema");
    }
    Ok(ignored)
}

fn terminal_only(runtime: Option<&str>) -> Result<(), ApiError> {
    match runtime {
        None | Some("pty") => Ok(()),
        Some(word @ ("headless" | "app_server" | "native")) => Err(ApiError::new(
            400,
            "unsupported_runtime",
            format!("agents run in terminals here, not {word}; ask for runtime \"pty\""),
        )),
        Some(word) => Err(ApiError::invalid(format!(
            "the runtime {word:?} is unknown; ask for \"pty\""
        ))),
    }
}

/// `POST /api/send`.
pub(crate) fn send(request: &Request) -> Result<ApiCall, ApiError> {
    send_of(object(request)?)
}

/// The same from a sidecar's frame.
pub(crate) fn send_of(mut map: Map<String, Value>) -> Result<ApiCall, ApiError> {
    one_of(&mut map, &["text", "message", "body", "content"]);
    one_of(&mut map, &["thread_id", "threadId", "thread"]);
    one_of(&mut map, &["mode", "injectionMode", "injection_mode"]);
    let send: SendRequest = read(map)?;
    if send.to.trim().is_empty() {
        return Err(ApiError::invalid(
            "`to` is missing; name an agent or a #channel",
        ));
    }
    if send.text.is_empty() {
        return Err(ApiError::invalid("`text` is missing; say what to send"));
    }
    if send.text.len() > TEXT_MAX {
        return Err(ApiError::new(
            413,
            "text_too_large",
            format!(
                "the text is {} bytes long; at most {TEXT_MAX} fit in one message, so put it in a file and send its path",
                send.text.len()
            ),
        ));
    }
    match send.mode.as_deref() {
        None | Some("wait" | "steer") => Ok(ApiCall::Send(send)),
        Some(mode) => Err(ApiError::invalid(format!(
            "the mode {mode:?} is unknown; use \"wait\" or \"steer\""
        ))),
    }
}

/// `DELETE /api/spawned/{name}`: a body may say why.
pub(crate) fn release(request: &Request, name: AgentName) -> Result<ApiCall, ApiError> {
    let reason = if request.body.is_empty() {
        None
    } else {
        let map = object(request)?;
        map.get("reason").and_then(Value::as_str).map(str::to_owned)
    };
    Ok(ApiCall::Release { name, reason })
}

/// `POST /api/dead-letters/redeliver`: one by its id, or all.
pub(crate) fn redeliver(request: &Request) -> Result<ApiCall, ApiError> {
    let map = object(request)?;
    match (map.get("id"), map.get("all")) {
        (Some(Value::String(id)), None | Some(Value::Bool(false))) if !id.is_empty() => {
            Ok(ApiCall::Redeliver(Some(DeliveryId::new(id))))
        }
        (None, Some(Value::Bool(true))) => Ok(ApiCall::Redeliver(None)),
        _ => Err(ApiError::invalid(
            "give either the `id` of a dead letter or `all`: true",
        )),
    }
}

/// `POST /api/actions/{name}/invoke`: ours, for the command line.
pub(crate) fn invoke(request: &Request, action: Option<&str>) -> Result<ApiCall, ApiError> {
    let mut map = object(request)?;
    let input = map
        .remove("input")
        .unwrap_or_else(|| Value::Object(Map::new()));
    Ok(ApiCall::Invoke {
        action: action.unwrap_or_default().to_owned(),
        input,
    })
}

/// `GET /api/actions/{name}/invocation?id=…`: ours, for the command line.
pub(crate) fn invocation(request: &Request, action: Option<&str>) -> Result<ApiCall, ApiError> {
    let id = request.query("id").filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| ApiError::invalid("`id` is missing; it is the invocation's"))?;
    Ok(ApiCall::Invocation {
        action: action.unwrap_or_default().to_owned(),
        id: InvocationId::new(id),
    })
}

/// `PUT …/delivery-mode`: the new mode, and the one the caller believes is set.
pub(crate) fn mode(request: &Request) -> Result<(DeliveryMode, Option<DeliveryMode>), ApiError> {
    let mut map = object(request)?;
    one_of(&mut map, &["expected_mode", "expectedMode"]);
    one_of(&mut map, &["expected_revision", "expectedRevision"]);
    if map.contains_key("expected_revision") {
        return Err(ApiError::new(
            400,
            "invalid_revision",
            "modes have no revision here; use expected_mode",
        ));
    }
    let word = |key: &str| match map.get(key).map(Value::as_str) {
        None => Ok(None),
        Some(Some("auto_inject")) => Ok(Some(DeliveryMode::AutoInject)),
        Some(Some("manual_flush")) => Ok(Some(DeliveryMode::ManualFlush)),
        Some(_) => Err(bad_mode()),
    };
    Ok((word("mode")?.ok_or_else(bad_mode)?, word("expected_mode")?))
}

fn bad_mode() -> ApiError {
    ApiError::new(
        400,
        "invalid_mode",
        "the mode must be \"auto_inject\" or \"manual_flush\"",
    )
}

/// `GET …/snapshot`: whether colours are wanted.
pub(crate) fn snapshot_format(request: &Request) -> Result<bool, ApiError> {
    match request.query("format") {
        None | Some("plain") => Ok(false),
        Some("ansi") => Ok(true),
        Some(other) => Err(ApiError::new(
            400,
            "invalid_format",
            format!("the format {other:?} is unknown; use \"plain\" or \"ansi\""),
        )),
    }
}

/// `POST /api/input/{name}`: what to type.
pub(crate) fn input(request: &Request) -> Result<Vec<u8>, ApiError> {
    let mut map = object(request)?;
    match map.remove("data") {
        Some(Value::String(text)) => Ok(text.into_bytes()),
        _ => Err(ApiError::invalid(
            "`data` is missing; it is the text to type",
        )),
    }
}

/// `POST /api/resize/{name}`: the size, or nothing when the caller only gives up its claim to it.
pub(crate) fn resize(request: &Request) -> Result<Option<Size>, ApiError> {
    let map = object(request)?;
    if map.get("release") == Some(&Value::Bool(true)) && !map.contains_key("rows") {
        return Ok(None);
    }
    let side = |key: &str| {
        let value = map.get(key).and_then(Value::as_u64);
        value.ok_or_else(|| ApiError::invalid(format!("`{key}` is missing or not a number")))
    };
    Ok(Some(Size {
        rows: check_side("rows", side("rows")?)?,
        cols: check_side("cols", side("cols")?)?,
    }))
}

/// A size as a client's frame gives it.
pub(crate) fn size(rows: u16, cols: u16) -> Result<Size, ApiError> {
    Ok(Size {
        rows: check_side("rows", rows.into())?,
        cols: check_side("cols", cols.into())?,
    })
}

/// `rows` and `cols` of a query: both or neither.
pub(crate) fn size_of_query(request: &Request) -> Result<Option<Size>, ApiError> {
    let side = |key: &str| match request.query(key) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(number) => check_side(key, number).map(Some),
            Err(_) => Err(ApiError::invalid(format!("{key}={text} is not a number"))),
        },
    };
    match (side("rows")?, side("cols")?) {
        (Some(rows), Some(cols)) => Ok(Some(Size { rows, cols })),
        (None, None) => Ok(None),
        _ => Err(ApiError::invalid("give both rows and cols, or neither")),
    }
}

fn check_side(what: &str, number: u64) -> Result<u16, ApiError> {
    match u16::try_from(number) {
        Ok(side) if (1..=SIDE_MAX).contains(&number) => Ok(side),
        _ => Err(ApiError::invalid(format!(
            "{what} must be from 1 to {SIDE_MAX}, not {number}"
        ))),
    }
}

/// `sinceSeq` or `since_seq`, where one is given.
pub(crate) fn since(request: &Request) -> Result<Option<u64>, ApiError> {
    match request
        .query("sinceSeq")
        .or_else(|| request.query("since_seq"))
    {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            ApiError::invalid(format!("sinceSeq={text} is not the number of an event"))
        }),
    }
}

#[cfg(test)]
mod tests;
