//! Flags and environment to a plan that nothing changes afterwards.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

use super::engine_choice::{EngineChoice, engine_choice};
use super::env::{Env, read_secret};
use super::error::ConfigError;
use super::file::{self, Configured};
use super::flags::{Flags, LogFormat};
use super::surroundings::Surroundings;
use super::terms::{StateHome, default_channels};
use super::{agent_flags, authorities, proxy};
use crate::api::LEASE;
use crate::broker::{NodeSettings, Settings};
use crate::dispatch::{Limits, SpawnDefaults};
use crate::msg::{Right, Secret, Size};
use crate::uplink::proxy::Proxy;
use crate::uplink::roots::TrustedRoots;
use crate::wire::local::SpawnRequest;

/// The state folder's name, in the folder where `up` is run.
pub const STATE_DIR: &str = ".relay-broker";

/// The agent programs that the engine's own spawn call knows ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).
pub const KNOWN_HARNESSES: [&str; 7] = [
    "claude", "codex", "gemini", "aider", "goose", "opencode", "grok",
];

/// Names the node.
const NODE_NAME: &str = "AGENT_RELAY_BROKER_NAME";
/// How long that name may be.
const NODE_NAME_MOST: usize = 200;
/// Between hang-up and kill of an agent.
const GRACE: Duration = Duration::from_secs(5);
/// How long the engine may be away before the broker counts as not ready.
const READY_GRACE: Duration = Duration::from_secs(60);
/// Pins the node's id.
const NODE_ID: &str = "RELAY_NODE_ID";
/// How many characters a node's id may have: it is the name of a file as well.
const NODE_ID_MOST: usize = 128;

/// Everything known before an engine is: becomes [`Settings`] once there is one.
#[derive(Clone, Debug)]
pub struct StartPlan {
    /// Which engine.
    pub engine: EngineChoice,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How much is logged, if anybody said.
    pub log_filter: Option<String>,
    /// The engine inside may listen beyond this machine.
    pub allow_plain_http: bool,
    /// The state folder is used whoever else may write in it.
    pub trust_state_dir: bool,
    /// The state folder is there already, or nothing starts.
    pub require_state_dir: bool,
    usual_place: bool,
    file: Option<PathBuf>,
    node: NodeSettings,
}

impl StartPlan {
    /// Whether commands run in the same folder find the state folder by themselves.
    pub fn is_usual_place(&self) -> bool {
        self.usual_place
    }

    /// The state folder that commands found from here until now: the nearest one in the folders above, if this start makes
    /// a new one at the usual place.
    pub fn state_dir_above(&self) -> Option<PathBuf> {
        let dir = self.state_dir();
        let here = dir.parent().filter(|_| self.usual_place && !dir.exists())?;
        here.ancestors()
            .skip(1)
            .map(|folder| folder.join(STATE_DIR))
            .find(|above| above.is_dir())
    }

    /// The address of the local API, if others than this machine reach it.
    pub fn api_beyond_this_machine(&self) -> Option<IpAddr> {
        Some(self.node.api_bind).filter(|address| !address.is_loopback())
    }

    /// The agents that start with the broker.
    pub fn agent_names(&self) -> impl Iterator<Item = &str> {
        self.node.agents.iter().map(|agent| agent.name.as_str())
    }

