//! From the wish for an agent to its program's start: checks, the command line, and what becomes of a wish that fails.

use std::time::Duration;

use super::agent_registration::{AgentRegistration, patience};
use super::backoff::Backoff;
use super::blocked::Block;
use super::location_conflict::Renewal;
use super::release::End;
use super::roster::{Member, Phase};
use super::urgent::Yielding;
use super::{Dispatcher, Out};
use crate::ids::{AgentName, Ticket};
use crate::msg::{
    AgentSpec, Effect, Harness, How, Refusal, RefusalKind, Secret, Size, SpawnSource, Treatment,
};
use crate::time::Now;
use crate::wire::event::BrokerEvent;
use crate::wire::local::SpawnRequest;
use crate::wire::up::Outcome;
use crate::words::{self, NO_WORDS};

impl Dispatcher {
    pub(super) fn spawn(
        &mut self,
        now: Now,
        caller: Option<Ticket>,
        request: SpawnRequest,
        source: SpawnSource,
        out: &mut Out,
    ) {
        match self.check_spawn(&request, source.is_own()) {
            Ok(spec) => self.enlist(now, caller, request, source, spec, out),
            Err(refusal) => {
                self.refuse_spawn(caller, &source, &request.name, refusal, out);
            }
        }
    }

    fn check_spawn(&self, request: &SpawnRequest, own: bool) -> Result<AgentSpec, Refusal> {
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
        if let Some(task) = &request.task
            && words::is_nothing_but_controls(task)
        {
            let text = format!("the task has {NO_WORDS}");
            return Err(Refusal::new(RefusalKind::Invalid, text));
        }
        let mut spec = spec_of(name, &self.with_harness(request))
            .map_err(|why| Refusal::new(RefusalKind::Invalid, why))?;
        spec.treatment = self.treatment(request, own)?;
        Ok(self.with_environment(spec))
    }

    /// As the wish says, else as the operator wrote it down for the program of that name.
    fn treatment(&self, request: &SpawnRequest, own: bool) -> Result<Treatment, Refusal> {
        let harness = self.harness_of(request);
        let mut treatment = harness.map(|h| h.treatment.clone()).unwrap_or_default();
        if let Some(profile) = &request.profile {
            if !own && !self.facts.profiles.contains(profile) {
                let known: Vec<&str> = self.facts.profiles.iter().map(String::as_str).collect();
                let text = format!(
                    "no profile is named '{profile}'; there are {}",
                    known.join(", ")
                );
                return Err(Refusal::new(RefusalKind::Invalid, text));
            }
            treatment.profile = Some(profile.clone());
        }
        Ok(treatment)
    }

    /// The operator's description of the program that is named, unless another one is to be started under its name.
    fn harness_of(&self, request: &SpawnRequest) -> Option<&Harness> {
        let words = shell_words::split(request.cli.as_deref()?).ok()?;
        let harness = self.facts.harness_table.get(words.first()?)?;
        let command = request
            .harness_config
            .as_ref()
            .and_then(|h| h.command.as_ref());
        command
            .is_none_or(|command| *command == harness.command)
            .then_some(harness)
    }

    /// A program that the operator described is started as described, whoever names it; arguments of the caller come last.
    /// Looked up at each start, so that the wish stays what somebody said.
    fn with_harness(&self, request: &SpawnRequest) -> SpawnRequest {
        let mut wish = request.clone();
        let mut config = wish.harness_config.take().unwrap_or_default();
        if config.command.is_none()
            && let Some(harness) = self.harness_of(request)
        {
            let line = request.cli.as_deref().unwrap_or_default();
            let words = shell_words::split(line).unwrap_or_default().into_iter();
            let given = words.skip(1).chain(request.args.iter().cloned());
            config.command = Some(harness.command.clone());
            config.args = harness.args.iter().cloned().chain(given).collect();
            config.env = harness.env.clone().into_iter().chain(config.env).collect();
        }
        wish.harness_config = Some(config);
        wish
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
        let deadline = patience(&source).map(|time| now.mono + time);
        let member = Member {
            run,
            phase: Phase::Registering {
                request: None,
                deadline,
            },
            token: request.agent_token.as_deref().map(Secret::new),
            spec,
            request,
            born_of: source.invocation().cloned(),
            source,
            agent_id: None,
            pid: None,
            in_flight: None,
            stalled: None,
            dialog: None,
            block: Block::default(),
            yielding: Yielding::default(),
            again_at: None,
            took: std::collections::VecDeque::new(),
            told_blocked: false,
            state: ("working", now.wall),
            flush_left: 0,
            ready: false,
            idle_since: None,
            last_activity: now.wall,
            started: now,
            caller,
            releasing: Vec::new(),
            pictures: Vec::new(),
            released: false,
            moved: false,
            backoff: Backoff::default(),
            settles: None,
            registration: AgentRegistration::default(),
            newcomer: false,
            renewal: Renewal::default(),
        };
        self.reader_comes(now, &name, out);
        self.members.insert(name.clone(), member);
        self.ask_for_identity(now, &name, out);
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
                Phase::Registering { .. } => self.registering_due(now, &name, out),
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
        self.block_due(now, name, out);
        self.give_again(now, name, out);
        if let Some(member) = self.members.get_mut(name)
            && member.backoff.until.is_some_and(|at| at <= now.mono)
        {
            member.backoff.until = None;
            self.type_next(now, name, out);
        }
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
        let (agent_id, source) = (member.agent_id.clone(), member.source.clone());
        let newcomer = member.newcomer;
        self.answer_releasers(name, &member.releasing, out);
        self.refuse_spawn(
            member.caller,
            &member.source,
            name.as_str(),
            refusal.clone(),
            out,
        );
        let mut goes_on = false;
        if !member.releasing.is_empty() {
            self.life_over(now, name, End::Released, out);
        } else if self.stopping.is_none() && self.ledger.lives().get(name).is_some() {
            let how = How {
                note: Some(refusal.message.clone()),
                ..How::default()
            };
            goes_on = self.life_goes_on(now, member, &how, out);
        }
        self.await_reader(now, name);
        if let Some(agent_id) = agent_id.filter(|_| !goes_on) {
            self.deregister(agent_id.clone(), Some(name.clone()), out);
            if newcomer {
                self.forget(name, agent_id, out);
            }
        }
        let was_counted = source == SpawnSource::Restart && self.stopping.is_none();
        if was_counted && !self.comes_back_at_once(now, name, out) {
            self.announce(now, out);
        }
        self.leave_if_empty(now, out);
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
        treatment: Treatment::default(),
    })
}
