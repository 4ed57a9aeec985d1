//! `up --detach`, for those without a supervisor: the same command line once more, as a process of its own session whose
//! log is a file. Whoever asked waits until it is ready, and hears why if it ends instead.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::render::note;
use crate::sys::stdio;
use crate::sys::sysexit::Sysexit;

/// The flag that is left out for the process that stays.
const FLAG: &str = "--detach";
/// The one that it has instead.
const STAYS: &str = "--detached";
/// The log in the state folder, when no other is named.
pub const LOG: &str = "broker.log";

/// Starts the program again with the same arguments, and waits until its API answers. It logs to `log`, which is added to the
/// arguments as `unnamed` where they do not name it.
///
/// # Errors
/// That of the start, with its exit code.
pub fn start(
    c: &Context,
    program: &Path,
    log: &Path,
    unnamed: Option<&Path>,
) -> Result<(), Failure> {
    let mut child = Command::new(program)
        .arg0(env!("CARGO_PKG_NAME"))
        .args(arguments(std::env::args_os().skip(1), unnamed))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::new(format!("cannot start a process of its own: {e}")))?;
    let mut first = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = BufReader::new(out).read_line(&mut first);
    }
    if first.is_empty() {
        return ended(child);
    }
    let mut facts = serde_json::from_str(&first).unwrap_or_default();
    if let Value::Object(facts) = &mut facts {
        facts.insert("log_file".to_owned(), json!(log));
    }
    let text = format!(
        "{first}relay-broker runs as process {}; its log is {}\n",
        child.id(),
        log.display()
    );
    c.tell(&facts, &text)
}

/// Says what the other process said; what is a note for programs already stays as it is.
fn pass_on(line: &str) {
    let said: Value = serde_json::from_str(line).unwrap_or_default();
    match said["note"]["message"].as_str() {
        Some(text) => note(text),
        None => note(line),
    }
}

/// Those of the process that stays.
fn arguments(given: impl Iterator<Item = OsString>, log: Option<&Path>) -> Vec<OsString> {
    let given = given.map(|arg| if arg == FLAG { STAYS.into() } else { arg });
    let log = log.map(|log| ["--log-file".into(), log.into()]);
    given.chain(log.into_iter().flatten()).collect()
}

/// It ended before it was ready: what it said, and how.
fn ended(mut child: Child) -> Result<(), Failure> {
    let mut said = Vec::new();
    if let Some(mut err) = child.stderr.take() {
        let _ = err.read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    let status = child
        .wait()
        .map_err(|e| Failure::new(format!("the process that was to stay is gone: {e}")))?;
    let mut lines: Vec<&str> = said.lines().collect();
    if status.success() {
        lines.iter().for_each(|line| pass_on(line));
        return Ok(());
    }
    let last = lines.pop().unwrap_or_default();
    lines.iter().for_each(|line| pass_on(line));
    let code = status.code().and_then(Sysexit::of_code);
    let code = code.unwrap_or(Sysexit::Failure);
    let facts: Value = serde_json::from_str(last).unwrap_or_default();
    if let Some(reason) = facts["error"]["message"].as_str() {
        let word = facts["error"]["code"].as_str().unwrap_or_default();
        return Err(Failure::with(code, reason).named(word));
    }
    // A line of the log, where that is JSON.
    let last = facts["message"].as_str().unwrap_or(last);
    let reason = match last.split_once("relay-broker: ") {
        Some((_, reason)) => reason.to_owned(),
        None if last.is_empty() => format!("the process that was to stay ended at once: {status}"),
        None => last.to_owned(),
    };
    Err(Failure::with(code, reason))
}

/// In the process that stays, before it starts anything: out of the session of whoever started it.
pub fn leave_session() {
    // A process that leads its group already has a session of its own.
    let _ = rustix::process::setsid();
}

/// In the process that stays, once it is ready: whatever libraries write to standard error goes into the log.
pub fn complain_into(log: &Path) {
    if let Err(e) = stdio::redirect_error(log) {
        log::warn!(
            "standard error stays where it is, and not in {}: {e}",
            log.display()
        );
    }
}

/// In the process that stays, once it has said so: nobody reads standard output any more.
pub fn fall_silent() {
    if let Err(e) = stdio::silence_output() {
        log::debug!("standard output stays open: {e}");
    }
}

/// The log file: as named, else in the state folder.
pub fn log_file(named: Option<&Path>, state_dir: &Path) -> PathBuf {
    named.map_or_else(|| state_dir.join(LOG), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_stays_has_the_same_arguments_and_a_log_file() {
        let all = |given: &[&str], log: Option<&str>| {
            let given = given.iter().map(OsString::from);
            let all = arguments(given, log.map(Path::new));
            all.into_iter()
                .map(|arg| arg.into_string().expect("text"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            all(
                &["up", "--detach", "--agent", "a=b c"],
                Some("/s/broker.log")
            ),
            [
                "up",
                "--detached",
                "--agent",
                "a=b c",
                "--log-file",
                "/s/broker.log"
            ]
        );
        assert_eq!(
            all(&["up", "--detach", "--log-file=x"], None),
            ["up", "--detached", "--log-file=x"]
        );
    }
}
