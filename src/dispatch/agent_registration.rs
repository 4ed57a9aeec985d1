//! An agent's identity at the engine: asked for on the link, taken back where the name exists already, and by HTTP while
//! there is no link. Answers are matched by the request alone; one that comes too late is undone.

use std::time::Duration;

use serde_json::Value;

use super::calls::RestJob;
use super::node_registration::EngineVersion;
use super::roster::{Member, Phase};
use super::{Dispatcher, Out};
use crate::ids::{AgentId, AgentName, JobId, MsgId, Run, Seq};
use crate::ledger::Record;
use crate::msg::{
    Effect, Identified, Refusal, RefusalKind, RestCall, RestDone, Secret, SpawnSource, Wanted,
};
use crate::time::{Mono, Now, soonest};
use crate::wire::down::ErrorFrame;
use crate::wire::local::SpawnRequest;
use crate::wire::up::{AgentDeregister, AgentRecover, AgentRegister, Up};

/// How long the engine may take for an agent that it asked for itself; it gives the spawn to another node then.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long for a local caller, who must hear the reason before its client gives up
/// ([local-api 2.1](crate::docs::local_api#2.1)).
const CALLER_WAITS: Duration = Duration::from_secs(20);
/// How long an engine that answered nothing is left alone before an agent of the broker's own is offered again.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How long a link may be away before HTTP is tried instead: most come back sooner.
const LINK_MAY_TAKE: Duration = Duration::from_secs(3);
/// How many agents that ended without a link are still to be told of. More are told by the next list of those that live.
const FAREWELLS: usize = 1024;

/// How far the asking has come.
#[derive(Debug, Default)]
pub(super) struct AgentRegistration {
    /// The call that asks by HTTP.
    job: Option<JobId>,
    /// When to ask by HTTP, if there is no link until then.
    http_at: Option<Mono>,
    /// The name exists, and we have asked to have it back.
    recovering: bool,
    /// There was nobody to have back, so it is asked for as a new one.
    anew: bool,
}

impl AgentRegistration {
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.http_at
    }
}

/// How long to wait for an identity. Agents of the broker's own wait as long as it takes.
pub(super) fn patience(source: &SpawnSource) -> Option<Duration> {
    match source {
        SpawnSource::Api | SpawnSource::Served(_) => Some(CALLER_WAITS),
        SpawnSource::Invocation(_) => Some(ANSWER_WITHIN),
        SpawnSource::CommandLine | SpawnSource::Restart => None,
    }
}

fn session_ref(request: &SpawnRequest) -> Option<String> {
    let harness = request.harness_config.as_ref();
    harness.and_then(|h| h.session_id.clone())
}

impl Member {
    /// The program's own session, as the engine knows it.
    pub(super) fn session_ref(&self) -> Option<String> {
        session_ref(&self.request)
    }

    /// The request to have the agent back that bears this identity at the engine, which gives a name out once
    /// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)).
    pub(super) fn recovery(
        &self,
        request: String,
        name: &AgentName,
        expected_agent_id: AgentId,
    ) -> AgentRecover {
        let session_ref = self.session_ref();
        AgentRecover {
            id: Some(request),
            name: name.clone(),
            expected_agent_id,
            invocation_id: self.born_of.clone(),
            resumable: session_ref.as_ref().map(|_| true),
            session_ref,
        }
    }
}

impl Dispatcher {
    /// Asks for an identity in whatever way there is now.
    pub(super) fn ask_for_identity(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        if self.link.is_open() {
            self.register(name, out);
        } else if let Some(member) = self.members.get_mut(name) {
            // A spawn of the engine's is given to another node when our link is lost: doing it here too would do it twice.
            let ours = member.source.invocation().is_none();
            member.registration.http_at = ours.then(|| now.mono + LINK_MAY_TAKE);
        }
    }

    fn register(&mut self, name: &AgentName, out: &mut Out) {
        let given = |m: &Member| m.given_token().is_some();
        if self.members.get(name).is_some_and(given) {
            self.ask_by_http(name, false, out);
            return;
        }
        // A name that is being given back is asked for when that is done.
        if self.is_being_forgotten(name) {
            return;
        }
        let known = self.ledger.bound(name).cloned();
        if let Some(agent_id) = known.filter(|_| self.link.age >= EngineVersion::EightNine) {
            self.recover(name, agent_id, out);
            return;
        }
        self.register_new(name, out);
    }

    fn register_new(&mut self, name: &AgentName, out: &mut Out) {
        let id = self.request_id("agent_register");
        let Some(member) = self.asked(name, &id) else {
            return;
        };
        let session_ref = member.session_ref();
        let frame = AgentRegister {
            id: Some(id),
            name: name.clone(),
            invocation_id: member.born_of.clone(),
            resumable: session_ref.as_ref().map(|_| true),
            session_ref,
        };
        out.effects.push(Effect::Send(Up::AgentRegister(frame)));
    }

