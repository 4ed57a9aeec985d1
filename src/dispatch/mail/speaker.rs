//! Who speaks in a message: an agent or a person. Agents are those that run on this node or have an identity of the engine's
//! by it, and whoever the engine says is one; all other senders are people, or speak for people. So is who speaks in an
//! agent's name with the broker's own key.

use super::state::MailView;
use crate::dispatch::node_config::SteerFrom;
use crate::domain::Mode;
use crate::ids::AgentName;
use crate::ledger::{Delivery, Origin};
use crate::wire::down::Deliver;
use crate::wire::fields;

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// An agent of this node.
    Agent(AgentName),
    /// An agent, by the engine's word, that this node does not know: one of another node, or a program that calls itself so.
    /// Whether it answers what it gets cannot be told here.
    Stranger,
    /// Somebody who is no agent.
    Person,
    /// Nobody: a task that an agent begins with, what came of its own action, its own words.
    Nobody,
}

impl Speaker {
    /// Of a message of this machine.
    pub(super) fn of(view: MailView, delivery: &Delivery) -> Self {
        if matches!(delivery.origin, Origin::Task) {
            return Self::Nobody;
        }
        let name = AgentName::meant(&delivery.from);
        let is_agent = view.peers.agents.is_here(&name) || view.ledger().bound(&name).is_some();
        match is_agent && !delivery.raw && !delivery.by_operator {
            true if name == delivery.agent => Self::Nobody,
            true => Self::Agent(name),
            false => Self::Person,
        }
    }

    /// Of one from the engine.
    pub(super) fn of_frame(view: MailView, frame: &Deliver, delivery: &Delivery) -> Self {
        if fields::kind_word(&frame.payload).starts_with("action.") {
            return Self::Nobody;
        }
        match Self::of(view, delivery) {
            Self::Person if fields::is_from_agent(&frame.payload) => Self::Stranger,
            speaker => speaker,
        }
    }

    /// Has a message wait its turn that an agent may not interrupt with; whether it was to.
    pub(super) fn queues(&self, view: MailView, delivery: &mut Delivery) -> bool {
        let is_agent = matches!(self, Self::Agent(_) | Self::Stranger);
        let refused = is_agent
            && delivery.mode == Mode::Steer
            && view.config().limits.talk.steer_from == SteerFrom::People;
        if refused {
            delivery.mode = Mode::Wait;
            let (from, agent) = (&delivery.from, &delivery.agent);
            log::info!(event = "steer_refused", agent:% = agent, message_id:% = delivery.msg_id; "message {} of {from} waits its turn at {agent}: only people may interrupt (steer_from)", delivery.msg_id);
        }
        refused
    }
}
