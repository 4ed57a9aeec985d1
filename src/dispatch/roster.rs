//! Who runs here: what their threads report, and their release.

use std::collections::VecDeque;
use std::time::Duration;

use super::agent_registration::AgentRegistration;
use super::backoff::Backoff;
use super::blocked::Block;
use super::location_conflict::Renewal;
use super::release::{End, Releaser};
use super::urgent::Yielding;
use super::{Dispatcher, Out};
use crate::ids::{AgentId, AgentName, DeliveryId, InvocationId, MsgId, Run, Ticket};
use crate::msg::{
    AgentCommand, AgentReport, AgentSpec, Effect, How, Refusal, RefusalKind, Reply, RestCall,
    Secret, SpawnSource,
};
use crate::time::{Mono, Now, Wall, soonest};
use crate::wire::event::{BrokerEvent, Dialog};
use crate::wire::local::{self, SpawnRequest};
use crate::wire::up::Outcome;

/// One agent, from the wish to its end.
#[derive(Debug)]
pub(super) struct Member {
    pub run: Run,
    pub phase: Phase,
    pub spec: AgentSpec,
    pub request: SpawnRequest,
    pub source: SpawnSource,
    /// The engine's invocation that it was first started for; the engine knows it by that after a restart too.
    pub born_of: Option<InvocationId>,
    pub agent_id: Option<AgentId>,
    pub token: Option<Secret>,
    pub pid: Option<u32>,
    /// The delivery its thread is typing.
    pub in_flight: Option<DeliveryId>,
    /// What it took lately and has not been seen to act on.
    pub took: VecDeque<(DeliveryId, MsgId)>,
    pub stalled: Option<String>,
    /// Those behind the message in flight were told that they wait.
    pub told_blocked: bool,
    /// How long it has taken no messages.
    pub block: Block,
    /// Whether the delivery makes way for one that interrupts.
    pub yielding: Yielding,
    /// What stands in its terminal instead of its input line.
    pub dialog: Option<Dialog>,
    /// When to give its thread the delivery once more, because it took no orders.
    pub again_at: Option<Mono>,
    /// While on hold: how many of the parked messages a flush still lets through.
    pub flush_left: u64,
    pub ready: bool,
    pub idle_since: Option<Wall>,
    /// How it was when its thread last reported, and since when.
    pub state: (&'static str, Wall),
    pub last_activity: Wall,
    pub started: Now,
    /// Who waits for the spawn.
    pub caller: Option<Ticket>,
    /// Who waits for the release.
    pub releasing: Vec<Releaser>,
    /// Who waits for a picture.
    pub pictures: Vec<Ticket>,
    pub released: bool,
    /// The engine has it on another node.
    pub moved: bool,
    pub backoff: Backoff,
    /// Until then an end means that the program did not start; the engine waits for the answer that long.
    pub settles: Option<Mono>,
    /// How far its identity has been asked for.
    pub registration: AgentRegistration,
    /// This node had no agent of its name before.
    pub newcomer: bool,
    /// How far it has been asked for anew while its program runs.
    pub renewal: Renewal,
}

/// How many messages that landed are remembered until their turns begin; most programs never say that one did.
const REMEMBERED: usize = 16;
/// How long a program that the engine asked for must live to count as started (as upstream has it since 11.x).
const SETTLES_AFTER: Duration = Duration::from_millis(250);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// The engine is to be asked for an identity; `request` is set once it was.
    Registering {
        request: Option<String>,
        deadline: Option<Mono>,
    },
    /// Its thread starts the program.
    Starting,
    /// The program runs.
    Running,
    /// The program ended and is started again then.
    Cooling { until: Mono },
    /// It was hung up on.
    Stopping,
}

impl Member {
    pub(super) fn deadline(&self) -> Option<Mono> {
        match self.phase {
            Phase::Registering { deadline, .. } => self.registering_until(deadline),
            Phase::Cooling { until } => Some(until),
            Phase::Running => [self.settles, self.again_at, self.block.give_up_at]
                .into_iter()
                .fold(self.backoff.until, soonest),
            Phase::Starting | Phase::Stopping => None,
        }
    }

