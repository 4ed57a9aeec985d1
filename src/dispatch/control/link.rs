//! The link to the engine, as far as this node's place in its roster depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::dispatch::engine_version::EngineVersion;
use crate::dispatch::notice::Refused;
use crate::ids::AgentName;
use crate::time::{Mono, soonest};

/// The link as the dispatcher sees it.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The socket is open.
    pub(super) up: bool,
    /// Why not, for people.
    pub(super) why_down: Option<String>,
    /// When the first attempt failed since it was last up.
    pub(super) down_since: Option<Mono>,
    /// The engine took our registration on this link.
    pub(super) registered: bool,
    /// When it stopped being so, if it ever was and is not now.
    pub(super) lost_at: Option<Mono>,
    /// A node token is at hand.
    pub(super) enrolled: bool,
    /// When the engine last sent anything.
    pub(super) last_frame: Option<Mono>,
    /// Who we are on this link.
    pub(super) registration: NodeRegistration,
    /// As far as any answer of this engine has told.
    pub(super) version: EngineVersion,
    /// The engine has shown that it does not understand the cursor capability.
    pub(super) no_cursor: bool,
    pub(super) next_heartbeat: Option<Mono>,
    pub(super) beats: u32,
    /// A list of agents is owed.
    pub(super) inventory_owed: bool,
    /// One went since the last heartbeat because the engine thought somebody gone who runs here.
    pub(super) relisted: bool,
    /// When it goes, unless something that the engine asked for runs here.
    pub(super) inventory_at: Option<Mono>,
    /// When it goes whatever runs here, because mail waits for it.
    pub(super) inventory_by: Option<Mono>,
    /// Until when more orders may come behind the last one, its answer, or a registration.
    pub(super) orders_until: Option<Mono>,
    /// Something that the engine asked for ran here when the last step ended.
    pub(super) busy: bool,
    /// Lists of agents on their way.
    pub(super) lists: Lists,
    /// Our name was taken by another node, so we carry part of our id in it.
    pub(super) renamed: bool,
}

impl Link {
    pub(super) fn deadline(&self) -> Option<Mono> {
        [self.next_heartbeat, self.inventory_at, self.inventory_by]
            .into_iter()
            .fold(self.registration.deadline(), soonest)
    }

    /// Whether the engine listens: it took our registration on this very link. What it hears before that it takes for the
    /// words of whoever is registered as this node ([engine-protocol 3.8](crate::docs::engine_protocol#3.8),
    /// [3.9](crate::docs::engine_protocol#3.9)).
    pub(super) fn is_open(&self) -> bool {
        self.up && self.registered
    }

    /// Whether heartbeats are under way on this link.
    pub(super) fn beating(&self) -> bool {
        self.next_heartbeat.is_some()
    }

    /// The engine has not taken our registration on the link that begins now.
    pub(super) fn unregister(&mut self, now: Mono) {
        if std::mem::take(&mut self.registered) {
            self.lost_at = Some(now);
        }
    }

    /// Nothing that belonged to this link alone is left. What the engine was found to be stays known.
    pub(super) fn broke(&mut self, now: Mono, why: &str) {
        self.unregister(now);
        *self = Self {
            lost_at: self.lost_at,
            why_down: Some(why.to_owned()),
            down_since: self.down_since.or(Some(now)),
            enrolled: self.enrolled,
            last_frame: self.last_frame,
            version: self.version,
            no_cursor: self.no_cursor,
            beats: self.beats,
            renamed: self.renamed,
            ..Self::default()
        };
    }
}

/// The registration on the link that is up.
#[derive(Debug, Default)]
pub(super) struct NodeRegistration {
    /// What waits for an answer.
    pub(super) request: Option<String>,
    /// The last request carried the cursor capability, and so must each heartbeat.
    pub(super) with_cursor: bool,
    /// It named this process, so that the engine knows it again on the next link.
    pub(super) with_provider: bool,
    /// How often another instance was in our place.
    pub(super) conflicts: u32,
    /// Names of capabilities that somebody else has, so that they are left out.
    pub(super) claimed: BTreeSet<String>,
    /// When to do something about a request without an answer, or a refusal.
    pub(super) again_at: Option<Mono>,
    /// Subscribers know of it.
    pub(super) told: bool,
    /// One was refused although the engine had taken one before. When the next is taken, the engine may have forgotten who is
    /// ready for mail, and a list that came before it said nothing.
    pub(super) list_owed: bool,
}

impl NodeRegistration {
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.again_at
    }
}

/// How long orders wait for the answer to a list. Engines take a moment; one that says nothing is not waited for, because it
/// gives an order without a result to another node after 30 s.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The lists of agents that the engine has yet to answer.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// The last complete one.
    pub(super) whole: Option<String>,
    /// How many agents were on it.
    pub(super) size: usize,
    /// A count of those that were taken has been too small for no reason, so it means something else here.
    pub(super) miscounts: bool,
    /// Lists of one agent each, to find out which is refused.
    pub(super) single: BTreeMap<String, AgentName>,
    pub(super) refused: Vec<Refused>,
    /// How often that was done since a complete one was taken.
    pub(super) searches: u8,
    /// How long orders that come wait for the answers.
    pub(super) awaited_until: Option<Mono>,
    /// The engine has given away what one of them did not account for.
    pub(super) moved: bool,
}

impl Lists {
    /// A complete list is on its way.
    pub(super) fn sent(&mut self, id: &str, size: usize, now: Mono) {
        self.whole = Some(id.to_owned());
        self.size = size;
        self.awaited_until = Some(now + ANSWER_WITHIN);
    }

    /// One of them was answered. Says, after the last, whether the engine gave anything away.
    pub(super) fn answered(&mut self, answer: &Value) -> Option<bool> {
        let moved = &answer["rescheduled_invocations"];
        let count = moved.as_array().map(|all| all.len() as u64);
        self.moved |= count.or(moved.as_u64()).is_some_and(|count| count > 0);
        let last = self.whole.is_none() && self.single.is_empty();
        let was_awaited = last && self.awaited_until.take().is_some();
        was_awaited.then(|| std::mem::take(&mut self.moved))
    }

    /// A name that nobody has is passed over without a word, and only missing from the count (`reconcileInventory`).
    pub(super) fn passed_over(&self, answer: &Value) -> bool {
        let taken = answer["rebound_agents"].as_u64();
        !self.miscounts && taken.is_some_and(|taken| taken < self.size as u64)
    }
}
