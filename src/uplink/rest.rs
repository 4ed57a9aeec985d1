//! HTTP calls to the engine, blocking, each with a deadline. The errand threads make the dispatcher's; the uplink thread
//! makes its own enrolment.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::dispatch::VERSION;
use crate::ids::{ErrandId, InvocationId, NodeId, WorkspaceId};
use crate::msg::{RestCall, RestDone, Secret};
use crate::net::http::encode;
use crate::sys::thread;
use crate::wire::down::Mode;
use crate::wire::rest::{
    ApiError, CreateNode, CreatedNode, Envelope, Invocation, Posted, RegisteredAgent, RosterEntry,
    Workspace,
};

/// The whole of one call, connecting included.
const CALL: Duration = Duration::from_secs(20);
/// Getting a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How many calls wait for a free errand thread. Full means the call fails as `Busy`; the caller decides what then.
const ERRAND_QUEUE: usize = 64;
/// How many errand threads there are.
const ERRAND_THREADS: usize = 2;

/// A call that did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The engine said no.
    #[error("{status} {}{}", .error.code, colon(&.error.message))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code and sentence, as far as it gave them.
        error: ApiError,
    },
    /// Nothing usable came back.
    #[error("{0}")]
    Unreachable(String),
}

fn colon(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

impl CallError {
    /// Whether the engine answered, and with no.
    pub fn refused(&self) -> bool {
        matches!(self, CallError::Refused { status, .. } if *status < 500)
    }
}

/// The engine's HTTP side, with the workspace key.
#[derive(Clone)]
pub struct Client {
    http: ureq::Agent,
    base: String,
    key: Secret,
}

impl Client {
    /// For one engine and workspace. `base` has no trailing slash.
    pub fn new(base: &str, key: Secret) -> Self {
        // One provider of encryption for the whole process; a second call finds it installed.
        #[cfg(feature = "tls")]
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(CALL))
            .timeout_connect(Some(CONNECT))
            .max_idle_age(Duration::from_secs(10))
            .http_status_as_error(false)
            .user_agent(VERSION)
            .build();
        Self {
            http: config.into(),
            base: base.to_owned(),
            key,
        }
    }

    /// The engine's base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        token: &Secret,
        idempotency_key: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<T, CallError> {
        let unreachable = |why: &dyn std::fmt::Display| {
            CallError::Unreachable(format!(
                "the engine at {} cannot be reached: {why}",
                self.base
            ))
        };
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", token.reveal()));
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| unreachable(&e))?,
            None => Vec::new(),
        };
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(bytes).map_err(|e| unreachable(&e))?;
        let mut response = self.http.run(request).map_err(|e| unreachable(&e))?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|e| unreachable(&e))?;
        let envelope: Option<Envelope<T>> = serde_json::from_str(&text).ok();
        match envelope {
            Some(Envelope {
                ok: true,
                data: Some(data),
                ..
            }) if status < 400 => Ok(data),
            Some(Envelope {
                error: Some(error), ..
            }) => Err(CallError::Refused { status, error }),
            _ if status >= 400 => {
                let error: Option<Envelope<serde_json::Value>> = serde_json::from_str(&text).ok();
                let error = error.and_then(|e| e.error).unwrap_or_default();
                Err(CallError::Refused { status, error })
            }
            _ => Err(unreachable(&format!(
                "its answer to {method} {path} is not what it should be"
            ))),
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call("GET", path, &self.key, None, None::<&()>)
    }

    /// Which workspace the key opens.
    ///
    /// # Errors
    /// As any call; 401 for a bad key.
    pub fn workspace(&self) -> Result<WorkspaceId, CallError> {
        let workspace: Workspace = self.get("/v1/workspace")?;
        workspace.id.or(workspace.workspace_id).ok_or_else(|| {
            CallError::Unreachable(format!(
                "the engine at {} names no workspace for this key",
                self.base
            ))
        })
    }

    /// Creates the node, or replaces its token (engine-wire 2.2).
    ///
    /// # Errors
    /// As any call.
    pub fn mint(&self, node_id: &NodeId, name: &str) -> Result<CreatedNode, CallError> {
        let body = CreateNode {
            node_id: node_id.clone(),
            name: name.to_owned(),
            kind: "ws".into(),
            role: "broker".into(),
            version: VERSION.into(),
        };
        self.call("POST", "/v1/nodes", &self.key, None, Some(&body))
    }

    /// The roster.
    ///
    /// # Errors
    /// As any call.
    pub fn nodes(&self) -> Result<Vec<RosterEntry>, CallError> {
        self.get("/v1/nodes")
    }

    /// The token of an agent of that name, taking the name over if it exists (engine-wire 2.3).
    ///
    /// # Errors
    /// As any call.
    pub fn register_or_rotate(&self, name: &str, kind: &str) -> Result<Secret, CallError> {
        let body = json!({ "name": name, "type": kind });
        let made: Result<RegisteredAgent, _> =
            self.call("POST", "/v1/agents", &self.key, None, Some(&body));
        match made {
            Ok(agent) => Ok(Secret::new(agent.token)),
            Err(CallError::Refused { status: 409, .. }) => {
                let path = format!("/v1/agents/{}/rotate-token", encode(name));
                let agent: RegisteredAgent =
                    self.call("POST", &path, &self.key, None, Some(&json!({})))?;
                Ok(Secret::new(agent.token))
            }
            Err(e) => Err(e),
        }
    }

    fn invoke(
        &self,
        token: &Secret,
        action: &str,
        input: &serde_json::Value,
    ) -> Result<Invocation, CallError> {
        let path = format!("/v1/actions/{}/invoke", encode(action));
        self.call("POST", &path, token, None, Some(&json!({ "input": input })))
    }

    fn invocation(&self, action: &str, id: &InvocationId) -> Result<Invocation, CallError> {
        let path = format!(
            "/v1/actions/{}/invocations/{}",
            encode(action),
            encode(id.as_str())
        );
        self.get(&path)
    }

    fn post(
        &self,
        token: &Secret,
        to: &str,
        text: &str,
        mode: Mode,
        key: &str,
    ) -> Result<Posted, CallError> {
        match to.strip_prefix('#') {
            Some(channel) => {
                let body = json!({ "text": text, "mode": mode.as_str() });
                let path = format!("/v1/channels/{}/messages", encode(channel));
                self.call("POST", &path, token, Some(key), Some(&body))
            }
            None => {
                let to = to.strip_prefix('@').unwrap_or(to);
                let body = json!({ "to": to, "text": text, "mode": mode.as_str() });
                self.call("POST", "/v1/dm", token, Some(key), Some(&body))
            }
        }
    }

    /// Create, ignore that it exists, join, ignore that one is in (engine-wire 2.4).
    fn join(&self, token: &Secret, channels: &[String]) -> Result<(), CallError> {
        for channel in channels {
            let channel = channel.trim_start_matches('#');
            let made: Result<serde_json::Value, _> = self.call(
                "POST",
                "/v1/channels",
                token,
                None,
                Some(&json!({ "name": channel })),
            );
            ignore_conflict(made)?;
            let path = format!("/v1/channels/{}/join", encode(channel));
            let joined: Result<serde_json::Value, _> =
                self.call("POST", &path, token, None, Some(&json!({})));
            ignore_conflict(joined)?;
        }
        Ok(())
    }
}

