//! The engine's HTTP side in one table: who may call what, and which function answers. Handlers live in the `http_…`
//! files; this one owns authentication, the envelope ([engine-protocol 1.4](crate::docs::engine_protocol#1.4)) and the
//! reading of bodies.

use serde_json::{Map, Value, json};

use super::core::Effect;
use super::directory::{Id, Owner, digest};
use super::turn::Turn;
use super::{
    http_actions as actions, http_agents as agents, http_channels as channels, http_dm as dm,
    http_mail as mail, http_messages as messages, http_nodes as nodes, http_observers as observers,
    http_workspaces as workspaces, trouble,
};
use crate::ids::Ticket;
use crate::wire::down::Mode;

/// One HTTP request as far as the engine cares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpCall {
    /// `GET`, `POST` …
    pub method: String,
    /// The path's segments, decoded.
    pub segments: Vec<String>,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The token of the `Authorization` header.
    pub bearer: Option<String>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The body; an empty one counts as `{}`, `None` is one that is not JSON.
    pub body: Option<Value>,
}

/// A call that matched a route.
pub struct Call<'a> {
    pub query: &'a [(String, String)],
    pub bearer: Option<&'a str>,
    pub idempotency_key: Option<&'a str>,
    pub body: &'a Value,
    /// What stood at the pattern's `:`.
    pub at: Vec<&'a str>,
    /// The route's pattern, which scopes idempotency keys.
    pub route: &'static str,
    pub caller: Caller,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    Nobody,
    Key(Id),
    Agent(Id, Id),
    Node(Id, String),
    Observer(Id, Id),
}

/// A successful answer: status and `data`, or 204 without a body.
pub type Done = (u16, Value);
/// What a handler returns.
pub type Answer = Result<Done, Refusal>;
type Handler = fn(&mut Turn<'_>, &Call<'_>) -> Answer;

/// An unsuccessful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

/// Makes a refusal.
pub fn refuse(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal {
        status,
        code,
        message: message.into(),
    }
}

/// Body or query is not what it must be.
pub fn invalid(message: impl Into<String>) -> Refusal {
    refuse(400, "invalid_request", message)
}

/// 204.
pub fn nothing() -> Answer {
    Ok((204, Value::Null))
}

/// Who may call a route ([engine-protocol 1.2](crate::docs::engine_protocol#1.2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Auth {
    /// Anybody.
    None,
    /// The workspace key.
    Rk,
    /// An agent.
    At,
    /// An agent; the key is told so with a code of its own.
    Act,
    /// As `Act`, or a node on behalf of one of its agents.
    Speak,
    /// An agent or a node, each for what is its own.
    Own,
    /// Key or agent.
    Any,
    /// Key, agent, or an observer with that scope.
    Ot(&'static str),
}

use Auth::{Act, Any, At, Ot, Own, Rk, Speak};

