//! Lives of agents, beyond one run of their program: started again after an end, brought back by the next broker, over
//! for good. What is decided here is in the ledger, so that it also holds after a crash.

use std::time::Duration;

use super::agent::{Asking, LocalAgent, RunPhase, RunState};
use super::results::task_of;
use super::state::{AgentStep, Agents};
use crate::dispatch::notice::{End, Notice};
use crate::ids::AgentName;
use crate::ledger::{Departed, Record};
use crate::msg::{How, Refusal, SpawnSource};
use crate::time::millis;
use crate::wire::event::BrokerEvent;
use crate::wire::local::{RestartPolicy, RestartWhen, SpawnRequest};

/// A program that ran this long has not failed to start.
const STABLE: Duration = Duration::from_secs(60);

/// How much of each line is remembered of what a terminal showed last, in characters.
const LINE_KEPT: usize = 200;

/// What comes after a program's end.
enum Next {
    /// It is started again, after a while.
    Again { delay: Duration, failures: u32 },
    /// Its life is over; for people, if it was to be started again and will not.
    Over(Option<String>),
}

/// The end of a program that no thread of this broker has seen, told as any other.
fn tell_gone(step: &mut AgentStep, name: &AgentName, reason: String) {
    step.publish(BrokerEvent::AgentExited {
        name: name.clone(),
        code: None,
        signal: None,
        reason: Some(reason),
        generation: None,
    });
    step.publish(BrokerEvent::AgentExit {
        name: name.clone(),
        reason: "child_exited".into(),
        generation: None,
    });
}

impl Agents {
    /// First of all in a broker's life: who was here when the last one ended comes back, or is declared gone; `mine` start
    /// with the broker.
    pub(in crate::dispatch) fn resume(
        &mut self,
        step: &mut AgentStep,
        mine: Vec<SpawnRequest>,
        outlived: &[(AgentName, String)],
    ) {
        for (name, fate) in outlived {
            tell_gone(step, name, fate.clone());
        }
        let lives = step.ledger().lives().iter();
        let lives: Vec<_> = lives
            .map(|(name, life)| (name.clone(), life.clone()))
            .collect();
        let mut continuing = Vec::new();
        for (name, life) in lives {
            let (request, declared) = (SpawnRequest::from(life.request), life.declared);
            let given = mine.iter().any(|agent| agent.name == name.as_str());
            let wanted = request.restart_policy.as_ref().is_some_and(|p| p.enabled);
            if step.config().declares(&name) || wanted && !given && !declared {
                continuing.push((name, request));
                continue;
            }
            let reason = match declared && !given {
                true => "the configuration does not declare it any more",
                false => "the broker ended, and the agent with it",
            };
            let departed = departed(step, &request, reason.into(), false, &How::default());
            life_over(step, &name, End::Itself, departed);
            if outlived.iter().all(|(told, _)| *told != name) {
                tell_gone(step, &name, reason.to_owned());
            }
        }
        self.go_on(step, mine, continuing);
    }

    /// Lives that outlast a broker go on, those of declared agents as they are declared now; the others of `mine` begin.
    fn go_on(
        &mut self,
        step: &mut AgentStep,
        mine: Vec<SpawnRequest>,
        continuing: Vec<(AgentName, SpawnRequest)>,
    ) {
        let lives_on = |agent: &SpawnRequest| {
            let mut all = continuing.iter();
            all.any(|(name, _)| agent.name == name.as_str())
        };
        let (old, new): (Vec<_>, Vec<_>) = mine.into_iter().partition(lives_on);
        for (name, remembered) in continuing {
            let declared = old.iter().find(|agent| agent.name == name.as_str());
            if let Some(request) = declared {
                remember_anew(step, &name, request);
            }
            let request = declared.cloned().unwrap_or(remembered);
            self.spawn(step, None, request, SpawnSource::Restart);
        }
        for request in new {
            self.spawn(step, None, request, SpawnSource::CommandLine);
        }
    }

