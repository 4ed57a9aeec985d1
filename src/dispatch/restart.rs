//! Lives of agents, beyond one run of their program: started again after an end, brought back by the next broker, over
//! for good. What is decided here is in the ledger, so that it also holds after a crash.

use std::time::Duration;

use super::release::End;
use super::roster::{Member, Phase};
use super::{Dispatcher, Out};
use crate::ids::{AgentName, DeliveryId};
use crate::ledger::{Departed, Record};
use crate::msg::{How, Origin, SpawnSource};
use crate::time::Now;
use crate::wire::event::BrokerEvent;
use crate::wire::local::{RestartPolicy, RestartWhen, SpawnRequest};

/// A program that ran this long has not failed to start.
const STABLE: Duration = Duration::from_secs(60);

/// What comes after a program's end.
enum Next {
    /// It is started again, after a while.
    Again { delay: Duration, failures: u32 },
    /// Its life is over; for people, if it was to be started again and will not.
    Over(Option<String>),
}

/// The end of a program that no thread of this broker has seen.
fn gone(name: &AgentName, reason: String) -> BrokerEvent {
    BrokerEvent::AgentExited {
        name: name.clone(),
        code: None,
        signal: None,
        reason: Some(reason),
    }
}

impl Dispatcher {
    /// First of all in a broker's life: who was here when the last one ended comes back, or is declared gone.
    pub(super) fn resume_lives(&mut self, now: Now, out: &mut Out) {
        let mine = std::mem::take(&mut self.facts.agents);
        let outlived = std::mem::take(&mut self.facts.outlived);
        for (name, fate) in &outlived {
            self.publish(gone(name, fate.clone()), out);
        }
        let lives: Vec<_> = self
            .ledger
            .lives()
            .iter()
            .map(|(name, life)| (name.clone(), life.request.clone()))
            .collect();
        for (name, request) in lives {
            let given = mine.iter().any(|agent| agent.name == name.as_str());
            let wanted = request.restart_policy.as_ref().is_some_and(|p| p.enabled);
            if wanted && !given {
                self.spawn(now, None, request, SpawnSource::Restart, out);
                continue;
            }
            self.life_over(now, &name, End::Itself, out);
            let reason = "the broker ended, and the agent with it";
            self.departed(now, &name, &request, reason.into(), false, out);
            if outlived.iter().all(|(told, _)| *told != name) {
                self.publish(gone(&name, reason.to_owned()), out);
            }
        }
        for request in mine {
            self.spawn(now, None, request, SpawnSource::CommandLine, out);
        }
        let waiting = self.ledger.mail().fronts().map(|(name, _)| name.clone());
        for name in waiting.collect::<Vec<_>>() {
            self.await_reader(now, &name);
        }
    }

    /// A program runs. The wish behind it is remembered, without its secret, and its first task is taken on.
    pub(super) fn life_began(
        &mut self,
        now: Now,
        name: &AgentName,
        request: &SpawnRequest,
        source: &SpawnSource,
        out: &mut Out,
    ) {
        if *source == SpawnSource::Restart {
            if let Some(life) = self.ledger.lives().get(name) {
                let restart_count = life.restarts;
                let event = BrokerEvent::AgentRestarted {
                    name: name.clone(),
                    restart_count,
                };
                self.publish(event, out);
            }
            return;
        }
        self.remember(name, request, out);
        if let Some(task) = request.task.clone().filter(|task| !task.is_empty()) {
            self.first_task(now, name, task, out);
        }
    }

    /// Writes down how an agent is started again, without its secret.
    pub(super) fn remember(&mut self, name: &AgentName, request: &SpawnRequest, out: &mut Out) {
        let remembered = SpawnRequest {
            agent_token: None,
            ..request.clone()
        };
        self.record(
            Record::Spawned {
                agent: name.clone(),
                request: Box::new(remembered),
            },
            out,
        );
    }

