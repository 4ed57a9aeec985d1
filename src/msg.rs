//! Every message that crosses a thread, in one place: read it and you know what can happen to the broker and what it
//! then does. Plain values only, so that events and effects can be printed, compared and made up in a simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{Mode, Proof, RecordForm};
use crate::ids::{
    AgentId, AgentName, DeliveryId, InvocationId, JobId, MsgId, NodeId, Run, SidecarId, Ticket,
};
use crate::known_clis::HeadlessCli;
use crate::time::Mono;
use crate::wire::down::Down;
use crate::wire::event::{BrokerEvent, Dialog, Policy};
use crate::wire::local;
use crate::wire::rest::{
    AgentFacts, InvocationStatus, LeftoverRow, NodeAgent, Posted, Reader, RosterEntry, WaitingRow,
};
use crate::wire::up::Up;

mod call;
mod identity;
mod right;
mod secret;

pub use call::{
    Answer, ApiCall, EngineRequest, ExpectedMode, Refusal, RefusalKind, Reply, SidecarCall,
    SidecarPush, SpawnSource,
};
pub use identity::{Identified, Wanted};
pub use right::Right;
pub use secret::Secret;

// ---- what can happen to the broker ------------------------------------------------------------------------------

/// All input to the dispatcher.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// News of the link to the engine.
    Link(LinkReport),
    /// An agent's thread reports. The run tells lives of one name apart.
    Agent(AgentName, Run, AgentReport),
    /// Somebody asked the local API.
    Call(Ticket, ApiCall),
    /// An HTTP call to the engine ended.
    RestJob(JobId, RestDone),
    /// A program that serves an action ended: its output, or why there is none.
    Handled(InvocationId, Result<Value, String>),
    /// A sidecar's program that was started again ended, or was not even started: its command line, and how.
    LaunchEnded(Vec<String>, String),
    /// A deadline the dispatcher named has passed.
    Tick,
    /// The operator's file was read again: what it says of programs from now on.
    Reload(Box<ProgramTables>),
    /// Take nothing new, and leave in order once every message that is being typed has arrived.
    Drain {
        /// When that is waited for no longer.
        until: Mono,
        /// How long the orderly end may take after it.
        rest: Duration,
    },
    /// Leave, in order, by then at the latest.
    Shutdown {
        /// After it agents are killed and the process ends.
        deadline: Mono,
    },
}

/// What the uplink saw.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkReport {
    /// The socket is open; nothing is registered on it yet.
    Up,
    /// It closed, or never opened.
    Lost(String),
    /// A frame came in.
    Frame(Down),
    /// A frame came in that is larger than one may be: what its beginning tells of it, and how many bytes it had.
    TooLarge(Down, u64),
    /// Something came in that could not be understood, and was passed over.
    PassedOver,
    /// The engine refuses us; trying goes on, slowly.
    Refused(String),
    /// A node token is at hand (again); the id the engine gave us wins over ours.
    Enrolled {
        /// To register with.
        node_id: NodeId,
        /// The name we are listed under.
        node_name: String,
    },
}

