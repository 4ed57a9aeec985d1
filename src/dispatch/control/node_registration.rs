//! This node's place in the engine's roster: its registration on each link, what the answer tells of the engine's age, and
//! what to do when there is none or it is a no.

use std::time::Duration;

use serde_json::Value;

use super::heartbeat::VERSION;
use super::link::NodeRegistration;
use super::location_conflict::recognised;
use super::state::{Control, ControlStep, ControlView};
use crate::dispatch::engine_version::EngineVersion;
use crate::dispatch::notice::Notice;
use crate::msg::{Effect, LinkCommand};
use crate::wire::down::{EngineReply, ErrorFrame};
use crate::wire::event::BrokerEvent;
use crate::wire::up::{Capability, NodeRegister, Provider, Up};

/// How long the engine may take to answer, and how long a refusal is left to stand that may pass by itself.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The same for another instance of this node, which keeps its place until it has been silent for 35 s
/// ([engine-protocol 3.8](crate::docs::engine_protocol#3.8)).
const INSTANCE_AGAIN_AFTER: Duration = Duration::from_secs(3);
/// For so many times; whoever is still there then is no ghost.
const INSTANCE_TRIES: u32 = 20;
/// Under which name this process serves its node. It is the one that engines give to those who name none, whose actions
/// are known in the whole workspace ([engine-protocol 3.7](crate::docs::engine_protocol#3.7)).
const PROVIDER: &str = "default";
/// Asks the engine to tell us its cursors and to send mail again per agent, not all of it with each registration.
const CURSOR: &str = "relay:delivery-cursor-v1";

impl Control {
    /// The first words on a new link.
    pub(super) fn begin_registration(&mut self, step: &mut ControlStep) {
        self.link.registration = NodeRegistration::default();
        self.register_node(step);
    }

    /// Says again who we are and what can be done here.
    pub(super) fn register_node(&mut self, step: &mut ControlStep) {
        let id = step.request_id("node_register");
        self.link.registration.request = Some(id.clone());
        self.link.registration.again_at = Some(step.now.mono + AGAIN_AFTER);
        self.link.registration.with_cursor = self.wants_cursor();
        self.link.registration.with_provider = self.link.version >= EngineVersion::Six;
        let provider = self.link.registration.with_provider;
        let provider = provider.then(|| self.provider(step.view()));
        step.send(Up::NodeRegister(NodeRegister {
            id: Some(id),
            name: self.node_name.clone(),
            node_id: self.node_id.clone(),
            capabilities: self.advertised(step.view()),
            max_agents: step.peers.actions.max_agents(step.config()),
            tags: step.peers.actions.tags(),
            version: VERSION.into(),
            resume_cursor: None,
            provider,
        }));
    }

    /// This process, the same on each of its links: the engine takes a new socket of it at once and closes the old one, which
    /// may be half open and say nothing any more. Whoever names no instance is a new one with each socket, and refused
    /// while the old one still counts as alive ([engine-protocol 3.8](crate::docs::engine_protocol#3.8)).
    fn provider(&self, view: ControlView) -> Provider {
        Provider {
            name: PROVIDER.into(),
            instance_id: format!("broker-{:x}-{}", view.started().wall.0, view.config().pid),
        }
    }

    /// Older engines would take it for an action of that name.
    fn wants_cursor(&self) -> bool {
        self.link.version >= EngineVersion::Six && !self.link.no_cursor
    }

    /// What we serve, and what we ask of the engine in the same list.
    pub(super) fn advertised(&self, view: ControlView) -> Vec<Capability> {
        let mut all = self.capabilities(view);
        all.retain(|c| !self.link.registration.claimed.contains(&c.name));
        if self.link.registration.with_cursor {
            all.push(Capability::of(CURSOR, "capacity"));
        }
        all
    }

    /// The engine answers a request.
    pub(in crate::dispatch) fn reply(&mut self, step: &mut ControlStep, reply: EngineReply) {
        if self.link.registration.request.as_deref() == Some(&reply.id) {
            self.registered(step, &reply.data);
            return;
        }
        let (id, data) = (reply.id.clone(), reply.data.clone());
        step.notice(Notice::Replied(reply));
        self.list_answered(step, &id, &data);
    }

    fn registered(&mut self, step: &mut ControlStep, answer: &Value) {
        self.link.registration.request = None;
        self.link.registration.again_at = None;
        self.expect_orders(step);
        self.link.version = self.link.version.max(EngineVersion::of(answer));
        let registration = &self.link.registration;
        let more = self.wants_cursor() && !registration.with_cursor
            || self.link.version >= EngineVersion::Six && !registration.with_provider;
        if more {
            // The engine forgets who was ready for mail when the instance changes, so the list comes after that.
            self.register_node(step);
            self.announce(step);
            return;
        }
        self.link.why_down = None;
        let first = !std::mem::replace(&mut self.link.registered, true);
        self.link.lost_at = None;
        if !std::mem::replace(&mut self.link.registration.told, true) {
            let event = BrokerEvent::NodeRegistered {
                node_id: self.node_id.to_string(),
                node_name: self.node_name.clone(),
            };
            step.publish(event);
        }
        let owed = std::mem::take(&mut self.link.registration.list_owed);
        if first {
            step.notice(Notice::LinkOpen);
        } else if owed {
            self.announce(step);
        }
    }

