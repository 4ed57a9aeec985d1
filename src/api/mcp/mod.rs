//! `POST /mcp`: the tools that agents answer with, over the streamable HTTP of the Model Context Protocol. The command
//! `relay-broker mcp` passes each line of its standard input on to here, so both ways have one implementation. One message a
//! request, one JSON answer; nothing is kept between them.

mod arguments;
mod engine_calls;
mod following;
mod kept_messages;
mod protocol;
mod resources;
mod run;
mod tools;
mod words;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use self::protocol::{Era, Incoming, RpcError, code};
use super::auth::Principal;
use super::render::finish;
use super::results;
use super::state::Api;
use crate::net::{Request, Response};

/// The header by which `relay-broker mcp` says that what it passes on came without headers.
const FROM_STDIO: &str = "x-relay-stdio";

/// Answers one message.
pub(crate) fn serve(api: &Api, who: &Principal, request: &Request) -> Response {
    let (status, body) = match protocol::read(&request.body) {
        Ok(Incoming::Heard) => return finish(Response::empty(202)),
        Ok(Incoming::Request { id, method, params }) => {
            let (era, outcome) = answer(api, who, request, &method, &params);
            match outcome {
                Ok(result) => (200, protocol::result(era, &method, &id, result)),
                Err(error) => (status(era, &error), error.answer(&id)),
            }
        }
        Err((id, error)) => (400, error.answer(&id)),
    };
    finish(Response::json(status, &body))
}

/// Before 2026-07-28 an error is as good an answer as any; since then some have a status of their own.
fn status(era: Era, error: &RpcError) -> u16 {
    match (era, error.code) {
        (_, code::VERSION | code::HEADERS_DIFFER) => 400,
        (Era::Stateless, code::NO_METHOD) => 404,
        (Era::Stateless, code::INVALID_PARAMS) => 400,
        _ => 200,
    }
}

fn answer(
    api: &Api,
    who: &Principal,
    request: &Request,
    method: &str,
    params: &Map<String, Value>,
) -> (Era, Result<Value, RpcError>) {
    let era = match protocol::era(method, params) {
        Ok(era) => era,
        Err(error) => return (Era::Stateless, Err(error)),
    };
    let outcome = headers_agree(era, request, method, params)
        .and_then(|()| dispatch(api, who, era, method, params));
    (era, outcome)
}

fn dispatch(
    api: &Api,
    who: &Principal,
    era: Era,
    method: &str,
    params: &Map<String, Value>,
) -> Result<Value, RpcError> {
    match (method, era) {
        ("initialize", Era::Handshake) => Ok(protocol::initialize(params)),
        ("ping", Era::Handshake) => Ok(json!({})),
        ("server/discover", Era::Stateless) => Ok(protocol::discover()),
        ("tools/list", _) => {
            let result = match who {
                Principal::Agent(agent) => results::wanted(api, agent).ok().flatten(),
                Principal::Operator => None,
            };
            Ok(tools::list(&api.context.agents_may, who, result.as_ref()))
        }
        ("tools/call", _) => run::call(api, who, params),
        ("resources/list", _) => Ok(resources::list()),
        ("resources/templates/list", _) => Ok(resources::templates()),
        ("resources/read", _) => resources::read(api, who, params),
        _ => Err(RpcError::new(
            code::NO_METHOD,
            format!("{method} is not served here; there are tools and resources"),
        )),
    }
}

/// What a proxy reads from the headers must be what is done. Clients before 2026-07-28 name at most the version.
fn headers_agree(
    era: Era,
    request: &Request,
    method: &str,
    params: &Map<String, Value>,
) -> Result<(), RpcError> {
    if request.header(FROM_STDIO).is_some() {
        return Ok(());
    }
    let differ = |text: String| Err(RpcError::new(code::HEADERS_DIFFER, text));
    let version = request.header("mcp-protocol-version");
    if era == Era::Handshake {
        return match version {
            Some(version) if !protocol::is_spoken(version) => Err(RpcError::new(
                code::VERSION,
                format!("version {version:?} of the protocol is not spoken here"),
            )),
            _ => Ok(()),
        };
    }
    if version != Some(protocol::stateless_version()) {
        return differ(format!(
            "the header MCP-Protocol-Version is {}, and `_meta` says {}",
            shown(version),
            protocol::stateless_version()
        ));
    }
    if request.header("mcp-method") != Some(method) {
        let header = shown(request.header("mcp-method"));
        return differ(format!(
            "the header Mcp-Method is {header}, and the body says {method}"
        ));
    }
    let named = match method {
        "tools/call" => params.get("name"),
        "resources/read" => params.get("uri"),
        _ => None,
    };
    if let Some(named) = named.and_then(Value::as_str)
        && request.header("mcp-name").map(plain).as_deref() != Some(named)
    {
        let header = shown(request.header("mcp-name"));
        return differ(format!(
            "the header Mcp-Name is {header}, and the body says {named}"
        ));
    }
    Ok(())
}

fn shown(header: Option<&str>) -> String {
    header.map_or_else(|| "missing".to_owned(), |value| format!("{value:?}"))
}

/// A header's value; what is no plain text is sent as `=?base64?…?=`.
fn plain(value: &str) -> String {
    let inner = value.strip_prefix("=?base64?");
    let inner = inner.and_then(|rest| rest.strip_suffix("?="));
    let decoded = inner.and_then(|text| STANDARD.decode(text).ok());
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.unwrap_or_else(|| value.to_owned())
}
