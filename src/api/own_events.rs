//! What an agent hears of the events with its own token: what is about itself, and what becomes of messages that it sent.
//! Whoever may watch hears all of them.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;

use super::auth::Principal;
use super::state::Api;
use crate::ids::AgentName;
use crate::msg::Right;

/// How many of its messages an agent can follow at once; the one that was sent first is forgotten first.
const FOLLOWED: usize = 1000;

/// One agent's share of the events.
pub(crate) struct OwnEvents {
    agent: AgentName,
    /// Ids of messages that it sent.
    sent: VecDeque<String>,
}

/// What tells whose an event is.
#[derive(Deserialize)]
struct EventHead {
    kind: String,
    name: Option<String>,
    event_id: Option<String>,
    from: Option<String>,
    target: Option<String>,
    #[serde(default)]
    by_operator: bool,
}

impl OwnEvents {
    /// The share of whoever asks, with what is known of messages sent before; `None` for who hears everything.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub(crate) fn of(api: &Api, who: &Principal) -> std::io::Result<Option<Self>> {
        let Principal::Agent(agent) = who else {
            return Ok(None);
        };
        if api.context.agents_may.contains(&Right::Watch) {
            return Ok(None);
        }
        let kept = api.context.events.subscribe(Some(0))?.replay;
        Ok(Some(Self::after(agent.clone(), &kept)))
    }

    fn after(agent: AgentName, kept: &[(u64, Arc<str>)]) -> Self {
        let mut own = Self {
            agent,
            sent: VecDeque::new(),
        };
        for (_, text) in kept {
            if text.contains("\"relay_inbound\"") {
                own.has(text);
            }
        }
        own
    }

    /// Whether the agent hears of this event.
    pub(crate) fn has(&mut self, text: &str) -> bool {
        // Reading JSON takes longer than looking for letters, and most events are terminal output of others.
        let may_be = text.contains(self.agent.as_str()) || text.contains("\"event_id\"");
        if !may_be && !text.contains("\"replay_gap\"") {
            return false;
        }
        let Ok(head) = serde_json::from_str::<EventHead>(text) else {
            return false;
        };
        let is_own = |name: &Option<String>| name.as_deref() == Some(self.agent.as_str());
        match head.kind.as_str() {
            "replay_gap" => true,
            "relay_inbound" if is_own(&head.from) && !head.by_operator => {
                self.sent.extend(head.event_id);
                if self.sent.len() > FOLLOWED {
                    self.sent.pop_front();
                }
                true
            }
            "relay_inbound" => is_own(&head.target),
            _ => is_own(&head.name) || head.event_id.is_some_and(|id| self.sent.contains(&id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_hears_of_itself_and_of_its_own_messages_and_of_nobody_else() {
        let said = |from: &str, to: &str, id: &str, more: &str| {
            format!(
                r#"{{"seq":1,"kind":"relay_inbound","event_id":"{id}","from":"{from}","target":"{to}","body":"ada"{more}}}"#
            )
        };
        let earlier: Arc<str> = said("ada", "bob", "m1", "").into();
        let mut own = OwnEvents::after(AgentName::new("ada"), &[(1, earlier)]);
        let verified = |id: &str| {
            format!(r#"{{"seq":2,"kind":"delivery_verified","name":"bob","event_id":"{id}"}}"#)
        };
        assert!(own.has(&verified("m1")), "sent before the stream began");
        assert!(!own.has(&verified("m2")));
        assert!(own.has(&said("ada", "bob", "m2", "")));
        assert!(own.has(&verified("m2")));
        assert!(
            own.has(&said("eve", "ada", "m3", "")),
            "it reads that anyway"
        );
        assert!(!own.has(&said("eve", "bob", "m4", "")) && !own.has(&verified("m4")));
        let in_its_name = said("ada", "bob", "m5", r#","by_operator":true"#);
        assert!(!own.has(&in_its_name) && !own.has(&verified("m5")));
        assert!(own.has(r#"{"kind":"worker_stream","name":"ada","chunk":"x"}"#));
        assert!(!own.has(r#"{"kind":"worker_stream","name":"bob","chunk":"ada"}"#));
        assert!(!own.has(r#"{"kind":"agent_blocked","name":"bob","screen":["ada"]}"#));
        assert!(own.has(r#"{"kind":"replay_gap","seq":1}"#));
    }
}
