//! The command line as types. It reads nothing but its arguments and starts nothing.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::failure::Failure;
use super::upstream_name::{UPSTREAM_NAME, is_upstream};
use crate::config::{Flags, InitFlags};
use crate::wire::event::BrokerEvent;

mod demo;
mod faulty;
mod logs;
mod mcp;
mod misuse;
mod results;
mod settings;
mod shells;
mod spawn;

pub use demo::{Demo, DemoAgent};
pub use logs::Logs;
pub use mcp::{Mcp, McpClient};
pub use misuse::wants_json;
pub use results::SubmitResult;
pub use settings::{
    ActionRun, ActionsArgs, ActionsCommand, ConfigArgs, ConfigCommand, SettingsArgs,
};
pub use shells::{CompletionShell, Completions, Manual};
pub use spawn::{Restart, SpawnArgs};

/// Runs coding agents in terminals and types every message into them exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "relay-broker",
    version,
    disable_help_flag = true,
    after_help = "Start with: relay-broker demo\n\
                  Then:       relay-broker up --agent ada='claude'   and in a second terminal\n\
                  \u{20}           relay-broker send ada 'hello'           relay-broker attach ada"
)]
pub struct Cli {
    /// State folder [default: .relay-broker, here or upward]
    #[arg(
        long = "state-dir",
        value_name = "DIR",
        global = true,
        display_order = 98
    )]
    pub state_dir: Option<PathBuf>,
    /// JSON instead of text, for errors and notes as well
    #[arg(long, global = true, display_order = 97)]
    pub json: bool,
    /// Print help
    #[arg(short, long, global = true, display_order = 99, action = clap::ArgAction::HelpShort)]
    pub help: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker here, with an engine of its own unless a workspace key is given
    #[command(
        after_help = "Example: relay-broker up --agent ada='claude' --agent bob='codex'\n\
                      \u{20}        relay-broker up --detach\n\
                      \u{20}        * * * * * cd ~/project && relay-broker up --if-not-running --detach   in a crontab\n\n\
                      Every variable may also be given as NAME_FILE, the path of a file that holds the value."
    )]
    Up(Box<Flags>),
    /// Run a broker for the client that starts it, as agent-relay-broker does
    #[command(
        hide = true,
        after_help = "Example: agent-relay-broker init --instance-name shop --persist",
        // As `config` has it for a broker that a client starts.
        mut_arg("grace", |grace| grace.help("Between hang-up and kill of an agent [default: 2s]"))
    )]
    Init(Box<InitFlags>),
    /// Say what is wrong with flags, variables and the configuration file, all of it, without starting anything
    #[command(after_help = "Example: relay-broker check\n\
                      \u{20}        relay-broker check /etc/relay-broker.toml --no-environment\n\n\
                      Takes the flags that `up` takes. Programs, scripts and folders that are named and not there are errors,\n\
                      too. Exit code 78 on an error, else 0.")]
    Check(Box<SettingsArgs>),
    /// Look at the settings
    #[command(after_help = "Example: relay-broker config show")]
    Config(ConfigArgs),
    /// Look for what stands in a broker's way on this machine, and say what helps
    #[command(after_help = "Example: relay-broker doctor\n\n\
                      With and without a running broker: settings, folders and their permissions, keys that others can read,\n\
                      disk, limits, terminals, HOME, the engine and its clock, proxy, certificates, and the known CLIs. Exit\n\
                      code 1 when a finding is an error, else 0.")]
    Doctor,
    /// Have the running broker read its configuration file again; agents go on
    #[command(after_help = "Example: relay-broker reload\n\n\
                      The same as SIGHUP, with an answer: what was taken over, and what needs a restart. A file that cannot be\n\
                      meant changes nothing. No agent is ended, whatever the file says.")]
    Reload,
    /// Try the actions of the configuration file
    #[command(after_help = "Example: relay-broker actions run deploy")]
    Actions(ActionsArgs),
    /// Start an agent in the running broker
    #[command(
        after_help = "Example: relay-broker spawn ada --task 'Read TODO.md and start' -- claude\n\
                      \u{20}        relay-broker spawn sum --task 'Add up bill.csv' --wait-result=10m --result-schema sum.json -- codex"
    )]
    Spawn(Box<SpawnArgs>),
    /// Stop an agent
    #[command(after_help = "Example: relay-broker release ada")]
    Release(Named),
    /// End an agent's program and start it again; its messages go on where they were
    #[command(after_help = "Example: relay-broker restart ada\n\n\
                      Also starts one that ended by itself or was given up, as it was started first.")]
    Restart(Named),
    /// List the agents
    #[command(
        visible_aliases = ["ls", "ps"],
        after_help = "Example: relay-broker agents --json | jq -r '.agents[].name'"
    )]
    Agents,
    /// Send a message to an agent or a #channel
    #[command(
        after_help = "Example: relay-broker send ada 'the tests are red' --wait\n\
                      \u{20}        git diff | relay-broker send ada -"
    )]
    Send(Send),
    /// Hand in the result that this agent was started for
    #[command(after_help = "Example: relay-broker submit-result '{\"sum\": 42}'\n\n\
                      In the terminal of an agent that was started with --result-schema or --wait-result. Exit code 1 when the\n\
                      result does not fit, with what is wrong.")]
    SubmitResult(SubmitResult),
    /// Wait until an agent is in a state: exit code 0 when it is, 1 when time is up
    #[command(
        after_help = "Example: relay-broker wait ada --until idle --timeout 10m\n\n\
                      ready    its terminal takes messages\n\
                      idle     ready, nothing waits for it, and it has shown nothing for its idle time (30s)\n\
                      blocked  a dialog stands in its terminal, or a message cannot be typed\n\
                      exit     it does not run (any more)"
    )]
    Wait(Wait),
    /// See and drive an agent's terminal; Ctrl-] detaches and the agent goes on
    #[command(after_help = "Example: relay-broker attach ada")]
    Attach(Attach),
    /// Show what happened, or what happens
    #[command(
        after_help = "Example: relay-broker events --follow --only agent_blocked,agent_exited --agent ada\n\
                      \u{20}        relay-broker events --follow --json | jq 'select(.kind==\"worker_ready\")'"
    )]
    Events(Events),
    /// Everything at a glance
    #[command(after_help = "Example: relay-broker status")]
    Status,
    /// Why an agent, or the broker, does or does not take messages now, and what to do about it
    #[command(after_help = "Example: relay-broker explain ada\n\n\
                      Its state and since when, what its screen shows, what waits, what is in the way, and commands to copy.\n\
                      Without a name the same of the broker: engine, disk, clock, limits. Exit code 1 when no broker answers.")]
    Explain(Explain),
    /// The whole life of one message: accepted, typed, seen, acknowledged, and what was in its way
    #[command(after_help = "Example: relay-broker trace --last ada\n\
                      \u{20}        relay-broker trace del_4f1 --json | jq -r .verdict\n\n\
                      With and without a running broker, also of messages that ended long ago: `[history]` in relay-broker.toml\n\
                      says how much is kept (16 MiB, 14 days). Exit code 3 when several messages are meant, with a list of them.")]
    Trace(Trace),
    /// List the workspace's nodes, as the engine knows them
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Example: relay-broker nodes --capability spawn:claude\n\
                      \u{20}        relay-broker nodes rm old-laptop"
    )]
    Nodes(Nodes),
    /// Stop the running broker and its agents, in order
    #[command(after_help = "Example: relay-broker stop")]
    Stop,
    /// List the messages that wait for an agent
    #[command(after_help = "Example: relay-broker pending ada")]
    Pending(Named),
    /// Type an agent's messages now: the held ones, and one that is blocked
    #[command(after_help = "Example: relay-broker flush ada")]
    Flush(Named),
    /// Hold an agent's messages until flush or auto
    #[command(after_help = "Example: relay-broker hold ada")]
    Hold(Named),
    /// Type an agent's messages as they come, the held ones first
    #[command(after_help = "Example: relay-broker auto ada")]
    Auto(Named),
    /// List the messages that could not be delivered
    #[command(after_help = "Example: relay-broker dead")]
    Dead,
    /// Give messages that could not be delivered another chance
    #[command(after_help = "Example: relay-broker redeliver --all")]
    Redeliver(Redeliver),
    /// Print what an agent's terminal shows
    #[command(after_help = "Example: relay-broker snapshot ada")]
    Snapshot(SnapshotArgs),
    /// Print what an agent printed, also of one that is gone; without a name, list whose output is kept
    #[command(
        after_help = "Example: relay-broker logs ada --since 1h --grep 'error|panic'\n\
                      \u{20}        relay-broker logs ada -f\n\
                      \u{20}        relay-broker logs ada --cast > ada.cast && asciinema play ada.cast\n\n\
                      Works with and without a running broker. Lines are what stood in each row when the program left it; rows\n\
                      that it draws again unchanged are printed once. How much is kept, and in which form, is said under\n\
                      [output] in the configuration file."
    )]
    Logs(Logs),
    /// Look into the journal, with or without a running broker; changes nothing
    #[command(after_help = "Example: relay-broker journal show --limit 20\n\
                      \u{20}        relay-broker journal check || echo damaged")]
    Journal(JournalArgs),
    /// Copy the state folder, also while its broker runs: journal, identity, the engine inside
    #[command(
        after_help = "Example: relay-broker backup /srv/backups/$(date +%F)\n\n\
                      A node starts again from a copy of it: docs/operations.md, under Backup"
    )]
    Backup(Backup),
    /// Run an engine alone, for brokers on several machines
    #[cfg_attr(not(feature = "engine"), command(hide = true))]
    #[cfg_attr(
        not(feature = "faults"),
        command(after_help = "Example: relay-broker engine --listen 127.0.0.1:8787")
    )]
    #[cfg_attr(
        feature = "faults",
        command(
            after_help = "Example: relay-broker engine --listen 127.0.0.1:8787\n\n\
                      --behave makes a test double of it, on loopback only. Words, separated by commas:\n  \
                      5.0.1, 6.0.3, 8.2, 9.0      a version to behave as; by default what all clients can bear\n  \
                      cut_after=N                 cut the node sockets after N frames, both ways\n  \
                      delay_ms=MS                 every frame and answer comes later\n  \
                      refuse=401|429|500 times=N  refuse the next N tries to open a node socket\n  \
                      forget                      no node's token is valid any more\n  \
                      black_hole[=sockets|http]   accept and never answer\n  \
                      fail=N fail_path=/v1/...    carry out the next N calls and answer 500\n\
                      While it runs it takes the same as JSON, and cut, supersede and rotate=NODE:\n  \
                      curl -d '{\"cut\":true}' http://127.0.0.1:8787/__behave"
        )
    )]
    Engine(EngineArgs),
    /// Print the variables that connect an SDK to the running broker's workspace
    #[command(after_help = "Example: eval \"$(relay-broker env)\"")]
    Env,
    /// Serve the running broker's tools on standard input and output, for agent programs (Model Context Protocol)
    #[command(after_help = "Example: relay-broker mcp --print-config claude\n\n\
                      Agents that run under the broker are given it; this is for clients that you set up by hand.")]
    Mcp(Mcp),
    /// Whether the running broker is well: exit code 0 or 1
    #[command(
        after_help = "Example: relay-broker health --live || echo 'start it again'\n\n\
                      --live asks whether the process works, whatever the engine and the agents do;\n\
                      --ready whether the engine is linked and the agents of --agent run"
    )]
    Health(HealthArgs),
    /// Show the whole way of a message, and a crash that loses nothing, in a few seconds
    #[command(
        after_help = "Example: relay-broker demo\n         relay-broker demo --json | jq .step"
    )]
    Demo(Demo),
    /// Print what a shell needs to complete commands and flags
    #[command(after_help = "Example: source <(relay-broker completions bash)\n\
                      \u{20}        relay-broker completions fish >~/.config/fish/completions/relay-broker.fish")]
    Completions(Completions),
    /// Print the version
    #[command(after_help = "Example: relay-broker version --json | jq -r .version")]
    Version,
    /// The agent of `demo`.
    #[command(name = "__demo-agent", hide = true)]
    DemoAgent(DemoAgent),
    /// Writes the manual pages.
    #[command(name = "__man", hide = true)]
    Manual(Manual),
}

