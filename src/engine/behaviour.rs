//! How the engine behaves towards its clients: by default as every client can bear it, or, as a test double, as one of the
//! engines that a broker may meet ([engine-protocol 3.7](crate::docs::engine_protocol#3.7)). An age is a set of plain flags,
//! read where the ages differ; nothing else in the engine knows which age it plays.

#[cfg(feature = "faults")]
use std::str::FromStr;
use std::time::Duration;

use super::limits;

/// An engine of the past or of today, older ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UpstreamVersion {
    /// 5.0.1.
    V5_0,
    /// 6.0.3: providers and the delivery cursor.
    V6_0,
    /// An old hosted variant of about that age ([engine-protocol 3.10](crate::docs::engine_protocol#3.10)).
    Hosted,
    /// 8.2: agents are made once, then recovered.
    V8_2,
    /// 9.0: a node's token is replaced only by who has it.
    V9_0,
}

#[cfg(feature = "faults")]
impl UpstreamVersion {
    /// All of them, with the names under which they are asked for.
    pub const ALL: [(&'static str, UpstreamVersion); 5] = [
        ("5.0.1", UpstreamVersion::V5_0),
        ("6.0.3", UpstreamVersion::V6_0),
        ("hosted", UpstreamVersion::Hosted),
        ("8.2", UpstreamVersion::V8_2),
        ("9.0", UpstreamVersion::V9_0),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, age)| *age == self)
            .map_or("", |(name, _)| name)
    }
}

#[cfg(feature = "faults")]
impl FromStr for UpstreamVersion {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let found = Self::ALL.iter().find(|(n, _)| *n == name);
        found.map(|(_, age)| *age).ok_or(())
    }
}

/// Which stored node `POST /v1/nodes` means ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLookup {
    /// The one with the id; a name that another node has is refused.
    Id,
    /// The one with the name, which keeps its own id whatever the call says.
    Name,
    /// The one with the id, else the one with the name, which keeps its own id.
    IdThenName,
}

/// What it does to an agent that a node runs when the agent signs off over HTTP
/// ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignOff {
    /// Nothing: the node goes on running it.
    Presence,
    /// It is taken from the node if it asks for that.
    OnRequest,
    /// It is taken from the node.
    Always,
}

/// What a client can notice of the engine's age. [`Behaviour::TOLERANT`] is the union of all of them, and all
/// that a build without the feature `faults` can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Frames may hold what an engine of this age knows and nothing else; a refusal does not name the request
    /// ([engine-protocol 3.2](crate::docs::engine_protocol#3.2)).
    pub schema: Option<UpstreamVersion>,
    /// A node has providers: the reply to a registration names them and what was accepted, and node tokens may post.
    pub providers: bool,
    /// A provider that is connected keeps its place against another instance of the same name.
    pub keeps_instance: bool,
    /// A new socket of a node closes the older ones before it has said anything.
    pub one_socket: bool,
    /// `relay:delivery-cursor-v1` is honoured.
    pub cursor: bool,
    /// A node that advertises `spawn` gets every spawn ([engine-protocol 5.1](crate::docs::engine_protocol#5.1)).
    pub bare_spawn_catches_all: bool,
    /// `agent.register` and `inventory.sync` send again all that is unacknowledged on the node, not only of the agents
    /// they name.
    pub replays_node: bool,
    /// `inventory.sync` sends again what agents that were ready before have not acknowledged.
    pub sync_replays: bool,
    /// `inventory.sync` moves open invocations that it does not list.
    pub sync_reschedules: bool,
    /// One bad member spoils a whole `inventory.sync`.
    pub sync_all_or_nothing: bool,
    /// `inventory.sync` says how many it rejects and no more; one that rejects all it knows is refused as a whole.
    pub sync_counts_rejected: bool,
    /// `inventory.sync` goes by names alone, whatever ids and providers are named with them.
    pub sync_by_name: bool,
    /// `inventory.sync` passes over names it does not know, without a word.
    pub sync_ignores_strangers: bool,
    /// With which code a socket is closed that a newer one of its node replaces.
    pub superseded_code: u16,
    /// A conflict of locations has no code of its own, only words.
    pub conflict_in_words: bool,
    /// Which node a create call means.
    pub node_lookup: NodeLookup,
    /// Node ids are unique over all workspaces; one of another workspace answers 500.
    pub global_node_ids: bool,
    /// A node that exists gets a new token only from who shows the present one.
    pub token_proof: bool,
    /// `POST /v1/nodes` with an idempotency key gives a lost reply again.
    pub replays_mint: bool,
    /// `agent.register` makes agents and never takes one over.
    pub create_only: bool,
    /// The routes `recover` and `takeover` exist, and the workspace key does not rotate agents' tokens.
    pub recovery_routes: bool,
    /// `agent.deregister` with an id is replied to.
    pub deregister_replies: bool,
    /// The reply to a registration names the contract of engines from 8.9.
    pub contract: bool,
    /// The reply to a bind over HTTP names the acknowledged cursor.
    pub bind_tells_cursor: bool,
    /// What an agent's own signing off does.
    pub sign_off: SignOff,
    /// Nodes that run agents hear which agents come and go.
    pub tells_presence: bool,
    /// A spawn keeps a place of its node until its result is there, besides the one of its agent.
    pub place_until_result: bool,
    /// `agent.register` leaves the places that are kept for spawns to them.
    pub leaves_kept_places: bool,
    /// A release goes to a host that is connected, and is done at once, or refused, without one.
    pub release_needs_host: bool,
    /// How long a node may take over an action before it is sent again.
    pub dispatch: Duration,
}

