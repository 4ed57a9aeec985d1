//! Programs that connect to serve actions ([local-api 6.1](crate::docs::local_api#6.1)): what they can do, what runs with
//! them, and what becomes of it when they go. One that asked for it is started again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::handlers::as_object;
use super::{ActionStep, Actions};
use crate::dispatch::notice::Notice;
use crate::domain::Outcome;
use crate::ids::{InvocationId, SidecarId};
use crate::ledger::Record;
use crate::msg::{Answer, Effect, Refusal, RefusalKind, Reply, SidecarCall, SidecarPush};
use crate::time::Mono;
use crate::wire::down::ActionInvoke;
use crate::wire::local::{Manifest, Supervision};
use crate::wire::up::Capability;

/// One that served for this long has not failed to start.
const STABLE: Duration = Duration::from_secs(60);

/// One connected program.
#[derive(Debug, Default)]
struct Sidecar {
    manifest: Manifest,
    handlers: BTreeSet<String>,
    running: BTreeSet<InvocationId>,
    supervision: Option<Supervision>,
    since: Option<Mono>,
    /// Of its program, by us.
    launches: Launches,
}

/// How often a program was started again.
#[derive(Clone, Copy, Debug, Default)]
struct Launches {
    total: u32,
    in_a_row: u32,
}

/// One that is to be started again.
#[derive(Debug)]
struct Relaunch {
    at: Mono,
    supervision: Supervision,
    launches: Launches,
    /// It was started and has not come (back) yet.
    started: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sidecars {
    connected: BTreeMap<SidecarId, Sidecar>,
    relaunches: Vec<Relaunch>,
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

    fn serving(&self, action: &str) -> Option<SidecarId> {
        let mut all = self.connected.iter();
        all.find(|(_, sidecar)| sidecar.handlers.contains(action))
            .map(|(id, _)| *id)
    }
}

impl Actions {
    /// A connected program says something.
    pub(in crate::dispatch) fn sidecar_call(
        &mut self,
        step: &mut ActionStep,
        id: SidecarId,
        call: SidecarCall,
    ) -> Answer {
        match call {
            SidecarCall::Node(manifest, supervision) => {
                let expected = self.expected_back(supervision.as_deref());
                let sidecar = self.sidecars.connected.entry(id).or_default();
                sidecar.manifest = *manifest;
                sidecar.supervision = supervision.map(|s| *s);
                sidecar.since = Some(step.now.mono);
                sidecar.launches = expected.unwrap_or(sidecar.launches);
                step.notice(Notice::CapabilitiesChanged);
                Ok(Reply::Sidecar(json!({"registered": true})))
            }
            SidecarCall::Handlers(names) => {
                let sidecar = self.sidecars.connected.entry(id).or_default();
                sidecar.handlers = names.into_iter().filter(|n| is_servable(n)).collect();
                sidecar.since.get_or_insert(step.now.mono);
                step.notice(Notice::CapabilitiesChanged);
                Ok(Reply::Sidecar(json!({"handlers_live": true})))
            }
            SidecarCall::Result(invocation, outcome) => {
                let sidecar = self.sidecars.connected.get_mut(&id);
                if !sidecar.is_some_and(|s| s.running.remove(&invocation)) {
                    let text = format!("no invocation {invocation} runs with this sidecar");
                    return Err(Refusal::new(RefusalKind::UnknownInvocation, text));
                }
                let outcome = match outcome {
                    Outcome::Output(output) => Outcome::Output(as_object(output)),
                    error => error,
                };
                self.answer(step, invocation, outcome);
                Ok(Reply::Sidecar(json!({"completed": true})))
            }
            SidecarCall::Deregister => {
                self.sidecar_gone(step, id, false);
                Ok(Reply::Sidecar(json!({"deregistered": true})))
            }
            SidecarCall::Gone => {
                self.sidecar_gone(step, id, true);
                Ok(Reply::Sidecar(json!({})))
            }
        }
    }

