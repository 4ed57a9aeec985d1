//! Programs that are connected to serve actions ([local-api 6.1](crate::docs::local_api#6.1)): what they offer, and which are
//! to be started again.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{InvocationId, SidecarId};
use crate::time::Mono;
use crate::wire::local::{Manifest, Supervision};
use crate::wire::up::Capability;

/// One connected program.
#[derive(Debug, Default)]
pub(super) struct Sidecar {
    pub(super) manifest: Manifest,
    pub(super) handlers: BTreeSet<String>,
    pub(super) running: BTreeSet<InvocationId>,
    pub(super) supervision: Option<Supervision>,
    pub(super) since: Option<Mono>,
    /// Of its program, by us.
    pub(super) launches: Launches,
}

/// How often a program was started again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Launches {
    pub(super) total: u32,
    pub(super) in_a_row: u32,
}

/// One that is to be started again.
#[derive(Debug)]
pub(super) struct Relaunch {
    pub(super) at: Mono,
    pub(super) supervision: Supervision,
    pub(super) launches: Launches,
    /// It was started and has not come (back) yet.
    pub(super) started: bool,
}

/// All of them, and those that are to come back.
#[derive(Debug, Default)]
pub(super) struct Sidecars {
    pub(super) connected: BTreeMap<SidecarId, Sidecar>,
    pub(super) relaunches: Vec<Relaunch>,
}

impl Sidecars {
    pub(super) fn deadline(&self) -> Option<Mono> {
        let due = self.relaunches.iter().filter(|r| !r.started);
        due.map(|r| r.at).min()
    }

    /// What connected programs serve right now.
    pub(super) fn capabilities(&self) -> Vec<Capability> {
        let mut all: Vec<Capability> = Vec::new();
        for sidecar in self.connected.values() {
            for name in &sidecar.handlers {
                let mut declared = sidecar.manifest.capabilities.iter();
                let declared = declared.find(|c| c.name == *name);
                let usual = if name.starts_with("spawn:") {
                    "capacity"
                } else {
                    "action"
                };
                let kind = declared.and_then(|c| c.kind.as_deref());
                let known = kind.filter(|k| matches!(*k, "capacity" | "action"));
                all.push(Capability {
                    metadata: declared.and_then(|c| c.metadata.clone()),
                    ..Capability::of(name, known.unwrap_or(usual))
                });
            }
        }
        all
    }

    /// The most agents that a connected program wants here; 0 for no limit.
    pub(super) fn max_agents(&self) -> u64 {
        let wishes = self.connected.values();
        let wishes = wishes.filter_map(|s| s.manifest.max_agents);
        wishes.max().unwrap_or(0)
    }

    /// What connected programs say of this node.
    pub(super) fn tags(&self) -> Vec<String> {
        let all = self.connected.values();
        let tags: BTreeSet<&String> = all.flat_map(|s| &s.manifest.tags).collect();
        tags.into_iter().cloned().collect()
    }

    /// One that serves this action.
    pub(super) fn serving(&self, action: &str) -> Option<SidecarId> {
        let mut all = self.connected.iter();
        all.find(|(_, sidecar)| sidecar.handlers.contains(action))
            .map(|(id, _)| *id)
    }
}
