//! Agents that run here although the engine has them on another node: it gives an open spawn to somebody else as soon as a
//! link is lost (engine-wire 5.3), and both programs go on. Whoever lists an agent that is somebody else's is told so
//! (engine-wire 3.4), and ends its own: it would hear of nothing, and two would do the work of one.

use std::collections::BTreeMap;

use serde_json::Value;

use super::roster::Phase;
use super::{Dispatcher, Out};
use crate::ids::{AgentName, DeliveryId};
use crate::msg::{AgentCommand, Effect, Origin};
use crate::time::Now;
use crate::wire::down::ErrorFrame;
use crate::wire::event::{BrokerEvent, NestedError};
use crate::wire::up::{InventoryMember, InventorySync, Up};

/// What an engine says of an agent that runs on another node.
const ELSEWHERE: &str = "agent_location_conflict";

/// The lists of agents that the engine has yet to answer.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// The last complete one.
    pub whole: Option<String>,
    /// Lists of one agent each, to find out which is refused.
    single: BTreeMap<String, AgentName>,
    refused: Vec<AgentName>,
}

impl Dispatcher {
    /// Engines from 8.2.2 on name those of a list that they do not take.
    pub(super) fn list_answered(&mut self, now: Now, id: &str, answer: &Value, out: &mut Out) {
        if self.link.lists.single.remove(id).is_some() {
            return self.singles_answered(now, out);
        }
        if self.link.lists.whole.as_deref() != Some(id) {
            return;
        }
        self.link.lists.whole = None;
        let mut moved = Vec::new();
        for member in answer["rejected_agents"].as_array().into_iter().flatten() {
            let name = AgentName::new(member["name"].as_str().unwrap_or_default());
            match member["code"].as_str() {
                Some(ELSEWHERE) => moved.push(name),
                code => log::warn!(
                    "the engine does not take {name} for ours: {}",
                    code.unwrap_or("it does not say why")
                ),
            }
        }
        self.all_moved(now, moved, out);
    }

    /// Older engines refuse a list as a whole and do not say for whose sake, so they are asked for one at a time. Says
    /// whether the error was about a list.
    pub(super) fn list_refused(&mut self, now: Now, error: &ErrorFrame, out: &mut Out) -> bool {
        let conflict = error.code == ELSEWHERE;
        if let Some(name) = self.link.lists.single.remove(&error.id) {
            if conflict {
                self.link.lists.refused.push(name);
            }
            self.singles_answered(now, out);
            return true;
        }
        if !conflict || self.link.lists.whole.as_deref() != Some(&error.id) {
            return false;
        }
        self.link.lists.whole = None;
        for member in self.listed() {
            let id = self.request_id("inventory");
            let name = member.name.clone();
            self.link.lists.single.insert(id.clone(), name);
            out.effects
                .push(Effect::Send(Up::InventorySync(InventorySync {
                    id: Some(id),
                    agents: vec![member],
                })));
        }
        true
    }

    fn singles_answered(&mut self, now: Now, out: &mut Out) {
        if !self.link.lists.single.is_empty() {
            return;
        }
        let moved = std::mem::take(&mut self.link.lists.refused);
        if moved.is_empty() {
            // Whoever it was has changed its mind; the next list comes in its time.
            return;
        }
        self.all_moved(now, moved, out);
    }

    fn all_moved(&mut self, now: Now, names: Vec<AgentName>, out: &mut Out) {
        let mut news = false;
        for name in names {
            news |= self.moved(now, &name, out);
        }
        if news {
            self.announce(now, out);
        }
    }

    /// Ends an agent that runs on another node. Nothing that it does here counts any more, so the engine hears nothing of its
    /// end, and what waits for it is the other's to read.
    fn moved(&mut self, now: Now, name: &AgentName, out: &mut Out) -> bool {
        let grace = self.facts.grace;
        let Some(member) = self.members.get_mut(name) else {
            return false;
        };
        if member.phase != Phase::Running || std::mem::replace(&mut member.moved, true) {
            return false;
        }
        member.released = true;
        member.phase = Phase::Stopping;
        let order = AgentCommand::Stop { grace };
        out.effects
            .push(Effect::Agent(name.clone(), member.run, order));
        let message = format!(
            "the engine has '{name}' on another node, so the program that runs here is ended"
        );
        log::error!("{message}");
        let error = NestedError {
            code: "agent_moved".into(),
            message: message.clone(),
            retryable: false,
        };
        self.publish(
            BrokerEvent::WorkerError {
                name: name.clone(),
                code: error.code.clone(),
                message,
                error,
            },
            out,
        );
        let mail = self.ledger.mail().of(name).map(|p| &p.delivery);
        let theirs: Vec<DeliveryId> = mail
            .filter(|delivery| matches!(delivery.origin, Origin::Engine { .. }))
            .map(|delivery| delivery.id.clone())
            .collect();
        for id in theirs {
            let why = "the agent runs on another node now, which gets the message from the engine";
            self.bury(now, &id, why, out);
        }
        true
    }

    /// Who runs here, as the engine is told.
    pub(super) fn listed(&self) -> Vec<InventoryMember> {
        let live = self.members.iter().filter(|(_, m)| m.is_live() && !m.moved);
        live.filter_map(|(name, m)| {
            Some(InventoryMember {
                agent_id: m.agent_id.clone()?,
                name: name.clone(),
                invocation_id: m.born_of.clone(),
                session_ref: m.session_ref(),
            })
        })
        .collect()
    }
}
