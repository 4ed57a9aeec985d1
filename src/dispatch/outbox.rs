//! The order in which one batch's effects leave.

use std::collections::BTreeMap;
use std::mem;

use crate::ids::{AgentName, Seq};
use crate::msg::{Effect, LinkCommand};
use crate::wire::up::{DeliveryAck, Up};

/// Leaves one acknowledgement per agent, the newest, behind everything else: acknowledgements are cumulative, so one says
/// it all. Those that are decided before a deregistration or the goodbye leave before it, because who is deregistered can
/// acknowledge nothing any more.
pub(super) fn arrange(effects: &mut Vec<Effect>) {
    if !effects.iter().any(is_ack) {
        return;
    }
    let mut acks = BTreeMap::new();
    let mut arranged = Vec::with_capacity(effects.len());
    for effect in effects.drain(..) {
        match effect {
            Effect::Send(Up::DeliveryAck(ack)) => {
                acks.insert(ack.agent, ack.up_to_seq);
            }
            effect => {
                if ends_acknowledging(&effect) {
                    flush(&mut acks, &mut arranged);
                }
                arranged.push(effect);
            }
        }
    }
    flush(&mut acks, &mut arranged);
    *effects = arranged;
}

fn flush(acks: &mut BTreeMap<AgentName, Seq>, arranged: &mut Vec<Effect>) {
    let acks = mem::take(acks).into_iter();
    arranged.extend(
        acks.map(|(agent, up_to_seq)| {
            Effect::Send(Up::DeliveryAck(DeliveryAck { agent, up_to_seq }))
        }),
    );
}

fn is_ack(effect: &Effect) -> bool {
    matches!(effect, Effect::Send(Up::DeliveryAck(_)))
}

fn ends_acknowledging(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Send(Up::AgentDeregister(_) | Up::NodeDeregister(_))
            | Effect::Link(LinkCommand::Finish)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AgentId, Ticket};
    use crate::msg::{Refusal, RefusalKind};
    use crate::wire::up::AgentDeregister;

    fn ack(agent: &str, seq: u64) -> Effect {
        let (agent, up_to_seq) = (AgentName::new(agent), Seq(seq));
        Effect::Send(Up::DeliveryAck(DeliveryAck { agent, up_to_seq }))
    }

    fn reply(ticket: u64) -> Effect {
        let refusal = Refusal::new(RefusalKind::Stopping, "the broker is stopping");
        Effect::Reply(Ticket(ticket), Err(refusal))
    }

    fn arranged(mut effects: Vec<Effect>) -> Vec<Effect> {
        arrange(&mut effects);
        effects
    }

    #[test]
    fn the_newest_acknowledgement_of_each_agent_leaves_once_and_behind_the_rest() {
        let decided = vec![ack("w2", 7), reply(1), ack("w1", 3), ack("w2", 9), reply(2)];
        let left = [reply(1), reply(2), ack("w1", 3), ack("w2", 9)];
        assert_eq!(arranged(decided), left);
    }

    #[test]
    fn what_an_agent_has_finished_is_acknowledged_before_it_or_the_node_leaves() {
        let deregister = || {
            Effect::Send(Up::AgentDeregister(AgentDeregister {
                id: None,
                agent_id: AgentId::new("id_w1"),
                name: None,
            }))
        };
        let goodbye = || Effect::Link(LinkCommand::Finish);
        let decided = vec![
            ack("w1", 3),
            deregister(),
            ack("w2", 5),
            goodbye(),
            ack("w2", 6),
        ];
        let left = [
            ack("w1", 3),
            deregister(),
            ack("w2", 5),
            goodbye(),
            ack("w2", 6),
        ];
        assert_eq!(arranged(decided), left);
    }

    #[test]
    fn arranging_twice_is_arranging_once() {
        let once = arranged(vec![ack("w1", 3), reply(1), ack("w1", 4)]);
        assert_eq!(arranged(once.clone()), once);
    }
}
