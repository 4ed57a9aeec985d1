//! The one reader of the environment and of key files. It turns flags and variables into settings that nothing changes
//! afterwards. It starts nothing and writes nothing; callers see plain values or one sentence that says what is wrong.

mod agent_flags;
mod agents;
mod authorities;
mod changes;
mod checks;
mod document;
mod effective;
mod engine_choice;
mod env;
mod error;
mod file;
mod flags;
mod init;
mod keys;
mod notify;
mod plan;
mod presence;
mod profiles;
mod proxy;
mod reading;
mod service;
mod surroundings;
mod terms;
#[cfg(test)]
mod tests;

pub use agents::{COOLDOWN_MAX, FAILURES};
pub use document::FileEntry;
pub use effective::{EffectiveSetting, effective, flags_shown};
pub use engine_choice::{EngineChoice, HOSTED_ENGINE, check_key, check_listen};
pub use env::{Env, VARIABLES};
pub use error::{ConfigError, SettingOrigin};
pub use flags::{ExitWith, Flags, LogFormat, long_span, short_span};
pub use init::{InitFlags, TEMPORARY};
pub use plan::{Examination, KNOWN_HARNESSES, STATE_DIR, StartPlan, examine, plan, state_dir};
pub use presence::{Finding, missing};
pub use surroundings::Surroundings;
pub use terms::{InitTerms, PROJECT_STATE_DIR, StateHome};
