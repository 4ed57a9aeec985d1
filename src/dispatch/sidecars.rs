//! Programs that connect to serve actions ([local-api 6.1](crate::docs::local_api#6.1)): what they can do, what runs with
//! them, and what becomes of it when they go. One that asked for it is started again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::handlers::as_object;
use super::{Dispatcher, Out};
use crate::ids::{InvocationId, SidecarId};
use crate::ledger::Record;
use crate::msg::{Answer, Effect, Refusal, RefusalKind, Reply, SidecarCall, SidecarPush};
use crate::time::{Mono, Now};
use crate::wire::down::ActionInvoke;
use crate::wire::local::{Manifest, Supervision};
use crate::wire::up::{Capability, Outcome};

/// One that served for this long has not failed to start.
const STABLE: Duration = Duration::from_secs(60);

/// One connected program.
#[derive(Debug, Default)]
pub(super) struct Sidecar {
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
pub(super) struct Relaunch {
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

    fn serving(&self, action: &str) -> Option<SidecarId> {
        let mut all = self.connected.iter();
        all.find(|(_, sidecar)| sidecar.handlers.contains(action))
            .map(|(id, _)| *id)
    }
}

impl Dispatcher {
    pub(super) fn sidecar_call(
        &mut self,
        now: Now,
        id: SidecarId,
        call: SidecarCall,
        out: &mut Out,
    ) -> Answer {
        match call {
            SidecarCall::Node(manifest, supervision) => {
                let expected = self.expected_back(supervision.as_deref());
                let sidecar = self.sidecars.connected.entry(id).or_default();
                sidecar.manifest = *manifest;
                sidecar.supervision = supervision.map(|s| *s);
                sidecar.since = Some(now.mono);
                sidecar.launches = expected.unwrap_or(sidecar.launches);
                self.capabilities_changed(now, out);
                Ok(Reply::Sidecar(json!({"registered": true})))
            }
            SidecarCall::Handlers(names) => {
                let sidecar = self.sidecars.connected.entry(id).or_default();
                sidecar.handlers = names.into_iter().filter(|n| is_servable(n)).collect();
                sidecar.since.get_or_insert(now.mono);
                self.capabilities_changed(now, out);
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
                self.answer(invocation, outcome, out);
                Ok(Reply::Sidecar(json!({"completed": true})))
            }
            SidecarCall::Deregister => {
                self.sidecar_gone(now, id, false, out);
                Ok(Reply::Sidecar(json!({"deregistered": true})))
            }
            SidecarCall::Gone => {
                self.sidecar_gone(now, id, true, out);
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
    pub(super) fn invoke_sidecar(&mut self, invoke: &ActionInvoke, out: &mut Out) -> bool {
        let Some(id) = self.sidecars.serving(&invoke.action) else {
            return false;
        };
        let invocation = invoke.invocation_id.clone();
        self.record(
            Record::Invoked {
                id: invocation.clone(),
            },
            out,
        );
        self.invocations.insert(invocation.clone());
        if let Some(sidecar) = self.sidecars.connected.get_mut(&id) {
            sidecar.running.insert(invocation.clone());
        }
        let push = SidecarPush::Invoke {
            invocation_id: invocation,
            name: invoke.action.clone(),
            input: invoke.input.clone(),
        };
        out.effects.push(Effect::Sidecar(id, push));
        true
    }

    fn sidecar_gone(&mut self, now: Now, id: SidecarId, wanted_back: bool, out: &mut Out) {
        let Some(sidecar) = self.sidecars.connected.remove(&id) else {
            return;
        };
        self.capabilities_changed(now, out);
        for invocation in sidecar.running {
            self.unavailable(invocation, out);
        }
        if let (Some(supervision), true, true) =
            (sidecar.supervision, wanted_back, self.stopping.is_none())
        {
            let stable = sidecar
                .since
                .is_some_and(|since| now.mono.since(since) >= STABLE);
            let mut launches = sidecar.launches;
            if stable {
                launches.in_a_row = 0;
            }
            self.relaunch_later(now, supervision, launches);
        }
    }

    fn relaunch_later(&mut self, now: Now, supervision: Supervision, mut launches: Launches) {
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
        let at = now.mono + Duration::from_millis(policy.cooldown_ms);
        self.sidecars.relaunches.push(Relaunch {
            at,
            supervision,
            launches,
            started: false,
        });
    }

    pub(super) fn tick_sidecars(&mut self, now: Now, out: &mut Out) {
        for relaunch in &mut self.sidecars.relaunches {
            if !relaunch.started && relaunch.at <= now.mono {
                relaunch.started = true;
                let order = Box::new(relaunch.supervision.clone());
                out.effects.push(Effect::Launch(order));
            }
        }
    }

    /// A sidecar's program that we started ended, or could not be started, before it connected.
    pub(super) fn launch_ended(&mut self, now: Now, argv: &[String], how: &str) {
        let mut all = self.sidecars.relaunches.iter();
        let Some(at) = all.position(|r| r.started && r.supervision.argv == argv) else {
            return;
        };
        let relaunch = self.sidecars.relaunches.remove(at);
        log::warn!("the sidecar {argv:?} did not come back: {how}");
        self.relaunch_later(now, relaunch.supervision, relaunch.launches);
    }

    /// What connected programs serve right now.
    pub(super) fn sidecar_capabilities(&self) -> Vec<Capability> {
        let mut all: Vec<Capability> = Vec::new();
        for sidecar in self.sidecars.connected.values() {
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

    /// The most agents that a connected program wants here, unless the operator set a limit.
    pub(super) fn max_agents(&self) -> u64 {
        if self.facts.max_agents > 0 {
            return self.facts.max_agents;
        }
        let wishes = self.sidecars.connected.values();
        wishes
            .filter_map(|s| s.manifest.max_agents)
            .max()
            .unwrap_or(0)
    }

    /// What connected programs say of this node.
    pub(super) fn tags(&self) -> Vec<String> {
        let all = self.sidecars.connected.values();
        let tags: BTreeSet<&String> = all.flat_map(|s| &s.manifest.tags).collect();
        tags.into_iter().cloned().collect()
    }
}

/// Never a bare `spawn`, which would catch every spawn of the workspace on old engines
/// ([engine-protocol 5.1](crate::docs::engine_protocol#5.1)).
fn is_servable(name: &str) -> bool {
    !matches!(name, "" | "spawn" | "release")
}
