//! What one part tells the others. A part that wants something of another leaves a notice; [`super::Dispatcher`] hands it
//! round once the part is done, oldest first, to actions, control, mail and agents in this order. So this list is the map of
//! who influences whom.

use std::time::Duration;

use crate::domain::Outcome;
use crate::ids::{AgentId, AgentName, InvocationId, Run};
use crate::ledger::{Delivery, Departed};
use crate::msg::ExitReason;
use crate::wire::down::{Deliver, EngineReply, ErrorFrame};
use crate::wire::local::SpawnRequest;

/// Something that happened in one part and matters to others.
#[derive(Debug)]
pub(super) enum Notice {
    // ---- from control -------------------------------------------------------------------------------------------
    /// The socket is open; the engine does not listen yet.
    LinkUp,
    /// There is no link any more.
    LinkLost,
    /// The engine took our registration on this link and listens. What was answered meanwhile goes out before the list of
    /// agents, what may be acknowledged and who ended meanwhile after it.
    LinkOpen,
    /// A list of agents went out, or would have if there were any: the request, if it did.
    Listed(Option<String>),
    /// The engine has answered all lists.
    ListsAnswered {
        /// It gave what they did not account for to another node, or gives it out again.
        moved: bool,
    },
    /// The engine answered a request that is not control's.
    Replied(EngineReply),
    /// The engine refused a request that is not control's.
    Complained(ErrorFrame),
    /// The engine does not take these agents of a list for ours.
    Disputed {
        refused: Vec<Refused>,
        /// The engine needs another list, whatever comes of this.
        list_again: bool,
    },
    /// The broker stops; agents have so long to end.
    Stopping { grace: Duration },
    /// The last agent is gone, or time is up: what only memory knows is written down.
    Leaving,
    /// That is done.
    Left(ExitReason),

    // ---- from agents --------------------------------------------------------------------------------------------
    /// Somebody wants to run here under this name.
    AgentCame(AgentName),
    /// The terminal takes messages.
    AgentReady(AgentName, Run),
    /// Its program is being ended: it takes no message any more.
    AgentLeaving(AgentName),
    /// A run ended, and the same agent runs again some time from now.
    AgentBack(AgentName),
    /// It is not here any more.
    AgentGone(AgentName),
    /// A life is over: its mail ends first, and then its record.
    LifeOver {
        name: AgentName,
        /// The identity that it had.
        agent_id: Option<AgentId>,
        end: End,
        /// What lists are to say of it.
        departed: Option<Departed>,
    },
    /// Its identity is given back, once its mail has ended: who is deregistered can acknowledge nothing any more.
    IdentityOver(AgentName, AgentId, bool),
    /// The engine has an agent under this identity whose registration was not answered while it was here. What ended for
    /// the identity is acknowledged before it is signed off, and with `released` what waits there is taken over.
    FoundLate {
        name: AgentName,
        agent_id: AgentId,
        released: bool,
    },
    /// The engine has it on another node, which gets its mail.
    AgentMoved(AgentName),
    /// What its program is to begin with, and which agent says it, where one does.
    FirstTask(AgentName, Option<AgentName>, String),
    /// Another set of agents runs here.
    RosterChanged,
    /// What came of an invocation that was about an agent.
    InvocationOver(InvocationId, Outcome),

    // ---- from mail ----------------------------------------------------------------------------------------------
    /// Mail is missing that the engine has: it sends it again with the next list of agents.
    MailMissing,
    /// Nothing of a released agent lies with the engine any more, so that the name may have another bearer.
    /// With false it takes a while yet: the engine does not answer, or has much.
    NameCleared(AgentName, bool),
    /// A message ended in an agent's terminal.
    Settled(AgentName),
    /// A message was given up, for this reason.
    Undelivered(Box<Delivery>, String),

    // ---- from actions -------------------------------------------------------------------------------------------
    /// The engine wants an agent.
    SpawnWanted(Box<SpawnRequest>, InvocationId),
    /// The engine wants one ended.
    ReleaseWanted(AgentName, InvocationId),
    /// An agent that serves an action is told of an invocation.
    Told(Box<Deliver>),
    /// Other actions can be served here.
    CapabilitiesChanged,
    /// Nobody here serves this invocation any more. Answered once the engine knows that, so that it does not come back.
    Unavailable(InvocationId),
    /// An invocation was answered.
    Answered,
}

/// How a life came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Without anybody's wish, so that whoever bears the name next takes over the mail.
    Itself,
    /// By somebody's wish.
    Released,
    /// The engine has the agent on another node, which gets the engine's mail from the engine.
    Moved,
}

impl End {
    /// Why nobody reads what waited.
    pub(super) fn why(self) -> &'static str {
        match self {
            End::Itself => "the agent ended",
            End::Released => "the agent was released before it read the message",
            End::Moved => "the agent runs on another node now",
        }
    }
}

/// An agent that the engine does not take for ours, and its reason if it gave one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) name: AgentName,
    pub(super) code: Option<String>,
}

impl Refused {
    /// What an engine says of an agent that runs on another node.
    pub(super) const ELSEWHERE: &str = "agent_location_conflict";
    /// What it says of one that another provider has, which may be of this very node.
    pub(super) const OTHER_PROVIDER: &str = "agent_provider_conflict";
    /// What it says of a name that is another agent's by now.
    pub(super) const OTHER_AGENT: &str = "agent_identity_mismatch";
}
