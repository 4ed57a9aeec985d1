//! `up --if-not-running`, for whoever starts it again and again (cron): nothing is done, and nothing said, while a broker of
//! the state folder is well. One that is dead is replaced; so is one that is stuck, which means that its process holds the
//! folder and its dispatcher has not answered for a time, after it was ended.

use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::find;
use super::render::{clean, note};
use crate::journal::{Lock, Tenant};
use crate::sys::clock;
use crate::sys::session::ProcessIdentity;
use crate::sys::sysexit::Sysexit;
use crate::time::Mono;

/// Between two looks at a broker that does not answer, or not yet.
const AGAIN: Duration = Duration::from_millis(250);
/// Between looks for a process that was told to end.
const LOOK: Duration = Duration::from_millis(20);
/// How long a stuck process may take to end when asked, at most; it has been silent for a while already.
const ASKED_LIMIT: Duration = Duration::from_secs(10);
/// How long the system may take to end a process that was killed.
const KILLED_LIMIT: Duration = Duration::from_secs(10);
/// How often a start may lose the folder to another one that began at the same time.
const RIVALS: usize = 5;

/// Starts a broker by `start`, unless one is well; whether it did.
///
/// # Errors
/// Those of the start; and when the one that runs is not well and a new one would not mend that, or cannot be ended.
pub fn up(
    state_dir: &Path,
    stuck_after: Duration,
    mut start: impl FnMut() -> Result<(), Failure>,
) -> Result<bool, Failure> {
    for _ in 0..RIVALS {
        if is_well(state_dir, stuck_after)? {
            return Ok(false);
        }
        match start() {
            // Somebody was faster, and may be well by now.
            Err(lost) if lost.code == Sysexit::TempFail => std::thread::sleep(AGAIN),
            done => return done.map(|()| true),
        }
    }
    // Whoever holds the folder cannot be seen from here, such as from another container.
    match asked(state_dir, None) {
        BrokerCondition::Well => Ok(false),
        BrokerCondition::Unwell(why) => Err(unwell(&why)),
        BrokerCondition::Silent => start().map(|()| true),
    }
}

/// Whether a broker runs here and is well. One that is stuck has ended when this returns.
fn is_well(state_dir: &Path, stuck_after: Duration) -> Result<bool, Failure> {
    let mut silent: Option<(ProcessIdentity, Mono)> = None;
    loop {
        let holder = Lock::holder(Tenant::Broker, state_dir);
        let Some(process) = holder.and_then(ProcessIdentity::of) else {
            return Ok(false);
        };
        match asked(state_dir, Some(process.pid)) {
            BrokerCondition::Well => return Ok(true),
            BrokerCondition::Unwell(why) => return Err(unwell(&why)),
            BrokerCondition::Silent => {}
        }
        let now = clock::now().mono;
        match &silent {
            Some((known, since)) if *known == process => {
                if now.since(*since) >= stuck_after {
                    end(state_dir, &process, stuck_after)?;
                    return Ok(false);
                }
            }
            _ => silent = Some((process, now)),
        }
        std::thread::sleep(AGAIN);
    }
}

/// What a broker says of itself.
enum BrokerCondition {
    Well,
    /// It works, and something is in its way that a new one would find just the same.
    Unwell(String),
    /// It says nothing, or that its dispatcher does not.
    Silent,
}

/// Asks whoever answers for the folder; the process `pid`, if one is named.
fn asked(state_dir: &Path, pid: Option<u32>) -> BrokerCondition {
    let Ok(file) = find::connection_in(state_dir) else {
        return BrokerCondition::Silent;
    };
    if pid.is_some_and(|pid| pid != file.pid) {
        return BrokerCondition::Silent;
    }
    match Client::new(&file).probe("/livez") {
        Ok((true, _)) => BrokerCondition::Well,
        Ok((false, answer)) => judge(&answer),
        Err(_) => BrokerCondition::Silent,
    }
}

fn judge(answer: &Value) -> BrokerCondition {
    let checks = answer["checks"].as_array().into_iter().flatten();
    let failed =
        checks.filter_map(|check| Some((check["name"].as_str()?, check["reason"].as_str()?)));
    let failed: Vec<(&str, &str)> = failed.collect();
    if failed.is_empty() || failed.iter().any(|(name, _)| *name == "dispatcher") {
        return BrokerCondition::Silent;
    }
    let told = failed
        .iter()
        .map(|(name, why)| format!("{name}: {}", clean(why)));
    BrokerCondition::Unwell(told.collect::<Vec<_>>().join("; "))
}

fn unwell(why: &str) -> Failure {
    Failure::with(
        Sysexit::TempFail,
        format!(
            "a broker runs here, and it is not well: {why}; a new one would find the same, so it was left alone"
        ),
    )
}

/// Ends a stuck process: asks it, kills it, and says so.
fn end(state_dir: &Path, process: &ProcessIdentity, silent: Duration) -> Result<(), Failure> {
    let pid = process.pid;
    let ended = told(process, Signal::TERM, silent.min(ASKED_LIMIT))?
        || told(process, Signal::KILL, KILLED_LIMIT)?;
    if !ended {
        return Err(Failure::new(format!(
            "the broker of {} is stuck, and its process {pid} cannot be ended: look at it with `ps -o stat,wchan -p {pid}`; \
             D means that it waits for a disk or a network drive",
            state_dir.display()
        )));
    }
    note(&format!(
        "relay-broker: the broker of {} (process {pid}) did not answer for {} and was ended; a new one starts",
        state_dir.display(),
        humantime::format_duration(silent)
    ));
    Ok(())
}

/// Sends a signal and waits; whether the process has ended. It is sent to no other that has its number by now.
fn told(process: &ProcessIdentity, signal: Signal, limit: Duration) -> Result<bool, Failure> {
    let number = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let sent = number
        .filter(|_| process.is_there())
        .map_or(Ok(()), |number| kill_process(number, signal));
    match sent {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(e) => {
            return Err(Failure::with(
                Sysexit::NoPermission,
                format!(
                    "the broker does not answer, and its process {} cannot be ended: {e}; end it as the user who started it",
                    process.pid
                ),
            ));
        }
    }
    let until = clock::now().mono + limit;
    while process.is_there() && clock::now().mono < until {
        std::thread::sleep(LOOK);
    }
    Ok(!process.is_there())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_disk_that_is_full_is_no_reason_for_a_new_start_and_a_dispatcher_that_is_silent_is() {
        let answer = |names: &[&str]| {
            let checks = names
                .iter()
                .map(|name| json!({"name": name, "reason": "why"}));
            let fine = json!({"name": "fine", "reason": null});
            json!({"checks": checks.chain([fine]).collect::<Vec<_>>()})
        };
        let unwell = judge(&answer(&["journal"]));
        assert!(matches!(unwell, BrokerCondition::Unwell(why) if why == "journal: why"));
        let silent = |names| matches!(judge(&answer(names)), BrokerCondition::Silent);
        assert!(silent(&["dispatcher"]));
        assert!(silent(&["journal", "dispatcher"]));
        assert!(silent(&[]));
    }
}
