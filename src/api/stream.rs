//! The two WebSockets that clients of the wire contract use: the event stream ([local-api 3.1](crate::docs::local_api#3.1))
//! and terminal input with acknowledgements ([local-api 2.5](crate::docs::local_api#2.5)). Each sleeps in one `poll` and
//! wakes for nothing but news and its pings.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::TryRecvError;
use serde_json::{Value, json};
use tungstenite::Message;

use super::auth::Principal;
use super::own_events::OwnEvents;
use super::render::{ApiError, finish};
use super::state::Api;
use super::terminal::{lookup, type_bytes};
use super::{routes, terminal};
use crate::ids::AgentName;
use crate::net::{HandlerOutcome, LinkError, Request, Response, Socket, WebSocketLink};
use crate::pubsub::Topic;
use crate::registry::AgentHandle;
use crate::sys::clock;
use crate::sys::wake::Wake;
use crate::time::Mono;
use crate::wire::event::{BrokerEvent, Numbered};

/// Between pings.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A client that has answered no ping for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(95);

/// Close codes (RFC 6455).
pub(crate) mod code {
    pub(crate) const NORMAL: u16 = 1000;
    pub(crate) const GOING_AWAY: u16 = 1001;
    pub(crate) const INTERNAL: u16 = 1011;
    pub(crate) const TRY_AGAIN: u16 = 1013;
}

/// 426 for who comes without a WebSocket, before anything is done for them.
pub(crate) fn need_socket(request: &Request) -> Result<(), ApiError> {
    if request.wants_socket() {
        return Ok(());
    }
    Err(ApiError::new(
        426,
        "upgrade_required",
        "this path is a WebSocket; connect to it with ws://",
    ))
}

/// Pings on time, and notices a client that has gone without a word.
pub(crate) struct Beat {
    next: Mono,
    heard: Mono,
}

impl Beat {
    pub(crate) fn new() -> Self {
        let now = clock::now().mono;
        Self {
            next: now + PING_EVERY,
            heard: now,
        }
    }

    /// Something came in.
    pub(crate) fn heard(&mut self) {
        self.heard = clock::now().mono;
    }

    /// Pings if it is time; says how long to sleep at most.
    pub(crate) fn keep(
        &mut self,
        link: &mut WebSocketLink<TcpStream>,
    ) -> Result<Duration, LinkError> {
        let now = clock::now().mono;
        if now.since(self.heard) > SILENCE_MAX {
            return Err(LinkError::Broken("it answers no pings".into()));
        }
        if now >= self.next {
            link.send(Message::Ping(Vec::new().into()))?;
            self.next = now + PING_EVERY;
        }
        Ok(self.next.since(now))
    }
}

/// Runs a stream's loop and logs how it ended; a client that leaves is no news.
pub(crate) fn upgrade(
    what: String,
    run: impl FnOnce(&mut WebSocketLink<TcpStream>) -> Result<(), LinkError> + Send + 'static,
) -> HandlerOutcome {
    HandlerOutcome::Upgrade(Box::new(move |socket: Socket| {
        let mut link = WebSocketLink::new(socket);
        match run(&mut link) {
            Ok(()) | Err(LinkError::Closed(_)) => {}
            Err(e) => log::debug!("{what} ended: {e}"),
        }
    }))
}

/// A system call that failed, as the end of a link.
pub(crate) fn broken(e: std::io::Error) -> LinkError {
    LinkError::Broken(e.to_string())
}

/// `GET /ws`.
pub(crate) fn events(
    api: &Arc<Api>,
    who: &Principal,
    request: &Request,
) -> Result<HandlerOutcome, ApiError> {
    need_socket(request)?;
    let since = routes::since(request)?;
    let own = OwnEvents::of(api, who).map_err(no_descriptors)?;
    let topic = api.context.events.clone();
    Ok(upgrade("an event stream".into(), move |link| {
        write_events(link, &topic, since, own)
    }))
}