#[rustfmt::skip]
const ROUTES: &[(&str, &str, Auth, Handler)] = &[
    ("POST", "workspaces", Auth::None, workspaces::create),
    ("GET", "workspaces/by-name/:name", Auth::None, workspaces::by_name),
    ("GET", "workspace", Any, workspaces::get),
    ("PATCH", "workspace", Rk, workspaces::update),
    ("DELETE", "workspace", Rk, workspaces::delete),
    ("POST", "observer-tokens", Rk, observers::create),
    ("GET", "observer-tokens", Rk, observers::list),
    ("GET", "observer-tokens/:id", Rk, observers::get),
    ("PATCH", "observer-tokens/:id", Rk, observers::update),
    ("DELETE", "observer-tokens/:id", Rk, observers::revoke),
    ("POST", "observer-tokens/:id/rotate", Rk, observers::rotate),

    ("POST", "agents", Rk, agents::register),
    ("GET", "agents", Ot("agents:read"), agents::list),
    ("GET", "agents/presence", Ot("agents:read"), agents::presence),
    ("POST", "agents/heartbeat", At, agents::heartbeat),
    ("POST", "agents/disconnect", At, agents::disconnect),
    ("POST", "agents/spawn", Any, actions::spawn),
    ("POST", "agents/release", Any, actions::release),
    ("GET", "agents/:name", Ot("agents:read"), agents::get),
    ("PATCH", "agents/:name", Rk, agents::update),
    ("DELETE", "agents/:name", Rk, agents::delete),
    ("POST", "agents/:name/rotate-token", Any, agents::rotate),
    ("GET", "agent", At, agents::me),
    ("POST", "agent/node-token", At, agents::node_token),

    ("POST", "nodes", Rk, nodes::create),
    ("GET", "nodes", Ot("nodes:read"), nodes::list),
    ("GET", "nodes/:name", Ot("nodes:read"), nodes::get),
    ("DELETE", "nodes/:name", Rk, nodes::delete),
    ("GET", "nodes/:name/agents", Ot("nodes:read"), nodes::agents),
    ("POST", "nodes/:name/agents", Rk, nodes::bind),
    ("DELETE", "nodes/:name/agents/:agent", Rk, nodes::unbind),
    ("POST", "nodes/:name/actions/:action/invoke", Act, actions::invoke_on_node),

    ("POST", "actions", Any, actions::define),
    ("GET", "actions", Ot("activity:read"), actions::list),
    ("GET", "actions/:name", Ot("activity:read"), actions::get),
    ("DELETE", "actions/:name", Rk, actions::remove),
    ("POST", "actions/:name/invoke", Act, actions::invoke),
    ("GET", "actions/:name/invocations/:id", Any, actions::invocation),
    ("POST", "actions/:name/invocations/:id/complete", At, actions::complete),

    ("POST", "channels", At, channels::create),
    ("GET", "channels", Ot("channels:read"), channels::list),
    ("GET", "channels/:name", Ot("channels:read"), channels::get),
    ("PATCH", "channels/:name", At, channels::update),
    ("PATCH", "channels/:name/topic", At, channels::update),
    ("DELETE", "channels/:name", At, channels::archive),
    ("POST", "channels/:name/join", At, channels::join),
    ("POST", "channels/:name/leave", At, channels::leave),
    ("POST", "channels/:name/invite", At, channels::invite),
    ("GET", "channels/:name/members", Ot("channels:read"), channels::members),
    ("POST", "channels/:name/mute", At, channels::mute),
    ("POST", "channels/:name/unmute", At, channels::unmute),
    ("GET", "channels/:name/read-status", Any, channels::read_status),
    ("POST", "channels/:name/messages", Speak, messages::post),
    ("GET", "channels/:name/messages", Ot("messages:read"), messages::list),
    ("GET", "messages/:id", Ot("messages:read"), messages::get),
    ("POST", "messages/:id/replies", Speak, messages::reply),
    ("GET", "messages/:id/replies", Ot("threads:read"), messages::replies),
    ("POST", "messages/:id/reactions", At, messages::react),
    ("GET", "messages/:id/reactions", Ot("reactions:read"), messages::reactions),
    ("DELETE", "messages/:id/reactions/:emoji", At, messages::unreact),
    ("POST", "messages/:id/read", At, messages::read),
    ("GET", "messages/:id/readers", Any, messages::readers),
    ("GET", "search", Ot("search:read"), messages::search),

    ("POST", "dm", Speak, dm::send),
    ("POST", "dm/group", At, dm::create_group),
    ("GET", "dm/conversations", At, dm::conversations),
    ("GET", "dm/conversations/all", Ot("dms:read"), dm::all_conversations),
    ("GET", "dm/conversations/:id/messages", Ot("dms:read"), dm::any_messages),
    ("POST", "dm/:id/messages", At, dm::send_in),
    ("GET", "dm/:id/messages", At, dm::messages),
    ("POST", "dm/:id/participants", At, dm::add_participant),
    ("DELETE", "dm/:id/participants/:name", At, dm::remove_participant),

    ("GET", "deliveries", At, mail::deliveries),
    ("GET", "deliveries/waiting", Ot("deliveries:read"), mail::waiting),
    ("POST", "deliveries/:id/ack", At, mail::close),
    ("POST", "deliveries/:id/fail", At, mail::close),
    ("GET", "inbox", At, mail::inbox),
];

/// Routes of engines from 6.0.
#[rustfmt::skip]
const PROVIDER_ROUTES: &[(&str, &str, Auth, Handler)] = &[
    ("DELETE", "nodes/:name/providers/:provider", Rk, nodes::remove_provider),
];

/// Routes of engines from 8.2.
#[rustfmt::skip]
const RECOVERY_ROUTES: &[(&str, &str, Auth, Handler)] = &[
    ("POST", "agents/:name/recover", Own, agents::recover),
    ("POST", "agents/:name/takeover", Rk, agents::take_over),
];