impl Behaviour {
    /// What every client can bear.
    pub const TOLERANT: Self = Self {
        schema: None,
        providers: true,
        keeps_instance: false,
        one_socket: false,
        cursor: true,
        bare_spawn_catches_all: false,
        replays_node: false,
        sync_replays: true,
        sync_reschedules: false,
        sync_all_or_nothing: false,
        sync_counts_rejected: false,
        sync_by_name: false,
        sync_ignores_strangers: false,
        superseded_code: 1000,
        conflict_in_words: false,
        node_lookup: NodeLookup::Id,
        global_node_ids: false,
        token_proof: false,
        replays_mint: false,
        create_only: false,
        recovery_routes: false,
        deregister_replies: true,
        contract: false,
        bind_tells_cursor: false,
        sign_off: SignOff::Presence,
        tells_presence: false,
        place_until_result: false,
        leaves_kept_places: false,
        release_needs_host: false,
        dispatch: limits::DISPATCH,
    };
}

#[cfg(feature = "faults")]
impl Behaviour {
    /// As an engine of that age.
    pub fn of(age: UpstreamVersion) -> Self {
        let from = |since: UpstreamVersion| age >= since;
        let hosted = age == UpstreamVersion::Hosted;
        Self {
            schema: Some(age),
            providers: from(UpstreamVersion::V6_0),
            keeps_instance: from(UpstreamVersion::V6_0),
            one_socket: !from(UpstreamVersion::V6_0),
            cursor: from(UpstreamVersion::V6_0),
            bare_spawn_catches_all: !from(UpstreamVersion::V6_0),
            replays_node: !from(UpstreamVersion::V8_2),
            // Between the replay of the whole node and that of every listed agent lay a time without either.
            sync_replays: age != UpstreamVersion::V8_2,
            sync_reschedules: true,
            sync_all_or_nothing: !from(UpstreamVersion::V9_0) && !hosted,
            sync_counts_rejected: from(UpstreamVersion::V9_0),
            sync_by_name: !from(UpstreamVersion::V6_0),
            sync_ignores_strangers: true,
            superseded_code: if hosted { 4000 } else { 1000 },
            conflict_in_words: hosted,
            node_lookup: if from(UpstreamVersion::V8_2) {
                NodeLookup::IdThenName
            } else {
                NodeLookup::Name
            },
            global_node_ids: true,
            token_proof: from(UpstreamVersion::V9_0),
            replays_mint: from(UpstreamVersion::V9_0),
            create_only: from(UpstreamVersion::V8_2),
            recovery_routes: from(UpstreamVersion::V8_2),
            deregister_replies: from(UpstreamVersion::V9_0),
            contract: from(UpstreamVersion::V9_0),
            bind_tells_cursor: from(UpstreamVersion::V9_0),
            sign_off: if from(UpstreamVersion::V8_2) {
                SignOff::OnRequest
            } else {
                SignOff::Always
            },
            tells_presence: true,
            place_until_result: true,
            leaves_kept_places: from(UpstreamVersion::V9_0),
            release_needs_host: from(UpstreamVersion::V8_2),
            dispatch: limits::DISPATCH_UPSTREAM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_age_is_known_by_its_name() {
        for (name, age) in UpstreamVersion::ALL {
            assert_eq!(name.parse(), Ok(age));
            assert_eq!(age.as_str(), name);
        }
        assert_eq!("7.0".parse::<UpstreamVersion>(), Err(()));
    }
}
