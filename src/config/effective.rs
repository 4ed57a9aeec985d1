//! What is in force and who said so: one row for every flag of `up` and for every variable, and every key of the file. Values
//! that open something are never shown.

use std::path::Path;
use std::time::Duration;

use super::document::FileEntry;
use super::engine_choice::EngineChoice;
use super::env::Env;
use super::error::SettingOrigin;
use super::flags::Flags;
use super::plan::StartPlan;

/// A setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The flag without dashes, the variable, or the key of the file with its table.
    pub name: String,
    /// The value for people; `set` for a secret.
    pub value: String,
    /// Who said so.
    pub origin: SettingOrigin,
}

/// What is shown of what opens something.
const SECRET: &str = "set";
/// What is shown where there is none.
const NONE: &str = "none";

/// One row of the table.
pub(super) struct SettingRow {
    /// The name that is shown.
    pub(super) name: &'static str,
    /// The flags that say it, the strongest first.
    pub(super) flags: &'static [&'static str],
    /// The variables that say it where no flag does, the strongest first.
    pub(super) variables: &'static [&'static str],
    /// The key of the file that says it where no variable does.
    key: Option<&'static str>,
    /// Which of the flags is given.
    given: fn(&Flags) -> Option<usize>,
    value: fn(&StartPlan, &Flags) -> String,
}

fn yes(given: bool) -> Option<usize> {
    given.then_some(0)
}

fn span(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn span_or_ever(time: Option<Duration>) -> String {
    time.map_or("for ever".to_owned(), span)
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or(NONE.to_owned(), |value| value.to_string())
}

fn secret(is_set: bool) -> String {
    match is_set {
        true => SECRET,
        false => NONE,
    }
    .to_owned()
}

fn path(path: Option<&Path>) -> String {
    or_none(path.map(Path::display))
}

/// A row that flags alone say.
const fn of_flag(
    flags: &'static [&'static str],
    given: fn(&Flags) -> Option<usize>,
    value: fn(&StartPlan, &Flags) -> String,
) -> SettingRow {
    SettingRow {
        name: flags[0],
        flags,
        variables: &[],
        key: None,
        given,
        value,
    }
}

/// A row that variables say, too.
const fn or_variables(variables: &'static [&'static str], row: SettingRow) -> SettingRow {
    SettingRow { variables, ..row }
}

/// A row that variables alone say.
const fn of_variables(
    variables: &'static [&'static str],
    value: fn(&StartPlan, &Flags) -> String,
) -> SettingRow {
    SettingRow {
        name: variables[0],
        flags: &[],
        variables,
        key: None,
        given: |_| None,
        value,
    }
}

