//! Agents that answer each other without end: how many messages passed between two of them lately, and how many each got
//! from each since a person last spoke. Pure counting, of this life of the broker alone; what is held because of it is
//! in the ledger.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::dispatch::node_config::TalkLimits;
use crate::ids::AgentName;
use crate::time::Mono;

/// How many pairs are kept in mind; beyond it those are forgotten that were silent for a whole window, and the other count
/// begins anew.
const PAIRS: usize = 4096;

/// What makes a message one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// How many there are with this one.
    pub(super) count: u32,
    /// How many there may be.
    pub(super) limit: u32,
    /// Within how long, for a pair; `None` for all since a person's word.
    pub(super) window: Option<Duration>,
}

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct LoopGuard {
    /// When messages passed, the earliest first, at most as many as the limit.
    pairs: BTreeMap<(AgentName, AgentName), VecDeque<Mono>>,
    /// How many an agent got from another, by both names, the receiver's first.
    received: BTreeMap<(AgentName, AgentName), u32>,
}

impl LoopGuard {
    /// Counts a message from one agent to another, or says why it is one too many; then it counts for nothing.
    pub(super) fn count(
        &mut self,
        limits: &TalkLimits,
        now: Mono,
        from: &AgentName,
        to: &AgentName,
    ) -> Option<Suspicion> {
        let way = (to.clone(), from.clone());
        let received = self.received.get(&way).copied().unwrap_or(0);
        if limits.agent > 0 && received >= limits.agent {
            return Some(Suspicion {
                count: received + 1,
                limit: limits.agent,
                window: None,
            });
        }
        let of_pair = (limits.pair > 0).then(|| self.pass(limits, now, from, to));
        if let Some(suspicion) = of_pair.flatten() {
            return Some(suspicion);
        }
        if limits.agent > 0 {
            if self.received.len() >= PAIRS {
                self.received.clear();
            }
            self.received.insert(way, received + 1);
        }
        None
    }

    /// One between two agents, in whichever direction.
    fn pass(
        &mut self,
        limits: &TalkLimits,
        now: Mono,
        from: &AgentName,
        to: &AgentName,
    ) -> Option<Suspicion> {
        let is_recent = |at: &Mono| now.since(*at) < limits.window;
        if self.pairs.len() >= PAIRS {
            self.pairs
                .retain(|_, times| times.back().is_some_and(is_recent));
        }
        let pair = match from < to {
            true => (from.clone(), to.clone()),
            false => (to.clone(), from.clone()),
        };
        let times = self.pairs.entry(pair).or_default();
        while times.front().is_some_and(|at| !is_recent(at)) {
            times.pop_front();
        }
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        if count < limits.pair {
            times.push_back(now);
            return None;
        }
        Some(Suspicion {
            count: count.saturating_add(1),
            limit: limits.pair,
            window: Some(limits.window),
        })
    }

    /// Somebody speaks who is no agent, so there are eyes on what goes on: all counts begin anew, and those of the pairs of
    /// whom they speak to.
    pub(super) fn person_spoke(&mut self, to: &AgentName) {
        self.received.clear();
        self.let_go(to);
    }

    /// Somebody has looked at this agent.
    pub(super) fn let_go(&mut self, name: &AgentName) {
        self.received.retain(|(a, b), _| a != name && b != name);
        self.pairs.retain(|(a, b), _| a != name && b != name);
    }
}

#[cfg(test)]
mod tests;
