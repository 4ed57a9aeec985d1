//! An agent's identity at the engine: asked for on the link, taken back where the name exists already, and by HTTP while
//! there is no link. Answers are matched by the request alone; one that comes too late is undone.

use std::time::Duration;

use serde_json::Value;

use super::agent::{Asking, LocalAgent, RunPhase};
use super::identity_refused::identity_refused;
use super::state::{AgentStep, Agents};
use crate::dispatch::engine_version::EngineVersion;
use crate::dispatch::notice::Notice;
use crate::dispatch::rest_jobs::RestJob;
use crate::ids::{AgentId, AgentName, JobId, MsgId, Run, Seq};
use crate::ledger::Record;
use crate::msg::{
    Effect, Identified, Refusal, RefusalKind, RestCall, RestDone, Secret, SpawnSource, Wanted,
};
use crate::wire::down::ErrorFrame;
use crate::wire::up::{AgentRecover, AgentRegister, Up};

/// How long the engine may take for an agent that it asked for itself; it gives the spawn to another node then.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long for a local caller, who must hear the reason before its client gives up
/// ([local-api 2.1](crate::docs::local_api#2.1)).
const CALLER_WAITS: Duration = Duration::from_secs(20);
/// When an engine is asked again for a place that it keeps for another spawn.
const PLACE_AGAIN: Duration = Duration::from_millis(500);
/// How long an engine that answered nothing is left alone before an agent of the broker's own is offered again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How long a link may be away before HTTP is tried instead: most come back sooner.
const LINK_MAY_TAKE: Duration = Duration::from_secs(3);

/// How long to wait for an identity. Agents of the broker's own wait as long as it takes.
pub(super) fn patience(source: &SpawnSource) -> Option<Duration> {
    match source {
        SpawnSource::Api | SpawnSource::Served(_) => Some(CALLER_WAITS),
        SpawnSource::Invocation(_) => Some(ANSWER_WITHIN),
        SpawnSource::CommandLine | SpawnSource::Restart => None,
    }
}

impl LocalAgent {
    /// The request for an identity, as a new agent.
    pub(super) fn registration(&self, request: String, name: &AgentName) -> AgentRegister {
        let session_ref = self.session_ref();
        AgentRegister {
            id: Some(request),
            name: name.clone(),
            invocation_id: self.born_of.clone(),
            resumable: session_ref.as_ref().map(|_| true),
            session_ref,
        }
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

    /// The token that came with the wish, while the agent has no identity of the engine's.
    fn given_token(&self) -> Option<Secret> {
        let given = self.request.agent_token.as_deref();
        let given = given.filter(|token| !token.is_empty() && self.agent_id.is_none());
        given.map(Secret::new)
    }
}

impl Agents {
    /// Asks for an identity in whatever way there is now.
    pub(super) fn ask_for_identity(&mut self, step: &mut AgentStep, name: &AgentName) {
        if step.peers.control.is_open() {
            self.register(step, name);
        } else if let Some(agent) = self.all.get_mut(name) {
            // A spawn of the engine's is given to another node when our link is lost: doing it here too would do it twice.
            let ours = agent.run.source.invocation().is_none();
            if let Some(asking) = agent.asking_mut() {
                // What the link may take has passed already where it has been gone for long.
                let gone_for = step.peers.control.gone_for(step.now.mono);
                let patience = LINK_MAY_TAKE.saturating_sub(gone_for);
                asking.http_at = ours.then(|| step.now.mono + patience);
            }
        }
    }

    fn register(&mut self, step: &mut AgentStep, name: &AgentName) {
        let given = |agent: &LocalAgent| agent.given_token().is_some();
        if self.all.get(name).is_some_and(given) {
            self.ask_by_http(step, name, false);
            return;
        }
        if is_not_free(step, name) {
            return;
        }
        let known = step.ledger().bound(name).cloned();
        if let Some(agent_id) =
            known.filter(|_| step.peers.control.engine_version() >= EngineVersion::EightNine)
        {
            self.recover(step, name, agent_id);
            return;
        }
        self.register_new(step, name);
    }

