//! The configuration file: how agent programs are started and treated, and which programs serve actions. What is misspelt or
//! cannot be meant is an error that names the file and the line, so that no setting is without effect unnoticed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use serde::Deserialize;
use toml::Spanned;

use super::agents::{self, AgentTable, Around};
use super::env::Env;
use super::error::ConfigError;
use super::profiles::{self, Permission, ProfileTable, TrustFolder};
use super::surroundings::Surroundings;
use crate::agent::profiles::Profiles;
use crate::msg::{ActionSpec, Harness, Treatment};
use crate::sys::trust;
use crate::wire::event::Policy;
use crate::wire::local::SpawnRequest;

/// The file's name in the folder where `up` is run.
pub const NAME: &str = "relay-broker.toml";
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
    /// How much is logged, where neither flag nor variable says.
    pub log_level: Option<LevelFilter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    log: LogTable,
    #[serde(default)]
    harness: BTreeMap<String, HarnessTable>,
    #[serde(default)]
    action: BTreeMap<String, ActionTable>,
    #[serde(default)]
    profile: BTreeMap<String, ProfileTable>,
    #[serde(default)]
    agent: BTreeMap<String, Spanned<AgentTable>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    level: Option<String>,
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
    trust_folder: Option<TrustFolder>,
    permission: Option<Permission>,
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

/// Reads the file that a flag or `RELAY_BROKER_CONFIG` names, else the usual one if it is there.
///
/// # Errors
/// When a named file is missing, or what is in it cannot be meant.
pub fn read(
    flag: Option<&Path>,
    env: &Env,
    place: &Surroundings,
) -> Result<Configured, ConfigError> {
    let named = flag
        .map(Path::to_owned)
        .or_else(|| env.path("RELAY_BROKER_CONFIG"));
    if named.is_none() && place.cwd.is_none() {
        return Ok(Configured::default());
    }
    let path = place.resolve(named.as_deref().unwrap_or(Path::new(NAME)))?;
    if named.is_none() {
        let chosen = |why| {
            ConfigError::setting(format!(
                "{why}, and it names programs to be run; if you mean it, say --config {NAME}"
            ))
        };
        trust::chosen(&path).map_err(chosen)?;
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text, &path).map(|configured| Configured {
            path: Some(path),
            ..configured
        }),
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => {
            Ok(Configured::default())
        }
        Err(e) => Err(ConfigError::setting(format!(
            "{} cannot be read: {e}",
            path.display()
        ))),
    }
}

fn parse(text: &str, path: &Path) -> Result<Configured, ConfigError> {
    let wrong = |what: String| ConfigError::setting(format!("{}: {what}", path.display()));
    let file: File = toml::from_str(text).map_err(|e| wrong(sentence(text, &e)))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut configured = Configured {
        log_level: log_level(&file.log).map_err(wrong)?,
        ..Configured::default()
    };
    for (name, table) in file.profile {
        configured
            .rows
            .add(profiles::row(&name, table).map_err(wrong)?);
    }
    for (name, table) in file.harness {
        let harness = harness(&name, table, &configured.rows).map_err(wrong)?;
        configured.harnesses.insert(name, harness);
    }
    for (name, table) in file.action {
        let action = action(&name, table, folder).map_err(wrong)?;
        configured.actions.insert(name, action);
    }
    configured.agents = declared(text, path, file.agent, &configured)?;
    Ok(configured)
}

fn declared(
    text: &str,
    path: &Path,
    tables: BTreeMap<String, Spanned<AgentTable>>,
    configured: &Configured,
) -> Result<Vec<SpawnRequest>, ConfigError> {
    let around = Around {
        harnesses: &configured.harnesses,
        rows: &configured.rows,
        folder: path.parent().unwrap_or(Path::new(".")),
    };
    let mut agents: Vec<SpawnRequest> = Vec::new();
    for (name, table) in tables {
        let at = table.span().start;
        let agent = agents::wish(&name, table, &around);
        let agent = agent.and_then(|agent| agents::unlike(&agents, agent, at));
        agents.push(agent.map_err(|fault| {
            let line = line(text, fault.at);
            ConfigError::setting(format!("{}: line {line}: {}", path.display(), fault.what))
        })?);
    }
    Ok(agents)
}

fn log_level(table: &LogTable) -> Result<Option<LevelFilter>, String> {
    let level = |text: &String| {
        text.parse().map_err(|_| {
            format!("[log] level = {text:?} is none of error, warn, info, debug, trace and off")
        })
    };
    table.level.as_ref().map(level).transpose()
}