    /// The configuration file, where there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The state folder.
    pub fn state_dir(&self) -> &Path {
        &self.node.state_dir
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// What agents may do besides talking.
    pub fn agents_may(&self) -> &[Right] {
        &self.node.agents_may
    }

    /// How long messages wait for an agent that is not here; `None` for ever.
    pub fn message_ttl(&self) -> Option<Duration> {
        self.node.limits.ttl
    }

    /// What a later reading says otherwise and a running broker cannot take over: it counts from the next start.
    pub fn stays_until_restart(&self, later: &Self) -> Vec<&'static str> {
        let (now, then) = (&self.node, &later.node);
        let differences = [
            (
                "the engine or its workspace key",
                self.engine != later.engine,
            ),
            (
                "the authorities of --ca-file or SSL_CERT_FILE",
                now.roots != then.roots,
            ),
            ("the proxy", now.proxy != then.proxy),
            ("the key of the local API", now.api_key != then.api_key),
            (
                "the key of --metrics-key-file",
                now.metrics_key != then.metrics_key,
            ),
            (
                "the node's name, id or token",
                (&now.name, &now.node_id, &now.node_token)
                    != (&then.name, &then.node_id, &then.node_token),
            ),
            (
                "agents_may, what agents are allowed",
                now.agents_may != then.agents_may,
            ),
            (
                "[loops], what agents may send each other",
                now.limits.talk != then.limits.talk,
            ),
            ("[notify]", now.notify != then.notify),
            (
                "[history], what is remembered of messages",
                now.history != then.history,
            ),
            (
                "the agents that start with the broker",
                now.agents != then.agents,
            ),
        ];
        let differing = differences.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(what, _)| what).collect()
    }

    /// The node's part of the settings, whichever its engine is.
    pub fn node(&self) -> &NodeSettings {
        &self.node
    }

    /// The settings, complete and frozen.
    pub fn settings(&self, engine_url: &str, workspace_key: &Secret) -> Settings {
        Settings {
            engine_url: engine_url.trim_end_matches('/').to_owned(),
            workspace_key: workspace_key.clone(),
            node: self.node.clone(),
        }
    }
}

/// The id that the operator gives this node, from the flag or else the variable, word for word. Engines ask nothing of it;
/// paths of calls and the name of the token's file spell it their own way, but a line for people could not.
fn pinned_id(flags: &Flags, env: &Env) -> Result<Option<String>, ConfigError> {
    let (from, id) = match &flags.node_id {
        Some(id) => ("--node-id", id.clone()),
        None => match env.text(NODE_ID)? {
            Some(id) => (NODE_ID, id),
            None => return Ok(None),
        },
    };
    let blank = id.trim().is_empty();
    if blank || id.len() > NODE_ID_MOST || id.contains(char::is_control) {
        return Err(ConfigError::of(
            from,
            format!(
                "{from} is {id:?}; a node id has 1 to {NODE_ID_MOST} bytes, is not blank, and has no line ends or other \
                 controls; write one, or leave it out to have one made"
            ),
        ));
    }
    if from != NODE_ID && id.contains(char::is_whitespace) {
        return Err(ConfigError::of(
            from,
            format!(
                "{from} is {id:?}, which looks like several words; write one, or give an id with blanks as {NODE_ID}"
            ),
        ));
    }
    Ok(Some(id))
}

/// The node's name: the flag's, the variable's, the folder's.
pub(super) fn node_name(
    flags: &Flags,
    env: &Env,
    place: &Surroundings,
) -> Result<String, ConfigError> {
    let (from, name) = match &flags.name {
        Some(name) => ("--name", name.clone()),
        None => match env.text(NODE_NAME)? {
            Some(name) => (NODE_NAME, name),
            None => {
                let folder = place.name().filter(|name| !name.is_empty());
                return Ok(folder.unwrap_or("project").to_owned());
            }
        },
    };
    let name = name.trim();
    if name.is_empty() || name.len() > NODE_NAME_MOST || name.contains(char::is_control) {
        return Err(ConfigError::of(
            from,
            format!(
                "{from} is {name:?}; a node's name has 1 to {NODE_NAME_MOST} bytes and no line ends or other controls; write \
                 one, or leave it out to have the folder's"
            ),
        ));
    }
    Ok(name.to_owned())
}

/// The state folder of `up`, in full.
///
/// # Errors
/// When it is a relative one, and there is no working directory.
pub fn state_dir(flags: &Flags, env: &Env, place: &Surroundings) -> Result<PathBuf, ConfigError> {
    let named = flags.state_dir.clone().or_else(|| env.state_dir());
    place.resolve(&named.unwrap_or_else(|| STATE_DIR.into()))
}