/// What an agent's thread reports.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentReport {
    /// The program runs.
    Started {
        /// Its process id, which is also its process group and session.
        pid: u32,
    },
    /// The program could not be started; the thread is gone.
    NotStarted {
        /// Names the command or directory, and the operating system's reason.
        why: String,
    },
    /// As [`AgentReport::NotStarted`], but for a limit of the operating system: it may work later.
    NoRoom {
        /// Names the limit.
        why: String,
    },
    /// The terminal takes input now.
    Ready {
        /// What showed it.
        evidence: String,
    },
    /// All bytes of the message and its Enter are in the terminal.
    Typed(DeliveryId),
    /// It arrived, or nothing was seen until the window closed (`Proof::None`, with the reason).
    Landed(DeliveryId, Proof, Option<String>),
    /// The program had the message and dropped it, or failed before it had read it; it may be given to it again.
    Dropped(DeliveryId, String),
    /// The id of the program's own session, which others may go on with.
    Session(String),
    /// The program began to act on a message that landed before, and how that is known.
    TurnStarted(DeliveryId, Proof),
    /// The text is not drawn, so Enter is withheld.
    Stalled(DeliveryId, String),
    /// The thread takes no orders now, so it does not know of the message; nothing of it was typed.
    NotTaken(DeliveryId, String),
    /// As it was asked for: the thread has forgotten the message, and nothing of it was typed.
    Withdrawn(DeliveryId),
    /// It cannot be typed into this terminal at all; nothing of it was submitted.
    Failed(DeliveryId, String),
    /// A dialog stands in the terminal, which shows these rows.
    Blocked(Dialog, Vec<String>),
    /// The dialog does not stand there any more.
    Unblocked(Dialog),
    /// The operator's policy pressed these keys in a dialog.
    Answered {
        /// The kind of dialog.
        dialog: Dialog,
        /// What the operator wants done about such dialogs.
        policy: Policy,
        /// What was pressed, by the names of keys.
        keys: String,
    },
    /// Whether the program was told to stop what it does, as somebody asked, or why not.
    Interrupted(Ticket, Result<(), String>),
    /// The picture somebody asked for.
    Picture(Ticket, local::Snapshot),
    /// Output after silence.
    Working,
    /// No output for the agent's threshold.
    Idle {
        /// How long there has been no output.
        silent: Duration,
    },
    /// The process ended and its terminal is drained; the thread is gone.
    Exited(How),
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// Exit code, if it exited by itself.
    pub code: Option<i32>,
    /// Signal number, if one killed it.
    pub signal: Option<i32>,
    /// Anything else worth saying, for example a panic of our own thread.
    pub note: Option<String>,
    /// The last lines that its terminal showed.
    #[serde(default)]
    pub last: Vec<String>,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal, &self.note) {
            (_, Some(signal), _) => write!(f, "killed by signal {signal}"),
            (Some(code), None, _) => write!(f, "exit code {code}"),
            (None, None, Some(note)) => f.write_str(note),
            (None, None, None) => f.write_str("gone"),
        }
    }
}

// ---- what the broker does ---------------------------------------------------------------------------------------

/// All output of the dispatcher.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A frame for the engine.
    Send(Up),
    /// An order to the uplink.
    Link(LinkCommand),
    /// Start an agent's thread.
    Spawn(Run, Box<AgentSpec>),
    /// An order to an agent's thread.
    Agent(AgentName, Run, AgentCommand),
    /// An HTTP call to the engine.
    RestJob(JobId, RestCall),
    /// Run a program that serves an action.
    Handle(InvocationId, Box<HandlerRun>),
    /// Tell a connected program that serves actions.
    Sidecar(SidecarId, SidecarPush),
    /// Start such a program again.
    Launch(Box<local::Supervision>),
    /// Answer a caller.
    Reply(Ticket, Answer),
    /// This is who the node is at the engine, for whoever reads [`Published`].
    Enrolled {
        /// The id it registers with.
        node_id: NodeId,
        /// The name it is listed under.
        node_name: String,
    },
    /// Tell every subscriber; the number is durable before it is used.
    Publish(u64, BrokerEvent),
    /// The orderly end: everything before this has been performed.
    Exit(ExitReason),
}

/// Orders to the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkCommand {
    /// Flush what is queued, close, and end the thread.
    Finish,
    /// Drop this link and open another: the engine sends again what it has
    /// ([engine-protocol 4.4](crate::docs::engine_protocol#4.4)).
    Reconnect,
}

/// What every thread may know of the broker as a whole. Replaced as one value, so that nobody sees half of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The node's id, as the engine has it.
    pub node_id: NodeId,
    /// The node's name, as the engine lists it.
    pub node_name: String,
    /// The workspace that the key opens.
    pub workspace_id: Option<String>,
    /// Why nothing can be written to the journal, while that is so: the dispatcher then answers nobody.
    pub degraded: Option<String>,
    /// When the process ends even if nothing can be written; `None` while nobody has asked it to leave.
    pub leave_by: Option<Mono>,
}

/// Why the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Somebody asked for it and everything was put away.
    Stopped,
    /// The deadline passed with agents still alive.
    DeadlinePassed,
}

/// What to start.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSpec {
    /// Under which name.
    pub name: AgentName,
    /// Program and arguments; the program is looked up in `PATH`.
    pub argv: Vec<String>,
    /// Working directory; the broker's own when absent.
    pub cwd: Option<String>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// What is kept of the broker's own besides [`USUAL_ENV`], by name or by a beginning and `*`; all of it when absent.
    pub env_allow: Option<Vec<String>>,
    /// `RELAY_AGENT_TOKEN` for the agent.
    pub token: Option<Secret>,
    /// Size of its terminal.
    pub size: Size,
    /// Silence that counts as idle; `None` for never.
    pub idle_after: Option<Duration>,
    /// How the operator wants it to be treated.
    pub treatment: Treatment,
    /// It runs without a terminal, as a program of this kind.
    pub headless: Option<HeadlessCli>,
}

