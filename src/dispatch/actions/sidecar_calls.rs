//! What programs say that connect to serve actions ([local-api 6.1](crate::docs::local_api#6.1)), what runs with them, and
//! what becomes of it when they go. One that asked for it is started again.

use std::time::Duration;

use serde_json::json;

use super::invocations::as_object;
use super::sidecars::{Launches, Relaunch};
use super::state::{ActionStep, Actions};
use crate::dispatch::notice::Notice;
use crate::domain::Outcome;
use crate::ids::SidecarId;
use crate::ledger::Record;
use crate::msg::{Answer, Effect, Refusal, RefusalKind, Reply, SidecarCall, SidecarPush};
use crate::wire::down::ActionInvoke;
use crate::wire::local::Supervision;

/// One that served for this long has not failed to start.
const STABLE: Duration = Duration::from_secs(60);

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
