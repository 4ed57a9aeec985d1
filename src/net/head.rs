//! The text of HTTP/1.1: heads in, heads out, and what makes a WebSocket handshake correct. Pure; whatever two readers
//! could understand differently is refused here.

use serde_json::json;

use super::http::{Request, Response, decode};

/// The most header lines of one request.
pub(super) const HEADERS: usize = 64;

/// Headers that decide who asks: of two, one reader would believe the first and another the last.
const SINGLE: [&str; 6] = [
    "host",
    "origin",
    "authorization",
    "x-api-key",
    "sec-websocket-key",
    "sec-websocket-version",
];

/// Why a request could not be read.
pub(super) enum Fault {
    /// The other side is gone, or there is nothing to say to it.
    Gone,
    /// Say this, then close.
    Answer(u16, &'static str, String),
}

/// A request's first part, with what the server itself must know of it.
pub(super) struct RequestHead {
    pub(super) request: Request,
    pub(super) http_10: bool,
    pub(super) keep: bool,
    pub(super) head_only: bool,
    pub(super) body: Framing,
    /// The body, if there is one, is in `request`.
    pub(super) body_read: bool,
    pub(super) expects_continue: bool,
}

pub(super) enum Framing {
    Length(usize),
    Chunked,
}

/// The key of a correct WebSocket handshake, or what to answer to anything else.
pub(super) fn handshake(head: &RequestHead) -> Result<String, Response> {
    let request = &head.request;
    let upgrades = request.wants_socket() && lists(request, "connection", "upgrade");
    if !upgrades || head.http_10 || head.head_only || request.method != "GET" {
        let mut response = plain(
            426,
            "upgrade_required",
            "this path is a WebSocket; connect to it with ws://",
        );
        response.headers.push(("upgrade", "websocket".into()));
        return Err(response);
    }
    if request.header("sec-websocket-version").map(str::trim) != Some("13") {
        let mut response = plain(
            426,
            "upgrade_required",
            "only version 13 of the WebSocket protocol is spoken here",
        );
        response
            .headers
            .push(("sec-websocket-version", "13".into()));
        return Err(response);
    }
    match request.header("sec-websocket-key").map(str::trim) {
        // 16 bytes as base64.
        Some(key) if key.len() == 24 => Ok(key.to_owned()),
        _ => Err(plain(
            400,
            "bad_request",
            "the WebSocket handshake has no valid Sec-WebSocket-Key",
        )),
    }
}

/// How an answer is framed on the wire.
pub(super) struct AnswerFraming {
    pub(super) http_10: bool,
    pub(super) head_only: bool,
    pub(super) keep: bool,
}

impl AnswerFraming {
    pub(super) fn of(head: &RequestHead) -> Self {
        Self {
            http_10: head.http_10,
            head_only: head.head_only,
            keep: head.keep,
        }
    }
}

/// Where the empty line after the headers ends, looking from `from` on.
pub(super) fn end_of_head(buf: &[u8], from: usize) -> Option<usize> {
    (from..buf.len()).find_map(|at| {
        let rest = &buf[at..];
        if rest.starts_with(b"\n\r\n") {
            Some(at + 3)
        } else if rest.starts_with(b"\n\n") {
            Some(at + 2)
        } else {
            None
        }
    })
}

pub(super) fn parse_head(bytes: &[u8]) -> Result<RequestHead, Fault> {
    let mut slots = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut slots);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed("the request has no end")),
        Err(httparse::Error::TooManyHeaders) => {
            let message = format!("more than {HEADERS} headers");
            return Err(Fault::Answer(431, "head_too_large", message));
        }
        Err(e) => return Err(malformed(&format!("this is not an HTTP/1.1 request: {e}"))),
    }
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|h| {
            let value = String::from_utf8_lossy(h.value).trim().to_owned();
            (h.name.to_ascii_lowercase(), value)
        })
        .collect();
    let method = parsed.method.unwrap_or_default();
    let parsed_path = parsed.path.unwrap_or_default();
    let (path, query) = target(parsed_path);
    let http_10 = parsed.version == Some(0);
    let request = Request {
        // Whoever answers GET answers HEAD: the body is left away on the way out.
        method: if method == "HEAD" { "GET" } else { method }.to_owned(),
        path,
        query,
        headers,
        body: Vec::new(),
    };
    for name in SINGLE {
        if request.headers.iter().filter(|(n, _)| n == name).count() > 1 {
            return Err(malformed(&format!("more than one {name} header")));
        }
    }
    if names_another(parsed_path, request.header("host")) {
        return Err(malformed(
            "the request line names another server than the Host header",
        ));
    }
    let keep = if http_10 {
        lists(&request, "connection", "keep-alive")
    } else {
        !lists(&request, "connection", "close")
    };
    Ok(RequestHead {
        http_10,
        keep,
        head_only: method == "HEAD",
        body: framing(&request, http_10)?,
        body_read: true,
        expects_continue: !http_10 && lists(&request, "expect", "100-continue"),
        request,
    })
}

