//! One agent: what lasts from the wish for it to its end, and what one run of its program has. A restart makes another
//! [`RunState`], so nothing of the run before is left in the next.

use std::time::Duration;

use crate::ids::{AgentId, AgentName, Generation, InvocationId, JobId, Run, Ticket};
use crate::msg::{AgentSpec, Secret, SpawnSource};
use crate::time::{Mono, Now, Wall, soonest};
use crate::wire::event::{Dialog, ProgramFacts};
use crate::wire::local::SpawnRequest;
use crate::wire::up::InventoryMember;

/// What is started when nobody says what.
pub(super) const DEFAULT_CLI: &str = "claude";
/// Whom clients see behind agents that no agent has started.
const PARENT: &str = "Dashboard";

/// One agent of this node, from the wish to its end.
#[derive(Debug)]
pub(super) struct LocalAgent {
    /// Which life of the name.
    pub(super) generation: Generation,
    pub(super) run: RunState,
    pub(super) spec: AgentSpec,
    /// Its command line as it was wanted, without what its program is told of a model or session.
    pub(super) wanted_argv: Vec<String>,
    pub(super) request: SpawnRequest,
    /// The engine's invocation that it was first started for; the engine knows it by that after a restart too.
    pub(super) born_of: Option<InvocationId>,
    pub(super) agent_id: Option<AgentId>,
    pub(super) token: Option<Secret>,
    /// How it was when its thread last reported, and since when.
    pub(super) state: (&'static str, Wall),
    /// How far the asking for an identity has come of one whose program runs without.
    pub(super) late: Option<Asking>,
    /// Why it does not run, while it waits for another start, or runs unknown to the engine.
    pub(super) trouble: Option<String>,
    pub(super) last_activity: Wall,
    /// When it was last wanted or its program last started.
    pub(super) started: Now,
    /// Who waits for the release.
    pub(super) releasing: Vec<Releaser>,
    /// Who waits for a restart, and how the agent was when it was asked for.
    pub(super) restarters: Vec<(Ticket, RestartedFrom)>,
    pub(super) released: bool,
    /// The engine has it on another node.
    pub(super) moved: bool,
    /// It has handed in its last result in this life.
    pub(super) has_result: bool,
    /// Channels that it was to join, and that the engine could not let it into.
    pub(super) unjoined: Vec<String>,
    /// How far its identity has been asked for anew while its program runs.
    pub(super) renewal: Renewal,
}

/// One run of an agent's program.
#[derive(Debug)]
pub(super) struct RunState {
    pub(super) id: Run,
    pub(super) source: SpawnSource,
    /// Who waits for the spawn.
    pub(super) caller: Option<Ticket>,
    /// This node had no agent of its name before.
    pub(super) newcomer: bool,
    pub(super) phase: RunPhase,
}

/// How far a run has come, with what only a run that has come so far has.
#[derive(Debug)]
pub(super) enum RunPhase {
    /// It wants an identity of the engine's.
    Registering(Asking),
    /// Its thread starts the program.
    Starting,
    /// The program runs.
    Running(Program),
    /// The program of the run before ended; this one starts then.
    Cooling { until: Mono },
}

/// How far the asking for an identity has come.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// The request on the link that waits for an answer.
    pub(super) request: Option<String>,
    /// When it has waited long enough.
    pub(super) deadline: Option<Mono>,
    /// The call that asks by HTTP.
    pub(super) job: Option<JobId>,
    /// When to ask by HTTP, if there is no link until then.
    pub(super) http_at: Option<Mono>,
    /// The name exists, and we have asked to have it back.
    pub(super) recovering: bool,
    /// There was nobody to have back, so it is asked for as a new one.
    pub(super) anew: bool,
    /// When to ask again an engine that has no place until another spawn of its own is over.
    pub(super) again_at: Option<Mono>,
}

