//! What an HTTP call is, and how it is answered or refused ([engine-protocol 1.4](crate::docs::engine_protocol#1.4)). The
//! floor of the HTTP side: it knows no route and no handler.

use serde_json::{Map, Value, json};

use crate::domain::Mode;
use crate::engine::id::Id;

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
pub type HttpAnswer = Result<Done, HttpRefusal>;

/// An unsuccessful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRefusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

/// Makes a refusal.
pub fn refuse(status: u16, code: &'static str, message: impl Into<String>) -> HttpRefusal {
    HttpRefusal {
        status,
        code,
        message: message.into(),
    }
}

/// Body or query is not what it must be.
pub fn invalid(message: impl Into<String>) -> HttpRefusal {
    refuse(400, "invalid_request", message)
}

/// 204.
pub fn nothing() -> HttpAnswer {
    Ok((204, Value::Null))
}

/// The body of a refusal.
pub fn refusal_body(code: &str, message: &str) -> Value {
    json!({"ok": false, "error": {"code": code, "message": message}})
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
    pub fn agent(&self) -> Result<Id, HttpRefusal> {
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
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, HttpRefusal> {
        match self.body.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(format!("\"{key}\" must be a string"))),
        }
    }

    /// A text of the body that must be there and not be empty.
    pub fn need(&self, key: &str) -> Result<&'a str, HttpRefusal> {
        self.text(key)?
            .filter(|t| !t.is_empty())
            .ok_or_else(|| invalid(format!("\"{key}\" is required")))
    }

    /// An optional object of the body.
    pub fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, HttpRefusal> {
        match self.body.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(invalid(format!("\"{key}\" must be an object"))),
        }
    }

    /// An optional list of texts of the body.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, HttpRefusal> {
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
    pub fn count(&self, key: &str) -> Result<Option<u64>, HttpRefusal> {
        match self.body.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| invalid(format!("\"{key}\" must be a whole number"))),
        }
    }

    /// `mode`.
    pub fn mode(&self) -> Result<Mode, HttpRefusal> {
        match self.text("mode")? {
            None | Some("wait") => Ok(Mode::Wait),
            Some("steer") => Ok(Mode::Steer),
            Some(_) => Err(invalid("\"mode\" must be \"wait\" or \"steer\"")),
        }
    }
}
