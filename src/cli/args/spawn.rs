//! The arguments of `spawn`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::domain::RecordForm;

/// `spawn`.
#[derive(Clone, Debug, Args)]
pub struct SpawnArgs {
    /// A name no running agent has
    pub name: String,
    /// Folder it works in [default: the one you are in]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Its first message, typed once it is ready
    #[arg(long, value_name = "TEXT")]
    pub task: Option<String>,
    /// Node to start it on: a name, `any` for the least loaded, `self` for this one [default: self]
    #[arg(long, value_name = "NODE", conflicts_with_all = ["restart", "max_restarts", "cooldown", "profile"])]
    pub on: Option<String>,
    /// What the node must offer, with --on [default: spawn: and the program's name]
    #[arg(long, value_name = "NAME", requires = "on")]
    pub capability: Option<String>,
    /// Whether the broker starts it again when it ends
    #[arg(long, value_enum, value_name = "WHEN", default_value = "never")]
    pub restart: Restart,
    /// How often at most; 0 for no limit. Without it, five failures in a row are the end as well, as they are for
    /// `[agent.NAME]` of the configuration file [default: 5]
    #[arg(long, value_name = "N")]
    pub max_restarts: Option<u32>,
    /// How long after its end; it doubles with each failure in a row, up to a minute [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = crate::config::long_span)]
    pub cooldown: Option<Duration>,
    /// What the program is like, where its name does not tell: claude, codex, gemini, opencode, or a profile of the
    /// configuration file
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Without a terminal: its program takes messages over a pipe and says itself that it has them (claude, opencode)
    #[arg(long, conflicts_with = "on")]
    pub headless: bool,
    /// Give its program no tools to answer with
    #[arg(long, conflicts_with = "on")]
    pub no_mcp: bool,
    /// What is kept on disk of what it prints, for `logs`: off, plain or raw [default: as the configuration file says]
    #[arg(long, value_name = "FORM", value_parser = RecordForm::WORDS, conflicts_with = "on")]
    pub record: Option<String>,
    /// Model its program is to use, of the CLIs that are known
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Go on with a session of its program: that of an agent that has ended, by its name, or by the program's own id
    #[arg(long, value_name = "NAME|ID", conflicts_with = "on")]
    pub resume: Option<String>,
    /// Wait for its result and print it, as JSON; the agent is released then. With a time not longer, and 0s is no limit
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = crate::config::long_span, conflicts_with = "on")]
    pub wait_result: Option<Option<Duration>>,
    /// JSON schema that its result must fit [default: any result, with --wait-result]
    #[arg(long, value_name = "FILE", conflicts_with = "on")]
    pub result_schema: Option<PathBuf>,
    /// Leave the agent running after its result
    #[arg(long, requires = "wait_result")]
    pub keep: bool,
    /// The program and its arguments
    #[arg(last = true, required_unless_present = "resume", value_name = "CMD")]
    pub command: Vec<String>,
}

/// After which ends an agent is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Restart {
    /// It stays ended
    Never,
    /// After a crash, of its own or of the broker
    OnFailure,
    /// After every end but a release
    Always,
}
