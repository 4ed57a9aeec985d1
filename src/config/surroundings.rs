//! Where the broker is started, and as what.

use std::path::{Path, PathBuf};

use super::error::ConfigError;

/// What happens around the broker, from outside: where we are and what we are.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The working directory; `None` if it cannot be told, for example because it was removed.
    pub cwd: Option<PathBuf>,
    /// This program, as long as this process lives.
    pub exe: PathBuf,
}

impl Surroundings {
    /// A path as it is meant here.
    ///
    /// # Errors
    /// When it is a relative one, and there is no working directory.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, ConfigError> {
        match &self.cwd {
            Some(cwd) => Ok(cwd.join(path)),
            None if path.is_absolute() => Ok(path.to_owned()),
            None => Err(ConfigError::of(
                "--state-dir",
                format!(
                    "{} cannot be found, because the working directory is gone; go to another one, or write the path in full \
                 (--state-dir for the state folder)",
                    path.display()
                ),
            )),
        }
    }

    /// The working directory's name.
    pub fn name(&self) -> Option<&str> {
        self.cwd.as_ref()?.file_name()?.to_str()
    }
}