    /// The count of a program that we started and that is back now.
    fn expected_back(&mut self, supervision: Option<&Supervision>) -> Option<Launches> {
        let argv = &supervision?.argv;
        let mut all = self.sidecars.relaunches.iter();
        let at = all.position(|relaunch| relaunch.supervision.argv == *argv)?;
        Some(self.sidecars.relaunches.remove(at).launches)
    }

    /// Hands an invocation to a sidecar that serves its action. Says whether there is one.
    pub(super) fn invoke_sidecar(&mut self, step: &mut ActionStep, invoke: &ActionInvoke) -> bool {
        let Some(id) = self.sidecars.serving(&invoke.action) else {
            return false;
        };
        let invocation = invoke.invocation_id.clone();
        step.record(Record::Invoked {
            id: invocation.clone(),
        });
        self.invocations.insert(invocation.clone());
        if let Some(sidecar) = self.sidecars.connected.get_mut(&id) {
            sidecar.running.insert(invocation.clone());
        }
        let push = SidecarPush::Invoke {
            invocation_id: invocation,
            name: invoke.action.clone(),
            input: invoke.input.clone(),
        };
        step.effect(Effect::Sidecar(id, push));
        true
    }

    fn sidecar_gone(&mut self, step: &mut ActionStep, id: SidecarId, wanted_back: bool) {
        let Some(sidecar) = self.sidecars.connected.remove(&id) else {
            return;
        };
        step.notice(Notice::CapabilitiesChanged);
        for invocation in sidecar.running {
            // Once the engine knows that nobody here serves it, so that it does not come back.
            step.notice(Notice::Unavailable(invocation));
        }
        if let (Some(supervision), true, true) = (
            sidecar.supervision,
            wanted_back,
            !step.peers.control.is_stopping(),
        ) {
            let stable = sidecar
                .since
                .is_some_and(|since| step.now.mono.since(since) >= STABLE);
            let mut launches = sidecar.launches;
            if stable {
                launches.in_a_row = 0;
            }
            self.relaunch_later(step, supervision, launches);
        }
    }

    fn relaunch_later(
        &mut self,
        step: &mut ActionStep,
        supervision: Supervision,
        mut launches: Launches,
    ) {
        let policy = supervision.restart_policy.clone().unwrap_or_default();
        launches.total += 1;
        launches.in_a_row += 1;
        let spent = policy.max_restarts > 0 && launches.total > policy.max_restarts;
        let failed = policy.max_consecutive_failures > 0
            && launches.in_a_row > policy.max_consecutive_failures;
        if !policy.enabled || spent || failed {
            log::error!(
                "the sidecar {:?} is not started again: it went {} times in a row, {} times in all",
                supervision.argv,
                launches.in_a_row,
                launches.total
            );
            return;
        }
        let at = step.now.mono + Duration::from_millis(policy.cooldown_ms);
        self.sidecars.relaunches.push(Relaunch {
            at,
            supervision,
            launches,
            started: false,
        });
    }

    pub(super) fn tick_sidecars(&mut self, step: &mut ActionStep) {
        for relaunch in &mut self.sidecars.relaunches {
            if !relaunch.started && relaunch.at <= step.now.mono {
                relaunch.started = true;
                let order = Box::new(relaunch.supervision.clone());
                step.effect(Effect::Launch(order));
            }
        }
    }

    /// A sidecar's program that we started ended, or could not be started, before it connected.
    pub(in crate::dispatch) fn launch_ended(
        &mut self,
        step: &mut ActionStep,
        argv: &[String],
        how: &str,
    ) {
        let mut all = self.sidecars.relaunches.iter();
        let Some(at) = all.position(|r| r.started && r.supervision.argv == argv) else {
            return;
        };
        let relaunch = self.sidecars.relaunches.remove(at);
        log::warn!("the sidecar {argv:?} did not come back: {how}");
        self.relaunch_later(step, relaunch.supervision, relaunch.launches);
    }
}

/// Never a bare `spawn`, which would catch every spawn of the workspace on old engines
/// ([engine-protocol 5.1](crate::docs::engine_protocol#5.1)).
fn is_servable(name: &str) -> bool {
    !matches!(name, "" | "spawn" | "release")
}
