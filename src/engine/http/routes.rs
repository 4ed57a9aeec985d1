//! The engine's HTTP side in one table: who may call what, and which function answers. The roof of
//! the HTTP side: handlers live in the files beside this one, which owns the table and authentication.

use super::call::{Call, Caller, HttpAnswer, HttpCall, HttpRefusal, invalid, refuse};
use super::{actions, agents, channels, dm, mail, messages, nodes, observers, workspaces};
use crate::engine::directory::Owner;
use crate::engine::id::digest;
use crate::engine::step::Step;
use crate::ids::Ticket;

type RouteHandler = fn(&mut Step<'_>, &Call<'_>) -> HttpAnswer;

/// Who may call a route ([engine-protocol 1.2](crate::docs::engine_protocol#1.2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Auth {
    /// No key at all.
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
const ROUTES: &[(&str, &str, Auth, RouteHandler)] = &[
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
const PROVIDER_ROUTES: &[(&str, &str, Auth, RouteHandler)] = &[
    ("DELETE", "nodes/:name/providers/:provider", Rk, nodes::remove_provider),
];

/// Routes of engines from 8.2.
#[rustfmt::skip]
const RECOVERY_ROUTES: &[(&str, &str, Auth, RouteHandler)] = &[
    ("POST", "agents/:name/recover", Own, agents::recover),
    ("POST", "agents/:name/takeover", Rk, agents::take_over),
];

impl Step<'_> {
    /// Answers one request.
    pub fn http(&mut self, ticket: Ticket, call: &HttpCall) {
        let answer = match self.takes_order(call) {
            Some(answer) => answer,
            None => {
                let answer = self.route(call);
                self.ordered_failure(call, answer)
            }
        };
        self.answer(ticket, answer);
    }

    fn route(&mut self, call: &HttpCall) -> HttpAnswer {
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
            (self.core.behaviour().providers, PROVIDER_ROUTES),
            (self.core.behaviour().recovery_routes, RECOVERY_ROUTES),
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
    fn admit(&mut self, auth: Auth, bearer: Option<&str>) -> Result<Caller, HttpRefusal> {
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
                At | Act | Speak | Own | Any | Ot(_) | Auth::None => Ok(Caller::Agent(*ws, *agent)),
            },
            Some(Owner::Node(ws, node)) => match auth {
                Speak if self.core.behaviour().providers => Ok(Caller::Node(*ws, node.clone())),
                Own => Ok(Caller::Node(*ws, node.clone())),
                Auth::None | Rk | At | Act | Speak | Any | Ot(_) => Err(refuse(
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
                    Auth::None | Rk | At | Act | Speak | Own | Any => Err(refuse(
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

fn unknown_token(token: &str) -> HttpRefusal {
    let (code, message) = match token.get(..3) {
        Some("at_") => ("agent_token_invalid", "Invalid agent token"),
        Some("nt_") => ("node_token_invalid", "Invalid node token"),
        Some("ot_") => ("observer_token_invalid", "Invalid observer token"),
        _ => ("unauthorized", "Invalid API key"),
    };
    refuse(401, code, message)
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
