//! Agents as the local API shows them.

use super::channels::channels_of;
use super::state::{Agents, AgentsView};
use crate::ids::AgentName;
use crate::ledger::Departed;
use crate::time::millis;
use crate::wire::local;

impl Agents {
    pub(in crate::dispatch) fn crash_insights(&self, view: AgentsView) -> local::CrashInsights {
        self.crashes.insights(view.now.wall)
    }

    pub(in crate::dispatch) fn views(&self, view: AgentsView) -> Vec<local::AgentView> {
        let names = self.all.keys();
        names.filter_map(|name| self.view(view, name)).collect()
    }

    fn view(&self, view: AgentsView, name: &AgentName) -> Option<local::AgentView> {
        let agent = self.all.get(name)?;
        let program = agent.program();
        let (now, ledger) = (view.now, view.ledger());
        let ready = program.is_some_and(|p| p.ready);
        let last = agent.last_activity;
        let waiting = ledger.mail().waiting(name) as u64;
        let stalled = view.peers.mail.stalled(name).is_some();
        Some(local::AgentView {
            name: name.clone(),
            runtime: agent.runtime().into(),
            runtime_kind: agent.runtime().into(),
            provider: None,
            cli: agent.cli(),
            command: agent.spec.argv.join(" "),
            generation: Some(agent.generation.clone()),
            model: agent.request.model.clone(),
            session_id: agent.session_ref(),
            team: agent.request.team.clone(),
            channels: channels_of(&agent.request.channels),
            parent: agent.parent().into(),
            pid: agent.pid(),
            worker_pid: agent.pid(),
            last_activity_ms: millis(now.wall - last),
            last_activity_at: last.iso(),
            context_budget_pct: None,
            current_state: agent.current_state(stalled, waiting).into(),
            state_since: agent.state_since(now, stalled, waiting).iso(),
            pending_messages: waiting,
            suspended_messages: ledger.mail().suspended(name) as u64,
            phase: agent.phase_word(stalled).into(),
            ready,
            blocked_on: program.and_then(|p| p.dialog),
            held_up_by: self.held_up_by(view, name),
            crowded: None,
            agent_id: agent.agent_id.as_ref().map(ToString::to_string),
            mode: ledger.mode(name),
            trouble: agent.trouble.clone(),
            next_start_ms: agent.next_start(now.mono).map(millis),
            uptime_secs: now.mono.since(agent.started.mono).as_secs(),
        })
    }

    /// Agents that ended without anybody's wish, in order of their names.
    pub(in crate::dispatch) fn departed_views(&self, view: AgentsView) -> Vec<local::DepartedView> {
        let ledger = view.ledger();
        let shown = |(name, d): (&AgentName, &Departed)| local::DepartedView {
            name: name.clone(),
            reason: d.reason.clone(),
            given_up: d.given_up,
            at: d.at.iso(),
            command: d.command.clone(),
            pending_messages: ledger.mail().waiting(name) as u64,
            code: d.code,
            signal: d.signal,
            last_lines: d.last_lines.clone(),
        };
        // One that is being started has its place among the others.
        let departed = ledger.lives().departed();
        let away = departed.filter(|(name, _)| !self.all.contains_key(*name));
        away.map(shown).collect()
    }

    /// Why its messages wait, if that is known.
    pub(in crate::dispatch) fn held_up_by(
        &self,
        view: AgentsView,
        name: &AgentName,
    ) -> Option<String> {
        let agent = self.all.get(name)?;
        let stalled = view.peers.mail.stalled(name).map(str::to_owned);
        let dialog = agent.program().and_then(|program| program.dialog);
        stalled.or_else(|| dialog.map(|dialog| dialog.sentence().to_owned()))
    }
}
