//! HTTP calls to the engine, blocking, each with a deadline. The REST threads make the dispatcher's; the uplink thread
//! makes its own enrolment.

mod channels;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use ureq::unversioned::transport::DefaultConnector;

use super::proxy::Proxy;
use super::resolve::HostResolver;
use super::roots::TrustedRoots;
use crate::dispatch::VERSION;
use crate::domain::Mode;
use crate::ids::{InvocationId, JobId, MsgId, NodeId, WorkspaceId};
use crate::msg::{EngineRequest, RestCall, RestDone, Secret};
use crate::net::http::encode;
use crate::sys::{limits, thread};
use crate::wire::rest::{
    CreateNode, CreatedNode, Envelope, InvocationStatus, MadeKey, NodeAgent, Posted, Reader,
    RestError, RosterEntry, WorkspaceInfo,
};

/// The whole of one call, connecting included.
const CALL: Duration = Duration::from_secs(20);
/// Getting a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How many calls wait for a free REST thread. Full means the call fails as `Busy`; the caller decides what then.
const ERRAND_QUEUE: usize = 64;
/// How many REST threads there are.
const ERRAND_THREADS: usize = 2;

/// A call that did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The engine said no.
    #[error("{status} {}", said(.error))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code and sentence, as far as it gave them.
        error: RestError,
    },
    /// Nothing usable came back.
    #[error("{0}")]
    Unreachable(String),
}

/// What the engine gave as its reason; a proxy before it may give none.
fn said(error: &RestError) -> String {
    match (error.code.as_str(), error.message.as_str()) {
        ("", "") => "without a reason; look at what is between here and the engine".to_owned(),
        ("", message) => message.to_owned(),
        (code, "") => code.to_owned(),
        (code, message) => format!("{code}: {message}"),
    }
}

impl CallError {
    /// Whether the engine answered, and with a no that stays one: neither trouble of its own nor too many calls.
    pub fn refused(&self) -> bool {
        matches!(self, CallError::Refused { status, .. } if *status < 500 && *status != 429)
    }

    /// The engine's code; empty when it gave none.
    pub fn code(&self) -> &str {
        match self {
            CallError::Refused { error, .. } => &error.code,
            CallError::Unreachable(_) => "",
        }
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            CallError::Refused { status, .. } => Some(*status),
            CallError::Unreachable(_) => None,
        }
    }
}

/// Who asks, and what makes the request harmless when it is repeated.
#[derive(Clone, Copy)]
pub(super) struct With<'a> {
    /// The bearer.
    pub token: &'a Secret,
    /// `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// `X-Relaycast-Node-Token`: the node's current token, which engines from 9.0 want to see before they replace it.
    pub proof: Option<&'a Secret>,
}

impl<'a> With<'a> {
    /// A bearer, and nothing else.
    pub(super) fn bearer(token: &'a Secret) -> Self {
        Self {
            token,
            key: None,
            proof: None,
        }
    }
}

/// What a request for a node token carries besides its body.
#[derive(Clone, Copy)]
pub struct TokenProof<'a> {
    /// Asked again with it, the engine gives the same answer again (from 9.0).
    pub key: &'a str,
    /// The token that is to be replaced, if there is one.
    pub token: Option<&'a Secret>,
}

/// Why a call did not get through, with the limit's name where one of descriptors or memory is behind it.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(e) if limits::is_reached(e) => limits::explain(e),
        other => other.to_string(),
    }
}

/// The engine's HTTP side, with the workspace key.
#[derive(Clone)]
pub struct RestClient {
    http: ureq::Agent,
    base: String,
    key: Secret,
    proxy: Option<Proxy>,
    roots: Option<TrustedRoots>,
}