/// What a program keeps of the broker's environment even where it is to have a clean one: without these hardly any finds its
/// home, its helpers and its language.
pub const USUAL_ENV: [&str; 10] = [
    "HOME", "LANG", "LANGUAGE", "LC_*", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER",
];

/// How the operator wants an agent program to be treated. Looked up at each start, and never written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// The profile to go by; that of the program's name when absent.
    pub profile: Option<String>,
    /// What to do when it asks whether to trust its folder; as the profile says when absent.
    pub trust_folder: Option<Policy>,
    /// What to do when it asks for permission; as the profile says when absent.
    pub permission: Option<Policy>,
    /// Whether it is given tools to answer with; as the profile says when absent.
    pub tools: Option<bool>,
    /// What is kept on disk of what it prints; as for all agents when absent.
    pub record: Option<RecordForm>,
}

/// What an operator's file says of programs, and may be replaced while the broker runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramTables {
    /// Names `h` for which `spawn:h` is offered.
    pub harnesses: Vec<String>,
    /// How some of them, and others, are started.
    pub harness_table: BTreeMap<String, Harness>,
    /// Actions that programs of the operator's serve.
    pub actions: BTreeMap<String, ActionSpec>,
    /// Names of what is known about agent programs.
    pub profiles: BTreeSet<String>,
}

/// How a kind of agent program is started, as the operator configured it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harness {
    /// The program.
    pub command: String,
    /// The program's first arguments.
    pub args: Vec<String>,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    /// How it is treated.
    pub treatment: Treatment,
    /// It runs without a terminal unless somebody says otherwise.
    pub headless: bool,
}

/// How a program serves an action: one process per invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The working directory; the broker's own when absent.
    pub cwd: Option<String>,
    /// Added to the program's environment.
    pub env: BTreeMap<String, String>,
    /// How long one run may take until it is killed.
    pub timeout: Duration,
    /// How many runs there may be at once.
    pub concurrency: usize,
    /// How many bytes one run may print.
    pub output_max: usize,
}

/// One run of such a program.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerRun {
    /// The action's name.
    pub action: String,
    /// How to run it.
    pub spec: ActionSpec,
    /// What the caller gave; on its standard input as JSON.
    pub input: Value,
    /// What else it finds in its environment.
    pub env: BTreeMap<String, String>,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// How many rows a screen has.
    pub rows: u16,
    /// How many columns a row has.
    pub cols: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            rows: 40,
            cols: 120,
        }
    }
}

/// Orders to an agent's thread.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentCommand {
    /// Type one message and see that it arrives. The dispatcher gives one at a time.
    Inject(Box<Injection>),
    /// Forget a message. Not heeded once its text was typed: what stands in a terminal may still be submitted.
    Withdraw(DeliveryId),
    /// Whatever the message that is being typed waits for: go on now. The owner has looked at the terminal.
    Insist,
    /// Have the program stop what it does.
    Interrupt(Ticket),
    /// Show the terminal.
    Snapshot {
        /// Whom to answer.
        ticket: Ticket,
        /// With colours, as base64.
        ansi: bool,
    },
    /// Hang up, wait, then kill the whole process group.
    Stop {
        /// Between hang-up and kill.
        grace: Duration,
    },
}

/// One message to type.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// Names it in reports.
    pub delivery_id: DeliveryId,
    /// The complete relay line; control characters are filtered by the injector, whoever wrote it.
    pub text: String,
    /// Whether to interrupt first.
    pub mode: Mode,
    /// Its first and last characters may be commands to the program.
    pub raw: bool,
}

