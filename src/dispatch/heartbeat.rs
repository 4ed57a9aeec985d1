//! What the engine is told of us: heartbeat and inventory from one snapshot of the roster, whatever a broken link may have
//! swallowed, and the orderly goodbye.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::inbound::GAP_PATIENCE;
use super::location_conflict::Lists;
use super::node_registration::{EngineVersion, NodeRegistration};
use super::{Dispatcher, Out};
use crate::ids::{AgentId, AgentName, InvocationId, NodeId, Seq};
use crate::msg::{Effect, ExitReason, LinkCommand};
use crate::time::{Mono, Now, soonest};
use crate::wire::event::BrokerEvent;
use crate::wire::up::{Capability, InventorySync, NodeDeregister, NodeHeartbeat, Up};

/// Between heartbeats; the engine takes a node for dead after 45 s ([engine-protocol 6](crate::docs::engine_protocol#6)).
pub const HEARTBEAT: Duration = Duration::from_secs(12);
/// Inventory is repeated with every this many heartbeats, so that a lost one heals within a minute.
const INVENTORY_EVERY: u32 = 5;
/// How long a list that agents' mail depends on waits for what runs here. By then an engine has given what it had no answer
/// to to another node anyway, list or not ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)).
const LIST_WAITS: Duration = Duration::from_secs(45);
/// How many answers are sent again on the next link. The engine asks again for others.
const ANSWERS: usize = 16;
/// Between killing what is left of the agents and leaving.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// What software we say we are.
pub const VERSION: &str = concat!("relay-broker/", env!("CARGO_PKG_VERSION"));

/// The link as the dispatcher sees it.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The socket is open.
    pub up: bool,
    /// Why not, for people.
    pub why_down: Option<String>,
    /// The engine took our registration on this link.
    pub registered: bool,
    /// A node token is at hand.
    pub enrolled: bool,
    /// When the engine last sent anything.
    pub last_frame: Option<Mono>,
    /// Who we are on this link.
    pub registration: NodeRegistration,
    /// As far as any answer of this engine has told.
    pub age: EngineVersion,
    /// The engine has shown that it does not understand the cursor capability.
    pub no_cursor: bool,
    /// The engine has shown that it sends nothing again when it is given the list of agents, as those from 8.2 on do for
    /// agents that are ready already ([engine-protocol 4.4](crate::docs::engine_protocol#4.4)).
    pub lists_replay_nothing: bool,
    /// Who ended while there was no link.
    pub farewells: BTreeMap<AgentName, AgentId>,
    next_heartbeat: Option<Mono>,
    beats: u32,
    /// A list of agents is owed.
    inventory_owed: bool,
    /// When it goes whatever runs here, because mail waits for it.
    inventory_by: Option<Mono>,
    /// Which invocations were answered since the last link began.
    answers: VecDeque<InvocationId>,
    /// One has gone out in this very turn.
    listed: bool,
    /// Lists of agents on their way.
    pub lists: Lists,
    /// Our name was taken by another node, so we carry part of our id in it.
    pub renamed: bool,
}

impl Link {
    pub(super) fn deadline(&self) -> Option<Mono> {
        [self.next_heartbeat, self.inventory_by]
            .into_iter()
            .fold(self.registration.deadline(), soonest)
    }

    /// Whether the engine listens: it took our registration on this very link. What it hears before that it takes for the
    /// words of whoever is registered as this node ([engine-protocol 3.8](crate::docs::engine_protocol#3.8),
    /// [3.9](crate::docs::engine_protocol#3.9)).
    pub(super) fn is_open(&self) -> bool {
        self.up && self.registered
    }

    pub(super) fn note_answer(&mut self, id: &InvocationId) {
        if self.answers.len() >= ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(id.clone());
    }

    pub(super) fn take_answers(&mut self) -> VecDeque<InvocationId> {
        std::mem::take(&mut self.answers)
    }

    /// Whether heartbeats are under way on this link.
    pub(super) fn beating(&self) -> bool {
        self.next_heartbeat.is_some()
    }
}

impl Dispatcher {
    pub(super) fn enrolled(&mut self, node_id: NodeId, node_name: String, out: &mut Out) {
        self.facts.node_id = node_id;
        if !node_name.is_empty() {
            self.facts.node_name = node_name;
        }
        self.link.enrolled = true;
        out.effects.push(Effect::Enrolled {
            node_id: self.facts.node_id.clone(),
            node_name: self.facts.node_name.clone(),
        });
    }

    /// The first word on a new link is who we are; nothing else is said until the engine has taken it.
    pub(super) fn link_up(&mut self, now: Now, out: &mut Out) {
        self.link.up = true;
        self.link.why_down = None;
        self.link.registered = false;
        self.gaps.clear();
        self.begin_registration(now, out);
        self.publish(
            BrokerEvent::NodeLink {
                connected: true,
                reason: None,
            },
            out,
        );
    }