/// A program that runs in its terminal.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) pid: u32,
    /// It was hung up on.
    pub(super) leaving: bool,
    /// Its terminal takes messages.
    pub(super) ready: bool,
    /// What stands in its terminal instead of its input line.
    pub(super) dialog: Option<Dialog>,
    pub(super) idle_since: Option<Wall>,
    /// Who waits for an answer of its thread.
    pub(super) waiting: Vec<Ticket>,
    /// Until then an end means that the program did not start; the engine waits for the answer that long.
    pub(super) settles: Option<Mono>,
}

/// Who waits for a release.
#[derive(Clone, Debug)]
pub(super) enum Releaser {
    Caller(Ticket),
    Invocation(InvocationId),
    /// Nobody: its task is done, and it was started for that alone.
    Itself,
}

/// How an agent was when somebody wanted it started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestartedFrom {
    /// Its program ran.
    Running,
    /// Its program was to be started again later.
    Cooling,
    /// Its program was being started.
    Starting,
    /// Its life had ended.
    Departed,
}

impl RestartedFrom {
    /// In the words clients know.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Cooling => "restarting",
            Self::Starting => "starting",
            Self::Departed => "departed",
        }
    }
}

/// A request of an agent that has gone since: its answer may still come on this link.
#[derive(Debug)]
pub(super) struct Unheard {
    pub(super) name: AgentName,
    /// When no answer is expected any more.
    pub(super) until: Mono,
}

/// What is known of an identity that is asked for anew.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// The request that waits for an answer.
    pub(super) request: Option<String>,
    /// Why, in the engine's word.
    pub(super) code: Option<String>,
    /// How often on this link.
    pub(super) tries: u8,
}

impl RunState {
    /// The run that follows another of the same agent, some time from now.
    pub(super) fn again(id: Run, until: Mono) -> Self {
        Self {
            id,
            source: SpawnSource::Restart,
            caller: None,
            newcomer: false,
            phase: RunPhase::Cooling { until },
        }
    }
}

impl Program {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            leaving: false,
            ready: false,
            dialog: None,
            idle_since: None,
            waiting: Vec::new(),
            settles: None,
        }
    }
}

impl Renewal {
    pub(super) fn is_under_way(&self) -> bool {
        self.request.is_some()
    }
}

impl LocalAgent {
    /// Who started it, as clients see it: another agent, or the one word for everybody else.
    pub(super) fn parent(&self) -> &str {
        self.request
            .parent
            .as_ref()
            .map_or(PARENT, AgentName::as_str)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let of_phase = match &self.run.phase {
            RunPhase::Cooling { until } => Some(*until),
            RunPhase::Running(program) => program.settles.filter(|_| !program.leaving),
            RunPhase::Registering(_) | RunPhase::Starting => None,
        };
        soonest(of_phase, self.asking_due())
    }

    /// When to ask for an identity again, or to give up.
    pub(super) fn asking_due(&self) -> Option<Mono> {
        let asking = self.asking()?;
        soonest(asking.again_at, soonest(asking.deadline, asking.http_at))
    }

    pub(super) fn asking(&self) -> Option<&Asking> {
        match &self.run.phase {
            RunPhase::Registering(asking) => Some(asking),
            RunPhase::Starting | RunPhase::Running(_) => self.late.as_ref(),
            RunPhase::Cooling { .. } => None,
        }
    }

    pub(super) fn asking_mut(&mut self) -> Option<&mut Asking> {
        match &mut self.run.phase {
            RunPhase::Registering(asking) => Some(asking),
            RunPhase::Starting | RunPhase::Running(_) => self.late.as_mut(),
            RunPhase::Cooling { .. } => None,
        }
    }

    pub(super) fn program(&self) -> Option<&Program> {
        match &self.run.phase {
            RunPhase::Running(program) => Some(program),
            RunPhase::Registering(_) | RunPhase::Starting | RunPhase::Cooling { .. } => None,
        }
    }