/// Flags and environment to a plan.
///
/// # Errors
/// On values that cannot be meant; the sentence names the flag, variable or line of the first, and how many there are.
pub fn plan(flags: &Flags, env: &Env, place: &Surroundings) -> Result<StartPlan, ConfigError> {
    let Examination { plan, errors, .. } = examine(flags, env, place);
    let others = errors.len().saturating_sub(1);
    match (errors.into_iter().next(), plan) {
        (None, Some(plan)) => Ok(plan),
        (Some(first), _) if others == 0 => Err(first),
        (Some(first), _) => Err(ConfigError {
            text: format!(
                "{}; and {others} more, which `relay-broker check` with the same flags lists",
                first.text
            ),
            ..first
        }),
        (None, None) => Err(ConfigError::of("--config", "nothing came of the settings")),
    }
}

/// What flags, variables and the file come to.
pub struct Examination {
    /// The plan, where nothing is wrong.
    pub plan: Option<StartPlan>,
    /// Everything that cannot be meant.
    pub errors: Vec<ConfigError>,
    /// What the file says, as far as it can be meant.
    pub configured: Configured,
    /// The agents that would start with the broker, as far as they can be meant.
    pub agents: Vec<SpawnRequest>,
}

/// Collects what is wrong, and keeps what is not.
#[derive(Default)]
struct Findings(Vec<ConfigError>);

impl Findings {
    fn take<T>(&mut self, read: Result<T, ConfigError>) -> Option<T> {
        read.map_err(|e| self.0.push(e)).ok()
    }

    fn take_all<T>(&mut self, read: Result<T, Vec<ConfigError>>) -> Option<T> {
        read.map_err(|all| self.0.extend(all)).ok()
    }
}

/// Flags and environment to a plan, or to all that is wrong with them.
pub fn examine(flags: &Flags, env: &Env, place: &Surroundings) -> Examination {
    let mut found = Findings::default();
    let (file, of_file) = file::read(flags.config.as_deref(), env, place);
    let (agents, wrong) = agent_flags::agents(flags, file.agents.clone(), file.path.as_deref());
    found.0.extend(wrong);
    let node = node(flags, env, place, &file, &agents, &mut found);
    let engine = found.take_all(engine_choice(flags, env));
    let ways = engine
        .as_ref()
        .and_then(|engine| found.take(ways(engine, flags, env, &file)));
    let log_filter = found.take(log_filter(flags, env, file.log_level));
    // What a flag says comes first, for whoever reads only one.
    found.0.extend(of_file);
    let whole = node.zip(engine).zip(ways).zip(log_filter);
    let whole = whole.filter(|_| found.0.is_empty());
    let plan = whole.map(|(((node, engine), (proxy, roots)), log_filter)| StartPlan {
        engine,
        log_format: flags.log_format.unwrap_or_default(),
        log_filter,
        file: file.path.clone(),
        allow_plain_http: flags.allow_plain_http,
        trust_state_dir: flags.trust_state_dir,
        require_state_dir: flags.require_state_dir,
        // Commands pass a folder by that they do not trust, unless it is named.
        usual_place: place.resolve(Path::new(STATE_DIR)).as_ref() == Ok(&node.state_dir)
            && !flags.trust_state_dir,
        node: NodeSettings {
            proxy,
            roots,
            ..node
        },
    });
    Examination {
        plan,
        errors: found.0,
        configured: file,
        agents,
    }
}

/// How an engine is reached, and who vouches for it.
type Ways = (Option<Proxy>, Option<TrustedRoots>);

