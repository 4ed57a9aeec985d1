//! `WS /api/fleet/ws`: a program in any language registers handlers for actions, is invoked, and can spawn, send and
//! release ([local-api 6.1](crate::docs::local_api#6.1)). Frames are version-2 envelopes; each request is answered with its
//! `request_id`. Calls that wait for a process or the engine run on threads of their own, so that invocations go on
//! meanwhile.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::TryRecvError;
use serde_json::{Map, Value, json};
use tungstenite::Message;

use super::render::{ApiError, reply};
use super::state::{Api, LONG, SHORT};
use super::stream::{Beat, broken, code, need_socket, upgrade};
use super::terminal::{lookup, type_bytes};
use super::{routes, status};
use crate::domain::Outcome;
use crate::ids::{InvocationId, SidecarId};
use crate::msg::{Answer, ApiCall, RefusalKind, Reply, SidecarCall, SidecarPush, SpawnSource};
use crate::net::{HandlerOutcome, LinkError, Request, WebSocketLink};
use crate::sys::wake::{Sender, mailbox};
use crate::sys::{limits, thread};
use crate::wire::local::{Manifest, Supervision};

/// How many pushes wait for one program. Full means that it does not read, and it is disconnected.
const PUSHES: usize = 256;
/// How many of its slow calls run at once; one more is refused.
const SLOW_CALLS: usize = 16;

/// Opens the connection.
pub(crate) fn serve(api: &Arc<Api>, request: &Request) -> Result<HandlerOutcome, ApiError> {
    need_socket(request)?;
    let api = api.clone();
    Ok(upgrade("a sidecar".into(), move |link| {
        let (sender, pushes) = mailbox(PUSHES).map_err(broken)?;
        let id = api.context.sidecars.open(sender.clone());
        let seat = Seat {
            api: api.clone(),
            id,
            sender,
            slow: Arc::default(),
        };
        let ended = seat.follow(link, &pushes);
        api.context.sidecars.close(id);
        // While the journal cannot be written nobody hears this; it must not get lost.
        let late = |answer: Answer| answer.is_err_and(|e| e.kind == RefusalKind::Timeout);
        while late((api.context.ask)(
            ApiCall::Sidecar(id, SidecarCall::Gone),
            LONG,
        )) {}
        ended
    }))
}

/// One connected program.
struct Seat {
    api: Arc<Api>,
    id: SidecarId,
    sender: Sender<SidecarPush>,
    slow: Arc<AtomicUsize>,
}

/// What a request comes to.
enum Done {
    Now(Value),
    /// Answered by a thread of its own.
    Later,
    /// Answered, and then the connection closes.
    Last(Value),
}

