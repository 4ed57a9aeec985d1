//! What a broker of another program has left behind, for the one that takes its place: written down like any other mail,
//! before anything is done about it.

use super::state::{Mail, MailStep};
use crate::ids::AgentName;
use crate::ledger::{Delivery, Departed, Record};

/// Mail, dead letters and agents of another program's broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estate {
    /// What was under way, in order. It waits for agents of these names.
    pub mail: Vec<Delivery>,
    /// What was given up, and why.
    pub dead: Vec<(Delivery, String)>,
    /// Who ran, to be started again by whoever wants them.
    pub agents: Vec<(AgentName, Departed)>,
}

impl Mail {
    /// Makes an estate this broker's own. What the ledger has already, from a start that was cut short, is passed over.
    pub(in crate::dispatch) fn take_over(&mut self, step: &mut MailStep, estate: Estate) {
        let known = |step: &MailStep, delivery: &Delivery| {
            let id = &delivery.id;
            step.ledger().mail().get(id).is_some() || step.ledger().dead().get(id).is_some()
        };
        for delivery in estate.mail {
            if !known(step, &delivery) {
                self.take_on(step, delivery);
            }
        }
        for (delivery, why) in estate.dead {
            if !known(step, &delivery) {
                let id = delivery.id.clone();
                self.take_on(step, delivery);
                self.give_up(step, &id, &why);
            }
        }
        for (agent, departed) in estate.agents {
            let lives = step.ledger().lives();
            if lives.get(&agent).is_none() && lives.departed_as(&agent).is_none() {
                step.record(Record::Departed { agent, departed });
            }
        }
        self.await_readers(step);
    }
}