/// `health`.
#[derive(Clone, Copy, Debug, Args)]
pub struct HealthArgs {
    /// Whether the process works: for whoever would start it again
    #[arg(long, conflicts_with = "ready")]
    pub live: bool,
    /// Whether it can be given work: for whoever would send it some
    #[arg(long)]
    pub ready: bool,
}

/// `nodes`.
#[derive(Clone, Debug, Args)]
pub struct Nodes {
    /// What to do with them; nothing lists them.
    #[command(subcommand)]
    pub command: Option<NodesCommand>,
    /// Also those of clients without a broker
    #[arg(long)]
    pub all: bool,
    /// Only those that offer this, for example spawn:claude
    #[arg(long, value_name = "NAME")]
    pub capability: Option<String>,
}

/// What can be done with nodes.
#[derive(Clone, Debug, Subcommand)]
pub enum NodesCommand {
    /// Take a node that is gone for good off the workspace's list
    #[command(after_help = "Example: relay-broker nodes rm old-laptop\n\n\
                      One that lives is left alone: stop its broker first.")]
    Rm(NodeName),
}

/// One node.
#[derive(Clone, Debug, Args)]
pub struct NodeName {
    /// The node's name, or its id
    pub name: String,
}

/// One agent.
#[derive(Clone, Debug, Args)]
pub struct Named {
    /// The agent's name
    pub name: String,
}

