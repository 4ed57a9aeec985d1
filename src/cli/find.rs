//! Where the running broker is: the state folder, then `connection.json` in it. Reads two files and starts nothing.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::render::note;
use crate::config::{Env, PROJECT_STATE_DIR, STATE_DIR};
use crate::journal::{Lock, Tenant};
use crate::sys::disk::read_small;
use crate::sys::session::alive;
use crate::sys::trust;
use crate::wire::local::ConnectionFile;

/// The file's name in the state folder.
pub const CONNECTION: &str = "connection.json";

/// The word for programs where no broker runs.
pub(super) const NO_BROKER: &str = "no_broker";
/// The word of a broker that says nothing, or not in time.
pub(super) const SILENT: &str = "broker_silent";

/// Where to look, or the folder at which the search upward began.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// Named by flag or variable, or found.
    Dir(PathBuf),
    /// No `.relay-broker` here or above.
    Nowhere(PathBuf),
}

/// Flag, then variable, then the nearest `.relay-broker` upward that is taken.
pub fn place(
    flag: Option<&Path>,
    variable: Option<&Path>,
    cwd: &Path,
    takes: impl Fn(&Path) -> bool,
) -> Place {
    if let Some(named) = flag.or(variable) {
        return Place::Dir(cwd.join(named));
    }
    cwd.ancestors()
        .flat_map(|folder| [folder.join(STATE_DIR), folder.join(PROJECT_STATE_DIR)])
        .find(|dir| takes(dir))
        .map_or_else(|| Place::Nowhere(cwd.to_owned()), Place::Dir)
}

/// How to reach the running broker.
///
/// # Errors
/// When there is none; the sentence says where was looked and how to start one.
pub fn running(flag: Option<&Path>, env: &Env) -> Result<ConnectionFile, Failure> {
    match looked(flag, env)? {
        Place::Dir(dir) => connection_in(&dir),
        Place::Nowhere(from) => Err(none(&format!(
            "looked for {STATE_DIR} in {} and the folders above",
            from.display()
        ))),
    }
}

/// The state folder, whether or not a broker runs in it.
///
/// # Errors
/// When there is none; the sentence says where was looked.
pub fn state_dir(flag: Option<&Path>, env: &Env) -> Result<PathBuf, Failure> {
    match looked(flag, env)? {
        Place::Dir(dir) => Ok(dir),
        Place::Nowhere(from) => Err(Failure::new(format!(
            "there is no {STATE_DIR} in {} or the folders above; name the state folder with --state-dir",
            from.display()
        ))),
    }
}

fn looked(flag: Option<&Path>, env: &Env) -> Result<Place, Failure> {
    let variable = env.state_dir();
    if let Some(named) = flag.or(variable.as_deref())
        && named.is_absolute()
    {
        return Ok(Place::Dir(named.to_owned()));
    }
    let cwd = std::env::current_dir().map_err(|e| {
        Failure::new(format!(
            "cannot tell the working directory ({e}); go to another one, or name the state folder by its full path with \
             --state-dir"
        ))
    })?;
    Ok(place(flag, variable.as_deref(), &cwd, ours))
}

/// Whether a folder found on the way up is one to believe. Anybody can make one in `/tmp`, with the address of a broker of
/// his own and a key for the engine of his choice.
fn ours(dir: &Path) -> bool {
    let trusted = || trust::own(dir).and_then(|()| trust::contents(dir, &[CONNECTION]));
    // Upstream's clients make their folder before any broker does.
    let begun = !dir.ends_with(PROJECT_STATE_DIR) || dir.join("journal").is_dir();
    dir.is_dir()
        && begun
        && trusted()
            .inspect_err(|why| {
                note(&format!(
                    "relay-broker: passing over a state folder: {why}; if you know the broker there, say --state-dir {}",
                    dir.display()
                ));
            })
            .is_ok()
}

fn none(looked: &str) -> Failure {
    Failure::new(format!(
        "no broker is running here; start one with `relay-broker up` ({looked})"
    ))
    .named(NO_BROKER)
}

fn unreachable(dir: &Path, pid: u32) -> Failure {
    Failure::new(format!(
        "a broker (process {pid}) holds {}, and nobody can reach it, because {CONNECTION} is not there: it has just begun, or \
         the file was removed; then `kill {pid}` ends it in order, and a new `relay-broker up` has its agents and messages",
        dir.display()
    ))
    .named(SILENT)
}

/// How to reach the broker that runs in this state folder.
///
/// # Errors
/// When there is none.
pub fn connection_in(dir: &Path) -> Result<ConnectionFile, Failure> {
    let path = dir.join(CONNECTION);
    let bytes = match read_small(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(match Lock::holder(Tenant::Broker, dir) {
                Some(pid) => unreachable(dir, pid),
                None => none(&format!("looked in {}", dir.display())),
            });
        }
        Err(e) => {
            return Err(Failure::new(match path.is_dir() {
                true => format!(
                    "{} is a folder, in the place of the file by which commands find the broker; remove it, and start the \
                     broker again",
                    path.display()
                ),
                false => format!("{e}; the file is for the user who started the broker"),
            }));
        }
    };
    let file: ConnectionFile = serde_json::from_slice(&bytes).map_err(|e| {
        Failure::new(format!(
            "{} is not readable ({e}); start the broker again with `relay-broker up`",
            path.display()
        ))
    })?;
    if !alive(file.pid) {
        return Err(Failure::new(format!(
            "the broker of {} is gone (process {} has ended without a goodbye); \
             start it again with `relay-broker up`",
            dir.display(),
            file.pid
        ))
        .named(NO_BROKER));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_then_the_variable_then_the_nearest_folder_upward() {
        let dirs = ["/a/.relay-broker", "/a/b/.relay-broker"];
        let look = |flag: Option<&str>, variable: Option<&str>, cwd: &str| {
            place(
                flag.map(Path::new),
                variable.map(Path::new),
                Path::new(cwd),
                |dir| dirs.iter().any(|d| dir == Path::new(d)),
            )
        };
        let dir = |text: &str| Place::Dir(text.into());
        assert_eq!(look(Some("/f"), Some("/v"), "/a/b/c"), dir("/f"));
        assert_eq!(look(None, Some("v"), "/a/b/c"), dir("/a/b/c/v"));
        assert_eq!(look(None, None, "/a/b/c"), dir("/a/b/.relay-broker"));
        assert_eq!(look(None, None, "/a/x/y"), dir("/a/.relay-broker"));
        assert_eq!(look(None, None, "/z"), Place::Nowhere("/z".into()));
    }

    #[test]
    fn a_dead_brokers_file_is_called_stale_and_no_file_means_no_broker() {
        let dir = std::env::temp_dir().join(format!("relay-find-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temp dir");
        let missing = connection_in(&dir).expect_err("no file");
        // Process ids stay far below this on every system we know.
        let body = r#"{"url":"http://127.0.0.1:1","port":1,"api_key":"k","pid":2147483646}"#;
        std::fs::write(dir.join(CONNECTION), body).expect("temp file");
        let stale = connection_in(&dir).expect_err("dead");
        let own = body.replace("2147483646", &std::process::id().to_string());
        std::fs::write(dir.join(CONNECTION), own).expect("temp file");
        let found = connection_in(&dir).expect("alive");
        std::fs::remove_dir_all(&dir).expect("still there");
        assert!(missing.text.contains("`relay-broker up` (looked in "));
        assert!(stale.text.contains("is gone (process 2147483646"));
        assert_eq!(found.port, 1);
    }
}
