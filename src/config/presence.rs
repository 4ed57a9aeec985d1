//! Whether what the settings name is there: programs, scripts and folders. A start does not ask, because what is missing may
//! come later; `check` does, because it mostly does not. Looks at files and starts nothing.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::env::Env;
use super::error::{ConfigError, SettingOrigin};
use super::flags::Flags;
use super::plan::{Examination, STATE_DIR};
use super::surroundings::Surroundings;
use crate::wire::local::SpawnRequest;

/// Programs whose first argument is mostly a script.
const INTERPRETERS: [&str; 12] = [
    "sh", "bash", "dash", "zsh", "ksh", "fish", "python", "python3", "node", "ruby", "perl", "bun",
];

/// Something that is worth knowing about the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it stands in the way; otherwise something just has no use.
    pub is_error: bool,
    /// Where it is said, and what is wrong.
    pub error: ConfigError,
}

impl From<ConfigError> for Finding {
    fn from(error: ConfigError) -> Self {
        Self {
            is_error: true,
            error,
        }
    }
}

/// Everything that flags, variables and the file name and that is not there.
pub fn missing(
    flags: &Flags,
    env: &Env,
    place: &Surroundings,
    examination: &Examination,
) -> Vec<Finding> {
    let look = Surveyor {
        path: env.path("PATH").unwrap_or_default().into_os_string(),
        here: place.cwd.clone().unwrap_or_default(),
        examination,
    };
    let mut found = Vec::new();
    for agent in &examination.agents {
        found.extend(look.agent(agent).into_iter().map(Finding::from));
    }
    let configured = &examination.configured;
    for (name, harness) in &configured.harnesses {
        let path = harness.env.get("PATH").map(OsString::from);
        // Where a path leads depends on the folder of whoever starts it.
        let named = harness.command.contains('/') && !harness.command.starts_with('/');
        if let (false, Err(why)) = (
            named,
            look.program(&harness.command, path.as_deref(), &look.here),
        ) {
            let what = format!("[harness.{name}] command = {:?}: {why}", harness.command);
            found.push(look.of_file(&["harness", name, "command"], what).into());
        }
    }
    for (name, action) in &configured.actions {
        let cwd = PathBuf::from(action.cwd.clone().unwrap_or_default());
        let path = action.env.get("PATH").map(OsString::from);
        for (key, why) in look.command(&action.command, path.as_deref(), &cwd) {
            let what = format!("[action.{name}] {key}: {why}");
            found.push(look.of_file(&["action", name, key], what).into());
        }
    }
    found.extend(offered(flags, env, &look));
    found.extend(folders(flags, env, place).into_iter().map(Finding::from));
    found
}

/// What is offered to others and cannot be started.
fn offered(flags: &Flags, env: &Env, look: &Surveyor) -> Vec<Finding> {
    const LIST: &str = "AGENT_RELAY_NODE_HARNESSES";
    let (origin, names) = match (&flags.harnesses[..], env.text(LIST)) {
        ([], Ok(Some(list))) => {
            let names = list.split(',').map(|name| name.trim().to_owned());
            (LIST, names.filter(|name| !name.is_empty()).collect())
        }
        (names, _) => ("--harness", names.to_vec()),
    };
    let harnesses = &look.examination.configured.harnesses;
    let unknown = names
        .into_iter()
        .filter(|name| !harnesses.contains_key(name));
    let found = unknown.filter_map(|name| {
        let why = look.program(&name, None, &look.here).err()?;
        Some(Finding {
            is_error: false,
            error: ConfigError::of(
                origin,
                format!("{origin} offers {name:?}: {why}; others would start it in vain"),
            ),
        })
    });
    found.collect()
}

/// Folders that must be there, or that something else has the name of.
fn folders(flags: &Flags, env: &Env, place: &Surroundings) -> Vec<ConfigError> {
    let mut wrong = Vec::new();
    let (origin, state) = match (&flags.state_dir, env.state_dir()) {
        (None, Some(dir)) => ("RELAY_BROKER_STATE_DIR", dir),
        (flag, _) => ("--state-dir", flag.clone().unwrap_or(STATE_DIR.into())),
    };
    if let Ok(dir) = place.resolve(&state) {
        if dir.exists() && !dir.is_dir() {
            let what = format!(
                "{origin} names {}, which is not a folder; name another one",
                dir.display()
            );
            wrong.push(ConfigError::of(origin, what));
        } else if flags.require_state_dir && !dir.is_dir() {
            let what = format!(
                "--require-state-dir: the state folder {} is not there; mount its volume, or make it",
                dir.display()
            );
            wrong.push(ConfigError::of("--require-state-dir", what));
        }
    }
    let log = flags
        .log_file
        .as_deref()
        .and_then(|path| place.resolve(path).ok());
    if let Some(log) = log {
        let folder = log.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() || log.is_dir() {
            let what = format!(
                "--log-file names {}, which is a folder, or lies in one that is not there; make the folder, or name another file",
                log.display()
            );
            wrong.push(ConfigError::of("--log-file", what));
        }
    }
    wrong
}

