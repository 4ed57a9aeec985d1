//! From the wish for an agent to its program's start: checks, an identity from the engine, the command line.

use std::time::Duration;

use serde_json::Value;

use super::pace::Pace;
use super::roster::{Member, Phase};
use super::{Dispatcher, Out};
use crate::ids::{AgentId, AgentName, Ticket};
use crate::ledger::Record;
use crate::msg::{AgentSpec, Effect, How, Refusal, RefusalKind, Secret, Size, SpawnSource};
use crate::time::Now;
use crate::wire::down::ErrorFrame;
use crate::wire::event::BrokerEvent;
use crate::wire::local::SpawnRequest;
use crate::wire::up::{AgentRegister, Outcome, Up};

/// How long the engine may take to register an agent; the local client gives up after 30 s (local-api 2.1).
const REGISTER_WITHIN: Duration = Duration::from_secs(20);
/// How long an engine that answered nothing is left alone before an agent of the broker's own is offered again.
const REGISTER_AGAIN: Duration = Duration::from_secs(5);

impl Dispatcher {
    pub(super) fn spawn(
        &mut self,
        now: Now,
        caller: Option<Ticket>,
        request: SpawnRequest,
        source: SpawnSource,
        out: &mut Out,
    ) {
        match self.check_spawn(&request) {
            Ok(spec) => self.enlist(now, caller, request, source, spec, out),
            Err(refusal) => {
                self.refuse_spawn(caller, &source, &request.name, refusal, out);
            }
        }
    }

