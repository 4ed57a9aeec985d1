//! What this part keeps besides what the ledger knows, and whom it may ask.

use std::collections::{BTreeMap, BTreeSet};

use super::desk::MailDesk;
use super::gap::{AskedAnew, Gap};
use super::loops::LoopGuard;
use super::threads::Threads;
use crate::dispatch::questions::{ActionQuestions, AgentQuestions, ControlQuestions};
use crate::dispatch::step::{PartStep, PartView};
use crate::ids::{AgentId, AgentName, Seq};
use crate::time::Mono;

/// Whom mail may ask.
#[derive(Clone, Copy)]
pub(in crate::dispatch) struct MailPeers<'a> {
    pub(in crate::dispatch) agents: &'a dyn AgentQuestions,
    pub(in crate::dispatch) control: &'a dyn ControlQuestions,
    pub(in crate::dispatch) actions: &'a dyn ActionQuestions,
}

/// A step of this part.
pub(in crate::dispatch) type MailStep<'a> = PartStep<'a, MailPeers<'a>>;
/// A look of this part.
pub(in crate::dispatch) type MailView<'a> = PartView<'a, MailPeers<'a>>;

/// What is on its way to agents, besides what the ledger knows.
#[derive(Default)]
pub(in crate::dispatch) struct Mail {
    /// Of every agent that is here.
    pub(super) desks: BTreeMap<AgentName, MailDesk>,
    pub(super) gaps: BTreeMap<AgentId, Gap>,
    /// The events by which modes were last changed in this life of the broker.
    pub(super) mode_changes: BTreeMap<AgentName, u64>,
    /// What was said in threads lately.
    pub(in crate::dispatch) threads: Threads,
    /// Whose missing mail was asked for by a new link.
    pub(super) asked_anew: BTreeMap<AgentId, AskedAnew>,
    /// For whom too much waits, so that the engine's mail is left to the engine.
    pub(super) full: BTreeMap<AgentId, AgentName>,
    /// What the engine calls agents that go by another name here, by their ids.
    pub(super) called: BTreeMap<AgentId, AgentName>,
    /// Of whom nothing was taken in yet: the first number that was left to the engine on this link.
    pub(super) left: BTreeMap<AgentId, Seq>,
    /// Of agents that are not here, from when on the waiting of their mail is not written down yet.
    pub(super) absent_since: BTreeMap<AgentName, Mono>,
    /// When to see whether mail has waited too long for an agent that is not here.
    pub(super) absent_check: Option<Mono>,
    /// Who is not here and whose mail ended, without a link or on this one: said on the next link, in case it was not heard.
    pub(super) unsaid: BTreeSet<AgentName>,
    /// All that had ended before this life was said once: what the life before said of it is not known.
    pub(super) said_all: bool,
    /// How much agents send each other.
    pub(super) loops: LoopGuard,
    /// Names that were released once more while the engine was asked what it has for them.
    pub(super) list_again: BTreeSet<AgentName>,
    /// When to try again to clear what released agents left with the engine.
    pub(super) leftovers_at: Option<Mono>,
    /// The engine has shown that it sends nothing again when it is given the list of agents, as those from 8.2 on do for
    /// agents that are ready already ([engine-protocol 4.4](crate::docs::engine_protocol#4.4)).
    pub(super) lists_replay_nothing: bool,
}