impl RestClient {
    /// For one engine and workspace, perhaps behind a proxy, its certificate vouched for by `roots` or the bundled ones.
    /// `base` has no trailing slash.
    pub fn new(base: &str, key: Secret, proxy: Option<Proxy>, roots: Option<TrustedRoots>) -> Self {
        // One provider of encryption for the whole process; a second call finds it installed.
        #[cfg(feature = "tls")]
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(CALL))
            .timeout_connect(Some(CONNECT))
            .max_idle_age(Duration::from_secs(10))
            .http_status_as_error(false)
            .user_agent(VERSION)
            // Said even when there is none: the library would look for one in the environment.
            .proxy(proxy.as_ref().and_then(Proxy::for_http));
        #[cfg(feature = "tls")]
        let config = match &roots {
            Some(roots) => config.tls_config(
                ureq::tls::TlsConfig::builder()
                    .root_certs(roots.for_http())
                    .build(),
            ),
            None => config,
        };
        let (connector, resolver) = (DefaultConnector::default(), HostResolver);
        Self {
            http: ureq::Agent::with_parts(config.build(), connector, resolver),
            base: base.to_owned(),
            key,
            proxy,
            roots,
        }
    }

    /// The way to it, if not direct.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Who vouches for its certificate, if not the bundled roots.
    pub fn roots(&self) -> Option<&TrustedRoots> {
        self.roots.as_ref()
    }

    /// The workspace key as the bearer, and nothing else.
    pub(super) fn as_workspace(&self) -> With<'_> {
        With::bearer(&self.key)
    }

    /// The engine's base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One call. An answer without a body counts as `null`.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        with: With<'_>,
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
            .uri(format!("{}{path}", self.base));
        if !with.token.reveal().is_empty() {
            let bearer = format!("Bearer {}", with.token.reveal());
            request = request.header("authorization", bearer);
        }
        if let Some(key) = with.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(token) = with.proof {
            request = request.header("x-relaycast-node-token", token.reveal());
        }
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| unreachable(&e))?,
            None => Vec::new(),
        };
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(bytes).map_err(|e| unreachable(&e))?;
        let mut response = self
            .http
            .run(request)
            .map_err(|e| unreachable(&reason(&e)))?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|e| unreachable(&e))?;
        if text.is_empty() && status < 300 {
            // Deleting and the like is answered by 204 alone (engine-protocol 1.4).
            return serde_json::from_str("null").map_err(|e| unreachable(&e));
        }
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
            _ => Err(CallError::Unreachable(format!(
                "the engine at {} answers {method} {path} in a form that this program does not know",
                self.base
            ))),
        }
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call("GET", path, self.as_workspace(), None::<&()>)
    }

    /// Which workspace the key opens.
    ///
    /// # Errors
    /// As any call; 401 for a bad key.
    pub fn workspace(&self) -> Result<WorkspaceId, CallError> {
        let workspace: WorkspaceInfo = self.get("/v1/workspace")?;
        workspace.id.or(workspace.workspace_id).ok_or_else(|| {
            CallError::Unreachable(format!(
                "the engine at {} names no workspace for this key",
                self.base
            ))
        })
    }

    /// Has a workspace made, which needs no key ([engine-protocol 2.1](crate::docs::engine_protocol#2.1)); its key.
    ///
    /// # Errors
    /// As any call; 409 for a name that another workspace has.
    pub fn make_workspace(&self, name: &str) -> Result<Secret, CallError> {
        let body = json!({"name": name});
        let made: MadeKey =
            self.call("POST", "/v1/workspaces", self.as_workspace(), Some(&body))?;
        Ok(Secret::new(made.api_key))
    }

    /// Creates the node, or replaces its token ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).
    ///
    /// # Errors
    /// As any call.
    pub fn mint(
        &self,
        node_id: &NodeId,
        name: &str,
        proof: &TokenProof<'_>,
    ) -> Result<CreatedNode, CallError> {
        let body = CreateNode {
            node_id: node_id.clone(),
            name: name.to_owned(),
            kind: "ws".into(),
            role: "broker".into(),
            version: VERSION.into(),
        };
        let with = With {
            key: Some(proof.key),
            proof: proof.token,
            ..self.as_workspace()
        };
        self.call("POST", "/v1/nodes", with, Some(&body))
    }

    /// The roster.
    ///
    /// # Errors
    /// As any call.
    pub fn nodes(&self) -> Result<Vec<RosterEntry>, CallError> {
        let mut nodes: Vec<RosterEntry> = self.get("/v1/nodes")?;
        let all = nodes.len();
        nodes.retain(RosterEntry::is_readable);
        if nodes.len() < all {
            log::warn!(
                "{} rows of the engine's list of nodes name no node",
                all - nodes.len()
            );
        }
        Ok(nodes)
    }

    fn remove_node(&self, name: &str) -> Result<(), CallError> {
        let path = format!("/v1/nodes/{}", encode(name));
        self.call("DELETE", &path, self.as_workspace(), None::<&()>)
    }

    fn readers(&self, message: &MsgId) -> Result<Vec<Reader>, CallError> {
        let message = encode(message.as_str());
        self.get(&format!("/v1/messages/{message}/readers"))
    }

    fn as_agent(
        &self,
        token: &Secret,
        request: &EngineRequest,
    ) -> Result<serde_json::Value, CallError> {
        let (with, body) = (With::bearer(token), request.body.as_ref());
        self.call(request.method, &request.path, with, body)
    }

    /// Who is bound to a node.
    fn bound(&self, node_name: &str) -> Result<Vec<NodeAgent>, CallError> {
        self.get(&format!("/v1/nodes/{}/agents", encode(node_name)))
    }

    fn invoke(
        &self,
        token: &Secret,
        action: &str,
        input: &serde_json::Value,
    ) -> Result<InvocationStatus, CallError> {
        let path = format!("/v1/actions/{}/invoke", encode(action));
        let with = With::bearer(token);
        self.call("POST", &path, with, Some(&json!({ "input": input })))
    }

    fn invocation(&self, action: &str, id: &InvocationId) -> Result<InvocationStatus, CallError> {
        let (action, id) = (encode(action), encode(id.as_str()));
        self.get(&format!("/v1/actions/{action}/invocations/{id}"))
    }

    fn post(
        &self,
        token: &Secret,
        to: &str,
        text: &str,
        mode: Mode,
        key: &str,
    ) -> Result<Posted, CallError> {
        let with = With {
            key: Some(key),
            ..With::bearer(token)
        };
        match to.strip_prefix('#') {
            Some(channel) => {
                let body = json!({ "text": text, "mode": mode.as_str() });
                let path = format!("/v1/channels/{}/messages", encode(channel));
                self.call("POST", &path, with, Some(&body))
            }
            None => {
                let to = to.strip_prefix('@').unwrap_or(to);
                let body = json!({ "to": to, "text": text, "mode": mode.as_str() });
                self.call("POST", "/v1/dm", with, Some(&body))
            }
        }
    }
}