    fn check_spawn(&self, request: &SpawnRequest) -> Result<AgentSpec, Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::new(
                RefusalKind::Stopping,
                "the broker is stopping; start it again to spawn agents",
            ));
        }
        let name = AgentName::check(&request.name)
            .map_err(|why| Refusal::new(RefusalKind::Invalid, why))?;
        // Messages are addressed without regard to case, so two names that differ in it alone would be one address.
        if let Some(taken) = self
            .members
            .keys()
            .find(|n| n.as_str().eq_ignore_ascii_case(name.as_str()))
        {
            let text =
                format!("agent '{taken}' already exists; release it first, or take another name");
            return Err(Refusal::new(RefusalKind::NameTaken, text));
        }
        let running = self.members.len() as u64;
        let most = self.max_agents();
        if most > 0 && running >= most {
            let text =
                format!("{running} agents run here already, which is the limit (--max-agents)");
            return Err(Refusal::new(RefusalKind::Full, text));
        }
        let spec = spec_of(name, request).map_err(|why| Refusal::new(RefusalKind::Invalid, why))?;
        Ok(self.with_environment(spec))
    }

    /// What every agent finds in its environment besides its token.
    fn with_environment(&self, mut spec: AgentSpec) -> AgentSpec {
        let mut add = |key: &str, value: &str| {
            spec.env
                .entry(key.to_owned())
                .or_insert_with(|| value.to_owned());
        };
        add("RELAY_BASE_URL", &self.facts.engine_url);
        add("RELAY_BROKER_STATE_DIR", &self.facts.state_dir);
        if let Some(workspace) = &self.facts.workspace_id {
            add("RELAY_WORKSPACE_ID", workspace);
        }
        spec
    }

    fn enlist(
        &mut self,
        now: Now,
        caller: Option<Ticket>,
        request: SpawnRequest,
        source: SpawnSource,
        spec: AgentSpec,
        out: &mut Out,
    ) {
        let name = spec.name.clone();
        let run = self.next_run;
        self.next_run = run.next();
        // Agents of the broker's own wait for the engine as long as it takes; a caller has a client that gives up.
        let deadline = (!source.is_own()).then(|| now.mono + REGISTER_WITHIN);
        let member = Member {
            run,
            phase: Phase::Registering {
                request: None,
                deadline,
            },
            token: request.agent_token.as_deref().map(Secret::new),
            spec,
            request,
            source,
            agent_id: None,
            pid: None,
            in_flight: None,
            stalled: None,
            again_at: None,
            flush_left: 0,
            ready: false,
            idle_since: None,
            last_activity: now.wall,
            started: now,
            caller,
            releasing: Vec::new(),
            pictures: Vec::new(),
            released: false,
            pace: Pace::default(),
            settles: None,
        };
        self.members.insert(name.clone(), member);
        if self.link.up {
            self.register(&name, out);
        }
    }

    pub(super) fn register(&mut self, name: &AgentName, out: &mut Out) {
        let id = self.request_id("agent_register");
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let Phase::Registering { request, .. } = &mut member.phase else {
            return;
        };
        *request = Some(id.clone());
        let invocation_id = match &member.source {
            SpawnSource::Invocation(id) => Some(id.clone()),
            SpawnSource::Api | SpawnSource::CommandLine | SpawnSource::Restart => None,
        };
        let session_ref = member
            .request
            .harness_config
            .as_ref()
            .and_then(|h| h.session_id.clone());
        out.effects
            .push(Effect::Send(Up::AgentRegister(AgentRegister {
                id: Some(id),
                name: name.clone(),
                invocation_id,
                resumable: session_ref.as_ref().map(|_| true),
                session_ref,
            })));
    }

    /// The link came up: everybody without an identity asks for one.
    pub(super) fn register_waiting(&mut self, now: Now, out: &mut Out) {
        let waiting: Vec<_> = self
            .members
            .iter()
            .filter(|(_, m)| matches!(m.phase, Phase::Registering { request: None, .. }))
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            if let Some(Member {
                phase: Phase::Registering { deadline, .. },
                ..
            }) = self.members.get_mut(&name)
            {
                *deadline = Some(now.mono + REGISTER_WITHIN);
            }
            self.register(&name, out);
        }
    }

    /// The link went down: requests on it are forgotten and asked again on the next.
    pub(super) fn registrations_lost(&mut self) {
        for member in self.members.values_mut() {
            if let Phase::Registering { request, deadline } = &mut member.phase {
                *request = None;
                if member.source.is_own() {
                    *deadline = None;
                }
            }
        }
    }

    fn waiting_for(&self, request_id: &str) -> Option<AgentName> {
        self.members
            .iter()
            .find(|(_, m)| matches!(&m.phase, Phase::Registering { request: Some(id), .. } if id == request_id))
            .map(|(name, _)| name.clone())
    }

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
        self.record(
            Record::Bound {
                agent: name.clone(),
                agent_id: agent_id.clone(),
            },
            out,
        );
        let Some(member) = self.members.get_mut(&name) else {
            return;
        };
        member.agent_id = Some(agent_id);
        // Registering an existing name gives it a new token; one that was given with the request is dead by now.
        if let Some(token) = Self::text(data, "token") {
            member.token = Some(Secret::new(token));
        }
        member.phase = Phase::Starting;
        member.started = now;
        let mut spec = member.spec.clone();
        spec.token = member.token.clone();
        out.effects.push(Effect::Spawn(member.run, Box::new(spec)));
    }

    /// A caller gave up before this came: the engine must not believe that the agent runs here.
    fn late_registration(&mut self, request_id: &str, data: &Value, out: &mut Out) {
        let runs = |name| self.members.contains_key(&AgentName::new(name));
        let ours = request_id.starts_with("agent_register_")
            && !Self::text(data, "name").is_some_and(runs);
        if let (true, Some(agent_id)) = (ours, Self::text(data, "agent_id")) {
            Self::deregister(
                AgentId::new(agent_id),
                Self::text(data, "name").map(AgentName::new),
                out,
            );
        }
    }

    /// True if the error answered one of our registrations.
    pub(super) fn agent_refused(&mut self, now: Now, error: &ErrorFrame, out: &mut Out) -> bool {
        let Some(name) = self.waiting_for(&error.id) else {
            return false;
        };
        let why = format!(
            "the engine refuses agent '{name}': {} {}",
            error.code, error.message
        );
        self.spawn_failed(now, &name, &Refusal::new(RefusalKind::Engine, why), out);
        true
    }

    pub(super) fn tick_members(&mut self, now: Now, out: &mut Out) {
        let late: Vec<_> = self
            .members
            .iter()
            .filter(|(_, m)| m.deadline().is_some_and(|at| at <= now.mono))
            .map(|(name, m)| (name.clone(), m.phase.clone()))
            .collect();
        for (name, phase) in late {
            match phase {
                Phase::Registering { .. } => self.register_late(now, &name, out),
                Phase::Cooling { .. } => self.restart(now, &name, out),
                Phase::Running => self.member_due(now, &name, out),
                Phase::Starting | Phase::Stopping => {}
            }
        }
    }

    fn member_due(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if member.settles.is_some_and(|at| at <= now.mono) {
            self.settled_in(name, out);
        }
        self.give_again(now, name, out);
        if let Some(member) = self.members.get_mut(name)
            && member.pace.until.is_some_and(|at| at <= now.mono)
        {
            member.pace.until = None;
            self.type_next(now, name, out);
        }
    }

    fn register_late(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if member.source.is_own() {
            if let Phase::Registering { deadline, .. } = &mut member.phase {
                *deadline = Some(now.mono + REGISTER_AGAIN);
            }
            self.register(name, out);
            return;
        }
        let why = match &self.link.why_down {
            Some(why) => {
                format!("agent '{name}' could not be registered: no link to the engine ({why})")
            }
            None => {
                format!("agent '{name}' could not be registered: the engine has not answered")
            }
        };
        self.spawn_failed(now, name, &Refusal::new(RefusalKind::Engine, why), out);
    }

    /// The spawn is over before the program ran.
    pub(super) fn spawn_failed(
        &mut self,
        now: Now,
        name: &AgentName,
        refusal: &Refusal,
        out: &mut Out,
    ) {
        let Some(member) = self.members.remove(name) else {
            return;
        };
        if let Some(agent_id) = member.agent_id.clone().filter(|_| self.link.up) {
            Self::deregister(agent_id, Some(name.clone()), out);
        }
        self.answer_releasers(name, &member.releasing, out);
        self.refuse_spawn(
            member.caller,
            &member.source,
            name.as_str(),
            refusal.clone(),
            out,
        );
        if !member.releasing.is_empty() {
            self.life_over(now, name, true, out);
        } else if self.stopping.is_none() && self.ledger.lives().get(name).is_some() {
            let how = How {
                note: Some(refusal.message.clone()),
                ..How::default()
            };
            self.life_goes_on(now, member, &how, out);
        }
        self.leave_if_empty(out);
    }

    fn refuse_spawn(
        &mut self,
        caller: Option<Ticket>,
        source: &SpawnSource,
        name: &str,
        refusal: Refusal,
        out: &mut Out,
    ) {
        log::warn!("agent {name:?} was not started: {}", refusal.message);
        let event = BrokerEvent::WorkerError {
            name: AgentName::new(name),
            code: "spawn_failed".into(),
            message: refusal.message.clone(),
            error: crate::wire::event::NestedError {
                code: "spawn_failed".into(),
                message: refusal.message.clone(),
                retryable: refusal.kind == RefusalKind::Engine,
            },
        };
        self.publish(event, out);
        if let SpawnSource::Invocation(id) = source {
            let word = match refusal.kind {
                RefusalKind::NameTaken => "spawn_agent_name_in_use".to_owned(),
                _ => format!("spawn_failed: {}", refusal.message),
            };
            self.answer(id.clone(), Outcome::Error(word), out);
        }
        if let Some(ticket) = caller {
            out.effects.push(Effect::Reply(ticket, Err(refusal)));
        }
    }
}

