//! The one reader of the environment and of key files. It turns flags and variables into settings that nothing changes
//! afterwards. It starts nothing and writes nothing; callers see plain values or one sentence that says what is wrong.

mod agents;
mod env;
mod error;
mod file;
mod flags;
mod plan;
mod profiles;
mod proxy;
mod service;
mod surroundings;
#[cfg(test)]
mod tests;

pub use env::{Env, VARIABLES};
pub use error::ConfigError;
pub use flags::{ExitWith, Flags, LogFormat};
pub use plan::{
    EngineChoice, HOSTED_ENGINE, STATE_DIR, StartPlan, check_key, check_listen, plan, state_dir,
};
pub use surroundings::Surroundings;