impl Turn<'_> {
    /// Answers one request.
    pub fn http(&mut self, ticket: Ticket, call: &HttpCall) {
        let answer = match call.segments.as_slice() {
            [one] if one == trouble::ROUTE && self.core.trouble.allowed => {
                self.behave(&call.method, call.body.as_ref())
            }
            path => {
                let answer = self.route(call);
                self.ordered_failure(&call.method, path, answer)
            }
        };
        self.answer(ticket, answer);
    }

    /// Wraps an answer in the envelope and sends it off.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let (status, body) = match answer {
            Ok((204, _)) => (204, None),
            Ok((status, data)) => (status, Some(json!({"ok": true, "data": data}))),
            Err(r) => (r.status, Some(refusal_body(r.code, &r.message))),
        };
        self.effect(Effect::Answer {
            ticket,
            status,
            body,
        });
    }

    fn route(&mut self, call: &HttpCall) -> Answer {
        let unknown = || {
            let path = call.segments.join("/");
            refuse(
                404,
                "not_found",
                format!("No route {} /{path}", call.method),
            )
        };
        let [v1, path @ ..] = call.segments.as_slice() else {
            return Err(unknown());
        };
        let later = [
            (self.core.behaviour.providers, PROVIDER_ROUTES),
            (self.core.behaviour.recovery_routes, RECOVERY_ROUTES),
        ];
        let later = later.iter().filter(|(has, _)| *has);
        let found = ROUTES
            .iter()
            .chain(later.flat_map(|(_, routes)| *routes))
            .filter(|(method, ..)| v1 == "v1" && *method == call.method)
            .find_map(|(_, pattern, auth, handler)| {
                Some((*pattern, *auth, *handler, matches(pattern, path)?))
            });
        let Some((route, auth, handler, at)) = found else {
            return Err(unknown());
        };
        let caller = self.admit(auth, call.bearer.as_deref())?;
        let Some(body) = &call.body else {
            return Err(refuse(400, "invalid_json", "The body is not JSON"));
        };
        if !body.is_object() {
            return Err(invalid("The body must be a JSON object"));
        }
        let call = Call {
            query: &call.query,
            bearer: call.bearer.as_deref(),
            idempotency_key: call.idempotency_key.as_deref(),
            body,
            at,
            route,
            caller,
        };
        handler(self, &call)
    }

    /// Who the token belongs to, if that may call a route of this kind
    /// ([engine-protocol 1.2](crate::docs::engine_protocol#1.2)).
    fn admit(&mut self, auth: Auth, bearer: Option<&str>) -> Result<Caller, Refusal> {
        let unauthorized = |m: &str| refuse(401, "unauthorized", m);
        if auth == Auth::None {
            return Ok(Caller::Nobody);
        }
        let Some(token) = bearer else {
            return Err(unauthorized("Missing Authorization header"));
        };
        match self.core.state.tokens.get(&digest(token)) {
            Some(Owner::Workspace(ws)) => match auth {
                Rk | Any | Ot(_) => Ok(Caller::Key(*ws)),
                Act | Speak => Err(refuse(
                    403,
                    "agent_token_required",
                    "This needs an agent token",
                )),
                Own => Err(refuse(
                    403,
                    "agent_recovery_not_authorized",
                    "The workspace key takes agents over; it does not recover them",
                )),
                At | Auth::None => Err(unauthorized("This needs an agent token")),
            },
            Some(Owner::Agent(ws, agent)) => match auth {
                Rk => Err(unauthorized("This needs the workspace key")),
                _ => Ok(Caller::Agent(*ws, *agent)),
            },
            Some(Owner::Node(ws, node)) => match auth {
                Speak if self.core.behaviour.providers => Ok(Caller::Node(*ws, node.clone())),
                Own => Ok(Caller::Node(*ws, node.clone())),
                _ => Err(refuse(
                    401,
                    "node_token_forbidden",
                    "A node token may not do this",
                )),
            },
            Some(Owner::Observer(ws, id)) => {
                let (ws, id) = (*ws, *id);
                match auth {
                    Ot(scope) if self.observer_may(ws, id, scope) => Ok(Caller::Observer(ws, id)),
                    Ot(scope) => Err(refuse(
                        403,
                        "insufficient_scope",
                        format!("This needs the scope {scope}"),
                    )),
                    _ => Err(refuse(
                        401,
                        "observer_token_forbidden",
                        "An observer token may not do this",
                    )),
                }
            }
            None => Err(unknown_token(token)),
        }
    }
}

