//! Answers and refusals as HTTP. Every error body is flat and carries every key that some client reads
//! ([local-api 2.1](crate::docs::local_api#2.1)).

use serde_json::json;

use crate::msg::{Refusal, RefusalKind, Reply};
use crate::net::Response;
use crate::wire::local::ErrorBody;

/// What a release brings with it while the journal cannot be written.
const RELEASING: &str = "its program is being ended; that it was released is written down once the journal can be, and until then a \
     broker that starts anew would start it again";

/// A call that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Whether the same call may succeed a little later.
    pub(crate) retryable: bool,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retryable: false,
        }
    }

    pub(crate) fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// 400 `invalid_request`.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", message)
    }

    /// 404 `agent_not_found`.
    pub(crate) fn no_agent(name: &str) -> Self {
        Self::new(
            404,
            "agent_not_found",
            format!("no agent is named {name:?}; GET /api/spawned lists them"),
        )
    }

    /// 500: the dispatcher answered another question.
    pub(crate) fn confused(reply: &Reply) -> Self {
        log::error!("an answer of the wrong kind: {reply:?}");
        Self::new(
            500,
            "internal_error",
            "the broker answered another question; the log names it",
        )
    }

    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody {
            success: false,
            code: self.code.to_owned(),
            message: self.message.clone(),
            error: self.message.clone(),
            status_code: self.status,
            retryable: self.retryable,
        }
    }

    pub(crate) fn response(&self) -> Response {
        finish(Response::json(self.status, &self.body()))
    }

    /// With the agent's name beside it, as clients expect of a spawn.
    pub(crate) fn response_about(&self, name: &str) -> Response {
        let mut body = json!(self.body());
        body["name"] = name.into();
        finish(Response::json(self.status, &body))
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code, retryable) = match refusal.kind {
            RefusalKind::Invalid => (400, "invalid_request", false),
            RefusalKind::Unsupported => (400, "unsupported_operation", false),
            RefusalKind::NoTerminal => (409, "unsupported_runtime", false),
            RefusalKind::UnknownAgent => (404, "agent_not_found", false),
            RefusalKind::UnknownInvocation => (404, "unknown_invocation", false),
            RefusalKind::UnknownChannel => (404, "channel_not_found", false),
            RefusalKind::UnknownLetter => (404, "dead_letter_not_found", false),
            RefusalKind::NoResultWanted => (409, "no_result_wanted", false),
            RefusalKind::ResultIsFinal => (409, "result_is_final", false),
            RefusalKind::NameTaken => (500, "agent_already_exists", false),
            RefusalKind::SpawnFailed => (500, "spawn_failed", false),
            RefusalKind::NoRoom => (503, "no_room", true),
            RefusalKind::Full => (429, "queue_full", true),
            RefusalKind::NotAtEngine => (404, "not_found", false),
            RefusalKind::Engine => (502, "engine_error", true),
            RefusalKind::Stopping => (503, "shutting_down", true),
            RefusalKind::Degraded => (503, "degraded", true),
            RefusalKind::Timeout => (504, "worker_timeout", true),
            RefusalKind::Begun => (504, "worker_timeout", false),
        };
        Self {
            status,
            code,
            message: refusal.message,
            retryable,
        }
    }
}

/// 401, nested for the clients that read it so and flat for the others.
pub(crate) fn unauthorized() -> Response {
    let (code, message) = ("unauthorized", "Missing or invalid API key");
    let mut response = Response::json(
        401,
        &json!({
            "success": false,
            "code": code,
            "message": message,
            "error": {"code": code, "message": message, "retryable": false, "statusCode": 401},
            "statusCode": 401,
            "retryable": false,
        }),
    );
    response.headers.push(("www-authenticate", "Bearer".into()));
    finish(response)
}

/// 405 with the methods that the path has.
pub(crate) fn wrong_method(method: &str, path: &str, allow: &[&str]) -> Response {
    let allow = allow.join(", ");
    let message = format!("{path} does not take {method}, only {allow}");
    let mut response = ApiError::new(405, "method_not_allowed", message).response();
    response.headers.push(("allow", allow));
    response
}

/// A 200 with this body.
pub(crate) fn ok(body: &impl serde::Serialize) -> Response {
    finish(Response::json(200, body))
}

/// What the dispatcher says, in the shapes of [local-api 2](crate::docs::local_api#2).
pub(crate) fn reply(reply: &Reply) -> Response {
    match reply {
        Reply::Spawned(spawned) => ok(spawned),
        Reply::Restarted(restarted) => ok(restarted),
        Reply::Released { name } => ok(&json!({"success": true, "name": name})),
        Reply::Releasing { name } => {
            ok(&json!({"success": true, "name": name, "warning": RELEASING}))
        }
        Reply::Queued(count) => ok(&json!({"queued": count})),
        Reply::Agents(list) => ok(list),
        Reply::Sent(sent) => ok(sent),
        Reply::Pending(list) => ok(list),
        Reply::Flushed(count) => ok(&json!({"flushed": count})),
        Reply::Mode(mode) => ok(mode),
        Reply::Threads(list) => ok(list),
        Reply::ObserverToken(token) => ok(token),
        Reply::ModeChanged(changed) => ok(changed),
        Reply::Channels(changed) => ok(changed),
        Reply::Snapshot(snapshot) => ok(snapshot),
        Reply::Interrupted(answer) => ok(answer),
        Reply::Status(status) => ok(status),
        Reply::CrashInsights(insights) => ok(insights),
        Reply::DeadLetters(letters) => {
            ok(&json!({"count": letters.len(), "dead_letters": letters}))
        }
        Reply::Redelivered(redelivered) => ok(redelivered),
        Reply::Invocation(invocation) => ok(invocation),
        Reply::ResultSchema(schema) => ok(&json!({"schema": schema})),
        Reply::ResultTaken(taken) => ok(taken),
        Reply::Sidecar(value) => ok(value),
        Reply::Nodes(nodes) => ok(&json!({"nodes": nodes})),
        Reply::Engine(data) => ok(data),
        Reply::NodeRemoved => ok(&json!({"success": true})),
        Reply::Whereabouts(place) => ok(place),
        Reply::Readers(readers) => ok(&json!({"readers": readers})),
    }
}

/// Nothing here may be kept by a cache or guessed at by a browser.
pub(crate) fn finish(mut response: Response) -> Response {
    response.headers.push(("cache-control", "no-store".into()));
    response
        .headers
        .push(("x-content-type-options", "nosniff".into()));
    response
}
