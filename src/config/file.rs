//! The configuration file: how agent programs are started and treated, and which programs serve actions. What is misspelt or
//! cannot be meant is an error that names the file and the line, so that no setting is without effect unnoticed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use serde::Deserialize;

use super::agents::{self, AgentTable, Around};
use super::checks;
use super::document::{Document, FileEntry, TableFaults};
use super::env::Env;
use super::error::{ConfigError, SettingOrigin};
use super::notify;
use super::profiles::{self, Permission, ProfileTable, TrustFolder};
use super::reading;
use super::surroundings::Surroundings;
use crate::agent::profiles::Profiles;
use crate::broker::NotifySettings;
use crate::dispatch::{SteerFrom, TalkLimits};
use crate::domain::RecordForm;
use crate::history::HistoryLimits;
use crate::msg::{ActionSpec, Harness, Right, Treatment};
use crate::recording::RecordSettings;
use crate::sys::trust;
use crate::wire::event::Policy;
use crate::wire::local::SpawnRequest;

/// The file's name in the folder where `up` is run.
pub const NAME: &str = "relay-broker.toml";
/// The variable that names another one.
const VARIABLE: &str = "RELAY_BROKER_CONFIG";
/// How long the file may be; nobody writes so much by hand.
const FILE_BYTES: u64 = 4 * 1024 * 1024;
/// How long a handler may take by default; engines give an action to somebody else after 30 s
/// ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)).
const TIMEOUT: Duration = Duration::from_secs(25);
/// How many handlers of one action run at once by default.
const CONCURRENCY: usize = 4;
/// How much a handler may print by default.
const OUTPUT_MAX: usize = 1024 * 1024;

