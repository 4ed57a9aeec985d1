//! The environment: variables, and the key files that they name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::reading;

/// How long a file with one value may be.
const VALUE_BYTES: u64 = 64 * 1024;

/// Every variable that is read here, each also as `NAME_FILE`, and those that clients of other brokers set: whoever
/// starts a broker that must not inherit any of it removes these.
pub const VARIABLES: [&str; 21] = [
    "AGENT_RELAY_NODE_HARNESSES",
    "RELAYCAST_BASE_URL",
    "RELAY_BASE_URL",
    "AGENT_RELAY_WORKSPACE_KEY",
    "RELAY_WORKSPACE_KEY",
    "RELAY_API_KEY",
    "RELAY_BROKER_API_KEY",
    "AGENT_RELAY_BROKER_NAME",
    "RELAY_DEFAULT_CHANNELS",
    "RELAY_NODE_ID",
    "RELAY_NODE_TOKEN",
    "RELAY_BROKER_CA_FILE",
    "RELAY_BROKER_CONFIG",
    "RELAY_BROKER_STATE_DIR",
    "AGENT_RELAY_STATE_DIR",
    "RELAY_AGENT_NAME",
    "RELAY_AGENT_TOKEN",
    "RELAY_SKIP_BOOTSTRAP",
    "RELAY_WORKSPACE_ID",
    "RELAY_WORKSPACES_JSON",
    "RUST_LOG",
];

/// From a variable's name to its value.
type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// The environment, as a function so that tests can make one up.
pub struct Env(Box<Lookup>);

impl Env {
    /// The process's own.
    pub fn process() -> Self {
        Self(Box::new(|name| std::env::var_os(name)))
    }

    /// The process's own without what concerns this program, proxies and certificates: only what programs need to be found
    /// and to know whose home it is.
    pub fn process_without_settings() -> Self {
        const KEPT: [&str; 9] = [
            "HOME",
            "LANG",
            "LOGNAME",
            "NO_COLOR",
            "PATH",
            "TERM",
            "TMPDIR",
            "USER",
            "XDG_DATA_HOME",
        ];
        Self(Box::new(|name| {
            KEPT.contains(&name).then(|| std::env::var_os(name))?
        }))
    }

    /// A made-up one.
    pub fn new(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self(Box::new(lookup))
    }

    pub(super) fn raw(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The value of `NAME_FILE`'s file (one trailing newline cut), else of `NAME`; empty counts as unset.
    ///
    /// # Errors
    /// When the file cannot be read or the value is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let by_file = format!("{name}_FILE");
        if let Some(path) = self.raw(&by_file) {
            return read_secret(Path::new(&path), &by_file).map(Some);
        }
        self.raw(name)
            .map(|value| {
                value.into_string().map_err(|_| {
                    ConfigError::of(name, format!("{name} is not UTF-8 text; set it again"))
                })
            })
            .transpose()
    }

    /// Who the user is, as the system has told the shell.
    pub fn user(&self) -> Option<String> {
        let name = self.raw("USER").or_else(|| self.raw("LOGNAME"));
        name.and_then(|name| name.into_string().ok())
    }

    /// The first of several names that is set.
    pub(super) fn first(
        &self,
        names: &[&'static str],
    ) -> Result<Option<(&'static str, String)>, ConfigError> {
        for name in names {
            if let Some(value) = self.text(name)? {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }

    /// A folder, which need not be UTF-8.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from)
    }

    /// Whether colours are unwelcome: `NO_COLOR` is set, or the terminal is a dumb one.
    pub fn no_color(&self) -> bool {
        self.raw("NO_COLOR").is_some_and(|value| !value.is_empty())
            || self.raw("TERM").is_some_and(|term| term == "dumb")
    }

    /// `RUST_LOG`, when it is text.
    pub fn log_filter(&self) -> Option<String> {
        self.raw("RUST_LOG")
            .and_then(|text| text.into_string().ok())
    }

    /// Whether this stream is the journal of systemd, as `JOURNAL_STREAM` names it by device and inode.
    pub fn is_journal(&self, stream: &impl std::os::fd::AsFd) -> bool {
        let named = self.raw("JOURNAL_STREAM");
        let named = named
            .as_ref()
            .and_then(|text| text.to_str()?.split_once(':'));
        let Some((device, inode)) = named else {
            return false;
        };
        rustix::fs::fstat(stream).is_ok_and(|found| {
            device.parse() == Ok(found.st_dev) && inode.parse() == Ok(found.st_ino)
        })
    }

    /// The faults a crash test asks for (`RELAY_BROKER_FAULTS`); unknown to a release build.
    #[cfg(debug_assertions)]
    pub fn faults(&self) -> Option<String> {
        self.raw("RELAY_BROKER_FAULTS")
            .and_then(|text| text.into_string().ok())
    }

    /// Where temporary folders go: `TMPDIR`, else `/tmp`, else the working directory, for an image that holds nothing but
    /// the program.
    pub fn temp_dir(&self) -> PathBuf {
        let usual = PathBuf::from("/tmp");
        let here = || match usual.is_dir() {
            true => usual.clone(),
            false => std::env::current_dir().unwrap_or(usual.clone()),
        };
        self.path("TMPDIR").unwrap_or_else(here)
    }

    /// The token of the agent in whose terminal this runs, if it runs in one.
    pub fn own_token(&self) -> Option<String> {
        let token = self.raw("RELAY_AGENT_TOKEN")?;
        Some(token.to_string_lossy().into_owned())
    }

    /// `RELAY_BROKER_STATE_DIR`.
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.path("RELAY_BROKER_STATE_DIR")
    }

    /// The workspace key and where it is from: the first of the names that existing clients set, else what a service manager
    /// keeps for us as `workspace-key`.
    ///
    /// # Errors
    /// As [`Env::text`].
    pub fn workspace_key(&self) -> Result<Option<(&'static str, String)>, ConfigError> {
        let named = self.first(&[
            "AGENT_RELAY_WORKSPACE_KEY",
            "RELAY_WORKSPACE_KEY",
            "RELAY_API_KEY",
        ])?;
        match named {
            Some(named) => Ok(Some(named)),
            None => {
                let kept = self.credential("workspace-key")?;
                Ok(kept.map(|key| ("the credential workspace-key", key)))
            }
        }
    }

    /// Where the machine seed and the node tokens of this user are kept.
    pub fn data_dir(&self, state_dir: &Path) -> PathBuf {
        let base = self
            .path("XDG_DATA_HOME")
            .filter(|dir| dir.is_absolute())
            .or_else(|| Some(self.path("HOME")?.join(".local/share")));
        base.map_or_else(|| state_dir.to_owned(), |dir| dir.join("agent-relay"))
    }
}

/// The one value that a file holds, which `what`, a flag or a variable, names.
pub(super) fn read_secret(path: &Path, what: &str) -> Result<String, ConfigError> {
    let wrong = |why: String| {
        let path = path.display();
        ConfigError::of_named_file(what, format!("{what} names {path}, which {why}"))
    };
    let text = reading::value(path, VALUE_BYTES).map_err(|e| {
        wrong(format!(
            "cannot be read: {e}; name a file that is there and that you may read"
        ))
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text.is_empty() {
        true => Err(wrong("is empty; put the value into it".to_owned())),
        false => Ok(text.to_owned()),
    }
}
