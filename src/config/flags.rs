//! The flags of `up`, as they are read off the command line and explained in its help.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::terms::InitTerms;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Whose end ends the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExitWith {
    /// The first one that ends for good
    Any,
    /// The last agent here
    All,
}

/// The flags of `up`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// File with agents, harnesses, profiles and actions [default: relay-broker.toml here, if there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Node name [default: this folder's name]
    #[arg(
        long,
        value_name = "NAME",
        alias = "broker-name",
        overrides_with = "name"
    )]
    pub name: Option<String>,
    /// Folder for the journal and connection.json; `--state-dir` is understood by every command, so it is not defined
    /// here.
    #[arg(skip)]
    pub state_dir: Option<PathBuf>,
    /// Set by `init`.
    #[arg(skip)]
    pub init: Option<InitTerms>,
    /// Port of the local API; 0 takes a free one [default: 0]
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<u16>,
    /// Address the local API listens on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR", value_parser = parse_bind)]
    pub api_bind: Option<IpAddr>,
    /// Base URL of an engine; one inside this process is used without
    #[arg(long, value_name = "URL")]
    pub engine: Option<String>,
    /// Workspace key, rk_… (shows in `ps`: prefer a file)
    #[arg(long, value_name = "KEY", conflicts_with = "workspace_key_file")]
    pub workspace_key: Option<String>,
    /// File that holds the workspace key
    #[arg(long, value_name = "FILE")]
    pub workspace_key_file: Option<PathBuf>,
    /// Where the engine inside listens [default: as last time]
    #[arg(long, value_name = "ADDR", conflicts_with = "engine")]
    pub engine_listen: Option<SocketAddr>,
    /// Let the local API and the engine inside listen beyond this machine: keys and messages cross the network
    /// unencrypted; use it on a trusted network or behind a TLS proxy
    #[arg(long)]
    pub allow_plain_http: bool,
    /// Start an agent with the broker; repeat for more
    #[arg(long = "agent", value_name = "NAME=CMD")]
    pub agents: Vec<String>,
    /// Stop, in order, once the agents that start with the broker have ended for good: `all` when no agent is left, `any` at
    /// the first; exit code 0 if those that ended did so well, else 1 [default: all]
    #[arg(long, value_name = "WHICH", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub exit_with_agents: Option<ExitWith>,
    /// Program the engine may start [default: those in PATH]
    #[arg(long = "harness", value_name = "PROGRAM")]
    pub harnesses: Vec<String>,
    /// Most agents at one time; 0 for no limit [default: 0]
    #[arg(long, value_name = "N")]
    pub max_agents: Option<u64>,
    /// Pin the node's id instead of deriving it
    #[arg(long, value_name = "ID")]
    pub node_id: Option<String>,
    /// Refuse a journal damaged in its middle instead of salvaging
    #[arg(long)]
    pub strict_journal: bool,
    /// Between hang-up and kill of an agent [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = short_span)]
    pub grace: Option<Duration>,
    /// When asked to stop, take nothing new and let messages that are being typed arrive, for so long at most, before agents
    /// are ended; 0s ends them at once [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = short_span)]
    pub drain: Option<Duration>,
    /// How long the engine may be away before `/readyz` fails [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = short_span)]
    pub ready_grace: Option<Duration>,
    /// File with a key that opens `/metrics` and nothing else
    #[arg(long, value_name = "FILE")]
    pub metrics_key_file: Option<PathBuf>,
    /// Most engine messages that wait for one agent; more stay with the engine until half are read [default: 1024]
    #[arg(long, value_name = "N")]
    pub max_pending: Option<NonZeroUsize>,
    /// Most messages of this machine that wait for one agent; one more is refused [default: 256]
    #[arg(long, value_name = "N")]
    pub max_pending_local: Option<NonZeroUsize>,
    /// Most bytes of messages that wait for one agent, of the engine's and of this machine's each, and four times as many for
    /// all agents [default: 8388608]
    #[arg(long, value_name = "BYTES")]
    pub max_pending_bytes: Option<NonZeroUsize>,
    /// How long messages wait for an agent that is not here, while the broker runs; 0s for ever [default: 1h]. A remote
    /// engine has its own limit for what it keeps
    #[arg(long, value_name = "TIME", value_parser = long_span)]
    pub message_ttl: Option<Duration>,
    /// How long a message is held back from an agent whose terminal does not take it, such as in a dialog, before it becomes
    /// a dead letter; 0s for ever [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = long_span)]
    pub blocked_limit: Option<Duration>,
    /// A PEM file with the authorities that vouch for an https engine, instead of the bundled ones and of SSL_CERT_FILE
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Log lines on stderr [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// How much is logged: error, warn, info, debug, trace or off [default: RUST_LOG; warn on a terminal, else info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<log::LevelFilter>,
    /// Log into a file instead of stderr; SIGHUP opens it anew, for whoever rotates it
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Use the state folder although other users could write in it or replace it
    #[arg(long)]
    pub trust_state_dir: bool,
    /// Refuse to start when the state folder is not there yet, such as on a volume that was not mounted
    #[arg(long)]
    pub require_state_dir: bool,
    /// Do nothing, and say nothing, while a broker of this state folder is well; for cron
    #[arg(long)]
    pub if_not_running: bool,
    /// With --if-not-running: how long a broker may not answer before it is ended and a new one started [default: 30s]
    #[arg(long, value_name = "TIME", requires = "if_not_running", value_parser = short_span)]
    pub stuck_after: Option<Duration>,
    /// Stay when this command ends, with a log file instead of stderr [default: broker.log in the state folder]
    #[arg(long)]
    pub detach: bool,
    /// This is the process that stays.
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub detached: bool,
}

fn parse_bind(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    text.parse()
        .map_err(|_| "not an IP address; for example 127.0.0.1, or 0.0.0.0 for all".to_owned())
}

/// More than anybody waits for a program to end.
const SHORT_MOST: Duration = Duration::from_secs(24 * 3600);
/// Whoever means longer means for ever.
const LONG_MOST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A time that somebody stands by for, of the command line.
///
/// # Errors
/// When it is no time, or longer than a day.
pub fn short_span(text: &str) -> Result<Duration, String> {
    span(text, SHORT_MOST, "1day")
}

/// A time that something may be kept or waited for, of the command line.
///
/// # Errors
/// When it is no time, or longer than ten years.
pub fn long_span(text: &str) -> Result<Duration, String> {
    span(text, LONG_MOST, "3650days")
}

fn span(text: &str, most: Duration, shown: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|_| {
        "no time; write a number and a unit, such as 500ms, 30s, 5m or 2h".to_owned()
    })?;
    match span <= most {
        true => Ok(span),
        false => Err(format!("too long; {shown} is the most")),
    }
}