fn unknown_token(token: &str) -> Refusal {
    let (code, message) = match token.get(..3) {
        Some("at_") => ("agent_token_invalid", "Invalid agent token"),
        Some("nt_") => ("node_token_invalid", "Invalid node token"),
        Some("ot_") => ("observer_token_invalid", "Invalid observer token"),
        _ => ("unauthorized", "Invalid API key"),
    };
    refuse(401, code, message)
}

/// The body of a refusal.
pub fn refusal_body(code: &str, message: &str) -> Value {
    json!({"ok": false, "error": {"code": code, "message": message}})
}

/// The values at the pattern's `:`, if the path fits it.
fn matches<'a>(pattern: &str, path: &'a [String]) -> Option<Vec<&'a str>> {
    if pattern.split('/').count() != path.len() {
        return None;
    }
    let mut at = Vec::new();
    for (want, have) in pattern.split('/').zip(path) {
        if want.starts_with(':') {
            at.push(have.as_str());
        } else if want != have {
            return None;
        }
    }
    Some(at)
}

impl<'a> Call<'a> {
    /// The workspace of the caller.
    pub fn ws(&self) -> Id {
        match &self.caller {
            // Routes without a caller do not ask; no workspace has the id 0.
            Caller::Nobody => 0,
            Caller::Key(ws)
            | Caller::Agent(ws, _)
            | Caller::Node(ws, _)
            | Caller::Observer(ws, _) => *ws,
        }
    }

    /// The calling agent.
    pub fn agent(&self) -> Result<Id, Refusal> {
        match &self.caller {
            Caller::Agent(_, agent) => Ok(*agent),
            _ => Err(refuse(
                403,
                "agent_token_required",
                "This needs an agent token",
            )),
        }
    }

    /// The first query value of that name.
    pub fn query(&self, name: &str) -> Option<&'a str> {
        let found = self.query.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// `limit`, within bounds.
    pub fn limit(&self, default: usize, most: usize) -> usize {
        self.query("limit")
            .and_then(|l| l.parse().ok())
            .unwrap_or(default)
            .clamp(1, most)
    }

    /// An optional text of the body; null counts as absent.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        match self.body.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(format!("\"{key}\" must be a string"))),
        }
    }

    /// A text of the body that must be there and not be empty.
    pub fn need(&self, key: &str) -> Result<&'a str, Refusal> {
        self.text(key)?
            .filter(|t| !t.is_empty())
            .ok_or_else(|| invalid(format!("\"{key}\" is required")))
    }

    /// An optional object of the body.
    pub fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, Refusal> {
        match self.body.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(invalid(format!("\"{key}\" must be an object"))),
        }
    }

    /// An optional list of texts of the body.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, Refusal> {
        let wrong = || invalid(format!("\"{key}\" must be a list of strings"));
        match self.body.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|i| i.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    /// An optional count of the body.
    pub fn count(&self, key: &str) -> Result<Option<u64>, Refusal> {
        match self.body.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| invalid(format!("\"{key}\" must be a whole number"))),
        }
    }

    /// `mode`.
    pub fn mode(&self) -> Result<Mode, Refusal> {
        match self.text("mode")? {
            None | Some("wait") => Ok(Mode::Wait),
            Some("steer") => Ok(Mode::Steer),
            Some(_) => Err(invalid("\"mode\" must be \"wait\" or \"steer\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_its_pattern_segment_by_segment() {
        let path = ["actions", "spawn:claude", "invoke"].map(String::from);
        assert_eq!(
            matches("actions/:name/invoke", &path),
            Some(vec!["spawn:claude"])
        );
        assert_eq!(matches("actions/:name", &path), None);
        assert_eq!(matches("actions/:name/remove", &path), None);
    }

    #[test]
    fn literal_routes_come_before_those_that_would_swallow_them() {
        let first = |method: &str, path: &str| {
            let path: Vec<String> = path.split('/').map(String::from).collect();
            ROUTES
                .iter()
                .find(|(m, p, ..)| *m == method && matches(p, &path).is_some())
                .map(|r| r.1)
        };
        assert_eq!(first("GET", "agents/presence"), Some("agents/presence"));
        assert_eq!(
            first("GET", "dm/conversations/all"),
            Some("dm/conversations/all")
        );
        assert_eq!(first("GET", "dm/dm_1/messages"), Some("dm/:id/messages"));
    }
}
