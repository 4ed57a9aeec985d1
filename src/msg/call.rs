//! What callers of the local API and connected sidecars ask, and what they are answered.

use serde_json::Value;

use crate::domain::{DeliveryMode, Outcome};
use crate::ids::{AgentName, DeliveryId, InvocationId, MsgId, SidecarId};
use crate::wire::local;
use crate::wire::rest::{InvocationStatus, Reader, RosterEntry};

/// What the local API asks of the dispatcher. Terminal input, resizing and output do not pass through here.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiCall {
    /// Start an agent.
    Spawn(Box<local::SpawnRequest>, SpawnSource),
    /// Stop an agent.
    Release {
        /// The agent that is to end.
        name: AgentName,
        /// Why, for the log.
        reason: Option<String>,
    },
    /// Start an agent's program again.
    Restart(AgentName),
    /// Have an agent listen to channels, or no longer.
    Channels {
        /// The agent that is to listen.
        name: AgentName,
        /// Names of channels, with or without `#`.
        channels: Vec<String>,
        /// Whether it is to listen.
        listens: bool,
    },
    /// Register names ahead of their agents' start.
    Preflight(Vec<AgentName>),
    /// List agents.
    Agents,
    /// Take a message.
    Send(local::SendRequest),
    /// What waits for an agent.
    Pending(AgentName),
    /// Type what is parked.
    Flush(AgentName),
    /// How messages reach the agent.
    Mode(AgentName),
    /// Have an agent's program go on with another model.
    SetModel(AgentName, String),
    /// Change how messages reach the agent.
    SetMode(AgentName, DeliveryMode),
    /// The same, unless somebody else has changed it meanwhile.
    SwapMode(AgentName, DeliveryMode, ExpectedMode),
    /// What was said in threads lately.
    Threads,
    /// Have a token made for somebody who may look at the workspace and do nothing.
    ObserverToken(String),
    /// Have an agent's program stop what it does.
    Interrupt(AgentName),
    /// A picture of an agent's terminal.
    Snapshot {
        /// The agent in the terminal.
        name: AgentName,
        /// With colours, as base64.
        ansi: bool,
    },
    /// Everything at a glance.
    Status,
    /// What went wrong with agents' programs.
    CrashInsights,
    /// Deliveries that were given up.
    DeadLetters,
    /// Give dead letters another chance: one, or all.
    Redeliver(Option<DeliveryId>),
    /// The workspace's nodes, as the engine knows them.
    Nodes,
    /// Take a node off the workspace's list.
    RemoveNode(String),
    /// Where in the workspace an agent is, as the engine knows.
    Whereabouts(AgentName),
    /// Who has a message that went through the engine.
    Readers(MsgId),
    /// Ask the engine something in the name of an agent of this broker.
    AsAgent(AgentName, EngineRequest),
    /// Have an action invoked somewhere in the workspace.
    Invoke {
        /// For example `spawn`.
        action: String,
        /// For whoever serves it.
        input: Value,
    },
    /// How an invocation stands.
    Invocation {
        /// As the engine stores it: `spawn` also for `spawn:x`.
        action: String,
        /// The invocation that is looked at.
        id: InvocationId,
    },
    /// What an agent's result must look like.
    ResultSchema(AgentName),
    /// Take an agent's result, which fits.
    SubmitResult(AgentName, Box<local::AgentResult>),
    /// From a connected program that serves actions.
    Sidecar(SidecarId, SidecarCall),
}

impl ApiCall {
    /// Whether nothing can be done about it while the journal cannot be written.
    pub fn needs_record(&self) -> bool {
        !matches!(
            self,
            ApiCall::Release { .. }
                | ApiCall::Agents
                | ApiCall::Pending(_)
                | ApiCall::Mode(_)
                | ApiCall::Threads
                | ApiCall::Status
                | ApiCall::CrashInsights
                | ApiCall::DeadLetters
                | ApiCall::ResultSchema(_)
        )
    }
}

/// One request to the engine's HTTP side, without who makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineRequest {
    /// `GET`, `POST` …
    pub method: &'static str,
    /// Path and query, encoded, from `/v1` on.
    pub path: String,
    /// The body, if it has one.
    pub body: Option<Value>,
}

/// What a caller believes of an agent's mode when he changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedMode {
    /// How messages reach the agent, if he says so.
    pub mode: Option<DeliveryMode>,
    /// Which change was the last, if he says so.
    pub revision: Option<u64>,
}