fn ways(
    engine: &EngineChoice,
    flags: &Flags,
    env: &Env,
    file: &Configured,
) -> Result<Ways, ConfigError> {
    match engine {
        EngineChoice::Remote { url, .. } | EngineChoice::Keyless { url } => {
            let roots = match url.starts_with("https:") {
                true => authorities::roots(flags.ca_file.as_deref(), env, file)?,
                false if flags.ca_file.is_some() => {
                    return Err(ConfigError::of(
                        "--ca-file",
                        format!(
                            "--ca-file says who vouches for an engine's certificate, and {url} shows none; name the engine with \
                         https://, or drop --ca-file"
                        ),
                    ));
                }
                false => None,
            };
            Ok((proxy::proxy_for(url, env)?, roots))
        }
        EngineChoice::Embedded { .. } if flags.ca_file.is_some() => Err(ConfigError::of(
            "--ca-file",
            "--ca-file is for an engine elsewhere, and none is named; name one with --engine and its workspace key, or drop \
             --ca-file",
        )),
        EngineChoice::Embedded { .. } => Ok((None, None)),
    }
}

/// All of a node's settings but the way to its engine.
fn node(
    flags: &Flags,
    env: &Env,
    place: &Surroundings,
    file: &Configured,
    agents: &[SpawnRequest],
    found: &mut Findings,
) -> Option<NodeSettings> {
    let state_dir = found.take(state_dir(flags, env, place));
    let name = found.take(node_name(flags, env, place));
    let node_id = found.take(pinned_id(flags, env));
    let harnesses = found.take(harnesses(flags, env));
    let api_bind = found.take(api_bind(flags));
    let api_key = found.take(key(env, "RELAY_BROKER_API_KEY"));
    let node_token = found.take(key(env, "RELAY_NODE_TOKEN"));
    let metrics_key = found.take(metrics_key(flags));
    let spawn_defaults = found.take(spawn_defaults(flags, env));
    let state_dir = state_dir?;
    let mut harnesses = harnesses?;
    for name in file.harnesses.keys() {
        if !harnesses.contains(name) {
            harnesses.push(name.clone());
        }
    }
    Some(NodeSettings {
        name: name?,
        data_dir: env.data_dir(&state_dir),
        named_state_dir: match flags.init {
            Some(terms) => terms.home != StateHome::Project,
            None => flags.state_dir.is_some() || env.state_dir().is_some(),
        },
        lease: flags
            .init
            .and_then(|terms| (!terms.persist).then_some(LEASE)),
        spawn_defaults: spawn_defaults?,
        state_dir,
        proxy: None,
        roots: None,
        api_bind: api_bind?,
        api_port: flags.api_port.unwrap_or(0),
        api_key: api_key?,
        node_id: node_id?,
        node_token: node_token?,
        agents: agents.to_vec(),
        harnesses,
        harness_table: file.harnesses.clone(),
        actions: file.actions.clone(),
        rows: file.rows.clone(),
        recording: file.recording,
        notify: file.notify.clone(),
        max_agents: flags.max_agents.unwrap_or(0),
        strict_journal: flags.strict_journal,
        exe: place.exe.clone(),
        grace: flags.grace.unwrap_or(GRACE),
        drain: flags.drain.unwrap_or_default(),
        metrics_key: metrics_key?,
        agents_may: file.agents_may.clone(),
        ready_grace: flags.ready_grace.unwrap_or(READY_GRACE),
        history: file.history,
        limits: limits(flags, file),
    })
}

/// What spawns leave open, on the terms of whoever has started the broker
/// ([local-api 1.1](crate::docs::local_api#1.1)).
fn spawn_defaults(flags: &Flags, env: &Env) -> Result<SpawnDefaults, ConfigError> {
    if flags.init.is_none() {
        return Ok(SpawnDefaults::default());
    }
    Ok(SpawnDefaults {
        channels: default_channels(env)?,
        size: Size { rows: 24, cols: 80 },
    })
}

/// A key that is sent in the head of calls.
fn key(env: &Env, name: &'static str) -> Result<Option<Secret>, ConfigError> {
    let key = env.text(name)?;
    key.map(|key| checked_key(name, key)).transpose()
}