fn harness(name: &str, table: HarnessTable, rows: &Profiles) -> Result<Harness, String> {
    if table.command.trim().is_empty() {
        return Err(format!("[harness.{name}] has an empty command"));
    }
    if let Some(profile) = &table.profile
        && rows.get(profile).is_none()
    {
        let known: Vec<String> = rows.names().into_iter().collect();
        return Err(format!(
            "[harness.{name}] profile = {profile:?} names none of {}",
            known.join(", ")
        ));
    }
    let treatment = Treatment {
        profile: table.profile,
        trust_folder: table.trust_folder.map(Policy::from),
        permission: table.permission.map(Policy::from),
    };
    let mut argv = vec![table.command.clone()];
    argv.extend(table.args.iter().cloned());
    let row = rows.find(&treatment, &argv);
    let said = |policy: Option<Policy>| policy.unwrap_or_default();
    let (trust_folder, permission) = (said(treatment.trust_folder), said(treatment.permission));
    profiles::known_dialogs(&row, trust_folder, permission)
        .map_err(|why| format!("[harness.{name}] {why}; a wrapper needs profile = \"claude\""))?;
    Ok(Harness {
        command: table.command,
        args: table.args,
        env: table.env,
        treatment,
    })
}

fn action(name: &str, table: ActionTable, folder: &Path) -> Result<ActionSpec, String> {
    if name == "release" || name == "spawn" || name.starts_with("spawn:") {
        return Err(format!(
            "[action.{name}] takes a name that the broker serves itself; choose another"
        ));
    }
    if table
        .command
        .first()
        .is_none_or(|program| program.trim().is_empty())
    {
        return Err(format!(
            "[action.{name}] has no command; write command = [\"./program\", \"argument\"]"
        ));
    }
    let timeout = match &table.timeout {
        None => TIMEOUT,
        Some(text) => humantime::parse_duration(text)
            .map_err(|e| format!("[action.{name}] timeout = {text:?}: {e}; for example \"20s\""))?,
    };
    let concurrency = table.concurrency.unwrap_or(CONCURRENCY);
    if timeout.is_zero() || concurrency == 0 {
        return Err(format!(
            "[action.{name}] could never run: timeout and concurrency must be more than 0"
        ));
    }
    // Paths mean what they mean beside the file, wherever the broker was started.
    let cwd = folder.join(table.cwd.as_deref().unwrap_or(Path::new("")));
    Ok(ActionSpec {
        command: table.command,
        cwd: Some(cwd.to_string_lossy().into_owned()),
        env: table.env,
        timeout,
        concurrency,
        output_max: table.max_output_bytes.unwrap_or(OUTPUT_MAX),
    })
}

/// The parser's words on one line, with the number of the line they are about.
fn sentence(text: &str, error: &toml::de::Error) -> String {
    let words = error.message().replace('\n', "; ");
    match error.span() {
        Some(span) => {
            let line = line(text, span.start);
            format!("line {line}: {words}")
        }
        None => words,
    }
}

