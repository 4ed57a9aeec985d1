//! From the wish for an agent to its program's start: checks, the command line, and what becomes of a wish that fails.

use std::time::Duration;

use super::agent::{Asking, DEFAULT_CLI, LocalAgent, Renewal, RunPhase, RunState};
use super::agent_registration::{identity_over, patience};
use super::asked_restart::refuse_restarters;
use super::channels::check_channels;
use super::restart::{life_over, never_started, remember_wanted};
use super::sessions::told;
use super::state::{AgentStep, Agents, AgentsView};
use crate::dispatch::notice::{End, Notice};
use crate::domain::{Outcome, RecordForm};
use crate::ids::{AgentName, Ticket};
use crate::known_clis::{self, HeadlessCli};
use crate::msg::{
    AgentSpec, Harness, How, Refusal, RefusalKind, Secret, Size, SpawnSource, Treatment,
};
use crate::wire::event::{BrokerEvent, NestedError};
use crate::wire::local::SpawnRequest;
use crate::words::{self, NO_WORDS};

impl Agents {
    /// Somebody wants an agent.
    pub(in crate::dispatch) fn spawn(
        &mut self,
        step: &mut AgentStep,
        caller: Option<Ticket>,
        request: SpawnRequest,
        source: SpawnSource,
    ) {
        let request = match source.is_own() {
            true => request,
            false => step.config().spawn_defaults.complete(request),
        };
        match self.check_spawn(step.view(), &request, source.is_own()) {
            Ok((spec, request)) => self.enlist(step, caller, request, source, spec),
            Err(refusal) => {
                if source == SpawnSource::CommandLine {
                    never_started(step, &AgentName::new(&request.name), &request, &refusal);
                }
                refuse_spawn(step, caller, &source, &request.name, refusal);
            }
        }
    }

    pub(super) fn check_spawn(
        &self,
        view: AgentsView,
        request: &SpawnRequest,
        own: bool,
    ) -> Result<(AgentSpec, SpawnRequest), Refusal> {
        if view.peers.control.is_stopping() {
            return Err(Refusal::new(
                RefusalKind::Stopping,
                "the broker is stopping; start it again to spawn agents",
            ));
        }
        let name = AgentName::check(&request.name)
            .map_err(|why| Refusal::new(RefusalKind::Invalid, why))?;
        // What the operator wrote down, or what ran before the node had its name, keeps its own.
        let node = view.peers.control.node_name();
        if !own && name.as_str().eq_ignore_ascii_case(node) {
            let text = format!(
                "'{name}' is the name of this node, in which its operator speaks; take another name"
            );
            return Err(Refusal::new(RefusalKind::Invalid, text));
        }
        // Messages are addressed without regard to case, so two names that differ in it alone would be one address.
        if let Some(taken) = self
            .all
            .keys()
            .find(|n| n.as_str().eq_ignore_ascii_case(name.as_str()))
        {
            let text =
                format!("agent '{taken}' already exists; release it first, or take another name");
            return Err(Refusal::new(RefusalKind::NameTaken, text));
        }
        let running = self.all.len() as u64;
        let most = view.peers.actions.max_agents(view.config());
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
        if !own {
            check_channels(&request.channels)?;
        }
        let request = self.with_session(view, request)?;
        let mut spec = spec_of(name, &with_harness(view, &request))
            .map_err(|why| Refusal::new(RefusalKind::Invalid, why))?;
        told(&spec.argv, &request, "new", false)
            .map_err(|why| Refusal::new(RefusalKind::Invalid, why))?;
        spec.treatment = treatment(view, &request, own)?;
        spec.headless = headless(view, &request, &spec)?;
        Ok((with_environment(view, spec), request))
    }

