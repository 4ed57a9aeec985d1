//! The arguments of `submit-result`.

use clap::Args;

/// `submit-result`.
#[derive(Clone, Debug, Args)]
pub struct SubmitResult {
    /// The result as JSON; - reads it from standard input
    #[arg(value_name = "JSON")]
    pub data: String,
    /// Others follow
    #[arg(long)]
    pub interim: bool,
    /// Whose result it is [default: that of the agent in whose terminal this runs]
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
}
