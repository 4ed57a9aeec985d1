//! The ledger as one value, for the start of a new journal file.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::cursor::Cursor;
use super::dead_letters::DeadLetters;
use super::mailbox::Pending;
use super::restart::Lives;
use super::stored::{DeliveryModeEntry, OutcomeEntry};
use crate::ids::{AgentId, AgentName, InvocationId};

/// All that a [`super::Ledger`] knows, in the form that is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    pub(super) cursors: BTreeMap<AgentId, Cursor>,
    #[serde(default)]
    pub(super) identities: VecDeque<AgentId>,
    pub(super) bound: BTreeMap<AgentName, AgentId>,
    pub(super) pending: Vec<Pending>,
    pub(super) dead: DeadLetters,
    #[serde(default)]
    pub(super) lives: Lives,
    pub(super) modes: BTreeMap<AgentName, DeliveryModeEntry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) uncleared: BTreeMap<AgentName, AgentId>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) unanswered: BTreeMap<AgentName, bool>,
    pub(super) answers: Vec<(InvocationId, Option<OutcomeEntry>)>,
    pub(super) numbered: u64,
}
