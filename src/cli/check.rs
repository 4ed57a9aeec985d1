//! `check` and `config show`: what flags, variables and the file say, without a broker. Starts nothing and writes nothing.

use serde_json::{Value, json};

use super::args::SettingsArgs;
use super::context::Context;
use super::failure::Failure;
use super::render::{clean, table};
use super::up::place;
use crate::config::{self, Env, Examination, Finding, Flags, SettingOrigin};
use crate::sys::sysexit::Sysexit;

/// `check`: everything that is wrong, in one run.
///
/// # Errors
/// With [`Sysexit::Config`] when something stands in the way of a start.
pub fn check(c: &Context, args: &SettingsArgs) -> Result<(), Failure> {
    let (flags, env) = asked(c, args);
    let place = place()?;
    let examination = config::examine(&flags, &env, &place);
    let wrong = args.wrong.iter().chain(&examination.errors);
    let mut findings: Vec<Finding> = wrong.cloned().map(Finding::from).collect();
    findings.extend(config::missing(&flags, &env, &place, &examination));
    let fine = !findings.iter().any(|finding| finding.is_error);
    let file = examination
        .configured
        .path
        .as_ref()
        .map(|path| path.display().to_string());
    let facts = json!({
        "ok": fine,
        "file": file,
        "findings": findings.iter().map(finding_facts).collect::<Vec<_>>(),
    });
    let lines: String = findings.iter().map(|finding| line(c, finding)).collect();
    let all_well = match findings.is_empty() {
        true => summary(&examination),
        false => String::new(),
    };
    c.tell(&facts, &format!("{lines}{all_well}"))?;
    match fine {
        true => Ok(()),
        false => Err(Failure::silent(Sysexit::Config)),
    }
}

/// `config show`: what is in force, and who said so.
///
/// # Errors
/// When something that is said cannot be meant.
pub fn show(c: &Context, args: &SettingsArgs) -> Result<(), Failure> {
    let (flags, env) = asked(c, args);
    let place = place()?;
    let plan = config::plan(&flags, &env, &place)?;
    let configured = config::examine(&flags, &env, &place).configured;
    let file = configured.path.as_deref();
    let settings = config::effective(&flags, &env, &plan, file, &configured.said);
    let facts: Vec<Value> = settings
        .iter()
        .map(|setting| {
            json!({"name": setting.name, "value": setting.value, "origin": origin_facts(&setting.origin)})
        })
        .collect();
    let rows: Vec<Vec<String>> = settings
        .iter()
        .map(|setting| {
            let value = setting.value.replace('\n', " ");
            vec![setting.name.clone(), value, setting.origin.to_string()]
        })
        .collect();
    let shown = table(c.paint, &["SETTING", "VALUE", "SAID BY"], &rows);
    c.tell(&json!({"file": file, "settings": facts}), &shown)
}

/// The flags that `up` would have, and the environment that it would see.
fn asked(c: &Context, args: &SettingsArgs) -> (Flags, Env) {
    let mut flags = args.flags.clone();
    flags.state_dir = c.state_dir.clone();
    flags.config = args.file.clone().or(flags.config);
    let env = match args.no_environment {
        true => Env::process_without_settings(),
        false => Env::process(),
    };
    (flags, env)
}

fn line(c: &Context, finding: &Finding) -> String {
    let word = match finding.is_error {
        true => c.paint.bad("error"),
        false => c.paint.bold("warning"),
    };
    format!("{word}: {}\n", clean(&finding.error.text))
}

fn finding_facts(finding: &Finding) -> Value {
    json!({
        "level": if finding.is_error { "error" } else { "warning" },
        "origin": origin_facts(&finding.error.origin),
        "message": finding.error.text,
    })
}

fn origin_facts(origin: &SettingOrigin) -> Value {
    let (name, line) = match origin {
        SettingOrigin::Flag(name) | SettingOrigin::Variable(name) => (Some(name.clone()), None),
        SettingOrigin::File(path, line) => (Some(path.display().to_string()), *line),
        SettingOrigin::Default => (None, None),
    };
    json!({"kind": origin.kind(), "name": name, "line": line})
}

/// What was found to be well.
fn summary(examination: &Examination) -> String {
    let configured = &examination.configured;
    let file = match &configured.path {
        Some(path) => path.display().to_string(),
        None => "no configuration file".to_owned(),
    };
    format!(
        "ok: {file}; agents {}, harnesses {}, actions {}, profiles {}\n",
        examination.agents.len(),
        configured.harnesses.len(),
        configured.actions.len(),
        configured.profiles,
    )
}

#[cfg(test)]
mod tests;
