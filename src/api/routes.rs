//! The one table of paths, and the reading of requests: from bytes to the call they mean. Tolerant of key spelling, strict
//! about values. Pure.

use serde_json::{Map, Value};

use self::bodies::one_of;
use super::render::ApiError;
use crate::domain::DeliveryMode;
use crate::ids::{AgentName, DeliveryId, InvocationId, MsgId};
use crate::msg::{ApiCall, ExpectedMode};
use crate::net::Request;
use crate::wire::local::{AgentResult, SendRequest, TEXT_MAX};

mod bodies;
mod sizes;
mod spawns;

pub(crate) use bodies::{object, read};
pub(crate) use sizes::{ResizeWish, resize, size, size_of_query};
pub(crate) use spawns::{model, spawn, spawn_of};

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
    Threads,
    HistoryStats,
    ObserverToken,
    AgentEvents,
    Interrupt,
    Events,
    Fleet,
    Mcp,
    Model,
    AgentResult,
}

/// Method, path, meaning. `{name}` stands for one segment.
pub(super) const ROUTES: &[(&str, &str, Endpoint)] = &[
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
    ("GET", "/api/threads", Endpoint::Threads),
    ("GET", "/api/history/stats", Endpoint::HistoryStats),
    ("POST", "/api/observer-token", Endpoint::ObserverToken),
    (
        "GET",
        "/api/spawned/{name}/agent-events/history",
        Endpoint::AgentEvents,
    ),
    (
        "POST",
        "/api/agents/by-name/{name}/interrupt",
        Endpoint::Interrupt,
    ),
    ("POST", "/api/spawned/{name}/interrupt", Endpoint::Interrupt),
    ("GET", "/ws", Endpoint::Events),
    ("GET", "/api/fleet/ws", Endpoint::Fleet),
    ("POST", "/mcp", Endpoint::Mcp),
    ("POST", "/api/agent-result", Endpoint::AgentResult),
    ("POST", "/api/spawned/{name}/model", Endpoint::Model),
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

/// An agent's name from a path. One that no agent can have is not found rather than invalid.
pub(crate) fn agent(name: Option<&str>) -> Result<AgentName, ApiError> {
    let name = name.unwrap_or_default();
    AgentName::check(AgentName::meant(name).as_str()).map_err(|_| ApiError::no_agent(name))
}

/// `POST /api/preflight`: names of agents to come, in a body `{agents: [{name, …}]}`.
pub(crate) fn preflight(request: &Request) -> Result<ApiCall, ApiError> {
    let mut map = object(request)?;
    let Some(Value::Array(agents)) = map.remove("agents") else {
        return Err(ApiError::invalid(
            "`agents` is missing; it is a list of objects with a `name`",
        ));
    };
    let name = |agent: &Value| {
        let name = agent.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| "`agents` has one without a `name`".to_owned())?;
        AgentName::check(name)
    };
    let names: Result<Vec<AgentName>, String> = agents.iter().map(name).collect();
    Ok(ApiCall::Preflight(names.map_err(ApiError::invalid)?))
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
    let map = match request.body.is_empty() {
        true => Map::new(),
        false => object(request)?,
    };
    let reason = match map.get("reason") {
        None => None,
        Some(Value::String(reason)) => Some(reason.clone()),
        Some(_) => return Err(ApiError::invalid("`reason` is no text")),
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

/// `POST /api/agent-result`.
pub(crate) fn agent_result(request: &Request) -> Result<AgentResult, ApiError> {
    let mut map = bodies::whole_object(request)?;
    // A result may be null; elsewhere that stands for a key that is not there.
    map.retain(|key, value| !value.is_null() || matches!(key.as_str(), "data" | "result"));
    one_of(&mut map, &["data", "result"]);
    one_of(&mut map, &["name", "agent"]);
    one_of(&mut map, &["final", "final_result", "finalResult"]);
    if !map.contains_key("data") {
        return Err(ApiError::invalid("`data` is missing; it is the result"));
    }
    read(map)
}

/// `PUT …/delivery-mode`: the new mode, and what the caller believes of the old.
pub(crate) fn mode(request: &Request) -> Result<(DeliveryMode, ExpectedMode), ApiError> {
    let mut map = object(request)?;
    one_of(&mut map, &["expected_mode", "expectedMode"]);
    one_of(&mut map, &["expected_revision", "expectedRevision"]);
    let revision = match map.get("expected_revision") {
        None => None,
        Some(given) => Some(revision(given)?),
    };
    let word = |key: &str| match map.get(key).map(Value::as_str) {
        None => Ok(None),
        Some(Some("auto_inject")) => Ok(Some(DeliveryMode::AutoInject)),
        Some(Some("manual_flush")) => Ok(Some(DeliveryMode::ManualFlush)),
        Some(_) => Err(bad_mode()),
    };
    let expected = ExpectedMode {
        mode: word("expected_mode")?,
        revision,
    };
    Ok((word("mode")?.ok_or_else(bad_mode)?, expected))
}

/// A revision as it was told: a text of digits.
fn revision(given: &Value) -> Result<u64, ApiError> {
    let digits = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
    let number = given
        .as_str()
        .filter(digits)
        .and_then(|text| text.parse().ok());
    let text = "expected_revision must be a revision as it was told: a text of digits";
    number.ok_or_else(|| ApiError::new(400, "invalid_revision", text))
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

/// `POST /api/observer-token`: for whom; nobody in particular when it is not said.
pub(crate) fn observer(request: &Request) -> Result<ApiCall, ApiError> {
    let map = match request.body.is_empty() {
        true => Map::new(),
        false => object(request)?,
    };
    match map.get("name") {
        None => Ok(ApiCall::ObserverToken("relay-broker".to_owned())),
        Some(Value::String(name)) if !name.trim().is_empty() => {
            Ok(ApiCall::ObserverToken(name.clone()))
        }
        Some(_) => Err(ApiError::invalid("`name` is no text, or empty")),
    }
}

/// The number of an event that is asked from, in whichever spelling; one without a value says nothing.
pub(crate) fn since(request: &Request) -> Result<Option<u64>, ApiError> {
    let spellings = ["sinceSeq", "since_seq", "sinceSequence", "since_sequence"];
    let given = |key| request.query(key).filter(|text| !text.is_empty());
    let mut given = spellings.iter().filter_map(|key| Some((key, given(key)?)));
    let number = |(key, text): (&&str, &str)| {
        let wrong = |_| ApiError::invalid(format!("{key}={text} is not the number of an event"));
        text.parse().map_err(wrong)
    };
    given.next().map(number).transpose()
}

#[cfg(test)]
mod tests;