/// `explain`.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// The agent's name; without one it is about the broker
    pub name: Option<String>,
}

/// `trace`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["id", "last", "from"]))]
pub struct Trace {
    /// A message's or delivery's id, or how it begins
    pub id: Option<String>,
    /// The last message for this agent
    #[arg(long, value_name = "NAME")]
    pub last: Option<String>,
    /// The last message that this one wrote
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
}

/// `redeliver`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "all"]))]
pub struct Redeliver {
    /// Which, as `dead` lists them
    pub id: Option<String>,
    /// All of them
    #[arg(long)]
    pub all: bool,
}

/// How urgently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Urgency {
    /// At the next safe point
    Wait,
    /// Interrupt what it does
    Steer,
}

/// `send`.
#[derive(Clone, Debug, Args)]
pub struct Send {
    /// Agent name, @name or #channel
    pub to: String,
    /// The message; - reads it from standard input
    #[arg(required = true, value_name = "TEXT")]
    pub text: Vec<String>,
    /// Who speaks [default: the broker]
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// How urgent it is
    #[arg(long, value_enum, default_value = "wait")]
    pub mode: Urgency,
    /// Type the words as they are, without the line that says who speaks: for the program's own commands
    #[arg(long, conflicts_with = "from")]
    pub raw: bool,
    /// Wait until it is seen in the agent's terminal
    #[arg(long)]
    pub wait: bool,
    /// How long to wait for that
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::config::long_span)]
    pub timeout: Duration,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// It has nothing to do
    Idle,
    /// Its terminal takes messages
    Ready,
    /// A message cannot be typed
    Blocked,
    /// It does not run
    Exit,
}