/// The number of the line that a byte of the file is on.
fn line(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::local::RestartWhen;

    fn parsed(text: &str) -> Result<Configured, String> {
        parse(text, Path::new("/p/relay-broker.toml")).map_err(|e| e.text)
    }

    #[test]
    fn harnesses_and_actions_are_read_with_their_defaults() {
        let all = parsed(
            "[harness.claude]\ncommand = \"claude\"\nargs = [\"--model\", \"opus\"]\n\
             [action.deploy]\ncommand = [\"./deploy.sh\"]\ntimeout = \"5s\"\nconcurrency = 1\n",
        )
        .expect("fine");
        assert_eq!(all.harnesses["claude"].args, ["--model", "opus"]);
        let deploy = &all.actions["deploy"];
        assert_eq!(
            (deploy.timeout, deploy.concurrency),
            (Duration::from_secs(5), 1)
        );
        assert_eq!(deploy.cwd.as_deref(), Some("/p/"), "beside the file");
        assert_eq!(parsed(""), Ok(Configured::default()));
        let all = parsed(
            "[harness.mine]\ncommand = \"my-claude\"\nprofile = \"slow\"\n\
             [harness.env]\ncommand = \"env\"\nargs = [\"A=1\", \"claude\"]\ntrust_folder = \"accept\"\n\
             [profile.slow]\nlike = \"claude\"\nready_within = \"2m\"\n",
        )
        .expect("fine");
        assert_eq!(
            all.harnesses["mine"].treatment.profile.as_deref(),
            Some("slow")
        );
        let env = &all.harnesses["env"].treatment;
        assert_eq!(
            (env.trust_folder, env.permission),
            (Some(Policy::Accept), None)
        );
        assert!(all.rows.get("slow").is_some_and(|row| row.composer));
    }

    #[test]
    fn a_declared_agent_is_the_wish_that_a_person_would_have_typed() {
        let all = parsed(
            "[harness.\"my claude\"]\ncommand = \"claude\"\n\
             [agent.ada]\ncommand = \"sh -c 'exit 1'\"\nargs = [\"x\"]\ncwd = \"work\"\nenv = { A = \"1\" }\n\
             restart = \"always\"\nmax_restarts = 3\nmax_failures = 2\ncooldown = \"90s\"\ntask = \"begin\"\nprofile = \"claude\"\n\
             [agent.bob]\nharness = \"my claude\"\nenv = \"clean\"\nenv_allow = [\"A_*\"]\n\
             [agent.eve]\ncommand = \"cat\"\nrestart = \"never\"\n",
        )
        .expect("fine");
        let [ada, bob, eve] = &all.agents[..] else {
            panic!("{:?}", all.agents);
        };
        assert_eq!(ada.cli.as_deref(), Some("sh -c 'exit 1'"));
        assert_eq!(ada.args, ["x"]);
        assert_eq!(ada.cwd.as_deref(), Some("/p/work"), "beside the file");
        assert_eq!((&ada.env["A"], &ada.env_allow), (&"1".to_owned(), &None));
        assert_eq!(
            (ada.task.as_deref(), ada.profile.as_deref()),
            (Some("begin"), Some("claude"))
        );
        let policy = ada.restart_policy.clone().expect("a policy");
        assert_eq!((policy.when, policy.max_restarts), (RestartWhen::Always, 3));
        assert_eq!(policy.max_consecutive_failures, 2);
        assert_eq!(
            (policy.cooldown_ms, policy.max_cooldown_ms),
            (90_000, Some(90_000))
        );
        assert_eq!(bob.cli.as_deref(), Some("'my claude'"));
        assert_eq!(bob.env_allow, Some(vec!["A_*".to_owned()]));
        let policy = bob.restart_policy.clone().expect("a policy");
        assert_eq!(
            (policy.when, policy.max_restarts),
            (RestartWhen::OnFailure, 0)
        );
        assert_eq!(
            (policy.cooldown_ms, policy.max_cooldown_ms),
            (2000, Some(60_000))
        );
        assert_eq!(eve.restart_policy, None);
    }

    /// The example that is shipped, with all that is set in it in force: a mark directly before a word or a bracket.
    fn example() -> String {
        let text = include_str!("../../packaging/relay-broker.toml");
        let set = |line: &str| {
            let words = line.strip_prefix('#')?;
            let first = words.chars().next()?;
            (first == '[' || first.is_ascii_lowercase()).then(|| words.to_owned())
        };
        let lines = text
            .lines()
            .map(|line| set(line).unwrap_or(line.to_owned()));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The keys of a table, as its refusal of another lists them.
    fn keys(table: &str) -> Vec<String> {
        let why = parsed(&format!("{table}\nno_such_key = 1")).expect_err("no such key");
        let (_, listed) = why.split_once("expected ").expect("a list of keys");
        let quoted = listed.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    }

    #[test]
    fn the_shipped_example_sets_every_key_and_all_of_it_is_accepted() {
        let all = parsed(&example()).expect("accepted");
        assert!(all.harnesses.contains_key("reviewer") && all.actions.contains_key("deploy"));
        assert_eq!(
            parsed(include_str!("../../packaging/relay-broker.toml")),
            Ok(Configured::default()),
            "and as it is shipped nothing is in force"
        );
        let example: toml::Table = example().parse().expect("TOML");
        for kind in keys("") {
            let tables = example[&kind].as_table().expect("a table");
            if tables.values().all(|value| !value.is_table()) {
                for key in keys(&format!("[{kind}]")) {
                    assert!(tables.get(&key).is_some(), "[{kind}] {key}");
                }
                continue;
            }
            for (name, table) in tables {
                for key in keys(&format!("[{kind}.{name}]")) {
                    // Some keys of agents exclude each other, so there are two of them.
                    let others = tables.values().filter(|_| kind == "agent");
                    let mut shown = others.chain([table]);
                    let shown = shown.any(|table| table.get(&key).is_some());
                    assert!(shown, "[{kind}.{name}] {key}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_file_and_line() {
        for (text, says) in [
            (
                "[harness.x]\ncomand = \"x\"",
                "line 2: unknown field `comand`",
            ),
            ("[action.x]\n", "missing field `command`"),
            ("[action.x]\ncommand = []", "[action.x] has no command"),
            ("[action.spawn]\ncommand = [\"x\"]", "serves itself"),
            (
                "[action.x]\ncommand = [\"x\"]\ntimeout = \"soon\"",
                "[action.x] timeout = \"soon\"",
            ),
            (
                "[action.x]\ncommand = [\"x\"]\nconcurrency = 0",
                "could never run",
            ),
            (
                "[harness.x]\ncommand = \"x\"\nprofile = \"y\"",
                "profile = \"y\" names none of claude, codex",
            ),
            (
                "[harness.x]\ncommand = \"x\"\ntrust_folder = \"accept\"",
                "[harness.x] trust_folder = \"accept\" has no effect",
            ),
            (
                "[harness.x]\ncommand = \"claude\"\npermission = \"accept\"",
                "line 3: unknown variant `accept`",
            ),
            (
                "[profile.x]\nstach = \"y\"",
                "line 2: unknown field `stach`",
            ),
            (
                "[profile.x]\nenter_after = \"soon\"",
                "[profile.x] enter_after",
            ),
            ("harness = 1", "line 1: invalid type"),
            ("[", "line 1:"),
        ] {
            refused(text, says);
        }
    }

    #[test]
    fn what_cannot_be_meant_of_a_declared_agent_is_named_with_file_and_line() {
        for (text, says) in [
            (
                "[agent.x]\ncomand = \"x\"",
                "line 2: unknown field `comand`",
            ),
            (
                "\n[agent.x]\nargs = []",
                "line 2: [agent.x] names no program; write command",
            ),
            (
                "[agent.\"a/b\"]\ncommand = \"x\"",
                "line 1: [agent.a/b] is no name: ",
            ),
            (
                "[agent.x]\ncommand = \"x\"\nharness = \"y\"",
                "line 3: [agent.x] has both command and harness",
            ),
            (
                "[agent.x]\ncommand = \" \"",
                "line 2: [agent.x] has an empty command",
            ),
            (
                "[agent.x]\ncommand = \"sh 'x\"",
                "line 2: [agent.x] command = \"sh 'x\" has an open quote; close it",
            ),
            (
                "[agent.x]\nharness = \"y\"\n[harness.z]\ncommand = \"z\"",
                "line 2: [agent.x] harness = \"y\" names no harness (there is z); a program goes into command",
            ),
            (
                "[agent.x]\ncommand = \"x\"\nenv = { RELAY_AGENT_NAME = \"y\" }",
                "line 1: [agent.x] env has RELAY_AGENT_NAME, which has no effect",
            ),
            (
                "[agent.x]\ncommand = \"x\"\nenv = \"bare\"",
                "line 3: invalid value: string \"bare\", expected a table such as { STAGE = \"test\" }, or \"clean\"",
            ),
            (
                "[agent.x]\ncommand = \"x\"\nenv_allow = [\"A\"]",
                "line 3: [agent.x] env_allow has no effect",
            ),
            (
                "[agent.x]\ncommand = \"x\"\nenv = \"clean\"\nenv_allow = [\"A\",\n\"A=1\"]",
                "line 5: [agent.x] env_allow has \"A=1\", which is no variable",
            ),
            (
                "[agent.x]\ncommand = \"x\"\nrestart = \"never\"\ncooldown = \"1s\"",
                "line 4: [agent.x] max_restarts, max_failures and cooldown say how it is started again",
            ),
            (
                "[agent.x]\ncommand = \"x\"\nrestart = \"sometimes\"",
                "line 3: unknown variant `sometimes`, expected one of `never`, `on-failure`, `always`",
            ),
            (
                "[agent.x]\ncommand = \"x\"\ncooldown = \"soon\"",
                "line 3: [agent.x] cooldown = \"soon\"",
            ),
            (
                "[agent.x]\ncommand = \"x\"\ntask = \"\"",
                "line 3: [agent.x] task has no words",
            ),
            (
                "[agent.x]\ncommand = \"x\"\nprofile = \"y\"",
                "line 3: [agent.x] profile = \"y\" names none of claude, codex",
            ),
            (
                "[agent.Ada]\ncommand = \"x\"\n[agent.ada]\ncommand = \"x\"",
                "line 3: [agent.ada] and [agent.Ada] are one address",
            ),
        ] {
            refused(text, says);
        }
    }

    fn refused(text: &str, says: &str) {
        let why = parsed(text).expect_err("refused");
        assert!(why.starts_with("/p/relay-broker.toml: "), "{why}");
        assert!(why.contains(says) && !why.contains('\n'), "{text:?}: {why}");
    }
}
