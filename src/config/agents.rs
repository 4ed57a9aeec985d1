//! `[agent.NAME]` of the configuration file: agents that the operator declares. Each becomes the same wish that
//! `up --agent` makes, with a policy that starts it again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::checks;
use super::document::TableFaults;
use crate::agent::running;
use crate::ids::AgentName;
use crate::time::millis;
use crate::wire::local::{RestartPolicy, RestartWhen, SpawnRequest};
use crate::words;

/// How many starts in a row may come to nothing, of a declared agent and of one that is spawned by hand. With the waits
/// below, the last is tried half a minute after the first.
pub const FAILURES: u32 = 5;
/// Between an end and the first new start; doubles with each failure in a row.
const COOLDOWN: Duration = Duration::from_secs(2);
/// What it doubles up to, unless more is asked for.
pub const COOLDOWN_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentTable {
    command: Option<String>,
    harness: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    cwd: Option<PathBuf>,
    #[serde(default)]
    env: AgentEnv,
    env_allow: Option<Vec<String>>,
    restart: Option<RestartWord>,
    max_restarts: Option<u32>,
    max_failures: Option<u32>,
    cooldown: Option<String>,
    task: Option<String>,
    profile: Option<String>,
    headless: Option<bool>,
    record: Option<String>,
}

/// After which ends a declared agent is started again.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RestartWord {
    Never,
    #[default]
    OnFailure,
    Always,
}

/// What an agent finds in its environment.
enum AgentEnv {
    /// That of the broker, and these.
    With(BTreeMap<String, String>),
    /// Nothing of the broker's but the usual, and what is allowed.
    Clean,
}

impl Default for AgentEnv {
    fn default() -> Self {
        Self::With(BTreeMap::new())
    }
}

impl<'de> Deserialize<'de> for AgentEnv {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(EnvVisitor)
    }
}

struct EnvVisitor;