    /// Becomes what its next run begins with, some time from now.
    pub(super) fn reborn(&mut self, run: Run, until: Mono) {
        self.run = run;
        self.phase = Phase::Cooling { until };
        self.source = SpawnSource::Restart;
        self.newcomer = false;
        self.pid = None;
        self.in_flight = None;
        self.took.clear();
        self.stalled = None;
        self.told_blocked = false;
        self.dialog = None;
        self.block = Block::default();
        self.yielding = Yielding::default();
        self.flush_left = 0;
        self.ready = false;
        self.idle_since = None;
        self.pictures.clear();
        self.backoff = Backoff::default();
        self.settles = None;
        self.again_at = None;
    }

    /// Remembers a message that landed, until its turn begins or many others came after it.
    pub(super) fn took(&mut self, id: &DeliveryId, event_id: &MsgId) {
        if self.took.len() >= REMEMBERED {
            self.took.pop_front();
        }
        self.took.push_back((id.clone(), event_id.clone()));
    }

    /// The message of a delivery whose turn begins; told once.
    pub(super) fn begins(&mut self, id: &DeliveryId) -> Option<MsgId> {
        let at = self.took.iter().position(|(took, _)| took == id)?;
        self.took.remove(at).map(|(_, event_id)| event_id)
    }

    /// In the words clients know.
    pub(super) fn current_state(&self, waiting: u64) -> &'static str {
        match (self.idle_since, waiting) {
            _ if self.stalled.is_some() => "blocked_on_send",
            _ if self.dialog.is_some() && waiting > 0 => "blocked_on_send",
            (None, _) => "working",
            (Some(_), 0) => "idle",
            (Some(_), _) => "blocked_on_send",
        }
    }

    /// Since when it is as it is.
    pub(super) fn state_since(&self, now: Now, waiting: u64) -> Wall {
        let (word, since) = self.state;
        match (word == self.current_state(waiting), self.idle_since) {
            (true, _) => since,
            (false, Some(idle)) if waiting == 0 => idle,
            (false, _) => now.wall,
        }
    }

    /// Whether the engine should count it: for as long as its process runs.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Stopping)
    }
}

impl Dispatcher {
    // ---- reports of the agent's thread --------------------------------------------------------------------------

    pub(super) fn agent_report(
        &mut self,
        now: Now,
        name: &AgentName,
        run: Run,
        report: AgentReport,
        out: &mut Out,
    ) {
        // An earlier life under this name has nothing to say any more.
        if self.members.get(name).is_none_or(|m| m.run != run) {
            return;
        }
        match report {
            AgentReport::Started { pid } => self.started(now, name, pid, out),
            AgentReport::NotStarted { why } => {
                self.spawn_failed(now, name, &Refusal::new(RefusalKind::SpawnFailed, why), out);
            }
            AgentReport::NoRoom { why } => {
                self.spawn_failed(now, name, &Refusal::new(RefusalKind::NoRoom, why), out);
            }
            AgentReport::Ready { evidence } => self.ready(now, name, &evidence, out),
            AgentReport::Typed(id) => self.typed(name, &id, out),
            AgentReport::Landed(id, proof, reason) => {
                self.landed(now, name, &id, proof, reason, out)
            }
            AgentReport::TurnStarted(id, proof) => self.turn_started(name, &id, proof, out),
            AgentReport::Stalled(id, why) => self.stalled(now, name, &id, &why, out),
            AgentReport::Withdrawn(id) => self.withdrawn(now, name, &id, out),
            AgentReport::Blocked(dialog, rows) => self.blocked(name, dialog, rows, out),
            AgentReport::Unblocked(dialog) => self.unblocked(name, dialog, out),
            AgentReport::Answered {
                dialog,
                policy,
                keys,
            } => self.dialog_answered(name, dialog, policy, keys, out),
            AgentReport::NotTaken(id, why) => self.not_taken(now, name, &id, &why, out),
            AgentReport::Failed(id, why) => self.untypable(now, name, &id, &why, out),
            AgentReport::Picture(ticket, picture) => {
                if let Some(member) = self.members.get_mut(name) {
                    member.pictures.retain(|t| *t != ticket);
                }
                out.effects
                    .push(Effect::Reply(ticket, Ok(Reply::Snapshot(picture))));
            }
            AgentReport::Working => {
                if let Some(member) = self.members.get_mut(name) {
                    member.idle_since = None;
                    member.last_activity = now.wall;
                }
            }
            AgentReport::Idle { silent } => self.idle(now, name, silent, out),
            AgentReport::Exited(how) => self.exited(now, name, &how, out),
        }
        let waiting = self.ledger.mail().waiting(name) as u64;
        if let Some(member) = self.members.get_mut(name) {
            let since = member.state_since(now, waiting);
            member.state = (member.current_state(waiting), since);
        }
    }