    pub(super) fn program_mut(&mut self) -> Option<&mut Program> {
        match &mut self.run.phase {
            RunPhase::Running(program) => Some(program),
            RunPhase::Registering(_) | RunPhase::Starting | RunPhase::Cooling { .. } => None,
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.program().map(|program| program.pid)
    }

    /// Whether the engine should count it: for as long as its process runs.
    pub(super) fn is_live(&self) -> bool {
        self.program().is_some()
    }

    /// Whether its program runs and was not hung up on.
    pub(super) fn is_running(&self) -> bool {
        self.program().is_some_and(|program| !program.leaving)
    }

    /// The program's own session, as the engine knows it.
    pub(super) fn session_ref(&self) -> Option<String> {
        let SpawnRequest {
            last_session,
            session_id,
            harness_config,
            ..
        } = &self.request;
        let given = harness_config.as_ref().and_then(|h| h.session_id.as_ref());
        last_session
            .as_ref()
            .or(session_id.as_ref())
            .or(given)
            .cloned()
    }

    /// The program that was asked for, in its caller's words; the command that was given where nobody named one.
    pub(super) fn cli(&self) -> String {
        let asked = self
            .request
            .cli
            .clone()
            .filter(|cli| !cli.trim().is_empty());
        let command = || self.request.harness_config.as_ref()?.command.clone();
        asked
            .or_else(command)
            .unwrap_or_else(|| DEFAULT_CLI.to_owned())
    }

    /// In the words clients know: whether it has a terminal.
    pub(super) fn runtime(&self) -> &'static str {
        match self.spec.headless {
            Some(_) => "headless",
            None => "pty",
        }
    }

    /// As events tell of its program.
    pub(super) fn facts(&self) -> ProgramFacts {
        ProgramFacts {
            cli: self.cli(),
            command: self.spec.argv.join(" "),
            model: self.request.model.clone(),
            session_id: self.session_ref(),
            provider: None,
            generation: Some(self.generation.clone()),
        }
    }

    /// As the engine is told of it, once it has an identity.
    pub(super) fn inventory_member(&self, name: &AgentName) -> Option<InventoryMember> {
        Some(InventoryMember {
            agent_id: self.agent_id.clone()?,
            name: name.clone(),
            invocation_id: self.born_of.clone(),
            session_ref: self.session_ref(),
        })
    }

    /// How long until its program is started again, while it waits for that.
    pub(super) fn next_start(&self, now: Mono) -> Option<Duration> {
        match &self.run.phase {
            RunPhase::Cooling { until } => Some(until.since(now)),
            RunPhase::Registering(_) | RunPhase::Starting | RunPhase::Running(_) => None,
        }
    }

    // ---- as it is shown -----------------------------------------------------------------------------------------

    /// In the words clients know.
    pub(super) fn current_state(&self, stalled: bool, waiting: u64) -> &'static str {
        let program = self.program();
        let dialog = program.is_some_and(|program| program.dialog.is_some());
        match (program.and_then(|program| program.idle_since), waiting) {
            _ if stalled => "blocked_on_send",
            _ if dialog && waiting > 0 => "blocked_on_send",
            (None, _) => "working",
            (Some(_), 0) => "idle",
            (Some(_), _) => "blocked_on_send",
        }
    }

    /// Since when it is as it is.
    pub(super) fn state_since(&self, now: Now, stalled: bool, waiting: u64) -> Wall {
        let (word, since) = self.state;
        let idle_since = self.program().and_then(|program| program.idle_since);
        match (word == self.current_state(stalled, waiting), idle_since) {
            (true, _) => since,
            (false, Some(idle)) if waiting == 0 => idle,
            (false, _) => now.wall,
        }
    }

    pub(super) fn phase_word(&self, stalled: bool) -> &'static str {
        match &self.run.phase {
            RunPhase::Running(program) if program.leaving => "stopping",
            RunPhase::Running(program) if stalled || program.dialog.is_some() => "blocked",
            RunPhase::Running(program) if program.ready => "ready",
            RunPhase::Registering(_) | RunPhase::Starting | RunPhase::Running(_) => "starting",
            RunPhase::Cooling { .. } => "restarting",
        }
    }
}
