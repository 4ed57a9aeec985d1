//! Flags and environment to a plan that nothing changes afterwards.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tungstenite::http::Uri;

use super::env::{Env, read_secret};
use super::error::ConfigError;
use super::flags::{Flags, LogFormat};
use super::surroundings::Surroundings;
use super::{file, proxy};
use crate::broker::{NodeSettings, Settings};
use crate::dispatch::Limits;
use crate::ids::AgentName;
use crate::msg::Secret;
use crate::net::http::endpoint;
use crate::wire::local::SpawnRequest;

/// Where a workspace key leads when no engine is named.
pub const HOSTED_ENGINE: &str = "https://cast.agentrelay.com";
/// The state folder's name, in the folder where `up` is run.
pub const STATE_DIR: &str = ".relay-broker";

/// The agent programs that the engine's own spawn call knows ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).
const KNOWN_HARNESSES: [&str; 7] = [
    "claude", "codex", "gemini", "aider", "goose", "opencode", "grok",
];

/// Pins the node's id.
const NODE_ID: &str = "RELAY_NODE_ID";
/// How many characters a node's id may have: it is the name of a file as well.
const NODE_ID_MOST: usize = 128;

/// Which engine the broker will speak to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// One that runs elsewhere.
    Remote {
        /// Its base URL, no trailing slash.
        url: String,
        /// Opens the workspace.
        key: Secret,
    },
    /// One of our own, inside this process.
    Embedded {
        /// Where it must listen; free to choose when absent.
        listen: Option<SocketAddr>,
    },
}

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

    /// The state folder.
    pub fn state_dir(&self) -> &Path {
        &self.node.state_dir
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.node.name
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
            ("the authorities of SSL_CERT_FILE", now.roots != then.roots),
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
    let (from, id) = match (&flags.node_id, env.text(NODE_ID)?) {
        (Some(id), _) => ("--node-id", id.clone()),
        (None, Some(id)) => (NODE_ID, id),
        (None, None) => return Ok(None),
    };
    let blank = id.trim().is_empty();
    if blank || id.len() > NODE_ID_MOST || id.chars().any(char::is_control) {
        return Err(ConfigError::of(
            from,
            format!(
                "{from} is {id:?}; a node id has 1 to {NODE_ID_MOST} bytes, is not blank, and has no line ends or other \
                 controls"
            ),
        ));
    }
    Ok(Some(id))
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
/// On a value that cannot be meant; the sentence names the flag or variable.
pub fn plan(flags: &Flags, env: &Env, place: &Surroundings) -> Result<StartPlan, ConfigError> {
    let named_state_dir = flags.state_dir.is_some() || env.state_dir().is_some();
    let state_dir = state_dir(flags, env, place)?;
    let name = match &flags.name {
        Some(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => env
            .text("AGENT_RELAY_BROKER_NAME")?
            .or_else(|| place.name().map(str::to_owned))
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "project".to_owned()),
    };
    let node_id = pinned_id(flags, env)?;
    let file = file::read(flags.config.as_deref(), env, place)?;
    let mut harnesses = harnesses(flags, env)?;
    for name in file.harnesses.keys() {
        if !harnesses.contains(name) {
            harnesses.push(name.clone());
        }
    }
    let engine = engine_choice(flags, env)?;
    let node = NodeSettings {
        name,
        data_dir: env.data_dir(&state_dir),
        named_state_dir,
        state_dir,
        proxy: match &engine {
            EngineChoice::Remote { url, .. } => proxy::proxy_for(url, env)?,
            EngineChoice::Embedded { .. } => None,
        },
        roots: match &engine {
            EngineChoice::Remote { url, .. } if url.starts_with("https:") => env.roots()?,
            _ => None,
        },
        api_bind: api_bind(flags)?,
        api_port: flags.api_port,
        api_key: env.text("RELAY_BROKER_API_KEY")?.map(Secret::new),
        node_id,
        node_token: env.text("RELAY_NODE_TOKEN")?.map(Secret::new),
        agents: agents(flags, file.agents, file.path.as_deref())?,
        harnesses,
        harness_table: file.harnesses,
        actions: file.actions,
        rows: file.rows,
        max_agents: flags.max_agents,
        strict_journal: flags.strict_journal,
        exe: place.exe.clone(),
        grace: flags.grace.unwrap_or(Duration::from_secs(5)),
        drain: flags.drain.unwrap_or_default(),
        metrics_key: match &flags.metrics_key_file {
            Some(path) => Some(Secret::new(read_secret(path, "--metrics-key-file")?)),
            None => None,
        },
        ready_grace: flags.ready_grace.unwrap_or(Duration::from_secs(60)),
        limits: limits(flags),
    };
    Ok(StartPlan {
        engine,
        log_format: flags.log_format,
        log_filter: log_filter(flags, env, file.log_level),
        allow_plain_http: flags.allow_plain_http,
        trust_state_dir: flags.trust_state_dir,
        require_state_dir: flags.require_state_dir,
        // Commands pass a folder by that they do not trust, unless it is named.
        usual_place: place.resolve(Path::new(STATE_DIR)).as_ref() == Ok(&node.state_dir)
            && !flags.trust_state_dir,
        node,
    })
}

fn limits(flags: &Flags) -> Limits {
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
    }
}

