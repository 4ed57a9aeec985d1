//! The arguments of what writes for shells and for `man`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// A shell that can complete the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompletionShell {
    /// For ~/.bashrc, or a file in bash-completion's folder
    Bash,
    /// For a file _relay-broker in a folder of $fpath
    Zsh,
    /// For a file relay-broker.fish in fish's folder completions
    Fish,
}

/// `completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub shell: CompletionShell,
}

/// `__man`.
#[derive(Clone, Debug, Args)]
pub struct Manual {
    /// Where the pages go.
    pub folder: PathBuf,
}