/// Everything but the keys of the file.
pub(super) static ROWS: &[SettingRow] = &[
    or_variables(
        &["RELAY_BROKER_CONFIG"],
        of_flag(
            &["config"],
            |f| yes(f.config.is_some()),
            |p, _| path(p.file()),
        ),
    ),
    or_variables(
        &["AGENT_RELAY_BROKER_NAME"],
        of_flag(
            &["name"],
            |f| yes(f.name.is_some()),
            |p, _| p.name().to_owned(),
        ),
    ),
    or_variables(
        &["RELAY_BROKER_STATE_DIR"],
        of_flag(
            &["state-dir"],
            |f| yes(f.state_dir.is_some()),
            |p, _| p.state_dir().display().to_string(),
        ),
    ),
    or_variables(
        &["RELAYCAST_BASE_URL", "RELAY_BASE_URL"],
        of_flag(
            &["engine"],
            |f| yes(f.engine.is_some()),
            |p, _| match &p.engine {
                EngineChoice::Remote { url, .. } | EngineChoice::Keyless { url } => url.clone(),
                EngineChoice::Embedded { .. } => "inside this process".to_owned(),
            },
        ),
    ),
    or_variables(
        &[
            "AGENT_RELAY_WORKSPACE_KEY",
            "RELAY_WORKSPACE_KEY",
            "RELAY_API_KEY",
        ],
        of_flag(
            &["workspace-key", "workspace-key-file"],
            |f| match (&f.workspace_key, &f.workspace_key_file) {
                (Some(_), _) => Some(0),
                (None, Some(_)) => Some(1),
                (None, None) => None,
            },
            |p, _| secret(matches!(p.engine, EngineChoice::Remote { .. })),
        ),
    ),
    of_flag(
        &["engine-listen"],
        |f| yes(f.engine_listen.is_some()),
        |_, f| {
            f.engine_listen
                .map_or("as last time".to_owned(), |a| a.to_string())
        },
    ),
    of_flag(
        &["api-bind"],
        |f| yes(f.api_bind.is_some()),
        |p, _| p.node().api_bind.to_string(),
    ),
    of_flag(
        &["api-port"],
        |f| yes(f.api_port.is_some()),
        |p, _| p.node().api_port.to_string(),
    ),
    of_variables(&["RELAY_BROKER_API_KEY"], |p, _| {
        secret(p.node().api_key.is_some())
    }),
    of_flag(
        &["allow-plain-http"],
        |f| yes(f.allow_plain_http),
        |_, f| f.allow_plain_http.to_string(),
    ),
    of_flag(
        &["agent"],
        |f| yes(!f.agents.is_empty()),
        |_, f| match f.agents.is_empty() {
            true => NONE.to_owned(),
            false => f.agents.join(", "),
        },
    ),
    of_flag(
        &["exit-with-agents"],
        |f| yes(f.exit_with_agents.is_some()),
        |_, f| {
            or_none(
                f.exit_with_agents
                    .map(|which| format!("{which:?}").to_lowercase()),
            )
        },
    ),
    or_variables(
        &["AGENT_RELAY_NODE_HARNESSES"],
        of_flag(
            &["harness"],
            |f| yes(!f.harnesses.is_empty()),
            |p, _| match p.node().harnesses.is_empty() {
                true => NONE.to_owned(),
                false => p.node().harnesses.join(", "),
            },
        ),
    ),
    of_flag(
        &["max-agents"],
        |f| yes(f.max_agents.is_some()),
        |p, _| match p.node().max_agents {
            0 => "no limit".to_owned(),
            most => most.to_string(),
        },
    ),
    or_variables(
        &["RELAY_NODE_ID"],
        of_flag(
            &["node-id"],
            |f| yes(f.node_id.is_some()),
            |p, _| p.node().node_id.clone().unwrap_or("derived".to_owned()),
        ),
    ),
    of_variables(&["RELAY_NODE_TOKEN"], |p, _| {
        secret(p.node().node_token.is_some())
    }),
    of_flag(
        &["strict-journal"],
        |f| yes(f.strict_journal),
        |_, f| f.strict_journal.to_string(),
    ),
    of_flag(
        &["grace"],
        |f| yes(f.grace.is_some()),
        |p, _| span(p.node().grace),
    ),
    of_flag(
        &["drain"],
        |f| yes(f.drain.is_some()),
        |p, _| span(p.node().drain),
    ),
    of_flag(
        &["ready-grace"],
        |f| yes(f.ready_grace.is_some()),
        |p, _| span(p.node().ready_grace),
    ),
    of_flag(
        &["metrics-key-file"],
        |f| yes(f.metrics_key_file.is_some()),
        |p, _| secret(p.node().metrics_key.is_some()),
    ),
    of_flag(
        &["max-pending"],
        |f| yes(f.max_pending.is_some()),
        |p, _| p.node().limits.engine.to_string(),
    ),
    of_flag(
        &["max-pending-local"],
        |f| yes(f.max_pending_local.is_some()),
        |p, _| p.node().limits.local.to_string(),
    ),
    of_flag(
        &["max-pending-bytes"],
        |f| yes(f.max_pending_bytes.is_some()),
        |p, _| p.node().limits.bytes.to_string(),
    ),
    of_flag(
        &["message-ttl"],
        |f| yes(f.message_ttl.is_some()),
        |p, _| span_or_ever(p.node().limits.ttl),
    ),
    of_flag(
        &["blocked-limit"],
        |f| yes(f.blocked_limit.is_some()),
        |p, _| span_or_ever(p.node().limits.blocked),
    ),
    of_flag(
        &["log-format"],
        |f| yes(f.log_format.is_some()),
        |p, _| format!("{:?}", p.log_format).to_lowercase(),
    ),
    SettingRow {
        key: Some("log.level"),
        ..or_variables(
            &["RUST_LOG"],
            of_flag(
                &["log-level"],
                |f| yes(f.log_level.is_some()),
                |p, _| {
                    let usual = "warn on a terminal, else info".to_owned();
                    p.log_filter.clone().unwrap_or(usual).to_lowercase()
                },
            ),
        )
    },
    of_flag(
        &["log-file"],
        |f| yes(f.log_file.is_some()),
        |_, f| path(f.log_file.as_deref()),
    ),
    of_flag(
        &["trust-state-dir"],
        |f| yes(f.trust_state_dir),
        |_, f| f.trust_state_dir.to_string(),
    ),
    of_flag(
        &["require-state-dir"],
        |f| yes(f.require_state_dir),
        |_, f| f.require_state_dir.to_string(),
    ),
    of_flag(
        &["if-not-running"],
        |f| yes(f.if_not_running),
        |_, f| f.if_not_running.to_string(),
    ),
    of_flag(
        &["stuck-after"],
        |f| yes(f.stuck_after.is_some()),
        |_, f| f.stuck_after.map_or("30s".to_owned(), span),
    ),
    of_flag(&["detach"], |f| yes(f.detach), |_, f| f.detach.to_string()),
    of_variables(
        &[
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
        ],
        |p, _| or_none(p.node().proxy.as_ref()),
    ),
    SettingRow {
        key: Some("engine.ca_file"),
        ..or_variables(
            &["RELAY_BROKER_CA_FILE", "SSL_CERT_FILE"],
            of_flag(
                &["ca-file"],
                |f| yes(f.ca_file.is_some()),
                |p, _| match &p.node().roots {
                    Some(roots) => roots.from().to_owned(),
                    None => "the bundled authorities".to_owned(),
                },
            ),
        )
    },
];

