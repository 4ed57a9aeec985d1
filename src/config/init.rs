//! The flags of `init`, as clients of upstream's broker give them ([local-api 1.1](crate::docs::local_api#1.1)), and what
//! they come to: the flags of `up`, and the terms on which a client has started the broker.

use std::path::PathBuf;
use std::time::Duration;

use super::env::Env;
use super::error::ConfigError;
use super::flags::Flags;
use super::plan::node_name;
use super::surroundings::Surroundings;
use super::terms::{InitTerms, PROJECT_STATE_DIR, StateHome};

/// Between hang-up and kill of an agent: a client kills the broker 5 s after it has asked it to leave.
const GRACE: Duration = Duration::from_secs(2);

/// The flags of `init`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InitFlags {
    /// Node name, before --name
    #[arg(long, value_name = "NAME")]
    pub instance_name: Option<String>,
    /// Keep the state in .agentworkforce/relay, and stay whoever has gone
    #[arg(long)]
    pub persist: bool,
    /// Accepted: a node joins no channels, and agents name their own
    #[arg(long, value_name = "NAMES", default_value = "general")]
    pub channels: String,
    /// Those of `up`.
    #[command(flatten)]
    pub up: Flags,
}

impl InitFlags {
    /// The flags of `up` that do what a client means. `unique` sets a temporary folder apart from all others.
    ///
    /// # Errors
    /// When the project's folder cannot be told, because there is no working directory.
    pub fn into_flags(
        self,
        env: &Env,
        place: &Surroundings,
        unique: &str,
    ) -> Result<Flags, ConfigError> {
        let mut flags = self.up;
        flags.name = self.instance_name.or(flags.name);
        let home = match (&flags.state_dir, self.persist) {
            (Some(_), _) => StateHome::Named,
            (None, true) => StateHome::Project,
            (None, false) => StateHome::Temporary,
        };
        // Never that of `RELAY_BROKER_STATE_DIR`: an agent has it of its own broker, and may start another one.
        flags.state_dir = Some(match (flags.state_dir.take(), self.persist) {
            (Some(named), _) => named,
            (None, true) => place.resolve(PROJECT_STATE_DIR.as_ref())?,
            (None, false) => temporary(&node_name(&flags, env, place)?, env, unique),
        });
        flags.grace = flags.grace.or(Some(GRACE));
        flags.init = Some(InitTerms {
            persist: self.persist,
            home,
        });
        Ok(flags)
    }
}

/// How the names of temporary folders begin; the number of the broker's process follows.
pub const TEMPORARY: &str = "agent-relay-ephemeral-";

/// The name that upstream's temporary folders have, of nothing but letters, digits and dashes.
fn temporary(name: &str, env: &Env, unique: &str) -> PathBuf {
    let safe = |c: char| match c.is_ascii_alphanumeric() {
        true => c,
        false => '-',
    };
    let name: String = name.chars().take(40).map(safe).collect();
    let pid = std::process::id();
    env.temp_dir()
        .join(format!("{TEMPORARY}{pid}-{name}-{unique}"))
}
