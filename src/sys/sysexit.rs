//! The exit codes of the program, those of BSD's `sysexits.h` where it has one that fits: a supervisor tells by them whether
//! another start can be of use.

use std::process::ExitCode;

/// How the process ends. What a start fails with is told apart; commands that ask a running broker know 0, 1 and 2 alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sysexit {
    /// It is done; of `up`, it was asked to stop.
    Success = 0,
    /// It failed in a way that none of the others names.
    Failure = 1,
    /// The command line cannot be meant.
    Usage = 2,
    /// Several things are meant by what was named; of `trace` alone.
    Ambiguous = 3,
    /// `EX_UNAVAILABLE`: the engine cannot be reached, and this start needs it. Another try may work.
    Unavailable = 69,
    /// `EX_OSERR`: the system has no thread, process or descriptor left for it. The line names the limit that was reached.
    OsError = 71,
    /// `EX_CANTCREAT`: the state folder, or something in it, cannot be made, read, written or trusted.
    CantCreate = 73,
    /// `EX_TEMPFAIL`: a broker runs on this state folder already.
    TempFail = 75,
    /// `EX_NOPERM`: the engine refuses the workspace key or the node, or the system refuses the port. Another try is of no
    /// use before somebody grants it.
    NoPermission = 77,
    /// `EX_CONFIG`: a variable or a file says what cannot be meant.
    Config = 78,
}

impl Sysexit {
    /// All of them.
    const ALL: [Self; 10] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::Ambiguous,
        Self::Unavailable,
        Self::OsError,
        Self::CantCreate,
        Self::TempFail,
        Self::NoPermission,
        Self::Config,
    ];

    /// What another process of this program ended with; `None` where it was something else.
    pub fn of_code(code: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|exit| i32::from(exit.code()) == code)
    }

    /// The number that the parent process sees.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Sysexit> for ExitCode {
    fn from(exit: Sysexit) -> Self {
        Self::from(exit.code())
    }
}