    fn register_new(&mut self, step: &mut AgentStep, name: &AgentName) {
        let id = step.request_id("agent_register");
        let Some(agent) = self.asked(name, &id) else {
            return;
        };
        let frame = agent.registration(id, name);
        is_asked_for(step, name);
        step.send(Up::AgentRegister(frame));
    }

    /// Engines from 8.2 give a name out once; the node that had it may have it back.
    fn recover(&mut self, step: &mut AgentStep, name: &AgentName, expected_agent_id: AgentId) {
        let id = step.request_id("agent_register");
        let Some(agent) = self.asked(name, &id) else {
            return;
        };
        if let Some(asking) = agent.asking_mut() {
            asking.recovering = true;
        }
        let frame = agent.recovery(id, name, expected_agent_id);
        is_asked_for(step, name);
        step.send(Up::AgentRecover(frame));
    }

    /// The agent, if it wants an identity; it waits for the answer to this request now and to no other.
    fn asked(&mut self, name: &AgentName, id: &str) -> Option<&mut LocalAgent> {
        let agent = self.all.get_mut(name)?;
        let asking = agent.asking_mut()?;
        *asking = Asking {
            request: Some(id.to_owned()),
            deadline: asking.deadline,
            anew: asking.anew,
            ..Asking::default()
        };
        Some(agent)
    }

    /// The link came up: everybody without an identity asks for one.
    pub(super) fn register_waiting(&mut self, step: &mut AgentStep) {
        let mut waiting = Vec::new();
        for (name, agent) in &mut self.all {
            let asking = agent.asking_mut();
            if let Some(asking) = asking.filter(|a| a.request.is_none() && a.job.is_none()) {
                // Who waits as long as it takes asks again when nothing comes.
                let patience = step.now.mono + ANSWER_WITHIN;
                asking.deadline.get_or_insert(patience);
                waiting.push(name.clone());
            }
        }
        for name in waiting {
            self.register(step, &name);
        }
    }

    /// The link went down: requests on it are forgotten, and asked again on the next or by HTTP.
    pub(super) fn registrations_lost(&mut self, step: &mut AgentStep) {
        let mut lost = Vec::new();
        for (name, agent) in &mut self.all {
            let own = agent.run.source.is_own() || agent.late.is_some();
            if let Some(asking) = agent.asking_mut() {
                if own {
                    asking.deadline = None;
                }
                if asking.request.take().is_some() {
                    lost.push(name.clone());
                }
            }
        }
        for name in lost {
            self.ask_for_identity(step, &name);
        }
    }

    fn waiting_for(&self, request_id: &str) -> Option<AgentName> {
        let waits = |agent: &LocalAgent| {
            let asking = agent.asking();
            asking.is_some_and(|a| a.request.as_deref() == Some(request_id))
        };
        let mut all = self.all.iter();
        all.find(|(_, agent)| waits(agent))
            .map(|(name, _)| name.clone())
    }

    // ---- answers on the link ------------------------------------------------------------------------------------

    pub(super) fn agent_registered(
        &mut self,
        step: &mut AgentStep,
        request_id: &str,
        data: &Value,
    ) {
        let Some(name) = self.waiting_for(request_id) else {
            self.late_registration(step, request_id, data);
            return;
        };
        let Some(agent_id) = text(data, "agent_id").map(AgentId::new) else {
            if let Some(asking) = self.all.get_mut(&name).and_then(LocalAgent::asking_mut) {
                asking.request = None;
            }
            let why = "the engine's answer to agent.register names no agent_id";
            self.identity_refused(step, &name, &Refusal::new(RefusalKind::Engine, why));
            return;
        };
        let acked = data.get("delivery_ack_seq").and_then(Value::as_u64);
        catch_up(step, &agent_id, acked.map(Seq));
        self.identified(step, &name, agent_id, text(data, "token"));
    }

