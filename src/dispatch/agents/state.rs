//! What this part keeps, and whom it may ask.

use std::collections::BTreeMap;

use super::agent::{LocalAgent, Releaser, Unheard};
use super::crashes::Crashes;
use crate::dispatch::questions::{ActionQuestions, ControlQuestions, MailQuestions};
use crate::dispatch::step::{PartStep, PartView};
use crate::ids::{AgentId, AgentName, Run};
use crate::time::Mono;

/// Whom agents may ask.
#[derive(Clone, Copy)]
pub(in crate::dispatch) struct AgentPeers<'a> {
    pub(in crate::dispatch) mail: &'a dyn MailQuestions,
    pub(in crate::dispatch) control: &'a dyn ControlQuestions,
    pub(in crate::dispatch) actions: &'a dyn ActionQuestions,
}

/// A step of this part.
pub(in crate::dispatch) type AgentStep<'a> = PartStep<'a, AgentPeers<'a>>;
/// A look of this part.
pub(in crate::dispatch) type AgentsView<'a> = PartView<'a, AgentPeers<'a>>;

/// Who runs here, or is about to.
pub(in crate::dispatch) struct Agents {
    pub(super) all: BTreeMap<AgentName, LocalAgent>,
    /// What went wrong with programs.
    pub(super) crashes: Crashes,
    pub(super) next_run: Run,
    /// Who ended while there was no link.
    pub(super) farewells: BTreeMap<AgentName, AgentId>,
    /// Requests on this link of agents that are gone.
    pub(super) unheard: BTreeMap<String, Unheard>,
    /// When to look again for those that the engine may have made without an answer.
    pub(super) find_at: Option<Mono>,
    /// Who is told that an agent is released once the engine has nothing more for it.
    pub(super) releasers: BTreeMap<AgentName, Vec<Releaser>>,
}
