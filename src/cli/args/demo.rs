//! The arguments of the demo and of its agents.

use std::path::PathBuf;

use clap::Args;

/// `demo`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Demo {
    /// Keep the folder it works in
    #[arg(long)]
    pub keep: bool,
}

/// `__demo-agent`.
#[derive(Clone, Debug, Args)]
pub struct DemoAgent {
    /// Its own name.
    #[arg(long)]
    pub name: String,
    /// Whom it answers.
    #[arg(long)]
    pub peer: String,
    /// Every line it reads is appended here.
    #[arg(long)]
    pub receipts: PathBuf,
    /// Ends its being busy.
    #[arg(long)]
    pub wake: PathBuf,
}
