//! What a release ends.

use super::*;

impl Laws {
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