    /// The engine refuses a request, or complains of something that it cannot read.
    pub(in crate::dispatch) fn error_frame(&mut self, step: &mut ControlStep, error: ErrorFrame) {
        let error = recognised(error);
        // What an engine cannot read it answers under an id of its own (engine-protocol 3.2).
        let unread = error.code == "invalid_message" && self.link.registration.request.is_some();
        self.link.registration.list_owed |= unread && self.link.registered;
        let registration = &self.link.registration;
        if unread && registration.with_cursor {
            log::warn!("the engine does not understand {CURSOR}; registering without it");
            self.link.no_cursor = true;
            self.register_node(step);
        } else if unread && registration.with_provider {
            log::warn!("the engine is an older one than before; registering as such ones know it");
            self.link.version = EngineVersion::Any;
            self.register_node(step);
        } else if registration.request.as_deref() == Some(&error.id) {
            self.registration_refused(step, &error);
        } else if !self.list_refused(step, &error) {
            step.notice(Notice::Complained(error));
        }
    }

    fn registration_refused(&mut self, step: &mut ControlStep, error: &ErrorFrame) {
        self.link.registration.request = None;
        self.link.registration.again_at = None;
        self.link.registration.list_owed |= self.link.registered;
        if error.code == "node_name_conflict" && !self.link.renamed {
            // Two machines may share a host name; part of our id makes the name our own.
            self.link.renamed = true;
            self.node_name = format!("{}-{}", self.node_name, self.node_id.tail());
            log::warn!(
                "the node name is taken in this workspace; registering as {}",
                self.node_name
            );
            self.register_node(step);
            return;
        }
        if error.code == "action_name_conflict" && self.leave_out(step.view(), &error.message) {
            self.register_node(step);
            return;
        }
        let advice = match error.code.as_str() {
            "provider_instance_conflict" => {
                // Only engines from 6.0 know instances.
                self.link.version = self.link.version.max(EngineVersion::Six);
                self.link.registration.conflicts += 1;
                let ghost = self.link.registration.conflicts <= INSTANCE_TRIES;
                let after = if ghost {
                    INSTANCE_AGAIN_AFTER
                } else {
                    AGAIN_AFTER
                };
                self.link.registration.again_at = Some(step.now.mono + after);
                "; another process is connected as this node, or was until a moment ago; trying again until it is gone"
            }
            // Our token belongs to another node, and always will.
            "node_id_mismatch" => "; give the id that the node token belongs to (RELAY_NODE_ID)",
            // With the node went its token, so a new link leads to a new one.
            "node_not_found" => {
                step.effect(Effect::Link(LinkCommand::Reconnect));
                ""
            }
            _ => {
                self.link.registration.again_at = Some(step.now.mono + AGAIN_AFTER);
                "; trying again now and then"
            }
        };
        let why = format!(
            "the engine refuses to register this node: {} {}{advice}",
            error.code, error.message
        );
        self.link_refused(step, &why);
    }

    /// Engines from 6.0 refuse a whole registration for the sake of one action that another provider of the node has, and
    /// name it ([engine-protocol 3.11](crate::docs::engine_protocol#3.11)). All else is served without it. Says whether it
    /// was found.
    fn leave_out(&mut self, view: ControlView, message: &str) -> bool {
        let offered = self.advertised(view).into_iter().map(|c| c.name);
        // The provider that has it may be named behind it.
        let found = offered.filter_map(|name| Some((message.find(&format!("\"{name}\""))?, name)));
        let Some((_, name)) = found.min() else {
            return false;
        };
        log::warn!(
            event = "action_taken";
            "the action {name} is another provider's of this node, so it is not offered here: {message}"
        );
        self.link.registration.claimed.insert(name)
    }

    /// Nothing came of the registration for a while.
    pub(super) fn tick_registration(&mut self, step: &mut ControlStep) {
        let registration = &mut self.link.registration;
        if registration.again_at.is_none_or(|at| at > step.now.mono) {
            return;
        }
        registration.again_at = None;
        if registration.request.take().is_none() {
            self.register_node(step);
            return;
        }
        let why = format!(
            "the engine has not answered our registration for {} s",
            AGAIN_AFTER.as_secs()
        );
        self.link_refused(step, &why);
        step.effect(Effect::Link(LinkCommand::Reconnect));
    }
}
