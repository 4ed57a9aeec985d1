//! Who runs here: what their threads report, and their end.

use std::time::Duration;

use super::agent::{LocalAgent, Program, RunPhase};
use super::agent_registration::identity_over;
use super::asked_restart::{answer_restarters, refuse_restarters};
use super::release::{answer_releasers, held_warning};
use super::restart::life_over;
use super::state::{AgentStep, Agents};
use crate::dispatch::notice::{End, Notice};
use crate::dispatch::questions::AgentQuestions;
use crate::domain::Outcome;
use crate::ids::{AgentName, Ticket};
use crate::msg::{AgentCommand, Answer, How, Refusal, RefusalKind, Reply, SpawnSource};
use crate::time::Wall;
use crate::wire::event::BrokerEvent;
use crate::wire::local;

/// How long a program that the engine asked for must live to count as started (as upstream has it since 11.x).
const SETTLES_AFTER: Duration = Duration::from_millis(250);

/// What to say of one whose program runs before the engine knows it.
const UNREGISTERED: &str = "the engine is away: the agent runs and gets messages of this machine; the engine hears of it \
                            later, and RELAY_AGENT_TOKEN is set for its program from the next restart on";

impl Agents {
    // ---- what its thread reports; what it says of deliveries is mail's to hear ---------------------------------------

    /// Remembers since when it is as it is, after a report and what came of it.
    pub(in crate::dispatch) fn reported(&mut self, step: &mut AgentStep, name: &AgentName) {
        let waiting = step.ledger().mail().waiting(name) as u64;
        let stalled = step.peers.mail.stalled(name).is_some();
        if let Some(agent) = self.all.get_mut(name) {
            let since = agent.state_since(step.now, stalled, waiting);
            agent.state = (agent.current_state(stalled, waiting), since);
        }
    }

    pub(in crate::dispatch) fn pictured(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        ticket: Ticket,
        picture: local::Snapshot,
    ) {
        self.answered(name, ticket);
        step.reply(ticket, Ok(Reply::Snapshot(picture)));
    }

    /// An agent's thread has the answer for whoever asked.
    pub(super) fn answered(&mut self, name: &AgentName, ticket: Ticket) {
        let agent = self.all.get_mut(name);
        if let Some(program) = agent.and_then(LocalAgent::program_mut) {
            program.waiting.retain(|t| *t != ticket);
        }
    }

    pub(in crate::dispatch) fn working(&mut self, step: &mut AgentStep, name: &AgentName) {
        if let Some(agent) = self.all.get_mut(name) {
            agent.last_activity = step.now.wall;
            if let Some(program) = agent.program_mut() {
                program.idle_since = None;
            }
        }
    }

