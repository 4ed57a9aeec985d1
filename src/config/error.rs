//! What is wrong with the settings.

/// What is wrong with a flag, a variable or a key file: one sentence with the way out. The exit code is 2.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);
