//! What the history is told: the steps of messages among all that is published, ordered and sent.

use crate::history::{HistoryFact, HistoryStep, MessageWay};
use crate::ids::{AgentName, DeliveryId, MsgId};
use crate::msg::AgentCommand;
use crate::time::{Wall, millis};
use crate::wire::event::BrokerEvent;
use crate::wire::up::Up;

/// How many characters of a text are remembered.
const TEXT: usize = 80;

/// A step of the broker's own.
pub(super) fn of_broker(at: Wall, fact: HistoryFact) -> HistoryStep {
    HistoryStep {
        at,
        agent: None,
        delivery: None,
        message: None,
        fact,
    }
}

fn of_agent(at: Wall, agent: &AgentName, fact: HistoryFact) -> HistoryStep {
    HistoryStep {
        agent: Some(agent.clone()),
        ..of_broker(at, fact)
    }
}

fn of_delivery(at: Wall, ids: (&AgentName, &DeliveryId, &MsgId), fact: HistoryFact) -> HistoryStep {
    HistoryStep {
        at,
        agent: Some(ids.0.clone()),
        delivery: Some(ids.1.clone()),
        message: Some(ids.2.clone()),
        fact,
    }
}

/// An order to an agent's thread, if it is about a message.
pub(super) fn of_order(at: Wall, name: &AgentName, order: &AgentCommand) -> Option<HistoryStep> {
    let AgentCommand::Inject(injection) = order else {
        return None;
    };
    let bytes = injection.text.len() as u64;
    Some(HistoryStep {
        delivery: Some(injection.delivery_id.clone()),
        ..of_agent(at, name, HistoryFact::Given { bytes })
    })
}

/// A frame for the engine, if it is about messages that ended.
pub(super) fn of_frame(at: Wall, frame: &Up) -> Option<HistoryStep> {
    let Up::DeliveryAck(ack) = frame else {
        return None;
    };
    let up_to = ack.up_to_seq.0;
    Some(of_agent(
        at,
        &ack.agent,
        HistoryFact::Acknowledged { up_to },
    ))
}

/// An event that was decided `at` and is told `now`, if it is a step of a message's or has to do with one.
pub(super) fn of_event(at: Wall, now: Wall, event: &BrokerEvent) -> Option<HistoryStep> {
    of_arrival(at, now, event)
        .or_else(|| of_way(at, event))
        .or_else(|| of_life(at, event))
}

fn of_arrival(at: Wall, now: Wall, event: &BrokerEvent) -> Option<HistoryStep> {
    let BrokerEvent::RelayInbound {
        event_id,
        from,
        target,
        body,
        name: Some(name),
        delivery_id: Some(id),
        engine_seq,
        from_engine,
        ..
    } = event
    else {
        return None;
    };
    let accepted = HistoryFact::Accepted {
        from: from.clone(),
        target: target.clone(),
        way: match from_engine {
            true => MessageWay::Engine,
            false => MessageWay::Local,
        },
        seq: *engine_seq,
        bytes: body.len() as u64,
        text: body.chars().take(TEXT).collect(),
        disk_ms: millis(now - at),
    };
    Some(of_delivery(at, (name, id, event_id), accepted))
}

/// Steps that have a delivery's id.
fn of_way(at: Wall, event: &BrokerEvent) -> Option<HistoryStep> {
    let (ids, fact) = match event {
        BrokerEvent::DeliveryInjected {
            name,
            delivery_id,
            event_id,
            redelivered,
        } => {
            let redelivered = *redelivered;
            (
                (name, delivery_id, event_id),
                HistoryFact::Typed { redelivered },
            )
        }
        BrokerEvent::DeliveryVerified {
            name,
            delivery_id,
            event_id,
            proof,
            reason,
            ..
        } => {
            let (proof, reason) = (*proof, reason.clone());
            (
                (name, delivery_id, event_id),
                HistoryFact::Settled { proof, reason },
            )
        }
        BrokerEvent::TurnStarted {
            name,
            delivery_id,
            event_id,
            proof,
        } => (
            (name, delivery_id, event_id),
            HistoryFact::TurnStarted { proof: *proof },
        ),
        BrokerEvent::DeliveryBlocked {
            name,
            delivery_id,
            event_id,
            reason,
        } => {
            let why = reason.clone();
            ((name, delivery_id, event_id), HistoryFact::Blocked { why })
        }
        BrokerEvent::DeadLetterAdded {
            name,
            delivery_id,
            event_id,
            reason,
            ..
        } => {
            let reason = reason.clone();
            (
                (name, delivery_id, event_id),
                HistoryFact::GivenUp { reason },
            )
        }
        BrokerEvent::DeadLetterRedelivered {
            name,
            delivery_id,
            new_delivery_id,
            event_id,
        } => {
            let anew = new_delivery_id.clone();
            (
                (name, delivery_id, event_id),
                HistoryFact::Redelivered { anew },
            )
        }
        _ => return None,
    };
    Some(of_delivery(at, ids, fact))
}

/// What happens to agents, and to messages that are named by themselves.
fn of_life(at: Wall, event: &BrokerEvent) -> Option<HistoryStep> {
    let (name, message, fact) = match event {
        BrokerEvent::DeliveryQueued {
            name,
            delivery_id: None,
            event_id,
            ..
        } => (name, Some(event_id), HistoryFact::Parked),
        BrokerEvent::LoopSuspected {
            name,
            event_id,
            reason,
            ..
        } => {
            let reason = reason.clone();
            (name, Some(event_id), HistoryFact::Suspected { reason })
        }
        BrokerEvent::AgentBlocked { name, screen, .. } => (
            name,
            None,
            HistoryFact::Dialog {
                rows: screen.clone(),
            },
        ),
        BrokerEvent::AgentUnblocked { name, .. } => (name, None, HistoryFact::DialogGone),
        BrokerEvent::AgentInboundDeliveryModeChanged { name, mode, .. } => {
            let held = *mode == crate::domain::DeliveryMode::ManualFlush;
            (name, None, HistoryFact::Mode { held })
        }
        BrokerEvent::WorkerReady { name, .. } => (name, None, HistoryFact::Ready),
        BrokerEvent::AgentExited {
            name,
            code,
            signal,
            reason,
            ..
        } => {
            let how = crate::msg::How {
                code: *code,
                signal: *signal,
                note: reason.clone(),
                last: Vec::new(),
            };
            let how = how.to_string();
            (name, None, HistoryFact::Ended { how })
        }
        _ => return None,
    };
    Some(HistoryStep {
        message: message.cloned(),
        ..of_agent(at, name, fact)
    })
}
