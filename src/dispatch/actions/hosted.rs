//! Actions that an agent serves, not the node ([engine-protocol 5.5](crate::docs::engine_protocol#5.5)): the engine sends the
//! invocation to the agent's node, and the agent answers the engine itself. So the agent is told, once, by a message; only
//! what can never reach it is answered here.

use serde_json::json;

use super::state::{ActionStep, Actions};
use crate::dispatch::notice::Notice;
use crate::domain::{Mode, Outcome};
use crate::ids::{AgentId, AgentName, DeliveryId, InvocationId, MsgId, Seq};
use crate::ledger::Delivery;
use crate::wire::down::{ActionInvoke, Deliver};
use crate::wire::rest::encode;

/// What the ids of these messages begin with.
const PREFIX: &str = "act_";

fn is_told(delivery: &Delivery) -> bool {
    delivery.id.as_str() == format!("{PREFIX}{}", delivery.msg_id)
}

impl Actions {
    /// Tells the agent that serves the action, if one does. Says whether the invocation is for an agent.
    pub(super) fn invoke_agent(&mut self, step: &mut ActionStep, invoke: &ActionInvoke) -> bool {
        let for_agent = invoke.agent_id.is_some() || invoke.agent_name.is_some();
        // These name the agent that they are about.
        let about_one = matches!(invoke.action.as_str(), "spawn" | "release")
            || invoke.action.starts_with("spawn:");
        if !for_agent || about_one {
            return false;
        }
        let id = invoke.invocation_id.clone();
        match server_of(step, invoke) {
            Some((agent_id, agent)) => {
                let frame = told(step, invoke, agent_id, agent);
                step.notice(Notice::Told(Box::new(frame)));
            }
            None => {
                let name = invoke.agent_name.as_ref().map_or("", AgentName::as_str);
                let why = format!("agent_unavailable: the agent '{name}' does not run here");
                self.answer(step, id, Outcome::Error(why));
            }
        }
        true
    }

    /// Nobody will read a message; if it told an agent of an invocation, the caller hears why there is no answer.
    pub(in crate::dispatch) fn nobody_serves(
        &mut self,
        step: &mut ActionStep,
        delivery: &Delivery,
        why: &str,
    ) {
        if is_told(delivery) {
            let id = InvocationId::new(delivery.msg_id.as_str());
            let why = format!("agent_unavailable: {why}");
            self.answer(step, id, Outcome::Error(why));
        }
    }
}

/// The agent that is meant: by its id, and by its name only where there is no id.
fn server_of(step: &ActionStep, invoke: &ActionInvoke) -> Option<(AgentId, AgentName)> {
    let here = step.peers.agents.here().into_iter();
    let mut known = here.filter_map(|(name, id)| Some((id?.clone(), name.clone())));
    known.find(|(id, name)| match &invoke.agent_id {
        Some(wanted) => id == wanted,
        None => invoke.agent_name.as_ref() == Some(name),
    })
}

fn told(step: &ActionStep, invoke: &ActionInvoke, agent_id: AgentId, agent: AgentName) -> Deliver {
    let (id, action) = (&invoke.invocation_id, &invoke.action);
    let url = format!(
        "{}/v1/actions/{}/invocations/{}/complete",
        step.config().engine_url,
        encode(action),
        encode(id.as_str())
    );
    let text = format!(
        "Action {action} was invoked (invocation {id}) with {}. Answer it with your agent token: \
         POST {url} {{\"output\": …}} or {{\"error\": \"…\"}}",
        invoke.input
    );
    let bytes = text.len();
    Deliver {
        delivery_id: DeliveryId::new(format!("{PREFIX}{id}")),
        agent_id,
        agent,
        msg_id: MsgId::new(id.as_str()),
        seq: Seq(0),
        mode: Mode::Wait,
        payload: json!({"type": "dm.received", "data": {"text": text}}),
        left_out: false,
        bytes,
    }
}
