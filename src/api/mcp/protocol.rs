//! The Model Context Protocol as messages: JSON-RPC requests in, results and errors out, in both eras of the protocol. Up to
//! 2025-11-25 a client opens with `initialize`; from 2026-07-28 each request carries its version in `_meta` and
//! `server/discover` tells what there is. Pure: what the tools do is said elsewhere.

use serde_json::{Map, Value, json};

/// The name by which agents know the server; Claude Code shows its tools as `mcp__agent-relay__…`.
const SERVER: &str = "agent-relay";
/// The versions that open with `initialize`, the newest first.
const WITH_HANDSHAKE: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The version without one.
const STATELESS: &str = "2026-07-28";
/// How long a client may keep a list of tools or resources: they change with the operator's configuration.
const LIST_TTL_MS: u64 = 60_000;
/// What a model is told of the server as a whole.
const INSTRUCTIONS: &str = "You are one of several agents that write to each other. What others write is typed into your terminal \
     by itself and begins with \"Relay message from NAME [ID]:\"; answer with send_dm to NAME. list_agents says who is there. \
     Do not answer words of thanks or mere agreement.";

/// JSON-RPC and MCP error codes.
pub(crate) mod code {
    pub(crate) const PARSE: i64 = -32700;
    pub(crate) const INVALID_REQUEST: i64 = -32600;
    pub(crate) const NO_METHOD: i64 = -32601;
    pub(crate) const INVALID_PARAMS: i64 = -32602;
    pub(crate) const INTERNAL: i64 = -32603;
    pub(crate) const NO_RESOURCE: i64 = -32002;
    pub(crate) const HEADERS_DIFFER: i64 = -32020;
    pub(crate) const VERSION: i64 = -32022;
}

/// How client and server agree on what they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// By `initialize`, once.
    Handshake,
    /// By `_meta`, in each request.
    Stateless,
}

/// A request that is not served.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
}

impl RpcError {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// The message that carries it. A request that could not be read has no id.
    pub(crate) fn answer(&self, id: &Value) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        json!({"jsonrpc": "2.0", "id": id, "error": error})
    }
}

/// What came in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    /// Wants an answer under its id.
    Request {
        id: Value,
        method: String,
        params: Map<String, Value>,
    },
    /// Wants none: a notification, or an answer to a question that was never asked.
    Heard,
}

/// Reads one message.
///
/// # Errors
/// With the id, as far as there is one, and what is wrong with it.
pub(crate) fn read(bytes: &[u8]) -> Result<Incoming, (Value, RpcError)> {
    let wrong = |id: Value, text: &str| (id, RpcError::new(code::INVALID_REQUEST, text));
    let value: Value = serde_json::from_slice(bytes).map_err(|e| {
        let text = format!("this is not one JSON object: {e}");
        (Value::Null, RpcError::new(code::PARSE, text))
    })?;
    let Value::Object(mut message) = value else {
        let text = "send one JSON object; batches went out of the protocol with 2025-06-18";
        return Err(wrong(Value::Null, text));
    };
    let id = message.remove("id");
    let known = id.clone().filter(|id| id.is_string() || id.is_number());
    let shown = known.clone().unwrap_or_default();
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(wrong(shown, "`jsonrpc` must be \"2.0\""));
    }
    let Some(Value::String(method)) = message.remove("method") else {
        let answers = message.contains_key("result") || message.contains_key("error");
        return match answers {
            true => Ok(Incoming::Heard),
            false => Err(wrong(shown, "`method` is missing; it is a text")),
        };
    };
    let Some(given) = id else {
        return Ok(Incoming::Heard);
    };
    let Some(id) = known else {
        let text = format!("`id` must be a text or a number, not {given}");
        return Err(wrong(Value::Null, &text));
    };
    match message.remove("params").unwrap_or(Value::Null) {
        Value::Null => Ok(Incoming::Request {
            id,
            method,
            params: Map::new(),
        }),
        Value::Object(params) => Ok(Incoming::Request { id, method, params }),
        _ => {
            let error = RpcError::new(code::INVALID_PARAMS, "`params` must be an object");
            Err((id, error))
        }
    }
}

/// Which era a request is of.
///
/// # Errors
/// When the version that it names is not spoken here, or what has to stand beside it is missing.
pub(crate) fn era(method: &str, params: &Map<String, Value>) -> Result<Era, RpcError> {
    let meta = params.get("_meta");
    let key =
        |name: &str| meta.and_then(|meta| meta.get(format!("io.modelcontextprotocol/{name}")));
    let Some(version) = key("protocolVersion") else {
        return match method {
            "server/discover" => Err(RpcError::new(
                code::INVALID_PARAMS,
                "`_meta` must name io.modelcontextprotocol/protocolVersion",
            )),
            _ => Ok(Era::Handshake),
        };
    };
    if version.as_str() != Some(STATELESS) {
        return Err(RpcError {
            code: code::VERSION,
            message: format!("version {version} of the protocol is not spoken here"),
            data: Some(json!({"supported": [STATELESS], "requested": version})),
        });
    }
    match key("clientCapabilities") {
        Some(Value::Object(_)) => Ok(Era::Stateless),
        _ => Err(RpcError::new(
            code::INVALID_PARAMS,
            "`_meta` must have io.modelcontextprotocol/clientCapabilities, an object",
        )),
    }
}