    fn started(&mut self, now: Now, name: &AgentName, pid: u32, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.pid = Some(pid);
        let stopping = !member.releasing.is_empty() || self.stopping.is_some();
        member.phase = if stopping {
            Phase::Stopping
        } else {
            Phase::Running
        };
        let (cli, source, caller) = (
            member.spec.argv.join(" "),
            member.source.clone(),
            member.caller.take(),
        );
        let (run, token) = (member.run, member.token.clone());
        let request = member.request.clone();
        let extra: Vec<String> = member
            .request
            .channels
            .iter()
            .filter(|c| c.trim_start_matches('#') != "general")
            .cloned()
            .collect();
        self.counters.agents_spawned += 1;
        let word = match source {
            SpawnSource::Api | SpawnSource::Served(_) => "http_api",
            SpawnSource::CommandLine => "command_line",
            SpawnSource::Invocation(_) => "relaycast_ws",
            SpawnSource::Restart => "restart",
        };
        self.publish(
            BrokerEvent::AgentSpawned {
                name: name.clone(),
                runtime: "pty".into(),
                cli,
                pid: Some(pid),
                source: word.into(),
                pre_registered: true,
                registration_warning: None,
            },
            out,
        );
        self.life_began(now, name, &request, &source, out);
        if let (Some(token), false) = (token, extra.is_empty()) {
            self.rest_job(
                RestCall::Join {
                    token,
                    channels: extra,
                },
                super::calls::RestJob::Channels(name.clone()),
                out,
            );
        }
        if stopping {
            let grace = self.facts.grace;
            out.effects.push(Effect::Agent(
                name.clone(),
                run,
                AgentCommand::Stop { grace },
            ));
        }
        let invoked = matches!(source, SpawnSource::Invocation(_));
        if let Some(member) = self.members.get_mut(name).filter(|_| invoked) {
            member.settles = Some(now.mono + SETTLES_AFTER);
        }
        self.announce(now, out);
        if !invoked {
            self.spawn_answered(name, &source, caller, out);
        }
    }

    /// A program that the engine asked for has lived long enough.
    pub(super) fn settled_in(&mut self, name: &AgentName, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.settles = None;
        let source = member.source.clone();
        self.spawn_answered(name, &source, None, out);
    }

    /// It ended before that: the engine hears what became of it instead.
    fn never_settled(&mut self, member: &Member, how: &How, out: &mut Out) {
        let (Some(_), SpawnSource::Invocation(id)) = (member.settles, &member.source) else {
            return;
        };
        let word = match (&member.releasing[..], &how.last) {
            ([], Some(last)) => format!("spawn_failed: {how}: {last}"),
            ([], None) => format!("spawn_failed: {how}"),
            _ => "spawn_released_before_ready".to_owned(),
        };
        self.answer(id.clone(), Outcome::Error(word), out);
    }

    fn spawn_answered(
        &mut self,
        name: &AgentName,
        source: &SpawnSource,
        caller: Option<Ticket>,
        out: &mut Out,
    ) {
        if let SpawnSource::Invocation(id) = source {
            let output = serde_json::json!({ "spawned": true, "name": name.as_str() });
            self.answer(id.clone(), Outcome::Output(output), out);
        }
        if let (Some(ticket), Some(member)) = (caller, self.members.get(name)) {
            let spawned = local::Spawned {
                success: true,
                name: name.clone(),
                runtime: "pty".into(),
                model: member.request.model.clone(),
                session_id: member
                    .request
                    .harness_config
                    .as_ref()
                    .and_then(|h| h.session_id.clone()),
                pid: member.pid,
                pre_registered: true,
                warning: self.held_warning(name),
            };
            out.effects
                .push(Effect::Reply(ticket, Ok(Reply::Spawned(spawned))));
        }
    }

    fn ready(&mut self, now: Now, name: &AgentName, evidence: &str, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.ready = true;
        let event = BrokerEvent::WorkerReady {
            name: name.clone(),
            runtime: "pty".into(),
            cli: member.spec.argv.join(" "),
            pid: member.pid,
            evidence: evidence.into(),
        };
        self.publish(event, out);
        self.type_next(now, name, out);
    }

