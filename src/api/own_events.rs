//! What an agent hears of the events with its own token: what is about itself, and what becomes of messages that it sent.
//! Whoever may watch hears all of them.

use std::collections::{BTreeSet, VecDeque};
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
    /// Agents that it started.
    children: BTreeSet<String>,
}

/// What an agent hears of those that it started: that they run, what they hand in, and how they end.
const OF_CHILDREN: &[&str] = &[
    "agent_spawned",
    "agent_restarted",
    "agent_result",
    "agent_exited",
    "agent_released",
    "agent_permanently_dead",
    "worker_error",
];

/// What tells whose an event is.
#[derive(Deserialize)]
struct EventHead {
    kind: String,
    name: Option<String>,
    event_id: Option<String>,
    from: Option<String>,
    parent: Option<String>,
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
            children: BTreeSet::new(),
        };
        for (_, text) in kept {
            if text.contains("\"relay_inbound\"") || text.contains("\"agent_spawned\"") {
                own.has(text);
            }
        }
        own
    }

    /// Whether the agent hears of this event.
    pub(crate) fn has(&mut self, text: &str) -> bool {
        // Reading JSON takes longer than looking for letters, and most events are terminal output of others.
        let may_be = text.contains(self.agent.as_str())
            || text.contains("\"event_id\"")
            || (!text.contains("\"worker_stream\"")
                && self.children.iter().any(|child| text.contains(child)));
        if !may_be && !text.contains("\"replay_gap\"") {
            return false;
        }
        let Ok(head) = serde_json::from_str::<EventHead>(text) else {
            return false;
        };
        let is_own = |name: &Option<String>| name.as_deref() == Some(self.agent.as_str());
        let kind = head.kind.as_str();
        if let Some(name) = head.name.as_ref().filter(|_| kind == "agent_spawned") {
            match head.parent.as_deref() == Some(self.agent.as_str()) {
                true => self.children.insert(name.clone()),
                false => self.children.remove(name),
            };
        }
        let is_child = |name: &String| self.children.contains(name);
        if OF_CHILDREN.contains(&kind) && head.name.as_ref().is_some_and(is_child) {
            return true;
        }
        match kind {
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

    #[test]
    fn an_agent_hears_how_it_goes_with_those_that_it_started() {
        let spawned = |name: &str, parent: &str| {
            format!(r#"{{"kind":"agent_spawned","name":"{name}","parent":"{parent}"}}"#)
        };
        let said = |kind: &str| format!(r#"{{"kind":"{kind}","name":"kid"}}"#);
        let earlier: Arc<str> = spawned("kid", "ada").into();
        let mut own = OwnEvents::after(AgentName::new("ada"), &[(1, earlier)]);
        assert!(own.has(&said("agent_result")) && own.has(&said("agent_exited")));
        assert!(!own.has(&said("worker_stream")) && !own.has(&said("agent_blocked")));
        assert!(!own.has(&spawned("other", "Dashboard")));
        assert!(!own.has(&spawned("kid", "Dashboard")), "another life");
        assert!(!own.has(&said("agent_result")));
        assert!(own.has(&spawned("next", "ada")));
        assert!(own.has(r#"{"kind":"agent_result","name":"next"}"#));
    }
}