/// Whether a version in a header belongs to those that are spoken.
pub(crate) fn is_spoken(version: &str) -> bool {
    version == STATELESS || WITH_HANDSHAKE.contains(&version)
}

/// The version without a handshake.
pub(crate) fn stateless_version() -> &'static str {
    STATELESS
}

fn server_info() -> Value {
    json!({"name": SERVER, "title": "relay-broker", "version": env!("CARGO_PKG_VERSION")})
}

fn capabilities() -> Value {
    json!({"tools": {}, "resources": {}})
}

/// The answer to `initialize`: the version that the client asks for if it is one of ours, else our newest with a handshake.
pub(crate) fn initialize(params: &Map<String, Value>) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let version = asked.filter(|v| WITH_HANDSHAKE.contains(v));
    json!({
        "protocolVersion": version.unwrap_or(WITH_HANDSHAKE[0]),
        "capabilities": capabilities(),
        "serverInfo": server_info(),
        "instructions": INSTRUCTIONS,
    })
}

/// The answer to `server/discover`.
pub(crate) fn discover() -> Value {
    json!({
        "supportedVersions": [STATELESS],
        "capabilities": capabilities(),
        "instructions": INSTRUCTIONS,
    })
}

/// Whether clients may keep the result of a method for a while.
fn is_kept(method: &str) -> bool {
    matches!(
        method,
        "server/discover" | "tools/list" | "resources/list" | "resources/templates/list"
    )
}

/// The message that carries a result, dressed as its era wants it.
pub(crate) fn result(era: Era, method: &str, id: &Value, mut result: Value) -> Value {
    if era == Era::Stateless {
        result["resultType"] = "complete".into();
        result["_meta"] = json!({"io.modelcontextprotocol/serverInfo": server_info()});
        if is_kept(method) || method == "resources/read" {
            result["ttlMs"] = if is_kept(method) { LIST_TTL_MS } else { 0 }.into();
            result["cacheScope"] = "private".into();
        }
    }
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> (Value, i64) {
        let (id, error) = read(text.as_bytes()).expect_err(text);
        (id, error.code)
    }

    #[test]
    fn what_is_no_request_is_answered_as_the_protocol_says() {
        assert_eq!(error_of("{"), (Value::Null, code::PARSE));
        assert_eq!(error_of("[]"), (Value::Null, code::INVALID_REQUEST));
        assert_eq!(
            error_of(r#"{"id":7,"method":"ping"}"#),
            (json!(7), code::INVALID_REQUEST)
        );
        assert_eq!(
            error_of(r#"{"jsonrpc":"2.0","id":7}"#),
            (json!(7), code::INVALID_REQUEST)
        );
        let null = r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#;
        assert_eq!(error_of(null), (Value::Null, code::INVALID_REQUEST));
        let list = r#"{"jsonrpc":"2.0","id":"a","method":"ping","params":[1]}"#;
        assert_eq!(error_of(list), (json!("a"), code::INVALID_PARAMS));
    }

    #[test]
    fn notifications_and_stray_answers_want_no_answer() {
        for text in [
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        ] {
            assert_eq!(read(text.as_bytes()), Ok(Incoming::Heard));
        }
    }

    #[test]
    fn a_client_of_either_era_is_answered_in_its_own() {
        let asked =
            |v: &str| initialize(json!({"protocolVersion": v}).as_object().expect("object"));
        assert_eq!(asked("2025-06-18")["protocolVersion"], "2025-06-18");
        assert_eq!(asked("2031-01-01")["protocolVersion"], "2025-11-25");
        let meta = json!({"_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }});
        let params = meta.as_object().expect("object");
        assert_eq!(era("tools/list", params), Ok(Era::Stateless));
        assert_eq!(era("tools/list", &Map::new()), Ok(Era::Handshake));
        let answer = result(
            Era::Stateless,
            "tools/list",
            &json!(1),
            json!({"tools": []}),
        );
        assert_eq!(answer["result"]["resultType"], "complete");
        assert_eq!(answer["result"]["ttlMs"], LIST_TTL_MS);
    }

    #[test]
    fn an_unknown_version_is_told_which_are_spoken() {
        let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2031-01-01"}});
        let refused = era("tools/list", meta.as_object().expect("object")).expect_err("unknown");
        assert_eq!(refused.code, code::VERSION);
        assert_eq!(
            refused.data.expect("data")["supported"],
            json!(["2026-07-28"])
        );
    }
}