impl State {
    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ready => "ready",
            Self::Blocked => "blocked",
            Self::Exit => "exit",
        }
    }
}

/// `wait`.
#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// The agent's name
    pub name: String,
    /// For what
    #[arg(long, value_enum, value_name = "STATE", default_value = "idle")]
    pub until: State,
    /// How long at most
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::config::long_span)]
    pub timeout: Duration,
}

/// `attach`.
#[derive(Clone, Debug, Args)]
pub struct Attach {
    /// The agent's name
    pub name: String,
    /// Only look: keys are not sent and the terminal keeps its size
    #[arg(long)]
    pub view: bool,
}

/// `events`.
#[derive(Clone, Debug, Args)]
pub struct Events {
    /// Go on with what happens from now
    #[arg(long, short)]
    pub follow: bool,
    /// Begin after this number [default: all kept; with --follow, now]
    #[arg(long, value_name = "N")]
    pub since: Option<u64>,
    /// Include terminal output
    #[arg(long, requires = "follow")]
    pub output: bool,
    /// Only events of these kinds, as --json names them
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = event_kind)]
    pub only: Vec<String>,
    /// Only what concerns this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
}

fn event_kind(word: &str) -> Result<String, String> {
    let known = BrokerEvent::KINDS.contains(&word);
    let all = || BrokerEvent::KINDS.join(", ");
    known
        .then(|| word.to_owned())
        .ok_or_else(|| format!("no kind of event; there are {}", all()))
}

