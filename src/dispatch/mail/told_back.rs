//! A message that was given up is told to the agent that wrote it, in a line of the broker's own. When such a line is given
//! up itself nobody is told, and it counts neither as a person's word nor as an agent's.

use super::limits::Side;
use super::speaker::Speaker;
use super::state::{Mail, MailStep};
use crate::ids::AgentName;
use crate::ledger::{Delivery, Origin};

/// How the ids of such lines begin.
const TOLD: &str = "told_";

impl Mail {
    /// Tells the writers of these messages for one agent, each once, that they were given up.
    pub(super) fn tell_back(&mut self, step: &mut MailStep, given_up: &[Delivery], why: &str) {
        let mut told: Vec<(AgentName, Vec<&Delivery>)> = Vec::new();
        for delivery in given_up {
            let Some(writer) = writer_here(step, delivery) else {
                continue;
            };
            match told.iter_mut().find(|(name, _)| *name == writer) {
                Some((_, of)) => of.push(delivery),
                None => told.push((writer, vec![delivery])),
            }
        }
        for (writer, of) in told {
            self.tell_writer(step, writer, &of, why);
        }
    }

    fn tell_writer(
        &mut self,
        step: &mut MailStep,
        writer: AgentName,
        given_up: &[&Delivery],
        why: &str,
    ) {
        let [first, rest @ ..] = given_up else {
            return;
        };
        let (id, agent) = (&first.msg_id, &first.agent);
        let what = match rest.len() {
            0 => format!("Your message {id} to {agent} was not delivered"),
            more => format!("Your message {id} to {agent} and {more} more were not delivered"),
        };
        self.tell(step, &writer, &what, why);
    }

    /// Tells an agent of this node that a message of its own will not arrive which another node or the engine has given up.
    pub(super) fn tell_of_other(
        &mut self,
        step: &mut MailStep,
        writer: &AgentName,
        message: &str,
        reader: &str,
        why: &str,
    ) {
        if !message.starts_with(TOLD) && !step.peers.control.is_stopping() {
            let what = format!("Your message {message} to {reader} was not delivered");
            self.tell(step, writer, &what, why);
        }
    }

    fn tell(&mut self, step: &mut MailStep, writer: &AgentName, what: &str, why: &str) {
        let body = format!("{what}: {why}. Nothing is sent again by itself.");
        if let Some(crowd) = self.crowd(step.view(), writer, Side::Local, body.len()) {
            log::warn!(event = "not_told_back", agent:% = writer; "{writer} is not told of it: {what}: {why}; {crowd}");
            return;
        }
        let id = format!("{TOLD}{}", step.unused());
        self.say(step, writer, Origin::Local, id, body);
    }
}

/// The agent of this node that wrote a message and is here to be told.
fn writer_here(step: &MailStep, delivery: &Delivery) -> Option<AgentName> {
    if delivery.msg_id.as_str().starts_with(TOLD) || step.peers.control.is_stopping() {
        return None;
    }
    match Speaker::of(step.view(), delivery) {
        Speaker::Agent(name) => step.peers.agents.is_here(&name).then_some(name),
        Speaker::Stranger | Speaker::Person | Speaker::Nobody => None,
    }
}