    fn idle(&mut self, now: Now, name: &AgentName, silent: Duration, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let since = Wall(
            now.wall
                .0
                .saturating_sub(u64::try_from(silent.as_millis()).unwrap_or(0)),
        );
        member.idle_since = Some(since);
        member.last_activity = since;
        self.publish(
            BrokerEvent::AgentIdle {
                name: name.clone(),
                idle_secs: silent.as_secs(),
                since,
            },
            out,
        );
        self.emit_blocked_on_send(now, name, out);
    }

    /// A silent agent for which messages wait, as other brokers have it.
    pub(super) fn emit_blocked_on_send(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let since = self.members.get(name).and_then(|member| member.idle_since);
        let waiting = self.ledger.mail().waiting(name) as u64;
        if let Some(since) = since.filter(|_| waiting > 0) {
            let event = BrokerEvent::AgentBlockedOnSend {
                name: name.clone(),
                blocked_secs: (now.wall - since).as_secs(),
                pending_delivery_count: waiting,
            };
            self.publish(event, out);
        }
    }

    fn exited(&mut self, now: Now, name: &AgentName, how: &How, out: &mut Out) {
        let Some(member) = self.members.remove(name) else {
            return;
        };
        if !member.released && how.code != Some(0) {
            self.counters.agents_crashed += 1;
            log::warn!("agent {name} ended by itself: {how}");
        }
        self.never_settled(&member, how, out);
        if let Some(dialog) = member.dialog {
            self.unblocked(name, dialog, out);
        }
        for ticket in &member.pictures {
            let gone = Refusal::new(
                RefusalKind::UnknownAgent,
                format!("agent '{name}' ended ({how})"),
            );
            out.effects.push(Effect::Reply(*ticket, Err(gone)));
        }
        // The code comes with the first of the two events a waiting client takes for the end (local-api 3.3).
        self.publish(
            BrokerEvent::AgentExited {
                name: name.clone(),
                code: how.code,
                signal: how.signal,
                reason: Some(how.to_string()),
            },
            out,
        );
        if member.released {
            self.publish(BrokerEvent::AgentReleased { name: name.clone() }, out);
        } else {
            self.publish(
                BrokerEvent::AgentExit {
                    name: name.clone(),
                    reason: "child_exited".into(),
                },
                out,
            );
        }
        let (agent_id, releasing) = (member.agent_id.clone(), member.releasing.clone());
        let mut goes_on = false;
        let moved = member.moved;
        if moved {
            self.life_over(now, name, End::Moved, out);
        } else if !releasing.is_empty() {
            self.life_over(now, name, End::Released, out);
        } else if self.stopping.is_none() {
            goes_on = self.life_goes_on(now, member, how, out);
        }
        // One that comes back keeps its identity, and with it the token that its program was given.
        let told_by_goodbye = self.stopping.is_some();
        if let Some(agent_id) = agent_id.filter(|_| !goes_on && !told_by_goodbye && !moved) {
            self.deregister(agent_id, Some(name.clone()), out);
        }
        // Who comes back at once was never away: what the engine is told then is told when it runs.
        if self.stopping.is_none() && !self.comes_back_at_once(now, name, out) {
            self.announce(now, out);
        }
        self.answer_releasers(name, &releasing, out);
        self.leave_if_empty(now, out);
    }

    /// For the orderly end.
    pub(super) fn stop_all(&mut self, now: Now, grace: Duration, out: &mut Out) {
        let names: Vec<_> = self.members.keys().cloned().collect();
        for name in names {
            let Some(member) = self.members.get_mut(&name) else {
                continue;
            };
            match member.phase {
                Phase::Registering { .. } => {
                    let why = "the broker is stopping";
                    self.spawn_failed(now, &name, &Refusal::new(RefusalKind::Stopping, why), out);
                }
                // Its life goes on with the next broker.
                Phase::Cooling { .. } => {
                    self.members.remove(&name);
                }
                // A second order shortens the grace of the first.
                Phase::Running | Phase::Stopping => {
                    member.phase = Phase::Stopping;
                    member.released = true;
                    let run = member.run;
                    out.effects
                        .push(Effect::Agent(name, run, AgentCommand::Stop { grace }));
                }
                Phase::Starting => {}
            }
        }
    }

    pub(super) fn unknown(&self, name: &AgentName) -> Refusal {
        let names: Vec<_> = self.members.keys().map(AgentName::as_str).collect();
        let here = if names.is_empty() {
            "no agents run here".to_owned()
        } else {
            format!("here: {}", names.join(", "))
        };
        Refusal::new(
            RefusalKind::UnknownAgent,
            format!("no agent is named '{name}' ({here})"),
        )
    }
}