    /// A program has ended, or could not be started, without anybody's wish. Says whether it is started again; the member
    /// is gone from the roster otherwise.
    pub(super) fn life_goes_on(
        &mut self,
        now: Now,
        mut member: Member,
        how: &How,
        out: &mut Out,
    ) -> bool {
        let name = member.spec.name.clone();
        match self.what_next(now, &member, how) {
            Next::Again { delay, failures } => {
                self.record(
                    Record::Restarted {
                        agent: name.clone(),
                        failures,
                    },
                    out,
                );
                self.counters.agents_restarted += 1;
                let restart_count = self.ledger.lives().get(&name).map_or(0, |l| l.restarts);
                let event = BrokerEvent::AgentRestarting {
                    name: name.clone(),
                    code: how.code,
                    signal: how.signal,
                    restart_count,
                    delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                };
                self.publish(event, out);
                member.reborn(self.next_run, now.mono + delay);
                self.next_run = self.next_run.next();
                self.members.insert(name, member);
                true
            }
            Next::Over(why) => {
                self.life_over(now, &name, End::Itself, out);
                let reason = why.clone().unwrap_or_else(|| how.to_string());
                self.departed(now, &name, &member.request, reason, why.is_some(), out);
                if let Some(reason) = why {
                    log::error!("agent {name} is given up: {reason}");
                    self.publish(BrokerEvent::AgentPermanentlyDead { name, reason }, out);
                }
                false
            }
        }
    }

    /// Remembers an agent that ended without anybody's wish, so that lists can say what became of it.
    fn departed(
        &mut self,
        now: Now,
        name: &AgentName,
        request: &SpawnRequest,
        reason: String,
        given_up: bool,
        out: &mut Out,
    ) {
        let program = request.cli.iter().chain(&request.args);
        let departed = Departed {
            reason,
            given_up,
            at: now.wall,
            command: program.cloned().collect::<Vec<_>>().join(" "),
        };
        let agent = name.clone();
        self.record(Record::Departed { agent, departed }, out);
    }

    fn what_next(&self, now: Now, member: &Member, how: &How) -> Next {
        let life = self.ledger.lives().get(&member.spec.name);
        let policy = member.request.restart_policy.clone();
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
            ..
        } = policy;
        let stable = member.pid.is_some() && now.mono.since(member.started.mono) >= STABLE;
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
            delay: Duration::from_millis(cooldown_ms),
            failures,
        }
    }

    /// A life is over for good, and with it the task it was started for. Other mail waits for whoever bears the name next,
    /// unless the life was ended by somebody's wish: then nothing of it is left.
    pub(super) fn life_over(&mut self, now: Now, name: &AgentName, end: End, out: &mut Out) {
        let released = end != End::Itself;
        if released {
            self.clear(now, name, end, out);
        }
        if self.ledger.lives().get(name).is_some() || released {
            self.record(
                Record::Ended {
                    agent: name.clone(),
                    released,
                },
                out,
            );
        }
        let mail = self.ledger.mail().of(name);
        let tasks: Vec<DeliveryId> = mail
            .filter(|pending| pending.delivery.origin == Origin::Task)
            .map(|pending| pending.delivery.id.clone())
            .collect();
        for id in tasks {
            let why = "the agent ended before its first task was seen to arrive";
            self.bury(now, &id, why, out);
        }
        self.await_reader(now, name);
    }

    /// Whether there is nothing to wait for before the next run, which begins then.
    pub(super) fn comes_back_at_once(&mut self, now: Now, name: &AgentName, out: &mut Out) -> bool {
        let due = |m: &Member| matches!(m.phase, Phase::Cooling { until } if until <= now.mono);
        let due = self.members.get(name).is_some_and(due);
        if due {
            self.restart(now, name, out);
        }
        due
    }

    /// Its time to cool down has passed.
    pub(super) fn restart(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if member.agent_id.is_some() && member.token.is_some() {
            // Its identity is still good, and asking again would kill the token it has.
            self.start_program(now, name, out);
            return;
        }
        member.phase = Phase::Registering {
            request: None,
            deadline: None,
        };
        member.started = now;
        self.ask_for_identity(now, name, out);
    }
}
