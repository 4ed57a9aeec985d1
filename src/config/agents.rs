//! `[agent.NAME]` of the configuration file: agents that the operator declares. Each becomes the same wish that
//! `up --agent` makes, with a policy that starts it again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::agent::profiles::Profiles;
use crate::agent::running;
use crate::ids::AgentName;
use crate::msg::Harness;
use crate::time::millis;
use crate::wire::local::{RestartPolicy, RestartWhen, SpawnRequest};
use crate::words;

/// How many starts in a row may come to nothing. With the waits below, the last is tried half a minute after the first.
const FAILURES: u32 = 5;
/// Between an end and the first new start; doubles with each failure in a row.
const COOLDOWN: Duration = Duration::from_secs(2);
/// What it doubles up to, unless more is asked for.
const COOLDOWN_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentTable {
    command: Option<Spanned<String>>,
    harness: Option<Spanned<String>>,
    #[serde(default)]
    args: Vec<Spanned<String>>,
    cwd: Option<PathBuf>,
    #[serde(default)]
    env: AgentEnv,
    env_allow: Option<Spanned<Vec<Spanned<String>>>>,
    restart: Option<RestartWord>,
    max_restarts: Option<Spanned<u32>>,
    max_failures: Option<Spanned<u32>>,
    cooldown: Option<Spanned<String>>,
    task: Option<Spanned<String>>,
    profile: Option<Spanned<String>>,
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
    pub(super) harnesses: &'a BTreeMap<String, Harness>,
    pub(super) rows: &'a Profiles,
    /// The file's own folder.
    pub(super) folder: &'a Path,
}

/// What is wrong with a declaration, and where in the file that is said.
pub(super) struct DeclarationFault {
    /// A byte of the file.
    pub(super) at: usize,
    /// One sentence that names the table.
    pub(super) what: String,
}

/// Says of a declaration what is wrong with it.
struct Accuser<'a> {
    name: &'a str,
    /// Where the declaration begins.
    table: usize,
}

impl Accuser<'_> {
    /// The declaration as a whole cannot be meant.
    fn fault(&self, what: impl fmt::Display) -> DeclarationFault {
        self.fault_at(self.table, what)
    }

    /// The value there cannot be meant.
    fn fault_of<T>(&self, value: &Spanned<T>, what: impl fmt::Display) -> DeclarationFault {
        self.fault_at(value.span().start, what)
    }

    fn fault_at(&self, at: usize, what: impl fmt::Display) -> DeclarationFault {
        let what = format!("[agent.{}] {what}", self.name);
        DeclarationFault { at, what }
    }
}

/// The wish behind a declaration.
///
/// # Errors
/// When a key is missing, cannot be meant, contradicts another, or could have no effect.
pub(super) fn wish(
    name: &str,
    table: Spanned<AgentTable>,
    around: &Around,
) -> Result<SpawnRequest, DeclarationFault> {
    let accuser = Accuser {
        name,
        table: table.span().start,
    };
    let table = table.into_inner();
    AgentName::check(name).map_err(|why| accuser.fault(format!("is no name: {why}")))?;
    let restart_policy = policy(&accuser, &table)?;
    let env_allow = env_allow(&accuser, &table)?;
    let cli = program(&accuser, &table, around.harnesses)?;
    check_words(&accuser, &table, around.rows)?;
    // Paths mean what they mean beside the file, wherever the broker was started.
    let cwd = table.cwd.map(|dir| around.folder.join(dir));
    Ok(SpawnRequest {
        name: name.to_owned(),
        cli: Some(cli),
        args: table.args.into_iter().map(Spanned::into_inner).collect(),
        cwd: cwd.map(|dir| dir.to_string_lossy().into_owned()),
        task: table.task.map(Spanned::into_inner),
        restart_policy,
        profile: table.profile.map(Spanned::into_inner),
        env: match table.env {
            AgentEnv::With(env) => env,
            AgentEnv::Clean => BTreeMap::new(),
        },
        env_allow,
        ..SpawnRequest::default()
    })
}

/// The agent, unless its name could be taken for that of another: messages are addressed without regard to case.
pub(super) fn unlike(
    others: &[SpawnRequest],
    agent: SpawnRequest,
    at: usize,
) -> Result<SpawnRequest, DeclarationFault> {
    let same = |other: &&SpawnRequest| other.name.eq_ignore_ascii_case(&agent.name);
    match others.iter().find(same) {
        None => Ok(agent),
        Some(other) => {
            let what = format!(
                "and [agent.{}] are one address, because messages do not tell upper from lower case; rename one of them",
                other.name
            );
            let name = &agent.name;
            Err(Accuser { name, table: at }.fault(what))
        }
    }
}