    /// The engine took our registration: who runs here, how we are, and what a broken link may have swallowed.
    pub(super) fn greet(&mut self, now: Now, out: &mut Out) {
        self.answer_again(out);
        self.inventory_needed(now, out);
        self.heartbeat(now, out);
        self.acknowledge_all(out);
        self.send_farewells(out);
        self.register_waiting(now, out);
    }

    /// What was acknowledged on a link that broke may never have arrived.
    fn acknowledge_all(&mut self, out: &mut Out) {
        let done: Vec<_> = self
            .members
            .iter()
            .filter_map(|(name, m)| Some((name.clone(), m.agent_id.clone()?)))
            .filter(|(_, id)| self.ledger.settled(id).is_some_and(|seq| seq != Seq(0)))
            .collect();
        for (name, agent_id) in done {
            self.acknowledge(&name, &agent_id, out);
        }
    }

    pub(super) fn link_lost(&mut self, now: Now, why: &str, out: &mut Out) {
        let was_up = std::mem::take(&mut self.link.up);
        let news = self.link.why_down.as_deref() != Some(why);
        self.link.registered = false;
        self.link.registration = NodeRegistration::default();
        self.link.lists = Lists::default();
        self.link.next_heartbeat = None;
        self.link.inventory_owed = false;
        self.link.inventory_by = None;
        self.link.why_down = Some(why.to_owned());
        self.gaps.clear();
        self.full.clear();
        self.left.clear();
        self.registrations_lost(now, out);
        self.renewals_lost();
        if was_up {
            self.counters.link_losses += 1;
        }
        if was_up || news {
            self.publish(
                BrokerEvent::NodeLink {
                    connected: false,
                    reason: Some(why.to_owned()),
                },
                out,
            );
        }
    }

    pub(super) fn link_refused(&mut self, why: &str, out: &mut Out) {
        if self.link.why_down.as_deref() != Some(why) {
            log::error!("{why}");
            self.link.why_down = Some(why.to_owned());
            self.publish(
                BrokerEvent::NodeLink {
                    connected: false,
                    reason: Some(why.to_owned()),
                },
                out,
            );
        }
    }

    /// `spawn:<harness>` for each harness, as capacity. Never a bare `spawn`: on old engines it would catch every spawn of
    /// the workspace ([engine-protocol 5.1](crate::docs::engine_protocol#5.1)).
    pub(super) fn capabilities(&self) -> Vec<Capability> {
        let spawns = self.facts.harnesses.iter();
        let spawns = spawns.map(|h| Capability::of(format!("spawn:{h}"), "capacity"));
        let all = spawns.chain(self.action_capabilities());
        let all = all.chain(self.sidecar_capabilities());
        // The last of one name counts: what a sidecar says of it.
        let by_name: BTreeMap<String, Capability> = all.map(|c| (c.name.clone(), c)).collect();
        by_name.into_values().collect()
    }

    /// Tells the engine at once what can be done here. Only a registration makes actions known
    /// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)).
    pub(super) fn capabilities_changed(&mut self, now: Now, out: &mut Out) {
        if self.link.up {
            self.register_node(now, out);
            self.announce(now, out);
        }
    }

    /// Tells the engine at once who runs here, after each change of the live set.
    pub(super) fn announce(&mut self, now: Now, out: &mut Out) {
        if self.link.is_open() {
            self.inventory(out);
            self.heartbeat(now, out);
        }
    }

    /// The complete live set, as soon as nothing that the engine asked for runs here: it gives to another node what it has
    /// open on this one and does not find in the list ([engine-protocol 3.9](crate::docs::engine_protocol#3.9)), and two
    /// would do it.
    pub(super) fn inventory(&mut self, out: &mut Out) {
        self.link.inventory_owed = !self.invocations.is_empty();
        if !self.link.inventory_owed {
            self.list(out);
        }
    }

    /// The same, where mail depends on it: on a new link the engine sends none before a list, and none again without one
    /// ([engine-protocol 4.4](crate::docs::engine_protocol#4.4), [3.9](crate::docs::engine_protocol#3.9)). This one does not
    /// wait for ever.
    pub(super) fn inventory_needed(&mut self, now: Now, out: &mut Out) {
        if !self.link.is_open() {
            return;
        }
        self.inventory(out);
        if self.link.inventory_owed {
            self.link.inventory_by.get_or_insert(now.mono + LIST_WAITS);
        }
    }

    /// Never empty: an empty list would take agents offline that a lost list might still name
    /// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)); agents that end are deregistered one by one.
    fn list(&mut self, out: &mut Out) {
        self.link.inventory_owed = false;
        self.link.inventory_by = None;
        self.link.listed = true;
        let agents = self.listed();
        if agents.is_empty() {
            return;
        }
        let id = self.request_id("inventory");
        self.link.lists.sent(&id, agents.len());
        for gap in self.gaps.values_mut() {
            gap.asked = Some(id.clone());
        }
        out.effects
            .push(Effect::Send(Up::InventorySync(InventorySync {
                id: Some(id),
                agents,
            })));
    }

