//! Sessions that agents' programs keep themselves, and the models they use: said on the command line where it is known how,
//! and remembered, so that another agent can go on with one after its agent's end.

use super::agent::LocalAgent;
use super::state::{AgentStep, Agents, AgentsView};
use crate::dispatch::notice::Notice;
use crate::ids::{AgentName, Generation};
use crate::known_clis::{self, CliLine, SessionWish};
use crate::msg::{Refusal, RefusalKind};
use crate::wire::local::SpawnRequest;

impl Agents {
    /// The wish with the session that it wants to go on with: by the name of the agent that had it, whose program, with
    /// its model, and folder it then takes over if it names none of its own.
    pub(super) fn with_session(
        &self,
        view: AgentsView,
        request: &SpawnRequest,
    ) -> Result<SpawnRequest, Refusal> {
        let mut wish = request.clone();
        let Some(word) = wish.resume.clone().or_else(|| wish.continue_from.clone()) else {
            return Ok(wish);
        };
        let bearer = AgentName::meant(&word);
        let starts = wish.cli.is_some()
            || wish
                .harness_config
                .as_ref()
                .is_some_and(|h| h.command.is_some());
        let Some(session) = view.ledger().lives().session(&bearer) else {
            // The id of a session says nothing of the program that it is one of.
            return match wish.resume.is_some() && !starts {
                true => Err(Refusal::new(
                    RefusalKind::Invalid,
                    format!(
                        "no agent '{bearer}' left a session here; if that is a session's own id, name its program too"
                    ),
                )),
                false => Ok(wish),
            };
        };
        if self.all.contains_key(&bearer) {
            let text = format!("agent '{bearer}' still runs with its session; release it first");
            return Err(Refusal::new(RefusalKind::Invalid, text));
        }
        wish.resume = Some(session.id.clone());
        wish.continue_from = None;
        if !starts {
            wish.cli.clone_from(&session.cli);
            wish.transport = wish.transport.or_else(|| session.transport.clone());
            wish.model = wish.model.or_else(|| session.model.clone());
        }
        if wish.cwd.is_none() {
            wish.cwd.clone_from(&session.cwd);
        }
        Ok(wish)
    }

    /// What is typed to have an agent's program go on with another model, which is shown from then on.
    pub(in crate::dispatch) fn change_model(
        &mut self,
        name: &AgentName,
        model: &str,
    ) -> Result<String, Refusal> {
        let unknown = self.unknown_agent(name);
        let Some(agent) = self.all.get_mut(name) else {
            return Err(unknown);
        };
        // What a person types there is a message like any other without a terminal.
        let text = match agent.spec.headless {
            None => known_clis::model_command(&agent.wanted_argv, model),
            Some(_) => Err(format!(
                "'{name}' has no terminal to type another model into; release it and go on with its session: `relay-broker \
                 spawn {name} --resume {name} --model {model}`"
            )),
        };
        let text = text.map_err(|why| Refusal::new(RefusalKind::Unsupported, why))?;
        agent.request.model = Some(model.to_owned());
        Ok(text)
    }

    /// The program itself says which session it has.
    pub(in crate::dispatch) fn session_shown(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        id: String,
    ) {
        if let Some(agent) = self.all.get_mut(name)
            && agent.request.last_session.as_ref() != Some(&id)
        {
            agent.request.last_session = Some(id);
            self.note_session(step, name);
            step.notice(Notice::RosterChanged);
        }
    }

    /// Writes down which session an agent's program has now, if that is another one than before.
    pub(super) fn note_session(&self, step: &mut AgentStep, name: &AgentName) {
        let (Some(agent), Some(life)) = (self.all.get(name), step.ledger().lives().get(name))
        else {
            return;
        };
        if life.request.last_session != agent.request.last_session {
            let request = agent.request.clone();
            super::restart::remember(step, name, &request);
        }
    }
}

impl LocalAgent {
    /// Says on the command line of the next run which model and session its program is to use. One that is started again
    /// goes on with a session that was asked for; any other begins one of its own.
    pub(super) fn begin_session(&mut self, id: &Generation, again: bool) {
        let told = told(&self.wanted_argv, &self.request, id.as_str(), again);
        // That it can be said was seen when the agent was wanted.
        let told = told.unwrap_or_else(|_| CliLine {
            argv: self.wanted_argv.clone(),
            ..CliLine::default()
        });
        self.spec.argv = match self.spec.headless {
            Some(cli) => cli.line(&told.argv),
            None => told.argv,
        };
        self.request.last_session = told.session;
    }

    /// What its program was not told of what was wanted, for people.
    pub(super) fn unsaid(&self) -> Option<String> {
        let told = told(&self.wanted_argv, &self.request, "new", false).ok()?;
        let afresh = self.request.continue_from.as_ref();
        let afresh =
            afresh.map(|name| format!("no session of '{name}' is known, so it starts afresh"));
        let unsaid: Vec<String> = told.unsaid.into_iter().chain(afresh).collect();
        (!unsaid.is_empty()).then(|| unsaid.join("; "))
    }
}

/// The command line with model and session. Who gives a whole command of his own has said in it what there is to say.
pub(super) fn told(
    argv: &[String],
    request: &SpawnRequest,
    id: &str,
    again: bool,
) -> Result<CliLine, String> {
    let own = request
        .harness_config
        .as_ref()
        .is_some_and(|h| h.command.is_some());
    if own {
        return Ok(CliLine {
            argv: argv.to_vec(),
            ..CliLine::default()
        });
    }
    let wish = match (&request.resume, &request.session_id) {
        (Some(session), _) => SessionWish::Resume(session.clone()),
        (None, Some(session)) if again => SessionWish::Resume(session.clone()),
        (None, Some(session)) => SessionWish::Begin(session.clone()),
        (None, None) => SessionWish::Any(id.to_owned()),
    };
    known_clis::tell(argv, request.model.as_deref(), wish)
}