    /// Engines from 8.2 give a name out once; the node that had it may have it back.
    fn recover(&mut self, name: &AgentName, expected_agent_id: AgentId, out: &mut Out) {
        let id = self.request_id("agent_register");
        let Some(member) = self.asked(name, &id) else {
            return;
        };
        member.registration.recovering = true;
        let frame = member.recovery(id, name, expected_agent_id);
        out.effects.push(Effect::Send(Up::AgentRecover(frame)));
    }

    /// The member, if it wants an identity; it waits for the answer to this request now and to no other.
    fn asked(&mut self, name: &AgentName, id: &str) -> Option<&mut Member> {
        let member = self.members.get_mut(name)?;
        let Phase::Registering { request, .. } = &mut member.phase else {
            return None;
        };
        *request = Some(id.to_owned());
        member.registration = AgentRegistration {
            anew: member.registration.anew,
            ..AgentRegistration::default()
        };
        Some(member)
    }

    /// The link came up: everybody without an identity asks for one.
    pub(super) fn register_waiting(&mut self, now: Now, out: &mut Out) {
        let waits = |m: &Member| {
            let idle = matches!(m.phase, Phase::Registering { request: None, .. });
            idle && m.registration.job.is_none()
        };
        let waiting: Vec<_> = self
            .members
            .iter()
            .filter(|(_, m)| waits(m))
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            if let Some(Member {
                phase: Phase::Registering { deadline, .. },
                ..
            }) = self.members.get_mut(&name)
            {
                // Who waits as long as it takes asks again when nothing comes.
                deadline.get_or_insert(now.mono + ANSWER_WITHIN);
            }
            self.register(&name, out);
        }
    }

    /// The link went down: requests on it are forgotten, and asked again on the next or by HTTP.
    pub(super) fn registrations_lost(&mut self, now: Now, out: &mut Out) {
        let mut asking = Vec::new();
        for (name, member) in &mut self.members {
            let own = member.source.is_own();
            if let Phase::Registering { request, deadline } = &mut member.phase {
                if own {
                    *deadline = None;
                }
                if request.take().is_some() {
                    asking.push(name.clone());
                }
            }
        }
        for name in asking {
            self.ask_for_identity(now, &name, out);
        }
    }

    fn waiting_for(&self, request_id: &str) -> Option<AgentName> {
        self.members
            .iter()
            .find(|(_, m)| matches!(&m.phase, Phase::Registering { request: Some(id), .. } if id == request_id))
            .map(|(name, _)| name.clone())
    }

    // ---- answers on the link ------------------------------------------------------------------------------------

    pub(super) fn agent_registered(
        &mut self,
        now: Now,
        request_id: &str,
        data: &Value,
        out: &mut Out,
    ) {
        let Some(name) = self.waiting_for(request_id) else {
            self.late_registration(request_id, data, out);
            return;
        };
        let Some(agent_id) = Self::text(data, "agent_id").map(AgentId::new) else {
            let why = "the engine's answer to agent.register names no agent_id";
            self.spawn_failed(now, &name, &Refusal::new(RefusalKind::Engine, why), out);
            return;
        };
        let acked = data.get("delivery_ack_seq").and_then(Value::as_u64);
        self.catch_up(&agent_id, acked.map(Seq), out);
        self.identified(now, &name, agent_id, Self::text(data, "token"), out);
    }

    /// The engine counts numbers as done that we have not seen: another node had the agent meanwhile. They will not come.
    /// Without a base of our own the first frame is one.
    fn catch_up(&mut self, agent_id: &AgentId, acked: Option<Seq>, out: &mut Out) {
        let received = self.ledger.received(agent_id);
        if let Some(seq) = acked.filter(|acked| received != Seq(0) && *acked > received) {
            let record = Record::Noted {
                agent_id: agent_id.clone(),
                seq,
                msg_id: MsgId::new(format!("acked_{seq}")),
            };
            self.record(record, out);
        }
    }

    fn identified(
        &mut self,
        now: Now,
        name: &AgentName,
        agent_id: AgentId,
        token: Option<&str>,
        out: &mut Out,
    ) {
        self.link.farewells.remove(name);
        let unknown = self.ledger.bound(name).is_none();
        self.record(
            Record::Bound {
                agent: name.clone(),
                agent_id: agent_id.clone(),
            },
            out,
        );
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.newcomer = unknown && member.given_token().is_none();
        member.registration = AgentRegistration::default();
        member.agent_id = Some(agent_id);
        if let Some(token) = token {
            member.token = Some(Secret::new(token));
        }
        self.start_program(now, name, out);
    }

    /// With its identity in its environment, so that the program has no need to register, which would kill our token.
    pub(super) fn start_program(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.phase = Phase::Starting;
        member.started = now;
        let mut spec = member.spec.clone();
        spec.token = member.token.clone();
        out.effects.push(Effect::Spawn(member.run, Box::new(spec)));
    }

    /// A caller gave up before this came: the engine must not believe that the agent runs here.
    fn late_registration(&mut self, request_id: &str, data: &Value, out: &mut Out) {
        let name = Self::text(data, "name").map(AgentName::new);
        let agent_id = Self::text(data, "agent_id").map(AgentId::new);
        if let (true, Some(agent_id)) = (request_id.starts_with("agent_register_"), agent_id) {
            self.undo(agent_id, name, out);
        }
    }

    /// Unless somebody of that name is here again, who has the same identity.
    fn undo(&mut self, agent_id: AgentId, name: Option<AgentName>, out: &mut Out) {
        if !name.as_ref().is_some_and(|n| self.members.contains_key(n)) {
            self.deregister(agent_id, name, out);
        }
    }

    /// True if the error answered one of our registrations.
    pub(super) fn agent_refused(&mut self, now: Now, error: &ErrorFrame, out: &mut Out) -> bool {
        let waiting = self.waiting_for(&error.id);
        let Some(name) = waiting.or_else(|| self.unread_recovery(error)) else {
            return false;
        };
        let registration = self.members.get(&name).map(|m| &m.registration);
        let recovering = registration.is_some_and(|a| a.recovering);
        if error.code == "agent_not_found" && registration.is_some_and(|a| a.recovering && !a.anew)
        {
            // It was deleted meanwhile, so the name is free.
            if let Some(member) = self.members.get_mut(&name) {
                member.registration.anew = true;
            }
            self.register_new(&name, out);
            return true;
        }
        let taken = error.code == "agent_already_exists";
        match self.ledger.bound(&name).cloned() {
            Some(agent_id) if taken && !recovering => self.recover(&name, agent_id, out),
            _ if taken || recovering => self.ask_by_http(&name, true, out),
            _ => {
                let refusal = refusal(&name, &error.code, &error.message);
                self.spawn_failed(now, &name, &refusal, out);
            }
        }
        true
    }

    /// Engines that do not know `agent.recover` say so without naming the request.
    fn unread_recovery(&self, error: &ErrorFrame) -> Option<AgentName> {
        let mut recovering = self
            .members
            .iter()
            .filter(|(_, m)| m.registration.recovering)
            .map(|(name, _)| name.clone());
        let one = recovering.next().filter(|_| recovering.next().is_none());
        one.filter(|_| error.code == "invalid_message")
    }

    // ---- by HTTP ------------------------------------------------------------------------------------------------

    /// `exists` when the link has said that the name is taken.
    fn ask_by_http(&mut self, name: &AgentName, exists: bool, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let Phase::Registering { request, .. } = &mut member.phase else {
            return;
        };
        *request = None;
        let wanted = Wanted {
            name: name.clone(),
            session_ref: session_ref(&member.request),
            node_name: self.facts.node_name.clone(),
            node_id: self.facts.node_id.clone(),
            exists,
            token: member.given_token(),
        };
        let run = member.run;
        let why = RestJob::Identify {
            name: name.clone(),
            run,
        };
        let id = self.rest_job(RestCall::Identify(Box::new(wanted)), why, out);
        if let Some(member) = self.members.get_mut(name) {
            member.registration = AgentRegistration {
                job: Some(id),
                ..AgentRegistration::default()
            };
        }
    }

    pub(super) fn identify_done(
        &mut self,
        now: Now,
        id: JobId,
        (name, run): (AgentName, Run),
        done: RestDone,
        out: &mut Out,
    ) {
        let member = self.members.get_mut(&name);
        let waiting = member.filter(|m| m.run == run && m.registration.job == Some(id));
        match (waiting, done) {
            (Some(_), RestDone::Identified(identity)) => {
                let Identified {
                    agent_id,
                    token,
                    acked,
                } = identity;
                self.catch_up(&agent_id, acked, out);
                self.identified(now, &name, agent_id, Some(token.reveal()), out);
            }
            (None, RestDone::Identified(identity)) => {
                self.undo(identity.agent_id, Some(name), out);
            }
            (
                Some(_),
                RestDone::Failed {
                    status: Some(status),
                    code,
                    message,
                },
            ) if status < 500 && status != 429 => {
                let refusal = refusal(&name, &code, &message);
                self.spawn_failed(now, &name, &refusal, out);
            }
            (Some(member), _) => {
                // It has not answered; the link may be back by now.
                member.registration.job = None;
                if self.link.is_open() {
                    self.register(&name, out);
                } else {
                    member.registration.http_at = Some(now.mono + ASK_AGAIN);
                }
            }
            (None, _) => {}
        }
    }

    // ---- time ---------------------------------------------------------------------------------------------------

    /// An agent that wants an identity has waited for something.
    pub(super) fn registering_due(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let late =
            matches!(member.phase, Phase::Registering { deadline: Some(at), .. } if at <= now.mono);
        if !late {
            self.ask_by_http(name, false, out);
            return;
        }
        if !member.source.is_own() {
            let why = match &self.link.why_down {
                Some(why) => {
                    format!("agent '{name}' could not be registered: no link to the engine ({why})")
                }
                None => {
                    format!("agent '{name}' could not be registered: the engine has not answered")
                }
            };
            self.spawn_failed(now, name, &Refusal::new(RefusalKind::Engine, why), out);
            return;
        }
        let asking = member.registration.job.is_some();
        if let Phase::Registering { deadline, .. } = &mut member.phase {
            *deadline = Some(now.mono + ASK_AGAIN);
        }
        if !asking {
            self.register(name, out);
        }
    }

    // ---- a start that came to nothing -----------------------------------------------------------------------------

    /// A name that only this start had is free again everywhere: going offline alone keeps it
    /// ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).
    pub(super) fn forget(&mut self, name: &AgentName, agent_id: AgentId, out: &mut Out) {
        let call = RestCall::Forget {
            name: name.clone(),
            agent_id,
        };
        self.rest_job(call, RestJob::Forget(name.clone()), out);
    }

    fn is_being_forgotten(&self, name: &AgentName) -> bool {
        let is = |job: &RestJob| matches!(job, RestJob::Forget(n) if n == name);
        self.jobs.values().any(is)
    }

    pub(super) fn forgotten(&mut self, now: Now, name: &AgentName, done: &RestDone, out: &mut Out) {
        if *done != RestDone::Joined {
            log::warn!(
                "the name {name} stays with the engine although nothing was started: {done:?}"
            );
        }
        let waits = |m: &Member| matches!(m.phase, Phase::Registering { request: None, .. });
        if self.members.get(name).is_some_and(waits) {
            self.ask_for_identity(now, name, out);
        }
    }

    // ---- the end ------------------------------------------------------------------------------------------------

    /// The engine must not believe that the agent runs here. Without a link it is told on the next.
    pub(super) fn deregister(&mut self, agent_id: AgentId, name: Option<AgentName>, out: &mut Out) {
        if !self.link.is_open() {
            if let Some(name) = name
                && self.link.farewells.len() < FAREWELLS
            {
                self.link.farewells.insert(name, agent_id);
            }
            return;
        }
        out.effects
            .push(Effect::Send(Up::AgentDeregister(AgentDeregister {
                id: None,
                agent_id,
                name,
            })));
    }

    pub(super) fn send_farewells(&mut self, out: &mut Out) {
        for (name, agent_id) in std::mem::take(&mut self.link.farewells) {
            self.deregister(agent_id, Some(name), out);
        }
    }
}

