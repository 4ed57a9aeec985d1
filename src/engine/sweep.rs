//! What happens because time passes: deliveries that die, nodes that fall silent, actions that get no answer. Runs when
//! something is due and never otherwise: an idle engine sleeps.

use std::time::Duration;

use super::id::Id;
use super::invocation::InvocationProgress;
use super::limits;
use super::step::Step;
use crate::time::{Mono, soonest};

/// Looked at so much later than due, so that "due" and "over" are never a rounding apart.
pub const GRACE: Duration = Duration::from_millis(5);

impl Step<'_> {
    /// Does all that is due, then works out when something will be due next.
    pub fn sweep(&mut self) {
        let workspaces: Vec<Id> = self.core.state.workspaces.keys().copied().collect();
        for ws in &workspaces {
            self.age_mail(*ws);
        }
        self.notice_silence();
        for ws in &workspaces {
            self.chase_invocations(*ws);
        }
        self.core.sweep_at = self.next_sweep();
    }

    /// Nodes without a recent heartbeat: their agents are offline and their work goes elsewhere. The socket stays; a
    /// heartbeat brings them back.
    fn notice_silence(&mut self) {
        let silent: Vec<(Id, String, String)> = self
            .core
            .live
            .all()
            .filter(|(.., a)| !a.stale && !a.is_live(self.now.mono))
            .map(|(ws, node, provider, _)| (ws, node.to_owned(), provider.to_owned()))
            .collect();
        for (ws, node, provider) in silent {
            let Some(a) = self.core.live.get_mut(ws, &node, &provider) else {
                continue;
            };
            a.stale = true;
            let listed: Vec<Id> = a
                .ready
                .iter()
                .filter(|(_, r)| r.listed)
                .map(|(id, _)| *id)
                .collect();
            for agent in listed {
                let offline = self
                    .agent(ws, agent)
                    .filter(|a| !self.core.live.is_online(ws, a, self.now.mono))
                    .map(|a| a.name.clone());
                if let Some(name) = offline {
                    self.announce_presence(ws, &name, false);
                }
            }
            self.requeue_node(ws, &node, &provider);
        }
    }

    fn chase_invocations(&mut self, ws: Id) {
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return;
        };
        let (mut again, mut over) = (Vec::new(), Vec::new());
        for i in w.open.iter().filter_map(|id| w.invocations.get(id)) {
            if self.now.wall - i.created_at >= limits::PENDING {
                over.push((i.id.clone(), "no node took it in time"));
                continue;
            }
            if i.status != InvocationProgress::Dispatched {
                continue;
            }
            let lost = i
                .node
                .as_ref()
                .is_none_or(|n| self.core.live.providers(ws, n).next().is_none());
            let late = i
                .dispatched_at
                .is_some_and(|at| self.now.wall - at >= self.core.behaviour().dispatch);
            if late && i.attempts >= limits::DISPATCHES {
                over.push((i.id.clone(), "dispatch_timeout"));
            } else if late || lost {
                again.push(i.id.clone());
            }
        }
        for (id, error) in over {
            self.finish(ws, &id, Err(error.to_owned()), None);
        }
        for id in again {
            self.requeue(ws, &id);
        }
    }

    fn next_sweep(&self) -> Option<Mono> {
        let now = self.now;
        let mut next = None;
        let mut at = |after: Duration| next = soonest(next, Some(now.mono + after + GRACE));
        for w in self.core.state.workspaces.values() {
            if let Some(after) = self.next_overdue(w) {
                at(after);
            }
            for i in w.open.iter().filter_map(|id| w.invocations.get(id)) {
                let sent = match i.status {
                    InvocationProgress::Dispatched => i.dispatched_at,
                    InvocationProgress::Pending
                    | InvocationProgress::Invoked
                    | InvocationProgress::Completed
                    | InvocationProgress::Failed => None,
                };
                let (since, limit) = sent.map_or((i.created_at, limits::PENDING), |at| {
                    (at, self.core.behaviour().dispatch)
                });
                at(limit.saturating_sub(now.wall - since));
            }
        }
        for (.., a) in self.core.live.all().filter(|(.., a)| !a.stale) {
            at(limits::LIVENESS.saturating_sub(now.mono.since(a.beat)));
        }
        next
    }
}