fn ignore_conflict(result: Result<serde_json::Value, CallError>) -> Result<(), CallError> {
    match result {
        Ok(_) | Err(CallError::Refused { status: 409, .. }) => Ok(()),
        Err(e) => Err(e),
    }
}

/// The errand threads' inbox.
#[derive(Clone)]
pub struct Errands(Sender<(ErrandId, RestCall)>);

impl Errands {
    /// Starts `errand-0` and `errand-1`. They end when the last handle is dropped. `own_name` is the broker's voice for
    /// messages that come from no agent.
    ///
    /// # Errors
    /// When a thread is not to be had.
    pub fn start(
        client: Client,
        own_name: String,
        done: impl Fn(ErrandId, RestDone) + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let (send, receive) = bounded(ERRAND_QUEUE);
        let own = Arc::new(Own {
            name: own_name,
            token: Mutex::new(None),
        });
        for n in 0..ERRAND_THREADS {
            let (client, own, done): (_, _, _) = (client.clone(), own.clone(), done.clone());
            let calls: Receiver<(ErrandId, RestCall)> = receive.clone();
            thread::start(format!("errand-{n}"), 256, move || {
                for (id, call) in calls {
                    done(id, perform(&client, &own, call));
                }
            })?;
        }
        Ok(Self(send))
    }

    /// Hands a call over; `Busy` comes back at once when the queue is full.
    pub fn hand_over(&self, id: ErrandId, call: RestCall) -> Option<RestDone> {
        match self.0.try_send((id, call)) {
            Ok(()) => None,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Some(RestDone::Busy),
        }
    }
}

/// The broker's own agent identity, taken when first needed.
struct Own {
    name: String,
    token: Mutex<Option<Secret>>,
}

impl Own {
    fn token(&self, client: &Client) -> Result<Secret, CallError> {
        let mut token = self.token.lock();
        if let Some(token) = &*token {
            return Ok(token.clone());
        }
        let fresh = client.register_or_rotate(&self.name, "human")?;
        *token = Some(fresh.clone());
        Ok(fresh)
    }

    /// Makes a call in the broker's own voice.
    fn speak<T>(
        &self,
        client: &Client,
        call: impl Fn(&Secret) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        match call(&self.token(client)?) {
            // Our token was rotated away; one fresh one is worth a try.
            Err(CallError::Refused { status: 401, .. }) => {
                *self.token.lock() = None;
                call(&self.token(client)?)
            }
            other => other,
        }
    }
}

fn perform(client: &Client, own: &Own, call: RestCall) -> RestDone {
    match try_perform(client, own, call) {
        Ok(done) => done,
        Err(CallError::Refused { status, error }) => RestDone::Failed {
            status: Some(status),
            code: error.code,
            message: error.message,
        },
        Err(CallError::Unreachable(message)) => RestDone::Failed {
            status: None,
            code: "unreachable".into(),
            message,
        },
    }
}

fn try_perform(client: &Client, own: &Own, call: RestCall) -> Result<RestDone, CallError> {
    match call {
        RestCall::Post {
            from: Some(token),
            to,
            text,
            mode,
            idempotency_key,
        } => client
            .post(&token, &to, &text, mode, &idempotency_key)
            .map(|p| RestDone::Posted(p.id)),
        RestCall::Post {
            from: None,
            to,
            text,
            mode,
            idempotency_key,
        } => own
            .speak(client, |token| {
                client.post(token, &to, &text, mode, &idempotency_key)
            })
            .map(|p| RestDone::Posted(p.id)),
        RestCall::Invoke { action, input } => own
            .speak(client, |token| client.invoke(token, &action, &input))
            .map(RestDone::Invocation),
        RestCall::Invocation { action, id } => {
            client.invocation(&action, &id).map(RestDone::Invocation)
        }
        RestCall::Join { token, channels } => {
            client.join(&token, &channels).map(|()| RestDone::Joined)
        }
        RestCall::Nodes => client.nodes().map(RestDone::Nodes),
    }
}
