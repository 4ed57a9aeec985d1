//! What a server is given by whoever starts it: who answers, and how much strangers may take.

use std::time::Duration;

use super::head::plain;
use super::http::{HandlerOutcome, Request, Response};

/// Answers requests. Called on the connection's own thread, so it may block. A `HEAD` request arrives as `GET`; the
/// server leaves the body of the answer away.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request) -> HandlerOutcome;

    /// Whether a request shows by its head that its sender may ask; its body is not read yet. Asked again after the answer,
    /// for where only answers tell who may. Who is not known is a stranger: may be put out in the middle of an answer, and
    /// has little time for everything.
    fn knows(&self, _head: &Request) -> bool {
        true
    }

    /// Words the server's own refusals as this handler's clients read them.
    fn refuse(&self, status: u16, code: &'static str, message: &str) -> Response {
        plain(status, code, message)
    }
}

/// Bounds on what a stranger can make the server hold.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at one time, WebSockets aside. When all are taken, one is closed to make room: the oldest of a stranger,
    /// of those who have asked for something before those who have not yet, else the one that has waited longest for a
    /// request, else one that does not read its answer; if all are at work for somebody known, the new one gets 503.
    pub connections: usize,
    /// WebSockets at one time; one more gets 503. They stay for as long as their owners like, so they have places of their
    /// own and take none from callers.
    pub sockets: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Bytes of a request's body; more gets 413.
    pub body_bytes: usize,
    /// The same for a stranger: the request is answered without its body.
    pub stranger_body_bytes: usize,
    /// Bytes of one WebSocket message.
    pub frame_bytes: usize,
    /// From the first byte of a head to its last.
    pub head_time: Duration,
    /// From the end of the head to the end of the body.
    pub body_time: Duration,
    /// Between requests on one connection.
    pub idle_time: Duration,
    /// For reading an answer.
    pub write_time: Duration,
    /// Both of the last, for strangers: who never showed a key.
    pub stranger_time: Duration,
    /// How long each connection may keep its place to show a key, however many others want one; they wait meanwhile.
    pub newcomer_time: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            sockets: 64,
            head_bytes: 16 * 1024,
            body_bytes: 8 * 1024 * 1024,
            stranger_body_bytes: 8 * 1024 * 1024,
            frame_bytes: 4 * 1024 * 1024,
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            stranger_time: Duration::from_secs(10),
            newcomer_time: Duration::from_millis(250),
        }
    }
}