    pub(in crate::dispatch) fn started(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        pid: u32,
    ) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        let mut program = Program::new(pid);
        let (source, caller) = (agent.run.source.clone(), agent.run.caller.take());
        let invoked = matches!(source, SpawnSource::Invocation(_));
        program.settles = invoked.then(|| step.now.mono + SETTLES_AFTER);
        let leaving = !agent.releasing.is_empty() || step.peers.control.is_stopping();
        program.leaving = leaving;
        agent.trouble = None;
        agent.run.phase = RunPhase::Running(program);
        let (program, run, runtime) = (agent.facts(), agent.run.id, agent.runtime());
        let known = agent.agent_id.is_some();
        let parent = agent.parent().to_owned();
        step.count().agents_spawned += 1;
        step.publish(BrokerEvent::AgentSpawned {
            name: name.clone(),
            runtime: runtime.into(),
            program,
            parent,
            pid: Some(pid),
            source: source_word(&source).into(),
            pre_registered: known,
            registration_warning: (!known).then(|| UNREGISTERED.into()),
        });
        self.life_began(step, name, &source);
        self.join_channels(step, name);
        if leaving {
            let grace = step.config().grace;
            step.order(name.clone(), run, AgentCommand::Stop { grace });
            step.notice(Notice::AgentLeaving(name.clone()));
        }
        step.notice(Notice::RosterChanged);
        if !invoked {
            self.spawn_answered(step, name, &source, caller);
        }
        if let Some(agent) = self.all.get_mut(name).filter(|_| !leaving) {
            answer_restarters(step, name, agent);
        }
    }

    /// A program that the engine asked for has lived long enough.
    pub(super) fn settled_in(&mut self, step: &mut AgentStep, name: &AgentName) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        let source = agent.run.source.clone();
        if let Some(program) = agent.program_mut() {
            program.settles = None;
        }
        self.spawn_answered(step, name, &source, None);
    }

    fn spawn_answered(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        source: &SpawnSource,
        caller: Option<Ticket>,
    ) {
        if let SpawnSource::Invocation(id) = source {
            let output = serde_json::json!({ "spawned": true, "name": name.as_str() });
            step.notice(Notice::InvocationOver(id.clone(), Outcome::Output(output)));
        }
        if let (Some(ticket), Some(agent)) = (caller, self.all.get(name)) {
            let spawned = local::Spawned {
                success: true,
                name: name.clone(),
                runtime: agent.runtime().into(),
                generation: Some(agent.generation.clone()),
                model: agent.request.model.clone(),
                session_id: agent.session_ref(),
                pid: agent.pid(),
                pre_registered: agent.agent_id.is_some(),
                warning: join(&[
                    match agent.agent_id.is_some() {
                        true => held_warning(step, name),
                        false => Some(UNREGISTERED.into()),
                    },
                    agent.unsaid(),
                ]),
            };
            step.reply(ticket, Ok(Reply::Spawned(spawned)));
        }
    }

    pub(in crate::dispatch) fn ready(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        evidence: &str,
    ) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        let (run, facts, runtime) = (agent.run.id, agent.facts(), agent.runtime());
        let Some(program) = agent.program_mut() else {
            return;
        };
        program.ready = true;
        let pid = Some(program.pid);
        step.publish(BrokerEvent::WorkerReady {
            name: name.clone(),
            runtime: runtime.into(),
            program: facts,
            pid,
            evidence: evidence.into(),
        });
        step.notice(Notice::AgentReady(name.clone(), run));
    }

    pub(in crate::dispatch) fn idle(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        silent: Duration,
    ) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(0);
        let since = Wall(step.now.wall.0.saturating_sub(silent_ms));
        agent.last_activity = since;
        if let Some(program) = agent.program_mut() {
            program.idle_since = Some(since);
        }
        let generation = Some(agent.generation.clone());
        let done = agent.request.exit_after_task && agent.request.task.is_some();
        step.publish(BrokerEvent::AgentIdle {
            name: name.clone(),
            idle_secs: silent.as_secs(),
            since: since.iso(),
            generation,
        });
        step.publish_blocked_on_send(name, Some(since));
        if done && step.ledger().mail().waiting(name) == 0 {
            log::info!("{name} has fallen silent after its task, and was started for that alone");
            self.release_done(step, name);
        }
    }

    pub(in crate::dispatch) fn exited(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        how: &How,
    ) {
        let Some(mut agent) = self.all.remove(name) else {
            return;
        };
        self.goes_unheard(step, &agent);
        let (moved, stopping) = (agent.moved, step.peers.control.is_stopping());
        if stopping || agent.released {
            let why = format!("agent '{name}' was ended for good meanwhile");
            refuse_restarters(
                step,
                &mut agent,
                &Refusal::new(RefusalKind::UnknownAgent, why),
            );
        }
        if !agent.released && agent.restarters.is_empty() && how.code != Some(0) {
            step.count().agents_crashed += 1;
            self.crashes.add(step.now, &agent, how);
            log::warn!(event = "agent_exited", agent:% = name; "agent {name} ended by itself: {how}");
        }
        never_settled(step, &agent, how);
        for ticket in agent.program().iter().flat_map(|program| &program.waiting) {
            let text = format!("agent '{name}' ended ({how})");
            step.reply(*ticket, Err(Refusal::new(RefusalKind::UnknownAgent, text)));
        }
        emit_exited(step, &agent, how);
        let (agent_id, releasing) = (agent.agent_id.clone(), agent.releasing.clone());
        let mut goes_on = false;
        if moved {
            life_over(step, name, End::Moved, None);
        } else if !releasing.is_empty() {
            life_over(step, name, End::Released, None);
        } else if !agent.restarters.is_empty() {
            self.goes_on_as_asked(step, agent, how);
            goes_on = true;
        } else if !stopping {
            goes_on = self.life_goes_on(step, agent, how);
        }
        if !goes_on {
            step.notice(Notice::AgentGone(name.clone()));
        }
        // One that comes back keeps its identity, and with it the token that its program was given. A stop says goodbye for
        // all at once.
        if let Some(agent_id) = agent_id.filter(|_| !goes_on && !stopping && !moved) {
            identity_over(step, name, agent_id, false);
        }
        // Who comes back at once was never away: what the engine is told then is told when it runs.
        if !stopping && !self.comes_back_at_once(step, name) {
            step.notice(Notice::RosterChanged);
        }
        match moved {
            true => answer_releasers(step, name, &releasing),
            false if releasing.is_empty() => {}
            false => self.released(step, name, &releasing),
        }
    }

    /// A picture of an agent's terminal. Its thread has the answer.
    pub(in crate::dispatch) fn snapshot_call(
        &mut self,
        step: &mut AgentStep,
        ticket: Ticket,
        name: &AgentName,
        ansi: bool,
    ) -> Option<Answer> {
        let agent = self.all.get_mut(name);
        if agent.as_ref().is_some_and(|a| a.spec.headless.is_some()) {
            return Some(Err(no_terminal(name)));
        }
        let run = agent.as_ref().map(|agent| agent.run.id);
        match (agent.and_then(LocalAgent::program_mut), run) {
            (Some(program), Some(run)) => {
                program.waiting.push(ticket);
                step.order(name.clone(), run, AgentCommand::Snapshot { ticket, ansi });
                None
            }
            _ => Some(Err(self.unknown(name))),
        }
    }
}

