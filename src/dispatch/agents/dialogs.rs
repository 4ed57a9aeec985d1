//! Dialogs that stand in agents' terminals: told to whoever may answer them, and shown for as long as they stand.

use super::agent::LocalAgent;
use super::state::{AgentStep, Agents};
use crate::ids::AgentName;
use crate::wire::event::{BrokerEvent, Dialog, Policy};

impl Agents {
    pub(in crate::dispatch) fn blocked(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        dialog: Dialog,
        screen: Vec<String>,
    ) {
        let agent = self.all.get_mut(name);
        let Some(program) = agent.and_then(LocalAgent::program_mut) else {
            return;
        };
        program.dialog = Some(dialog);
        step.count().agents_blocked += 1;
        log::warn!(event = "agent_blocked", agent:% = name; "agent {name} is blocked: {}", dialog.sentence());
        let event = BrokerEvent::AgentBlocked {
            name: name.clone(),
            dialog,
            reason: dialog.sentence().into(),
            screen,
            pending_delivery_count: step.ledger().mail().waiting(name) as u64,
        };
        step.publish(event);
    }

    pub(in crate::dispatch) fn unblocked(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        dialog: Dialog,
    ) {
        let agent = self.all.get_mut(name);
        let Some(program) = agent.and_then(LocalAgent::program_mut) else {
            return;
        };
        program.dialog = None;
        let name = name.clone();
        step.publish(BrokerEvent::AgentUnblocked { name, dialog });
    }

    pub(in crate::dispatch) fn dialog_answered(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        dialog: Dialog,
        policy: Policy,
        keys: String,
    ) {
        step.count().dialogs_answered += 1;
        let (asked, word) = (dialog.word(), policy.word());
        log::warn!(event = "dialog_answered", agent:% = name; "agent {name}: {asked} dialog answered by policy {word:?} with {keys}");
        let event = BrokerEvent::DialogAnswered {
            name: name.clone(),
            dialog,
            policy,
            keys,
        };
        step.publish(event);
    }
}
