//! From a request to its answer: who asks, how far the broker is, which route, and then one line per route.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use serde_json::json;

use super::auth::Principal;
use super::context::{ApiContext, BrokerStage};
use super::render::{ApiError, ok, reply, unauthorized, wrong_method};
use super::routes::{self, Endpoint, RouteMatch};
use super::state::{Api, LONG, SHORT};
use super::{attach, auth, fleet, mcp, metrics, probes, results, rights, status, stream};
use crate::ids::AgentName;
use crate::msg::{ApiCall, ExpectedMode, Reply};
use crate::net::callers::check_caller;
use crate::net::{Handler, HandlerOutcome, Request, Response, Server, ServerLimits};
use crate::time::millis;
use crate::wire::local::SendRequest;

/// The running API. Dropping it closes every connection.
pub struct ApiServer(Server);

impl ApiServer {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr()
    }

    /// See [`Server::stop`].
    pub fn stop(&self) {
        self.0.stop();
    }
}

/// Serves the API on `listener`: threads `api` and `api:N`.
///
/// # Errors
/// When a thread or descriptor is not to be had.
pub fn start(listener: TcpListener, context: ApiContext) -> io::Result<ApiServer> {
    serve(listener, Arc::new(Api::new(context)))
}

pub(crate) fn serve(listener: TcpListener, api: Arc<Api>) -> io::Result<ApiServer> {
    let handler = Arc::new(ApiHandler(api));
    // Nothing that is asked without the key has a body.
    let limits = ServerLimits {
        stranger_body_bytes: 0,
        ..ServerLimits::default()
    };
    Server::start("api", listener, limits, handler).map(ApiServer)
}

struct ApiHandler(Arc<Api>);

impl Handler for ApiHandler {
    fn handle(&self, request: Request) -> HandlerOutcome {
        respond(&self.0, &request)
    }

    fn refuse(&self, status: u16, code: &'static str, message: &str) -> Response {
        let mut refusal = ApiError::new(status, code, message);
        refusal.retryable = matches!(status, 408 | 503);
        refusal.response()
    }

    fn knows(&self, head: &Request) -> bool {
        whose(&self.0, head).is_some() || has_metrics_key(&self.0, head)
    }
}

/// Answers one request.
pub(crate) fn respond(api: &Arc<Api>, request: &Request) -> HandlerOutcome {
    let found = routes::find(request);
    let who = match screen(api, request, &found) {
        Ok(who) => who,
        Err(refusal) => return HandlerOutcome::Respond(refusal),
    };
    match found {
        RouteMatch::Here(endpoint, name) => answer(api, &who, endpoint, name.as_deref(), request)
            .unwrap_or_else(|e| HandlerOutcome::Respond(e.response())),
        RouteMatch::OtherMethod(methods) => {
            HandlerOutcome::Respond(wrong_method(&request.method, &request.path, &methods))
        }
        RouteMatch::Nowhere => HandlerOutcome::Respond(
            ApiError::new(404, "not_found", format!("there is no {}", request.path)).response(),
        ),
    }
}

/// Whose key or token the request carries.
fn whose(api: &Api, request: &Request) -> Option<Principal> {
    let context = &api.context;
    auth::principal(request, &context.api_key, &context.registry)
}

/// Everything that is decided before the route is looked at. Who asks for what anybody may have counts as the operator.
fn screen(api: &Api, request: &Request, found: &RouteMatch) -> Result<Principal, Response> {
    if let Err(why) = check_caller(request, &api.context.allowed_hosts) {
        return Err(ApiError::new(403, "forbidden", why).response());
    }
    let (here, whom) = match found {
        RouteMatch::Here(endpoint, whom) => (Some(*endpoint), whom.as_deref()),
        _ => (None, None),
    };
    if here.is_some_and(Endpoint::is_open) {
        return Ok(Principal::Operator);
    }
    let stage = api.context.life.get();
    if stage == BrokerStage::Starting {
        // Existing clients look for exactly this status and are content with plain text.
        return Err(Response::text(503, "Broker is starting, please retry"));
    }
    let who = match whose(api, request) {
        Some(who) => who,
        None if here == Some(Endpoint::Exposition) && has_metrics_key(api, request) => {
            Principal::Operator
        }
        None if here == Some(Endpoint::AgentResult) => return Err(results::stranger(request)),
        None => return Err(unauthorized()),
    };
    if let Some(endpoint) = here {
        let may = rights::check(&who, endpoint, whom, &api.context.agents_may);
        let ends_child = || endpoint == Endpoint::Release && started_by(api, &who, whom);
        may.or_else(|refusal| ends_child().then_some(()).ok_or(refusal.response()))?;
    }
    if stage == BrokerStage::Stopping && here != Some(Endpoint::Shutdown) {
        let e = ApiError::new(
            503,
            "shutting_down",
            "the broker is stopping; start it again with `relay-broker up`",
        )
        .retryable();
        return Err(e.response());
    }
    Ok(who)
}

