//! Deliveries, from the frame or call that brings one to its end: put in order, queued, typed, seen to arrive,
//! acknowledged, or given up. Each agent has a desk at which one delivery at a time is typed.

mod absent;
mod backoff;
mod blocked;
mod dead_letters;
mod delivery;
mod desk;
mod estate;
mod gap;
mod hold;
mod inbound;
mod leftovers;
mod limits;
mod line;
mod loops;
mod oversize;
mod send;
mod sequence;
mod settle;
mod speaker;
mod state;
mod suspending;
mod threads;
mod told_back;
mod urgent;

pub use estate::Estate;
pub(super) use send::post_answered;
pub(super) use state::{Mail, MailPeers, MailStep, MailView};
pub(super) use suspending::SUSPENDED;

use std::collections::BTreeMap;

use self::desk::MailDesk;
use self::gap::Gap;
use super::notice::End;
use super::questions::MailQuestions;
use crate::domain::DeliveryMode;
use crate::ids::{AgentId, AgentName, DeliveryId, Run, Seq};
use crate::ledger::{Origin, Pending};
use crate::time::{Mono, soonest};

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
        self.tick_leftovers(step);
    }

    /// Whether a message is in somebody's terminal, or about to be.
    pub(super) fn is_typing(&self) -> bool {
        self.desks
            .values()
            .any(|desk| desk.reader().is_some() && desk.in_flight.is_some())
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let desks = self.desks.values().filter_map(MailDesk::deadline).min();
        let gaps = self.gaps.values().filter_map(Gap::deadline).min();
        [desks, gaps, self.leftovers_at]
            .into_iter()
            .fold(self.absent_check, soonest)
    }

    // ---- the link -----------------------------------------------------------------------------------------------

    /// The engine sends all it has in order on a new link.
    pub(super) fn link_up(&mut self) {
        self.gaps.clear();
    }

    pub(super) fn link_lost(&mut self) {
        for asked in self.asked_anew.values_mut() {
            asked.old_link_gone = true;
        }
        self.gaps.clear();
        self.full.clear();
        self.left.clear();
    }

    /// What was acknowledged on a link that broke may never have arrived, and what ended since could not be. Who ended itself
    /// is signed off next: what it had read would count as never delivered when its time at the engine is over. Of who is not
    /// here the engine hears too: it counts what the node says of an agent that it has on the node, running or not
    /// (`ackDeliveriesUpToSeq` in the engine's `delivery.ts` at 0028035), and passes over the rest.
    pub(super) fn acknowledge_all(&mut self, step: &mut MailStep) {
        let agents = step.peers.agents;
        let here = agents.here().into_iter();
        let here = here.filter_map(|(name, id)| Some((name, id?)));
        let all = !std::mem::replace(&mut self.said_all, true);
        let unsaid = std::mem::take(&mut self.unsaid);
        let ledger = step.ledger();
        // One whom the engine may have made anew has numbers of its own.
        let absent = ledger.all_bound().filter(|(name, _)| {
            (all || unsaid.contains(*name))
                && !agents.is_here(name)
                && ledger.unanswered(name).is_none()
        });
        let is_done = |id: &AgentId| ledger.settled(id).is_some_and(|seq| seq != Seq(0));
        let done = here.chain(agents.farewells()).chain(absent);
        let done = done.filter(|(_, id)| is_done(id));
        let done: BTreeMap<_, _> = done.map(|(name, id)| (name.clone(), id.clone())).collect();
        for (name, agent_id) in done {
            self.acknowledge(step, &name, &agent_id);
        }
        self.clear_leftovers(step);
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
        // Where an identity was asked for and none was given, it is found out first who bears the name.
        let known = step.ledger().unanswered(name).is_none();
        if let Some(agent_id) = agent_id.filter(|_| end == End::Released && known) {
            self.leave_with_engine(step, name, agent_id);
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
            self.forget_early(agent_id);
        }
        self.full.retain(|_, of| of != name);
        self.bury_all(step, name, end);
        if step.ledger().mode(name) == DeliveryMode::ManualFlush {
            self.change_mode(step, name, DeliveryMode::AutoInject);
        }
    }

    /// What came too early, or was left to the engine.
    fn forget_early(&mut self, agent_id: &AgentId) {
        self.gaps.remove(agent_id);
        self.asked_anew.remove(agent_id);
        self.left.remove(agent_id);
        self.called.remove(agent_id);
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