/// The command line an agent is started with, from the request's many ways of giving one.
fn spec_of(name: AgentName, request: &SpawnRequest) -> Result<AgentSpec, String> {
    let harness = request.harness_config.as_ref();
    let argv = match harness.and_then(|h| h.command.as_ref()) {
        Some(command) => std::iter::once(command.clone())
            .chain(harness.into_iter().flat_map(|h| h.args.clone()))
            .collect(),
        None => {
            let cli = request
                .cli
                .as_deref()
                .filter(|c| !c.trim().is_empty())
                .unwrap_or("claude");
            let mut argv = shell_words::split(cli)
                .map_err(|e| format!("the command line {cli:?} cannot be split: {e}"))?;
            argv.extend(request.args.iter().cloned());
            argv
        }
    };
    if argv.is_empty() || argv[0].is_empty() {
        return Err("there is no command to start; give one, for example `-- bash`".into());
    }
    if argv.iter().any(|a| a.contains('\0')) {
        return Err("the command line holds a NUL byte, which no program can be given".into());
    }
    let mut env = request.env.clone();
    env.extend(harness.into_iter().flat_map(|h| h.env.clone()));
    let default = Size::default();
    Ok(AgentSpec {
        name,
        argv,
        cwd: harness
            .and_then(|h| h.cwd.clone())
            .or_else(|| request.cwd.clone()),
        env,
        token: None,
        size: Size {
            rows: request.rows.filter(|r| *r > 0).unwrap_or(default.rows),
            cols: request.cols.filter(|c| *c > 0).unwrap_or(default.cols),
        },
        idle_after: match request.idle_threshold_secs {
            Some(0) => None,
            Some(secs) => Some(Duration::from_secs(secs)),
            None => Some(Duration::from_secs(30)),
        },
    })
}