/// Which program it is: a command line, or a harness by its name.
fn program(
    accuser: &Accuser,
    table: &AgentTable,
    harnesses: &BTreeMap<String, Harness>,
) -> Result<String, DeclarationFault> {
    if let Some(arg) = table.args.iter().find(|arg| arg.get_ref().contains('\0')) {
        return Err(accuser.fault_of(arg, "args holds a NUL byte, which no program can be given"));
    }
    match (&table.command, &table.harness) {
        (Some(_), Some(harness)) => Err(accuser.fault_of(
            harness,
            "has both command and harness; drop one of the two",
        )),
        (None, None) => Err(accuser.fault(
            "names no program; write command = \"claude\", or harness = and the name of a [harness.NAME]",
        )),
        (Some(command), None) => match shell_words::split(command.get_ref()) {
            Ok(words) if words.first().is_some_and(|word| !word.is_empty()) => {
                Ok(command.get_ref().clone())
            }
            Ok(_) => Err(accuser.fault_of(command, "has an empty command")),
            Err(_) => Err(accuser.fault_of(
                command,
                format!("command = {command:?} has an open quote; close it", command = command.get_ref()),
            )),
        },
        (None, Some(harness)) if harnesses.contains_key(harness.get_ref()) => {
            Ok(shell_words::quote(harness.get_ref()).into_owned())
        }
        (None, Some(harness)) => {
            let known: Vec<&str> = harnesses.keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "there is no [harness.NAME] in this file".to_owned(),
                false => format!("there is {}", known.join(", ")),
            };
            let name = harness.get_ref();
            let what = format!("harness = {name:?} names no harness ({known}); a program goes into command");
            Err(accuser.fault_of(harness, what))
        }
    }
}

/// How it is started again.
fn policy(
    accuser: &Accuser,
    table: &AgentTable,
) -> Result<Option<RestartPolicy>, DeclarationFault> {
    let when = match table.restart.unwrap_or_default() {
        RestartWord::OnFailure => RestartWhen::OnFailure,
        RestartWord::Always => RestartWhen::Always,
        RestartWord::Never => {
            let limits = [&table.max_restarts, &table.max_failures];
            let limit = limits.into_iter().flatten().map(|n| n.span().start).next();
            let useless = limit.or(table.cooldown.as_ref().map(|text| text.span().start));
            return match useless {
                None => Ok(None),
                Some(at) => Err(accuser.fault_at(
                    at,
                    "max_restarts, max_failures and cooldown say how it is started again, and restart = \"never\" says that \
                     it is not; drop them, or write restart = \"on-failure\"",
                )),
            };
        }
    };
    let cooldown = match &table.cooldown {
        None => COOLDOWN,
        Some(text) => humantime::parse_duration(text.get_ref()).map_err(|e| {
            let what = format!("cooldown = {:?}: {e}; for example \"2s\"", text.get_ref());
            accuser.fault_of(text, what)
        })?,
    };
    let number = |given: &Option<Spanned<u32>>| given.as_ref().map(|n| *n.get_ref());
    Ok(Some(RestartPolicy {
        enabled: true,
        when,
        max_restarts: number(&table.max_restarts).unwrap_or(0),
        cooldown_ms: millis(cooldown),
        max_cooldown_ms: Some(millis(COOLDOWN_MAX.max(cooldown))),
        max_consecutive_failures: number(&table.max_failures).unwrap_or(FAILURES),
    }))
}

/// Which variables of the broker's it keeps, if not all.
fn env_allow(
    accuser: &Accuser,
    table: &AgentTable,
) -> Result<Option<Vec<String>>, DeclarationFault> {
    match (&table.env, &table.env_allow) {
        (AgentEnv::With(_), None) => Ok(None),
        (AgentEnv::With(_), Some(allowed)) => Err(accuser.fault_of(
            allowed,
            "env_allow has no effect, because all of the broker's environment is kept; add env = \"clean\"",
        )),
        (AgentEnv::Clean, allowed) => {
            let names = allowed.iter().flat_map(|list| list.get_ref());
            let mut kept = Vec::new();
            for name in names {
                let bare = name.get_ref().trim_end_matches('*');
                if bare.is_empty() || bare.contains(['=', '*', '\0']) {
                    let what = format!(
                        "env_allow has {:?}, which is no variable; write its name, or the beginning of several and a *, such \
                         as \"ANTHROPIC_*\"",
                        name.get_ref()
                    );
                    return Err(accuser.fault_of(name, what));
                }
                kept.push(name.get_ref().clone());
            }
            Ok(Some(kept))
        }
    }
}

/// The task has words, and the profile exists.
fn check_words(
    accuser: &Accuser,
    table: &AgentTable,
    rows: &Profiles,
) -> Result<(), DeclarationFault> {
    if let AgentEnv::With(env) = &table.env {
        let is_none = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
        if let Some(name) = env.keys().find(is_none) {
            return Err(accuser.fault(format!("env has {name:?}, which is no variable's name")));
        }
        if env.contains_key(running::NAME) {
            return Err(accuser.fault(format!(
                "env has {}, which has no effect: the broker sets it for each agent",
                running::NAME
            )));
        }
    }
    if let Some(task) = &table.task
        && (task.get_ref().trim().is_empty() || words::is_nothing_but_controls(task.get_ref()))
    {
        return Err(accuser.fault_of(task, "task has no words; drop it, or say what to do first"));
    }
    let profile = table.profile.as_ref();
    match profile.filter(|profile| rows.get(profile.get_ref()).is_none()) {
        None => Ok(()),
        Some(profile) => {
            let known: Vec<String> = rows.names().into_iter().collect();
            let name = profile.get_ref();
            let what = format!("profile = {name:?} names none of {}", known.join(", "));
            Err(accuser.fault_of(profile, what))
        }
    }
}
