//! What a release ends.

use super::*;

impl Laws {
    /// A delivery of the engine's has ended: it is to hear of that. Numbers that it was the first to count it knows.
    pub(super) fn owes_acknowledgement(&mut self, record: &Record) {
        let agent_id = match record {
            Record::Noted { msg_id, .. } if msg_id.as_str().starts_with("acked_") => return,
            Record::Noted { agent_id, .. } => agent_id.clone(),
            Record::Settled { id, .. } | Record::DeadLettered { id, .. } => {
                match self.fates.get(id).map(|fate| &fate.origin) {
                    Some(Origin::Engine { agent_id, .. }) => agent_id.clone(),
                    _ => return,
                }
            }
            _ => return,
        };
        let settled = self.durable.settled(&agent_id).map_or(0, |seq| seq.0);
        if settled > self.said.get(&agent_id).copied().unwrap_or(0) {
            self.untold_ends.insert(agent_id.clone(), settled);
            self.unsaid_ends.insert(agent_id, settled);
        }
    }

    /// What a release leaves with the engine is closed over HTTP, row by row, and is owed that way.
    pub(super) fn all_that_ended_is_said(&mut self) {
        let owes = |(id, _): &(&AgentId, &u64)| {
            let name = self.names.get(*id);
            name.is_some_and(|name| {
                let ledger = &self.durable;
                let by_http = ledger.uncleared(name).is_some() || ledger.unanswered(name).is_some();
                ledger.bound(name) == Some(*id) && !by_http
            })
        };
        let first = self.unsaid_ends.iter().find(owes);
        if let Some((id, owed)) = first.map(|(id, owed)| (id.clone(), *owed)) {
            self.break_law(|| {
                format!("the engine listens and is not told that {id} is done up to {owed}")
            });
        }
    }

    /// An agent has an identity, or its life with one ends, owing what no acknowledgement has told of by then; or the engine
    /// was told by HTTP. What ended before the agent was asked for is acknowledged when the engine sends it again: a program
    /// that does not start, or a release before it does, may be quicker than that.
    pub(super) fn life_turns(&mut self, record: &Record) {
        let (Record::Bound { agent, .. } | Record::Cleared { agent } | Record::Ended { agent, .. }) =
            record
        else {
            return;
        };
        let Some(agent_id) = self.durable.bound(agent).cloned() else {
            return;
        };
        if let Record::Ended { .. } = record {
            // A release of one that had ended by then says nothing of what left before.
            if self.identified.remove(&agent_id) {
                let owed = self.untold_ends.get(&agent_id).copied().unwrap_or(0);
                self.last_ends.insert(agent_id, owed);
            }
            return;
        }
        if let Record::Cleared { .. } = record {
            self.unsaid_ends.remove(&agent_id);
        }
        self.untold_ends.remove(&agent_id);
        self.last_ends.remove(&agent_id);
        if let Record::Bound { .. } = record {
            self.identified.insert(agent_id);
        }
    }

    /// The engine is told that an agent has left. All mail that ended with its life or before was acknowledged before that,
    /// in whichever step, and over a time without a link: who is deregistered can acknowledge nothing any more. That no
    /// acknowledgement comes later is no law: what the engine sent before it read this is under way, becomes a dead letter
    /// here, and is acknowledged in vain, unless the engine is one that counts it all the same.
    pub fn deregistered(&mut self, agent_id: &AgentId) {
        let said = self.said.get(agent_id).copied().unwrap_or(0);
        let owed = self.last_ends.remove(agent_id).unwrap_or(0);
        self.must(said >= owed, || {
            format!("{agent_id} is deregistered, acknowledged up to {said} and done up to {owed}")
        });
    }

    /// The engine has taken a message.
    pub fn posted(&mut self, msg_id: MsgId) {
        self.posted.insert(msg_id, self.now);
    }

    /// The engine has let go of a delivery that a release ended.
    pub fn closed(&mut self, id: &DeliveryId) {
        for (agent_id, rows) in &self.rows {
            let mut closed = rows
                .iter()
                .filter(|(_, msg)| id.as_str() == format!("del_{msg}_{agent_id}"));
            if let Some((seq, _)) = closed.next() {
                let heard = self.heard.entry(agent_id.clone()).or_default();
                *heard = (*heard).max(*seq);
            }
        }
    }

    /// A release ends all mail that was there by then: the next bearer of the name gets none of it.
    pub(super) fn is_of_the_last_bearer(&self, id: &DeliveryId) -> bool {
        let Some(delivery) = self.durable.mail().get(id).map(|p| &p.delivery) else {
            return false;
        };
        let released = self.released.get(&delivery.agent);
        let posted = self.posted.get(&delivery.msg_id);
        delivery.origin.is_engine() && posted.is_some() && posted < released
    }
}