fn write_events(
    link: &mut WebSocketLink<TcpStream>,
    topic: &Topic<Arc<str>>,
    since: Option<u64>,
    mut own: Option<OwnEvents>,
) -> Result<(), LinkError> {
    let subscription = match topic.subscribe(since) {
        Ok(subscription) => subscription,
        Err(e) => {
            link.close(code::TRY_AGAIN, "no descriptors left; try again later");
            return Err(broken(e));
        }
    };
    // Who names no number wants what happens from now on: screens that count events must not count old ones.
    let since = since.unwrap_or(subscription.newest);
    let gap = subscription
        .gap
        .map(|oldest| (oldest - 1, gap(since, oldest, subscription.missing)));
    let kept = subscription.replay.iter().cloned();
    let mut backlog: VecDeque<(u64, Arc<str>)> = gap.into_iter().chain(kept).collect();
    let mut last = since;
    let mut beat = Beat::new();
    loop {
        while link.next()?.is_some() {
            beat.heard();
        }
        // One message at a time: what the socket does not take stays in bounded queues.
        while !link.has_unsent() {
            let text = match backlog.pop_front() {
                Some((number, text)) => {
                    last = number;
                    text
                }
                None => match subscription.items.try_recv() {
                    Ok(text) => {
                        last = number(&text).unwrap_or(last);
                        text
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        if subscription.lagged() {
                            let why = format!("too slow; reconnect with sinceSeq={last}");
                            link.close(code::TRY_AGAIN, &why);
                        } else {
                            link.close(code::GOING_AWAY, "the broker is stopping");
                        }
                        return Ok(());
                    }
                },
            };
            if own.as_mut().is_none_or(|own| own.has(&text)) {
                link.send(Message::text(&*text))?;
            }
        }
        let limit = beat.keep(link)?;
        link.wait(&subscription.items, Some(limit))
            .map_err(broken)?;
        subscription.items.clear();
    }
}

/// The event that tells of missing ones. Its number is the one before the oldest kept, so that a client who is cut off
/// during the replay asks again for what it has not seen.
fn gap(requested: u64, oldest: u64, dropped: u64) -> Arc<str> {
    let event = Numbered {
        seq: None,
        timestamp: Some(clock::now().wall),
        event: BrokerEvent::ReplayGap {
            requested_since_seq: requested,
            oldest_available: oldest,
            dropped_count: dropped,
            seq: oldest - 1,
        },
    };
    // A plain struct with text keys: serde_json has no way to fail on it.
    serde_json::to_string(&event).unwrap_or_default().into()
}

/// The number of a rendered event, which always comes first in it.
fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix(r#"{"seq":"#)?;
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    digits[..end].parse().ok()
}

fn no_descriptors(e: std::io::Error) -> ApiError {
    ApiError::new(503, "no_descriptors", format!("cannot look: {e}")).retryable()
}

/// `GET /api/events/replay`.
pub(crate) fn replay(api: &Api, who: &Principal, request: &Request) -> Result<Response, ApiError> {
    let since = routes::since(request)?.unwrap_or(0);
    let mut own = OwnEvents::of(api, who).map_err(no_descriptors)?;
    let kept = api.context.events.subscribe(Some(since));
    let kept = kept.map_err(no_descriptors)?;
    let oldest = kept.oldest;
    let dropped = kept.missing;
    // The events are JSON already; reading them to write them again would be the larger work.
    let texts = kept.replay.iter().map(|(_, text)| &**text);
    let texts = texts.filter(|text| own.as_mut().is_none_or(|own| own.has(text)));
    let texts: Vec<&str> = texts.collect();
    let body = format!(
        r#"{{"events":[{}],"gap":{},"oldestAvailable":{oldest},"droppedCount":{dropped},"currentSeq":{}}}"#,
        texts.join(","),
        kept.gap.is_some(),
        kept.newest,
    );
    Ok(finish(Response {
        status: 200,
        headers: vec![("content-type", "application/json".into())],
        body: body.into_bytes(),
    }))
}

/// `GET /api/input/{name}/stream`.
pub(crate) fn input(
    api: &Arc<Api>,
    name: Option<&str>,
    request: &Request,
) -> Result<HandlerOutcome, ApiError> {
    let (name, handle) = lookup(api, name)?;
    need_socket(request)?;
    let limit = api.input_limit;
    Ok(upgrade(format!("an input stream of {name}"), move |link| {
        take_input(link, &name, &handle, limit)
    }))
}

