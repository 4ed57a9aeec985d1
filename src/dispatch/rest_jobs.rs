//! HTTP calls to the engine that are under way.

use crate::ids::{AgentName, Run, Ticket};
use crate::msg::{RestDone, Secret};
use crate::wire::up::InventoryMember;

/// Why an HTTP call to the engine was made, and so who is waiting for it.
#[derive(Clone, Debug)]
pub(super) enum RestJob {
    /// A message that leaves this machine.
    Post { ticket: Ticket, to: String },
    /// An agent joins channels; nobody waits.
    Join {
        name: AgentName,
        channels: Vec<String>,
        /// It is told of those that it is in then.
        tell: bool,
    },
    /// An agent leaves channels; nobody waits.
    Leave(AgentName),
    /// Names are registered ahead of their agents; nobody waits.
    Reserve,
    /// A token that only reads.
    ObserverToken(Ticket),
    /// The roster.
    Nodes(Ticket),
    /// A node is taken off the roster.
    RemoveNode(Ticket),
    /// Where an agent is.
    Whereabouts(Ticket, AgentName),
    /// Who has a message.
    Readers(Ticket),
    /// An agent asks something in its own name.
    AsAgent(Ticket),
    /// What the engine keeps for an agent that is not here.
    Waiting(Ticket, AgentName),
    /// What the engine has for a released agent is listed.
    Leftovers(AgentName),
    /// It is closed; whether there may be more, with the token to look with.
    Closing {
        name: AgentName,
        more: Option<Secret>,
    },
    /// An agent wants an identity, in this run.
    Identify { name: AgentName, run: Run },
    /// Who bears the name of one that may have been registered without an answer.
    Find(AgentName),
    /// An action is invoked, or looked after.
    Invocation(Ticket),
    /// An agent that was registered for nothing is taken back.
    Forget(AgentName),
    /// The engine took less than all of this list, and did not say which.
    Bound {
        asked: Vec<InventoryMember>,
        /// It said so itself; otherwise it is only what its count seems to say.
        told: bool,
    },
}

/// Why a call came to nothing, for people.
pub(super) fn sentence(done: &RestDone) -> String {
    match done {
        RestDone::Failed {
            status: Some(status),
            code,
            message,
        } => format!("{status} {code}: {message}"),
        RestDone::Failed {
            status: None,
            message,
            ..
        } => message.clone(),
        RestDone::Busy => "too many calls to the engine are waiting; try again".into(),
        RestDone::Posted(_)
        | RestDone::Waiting(_)
        | RestDone::Leftovers(..)
        | RestDone::NobodysMail
        | RestDone::Closed
        | RestDone::Found(_)
        | RestDone::Joined(_)
        | RestDone::Forgotten
        | RestDone::Left
        | RestDone::Reserved
        | RestDone::ObserverToken(_)
        | RestDone::Nodes(_)
        | RestDone::NodeRemoved
        | RestDone::Whereabouts(_)
        | RestDone::Readers(_)
        | RestDone::Told(_)
        | RestDone::Identified(_)
        | RestDone::Bound(_)
        | RestDone::Invocation(_) => "an answer of the wrong kind".into(),
    }
}
