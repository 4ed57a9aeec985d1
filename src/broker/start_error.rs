//! Why a broker did not start.

use crate::journal::LockError;
use crate::sys::sysexit::Sysexit;

/// Why a broker did not start: one line that names the thing and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// The line.
    pub text: String,
    /// What the process ends with.
    pub exit: Sysexit,
}

impl StartError {
    pub(super) fn new(exit: Sysexit, what: impl std::fmt::Display) -> Self {
        Self {
            text: what.to_string(),
            exit,
        }
    }

    /// None of the reasons that have an exit code of their own.
    pub(super) fn because(what: impl std::fmt::Display) -> Self {
        Self::new(Sysexit::Failure, what)
    }

    /// The state folder, or something in it, is in the way.
    pub(super) fn folder(what: impl std::fmt::Display) -> Self {
        Self::new(Sysexit::CantCreate, what)
    }
}

impl From<LockError> for StartError {
    fn from(error: LockError) -> Self {
        Self::new(lock_exit(&error), error)
    }
}

/// What a process ends with that does not get the lock of its folder.
pub fn lock_exit(error: &LockError) -> Sysexit {
    match error {
        LockError::Held { .. } => Sysexit::TempFail,
        LockError::Disk(_) => Sysexit::CantCreate,
    }
}
