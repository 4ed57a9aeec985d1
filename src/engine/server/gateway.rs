//! The engine's connections, each on a thread of its own: requests are carried to the core and answers back, WebSockets
//! pump frames both ways. Nothing is decided here; a connection that ends says so, however it ended.

use std::net::TcpStream;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use serde_json::{Map, Value};
use tungstenite::Message;

use super::faults::NetworkFaults;
use super::known::KnownTokens;
use super::words::{EngineInbound, QUEUE, REPORT, Timed, Word};
use crate::engine::event::SocketKind;
#[cfg(feature = "faults")]
use crate::engine::faults::{Orders, ROUTE};
use crate::engine::http::call::{HttpCall, refusal_body};
use crate::engine::live::ConnId;
use crate::net::callers::check_caller;
use crate::net::{Handler, HandlerOutcome, Request, Response, Socket, WebSocketLink};
use crate::sys::{clock, entropy, wake};
use crate::time::Mono;

/// What the HTTP server calls, on each connection's own thread.
pub struct Gateway {
    pub inbox: Sender<EngineInbound>,
    pub faults: Arc<NetworkFaults>,
    /// Whom the core believed.
    pub known: KnownTokens,
    /// It listens on loopback, where the programs of this machine are, and the pages that they show.
    pub local: bool,
}

/// Tells the core that a connection is over, however that came about.
struct Leave {
    conn: ConnId,
    inbox: Sender<EngineInbound>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let _ = self.inbox.send(EngineInbound::Closed { conn: self.conn });
    }
}

fn stopping() -> HandlerOutcome {
    let body = refusal_body("internal_error", "The engine is stopping");
    HandlerOutcome::Respond(Response::json(503, &body))
}

fn respond(status: u16, body: Option<Value>) -> HandlerOutcome {
    HandlerOutcome::Respond(match body {
        Some(body) => Response::json(status, &body),
        None => Response::empty(status),
    })
}

impl Handler for Gateway {
    fn refuse(&self, status: u16, code: &'static str, message: &str) -> Response {
        Response::json(status, &refusal_body(code, message))
    }

    fn handle(&self, request: Request) -> HandlerOutcome {
        if self.local
            && let Err(why) = check_caller(&request, &[])
        {
            return HandlerOutcome::Respond(self.refuse(403, "forbidden", &why));
        }
        let segments = request.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let kind = match path.as_slice() {
            ["v1", "node", "ws"] => Some(SocketKind::Node),
            ["v1", "ws"] => Some(SocketKind::Stream),
            _ => None,
        };
        match kind {
            Some(kind) if request.wants_socket() => self.open(&request, kind),
            Some(_) => {
                let body = refusal_body("upgrade_required", "This route is a WebSocket");
                HandlerOutcome::Respond(Response::json(426, &body))
            }
            #[cfg(feature = "faults")]
            None if path == [ROUTE] => self.order(request, segments),
            None => {
                self.faults.hold_requests();
                let answer = self.call(request, segments);
                self.faults.linger();
                answer
            }
        }
    }

    fn knows(&self, head: &Request) -> bool {
        token(head).is_some_and(|token| self.known.has(token))
    }
}

/// A token in the query wins, but an empty one hides nothing (engine-protocol 1.2).
fn token(request: &Request) -> Option<&str> {
    let query = request.query("token").filter(|t| !t.is_empty());
    query.or_else(|| request.bearer())
}

impl Gateway {
    /// Takes orders for faults, if this engine does; whatever faults there are.
    #[cfg(feature = "faults")]
    fn order(&self, request: Request, segments: Vec<String>) -> HandlerOutcome {
        let orders = body(&request).and_then(|body| Orders::read(&body).ok());
        let answer = self.call(request, segments);
        if let (HandlerOutcome::Respond(response), Some(orders)) = (&answer, orders)
            && response.status == 200
        {
            self.faults.obey(&orders);
        }
        answer
    }

    fn call(&self, request: Request, segments: Vec<String>) -> HandlerOutcome {
        let Ok(entropy) = entropy::bytes::<32>() else {
            return stopping();
        };
        let key = ["idempotency-key", "x-idempotency-key"]
            .iter()
            .find_map(|name| request.header(name));
        let proof = request.header("x-relaycast-node-token").map(str::to_owned);
        let bearer = request.bearer().map(str::to_owned);
        let asks_anybody = is_open(&segments);
        let call = HttpCall {
            segments,
            bearer: bearer.clone(),
            idempotency_key: key.map(|k| k.trim().to_owned()),
            body: body(&request),
            method: request.method,
            query: request.query,
        };
        let (reply, answer) = bounded(1);
        let asked = EngineInbound::Http {
            call,
            proof,
            entropy,
            reply,
        };
        match self.ask(asked, &answer) {
            Some((status, body)) => {
                if let Some(token) = bearer.filter(|_| !asks_anybody) {
                    self.learn(&token, status);
                }
                respond(status, body)
            }
            None => stopping(),
        }
    }

