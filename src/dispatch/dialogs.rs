//! Dialogs that stand in agents' terminals: told to whoever may answer them, and shown for as long as they stand.

use super::{Dispatcher, Out};
use crate::ids::AgentName;
use crate::wire::event::{BrokerEvent, Dialog, Policy};

impl Dispatcher {
    pub(super) fn blocked(
        &mut self,
        name: &AgentName,
        dialog: Dialog,
        screen: Vec<String>,
        out: &mut Out,
    ) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.dialog = Some(dialog);
        self.counters.agents_blocked += 1;
        log::warn!("agent {name} is blocked: {}", dialog.sentence());
        let event = BrokerEvent::AgentBlocked {
            name: name.clone(),
            dialog,
            reason: dialog.sentence().into(),
            screen,
            pending_delivery_count: self.ledger.mail().waiting(name) as u64,
        };
        self.publish(event, out);
    }

    pub(super) fn unblocked(&mut self, name: &AgentName, dialog: Dialog, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.dialog = None;
        let name = name.clone();
        self.publish(BrokerEvent::AgentUnblocked { name, dialog }, out);
    }

    pub(super) fn dialog_answered(
        &mut self,
        name: &AgentName,
        dialog: Dialog,
        policy: Policy,
        keys: String,
        out: &mut Out,
    ) {
        self.counters.dialogs_answered += 1;
        let (asked, word) = (dialog.word(), policy.word());
        log::warn!("agent {name}: {asked} dialog answered by policy {word:?} with {keys}");
        let event = BrokerEvent::DialogAnswered {
            name: name.clone(),
            dialog,
            policy,
            keys,
        };
        self.publish(event, out);
    }
}