/// The flags that have a row.
pub fn flags_shown() -> Vec<&'static str> {
    ROWS.iter().flat_map(|row| row.flags).copied().collect()
}

/// Everything that is in force, in the order of the table and then of the file.
pub fn effective(
    flags: &Flags,
    env: &Env,
    plan: &StartPlan,
    file: Option<&Path>,
    said: &[FileEntry],
) -> Vec<EffectiveSetting> {
    let of_file = |line| SettingOrigin::File(file.unwrap_or(Path::new("")).to_owned(), Some(line));
    let row = |row: &SettingRow| {
        let flag =
            (row.given)(flags).map(|index| SettingOrigin::Flag(format!("--{}", row.flags[index])));
        let variable = || row.variables.iter().find_map(|name| variable(env, name));
        let key = || {
            let entry = said
                .iter()
                .find(|entry| Some(entry.key.as_str()) == row.key)?;
            Some(of_file(entry.line))
        };
        let value = (row.value)(plan, flags);
        let otherwise = match value == SECRET {
            // A secret that none of these gives is one that a service manager keeps.
            true => SettingOrigin::Variable("CREDENTIALS_DIRECTORY".to_owned()),
            false => SettingOrigin::Default,
        };
        EffectiveSetting {
            name: row.name.to_owned(),
            value,
            origin: flag.or_else(variable).or_else(key).unwrap_or(otherwise),
        }
    };
    let entry = |entry: &FileEntry| EffectiveSetting {
        name: entry.key.clone(),
        // What a program finds in its environment is often what opens something.
        value: match entry.key.split('.').any(|part| part == "env")
            && !entry.value.ends_with("\"clean\"")
        {
            true => SECRET.to_owned(),
            false => entry.value.clone(),
        },
        origin: of_file(entry.line),
    };
    let in_table = |entry: &&FileEntry| ROWS.iter().all(|row| row.key != Some(&entry.key));
    ROWS.iter()
        .map(row)
        .chain(said.iter().filter(in_table).map(entry))
        .collect()
}

/// The variable, or the one that names its file, where it is set.
fn variable(env: &Env, name: &str) -> Option<SettingOrigin> {
    let by_file = format!("{name}_FILE");
    let set = [by_file.as_str(), name]
        .into_iter()
        .find(|name| env.raw(name).is_some())?;
    Some(SettingOrigin::Variable(set.to_owned()))
}
