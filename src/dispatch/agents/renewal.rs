//! Another identity for an agent whose program runs, and the end of one that the engine has on another node.

use serde_json::Value;

use super::agent::{LocalAgent, Renewal};
use super::agent_registration::text;
use super::state::{AgentStep, Agents};
use super::stopping::hang_up;
use crate::dispatch::notice::{Notice, Refused};
use crate::ids::{AgentId, AgentName};
use crate::ledger::Record;
use crate::msg::Secret;
use crate::wire::down::ErrorFrame;
use crate::wire::event::{BrokerEvent, NestedError};
use crate::wire::up::Up;

/// How often an identity is asked for anew on one link.
const RENEWALS: u8 = 2;

impl LocalAgent {
    fn may_be_renewed(&self) -> bool {
        self.is_running() && !self.moved && !self.renewal.is_under_way()
    }
}

impl Agents {
    pub(super) fn renew(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        code: Option<String>,
    ) -> bool {
        let id = step.request_id("agent_register");
        let Some(agent) = self
            .all
            .get_mut(name)
            .filter(|agent| agent.may_be_renewed())
        else {
            return false;
        };
        agent.renewal.tries += 1;
        if agent.renewal.tries > RENEWALS {
            let why = code.as_deref().unwrap_or("it does not say why");
            let why = format!("the engine does not take '{name}' for an agent of this node: {why}");
            return self.disowned(step, name, &why);
        }
        log::warn!(event = "agent_registered_anew", agent:% = name; "the engine does not take {name} for ours: {code:?}; registering it anew");
        agent.renewal.request = Some(id.clone());
        agent.renewal.code = code;
        let frame = agent.registration(id, name);
        step.send(Up::AgentRegister(frame));
        true
    }

    fn renewing(&self, request: &str) -> Option<AgentName> {
        let mut all = self.all.iter();
        let found = all.find(|(_, agent)| agent.renewal.request.as_deref() == Some(request));
        found.map(|(name, _)| name.clone())
    }

    /// Says whether the reply was to such a request.
    pub(super) fn renewed(&mut self, step: &mut AgentStep, request: &str, data: &Value) -> bool {
        let Some(name) = self.renewing(request) else {
            return false;
        };
        let token = text(data, "token").map(Secret::new);
        let agent_id = text(data, "agent_id").map(AgentId::new);
        let Some(agent) = self.all.get_mut(&name) else {
            return true;
        };
        agent.renewal.request = None;
        let Some(agent_id) = agent_id else {
            return true;
        };
        agent.agent_id = Some(agent_id.clone());
        agent.token = token.or(agent.token.take());
        step.record(Record::Bound {
            agent: name.clone(),
            agent_id,
        });
        let message = format!(
            "the engine did not know '{name}' as it runs here and has registered it anew; mail reaches it again, but the \
                 token in its program's environment is no longer good: start it again if it speaks to the engine itself"
        );
        emit_location_conflict(step, &name, "agent_registered_anew", message);
        step.notice(Notice::RosterChanged);
        true
    }

    /// Says whether the error was about such a request.
    pub(super) fn renewal_refused(&mut self, step: &mut AgentStep, error: &ErrorFrame) -> bool {
        let Some(name) = self.renewing(&error.id) else {
            return false;
        };
        let known = step.ledger().bound(&name).cloned();
        let id = step.request_id("agent_register");
        let Some(agent) = self.all.get_mut(&name) else {
            return true;
        };
        agent.renewal.request = None;
        // Only from a provider of this node is an agent had back; the same agent elsewhere is left alone.
        let ours = agent.renewal.code.take().as_deref() == Some(Refused::OTHER_PROVIDER);
        match known.filter(|_| ours && error.code == "agent_already_exists") {
            Some(expected_agent_id) => {
                agent.renewal.request = Some(id.clone());
                let frame = agent.recovery(id, &name, expected_agent_id);
                step.send(Up::AgentRecover(frame));
            }
            None => {
                let why = format!(
                    "the engine does not have '{name}' on this node any more ({} {}), so the program that runs here is ended",
                    error.code, error.message
                );
                if self.disowned(step, &name, &why) {
                    step.notice(Notice::RosterChanged);
                }
            }
        }
        true
    }

    /// Requests of a link that is gone get no answer; the next list shows whether they are still needed.
    pub(super) fn renewals_lost(&mut self) {
        for agent in self.all.values_mut() {
            agent.renewal = Renewal::default();
        }
    }

    // ---- the end ------------------------------------------------------------------------------------------------

    pub(super) fn moved(&mut self, step: &mut AgentStep, name: &AgentName) -> bool {
        let why = format!(
            "the engine has '{name}' on another node, so the program that runs here is ended"
        );
        self.disowned(step, name, &why)
    }

    /// Ends an agent that is somebody else's. Nothing that it does here counts any more, so the engine hears nothing of its
    /// end, and what waits for it is the other's to read.
    fn disowned(&mut self, step: &mut AgentStep, name: &AgentName, why: &str) -> bool {
        let grace = step.config().grace;
        let Some(agent) = self
            .all
            .get_mut(name)
            .filter(|a| a.is_running() && !a.moved)
        else {
            return false;
        };
        agent.moved = true;
        agent.released = true;
        hang_up(step, name, agent, grace);
        log::error!(event = "agent_moved", agent:% = name; "{why}");
        emit_location_conflict(step, name, "agent_moved", why.to_owned());
        step.notice(Notice::AgentMoved(name.clone()));
        true
    }
}

fn emit_location_conflict(step: &mut AgentStep, name: &AgentName, code: &str, message: String) {
    let error = NestedError {
        code: code.into(),
        message: message.clone(),
        retryable: false,
    };
    let event = BrokerEvent::WorkerError {
        name: name.clone(),
        code: error.code.clone(),
        message,
        error,
    };
    step.publish(event);
}