    /// A program runs. The wish behind it is remembered, and its first task is taken on.
    pub(super) fn life_began(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        source: &SpawnSource,
    ) {
        if *source == SpawnSource::Restart && !is_waiting(step, name) {
            self.note_session(step, name);
            if let Some(life) = step.ledger().lives().get(name) {
                let restart_count = life.restarts;
                let generation = self.all.get(name).map(|agent| agent.generation.clone());
                step.publish(BrokerEvent::AgentRestarted {
                    name: name.clone(),
                    restart_count,
                    generation,
                });
            }
            return;
        }
        let Some(agent) = self.all.get(name) else {
            return;
        };
        write_down(step, name, &agent.request, (false, false));
        if let Some(task) = task_of(&agent.request) {
            let parent = agent.request.parent.clone();
            step.notice(Notice::FirstTask(name.clone(), parent, task));
        }
    }

    /// A program has ended, or could not be started, without anybody's wish. Says whether it is started again; the agent
    /// is gone from the roster otherwise.
    pub(super) fn life_goes_on(
        &mut self,
        step: &mut AgentStep,
        agent: LocalAgent,
        how: &How,
    ) -> bool {
        let name = agent.spec.name.clone();
        match what_next(step, &agent, how) {
            Next::Again { delay, failures } => {
                step.record(Record::Restarted {
                    agent: name,
                    failures,
                });
                self.cools_down(step, agent, how, delay);
                true
            }
            Next::Over(why) => {
                let reason = why.clone().unwrap_or_else(|| how.to_string());
                let departed = departed(step, &agent.request, reason, why.is_some(), how);
                life_over(step, &name, End::Itself, departed);
                if let Some(reason) = why {
                    log::error!(event = "agent_permanently_dead", agent:% = name; "agent {name} is given up: {reason}");
                    let generation = Some(agent.generation);
                    step.publish(BrokerEvent::AgentPermanentlyDead {
                        name,
                        reason,
                        generation,
                    });
                }
                false
            }
        }
    }

    /// The mail of a life that is over has ended.
    pub(in crate::dispatch) fn life_ended(
        &mut self,
        step: &mut AgentStep,
        agent: AgentName,
        end: End,
        departed: Option<Departed>,
    ) {
        let released = end != End::Itself;
        if step.ledger().lives().get(&agent).is_some() || released {
            let agent = agent.clone();
            step.record(Record::Ended { agent, released });
        }
        if let Some(departed) = departed {
            step.record(Record::Departed { agent, departed });
        }
        self.find_unanswered(step);
    }

    /// The agent of a program that has ended is started again within the same life.
    pub(super) fn cools_down(
        &mut self,
        step: &mut AgentStep,
        mut agent: LocalAgent,
        how: &How,
        delay: Duration,
    ) {
        let name = agent.spec.name.clone();
        agent.trouble = Some(how.to_string());
        agent.late = None;
        step.count().agents_restarted += 1;
        let restart_count = step.ledger().lives().get(&name).map_or(0, |l| l.restarts);
        let event = BrokerEvent::AgentRestarting {
            name: name.clone(),
            code: how.code,
            signal: how.signal,
            restart_count,
            delay_ms: millis(delay),
            generation: Some(agent.generation.clone()),
        };
        step.publish(event);
        agent.begin_session(&step.generation(self.next_run), true);
        agent.run = RunState::again(self.next_run, step.now.mono + delay);
        self.next_run = self.next_run.next();
        step.notice(Notice::AgentBack(name.clone()));
        self.all.insert(name, agent);
    }

    /// Whether there is nothing to wait for before the next run, which begins then.
    pub(super) fn comes_back_at_once(&mut self, step: &mut AgentStep, name: &AgentName) -> bool {
        let due = self.all.get(name).is_some_and(
            |agent| matches!(agent.run.phase, RunPhase::Cooling { until } if until <= step.now.mono),
        );
        if due {
            self.restart(step, name);
        }
        due
    }

    /// Its time to cool down has passed.
    pub(super) fn restart(&mut self, step: &mut AgentStep, name: &AgentName) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        if agent.agent_id.is_some() && agent.token.is_some() {
            // Its identity is still good, and asking again would kill the token it has.
            self.start_program(step, name);
            return;
        }
        agent.run.phase = RunPhase::Registering(Asking::default());
        agent.started = step.now;
        self.ask_for_identity(step, name);
    }
}

/// Writes down how an agent is started again, without its secret.
pub(super) fn remember(step: &mut AgentStep, name: &AgentName, request: &SpawnRequest) {
    write_down(step, name, request, (false, is_waiting(step, name)));
}

