//! The arguments of the commands that judge settings and surroundings.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{ConfigError, Flags};

/// `check` and `config show`.
#[derive(Clone, Debug, Args)]
pub struct SettingsArgs {
    /// The configuration file; as --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// Leave out what the environment says of relay-broker, of proxies and of certificates
    #[arg(long)]
    pub no_environment: bool,
    /// What `up` would be started with.
    #[command(flatten)]
    pub flags: Flags,
    /// The flags that cannot be meant, which are left out of those above; of `check` only.
    #[arg(skip)]
    pub wrong: Vec<ConfigError>,
}

/// `config`.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// What to do with the settings.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be done with the settings.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show what is in force, and which flag, variable or line says so; secrets are not shown
    #[command(after_help = "Example: relay-broker config show\n\
                      \u{20}        relay-broker config show --grace 10s --json | jq '.settings[] | select(.origin.kind==\"file\")'")]
    Show(Box<SettingsArgs>),
}

/// `actions`.
#[derive(Clone, Debug, Args)]
pub struct ActionsArgs {
    /// What to do with the actions.
    #[command(subcommand)]
    pub command: ActionsCommand,
}

/// What can be done with the actions of the configuration file.
#[derive(Clone, Debug, Subcommand)]
pub enum ActionsCommand {
    /// Run an action's program once, here, as the broker would
    #[command(
        after_help = "Example: relay-broker actions run deploy --input '{\"stage\": \"test\"}'\n\n\
                      The program runs in this command and not in the broker; nobody else hears of its result. Exit code 1\n\
                      when it fails."
    )]
    Run(ActionRun),
}

/// `actions run`.
#[derive(Clone, Debug, Args)]
pub struct ActionRun {
    /// The action's name in the configuration file
    pub name: String,
    /// What it is given
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = json)]
    pub input: serde_json::Value,
    /// The configuration file [default: RELAY_BROKER_CONFIG, or relay-broker.toml here]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text)
        .map_err(|e| format!("no JSON ({e}); for example '{{\"stage\": \"test\"}}'"))
}
