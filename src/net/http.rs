//! Requests and responses as values, so that a route can be tested without a socket.

pub use crate::wire::rest::encode;
use serde::Serialize;
use tungstenite::http::Uri;

use super::link::Socket;

/// One parsed request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` …
    pub method: String,
    /// The path as sent: still percent-encoded, without the query.
    pub path: String,
    /// The query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Headers with lower-case names.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Request {
    /// One of which only the headers matter, for tests.
    #[cfg(test)]
    pub fn with_headers(headers: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            headers: headers.iter().map(owned).collect(),
            ..Self::default()
        }
    }

    /// The same without its body.
    pub(super) fn head(&self) -> Self {
        Self {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: Vec::new(),
        }
    }

    /// The first header of that lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The first query value of that name.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The path's segments, each percent-decoded; text that is not UTF-8 is replaced.
    pub fn segments(&self) -> Vec<String> {
        self.path
            .split('/')
            .filter(|s| !s.is_empty())
            .map(decode)
            .collect()
    }

    /// The token of an `Authorization: Bearer` header.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.trim().split_once(' ')?;
        (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
    }

    /// Whether it asks for a WebSocket.
    pub fn wants_socket(&self) -> bool {
        self.header("upgrade")
            .is_some_and(|u| u.eq_ignore_ascii_case("websocket"))
    }
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body; its length is sent with it.
    pub body: Vec<u8>,
}

impl Response {
    /// JSON.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        // Bodies are plain structs and values; serde_json has no way to fail on them.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self {
            status,
            headers: vec![("content-type", "application/json".into())],
            body,
        }
    }

    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let headers = vec![("content-type", "text/plain; charset=utf-8".into())];
        Self {
            status,
            headers,
            body: body.into().into_bytes(),
        }
    }

    /// No body at all.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }
}

/// What a handler wants done with the connection.
pub enum HandlerOutcome {
    /// Answer, and keep the connection for the next request.
    Respond(Response),
    /// Answer the WebSocket handshake, then give the socket to this; the connection's thread ends with it.
    Upgrade(Box<dyn FnOnce(Socket) + Send>),
}

/// The host, without brackets, and the port that an address leads to. `None` where it names no host, or a port that is none:
/// the usual port of its scheme would lead elsewhere than it says.
pub fn endpoint(uri: &Uri) -> Option<(&str, u16)> {
    let authority = uri.authority()?;
    let place = authority.as_str().rsplit('@').next()?;
    let port = match place.strip_prefix(authority.host())? {
        "" if matches!(uri.scheme_str(), Some("https" | "wss")) => 443,
        "" => 80,
        port => port.strip_prefix(':')?.parse().ok().filter(|p| *p > 0)?,
    };
    let host = authority.host().trim_start_matches('[');
    let host = host.trim_end_matches(']');
    (!host.is_empty()).then_some((host, port))
}

/// Percent-decoding; `+` stays as it is.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[at], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_are_decoded_once() {
        let r = Request {
            path: "/v1/actions/spawn%3Aclaude/invoke".into(),
            ..Request::default()
        };
        assert_eq!(r.segments(), ["v1", "actions", "spawn:claude", "invoke"]);
        assert_eq!(decode("a%2"), "a%2");
        assert_eq!(decode("%25"), "%");
    }

    #[test]
    fn names_in_paths_are_encoded() {
        assert_eq!(encode("spawn:claude/ä"), "spawn%3Aclaude%2F%C3%A4");
    }

    #[test]
    fn a_bearer_token_is_found_whatever_the_case_of_its_scheme() {
        let r = Request {
            headers: vec![("authorization".into(), "bearer  x1 ".into())],
            ..Request::default()
        };
        assert_eq!(r.bearer(), Some("x1"));
    }
}
