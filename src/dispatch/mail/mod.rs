//! Deliveries, from the frame or call that brings one to its end: put in order, queued, typed, seen to arrive,
//! acknowledged, or given up. Each agent has a desk at which one delivery at a time is typed.

mod absent;
mod backoff;
mod blocked;
mod dead_letters;
mod delivery;
mod desk;
mod hold;
mod inbound;
mod limits;
mod line;
mod oversize;
mod send;
mod sequence;
mod settle;
mod urgent;

pub use limits::Limits;

pub(super) use send::post_answered;

use std::collections::BTreeMap;

use self::desk::MailDesk;
use self::sequence::Gap;
use super::notice::End;
use super::questions::{ActionQuestions, AgentQuestions, ControlQuestions, MailQuestions};
use super::step::{PartStep, PartView};
use crate::domain::DeliveryMode;
use crate::ids::{AgentId, AgentName, DeliveryId, Run, Seq};
use crate::ledger::{Origin, Pending};
use crate::time::{Mono, soonest};

/// Whom mail may ask.
#[derive(Clone, Copy)]
pub(super) struct MailPeers<'a> {
    pub(super) agents: &'a dyn AgentQuestions,
    pub(super) control: &'a dyn ControlQuestions,
    pub(super) actions: &'a dyn ActionQuestions,
}

/// A step of this part.
pub(super) type MailStep<'a> = PartStep<'a, MailPeers<'a>>;
/// A look of this part.
pub(super) type MailView<'a> = PartView<'a, MailPeers<'a>>;

/// What is on its way to agents, besides what the ledger knows.
#[derive(Default)]
pub(super) struct Mail {
    /// Of every agent that is here.
    desks: BTreeMap<AgentName, MailDesk>,
    gaps: BTreeMap<AgentId, Gap>,
    /// Whose missing mail was asked for by a new link, and how far it had come by then.
    asked_anew: BTreeMap<AgentId, Seq>,
    /// For whom too much waits, so that the engine's mail is left to the engine.
    full: BTreeMap<AgentId, AgentName>,
    /// What the engine calls agents that go by another name here, by their ids.
    called: BTreeMap<AgentId, AgentName>,
    /// Of whom nothing was taken in yet: the first number that was left to the engine on this link.
    left: BTreeMap<AgentId, Seq>,
    /// Of agents that are not here, from when on the waiting of their mail is not written down yet.
    absent_since: BTreeMap<AgentName, Mono>,
    /// When to see whether mail has waited too long for an agent that is not here.
    absent_check: Option<Mono>,
    /// The engine has shown that it sends nothing again when it is given the list of agents, as those from 8.2 on do for
    /// agents that are ready already ([engine-protocol 4.4](crate::docs::engine_protocol#4.4)).
    lists_replay_nothing: bool,
}

impl MailQuestions for Mail {
    fn stalled(&self, name: &AgentName) -> Option<&str> {
        self.desks.get(name)?.stalled.as_deref()
    }
}

impl Mail {
    pub(super) fn tick(&mut self, step: &mut MailStep) {
        self.tick_desks(step);
        self.tick_gaps(step);
        self.tick_absent(step);
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let desks = self.desks.values().filter_map(MailDesk::deadline).min();
        let gaps = self.gaps.values().filter_map(Gap::deadline).min();
        [desks, gaps].into_iter().fold(self.absent_check, soonest)
    }

    // ---- the link -----------------------------------------------------------------------------------------------

    /// The engine sends all it has in order on a new link.
    pub(super) fn link_up(&mut self) {
        self.gaps.clear();
    }

    pub(super) fn link_lost(&mut self) {
        self.gaps.clear();
        self.full.clear();
        self.left.clear();
    }

    /// What was acknowledged on a link that broke may never have arrived.
    pub(super) fn acknowledge_all(&mut self, step: &mut MailStep) {
        let here = step.peers.agents.here().into_iter();
        let known = here.filter_map(|(name, id)| Some((name.clone(), id?.clone())));
        let is_done = |id: &AgentId| step.ledger().settled(id).is_some_and(|seq| seq != Seq(0));
        let done: Vec<_> = known.filter(|(_, id)| is_done(id)).collect();
        for (name, agent_id) in done {
            self.acknowledge(step, &name, &agent_id);
        }
    }

    // ---- agents come and go -------------------------------------------------------------------------------------

    pub(super) fn agent_came(&mut self, step: &mut MailStep, name: &AgentName) {
        self.reader_comes(step, name);
        self.desks.insert(name.clone(), MailDesk::default());
    }

    pub(super) fn agent_ready(&mut self, step: &mut MailStep, name: &AgentName, run: Run) {
        if let Some(desk) = self.desks.get_mut(name) {
            desk.open(run);
            self.type_next(step, name);
        }
    }

    /// It takes no message any more.
    pub(super) fn agent_leaving(&mut self, name: &AgentName) {
        if let Some(desk) = self.desks.get_mut(name) {
            desk.close();
        }
    }

    /// Its next run begins with nothing of the last.
    pub(super) fn agent_back(&mut self, name: &AgentName) {
        self.desks.insert(name.clone(), MailDesk::default());
    }

    pub(super) fn agent_gone(&mut self, step: &mut MailStep, name: &AgentName) {
        self.desks.remove(name);
        self.await_reader(step, name);
    }

    /// A life is over, and with it the task it was started for. Other mail waits for whoever bears the name next, unless the
    /// life was ended by somebody's wish: then nothing of it is left.
    pub(super) fn life_over(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        agent_id: Option<&AgentId>,
        end: End,
    ) {
        if end != End::Itself {
            self.clear(step, name, agent_id, end);
        }
        let why = "the agent ended before its first task was seen to arrive";
        self.bury_those(step, name, why, |p| p.delivery.origin == Origin::Task);
        self.await_reader(step, name);
    }

    /// What waits for an agent that is the engine's on another node is the other's to read.
    pub(super) fn agent_moved(&mut self, step: &mut MailStep, name: &AgentName) {
        let why = "the agent runs on another node now, which gets the message from the engine";
        self.bury_those(step, name, why, |p| {
            matches!(p.delivery.origin, Origin::Engine { .. })
        });
    }

    fn bury_those(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        why: &str,
        which: impl Fn(&Pending) -> bool,
    ) {
        let mail = step.ledger().mail().of(name).filter(|p| which(p));
        let ids: Vec<DeliveryId> = mail.map(|p| p.delivery.id.clone()).collect();
        for id in ids {
            self.bury(step, &id, why);
        }
    }

    /// Leaves nothing that the next agent of the name could trip over: what waits becomes dead letters, frames that came too
    /// early are forgotten, and messages are no longer held.
    fn clear(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        agent_id: Option<&AgentId>,
        end: End,
    ) {
        if let Some(agent_id) = agent_id {
            self.gaps.remove(agent_id);
            self.asked_anew.remove(agent_id);
            self.left.remove(agent_id);
            self.called.remove(agent_id);
        }
        self.full.retain(|_, of| of != name);
        self.bury_all(step, name, end);
        if step.ledger().mode(name) == DeliveryMode::ManualFlush {
            self.change_mode(step, name, DeliveryMode::AutoInject);
        }
    }

    #[cfg(test)]
    pub(super) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    #[cfg(test)]
    pub(super) fn held_in_gaps(&self) -> usize {
        self.gaps.values().map(Gap::held).sum()
    }
}