    fn identified(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        agent_id: AgentId,
        token: Option<&str>,
    ) {
        self.farewells.remove(name);
        let unknown = step.ledger().bound(name).is_none();
        step.record(Record::Bound {
            agent: name.clone(),
            agent_id: agent_id.clone(),
        });
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        agent.run.newcomer = unknown && agent.given_token().is_none();
        agent.agent_id = Some(agent_id);
        if let Some(token) = token {
            agent.token = Some(Secret::new(token));
        }
        match agent.late.is_some() {
            true => self.registered_late(step, name),
            false => self.start_program(step, name),
        }
    }

    /// With its identity in its environment, so that the program has no need to register, which would kill our token.
    pub(super) fn start_program(&mut self, step: &mut AgentStep, name: &AgentName) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        agent.run.phase = RunPhase::Starting;
        agent.started = step.now;
        let mut spec = agent.spec.clone();
        spec.token = agent
            .token
            .clone()
            .filter(|_| !agent.request.skip_relay_prompt);
        step.effect(Effect::Spawn(agent.run.id, Box::new(spec)));
    }

    /// A caller gave up before this came: the engine must not believe that the agent runs here.
    fn late_registration(&mut self, step: &mut AgentStep, request_id: &str, data: &Value) {
        self.unheard.remove(request_id);
        let name = text(data, "name").map(AgentName::new);
        let agent_id = text(data, "agent_id").map(AgentId::new);
        match (agent_id, name) {
            _ if !request_id.starts_with("agent_register_") => {}
            (Some(agent_id), Some(name)) => self.answered_late(step, name, agent_id),
            (Some(agent_id), None) => self.deregister(step, agent_id, None),
            (None, _) => self.find_unanswered(step),
        }
    }

    /// True if the error answered one of our registrations.
    pub(super) fn agent_refused(&mut self, step: &mut AgentStep, error: &ErrorFrame) -> bool {
        if self.unheard.remove(&error.id).is_some() {
            self.find_unanswered(step);
            return true;
        }
        let waiting = self.waiting_for(&error.id);
        let Some(name) = waiting.or_else(|| self.unread_recovery(error)) else {
            return false;
        };
        let Some(asking) = self.all.get_mut(&name).and_then(LocalAgent::asking_mut) else {
            return true;
        };
        asking.request = None;
        let recovering = asking.recovering;
        if error.code == "agent_not_found" && recovering && !asking.anew {
            // It was deleted meanwhile, so the name is free.
            asking.anew = true;
            self.register_new(step, &name);
            return true;
        }
        if error.code == "node_capacity_exceeded" && self.waits_for_place(step, &name) {
            return true;
        }
        let taken = error.code == "agent_already_exists";
        match step.ledger().bound(&name).cloned() {
            Some(agent_id) if taken && !recovering => self.recover(step, &name, agent_id),
            _ if taken || recovering => self.ask_by_http(step, &name, true),
            _ => {
                let refusal = identity_refused(&name, &error.code, &error.message);
                self.identity_refused(step, &name, &refusal);
            }
        }
        true
    }

    /// An engine from 8.5 on keeps a spawn's place besides its agent's until the result is there
    /// ([engine-protocol 5.2](crate::docs::engine_protocol#5.2)), so of several spawns at once the last find no place that it
    /// has sent here itself. Says whether this is one: it is asked for again when others of them may be over.
    fn waits_for_place(&mut self, step: &AgentStep, name: &AgentName) -> bool {
        let actions = step.peers.actions;
        let is_open = |agent: &LocalAgent| {
            let order = agent.run.source.invocation();
            order.is_some_and(|id| actions.is_open(id))
        };
        let mut others = self.all.iter().filter(|(other, _)| *other != name);
        let may_pass = others.any(|(_, agent)| is_open(agent));
        let agent = self.all.get_mut(name).filter(|agent| is_open(agent));
        let asking = agent.and_then(LocalAgent::asking_mut);
        let Some(asking) = asking.filter(|_| may_pass) else {
            return false;
        };
        asking.again_at = Some(step.now.mono + PLACE_AGAIN);
        true
    }