/// What the file says.
#[derive(Debug, Default, PartialEq)]
pub struct Configured {
    /// By name.
    pub harnesses: BTreeMap<String, Harness>,
    /// By action name.
    pub actions: BTreeMap<String, ActionSpec>,
    /// What is known about agent programs besides what the broker knows.
    pub rows: Profiles,
    /// Agents that start with the broker.
    pub agents: Vec<SpawnRequest>,
    /// The file, where there is one.
    pub path: Option<PathBuf>,
    /// What agents may do besides the usual.
    pub agents_may: Vec<Right>,
    /// What agents may do among themselves.
    pub talk: TalkLimits,
    /// How much is remembered of messages that ended.
    pub history: HistoryLimits,
    /// The file of those who vouch for the engine's certificate, where neither flag nor variable of ours says.
    pub ca_file: Option<PathBuf>,
    /// The command for events that want a person.
    pub notify: Option<NotifySettings>,
    /// What is kept of what agents print.
    pub recording: RecordSettings,
    /// How much is logged, where neither flag nor variable says.
    pub log_level: Option<LevelFilter>,
    /// Every key that is set, and where.
    pub said: Vec<FileEntry>,
    /// How many profiles there are.
    pub profiles: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    level: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputTable {
    record: Option<String>,
    record_bytes: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineTable {
    ca_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessTable {
    #[serde(default)]
    agents_may: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoopsTable {
    pair_limit: Option<u32>,
    pair_window: Option<String>,
    chain_limit: Option<u32>,
    chain_pause: Option<String>,
    steer_from: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryTable {
    mebibytes: Option<u64>,
    days: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HarnessTable {
    command: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    profile: Option<String>,
    #[serde(default)]
    headless: bool,
    trust_folder: Option<TrustFolder>,
    permission: Option<Permission>,
    mcp: Option<bool>,
    record: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionTable {
    command: Vec<String>,
    cwd: Option<PathBuf>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    timeout: Option<String>,
    concurrency: Option<usize>,
    max_output_bytes: Option<usize>,
}

/// Reads the file that a flag or `RELAY_BROKER_CONFIG` names, else the usual one if it is there. Of what cannot be meant
/// there is nothing in the answer, and an error each: that a named file is missing, or what is wrong in it.
pub fn read(
    flag: Option<&Path>,
    env: &Env,
    place: &Surroundings,
) -> (Configured, Vec<ConfigError>) {
    let text = match text(flag, env, place) {
        Ok(Some((path, text))) => return parse(&text, &path),
        Ok(None) => Ok(Configured::default()),
        Err(e) => Err(e),
    };
    match text {
        Ok(nothing) => (nothing, Vec::new()),
        Err(e) => (Configured::default(), vec![e]),
    }
}

/// The text of the file and its path, if there is one.
fn text(
    flag: Option<&Path>,
    env: &Env,
    place: &Surroundings,
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let (origin, named) = match (flag, env.path(VARIABLE)) {
        (Some(path), _) => ("--config", Some(path.to_owned())),
        (None, path) => (VARIABLE, path),
    };
    if named.is_none() && place.cwd.is_none() {
        return Ok(None);
    }
    let path = place.resolve(named.as_deref().unwrap_or(Path::new(NAME)));
    let path = path.map_err(|e| ConfigError {
        origin: SettingOrigin::named(origin),
        ..e
    })?;
    if named.is_none() {
        trust::chosen(&path).map_err(|why| {
            let what = format!(
                "{why}, and it names programs to be run; if you mean it, say --config {NAME}"
            );
            ConfigError::at(SettingOrigin::File(path.clone(), None), what)
        })?;
    }
    match reading::file(&path, FILE_BYTES) {
        Ok(text) => Ok(Some((path, text))),
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) if named.is_none() => Err(ConfigError::of_file(
            &path,
            None,
            format!("cannot be read: {e}"),
        )),
        Err(e) => Err(ConfigError::of_named_file(
            origin,
            format!(
                "{origin} names {}, which cannot be read: {e}; name a file that is there and that you may read",
                path.display()
            ),
        )),
    }
}

fn parse(text: &str, path: &Path) -> (Configured, Vec<ConfigError>) {
    let mut document = Document::read(text);
    let folder = path.parent().unwrap_or(Path::new("."));
    let places = std::mem::take(&mut document.places);
    let mut configured = Configured {
        path: Some(path.to_owned()),
        ..Configured::default()
    };
    let mut faults = document.faults_of(&places, "log", "");
    configured.log_level = log_level(&document.take_table("log"), &mut faults);
    let mut found = faults.found;
    let mut faults = document.faults_of(&places, "access", "");
    configured.agents_may = rights(&document.take_table("access"), &mut faults);
    found.extend(faults.found);
    let mut faults = document.faults_of(&places, "loops", "");
    configured.talk = talk(&document.take_table("loops"), &mut faults);
    found.extend(faults.found);
    let mut faults = document.faults_of(&places, "notify", "");
    configured.notify = notify::settings(document.take_table("notify"), folder, &mut faults);
    found.extend(faults.found);
    configured.recording = recording(&document.take_table("output"));
    configured.history = history(&document.take_table("history"));
    let engine: EngineTable = document.take_table("engine");
    configured.ca_file = engine.ca_file.map(|path| folder.join(path));
    // Whatever else is wrong with it, whoever names it means it.
    let mut known = document.names("profile");
    for (name, table) in document.take_named::<ProfileTable>("profile") {
        let mut faults = document.faults_of(&places, "profile", &name);
        if let Some(row) = profiles::row(&name, table, &mut faults) {
            configured.profiles += 1;
            configured.rows.add(row);
        }
        found.extend(faults.found);
    }
    known.extend(configured.rows.names());
    let harnesses = document.names("harness");
    for (name, table) in document.take_named::<HarnessTable>("harness") {
        let mut faults = document.faults_of(&places, "harness", &name);
        let harness = harness(table, &configured.rows, &known, &mut faults);
        if faults.none() {
            configured.harnesses.insert(name, harness);
        }
        found.extend(faults.found);
    }
    for (name, table) in document.take_named::<ActionTable>("action") {
        let mut faults = document.faults_of(&places, "action", &name);
        let action = action(&name, table, folder, &mut faults);
        if faults.none() {
            configured.actions.insert(name, action);
        }
        found.extend(faults.found);
    }
    let around = Around {
        harnesses: &harnesses,
        profiles: &known,
        folder,
    };
    for (name, table) in document.take_named::<AgentTable>("agent") {
        let mut faults = document.faults_of(&places, "agent", &name);
        let agent = agents::wish(&name, table, &around, &mut faults);
        agents::unlike(&configured.agents, &name, &mut faults);
        configured.agents.extend(agent);
        found.extend(faults.found);
    }
    found.extend(std::mem::take(&mut document.faults));
    found.sort_by_key(|fault| fault.line);
    let errors = found.into_iter();
    let errors = errors.map(|fault| ConfigError::of_file(path, Some(fault.line), fault.what));
    configured.said = places.said;
    (configured, errors.collect())
}

fn rights(table: &AccessTable, faults: &mut TableFaults) -> Vec<Right> {
    let known = Right::ALL.map(Right::word);
    let right = |word: &String| {
        let found = Right::ALL.into_iter().find(|right| right.word() == word);
        if found.is_none() {
            let known = known.join(", ");
            let what = format!(
                "agents_may has {word:?}, which is none of {known}; write agents_may = [\"spawn\"]"
            );
            faults.key("agents_may", what);
        }
        found
    };
    table.agents_may.iter().filter_map(right).collect()
}

fn talk(table: &LoopsTable, faults: &mut TableFaults) -> TalkLimits {
    let usual = TalkLimits::default();
    let window = checks::span(table.pair_window.as_deref()).unwrap_or(usual.window);
    if window.is_zero() {
        faults.key(
            "pair_window",
            "counts nothing: pair_window must be more than 0; write pair_window = \"20m\", or pair_limit = 0 for no limit",
        );
    }
    let pause = checks::span(table.chain_pause.as_deref()).unwrap_or(usual.pause);
    if pause.is_zero() {
        faults.key(
            "chain_pause",
            "ends every chain: chain_pause must be more than 0; write chain_pause = \"15m\", or chain_limit = 0 for no limit",
        );
    }
    TalkLimits {
        pair: table.pair_limit.unwrap_or(usual.pair),
        window,
        chain: table.chain_limit.unwrap_or(usual.chain),
        pause,
        steer_from: match table.steer_from.as_deref() {
            Some("people") => SteerFrom::People,
            _ => SteerFrom::All,
        },
    }
}

fn recording(table: &OutputTable) -> RecordSettings {
    let usual = RecordSettings::default();
    let form = table.record.as_deref().and_then(RecordForm::of);
    RecordSettings {
        form: form.unwrap_or(usual.form),
        bytes: table.record_bytes.unwrap_or(usual.bytes),
    }
}

fn history(table: &HistoryTable) -> HistoryLimits {
    let usual = HistoryLimits::default();
    let bytes = table.mebibytes.map(|mib| mib * 1024 * 1024);
    let age = table.days.map(|days| Duration::from_secs(days * 24 * 3600));
    HistoryLimits {
        bytes: bytes.unwrap_or(usual.bytes),
        age: age.unwrap_or(usual.age),
    }
}

fn log_level(table: &LogTable, faults: &mut TableFaults) -> Option<LevelFilter> {
    let text = table.level.as_ref()?;
    let level = text.parse().ok();
    if level.is_none() {
        faults.key(
            "level",
            format!("level = {text:?} is none of error, warn, info, debug, trace and off; write level = \"info\""),
        );
    }
    level
}

fn harness(
    table: HarnessTable,
    rows: &Profiles,
    known: &[String],
    faults: &mut TableFaults,
) -> Harness {
    if table.command.trim().is_empty() {
        faults.key(
            "command",
            "has an empty command; write command = \"claude\"",
        );
    }
    checks::words("command", std::slice::from_ref(&table.command), faults);
    checks::words("args", &table.args, faults);
    checks::variables(&table.env, faults);
    checks::profile(table.profile.as_ref(), known, faults);
    let treatment = Treatment {
        profile: table.profile,
        trust_folder: table.trust_folder.map(Policy::from),
        permission: table.permission.map(Policy::from),
        tools: table.mcp,
        record: table.record.as_deref().and_then(RecordForm::of),
    };
    let mut argv = vec![table.command.clone()];
    argv.extend(table.args.iter().cloned());
    if faults.none() {
        let row = rows.find(&treatment, &argv);
        let said = |policy: Option<Policy>| policy.unwrap_or_default();
        let (trust_folder, permission) = (said(treatment.trust_folder), said(treatment.permission));
        for (key, why) in profiles::unknown_dialogs(&row, trust_folder, permission) {
            faults.key(key, format!("{why}; a wrapper needs profile = \"claude\""));
        }
    }
    Harness {
        command: table.command,
        args: table.args,
        env: table.env,
        treatment,
        headless: table.headless,
    }
}

fn action(name: &str, table: ActionTable, folder: &Path, faults: &mut TableFaults) -> ActionSpec {
    if name == "release" || name == "spawn" || name.starts_with("spawn:") {
        faults.table("takes a name that the broker serves itself; choose another");
    }
    let program = table.command.first();
    if program.is_none_or(|program| program.trim().is_empty()) {
        faults.key(
            "command",
            "has no command; write command = [\"./program\", \"argument\"]",
        );
    }
    checks::words("command", &table.command, faults);
    checks::variables(&table.env, faults);
    let timeout = checks::span(table.timeout.as_deref()).unwrap_or(TIMEOUT);
    if timeout.is_zero() {
        faults.key(
            "timeout",
            "could never run: timeout must be more than 0; write timeout = \"20s\"",
        );
    }
    // Paths mean what they mean beside the file, wherever the broker was started.
    let cwd = folder.join(table.cwd.as_deref().unwrap_or(Path::new("")));
    ActionSpec {
        command: table.command,
        cwd: Some(cwd.to_string_lossy().into_owned()),
        env: table.env,
        timeout,
        concurrency: table.concurrency.unwrap_or(CONCURRENCY),
        output_max: table.max_output_bytes.unwrap_or(OUTPUT_MAX),
    }
}

#[cfg(test)]
mod tests;
