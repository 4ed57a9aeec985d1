//! The terms on which a client starts a broker for itself, apart from the flags in which it says so.

use super::env::Env;
use super::error::ConfigError;
use crate::ids::check_channel;

pub use crate::identity::derive::PROJECT_STATE_DIR;

/// The terms on which a client has started a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitTerms {
    /// The broker needs nobody to renew its lease.
    pub persist: bool,
    /// Where its state is.
    pub home: StateHome,
}

/// Where the state of a broker is that a client has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateHome {
    /// In the folder that the client has named.
    Named,
    /// In the project's folder, [`PROJECT_STATE_DIR`].
    Project,
    /// In a folder that is made for this start and goes with it.
    Temporary,
}

/// `RELAY_DEFAULT_CHANNELS`: the channels of agents whose spawn names none.
pub(super) fn default_channels(env: &Env) -> Result<Vec<String>, ConfigError> {
    const VARIABLE: &str = "RELAY_DEFAULT_CHANNELS";
    let list = env.text(VARIABLE)?;
    let list = list.as_deref().unwrap_or("general,engineering");
    let names = list.split(',').map(str::trim);
    let names = names.filter(|name| !matches!(*name, "" | "#"));
    names
        .map(|name| {
            check_channel(name)
                .map_err(|why| ConfigError::of(VARIABLE, format!("{VARIABLE}: {why}")))
        })
        .collect()
}