    /// What is missing may take so long to come, from the moment when it was asked for.
    pub(super) fn time_gaps(&mut self, now: Now) {
        if std::mem::take(&mut self.link.listed) {
            for gap in self.gaps.values_mut() {
                gap.give_up_at.get_or_insert(now.mono + GAP_PATIENCE);
            }
        }
    }

    /// An invocation was answered: the list that waited for it can go.
    pub(super) fn inventory_if_owed(&mut self, out: &mut Out) {
        if self.link.inventory_owed && self.link.is_open() {
            self.inventory(out);
        }
    }

    pub(super) fn heartbeat(&mut self, now: Now, out: &mut Out) {
        self.link.next_heartbeat = Some(now.mono + HEARTBEAT);
        out.effects.push(self.beat());
    }

    /// How we are.
    pub(super) fn beat(&self) -> Effect {
        let active = self.members.values().filter(|m| m.is_live() && !m.moved);
        let active = active.count() as u64;
        let max_agents = self.max_agents();
        let load = match max_agents {
            0 => 0.0,
            max => (active as f64 / max as f64).min(1.0),
        };
        let serves = !self.capabilities().is_empty();
        Effect::Send(Up::NodeHeartbeat(NodeHeartbeat {
            name: Some(self.facts.node_name.clone()),
            node_id: Some(self.facts.node_id.clone()),
            handlers_live: serves && self.stopping.is_none(),
            capabilities: Some(self.advertised()),
            max_agents: Some(max_agents),
            version: Some(VERSION.into()),
            load: Some(load),
            active_agents: active,
            provider: None,
        }))
    }

    pub(super) fn tick_link(&mut self, now: Now, out: &mut Out) {
        self.tick_registration(now, out);
        if self.link.next_heartbeat.is_some_and(|at| at <= now.mono) {
            self.link.beats += 1;
            if self.link.beats.is_multiple_of(INVENTORY_EVERY) {
                self.inventory(out);
            }
            self.heartbeat(now, out);
        }
        if self.link.inventory_by.is_some_and(|at| at <= now.mono) {
            self.list(out);
        }
    }

    /// Starts the orderly end: no new calls, no new frames, every agent is hung up on.
    pub(super) fn shutdown(&mut self, now: Now, deadline: Mono, out: &mut Out) {
        let again = self.stopping.is_some();
        self.stopping = Some(self.stopping.map_or(deadline, |at| at.min(deadline)));
        let grace = if again {
            Duration::ZERO
        } else {
            self.facts.grace
        };
        if self.link.is_open() && !again {
            // No handler is live from now on, so that no spawn is placed here any more.
            self.heartbeat(now, out);
        }
        self.stop_all(now, grace, out);
        self.leave_if_empty(now, out);
    }

    /// Time is up: whoever is left is killed, and has a moment to be seen gone.
    pub(super) fn stop_deadline(&mut self, now: Now, out: &mut Out) {
        if std::mem::replace(&mut self.hurried, true) {
            self.leave(now, ExitReason::DeadlinePassed, out);
            return;
        }
        self.stopping = Some(now.mono + LAST_MOMENT);
        self.stop_all(now, Duration::ZERO, out);
        self.leave_if_empty(now, out);
    }

    pub(super) fn leave_if_empty(&mut self, now: Now, out: &mut Out) {
        if self.stopping.is_some() && self.members.is_empty() {
            self.leave(now, ExitReason::Stopped, out);
        }
    }

    pub(super) fn leave(&mut self, now: Now, reason: ExitReason, out: &mut Out) {
        if std::mem::replace(&mut self.exited, true) {
            return;
        }
        self.write_all_waited(now, out);
        self.emit_kept(out);
        if self.link.is_open() {
            out.effects
                .push(Effect::Send(Up::NodeDeregister(NodeDeregister::default())));
        }
        out.effects.push(Effect::Link(LinkCommand::Finish));
        out.effects.push(Effect::Exit(reason));
    }

    /// A stop loses nothing, and says how much it keeps and for whom.
    fn emit_kept(&mut self, out: &mut Out) {
        let count = self.ledger.mail().len() as u64;
        if count == 0 {
            return;
        }
        let names: Vec<AgentName> = self
            .ledger
            .mail()
            .fronts()
            .map(|(name, _)| name.clone())
            .collect();
        let list: Vec<&str> = names.iter().map(AgentName::as_str).collect();
        log::info!(
            "{count} messages are kept for the next start, for {}",
            list.join(", ")
        );
        self.publish(BrokerEvent::DeliveriesKept { count, names }, out);
    }

    /// A text under one of several names in a reply's data.
    pub(super) fn text<'a>(data: &'a Value, name: &str) -> Option<&'a str> {
        data.get(name)
            .and_then(Value::as_str)
            .filter(|s| !s.is_empty())
    }
}