/// `snapshot`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotArgs {
    /// The agent's name
    pub name: String,
    /// With colours, as escape sequences
    #[arg(long)]
    pub ansi: bool,
}

/// `journal`.
#[derive(Clone, Copy, Debug, Args)]
pub struct JournalArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: JournalCommand,
}

/// What can be done with a journal.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum JournalCommand {
    /// What happened, newest first
    #[command(
        after_help = "Example: relay-broker journal show --json | jq -r 'select(.record.t==\"dead_lettered\") | .words'"
    )]
    Show(JournalShow),
    /// Whether it is whole: exit code 0, also with a torn last write, or 1
    #[command(after_help = "Example: relay-broker journal check --json | jq .verdict")]
    Check(JournalCheck),
}

/// `journal show`.
#[derive(Clone, Copy, Debug, Args)]
pub struct JournalShow {
    /// At most so many records
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// The journal of the engine inside
    #[arg(long)]
    pub engine: bool,
}

/// `journal check`.
#[derive(Clone, Copy, Debug, Args)]
pub struct JournalCheck {
    /// The journal of the engine inside
    #[arg(long)]
    pub engine: bool,
}

/// `backup`.
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// A folder that is not there yet, or is empty
    pub dir: PathBuf,
}

/// `engine`.
#[derive(Clone, Debug, Args)]
pub struct EngineArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787")]
    pub listen: SocketAddr,
    /// Folder for its journal [default: ./.relay-broker/engine, as `up`]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Listen beyond this machine: tokens and messages cross the network unencrypted; use it on a trusted network or behind
    /// a TLS proxy
    #[arg(long)]
    pub allow_plain_http: bool,
    /// Use the folder although other users could write in it or replace it
    #[arg(long)]
    pub trust_state_dir: bool,
    /// Behave as another version, or badly; see below
    #[cfg_attr(not(feature = "faults"), arg(hide = true))]
    #[arg(
        long,
        value_name = "SPEC",
        value_delimiter = ',',
        help_heading = "For tests"
    )]
    pub behave: Vec<String>,
}

/// Command line to command.
///
/// # Errors
/// A usage error as one line with exit code 2; help and version as text with exit code 0.
pub fn parse(args: &[OsString]) -> Result<Cli, Failure> {
    let mut program = Cli::command();
    if is_upstream(args) {
        program = program.name(UPSTREAM_NAME);
    }
    let failed = |e: &clap::Error| misuse::failure(&Cli::command(), e, args);
    let (found, wrong) = match program.clone().try_get_matches_from(args) {
        Ok(found) => (found, Vec::new()),
        Err(e) => faulty::check(&program, args, &e).ok_or_else(|| failed(&e))?,
    };
    let mut cli = Cli::from_arg_matches(&found).map_err(|e| failed(&e))?;
    // `--state-dir` means the same before and after the word `up`.
    match &mut cli.command {
        Command::Up(flags) => flags.state_dir.clone_from(&cli.state_dir),
        Command::Init(init) => init.up.state_dir.clone_from(&cli.state_dir),
        Command::Check(check) => check.wrong = wrong,
        _ => {}
    }
    Ok(cli)
}

/// The commands that do something, with the words that lead to them; without hidden ones.
pub fn commands() -> Vec<String> {
    let program = Cli::command();
    let shown = |command: &&clap::Command| !command.is_hide_set();
    let mut names = Vec::new();
    for command in program.get_subcommands().filter(shown) {
        let name = command.get_name();
        let below: Vec<_> = command.get_subcommands().filter(shown).collect();
        if below.is_empty() || !command.is_subcommand_required_set() {
            names.push(name.to_owned());
        }
        names.extend(
            below
                .iter()
                .map(|inner| format!("{name} {}", inner.get_name())),
        );
    }
    names
}

#[cfg(test)]
mod tests;