impl Seat {
    fn follow(
        &self,
        link: &mut WebSocketLink<TcpStream>,
        pushes: &crate::sys::wake::Receiver<SidecarPush>,
    ) -> Result<(), LinkError> {
        let mut beat = Beat::new();
        loop {
            while let Some(message) = link.next()? {
                beat.heard();
                let Message::Text(text) = message else {
                    continue;
                };
                let (answer, over) = self.hear(&text);
                if let Some(answer) = answer {
                    link.send(Message::text(answer))?;
                }
                if over {
                    link.close(code::NORMAL, "deregistered");
                    return Ok(());
                }
            }
            while !link.has_unsent() {
                match pushes.try_recv() {
                    Ok(push) => link.send(Message::text(frame(push)))?,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if !self.api.context.sidecars.is_open(self.id) {
                link.close(code::TRY_AGAIN, "too slow; connect again");
                return Ok(());
            }
            let limit = beat.keep(link)?;
            link.wait(pushes, Some(limit)).map_err(broken)?;
            pushes.clear();
        }
    }

    /// One frame in; its answer if it has one now, and whether that was the last.
    fn hear(&self, text: &str) -> (Option<String>, bool) {
        let Ok(Value::Object(mut envelope)) = serde_json::from_str(text) else {
            let e = ApiError::new(400, "invalid_frame", "the frame is no JSON object");
            return (Some(failed(&Value::Null, &e)), false);
        };
        let request_id = envelope.remove("request_id").unwrap_or_default();
        let kind = match envelope.get("type").and_then(Value::as_str) {
            Some(kind) => kind.to_owned(),
            None => {
                let e = ApiError::new(400, "invalid_frame", "the frame has no `type`");
                return (Some(failed(&request_id, &e)), false);
            }
        };
        let payload = match envelope.remove("payload") {
            Some(Value::Object(map)) => without_nulls(map),
            _ => Map::new(),
        };
        match self.request(&kind, payload, &request_id) {
            Ok(Done::Now(result)) => (Some(done(&request_id, &result)), false),
            Ok(Done::Later) => (None, false),
            Ok(Done::Last(result)) => (Some(done(&request_id, &result)), true),
            Err(e) => (Some(failed(&request_id, &e)), false),
        }
    }

    fn request(
        &self,
        kind: &str,
        mut payload: Map<String, Value>,
        request_id: &Value,
    ) -> Result<Done, ApiError> {
        let text = |map: &Map<String, Value>, key: &str| {
            let value = map.get(key).and_then(Value::as_str);
            value
                .map(str::to_owned)
                .ok_or_else(|| ApiError::new(400, "frame_failed", format!("`{key}` is missing")))
        };
        match kind {
            "hello" => Ok(Done::Now(json!({
                "broker_version": self.api.context.session.version,
                "protocol_version": status::PROTOCOL,
            }))),
            "register_node" => {
                let manifest: Manifest = routes::read(object_at(&mut payload, "manifest")?)?;
                let supervision = supervision(&mut payload)?;
                self.tell(SidecarCall::Node(Box::new(manifest), supervision))
            }
            "register_handlers" => {
                let names: Vec<String> =
                    serde_json::from_value(payload.remove("names").unwrap_or_default())
                        .map_err(|e| ApiError::new(400, "frame_failed", format!("`names`: {e}")))?;
                self.tell(SidecarCall::Handlers(names))
            }
            "handler_result" => {
                let invocation = InvocationId::new(text(&payload, "invocation_id")?);
                self.tell(SidecarCall::Result(invocation, outcome(&mut payload)?))
            }
            "deregister_node" => match self.tell(SidecarCall::Deregister)? {
                Done::Now(result) => Ok(Done::Last(result)),
                other => Ok(other),
            },
            "spawn_agent" => {
                let mut agent = object_at(&mut payload, "agent")?;
                if let Some(task) = payload.remove("initial_task") {
                    agent.insert("task".into(), task);
                }
                let call = routes::spawn_of(agent)?.call;
                let invocation = payload.get("invocation_id").and_then(Value::as_str);
                self.later(on_behalf(call, invocation), request_id)
            }
            "send_message" => self.later(routes::send_of(payload)?, request_id),
            "release_agent" => {
                let name = routes::agent(Some(&text(&payload, "name")?))?;
                self.later(ApiCall::Release { name, reason: None }, request_id)
            }
            "send_input" => {
                let name = text(&payload, "name")?;
                let (_, handle) = lookup(&self.api, Some(&name))?;
                let bytes = text(&payload, "data")?.into_bytes();
                let count = type_bytes(&handle, bytes, self.api.input_limit)?;
                Ok(Done::Now(json!({"name": name, "bytes_written": count})))
            }
            "subscribe_channels" | "unsubscribe_channels" => {
                let name = routes::agent(Some(&text(&payload, "name")?))?;
                let call = routes::channels(name, payload, kind == "subscribe_channels")?;
                let changed = self.api.ask(call, SHORT)?;
                Ok(Done::Now(body(&changed)))
            }
            "list_agents" => {
                let agents = self.api.ask(ApiCall::Agents, SHORT)?;
                Ok(Done::Now(body(&agents)))
            }
            "shutdown" => {
                (self.api.context.stop)();
                Ok(Done::Now(json!({"status": "shutting_down"})))
            }
            other => Err(ApiError::new(
                400,
                "invalid_frame",
                format!("frames of type {other:?} are not served here"),
            )),
        }
    }

    fn tell(&self, call: SidecarCall) -> Result<Done, ApiError> {
        match self.api.ask(ApiCall::Sidecar(self.id, call), SHORT)? {
            Reply::Sidecar(result) => Ok(Done::Now(result)),
            other => Err(ApiError::confused(&other)),
        }
    }

    /// Makes a call that may take long on a thread of its own.
    fn later(&self, call: ApiCall, request_id: &Value) -> Result<Done, ApiError> {
        let busy = || {
            let text = format!("{SLOW_CALLS} calls of this sidecar run already; wait for one");
            ApiError::new(429, "frame_failed", text).retryable()
        };
        if self.slow.fetch_add(1, Ordering::AcqRel) >= SLOW_CALLS {
            self.slow.fetch_sub(1, Ordering::AcqRel);
            return Err(busy());
        }
        let (api, sender, slow) = (self.api.clone(), self.sender.clone(), self.slow.clone());
        let request_id = request_id.clone();
        let started = thread::start("api:sidecar", 128, move || {
            let text = match api.ask(call, LONG) {
                Ok(reply) => done(&request_id, &body(&reply)),
                Err(e) => failed(&request_id, &e),
            };
            slow.fetch_sub(1, Ordering::AcqRel);
            // A program that is gone needs no answer.
            let _ = sender.try_send(SidecarPush::Answer(text));
        });
        match started {
            Ok(_) => Ok(Done::Later),
            Err(e) => {
                self.slow.fetch_sub(1, Ordering::AcqRel);
                Err(ApiError::new(503, "frame_failed", limits::explain(&e)).retryable())
            }
        }
    }
}

/// A spawn for an invocation that this program serves: the engine is told which, so that it knows the agent by it.
fn on_behalf(call: ApiCall, invocation: Option<&str>) -> ApiCall {
    match (call, invocation) {
        (ApiCall::Spawn(request, _), Some(id)) if !id.is_empty() => {
            ApiCall::Spawn(request, SpawnSource::Served(InvocationId::new(id)))
        }
        (call, _) => call,
    }
}

fn without_nulls(mut map: Map<String, Value>) -> Map<String, Value> {
    map.retain(|_, value| !value.is_null());
    map
}

fn object_at(payload: &mut Map<String, Value>, key: &str) -> Result<Map<String, Value>, ApiError> {
    match payload.remove(key) {
        Some(Value::Object(map)) => Ok(without_nulls(map)),
        _ => Err(ApiError::new(
            400,
            "frame_failed",
            format!("`{key}` is missing or no object"),
        )),
    }
}

/// How a program is started again, if it says so.
fn supervision(payload: &mut Map<String, Value>) -> Result<Option<Box<Supervision>>, ApiError> {
    let Some(Value::Object(map)) = payload.remove("supervision") else {
        return Ok(None);
    };
    let supervision: Supervision = routes::read(without_nulls(map))?;
    Ok(Some(Box::new(supervision)).filter(|s| !s.argv.is_empty()))
}

/// Exactly one of `output` and `error`.
fn outcome(payload: &mut Map<String, Value>) -> Result<Outcome, ApiError> {
    match (payload.remove("output"), payload.remove("error")) {
        (output, None) => Ok(Outcome::Output(output.unwrap_or_default())),
        (None, Some(Value::String(error))) => Ok(Outcome::Error(error)),
        _ => Err(ApiError::new(
            400,
            "frame_failed",
            "give either `output`, or `error` as a text",
        )),
    }
}

/// The body of an HTTP answer, as a frame carries it.
fn body(answer: &Reply) -> Value {
    serde_json::from_slice(&reply(answer).body).unwrap_or_default()
}

fn frame(push: SidecarPush) -> String {
    match push {
        SidecarPush::Answer(text) => text,
        SidecarPush::Invoke {
            invocation_id,
            name,
            input,
        } => json!({"v": 2, "type": "invoke_handler",
            "payload": {"invocation_id": invocation_id, "name": name, "input": input}})
        .to_string(),
    }
}

fn done(request_id: &Value, result: &Value) -> String {
    json!({"v": 2, "type": "ok", "request_id": request_id, "payload": {"result": result}})
        .to_string()
}

fn failed(request_id: &Value, e: &ApiError) -> String {
    json!({"v": 2, "type": "error", "request_id": request_id,
        "payload": {"code": e.code, "message": e.message, "retryable": e.retryable}})
    .to_string()
}