/// Whether an agent runs here that the caller has started; that one it may end as well.
pub(super) fn started_by(api: &Api, who: &Principal, whom: Option<&str>) -> bool {
    let (Principal::Agent(agent), Some(whom)) = (who, whom) else {
        return false;
    };
    let Ok(Reply::Agents(list)) = api.ask(ApiCall::Agents, SHORT) else {
        return false;
    };
    let child = AgentName::meant(whom);
    let mut agents = list.agents.iter();
    agents.any(|other| other.name == child && other.parent == agent.as_str())
}

/// The operator's settings, read again.
fn reload(api: &Api) -> Result<Response, ApiError> {
    let Some(reload) = api.context.reload.get() else {
        let why = "the broker has not begun to take settings over; ask again in a moment";
        return Err(ApiError::new(503, "not_ready", why).retryable());
    };
    let done = reload().map_err(|why| ApiError::new(422, "invalid_configuration", why))?;
    Ok(ok(&done))
}

/// Whether the request carries the key that opens `/metrics` alone.
fn has_metrics_key(api: &Api, request: &Request) -> bool {
    let key = api.context.metrics_key.as_ref();
    key.is_some_and(|key| auth::has_key(request, key))
}

fn answer(
    api: &Arc<Api>,
    who: &Principal,
    endpoint: Endpoint,
    name: Option<&str>,
    request: &Request,
) -> Result<HandlerOutcome, ApiError> {
    let agent = || routes::agent(name);
    let response = match endpoint {
        Endpoint::Health => status::health(api),
        Endpoint::Livez => probes::livez(api, request),
        Endpoint::Readyz => probes::readyz(api, request),
        Endpoint::Exposition => metrics::metrics(api, request)?,
        Endpoint::Session => status::session(api),
        Endpoint::Renew => status::renewed(api),
        Endpoint::Config => status::config(api),
        Endpoint::Shutdown => {
            let within_ms = millis((api.context.stop)());
            ok(&json!({"status": "shutting_down", "within_ms": within_ms}))
        }
        Endpoint::Reload => reload(api)?,
        Endpoint::Preflight => reply(&api.ask(routes::preflight(request)?, SHORT)?),
        Endpoint::Spawn => spawn(api, who, request)?,
        Endpoint::Agents => status::agents(api)?,
        Endpoint::Release => reply(&api.ask(routes::release(request, agent()?)?, LONG)?),
        Endpoint::Restart => reply(&api.ask(ApiCall::Restart(agent()?), LONG)?),
        Endpoint::Send => send(api, who, request)?,
        Endpoint::AgentResult => results::submit(api, who, request)?,
        Endpoint::Mcp => mcp::serve(api, who, request),
        Endpoint::Pending => reply(&api.ask(ApiCall::Pending(agent()?), SHORT)?),
        Endpoint::Flush => reply(&api.ask(ApiCall::Flush(agent()?), SHORT)?),
        Endpoint::Mode => reply(&api.ask(ApiCall::Mode(agent()?), SHORT)?),
        Endpoint::SetMode => set_mode(api, name, request)?,
        Endpoint::Input => ok(&stream::input_once(api, name, request)?),
        Endpoint::Resize => ok(&attach::resize(api, name, request)?),
        Endpoint::Snapshot => {
            let ansi = routes::snapshot_format(request)?;
            let name = agent()?;
            reply(&api.ask(ApiCall::Snapshot { name, ansi }, SHORT)?)
        }
        Endpoint::Status => status::overview(api)?,
        Endpoint::Metrics => status::metrics(api, request)?,
        Endpoint::CrashInsights => reply(&api.ask(ApiCall::CrashInsights, SHORT)?),
        Endpoint::Inventory => status::inventory(api)?,
        Endpoint::Redeliver => reply(&api.ask(routes::redeliver(request)?, SHORT)?),
        Endpoint::DeadLetters => reply(&api.ask(ApiCall::DeadLetters, SHORT)?),
        Endpoint::Invoke => reply(&api.ask(routes::invoke(request, name)?, LONG)?),
        Endpoint::Invocation => reply(&api.ask(routes::invocation(request, name)?, LONG)?),
        Endpoint::Nodes => reply(&api.ask(ApiCall::Nodes, LONG)?),
        Endpoint::RemoveNode => {
            let name = name.unwrap_or_default().to_owned();
            reply(&api.ask(ApiCall::RemoveNode(name), LONG)?)
        }
        Endpoint::Whereabouts => reply(&api.ask(ApiCall::Whereabouts(agent()?), LONG)?),
        Endpoint::Subscribe | Endpoint::Unsubscribe => {
            let listens = endpoint == Endpoint::Subscribe;
            let call = routes::channels(agent()?, routes::object(request)?, listens)?;
            reply(&api.ask(call, SHORT)?)
        }
        Endpoint::Readers => reply(&api.ask(ApiCall::Readers(routes::message(name)?), LONG)?),
        Endpoint::Threads => reply(&api.ask(ApiCall::Threads, SHORT)?),
        Endpoint::HistoryStats => status::history_stats(api)?,
        Endpoint::ObserverToken => reply(&api.ask(routes::observer(request)?, LONG)?),
        Endpoint::AgentEvents => ok(&stream::agent_events(api, name, request)?),
        Endpoint::Interrupt => reply(&api.ask(ApiCall::Interrupt(agent()?), SHORT)?),
        Endpoint::Replay => stream::replay(api, who, request)?,
        Endpoint::Model => model(api, agent()?, request)?,
        Endpoint::Events => return stream::events(api, who, request),
        Endpoint::Fleet => return fleet::serve(api, request),
        Endpoint::InputStream => return stream::input(api, name, request),
        Endpoint::Attach => return attach::attach(api, name, request),
    };
    Ok(HandlerOutcome::Respond(response))
}

