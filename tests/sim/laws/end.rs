//! What must hold when a world ends, and what the laws can be asked.

use super::*;

impl Laws {
    /// What is left, for people.
    pub fn left(&self) -> String {
        let mut text = String::new();
        for pending in self.durable.mail().all() {
            let d = &pending.delivery;
            text += &format!(
                "\n  pending {} for {} ({} attempts)",
                d.id, d.agent, pending.attempts
            );
        }
        for (agent_id, rows) in &self.rows {
            let last = rows.last_key_value().map_or(0, |(seq, _)| *seq);
            let heard = self.heard.get(agent_id).copied().unwrap_or(0);
            if heard < last {
                let name = self.names.get(agent_id);
                text += &format!("\n  the engine has sent {name:?} up to {last} and heard {heard}");
            }
        }
        text
    }

    /// Faults have stopped, everybody has read: each delivery has ended once, and what ended well was taken.
    pub fn at_the_end(&mut self) {
        let mut wrong = Vec::new();
        for (id, fate) in &self.fates {
            if fate.ends != 1 {
                wrong.push(format!("{id} ended {} times", fate.ends));
            }
            let sure = matches!(fate.proof, Some(Proof::Echo | Proof::Screen | Proof::Read));
            if sure && fate.accepted == 0 && fate.tag.is_some() {
                wrong.push(format!(
                    "{id} ({:?}) settled with proof {:?} and {} never took it",
                    fate.tag, fate.proof, fate.agent
                ));
            }
        }
        for (id, fate) in &self.fates {
            if fate.thrown && !fate.dead && fate.accepted == 0 {
                wrong.push(format!(
                    "{id} ({:?}) was thrown away by {} unread and counts as done",
                    fate.tag, fate.agent
                ));
            }
        }
        for (agent_id, rows) in &self.rows {
            let finished = self.finished.get(agent_id);
            if !self.is_kept(agent_id) {
                continue;
            }
            for (seq, msg_id) in rows {
                if finished.is_none_or(|f| !f.contains(seq)) {
                    wrong.push(format!("number {seq} ({msg_id}) of {agent_id} never ended"));
                }
            }
        }
        if let Some(first) = wrong.first().cloned() {
            self.break_law(|| first);
        }
    }

    /// What became of a message for that agent.
    pub fn fate_of(&self, agent: &AgentName, tag: u64) -> Option<&Fate> {
        self.fates.get(self.id_of(agent, tag)?)
    }

    /// The name under which a message for that agent was last accepted.
    pub fn id_of(&self, agent: &AgentName, tag: u64) -> Option<&DeliveryId> {
        self.by_tag.get(&(agent.clone(), tag))
    }

    /// How many deliveries there were, how many of them became dead letters, and how many were typed with nothing seen and
    /// not taken: what only a person can tell from a delivery that was.
    pub fn tally(&self) -> (u64, u64, u64) {
        let count = |so: fn(&&Fate) -> bool| self.fates.values().filter(so).count() as u64;
        (
            count(|_| true),
            count(|f| f.dead),
            count(|f| f.proof == Some(Proof::None) && f.accepted == 0),
        )
    }

    /// What the disk must give back.
    pub fn durable(&self) -> &Ledger {
        &self.durable
    }

    /// How far the engine has heard that agent's mail is done.
    pub fn heard_up_to(&self, agent: &AgentName) -> u64 {
        let ids = self.names.iter().filter(|(_, name)| *name == agent);
        let heard = ids.filter_map(|(agent_id, _)| self.heard.get(agent_id));
        heard.max().copied().unwrap_or(0)
    }

    /// Whether a message of that id reached the ledger.
    pub fn came(&self, msg_id: &str, agent: &AgentName) -> bool {
        self.deleted.contains(agent) || self.by_message.contains_key(&MsgId::new(msg_id))
    }
}
