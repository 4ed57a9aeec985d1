//! The agents that start with the broker: those of `--agent`, and those that the file declares.

use std::path::Path;

use super::error::ConfigError;
use super::flags::Flags;
use crate::ids::AgentName;
use crate::wire::local::SpawnRequest;

const AGENT: &str = "--agent";

/// Those of the command line and those that the file at `path` declares, and what is wrong with them.
pub(super) fn agents(
    flags: &Flags,
    declared: Vec<SpawnRequest>,
    path: Option<&Path>,
) -> (Vec<SpawnRequest>, Vec<ConfigError>) {
    let (mut agents, mut wrong) = (Vec::new(), Vec::new());
    for text in &flags.agents {
        let checked = agent(text).and_then(|agent| {
            unlike(&agent, &agents, &declared, path)?;
            Ok(agent)
        });
        match checked {
            Ok(agent) => agents.push(agent),
            Err(e) => wrong.push(e),
        }
    }
    agents.extend(declared);
    if wrong.is_empty() {
        wrong.extend(miscounted(flags, agents.len() as u64));
    }
    (agents, wrong)
}

/// `NAME=CMD`.
fn agent(text: &str) -> Result<SpawnRequest, ConfigError> {
    let wrong = |what: String| ConfigError::of(AGENT, what);
    let (name, command) = text.split_once('=').ok_or_else(|| {
        wrong(format!(
            "--agent {text:?} is not NAME=CMD; for example --agent ada='claude'"
        ))
    })?;
    let name = AgentName::check(name).map_err(|e| wrong(format!("--agent: {e}")))?;
    match shell_words::split(command) {
        Ok(words) if words.first().is_some_and(|word| !word.is_empty()) => Ok(SpawnRequest {
            name: name.as_str().to_owned(),
            cli: Some(command.to_owned()),
            ..SpawnRequest::default()
        }),
        Ok(_) => Err(wrong(format!(
            "--agent {name} has no command; write --agent {name}='COMMAND'"
        ))),
        Err(_) => Err(wrong(format!(
            "--agent {name}: the command {command:?} has an open quote; close it"
        ))),
    }
}

/// Names are unique, on the command line and in the file.
fn unlike(
    agent: &SpawnRequest,
    others: &[SpawnRequest],
    declared: &[SpawnRequest],
    path: Option<&Path>,
) -> Result<(), ConfigError> {
    if others.iter().any(|other| other.name == agent.name) {
        let what = format!(
            "--agent names {:?} twice; names are unique, so rename one",
            agent.name
        );
        return Err(ConfigError::of(AGENT, what));
    }
    let same = |other: &&SpawnRequest| other.name.eq_ignore_ascii_case(&agent.name);
    match (declared.iter().find(same), path) {
        (Some(other), Some(path)) => Err(ConfigError::of(
            AGENT,
            format!(
                "--agent {}=… and [agent.{}] of {} both start an agent of that name; drop one of the two",
                agent.name,
                other.name,
                path.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether there are as many as the other flags need, and as they allow.
fn miscounted(flags: &Flags, count: u64) -> Option<ConfigError> {
    if flags.exit_with_agents.is_some() && count == 0 {
        return Some(ConfigError::of(
            "--exit-with-agents",
            "--exit-with-agents waits for the end of agents that start with the broker, and there are none; add --agent \
             NAME=CMD, or [agent.NAME] in the configuration file",
        ));
    }
    let most = flags.max_agents.filter(|most| (1..count).contains(most))?;
    Some(ConfigError::of(
        "--max-agents",
        format!(
            "{count} agents are to start with the broker, and --max-agents {most} leaves no room for all of them; raise it, \
             or drop some"
        ),
    ))
}
