//! What agents can read by address instead of by tool: `relay://…`.

use serde_json::{Map, Value, json};

use super::protocol::{RpcError, code};
use super::run;
use crate::api::auth::Principal;
use crate::api::state::Api;
use crate::net::http::decode;

/// The answer to `resources/list`.
pub(super) fn list() -> Value {
    let row = |name: &str, about: &str| json!({"uri": format!("relay://{name}"), "name": name, "description": about, "mimeType": "application/json"});
    json!({"resources": [
        row("inbox", "What is unread for you"),
        row("agents", "Who is there"),
        row("channels", "The channels of the workspace"),
    ]})
}

/// The answer to `resources/templates/list`.
pub(super) fn templates() -> Value {
    let row = |path: &str, name: &str, about: &str| json!({"uriTemplate": format!("relay://{path}"), "name": name, "description": about, "mimeType": "application/json"});
    json!({"resourceTemplates": [
        row("channels/{name}/messages", "channel-messages", "The newest messages of a channel"),
        row("messages/{id}/thread", "message-thread", "The answers to a message"),
        row("dm/{id}", "conversation", "The messages of one of your conversations"),
    ]})
}

/// The answer to `resources/read`.
///
/// # Errors
/// When there is nothing at that address, or it cannot be read now.
pub(super) fn read(
    api: &Api,
    who: &Principal,
    params: &Map<String, Value>,
) -> Result<Value, RpcError> {
    let uri = params.get("uri").and_then(Value::as_str);
    let uri = uri.ok_or_else(|| RpcError::new(code::INVALID_PARAMS, "`uri` is missing"))?;
    let nothing = || RpcError {
        data: Some(json!({"uri": uri})),
        ..RpcError::new(
            code::NO_RESOURCE,
            format!("there is nothing at {uri}; resources/list names what there is"),
        )
    };
    let path = uri.strip_prefix("relay://").ok_or_else(nothing)?;
    let parts: Vec<String> = path.split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (tool, arguments) = match parts.as_slice() {
        ["inbox"] => ("check_inbox", json!({})),
        ["agents"] => ("list_agents", json!({})),
        ["channels"] => ("list_channels", json!({})),
        ["channels", name, "messages"] => ("list_messages", json!({"channel": name})),
        ["messages", id, "thread"] => ("get_message_thread", json!({"message_id": id})),
        ["dm", id] => return conversation(api, who, uri, id),
        _ => return Err(nothing()),
    };
    let call = json!({"name": tool, "arguments": arguments});
    let call = call.as_object().cloned().unwrap_or_default();
    let result = run::call(api, who, &call)?;
    if result["isError"] == true {
        let why = result["content"][0]["text"].as_str().unwrap_or_default();
        return Err(RpcError::new(code::INTERNAL, why));
    }
    Ok(contents(uri, &result["structuredContent"]))
}

fn conversation(api: &Api, who: &Principal, uri: &str, id: &str) -> Result<Value, RpcError> {
    let data = run::conversation(api, who, id).map_err(|why| RpcError::new(code::INTERNAL, why))?;
    Ok(contents(uri, &data))
}

fn contents(uri: &str, data: &Value) -> Value {
    json!({"contents": [{"uri": uri, "mimeType": "application/json", "text": data.to_string()}]})
}