/// The flag, else the variable, else the file.
fn log_filter(flags: &Flags, env: &Env, of_file: Option<log::LevelFilter>) -> Option<String> {
    let flag = flags.log_level.map(|level| level.to_string());
    let variable = || env.log_filter();
    flag.or_else(variable)
        .or_else(|| of_file.map(|level| level.to_string()))
}

/// The workspace key and where it came from.
fn workspace_key(flags: &Flags, env: &Env) -> Result<Option<Secret>, ConfigError> {
    let (origin, key) = if let Some(key) = &flags.workspace_key {
        ("--workspace-key", key.clone())
    } else if let Some(path) = &flags.workspace_key_file {
        let origin = "--workspace-key-file";
        (origin, read_secret(path, origin)?)
    } else if let Some(found) = env.workspace_key()? {
        found
    } else {
        return Ok(None);
    };
    check_key(origin, &key)?;
    Ok(Some(Secret::new(key)))
}

/// Whether a text can be a workspace key.
///
/// # Errors
/// Names where the text came from, and never shows the text itself.
pub fn check_key(origin: &str, key: &str) -> Result<(), ConfigError> {
    let fine = key.starts_with("rk_") && key.bytes().all(|b| b.is_ascii_graphic());
    if fine {
        return Ok(());
    }
    Err(ConfigError::of(
        origin,
        format!(
            "{origin} is not a workspace key: one starts with rk_ and has no blanks; copy it again"
        ),
    ))
}

/// Where the local API listens.
fn api_bind(flags: &Flags) -> Result<IpAddr, ConfigError> {
    let address = flags.api_bind.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    if address.is_loopback() || flags.allow_plain_http {
        return Ok(address);
    }
    Err(ConfigError::usage(format!(
        "--api-bind {address} is beyond this machine, and the local API has no encryption of its own: whoever hears its key \
         types into every agent; leave it on 127.0.0.1 behind a TLS proxy or an SSH tunnel, or, on a trusted network, add \
         --allow-plain-http"
    )))
}

/// Whether an engine without encryption may listen there.
///
/// # Errors
/// Beyond loopback, unless the risk was taken by name.
pub fn check_listen(origin: &str, address: SocketAddr, allowed: bool) -> Result<(), ConfigError> {
    if address.ip().is_loopback() || allowed {
        return Ok(());
    }
    Err(ConfigError::of(
        origin,
        format!(
            "{origin} {address} is beyond this machine, and the engine has no encryption of its own: tokens and messages \
         would cross the network in plain text; listen on 127.0.0.1:{} behind a TLS proxy, or, on a trusted network, \
         add --allow-plain-http",
            address.port()
        ),
    ))
}

fn engine_choice(flags: &Flags, env: &Env) -> Result<EngineChoice, ConfigError> {
    let url = match &flags.engine {
        Some(url) => Some(("--engine", url.clone())),
        None if flags.engine_listen.is_some() => None,
        None => env.first(&["RELAYCAST_BASE_URL", "RELAY_BASE_URL"])?,
    };
    let key = workspace_key(flags, env)?;
    match (url, key) {
        (_, Some(_)) if flags.engine_listen.is_some() => Err(ConfigError::usage(
            "--engine-listen is for the engine inside this process, but a workspace key is given; \
             drop one of the two",
        )),
        (Some((origin, url)), Some(key)) => Ok(EngineChoice::Remote {
            url: check_url(origin, &url)?,
            key,
        }),
        (None, Some(key)) => Ok(EngineChoice::Remote {
            url: HOSTED_ENGINE.to_owned(),
            key,
        }),
        (Some((origin, _)), None) => Err(ConfigError::of(
            origin,
            format!(
                "{origin} names an engine but no workspace key is given; \
             set RELAY_WORKSPACE_KEY (or RELAY_WORKSPACE_KEY_FILE), or pass --workspace-key-file"
            ),
        )),
        (None, None) => {
            if let Some(address) = flags.engine_listen {
                check_listen("--engine-listen", address, flags.allow_plain_http)?;
            }
            Ok(EngineChoice::Embedded {
                listen: flags.engine_listen,
            })
        }
    }
}