/// HTTP calls to the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum RestCall {
    /// Post a message as `from`: a token of a local agent, or the broker's own identity when `None`.
    Post {
        /// The token of who speaks.
        from: Option<Secret>,
        /// Agent name or `#channel`.
        to: String,
        /// The words.
        text: String,
        /// Whether the message interrupts its reader.
        mode: Mode,
        /// Makes a repeated call harmless.
        idempotency_key: String,
    },
    /// `agent.register`'s counterpart over HTTP: join the given channels with this agent's token.
    Join {
        /// The agent's token.
        token: Secret,
        /// Created when missing.
        channels: Vec<String>,
    },
    /// Leave the given channels, in that agent's voice.
    Leave {
        /// The agent's token.
        token: Secret,
        /// Those that do not exist count as left.
        channels: Vec<String>,
    },
    /// Have agents of these names registered, without a place; whoever exists stays as he is.
    Reserve(Vec<AgentName>),
    /// List the workspace's nodes.
    Nodes,
    /// Take a node off the list, by its name.
    RemoveNode(String),
    /// Look an agent up.
    Whereabouts(AgentName),
    /// Make a token that only reads, for whoever goes by that name.
    ObserverToken(String),
    /// List who has a message.
    Readers(MsgId),
    /// List what the engine keeps for an agent that is on no node.
    Waiting(AgentName),
    /// An identity for an agent, and its place on this node: for when the link cannot do it.
    Identify(Box<Wanted>),
    /// Find who bears a name, if it is an agent of this node.
    Find {
        /// Under which name.
        wanted: Box<Wanted>,
        /// The identity that the name had here before.
        known: Option<AgentId>,
    },
    /// List the oldest mail that the engine has for an agent that was released here, whether or not it was sent before.
    Leftovers {
        /// Under which name; with the token, once that is known.
        wanted: Box<Wanted>,
        /// And no other one of that name.
        agent_id: AgentId,
    },
    /// Acknowledge deliveries of an agent one by one.
    Close {
        /// Whose.
        token: Secret,
        /// Those that the engine does not know count as closed.
        ids: Vec<DeliveryId>,
    },
    /// Take an agent back that was registered for nothing.
    Forget {
        /// Under which name.
        name: AgentName,
        /// And no other one of that name.
        agent_id: AgentId,
    },
    /// Who is bound to this node.
    Bound {
        /// As the engine lists it.
        node_name: String,
    },
    /// Whatever an agent asks of the engine in its own name.
    AsAgent {
        /// The agent's token.
        token: Secret,
        /// What it asks.
        request: EngineRequest,
    },
    /// Invoke an action in the broker's own name.
    Invoke {
        /// For example `spawn`.
        action: String,
        /// For whoever serves it.
        input: Value,
    },
    /// Look how an invocation stands.
    Invocation {
        /// As the engine stores it: `spawn` also for `spawn:x`.
        action: String,
        /// The invocation that is looked at.
        id: InvocationId,
    },
}

/// Why an agent is not in a channel that it was to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRefusal {
    /// The channel, without `#`.
    pub channel: String,
    /// For people.
    pub why: String,
    /// Another try would come to the same.
    pub for_good: bool,
}

/// How an HTTP call to the engine ended.
#[derive(Clone, Debug, PartialEq)]
pub enum RestDone {
    /// `POST` was taken.
    Posted(Posted),
    /// What the engine keeps.
    Waiting(Vec<WaitingRow>),
    /// What the engine has for a released agent, the oldest first, and the token to close it with.
    Leftovers(Secret, Vec<LeftoverRow>),
    /// There is no such agent any more, or it lives on another node, which has its mail.
    NobodysMail,
    /// Closed.
    Closed,
    /// The agent of this node that bears the name.
    Found(Option<AgentId>),
    /// The agent is in the channels, but in these.
    Joined(Vec<ChannelRefusal>),
    /// The agent is registered no longer.
    Forgotten,
    /// The agent is not in the channels any more.
    Left,
    /// The names are registered.
    Reserved,
    /// A token that only reads, with what else the engine says of it.
    ObserverToken(Value),
    /// The roster.
    Nodes(Vec<RosterEntry>),
    /// The node is off the list.
    NodeRemoved,
    /// What the engine says of the agent.
    Whereabouts(AgentFacts),
    /// Who has the message.
    Readers(Vec<Reader>),
    /// What the engine says to an agent: its `data`.
    Told(Value),
    /// Who is bound to this node.
    Bound(Vec<NodeAgent>),
    /// Registered, and bound to this node.
    Identified(Identified),
    /// An invocation as it stands.
    Invocation(InvocationStatus),
    /// No; with the engine's status and code when it answered at all.
    Failed {
        /// HTTP status; `None` when nothing answered.
        status: Option<u16>,
        /// The engine's code, or a word of ours.
        code: String,
        /// For people.
        message: String,
    },
    /// All REST threads are busy and their queue is full.
    Busy,
}
