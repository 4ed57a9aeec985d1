//! Why a broker did not start.

/// Why a broker did not start: one line that names the thing and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub(super) String);

impl StartError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        1
    }

    pub(super) fn because(what: impl std::fmt::Display) -> Self {
        Self(what.to_string())
    }
}