/// What a sidecar says ([local-api 6.1](crate::docs::local_api#6.1)).
#[derive(Clone, Debug, PartialEq)]
pub enum SidecarCall {
    /// What it can do, and how to start it again should it go.
    Node(Box<local::Manifest>, Option<Box<local::Supervision>>),
    /// What it serves right now.
    Handlers(Vec<String>),
    /// An invocation ended.
    Result(InvocationId, Outcome),
    /// It leaves for good.
    Deregister,
    /// Its connection is over.
    Gone,
}

/// What is sent to a sidecar.
#[derive(Clone, Debug, PartialEq)]
pub enum SidecarPush {
    /// Serve this.
    Invoke {
        /// To be named in the result.
        invocation_id: InvocationId,
        /// The action.
        name: String,
        /// What the caller gave.
        input: Value,
    },
    /// The answer to an earlier request, as text.
    Answer(String),
}

/// Who asked for an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnSource {
    /// The local API or command line.
    Api,
    /// `up --agent`.
    CommandLine,
    /// The engine.
    Invocation(InvocationId),
    /// A connected program, on behalf of an invocation of the engine's that it serves and answers itself.
    Served(InvocationId),
    /// The broker itself: its last life had this agent, and the agent's restart policy wants it back.
    Restart,
}

impl SpawnSource {
    /// Whether the agent is the broker's own: nobody waits for an answer, so its start is tried as long as it takes.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::CommandLine | Self::Restart)
    }

    /// The engine's invocation that the agent is started for.
    pub fn invocation(&self) -> Option<&InvocationId> {
        match self {
            Self::Invocation(id) | Self::Served(id) => Some(id),
            Self::Api | Self::CommandLine | Self::Restart => None,
        }
    }
}

/// The dispatcher's answer to an [`ApiCall`].
pub type Answer = Result<Reply, Refusal>;

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // each is the answer to the call of its name
pub enum Reply {
    Spawned(local::Spawned),
    Restarted(local::Restarted),
    Released {
        name: AgentName,
    },
    /// Its program is being ended while the journal cannot be written.
    Releasing {
        name: AgentName,
    },
    /// How many names are being registered.
    Queued(u64),
    Agents(local::AgentList),
    Channels(local::ChannelsChanged),
    Sent(local::Sent),
    Pending(local::PendingList),
    Flushed(u64),
    Mode(local::ModeView),
    Threads(local::ThreadList),
    ObserverToken(Value),
    ModeChanged(local::ModeChanged),
    Snapshot(local::Snapshot),
    /// Whether a program was told to stop.
    Interrupted(local::Interrupted),
    Status(Box<local::Status>),
    CrashInsights(local::CrashInsights),
    DeadLetters(Vec<local::DeadLetterView>),
    Redelivered(local::Redelivered),
    Nodes(Vec<RosterEntry>),
    NodeRemoved,
    Whereabouts(local::AgentPlace),
    Readers(Vec<Reader>),
    /// The engine's `data`.
    Engine(Value),
    Invocation(InvocationStatus),
    /// A JSON schema, or nothing where no result is wanted.
    ResultSchema(Option<Value>),
    ResultTaken(local::ResultTaken),
    Sidecar(Value),
}

/// Why a call was not done. The API maps the kind to a status, the command line to an exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people: what, and what to do.
    pub message: String,
}

impl Refusal {
    /// One with its sentence.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// 400 `invalid_request`.
    Invalid,
    /// 400 `unsupported_operation`: it cannot be done to this agent.
    Unsupported,
    /// 409 `unsupported_runtime`: the agent has no terminal.
    NoTerminal,
    /// 404 `agent_not_found`.
    UnknownAgent,
    /// 404 `channel_not_found`.
    UnknownChannel,
    /// 404 `dead_letter_not_found`.
    UnknownLetter,
    /// 404 `unknown_invocation`.
    UnknownInvocation,
    /// 409 `no_result_wanted`: the agent was started without a schema for one.
    NoResultWanted,
    /// 409 `result_is_final`: the agent has handed in its last one.
    ResultIsFinal,
    /// 500 as upstream answers it, code `agent_already_exists`.
    NameTaken,
    /// 500, code `spawn_failed`: the program could not be started.
    SpawnFailed,
    /// 503 `no_room`: the operating system has no process, terminal or descriptor left for the program.
    NoRoom,
    /// 429 `queue_full`: too much waits for this agent.
    Full,
    /// 404 `not_found`: the engine has no such thing.
    NotAtEngine,
    /// 502 `engine_error`: the engine refused or could not be reached.
    Engine,
    /// 503 `shutting_down`.
    Stopping,
    /// 503 `degraded`: the journal cannot be written.
    Degraded,
    /// 504 `worker_timeout`: it was not begun in time, and will not be.
    Timeout,
    /// 504 `worker_timeout`: it was begun and may still happen, so asking again may make it happen twice.
    Begun,
}