fn metrics_key(flags: &Flags) -> Result<Option<Secret>, ConfigError> {
    const FLAG: &str = "--metrics-key-file";
    let key = flags.metrics_key_file.as_deref();
    let key = key.map(|path| read_secret(path, FLAG)).transpose()?;
    key.map(|key| checked_key(FLAG, key)).transpose()
}

/// The key, which is not shown, unless no call could carry it.
fn checked_key(origin: &str, key: String) -> Result<Secret, ConfigError> {
    match key.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(Secret::new(key)),
        false => Err(ConfigError::of_named_file(
            origin,
            format!(
                "{origin} gives a key that no call could carry: it has blanks, line ends, or letters beyond ASCII; set another, \
                 such as the output of `openssl rand -hex 16`"
            ),
        )),
    }
}

fn limits(flags: &Flags, file: &Configured) -> Limits {
    let usual = Limits::default();
    let bytes = flags
        .max_pending_bytes
        .map_or(usual.bytes, NonZeroUsize::get);
    Limits {
        bytes,
        total_bytes: bytes.saturating_mul(4),
        engine: flags.max_pending.map_or(usual.engine, NonZeroUsize::get),
        local: flags
            .max_pending_local
            .map_or(usual.local, NonZeroUsize::get),
        ttl: match flags.message_ttl {
            None => usual.ttl,
            Some(ttl) => (!ttl.is_zero()).then_some(ttl),
        },
        blocked: flags.blocked_limit.filter(|limit| !limit.is_zero()),
        talk: file.talk,
    }
}

/// The flag, else the variable, else the file.
fn log_filter(
    flags: &Flags,
    env: &Env,
    of_file: Option<LevelFilter>,
) -> Result<Option<String>, ConfigError> {
    if let Some(level) = flags.log_level {
        return Ok(Some(level.to_string()));
    }
    let Some(filter) = env.log_filter() else {
        return Ok(of_file.map(|level| level.to_string()));
    };
    // Behind a slash there is a pattern for the words of the lines.
    let directives = filter.split('/').next().unwrap_or_default().split(',');
    let mut levels = directives.filter_map(|directive| directive.split_once('='));
    match levels.find(|(_, level)| level.trim().parse::<LevelFilter>().is_err()) {
        None => Ok(Some(filter)),
        Some((target, level)) => Err(ConfigError::of(
            "RUST_LOG",
            format!(
                "RUST_LOG has {target}={level}, and {level:?} is none of error, warn, info, debug, trace and off; set it to one \
                 of these, or unset it"
            ),
        )),
    }
}

/// Where the local API listens.
fn api_bind(flags: &Flags) -> Result<IpAddr, ConfigError> {
    let address = flags.api_bind.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    if address.is_loopback() || flags.allow_plain_http {
        return Ok(address);
    }
    Err(ConfigError::of(
        "--api-bind",
        format!(
            "--api-bind {address} is beyond this machine, and the local API has no encryption of its own: whoever hears its key \
         types into every agent; leave it on 127.0.0.1 behind a TLS proxy or an SSH tunnel, or, on a trusted network, add \
         --allow-plain-http"
        ),
    ))
}

/// What this node offers to spawn when the engine asks: as told, else what is installed.
pub(super) fn harnesses(flags: &Flags, env: &Env) -> Result<Vec<String>, ConfigError> {
    if flags.harnesses.iter().any(|name| name.trim().is_empty()) {
        let what = "--harness is empty; name a program, such as --harness claude";
        return Err(ConfigError::of("--harness", what));
    }
    if !flags.harnesses.is_empty() {
        return Ok(flags.harnesses.clone());
    }
    if let Some(list) = env.text("AGENT_RELAY_NODE_HARNESSES")? {
        let names = list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        return Ok(names.map(str::to_owned).collect());
    }
    let folders = env.path("PATH").unwrap_or_default();
    let installed =
        |name: &&str| std::env::split_paths(&folders).any(|folder| folder.join(name).is_file());
    Ok(KNOWN_HARNESSES
        .iter()
        .filter(|name| installed(name))
        .map(|name| (*name).to_owned())
        .collect())
}