fn check_url(origin: &str, url: &str) -> Result<String, ConfigError> {
    let url = url.trim().trim_end_matches('/');
    if url.contains('@') {
        // What stands before it may be a password, so the value is not shown.
        return Err(ConfigError::of(
            origin,
            format!(
                "{origin} must be a URL without a name or password in it; the key goes into --workspace-key"
            ),
        ));
    }
    if !is_base_url(url) {
        return Err(ConfigError::of(
            origin,
            format!(
                "{origin} must be a URL such as https://cast.agentrelay.com or http://127.0.0.1:8787, not {url:?}"
            ),
        ));
    }
    Ok(url.to_owned())
}

/// Whether paths can be put behind it, and it leads where it says.
fn is_base_url(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|parsed| {
        matches!(parsed.scheme_str(), Some("http" | "https"))
            && parsed.query().is_none()
            && endpoint(&parsed).is_some()
    })
}

/// What this node offers to spawn when the engine asks: as told, else what is installed.
pub(super) fn harnesses(flags: &Flags, env: &Env) -> Result<Vec<String>, ConfigError> {
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

/// Those of the command line, and those that the file at `path` declares.
fn agents(
    flags: &Flags,
    declared: Vec<SpawnRequest>,
    path: Option<&Path>,
) -> Result<Vec<SpawnRequest>, ConfigError> {
    let mut agents: Vec<SpawnRequest> = Vec::new();
    for text in &flags.agents {
        let agent = agent(text)?;
        if agents.iter().any(|other| other.name == agent.name) {
            return Err(ConfigError::usage(format!(
                "--agent names {:?} twice; names are unique",
                agent.name
            )));
        }
        let same = |other: &&SpawnRequest| other.name.eq_ignore_ascii_case(&agent.name);
        if let (Some(other), Some(path)) = (declared.iter().find(same), path) {
            return Err(ConfigError::usage(format!(
                "--agent {}=… and [agent.{}] of {} both start an agent of that name; drop one of the two",
                agent.name,
                other.name,
                path.display()
            )));
        }
        agents.push(agent);
    }
    agents.extend(declared);
    if flags.exit_with_agents.is_some() && agents.is_empty() {
        return Err(ConfigError::usage(
            "--exit-with-agents waits for the end of agents that start with the broker, and there are none; add --agent \
             NAME=CMD, or [agent.NAME] in the configuration file",
        ));
    }
    let (count, most) = (agents.len() as u64, flags.max_agents);
    if most > 0 && count > most {
        return Err(ConfigError::usage(format!(
            "{count} agents are to start with the broker, and --max-agents {most} leaves no room for all of them; raise it, \
             or drop some"
        )));
    }
    Ok(agents)
}

/// `NAME=CMD`.
fn agent(text: &str) -> Result<SpawnRequest, ConfigError> {
    let (name, command) = text.split_once('=').ok_or_else(|| {
        ConfigError::usage(format!(
            "--agent {text:?} is not NAME=CMD; for example --agent ada='claude'"
        ))
    })?;
    let name = AgentName::check(name).map_err(|e| ConfigError::usage(format!("--agent: {e}")))?;
    match shell_words::split(command) {
        Ok(words) if !words.is_empty() => Ok(SpawnRequest {
            name: name.as_str().to_owned(),
            cli: Some(command.to_owned()),
            ..SpawnRequest::default()
        }),
        Ok(_) => Err(ConfigError::usage(format!(
            "--agent {name} has no command; write --agent {name}='COMMAND'"
        ))),
        Err(_) => Err(ConfigError::usage(format!(
            "--agent {name}: the command {command:?} has an open quote; close it"
        ))),
    }
}