    pub(super) fn enlist(
        &mut self,
        step: &mut AgentStep,
        caller: Option<Ticket>,
        request: SpawnRequest,
        source: SpawnSource,
        spec: AgentSpec,
    ) {
        let name = spec.name.clone();
        let run = self.next_run;
        self.next_run = run.next();
        // Agents of the broker's own wait for the engine as long as it takes; a caller has a client that gives up.
        let deadline = patience(&source).map(|time| step.now.mono + time);
        let mut agent = LocalAgent {
            generation: step.generation(run),
            wanted_argv: spec.argv.clone(),
            run: RunState {
                id: run,
                caller,
                newcomer: false,
                phase: RunPhase::Registering(Asking {
                    deadline,
                    ..Asking::default()
                }),
                source: source.clone(),
            },
            token: request.agent_token.as_deref().map(Secret::new),
            spec,
            request,
            born_of: source.invocation().cloned(),
            agent_id: None,
            state: ("working", step.now.wall),
            late: None,
            trouble: None,
            last_activity: step.now.wall,
            started: step.now,
            releasing: Vec::new(),
            restarters: Vec::new(),
            released: false,
            moved: false,
            has_result: false,
            unjoined: Vec::new(),
            renewal: Renewal::default(),
        };
        agent.begin_session(&step.generation(run), source == SpawnSource::Restart);
        if source == SpawnSource::CommandLine && step.config().declares(&name) {
            // From now on its policy decides what a failure means, also in the next broker.
            remember_wanted(step, &name, &agent.request);
        }
        self.all.insert(name.clone(), agent);
        step.notice(Notice::AgentCame(name.clone()));
        self.ask_for_identity(step, &name);
    }

    /// The spawn is over before the program ran.
    pub(in crate::dispatch) fn spawn_failed(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        refusal: &Refusal,
    ) {
        let Some(mut agent) = self.all.remove(name) else {
            return;
        };
        self.goes_unheard(step, &agent);
        refuse_restarters(step, &mut agent, refusal);
        let agent_id = agent.agent_id.clone();
        let (newcomer, source) = (agent.run.newcomer, agent.run.source.clone());
        if !agent.releasing.is_empty() {
            self.released(step, name, &agent.releasing);
        }
        refuse_spawn(
            step,
            agent.run.caller,
            &source,
            name.as_str(),
            refusal.clone(),
        );
        let stopping = step.peers.control.is_stopping();
        let mut goes_on = false;
        if !agent.releasing.is_empty() {
            life_over(step, name, End::Released, None);
        } else if !stopping && step.ledger().lives().get(name).is_some() {
            let how = How {
                note: Some(refusal.message.clone()),
                ..How::default()
            };
            goes_on = self.life_goes_on(step, agent, &how);
        } else if !stopping && source == SpawnSource::CommandLine {
            never_started(step, name, &agent.request, refusal);
        }
        if !goes_on {
            step.notice(Notice::AgentGone(name.clone()));
        }
        if let Some(agent_id) = agent_id.filter(|_| !goes_on) {
            identity_over(step, name, agent_id, newcomer);
        }
        let was_counted = source == SpawnSource::Restart && !stopping;
        if was_counted && !self.comes_back_at_once(step, name) {
            step.notice(Notice::RosterChanged);
        }
    }
}

fn refuse_spawn(
    step: &mut AgentStep,
    caller: Option<Ticket>,
    source: &SpawnSource,
    name: &str,
    refusal: Refusal,
) {
    log::warn!(event = "worker_error", agent:% = name; "agent {name:?} was not started: {}", refusal.message);
    step.count().agents_refused += 1;
    let event = BrokerEvent::WorkerError {
        name: AgentName::new(name),
        code: "spawn_failed".into(),
        message: refusal.message.clone(),
        error: NestedError {
            code: "spawn_failed".into(),
            message: refusal.message.clone(),
            retryable: refusal.kind == RefusalKind::Engine,
        },
    };
    step.publish(event);
    if let SpawnSource::Invocation(id) = source {
        let word = match refusal.kind {
            RefusalKind::NameTaken => "spawn_agent_name_in_use".to_owned(),
            _ => format!("spawn_failed: {}", refusal.message),
        };
        step.notice(Notice::InvocationOver(id.clone(), Outcome::Error(word)));
    }
    if let Some(ticket) = caller {
        step.reply(ticket, Err(refusal));
    }
}