impl<'de> Visitor<'de> for EnvVisitor {
    type Value = AgentEnv;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a table such as { STAGE = \"test\" }, or \"clean\"")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<AgentEnv, E> {
        match word {
            "clean" => Ok(AgentEnv::Clean),
            _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<AgentEnv, M::Error> {
        let table = BTreeMap::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(AgentEnv::With(table))
    }
}

/// What else the file says that a declaration may name.
pub(super) struct Around<'a> {
    /// The names of the harnesses of the file.
    pub(super) harnesses: &'a [String],
    /// The names of all profiles.
    pub(super) profiles: &'a [String],
    /// The file's own folder.
    pub(super) folder: &'a Path,
}

/// The wish behind a declaration; none, and the faults, when a key is missing, cannot be meant, contradicts another, or could
/// have no effect.
pub(super) fn wish(
    name: &str,
    table: AgentTable,
    around: &Around,
    faults: &mut TableFaults,
) -> Option<SpawnRequest> {
    if let Err(why) = AgentName::check(name) {
        faults.table(format!("is no name: {why}"));
    }
    let restart_policy = policy(&table, faults);
    let env_allow = env_allow(&table, faults);
    let cli = program(&table, around.harnesses, faults);
    checks::words("args", &table.args, faults);
    check_env(&table.env, faults);
    check_task(table.task.as_deref(), faults);
    checks::profile(table.profile.as_ref(), around.profiles, faults);
    if !faults.none() {
        return None;
    }
    // Paths mean what they mean beside the file, wherever the broker was started.
    let cwd = table.cwd.map(|dir| around.folder.join(dir));
    Some(SpawnRequest {
        name: name.to_owned(),
        cli,
        args: table.args,
        cwd: cwd.map(|dir| dir.to_string_lossy().into_owned()),
        task: table.task,
        restart_policy,
        profile: table.profile,
        transport: table
            .headless
            .map(|yes| if yes { "headless" } else { "pty" }.to_owned()),
        record: table.record,
        env: match table.env {
            AgentEnv::With(env) => env,
            AgentEnv::Clean => BTreeMap::new(),
        },
        env_allow,
        ..SpawnRequest::default()
    })
}

/// Says so where the name could be taken for that of another: messages are addressed without regard to case.
pub(super) fn unlike(others: &[SpawnRequest], name: &str, faults: &mut TableFaults) {
    let same = |other: &&SpawnRequest| other.name != name && other.name.eq_ignore_ascii_case(name);
    if let Some(other) = others.iter().find(same) {
        faults.table(format!(
            "and [agent.{}] are one address, because messages do not tell upper from lower case; rename one of them",
            other.name
        ));
    }
}

/// Which program it is: a command line, or a harness by its name.
fn program(table: &AgentTable, harnesses: &[String], faults: &mut TableFaults) -> Option<String> {
    match (&table.command, &table.harness) {
        (Some(_), Some(_)) => {
            faults.key(
                "harness",
                "has both command and harness; drop one of the two",
            );
            None
        }
        (None, None) => {
            faults.table(
                "names no program; write command = \"claude\", or harness = and the name of a [harness.NAME]",
            );
            None
        }
        (Some(command), None) => {
            check_command(command, faults);
            Some(command.clone())
        }
        (None, Some(harness)) => {
            if !harnesses.contains(harness) {
                let known = match harnesses.is_empty() {
                    true => "there is no [harness.NAME] in this file".to_owned(),
                    false => format!("there is {}", harnesses.join(", ")),
                };
                let what = format!(
                    "harness = {harness:?} names no harness ({known}); a program goes into command"
                );
                faults.key("harness", what);
            }
            Some(shell_words::quote(harness).into_owned())
        }
    }
}

fn check_command(command: &str, faults: &mut TableFaults) {
    checks::words("command", &[command.to_owned()], faults);
    match shell_words::split(command) {
        Ok(words) if words.first().is_some_and(|word| !word.is_empty()) => {}
        Ok(_) => faults.key(
            "command",
            "has an empty command; write command = \"claude\"",
        ),
        Err(_) => faults.key(
            "command",
            format!("command = {command:?} has an open quote; close it"),
        ),
    }
}

/// How it is started again.
fn policy(table: &AgentTable, faults: &mut TableFaults) -> Option<RestartPolicy> {
    let when = match table.restart.unwrap_or_default() {
        RestartWord::OnFailure => RestartWhen::OnFailure,
        RestartWord::Always => RestartWhen::Always,
        RestartWord::Never => {
            let useless = [
                ("max_restarts", table.max_restarts.is_some()),
                ("max_failures", table.max_failures.is_some()),
                ("cooldown", table.cooldown.is_some()),
            ];
            for (key, _) in useless.into_iter().filter(|(_, given)| *given) {
                faults.key(
                    key,
                    "max_restarts, max_failures and cooldown say how it is started again, and restart = \"never\" says that \
                     it is not; drop them, or write restart = \"on-failure\"",
                );
            }
            return None;
        }
    };
    let cooldown = checks::span(table.cooldown.as_deref()).unwrap_or(COOLDOWN);
    Some(RestartPolicy {
        enabled: true,
        when,
        max_restarts: table.max_restarts.unwrap_or(0),
        cooldown_ms: millis(cooldown),
        max_cooldown_ms: Some(millis(COOLDOWN_MAX.max(cooldown))),
        max_consecutive_failures: table.max_failures.unwrap_or(FAILURES),
    })
}

/// Which variables of the broker's it keeps, if not all.
fn env_allow(table: &AgentTable, faults: &mut TableFaults) -> Option<Vec<String>> {
    let allowed = table.env_allow.as_deref();
    match (&table.env, allowed) {
        (AgentEnv::With(_), None) => return None,
        (AgentEnv::With(_), Some(_)) => {
            faults.key(
                "env_allow",
                "env_allow has no effect, because all of the broker's environment is kept; add env = \"clean\"",
            );
            return None;
        }
        (AgentEnv::Clean, _) => {}
    }
    let names = allowed.unwrap_or_default();
    for (index, name) in names.iter().enumerate() {
        let bare = name.trim_end_matches('*');
        if bare.is_empty() || bare.contains(['=', '*', '\0']) {
            faults.within(
                &["env_allow", &index.to_string()],
                format!(
                    "env_allow has {name:?}, which is no variable; write its name, or the beginning of several and a *, such \
                     as \"ANTHROPIC_*\""
                ),
            );
        }
    }
    Some(names.to_vec())
}

/// What is set can be set, and has an effect.
fn check_env(env: &AgentEnv, faults: &mut TableFaults) {
    let AgentEnv::With(env) = env else { return };
    checks::variables(env, faults);
    if env.contains_key(running::NAME) {
        faults.within(
            &["env", running::NAME],
            format!(
                "env has {}, which has no effect: the broker sets it for each agent; drop it",
                running::NAME
            ),
        );
    }
}

/// The task has words that can be typed.
fn check_task(task: Option<&str>, faults: &mut TableFaults) {
    let Some(task) = task else { return };
    if task.contains('\0') {
        faults.key(
            "task",
            "task holds a NUL byte, which nobody can type; drop the byte",
        );
    } else if task.trim().is_empty() || words::is_nothing_but_controls(task) {
        faults.key(
            "task",
            "task has no words; drop it, or say what to do first",
        );
    }
}