impl Member {
    /// The token that came with the wish, while the agent has no identity of the engine's.
    fn given_token(&self) -> Option<Secret> {
        let given = self.request.agent_token.as_deref();
        let given = given.filter(|token| !token.is_empty() && self.agent_id.is_none());
        given.map(Secret::new)
    }

    /// When an agent that wants an identity has waited long enough for something.
    pub(super) fn registering_until(&self, deadline: Option<Mono>) -> Option<Mono> {
        soonest(deadline, self.registration.deadline())
    }
}

/// Why the engine gives no identity, in our words.
fn refusal(name: &AgentName, code: &str, message: &str) -> Refusal {
    let (kind, text) = match code {
        "agent_location_conflict" => (
            RefusalKind::NameTaken,
            "it runs on another node; release it there, or take another name",
        ),
        "agent_already_exists" | "agent_identity_conflict" | "agent_identity_mismatch" => (
            RefusalKind::NameTaken,
            "the name belongs to another agent of this workspace; take another name",
        ),
        "agent_token_invalid" => (
            RefusalKind::Engine,
            "the engine does not know the token that was given; give a valid one, or none to get a new one",
        ),
        "node_capacity_exceeded" => (
            RefusalKind::Full,
            "the engine counts as many agents on this node as it may have; release one first",
        ),
        _ => (RefusalKind::Engine, "the engine refuses it"),
    };
    Refusal::new(kind, format!("agent '{name}': {text} ({code} {message})"))
}