/// The REST threads' inbox.
#[derive(Clone)]
pub struct RestJobs(Sender<(JobId, RestCall)>);

impl RestJobs {
    /// Starts `rest-0` and `rest-1`. They end when the last handle is dropped. `own_name` is the broker's voice for
    /// messages that come from no agent.
    ///
    /// # Errors
    /// When a thread is not to be had.
    pub fn start(
        client: RestClient,
        own_name: String,
        done: impl Fn(JobId, RestDone) + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let (send, receive) = bounded(ERRAND_QUEUE);
        let own = Arc::new(Own {
            name: own_name,
            token: Mutex::new(None),
        });
        for n in 0..ERRAND_THREADS {
            let (client, own, done): (_, _, _) = (client.clone(), own.clone(), done.clone());
            let calls: Receiver<(JobId, RestCall)> = receive.clone();
            thread::start(format!("rest-{n}"), 256, move || {
                for (id, call) in calls {
                    done(id, perform(&client, &own, call));
                }
            })?;
        }
        Ok(Self(send))
    }

    /// Hands a call over; `Busy` comes back at once when the queue is full.
    pub fn hand_over(&self, id: JobId, call: RestCall) -> Option<RestDone> {
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
    fn token(&self, client: &RestClient) -> Result<Secret, CallError> {
        let mut token = self.token.lock();
        if let Some(token) = &*token {
            return Ok(token.clone());
        }
        let fresh = client.voice(&self.name)?;
        *token = Some(fresh.clone());
        Ok(fresh)
    }

    /// Makes a call in the broker's own voice.
    fn speak<T>(
        &self,
        client: &RestClient,
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

fn perform(client: &RestClient, own: &Own, call: RestCall) -> RestDone {
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

fn try_perform(client: &RestClient, own: &Own, call: RestCall) -> Result<RestDone, CallError> {
    match call {
        RestCall::Post {
            from: Some(token),
            to,
            text,
            mode,
            idempotency_key,
        } => client
            .post(&token, &to, &text, mode, &idempotency_key)
            .map(RestDone::Posted),
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
            .map(RestDone::Posted),
        RestCall::AsAgent { token, request } => {
            client.as_agent(&token, &request).map(RestDone::Told)
        }
        RestCall::Invoke { action, input } => own
            .speak(client, |token| client.invoke(token, &action, &input))
            .map(RestDone::Invocation),
        RestCall::Invocation { action, id } => {
            client.invocation(&action, &id).map(RestDone::Invocation)
        }
        RestCall::Join { token, channels } => Ok(RestDone::Joined(client.join(&token, &channels))),
        RestCall::Leave { token, channels } => {
            client.leave(&token, &channels).map(|()| RestDone::Left)
        }
        RestCall::Forget { name, agent_id } => client
            .forget(name.as_str(), &agent_id)
            .map(|()| RestDone::Forgotten),
        RestCall::Reserve(names) => client.reserve(&names).map(|()| RestDone::Reserved),
        RestCall::Bound { node_name } => client.bound(&node_name).map(RestDone::Bound),
        RestCall::ObserverToken(name) => client.observer(&name).map(RestDone::ObserverToken),
        RestCall::Nodes => client.nodes().map(RestDone::Nodes),
        RestCall::RemoveNode(name) => client.remove_node(&name).map(|()| RestDone::NodeRemoved),
        RestCall::Whereabouts(name) => client.facts(name.as_str()).map(RestDone::Whereabouts),
        RestCall::Readers(message) => client.readers(&message).map(RestDone::Readers),
        RestCall::Waiting(name) => client.waiting(&name).map(RestDone::Waiting),
        RestCall::Leftovers { wanted, agent_id } => client.leftovers(&wanted, &agent_id),
        RestCall::Find { wanted, known } => client
            .find_ours(&wanted, known.as_ref())
            .map(RestDone::Found),
        RestCall::Close { token, ids } => client.close(&token, &ids).map(|()| RestDone::Closed),
        RestCall::Identify(wanted) => client.identify(&wanted).map(RestDone::Identified),
    }
}
