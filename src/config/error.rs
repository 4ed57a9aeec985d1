//! What is wrong with the settings, and where that is said.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::sys::sysexit::Sysexit;

/// Where a setting is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    /// A flag of the command line, with its dashes.
    Flag(String),
    /// A variable of the environment, or what a service manager keeps in its place.
    Variable(String),
    /// A line of the configuration file; without one, the file as a whole.
    File(PathBuf, Option<usize>),
    /// Nobody said, so it is what it is by default.
    Default,
}

impl SettingOrigin {
    /// A flag or a variable, as sentences name it.
    pub(super) fn named(name: &str) -> Self {
        match name.starts_with("--") {
            true => Self::Flag(name.to_owned()),
            false => Self::Variable(name.to_owned()),
        }
    }

    /// A word for the kind, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Flag(_) => "flag",
            Self::Variable(_) => "variable",
            Self::File(..) => "file",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What is wrong with a flag, a variable or a file: one sentence that names it, with the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ConfigError {
    /// The sentence.
    pub text: String,
    /// [`Sysexit::Usage`] for what the command line itself says, [`Sysexit::Config`] for what variables and files say.
    pub exit: Sysexit,
    /// Who says it.
    pub origin: SettingOrigin,
}

impl ConfigError {
    /// What a flag or a variable says cannot be meant.
    pub(super) fn of(name: &str, text: impl Into<String>) -> Self {
        Self::at(SettingOrigin::named(name), text)
    }

    /// The file that a flag or a variable names cannot be read, or what it holds cannot be meant.
    pub(super) fn of_named_file(name: &str, text: impl Into<String>) -> Self {
        Self {
            exit: Sysexit::Config,
            ..Self::of(name, text)
        }
    }

    /// What a line of the configuration file says cannot be meant, or the file as a whole where there is no line.
    pub(super) fn of_file(path: &Path, line: Option<usize>, what: impl fmt::Display) -> Self {
        let origin = SettingOrigin::File(path.to_owned(), line);
        let text = format!("{origin}: {what}");
        Self::at(origin, text)
    }

    /// What is said there cannot be meant.
    pub(super) fn at(origin: SettingOrigin, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            exit: match origin {
                SettingOrigin::Flag(_) => Sysexit::Usage,
                _ => Sysexit::Config,
            },
            origin,
        }
    }
}