/// What all looks need.
struct Surveyor<'a> {
    path: OsString,
    /// Where `up` runs.
    here: PathBuf,
    examination: &'a Examination,
}

impl Surveyor<'_> {
    fn agent(&self, agent: &SpawnRequest) -> Vec<ConfigError> {
        let configured = &self.examination.configured;
        let mut argv =
            shell_words::split(agent.cli.as_deref().unwrap_or_default()).unwrap_or_default();
        argv.extend(agent.args.iter().cloned());
        let mut path = agent.env.get("PATH").map(OsString::from);
        let is_declared = configured
            .agents
            .iter()
            .any(|other| other.name == agent.name);
        if let Some(harness) = argv.first().and_then(|name| configured.harnesses.get(name)) {
            let rest = argv.split_off(1);
            argv = std::iter::once(&harness.command)
                .chain(&harness.args)
                .cloned()
                .collect();
            argv.extend(rest);
            path = path.or(harness.env.get("PATH").map(OsString::from));
        }
        let cwd = agent.cwd.as_ref().map_or(self.here.clone(), PathBuf::from);
        let told = self.command(&argv, path.as_deref(), &cwd).into_iter();
        let told = told.map(|(key, why)| match is_declared {
            true => {
                let what = format!("[agent.{}] {key}: {why}", agent.name);
                self.of_file(&["agent", &agent.name, key], what)
            }
            false => ConfigError::of("--agent", format!("--agent {}: {why}", agent.name)),
        });
        told.collect()
    }

    /// What is wrong with a command line, by the key that says it.
    fn command(
        &self,
        argv: &[String],
        path: Option<&OsStr>,
        cwd: &Path,
    ) -> Vec<(&'static str, String)> {
        if !cwd.is_dir() {
            let why = format!(
                "{} is not a folder; make it, or name another one",
                cwd.display()
            );
            return vec![("cwd", why)];
        }
        let Some((program, args)) = argv.split_first() else {
            return Vec::new();
        };
        if let Err(why) = self.program(program, path, cwd) {
            return vec![("command", format!("{program:?}: {why}"))];
        }
        let file_name = Path::new(program).file_name().and_then(OsStr::to_str);
        let script = args.first().filter(|arg| !arg.starts_with('-'));
        match (script, file_name) {
            (Some(script), Some(name))
                if INTERPRETERS.contains(&name) && !cwd.join(script).exists() =>
            {
                let place = cwd.join(script);
                let why = format!(
                    "there is no script {}; correct its name, or put it there",
                    place.display()
                );
                vec![("command", why)]
            }
            _ => Vec::new(),
        }
    }

    /// Why the program cannot be started.
    fn program(&self, name: &str, path: Option<&OsStr>, cwd: &Path) -> Result<(), String> {
        if name.contains('/') {
            return can_run(&cwd.join(name));
        }
        let path = path.unwrap_or(&self.path);
        let places = std::env::split_paths(path).map(|folder| cwd.join(folder).join(name));
        let mut why = None;
        for place in places.filter(|place| place.is_file()) {
            match can_run(&place) {
                Ok(()) => return Ok(()),
                Err(e) => why = why.or(Some(e)),
            }
        }
        Err(why.unwrap_or_else(|| {
            "no such program in PATH; install it, or write its whole path".to_owned()
        }))
    }

    /// The line on which the first of these keys that is in the file stands.
    fn of_file(&self, key: &[&str], what: String) -> ConfigError {
        let configured = &self.examination.configured;
        let table = key[..2.min(key.len())].join(".");
        let exact = key.join(".");
        let line = |wanted: &dyn Fn(&str) -> bool| {
            let mut said = configured.said.iter();
            said.find(|entry| wanted(&entry.key))
                .map(|entry| entry.line)
        };
        let below = format!("{table}.");
        let line = line(&|key| key == exact)
            .or_else(|| line(&|key| key == format!("{below}harness")))
            .or_else(|| line(&|key| key.starts_with(&below)));
        match &configured.path {
            Some(path) => ConfigError::of_file(path, line, what),
            None => ConfigError::at(SettingOrigin::Default, what),
        }
    }
}

/// Why a file cannot be run as a program.
fn can_run(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let Ok(found) = std::fs::metadata(path) else {
        return Err(format!(
            "there is no file {shown}; correct its name, or put it there"
        ));
    };
    if !found.is_file() {
        return Err(format!("{shown} is not a file; name a program"));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(format!("{shown} is not executable; `chmod +x` it"));
    }
    match interpreter(path) {
        Some(other) if !other.exists() => Err(format!(
            "the first line of {shown} names {}, which is not there; correct the line, or install that",
            other.display()
        )),
        _ => Ok(()),
    }
}

/// What the first line of a script names.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    line.split_whitespace().next().map(PathBuf::from)
}