    /// Engines that do not know `agent.recover` say so without naming the request.
    fn unread_recovery(&self, error: &ErrorFrame) -> Option<AgentName> {
        let mut recovering = self
            .all
            .iter()
            .filter(|(_, agent)| agent.asking().is_some_and(|a| a.recovering))
            .map(|(name, _)| name.clone());
        let one = recovering.next().filter(|_| recovering.next().is_none());
        one.filter(|_| error.code == "invalid_message")
    }

    // ---- by HTTP ------------------------------------------------------------------------------------------------

    /// `exists` when the link has said that the name is taken.
    fn ask_by_http(&mut self, step: &mut AgentStep, name: &AgentName, exists: bool) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        let (run, token, session_ref) = (agent.run.id, agent.given_token(), agent.session_ref());
        let Some(asking) = agent.asking_mut() else {
            return;
        };
        if is_not_free(step, name) {
            // Asked for when it is; a time that has come and stays would have the dispatcher tick without end.
            asking.http_at = None;
            return;
        }
        let wanted = Wanted {
            session_ref,
            exists,
            token,
            ..step.peers.control.wanted(name)
        };
        let why = RestJob::Identify {
            name: name.clone(),
            run,
        };
        is_asked_for(step, name);
        let id = step.rest_job(RestCall::Identify(Box::new(wanted)), why);
        *asking = Asking {
            job: Some(id),
            deadline: asking.deadline,
            ..Asking::default()
        };
    }

    pub(in crate::dispatch) fn identify_done(
        &mut self,
        step: &mut AgentStep,
        id: JobId,
        (name, run): (AgentName, Run),
        done: RestDone,
    ) {
        let agent = self.all.get_mut(&name).filter(|agent| agent.run.id == run);
        let asking = agent.and_then(LocalAgent::asking_mut);
        let waiting = asking.filter(|asking| asking.job == Some(id));
        match (waiting, done) {
            (Some(_), RestDone::Identified(identity)) => {
                let Identified {
                    agent_id,
                    token,
                    acked,
                } = identity;
                catch_up(step, &agent_id, acked);
                self.identified(step, &name, agent_id, Some(token.reveal()));
            }
            (None, RestDone::Identified(identity)) => {
                self.answered_late(step, name, identity.agent_id);
            }
            (
                Some(_),
                RestDone::Failed {
                    status: Some(status),
                    code,
                    message,
                },
            ) if status < 500 && status != 429 => {
                let refusal = identity_refused(&name, &code, &message);
                self.identity_refused(step, &name, &refusal);
            }
            (Some(asking), _) => {
                // It has not answered; the link may be back by now.
                asking.job = None;
                if step.peers.control.is_open() {
                    self.register(step, &name);
                } else if !self.start_unregistered(step, &name) {
                    self.ask_again_later(step, &name);
                }
            }
            (None, _) => self.find_unanswered(step),
        }
    }

    fn ask_again_later(&mut self, step: &AgentStep, name: &AgentName) {
        if let Some(asking) = self.all.get_mut(name).and_then(LocalAgent::asking_mut) {
            asking.http_at = Some(step.now.mono + ASK_AGAIN);
        }
    }

    // ---- time ---------------------------------------------------------------------------------------------------

    /// An agent that wants an identity has waited for something.
    pub(super) fn registering_due(&mut self, step: &mut AgentStep, name: &AgentName) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        let own = agent.run.source.is_own() || agent.late.is_some();
        let Some(asking) = agent.asking_mut() else {
            return;
        };
        let is_late = asking.deadline.is_some_and(|at| at <= step.now.mono);
        if !is_late && asking.again_at.is_some_and(|at| at <= step.now.mono) {
            asking.again_at = None;
            return self.register(step, name);
        }
        if !is_late {
            self.ask_by_http(step, name, false);
            return;
        }
        if !own {
            if self.start_unregistered(step, name) {
                return;
            }
            let why = match step.peers.control.why_down() {
                Some(why) => {
                    format!("agent '{name}' could not be registered: no link to the engine ({why})")
                }
                None => {
                    format!("agent '{name}' could not be registered: the engine has not answered")
                }
            };
            self.spawn_failed(step, name, &Refusal::new(RefusalKind::Engine, why));
            return;
        }
        asking.deadline = Some(step.now.mono + ASK_AGAIN);
        if asking.job.is_none() {
            self.register(step, name);
        }
    }

    // ---- a start that came to nothing -----------------------------------------------------------------------------

    pub(in crate::dispatch) fn forgotten(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        done: &RestDone,
    ) {
        if *done != RestDone::Forgotten {
            log::warn!(
            event = "name_left_behind", agent:% = name;
                "the name {name} stays with the engine although nothing was started: {done:?}"
            );
        }
        self.name_is_free(step, name);
    }

    /// The name is free: whoever waits for it asks for it.
    pub(super) fn name_is_free(&mut self, step: &mut AgentStep, name: &AgentName) {
        let waits = |agent: &LocalAgent| {
            agent
                .asking()
                .is_some_and(|a| a.request.is_none() && a.job.is_none())
        };
        if self.all.get(name).is_some_and(waits) {
            self.ask_for_identity(step, name);
        }
    }

    // ---- the end ------------------------------------------------------------------------------------------------

    /// What is left to say of an agent that is gone.
    pub(in crate::dispatch) fn give_back(
        &mut self,
        step: &mut AgentStep,
        name: AgentName,
        agent_id: AgentId,
        newcomer: bool,
    ) {
        self.deregister(step, agent_id.clone(), Some(name.clone()));
        if newcomer {
            forget(step, &name, agent_id);
        }
    }
}