/// There is nothing to look at.
fn no_terminal(name: &AgentName) -> Refusal {
    let text = format!("agent '{name}' has no terminal (headless)");
    Refusal::new(RefusalKind::NoTerminal, text)
}

/// Several warnings as one.
fn join(warnings: &[Option<String>]) -> Option<String> {
    let said: Vec<&str> = warnings.iter().flatten().map(String::as_str).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Who asked for an agent, in the words clients know.
fn source_word(source: &SpawnSource) -> &'static str {
    match source {
        SpawnSource::Api | SpawnSource::Served(_) => "http_api",
        SpawnSource::CommandLine => "command_line",
        SpawnSource::Invocation(_) => "relaycast_ws",
        SpawnSource::Restart => "restart",
    }
}

/// One that the engine asked for ended before it counted as started: the engine hears what became of it instead.
fn never_settled(step: &mut AgentStep, agent: &LocalAgent, how: &How) {
    let settles = agent.program().and_then(|program| program.settles);
    let (Some(_), SpawnSource::Invocation(id)) = (settles, &agent.run.source) else {
        return;
    };
    let word = match (&agent.releasing[..], &how.last[..]) {
        ([], []) => format!("spawn_failed: {how}"),
        ([], last) => format!("spawn_failed: {how}: {}", last.join(" ⏎ ")),
        _ => "spawn_released_before_ready".to_owned(),
    };
    step.notice(Notice::InvocationOver(id.clone(), Outcome::Error(word)));
}

/// The code comes with the first of the two events a waiting client takes for the end (local-api 3.3).
fn emit_exited(step: &mut AgentStep, agent: &LocalAgent, how: &How) {
    let (name, generation) = (&agent.spec.name, Some(agent.generation.clone()));
    step.publish(BrokerEvent::AgentExited {
        name: name.clone(),
        code: how.code,
        signal: how.signal,
        reason: Some(how.to_string()),
        generation: generation.clone(),
    });
    let name = name.clone();
    step.publish(match agent.released {
        true => BrokerEvent::AgentReleased { name, generation },
        false => BrokerEvent::AgentExit {
            name,
            reason: "child_exited".into(),
            generation,
        },
    });
}
