//! Names that are registered at the engine ahead of their agents' start, so that others can write to them already
//! ([local-api 2.2](crate::docs::local_api#2.2)).

use super::state::{AgentStep, Agents};
use crate::dispatch::rest_jobs::{RestJob, sentence};
use crate::ids::AgentName;
use crate::msg::{RestCall, RestDone};

impl Agents {
    /// Has names registered that the engine does not know from here yet; how many those are.
    pub(in crate::dispatch) fn preflight(
        &self,
        step: &mut AgentStep,
        mut names: Vec<AgentName>,
    ) -> u64 {
        names.sort();
        names.dedup();
        names.retain(|name| !self.all.contains_key(name) && step.ledger().bound(name).is_none());
        let queued = names.len() as u64;
        if queued > 0 {
            step.rest_job(RestCall::Reserve(names), RestJob::Reserve);
        }
        queued
    }
}

/// The call that names' registration has come to. A spawn registers its name all the same.
pub(in crate::dispatch) fn reserved(done: &RestDone) {
    if *done != RestDone::Reserved {
        log::warn!(
            "names could not be registered ahead of their agents: {}",
            sentence(done)
        );
    }
}
