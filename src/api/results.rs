//! Results that agents hand in: `POST /api/agent-result` and the tool `submit_result`. Judged here, on the caller's own
//! thread, because a schema may take its time.

use serde_json::Value;

use super::auth::{Principal, shows_token};
use super::render::{ApiError, reply};
use super::routes;
use super::state::{Api, SHORT};
use crate::ids::AgentName;
use crate::json_schema::ValueSchema;
use crate::msg::{ApiCall, Reply};
use crate::net::{Request, Response};
use crate::wire::local::{AgentResult, TEXT_MAX};

/// Takes the result that a request brings.
pub(super) fn submit(api: &Api, who: &Principal, request: &Request) -> Result<Response, ApiError> {
    let result = routes::agent_result(request)?;
    let name = whose(who, result.name.as_ref())?;
    Ok(reply(&take(api, name, result)?))
}

/// Whose result it is: an agent hands in its own, the operator that of whom he names.
fn whose(who: &Principal, named: Option<&AgentName>) -> Result<AgentName, ApiError> {
    let named = named.map(|name| AgentName::meant(name.as_str()));
    match (who, named) {
        (Principal::Agent(own), Some(named)) if named != *own => Err(ApiError::new(
            403,
            "not_permitted",
            format!("the token is {own}'s, so that the result can be only of {own}"),
        )),
        (Principal::Agent(own), _) => Ok(own.clone()),
        (Principal::Operator, Some(named)) => Ok(named),
        (Principal::Operator, None) => Err(ApiError::invalid(
            "`name` is missing; say whose result it is, or show that agent's token",
        )),
    }
}

/// Takes a result, if it fits what is wanted.
pub(super) fn take(api: &Api, name: AgentName, result: AgentResult) -> Result<Reply, ApiError> {
    let bytes = result.data.to_string().len();
    if bytes > TEXT_MAX {
        let text = format!(
            "the result has {bytes} bytes and at most {TEXT_MAX} are taken; put it into a file and hand in its path"
        );
        return Err(ApiError::new(413, "result_too_large", text));
    }
    if let Some(schema) = wanted(api, &name)? {
        let schema = ValueSchema::read(&schema).map_err(|why| {
            ApiError::invalid(format!(
                "the schema that '{name}' was started with is none: {why}"
            ))
        })?;
        schema.check(&result.data).map_err(|misfit| {
            let text = format!("the result does not fit: {misfit}; hand it in again, put right");
            ApiError::new(400, "result_does_not_fit", text)
        })?;
    }
    api.ask(ApiCall::SubmitResult(name, Box::new(result)), SHORT)
}

/// What the result of an agent must look like, if one is wanted.
pub(super) fn wanted(api: &Api, name: &AgentName) -> Result<Option<Value>, ApiError> {
    match api.ask(ApiCall::ResultSchema(name.clone()), SHORT)? {
        Reply::ResultSchema(schema) => Ok(schema),
        other => Err(ApiError::confused(&other)),
    }
}

/// The refusal of who shows no token, or none that is known.
pub(super) fn stranger(request: &Request) -> Response {
    let (code, message) = match shows_token(request) {
        false => (
            "missing_result_token",
            "a result is handed in with the agent's own token, as bearer or X-Agent-Result-Token",
        ),
        true => (
            "invalid_result_token",
            "no agent of this broker has this token; it ends with the program that it was given to",
        ),
    };
    ApiError::new(401, code, message).response()
}