fn take_input(
    link: &mut WebSocketLink<TcpStream>,
    name: &AgentName,
    handle: &AgentHandle,
    limit: Duration,
) -> Result<(), LinkError> {
    say(link, &json!({"type": "pty_input_ready", "name": name}))?;
    // Nothing but the socket wakes this stream.
    let never = Wake::new().map_err(broken)?;
    let mut beat = Beat::new();
    loop {
        while let Some(message) = link.next()? {
            beat.heard();
            let bytes = match message {
                Message::Text(text) => keys(&text),
                Message::Binary(bytes) => Ok(bytes.to_vec()),
                _ => continue,
            };
            // Waiting here keeps the answers in order; meanwhile the socket holds what comes.
            match bytes.and_then(|bytes| terminal::type_bytes(handle, bytes, limit)) {
                Ok(count) => say(
                    link,
                    &json!({"type": "pty_input_ack", "name": name, "bytes_written": count}),
                )?,
                Err(e) => {
                    say(
                        link,
                        &json!({"type": "pty_input_error", "name": name, "code": e.code, "message": e.message,
                                "retryable": false, "statusCode": e.status}),
                    )?;
                    if !matches!(
                        e.code,
                        "worker_timeout" | "pty_write_queue_full" | "invalid_request"
                    ) {
                        link.close(code::INTERNAL, e.code);
                        return Ok(());
                    }
                }
            }
        }
        let sleep = beat.keep(link)?;
        link.wait(&never, Some(sleep)).map_err(broken)?;
    }
}

/// Sends one JSON object.
pub(crate) fn say(link: &mut WebSocketLink<TcpStream>, what: &Value) -> Result<(), LinkError> {
    link.send(Message::text(what.to_string()))
}

/// What a text frame types: itself, unless it is the one command that carries text. That command without text is a client's
/// mistake, and no keys.
fn keys(text: &str) -> Result<Vec<u8>, ApiError> {
    if text.starts_with('{')
        && let Ok(Value::Object(mut map)) = serde_json::from_str(text)
        && map.get("type").and_then(Value::as_str) == Some("pty_input")
    {
        return match map.remove("data") {
            Some(Value::String(data)) => Ok(data.into_bytes()),
            _ => Err(ApiError::invalid(
                "`data` is missing; it is the text to type",
            )),
        };
    }
    Ok(text.as_bytes().to_vec())
}

/// `GET …/agent-events/history`: what harnesses report that speak a protocol of their own; none of them runs here, so an
/// agent that exists has reported nothing.
pub(crate) fn agent_events(
    api: &Api,
    name: Option<&str>,
    request: &Request,
) -> Result<Value, ApiError> {
    let since = routes::since(request)?.unwrap_or(0);
    let name = routes::agent(name)?;
    let kept = api.context.events.subscribe(Some(since)).map_err(|e| {
        ApiError::new(503, "no_descriptors", format!("cannot look: {e}")).retryable()
    })?;
    let texts = kept.replay.iter();
    let events: Vec<Value> = texts
        .filter_map(|(number, text)| agent_event(&name, *number, text))
        .collect();
    if events.is_empty() && api.context.registry.get(&name).is_none() {
        return Err(ApiError::no_agent(name.as_str()));
    }
    Ok(json!({
        "protocol_version": 1,
        "name": name,
        "events": events,
        "high_water_sequence": kept.newest,
        "oldest_available_sequence": kept.oldest,
        "gap": kept.gap.is_some(),
    }))
}

/// An event that is kept, if it is about this agent.
fn agent_event(name: &AgentName, number: u64, text: &str) -> Option<Value> {
    let event: Value = serde_json::from_str(text).ok()?;
    (event["name"] == name.as_str()).then(|| {
        json!({
            "protocol_version": 1,
            "name": name,
            "sequence": number,
            "timestamp": event["timestamp"],
            "event": event,
        })
    })
}

/// `POST /api/input/{name}`.
pub(crate) fn input_once(
    api: &Api,
    name: Option<&str>,
    request: &Request,
) -> Result<Value, ApiError> {
    let bytes = routes::input(request)?;
    let (name, handle) = lookup(api, name)?;
    let count = type_bytes(&handle, bytes, api.input_limit)?;
    Ok(json!({"name": name, "bytes_written": count}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_command_is_not_typed_as_it_is() {
        let typed = |text: &str| keys(text).map_err(|e| e.code);
        assert_eq!(
            typed(r#"{"type":"pty_input","data":"ls\r"}"#),
            Ok(b"ls\r".to_vec())
        );
        for text in ["ls", "{", r#"{"type":"other","data":"x"}"#] {
            assert_eq!(typed(text), Ok(text.as_bytes().to_vec()));
        }
        for mistake in [
            r#"{"type":"pty_input"}"#,
            r#"{"type":"pty_input","data":1}"#,
        ] {
            assert_eq!(typed(mistake), Err("invalid_request"), "{mistake}");
        }
    }

    #[test]
    fn the_number_of_an_event_is_read_off_its_front() {
        assert_eq!(number(r#"{"seq":42,"kind":"agent_idle"}"#), Some(42));
        assert_eq!(number(r#"{"kind":"worker_stream"}"#), None);
    }
}
