//! Agents that answer each other without end: how many messages passed between two of them lately, and how long the chain
//! is in which each message answers the one before. Pure counting, of this life of the broker alone; what is held because
//! of it is in the ledger.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::dispatch::node_config::TalkLimits;
use crate::ids::AgentName;
use crate::time::Mono;

/// How many pairs, ways and agents are kept in mind; beyond it those are forgotten that were silent for long.
const KEPT: usize = 4096;

/// What makes a message one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// How many there are with this one.
    pub(super) count: u32,
    /// How many there may be.
    pub(super) limit: u32,
    /// Within how long, for a pair; `None` for a chain of answers.
    pub(super) window: Option<Duration>,
}

/// A place in a chain of answers.
#[derive(Clone, Copy, Debug)]
struct ChainLink {
    /// How many messages the chain has with this one.
    length: u32,
    /// Later messages have greater numbers.
    order: u64,
    at: Mono,
}

/// What an agent did last.
#[derive(Clone, Debug)]
struct Presence {
    /// When it last wrote or was written to.
    at: Mono,
    /// The latest words to it, and whose they are.
    heard: Option<(AgentName, ChainLink)>,
}

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct LoopGuard {
    /// When messages passed, the earliest first, at most as many as the limit.
    pairs: BTreeMap<(AgentName, AgentName), VecDeque<Mono>>,
    /// The latest message from one agent to another, by writer and reader.
    ways: BTreeMap<(AgentName, AgentName), ChainLink>,
    present: BTreeMap<AgentName, Presence>,
    /// The number of the latest message.
    order: u64,
}

impl LoopGuard {
    /// Counts a message from one agent to another, or says why it is one too many; then it counts for nothing, but that its
    /// writer was not silent.
    pub(super) fn count(
        &mut self,
        limits: &TalkLimits,
        now: Mono,
        from: &AgentName,
        to: &AgentName,
    ) -> Option<Suspicion> {
        let length = self.chain(limits, now, from, to);
        self.wrote(now, from);
        if limits.chain > 0 && length > limits.chain {
            return Some(Suspicion {
                count: length,
                limit: limits.chain,
                window: None,
            });
        }
        let of_pair = (limits.pair > 0).then(|| self.pass(limits, now, from, to));
        if let Some(suspicion) = of_pair.flatten() {
            return Some(suspicion);
        }
        if limits.chain > 0 {
            self.link(limits, now, length, (from.clone(), to.clone()));
        }
        None
    }

    /// An agent of which anything is known is not silent.
    pub(super) fn wrote(&mut self, now: Mono, from: &AgentName) {
        if let Some(writer) = self.present.get_mut(from) {
            writer.at = now;
        }
    }

    /// How long the chain is that ends with this message. A message answers the reader's words if its writer got any since
    /// it last wrote to that reader, else the latest that anybody wrote to it since then. Who got nothing since only goes
    /// on, and who was silent for the whole pause begins anew.
    fn chain(&self, limits: &TalkLimits, now: Mono, from: &AgentName, to: &AgentName) -> u32 {
        let writer = self.present.get(from);
        let Some(writer) = writer.filter(|writer| now.since(writer.at) < limits.pause) else {
            return 1;
        };
        let way = |a: &AgentName, b: &AgentName| self.ways.get(&(a.clone(), b.clone())).copied();
        let own = way(from, to);
        let is_news = |link: &ChainLink| own.is_none_or(|own| link.order > own.order);
        let heard = writer.heard.as_ref().map(|(_, link)| *link);
        let answered = way(to, from).filter(is_news);
        let answered = answered.or_else(|| heard.filter(is_news));
        match (answered, own) {
            (Some(answered), _) => answered.length.saturating_add(1),
            (None, Some(own)) => own.length,
            (None, None) => 1,
        }
    }

    fn link(
        &mut self,
        limits: &TalkLimits,
        now: Mono,
        length: u32,
        (from, to): (AgentName, AgentName),
    ) {
        if self.ways.len().max(self.present.len()) >= KEPT {
            self.forget(limits, now);
        }
        self.order += 1;
        let order = self.order;
        let link = ChainLink {
            length,
            order,
            at: now,
        };
        let writer = self.present.entry(from.clone());
        let writer = writer.or_insert(Presence {
            at: now,
            heard: None,
        });
        writer.at = now;
        let heard = Some((from.clone(), link));
        let reader = Presence { at: now, heard };
        self.present.insert(to.clone(), reader);
        self.ways.insert((from, to), link);
    }

    /// Whoever was silent for the whole pause begins anew anyhow; where too many did not, all do.
    fn forget(&mut self, limits: &TalkLimits, now: Mono) {
        let is_recent = |at: Mono| now.since(at) < limits.pause;
        self.present.retain(|_, presence| is_recent(presence.at));
        self.ways.retain(|_, link| is_recent(link.at));
        if self.ways.len().max(self.present.len()) >= KEPT {
            self.ways.clear();
            self.present.clear();
        }
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
        if self.pairs.len() >= KEPT {
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

    /// Somebody has looked at this agent, or has spoken to it: what it says from now on answers a person. What others say
    /// among themselves nobody has looked at, so that it counts on.
    pub(super) fn let_go(&mut self, name: &AgentName) {
        self.present.remove(name);
        for presence in self.present.values_mut() {
            presence.heard.take_if(|(from, _)| from == name);
        }
        self.ways.retain(|(a, b), _| a != name && b != name);
        self.pairs.retain(|(a, b), _| a != name && b != name);
    }
}

#[cfg(test)]
mod tests;