/// A text in a reply's data.
pub(super) fn text<'a>(data: &'a Value, name: &str) -> Option<&'a str> {
    let text = data.get(name).and_then(Value::as_str);
    text.filter(|text| !text.is_empty())
}

/// The engine counts numbers as done that we have not seen: another node had the agent meanwhile. They will not come.
/// Without a base of our own the first frame is one.
fn catch_up(step: &mut AgentStep, agent_id: &AgentId, acked: Option<Seq>) {
    let received = step.ledger().received(agent_id);
    if let Some(seq) = acked.filter(|acked| received != Seq(0) && *acked > received) {
        let record = Record::Noted {
            agent_id: agent_id.clone(),
            seq,
            msg_id: MsgId::new(format!("acked_{seq}")),
        };
        step.record(record);
    }
}

/// Written before the engine is asked: a broker that is killed then knows in its next life that the name may be borne.
fn is_asked_for(step: &mut AgentStep, name: &AgentName) {
    if step.ledger().unanswered(name).is_none() {
        let agent = name.clone();
        step.record(Record::Asked { agent });
    }
}

/// A name that only this start had is free again everywhere: going offline alone keeps it
/// ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).
fn forget(step: &mut AgentStep, name: &AgentName, agent_id: AgentId) {
    let call = RestCall::Forget {
        name: name.clone(),
        agent_id,
    };
    step.rest_job(call, RestJob::Forget(name.clone()));
}

/// An agent is gone, and with it its identity; `newcomer` if only this start had the name.
pub(super) fn identity_over(
    step: &mut AgentStep,
    name: &AgentName,
    agent_id: AgentId,
    newcomer: bool,
) {
    step.notice(Notice::IdentityOver(name.clone(), agent_id, newcomer));
}

/// Whether a name is being given back at the moment, or the engine has mail of a bearer that was released, or may have such
/// a bearer. It is asked for when that is done.
fn is_not_free(step: &AgentStep, name: &AgentName) -> bool {
    step.awaits(|job| matches!(job, RestJob::Forget(n) if n == name))
        || step.ledger().uncleared(name).is_some()
        || step.ledger().unanswered(name) == Some(true)
}