/// As the wish says, else as the operator wrote it down for the program of that name.
fn treatment(view: AgentsView, request: &SpawnRequest, own: bool) -> Result<Treatment, Refusal> {
    let harness = harness_of(view, request);
    let mut treatment = harness.map(|h| h.treatment.clone()).unwrap_or_default();
    if let Some(profile) = &request.profile {
        if !own && !view.config().profiles.contains(profile) {
            let known: Vec<&str> = view.config().profiles.iter().map(String::as_str).collect();
            let text = format!(
                "no profile is named '{profile}'; there are {}",
                known.join(", ")
            );
            return Err(Refusal::new(RefusalKind::Invalid, text));
        }
        treatment.profile = Some(profile.clone());
    }
    // Tools without a token would speak for nobody.
    treatment.tools = match request.skip_relay_prompt {
        true => Some(false),
        false => request.mcp.or(treatment.tools),
    };
    if let Some(word) = &request.record {
        treatment.record = Some(RecordForm::of(word).ok_or_else(|| {
            let known = RecordForm::WORDS.join(", ");
            let text = format!("record is '{word}', which is none of {known}");
            Refusal::new(RefusalKind::Invalid, text)
        })?);
    }
    Ok(treatment)
}

/// As what kind of program it runs, if it is to do without a terminal.
fn headless(
    view: AgentsView,
    request: &SpawnRequest,
    spec: &AgentSpec,
) -> Result<Option<HeadlessCli>, Refusal> {
    let by_harness = harness_of(view, request).is_some_and(|harness| harness.headless);
    if !request.wants_headless().unwrap_or(by_harness) {
        return Ok(None);
    }
    let program = known_clis::started(&spec.argv).0;
    let profile = spec.treatment.profile.as_deref();
    let cli = profile.and_then(HeadlessCli::named);
    let cli = cli.or_else(|| HeadlessCli::named(program));
    cli.map(Some).ok_or_else(|| {
        let text = format!(
            "nothing is known of how '{program}' takes messages without a terminal; claude and opencode do (a program that is one \
             of them under another name is said so by its profile)"
        );
        Refusal::new(RefusalKind::Unsupported, text)
    })
}

/// The operator's description of the program that is named, unless another one is to be started under its name.
fn harness_of<'a>(view: AgentsView<'a>, request: &SpawnRequest) -> Option<&'a Harness> {
    let words = shell_words::split(request.cli.as_deref()?).ok()?;
    let harness = view.config().harness_table.get(words.first()?)?;
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
fn with_harness(view: AgentsView, request: &SpawnRequest) -> SpawnRequest {
    let mut wish = request.clone();
    let mut config = wish.harness_config.take().unwrap_or_default();
    if config.command.is_none()
        && let Some(harness) = harness_of(view, request)
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
fn with_environment(view: AgentsView, mut spec: AgentSpec) -> AgentSpec {
    let argv = spec.argv.clone();
    let mut add = |key: &str, value: &str| {
        spec.env
            .entry(key.to_owned())
            .or_insert_with(|| value.to_owned());
    };
    for (key, value) in known_clis::environment(&argv) {
        add(key, value);
    }
    add("RELAY_BASE_URL", &view.config().engine_url);
    add("RELAY_BROKER_STATE_DIR", &view.config().state_dir);
    if let Some(workspace) = &view.config().workspace_id {
        add("RELAY_WORKSPACE_ID", workspace);
    }
    spec
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
                .unwrap_or(DEFAULT_CLI);
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
        env_allow: request.env_allow.clone(),
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
        headless: None,
    })
}