    /// What an answer tells of the token that was shown: other refusals than 401 have reasons of their own.
    fn learn(&self, token: &str, status: u16) {
        match status {
            200..300 => self.known.add(token),
            401 => self.known.remove(token),
            _ => {}
        }
    }

    fn ask<T>(&self, inbound: EngineInbound, answer: &Receiver<T>) -> Option<T> {
        self.inbox.send(inbound).ok()?;
        answer.recv().ok()
    }

    fn open(&self, request: &Request, kind: SocketKind) -> HandlerOutcome {
        self.faults.hold_requests();
        let token = token(request).map(str::to_owned);
        let Ok((queue, words)) = wake::mailbox(QUEUE) else {
            return stopping();
        };
        let (reply, answer) = bounded(1);
        let asked = EngineInbound::Socket {
            kind,
            token: token.clone(),
            queue,
            reply,
        };
        let admission = self.ask(asked, &answer);
        if let (Some(token), Some(admission)) = (token, &admission) {
            self.learn(
                &token,
                admission
                    .as_ref()
                    .map_or_else(|(status, _)| *status, |_| 200),
            );
        }
        let conn = match admission {
            Some(Ok(conn)) => conn,
            Some(Err((status, body))) => return respond(status, body),
            None => return stopping(),
        };
        self.faults.linger();
        let faults = self.faults.clone();
        let leave = Leave {
            conn,
            inbox: self.inbox.clone(),
        };
        HandlerOutcome::Upgrade(Box::new(move |socket: Socket| {
            if let Err(why) = serve(WebSocketLink::new(socket), &leave, &words, &faults) {
                log::debug!("embedded engine: connection {conn} ended: {why}");
            }
        }))
    }
}

/// Whether a call is answered whoever asks, so that its answer says nothing about the asker.
fn is_open(segments: &[String]) -> bool {
    match segments {
        [v1, rest @ ..] if v1 == "v1" => rest.first().is_some_and(|word| word == "workspaces"),
        _ => true,
    }
}

/// The request's body as JSON; an empty one, or one that nobody asked for, counts as `{}`.
fn body(request: &Request) -> Option<Value> {
    let empty = Some(Value::Object(Map::new()));
    if request.method == "GET" || request.body.iter().all(u8::is_ascii_whitespace) {
        return empty;
    }
    serde_json::from_slice(&request.body).ok()
}

/// Carries frames both ways until either side ends it.
fn serve(
    mut link: WebSocketLink<TcpStream>,
    leave: &Leave,
    words: &wake::Receiver<Timed>,
    faults: &NetworkFaults,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut written = 0;
    let mut late: Option<(Mono, Word)> = None;
    loop {
        faults.hold_sockets();
        words.clear();
        // What the socket does not take stays in the queue, where it is counted.
        while !link.has_unsent() {
            let next = match late.take() {
                Some((due, word)) => Ok((Some(due), word)),
                None => words.try_recv(),
            };
            match next {
                Ok((Some(due), word)) if due > clock::now().mono => {
                    late = Some((due, word));
                    break;
                }
                Ok((_, Word::Text(text))) => {
                    link.send(Message::text(text))?;
                    written += 1;
                }
                Ok((_, Word::Close(code, reason))) => {
                    link.close(code, reason);
                    return Ok(());
                }
                Ok((_, Word::Cut)) => return Ok(()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    link.close(1013, "too slow");
                    return Ok(());
                }
            }
        }
        if written >= REPORT && !link.has_unsent() {
            let frames = std::mem::take(&mut written);
            let conn = leave.conn;
            leave.inbox.send(EngineInbound::Drained { conn, frames })?;
        }
        while let Some(message) = link.next()? {
            if let Message::Text(text) = message {
                let frame = EngineInbound::Frame {
                    conn: leave.conn,
                    text: text.as_str().to_owned(),
                    entropy: entropy::bytes()?,
                };
                leave.inbox.send(frame)?;
            }
        }
        let limit = late.as_ref().map(|(due, _)| due.since(clock::now().mono));
        link.wait(words, limit)?;
    }
}