/// An agent speaks as itself, whoever it says it is.
fn send(api: &Api, who: &Principal, request: &Request) -> Result<Response, ApiError> {
    let mut call = routes::send(request)?;
    if let (Principal::Agent(agent), ApiCall::Send(send)) = (who, &mut call) {
        speak_as(agent, send)?;
    }
    Ok(reply(&api.ask(call, LONG)?))
}

/// Puts the agent's name to what it sends.
fn speak_as(agent: &AgentName, send: &mut SendRequest) -> Result<(), ApiError> {
    let from = send.from.as_deref().filter(|from| !from.is_empty());
    if from.is_some_and(|from| AgentName::meant(from) != *agent) {
        let text = format!("the token is {agent}'s, so that the message can be only from {agent}");
        return Err(ApiError::new(403, "not_permitted", text));
    }
    if send.raw {
        // Typed as it is, it would look like the words of a person at the reader's keyboard.
        let text = "only the operator types messages as they are (raw)";
        return Err(ApiError::new(403, "not_permitted", text));
    }
    rights::quote_line(send);
    send.from = Some(agent.to_string());
    send.by_agent = true;
    Ok(())
}

/// Every answer to a spawn carries the name, also the refusals.
fn spawn(api: &Api, who: &Principal, request: &Request) -> Result<Response, ApiError> {
    let wish = routes::spawn(request)?.of(who);
    match api.ask(wish.call, LONG) {
        Ok(Reply::Spawned(spawned)) => Ok(ok(&spawned)),
        Ok(other) => Err(ApiError::confused(&other)),
        Err(e) => Ok(e.response_about(&wish.name)),
    }
}

/// Changes the mode, or says that it is not as the caller believes.
fn set_mode(api: &Api, name: Option<&str>, request: &Request) -> Result<Response, ApiError> {
    let (mode, expected) = routes::mode(request)?;
    let name = routes::agent(name)?;
    let call = match expected == ExpectedMode::default() {
        true => ApiCall::SetMode(name, mode),
        false => ApiCall::SwapMode(name, mode, expected),
    };
    Ok(reply(&api.ask(call, SHORT)?))
}

/// Another model for an agent's program: the answer comes when the command waits to be typed.
fn model(api: &Api, name: AgentName, request: &Request) -> Result<Response, ApiError> {
    let model = routes::model(request)?;
    match api.ask(ApiCall::SetModel(name.clone(), model.clone()), SHORT)? {
        Reply::Sent(sent) => Ok(ok(&json!({
            "success": true,
            "name": name,
            "model": model,
            "event_id": sent.event_id,
        }))),
        other => Err(ApiError::confused(&other)),
    }
}