/// The same, and how often it was started again or failed until now counts no more.
pub(super) fn remember_anew(step: &mut AgentStep, name: &AgentName, request: &SpawnRequest) {
    write_down(step, name, request, (true, is_waiting(step, name)));
}

/// The same for one whose program is yet to run.
pub(super) fn remember_wanted(step: &mut AgentStep, name: &AgentName, request: &SpawnRequest) {
    write_down(step, name, request, (true, true));
}

/// Whether the program of a life that has begun has yet to run.
fn is_waiting(step: &AgentStep, name: &AgentName) -> bool {
    step.ledger().lives().get(name).is_some_and(|l| l.waiting)
}

fn write_down(
    step: &mut AgentStep,
    name: &AgentName,
    request: &SpawnRequest,
    (anew, waiting): (bool, bool),
) {
    step.record(Record::Spawned {
        agent: name.clone(),
        request: Box::new(request.clone().into()),
        anew,
        declared: step.config().declares(name),
        waiting,
    });
}

/// A life is over for good; what becomes of its mail is mail's to decide. `departed` is what lists say of one that ended
/// without anybody's wish.
pub(super) fn life_over(
    step: &mut AgentStep,
    name: &AgentName,
    end: End,
    departed: Option<Departed>,
) {
    let agent_id = step.ledger().bound(name).cloned();
    step.notice(Notice::LifeOver {
        name: name.clone(),
        agent_id,
        end,
        departed,
    });
}

/// One of the broker's own that could not even be started is listed with the reason.
pub(super) fn never_started(
    step: &mut AgentStep,
    name: &AgentName,
    request: &SpawnRequest,
    refusal: &Refusal,
) {
    let departed = departed(
        step,
        request,
        refusal.message.clone(),
        false,
        &How::default(),
    );
    life_over(step, name, End::Itself, departed);
}

/// What lists say of an agent that ended without anybody's wish.
fn departed(
    step: &AgentStep,
    request: &SpawnRequest,
    reason: String,
    given_up: bool,
    how: &How,
) -> Option<Departed> {
    let program = request.cli.iter().chain(&request.args);
    // What was its first task has had its chance: whoever starts it again wants it to go on.
    let life = step.ledger().lives().get(&AgentName::new(&request.name));
    let ran = life.is_some_and(|life| !life.waiting);
    let again = SpawnRequest {
        task: request.task.clone().filter(|_| !ran),
        ..request.clone()
    };
    let clipped = |line: &String| line.chars().take(LINE_KEPT).collect();
    Some(Departed {
        reason,
        given_up,
        at: step.now.wall,
        command: program.cloned().collect::<Vec<_>>().join(" "),
        request: Some(Box::new(again.into())),
        code: how.code,
        signal: how.signal,
        last_lines: how.last.iter().map(clipped).collect(),
    })
}

fn what_next(step: &AgentStep, agent: &LocalAgent, how: &How) -> Next {
    let life = step.ledger().lives().get(&agent.spec.name);
    let policy = agent.request.restart_policy.clone();
    let (Some(life), Some(policy)) = (life, policy.filter(|policy| policy.enabled)) else {
        return Next::Over(None);
    };
    let failed = how.code != Some(0);
    if !failed && policy.when == RestartWhen::OnFailure {
        return Next::Over(None);
    }
    let RestartPolicy {
        max_restarts,
        max_consecutive_failures,
        cooldown_ms,
        max_cooldown_ms,
        ..
    } = policy;
    let stable = agent.is_live() && step.now.mono.since(agent.started.mono) >= STABLE;
    let earlier = if stable || !failed { 0 } else { life.failures };
    let failures = earlier.saturating_add(u32::from(failed));
    if max_restarts > 0 && life.restarts >= max_restarts {
        return Next::Over(Some(format!(
            "it ended ({how}) and was started again {max_restarts} times already"
        )));
    }
    if max_consecutive_failures > 0 && failures >= max_consecutive_failures {
        return Next::Over(Some(format!(
            "it failed {failures} times in a row, at last with: {how}"
        )));
    }
    Next::Again {
        delay: Duration::from_millis(backoff_ms(cooldown_ms, max_cooldown_ms, failures)),
        failures,
    }
}

/// How long to wait after so many failures in a row.
fn backoff_ms(first: u64, most: Option<u64>, failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(20);
    most.map_or(first, |most| {
        first.saturating_mul(1 << doublings).min(most.max(first))
    })
}
