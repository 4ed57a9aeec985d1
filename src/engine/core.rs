//! The engine's core: the state it owns, and how it is set up. What happens to it is in `machine`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::behaviour::Behaviour;
#[cfg(feature = "faults")]
use super::behaviour::UpstreamVersion;
use super::directory::State;
use super::faults::state::Faults;
use super::id::Id;
use super::limits;
use super::live::{Absent, Live};
use crate::msg::Right;
use crate::time::{Mono, Wall, soonest};

/// Everything the engine knows. Pure: driven as a [`crate::machine::Machine`].
#[derive(Debug)]
pub struct EngineCore {
    pub(super) state: State,
    pub(super) live: Live,
    pub(super) last_issued: Id,
    pub(super) sweep_at: Option<Mono>,
    #[cfg(feature = "faults")]
    pub(super) behaviour: Behaviour,
    pub(super) faults: Faults,
    /// How long mail waits for an agent that is not here; `None` for ever.
    pub(super) ttl: Option<Duration>,
    /// What agents of nodes may do besides talking; `None` for everything, as any engine lets them.
    pub(super) agents_may: Option<Vec<Right>>,
    /// Mail that nobody is there to take.
    pub(super) absent: Absent,
    /// Replies to `POST /v1/nodes` that may be asked for again, by workspace and idempotency key: a digest of what was
    /// asked, and when. Gone after a restart, when the token itself must do.
    pub(super) minted: BTreeMap<(Id, String), (String, Wall)>,
}

impl Default for EngineCore {
    fn default() -> Self {
        Self {
            state: State::default(),
            live: Live::default(),
            last_issued: 0,
            sweep_at: None,
            #[cfg(feature = "faults")]
            behaviour: Behaviour::TOLERANT,
            faults: Faults::default(),
            ttl: Some(limits::DELIVERY_TTL),
            agents_may: None,
            absent: Absent::default(),
            minted: BTreeMap::new(),
        }
    }
}

impl EngineCore {
    /// An engine that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine that behaves as one of that age.
    #[cfg(feature = "faults")]
    pub fn behaving(age: UpstreamVersion) -> Self {
        Self {
            behaviour: Behaviour::of(age),
            ..Self::default()
        }
    }

    /// How the engine behaves towards its clients.
    #[cfg(feature = "faults")]
    pub(super) fn behaviour(&self) -> Behaviour {
        self.behaviour
    }

    /// How the engine behaves towards its clients: always the same in a build without faults.
    #[cfg(not(feature = "faults"))]
    pub(super) const fn behaviour(&self) -> Behaviour {
        Behaviour::TOLERANT
    }

    /// Takes orders for faults from now on, at the route of [`super::faults::ROUTE`].
    #[cfg(feature = "faults")]
    pub fn allow_faults(&mut self) {
        self.faults.allowed = true;
    }

    /// Lets mail wait so long for agents that are not here; `None` for ever.
    pub fn keep_mail_for(&mut self, ttl: Option<Duration>) {
        self.ttl = ttl;
    }

    /// Lets the agents of nodes do no more than that besides talking, as the broker that the engine is a part of does.
    pub fn let_agents(&mut self, may: Vec<Right>) {
        self.agents_may = Some(may);
    }

    /// Asks to be woken in `after`, if nothing earlier was asked for.
    pub(super) fn remind(&mut self, now: Mono, after: Duration) {
        self.sweep_at = soonest(self.sweep_at, Some(now + after));
    }
}