/// How long the body is. Anything two readers could understand differently is refused: that is how requests are smuggled.
fn framing(request: &Request, http_10: bool) -> Result<Framing, Fault> {
    let all = |name: &'static str| {
        let of_name = move |(n, v): &'_ (String, String)| (n == name).then(|| v.clone());
        request.headers.iter().filter_map(of_name)
    };
    let encodings: Vec<String> = all("transfer-encoding").collect();
    let lengths: Vec<String> = all("content-length").collect();
    match (encodings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [length]) => {
            let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
            match length.parse() {
                Ok(length) if digits => Ok(Framing::Length(length)),
                // More digits than a number holds is a body no limit allows.
                _ if digits => Ok(Framing::Length(usize::MAX)),
                _ => Err(malformed("Content-Length is not a number")),
            }
        }
        ([coding], []) if !http_10 && coding.eq_ignore_ascii_case("chunked") => {
            Ok(Framing::Chunked)
        }
        ([_], []) if !http_10 => Err(Fault::Answer(
            501,
            "unsupported_encoding",
            "of all transfer encodings only `chunked` is understood".into(),
        )),
        _ => Err(malformed("the length of the body is said in two ways")),
    }
}

/// Whether a request target names its server, and not the one of the `Host` header.
fn names_another(target: &str, host: Option<&str>) -> bool {
    match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            !host.is_some_and(|host| host.eq_ignore_ascii_case(&rest[..end]))
        }
        _ => false,
    }
}

/// Path and decoded query of a request target, also of one that names its server.
fn target(text: &str) -> (String, Vec<(String, String)>) {
    let local = match text.split_once("://") {
        Some((_, rest)) if !text.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => text,
    };
    let local = local.split('#').next().unwrap_or_default();
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    let pairs = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // Forms write a blank as `+`.
            let plain = |text: &str| decode(&text.replace('+', " "));
            (plain(name), plain(value))
        })
        .collect();
    (path.to_owned(), pairs)
}

/// Whether a header that holds a list names this word.
fn lists(request: &Request, header: &str, word: &str) -> bool {
    request
        .headers
        .iter()
        .filter(|(name, _)| name == header)
        .flat_map(|(_, value)| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(word))
}

pub(super) fn chunk_size(line: &[u8]) -> Option<usize> {
    let line = std::str::from_utf8(line).ok()?;
    let digits = line.split(';').next()?.trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    usize::from_str_radix(digits, 16).ok()
}

pub(super) fn head_of(response: &Response, frame: &AnswerFraming, keep: bool) -> String {
    use std::fmt::Write;
    let status = response.status;
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in &response.headers {
        // A line break in a value would let it write headers of its own.
        if !value.chars().any(char::is_control) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    if status >= 200 && status != 204 && status != 304 {
        let _ = write!(head, "content-length: {}\r\n", response.body.len());
    }
    if !keep {
        head.push_str("connection: close\r\n");
    } else if frame.http_10 {
        head.push_str("connection: keep-alive\r\n");
    }
    head.push_str("\r\n");
    head
}

pub(super) fn plain(status: u16, code: &str, message: &str) -> Response {
    Response::json(status, &json!({"code": code, "message": message}))
}

pub(super) fn malformed(message: &str) -> Fault {
    Fault::Answer(400, "bad_request", message.to_owned())
}

/// The standard phrase: some clients compare it.
fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
