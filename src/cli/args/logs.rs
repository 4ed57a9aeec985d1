//! The arguments of `logs`.

use std::time::Duration;

use clap::Args;
use regex_lite::Regex;

/// `logs`.
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// The agent's name
    pub name: Option<String>,
    /// Go on with what it prints from now
    #[arg(long, short, requires = "name", conflicts_with = "cast")]
    pub follow: bool,
    /// Only what it printed within this time
    #[arg(long, value_name = "TIME", requires = "name", value_parser = crate::config::long_span)]
    pub since: Option<Duration>,
    /// Lines of text without escape sequences, as without this flag
    #[arg(long, requires = "name", conflicts_with_all = ["raw", "cast"])]
    pub plain: bool,
    /// Every byte as it was printed
    #[arg(long, requires = "name", conflicts_with_all = ["cast", "json"])]
    pub raw: bool,
    /// An asciicast (version 2), which asciinema plays
    #[arg(long, requires = "name", conflicts_with = "json")]
    pub cast: bool,
    /// Only lines in which this regular expression matches
    #[arg(long, value_name = "REGEX", requires = "name", value_parser = regex, conflicts_with_all = ["raw", "cast"])]
    pub grep: Option<Regex>,
    /// Begin each line with the time at which it was printed
    #[arg(long, short, requires = "name", conflicts_with_all = ["raw", "cast", "json"])]
    pub times: bool,
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|e| format!("no regular expression: {e}"))
}
