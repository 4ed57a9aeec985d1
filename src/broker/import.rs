//! What upstream's broker has left in the state folder, for the journal of the one that takes its place: mail that was
//! under way, dead letters, and agents, in the files of [local-api 5.2](crate::docs::local_api#5.2). Each file is taken once
//! and put aside; one that cannot be read stays where it is, is named, and holds nobody up.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::start_error::StartError;
use crate::dispatch::Estate;
use crate::domain::Mode;
use crate::ids::{AgentName, DeliveryId, MsgId};
use crate::ledger::{Delivery, Departed, Origin, StoredSpawn};
use crate::sys::clock;
use crate::sys::disk::{create_private_dir, read_untouched};
use crate::sys::sysexit::Sysexit;
use crate::sys::trust;
use crate::time::Wall;

/// The folder, in the state folder, of files that were taken.
const ASIDE: &str = "imported";
/// How many entries that cannot be read are named.
const TOLD: usize = 20;
/// What is said of agents, none of which upstream's broker starts again.
const LEFT: &str = "its broker was agent-relay-broker, in whose place this one is";

/// What was found, and where.
#[derive(Debug, Default)]
pub(super) struct Import {
    pub estate: Estate,
    files: Vec<PathBuf>,
    /// Entries of those files that cannot be read: which, and why.
    unreadable: Vec<String>,
}

/// Reads the files of `dir`.
pub(super) fn find(dir: &Path) -> Import {
    let mut import = Import::default();
    let mut names: Vec<PathBuf> = fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    names.sort();
    for path in names {
        let Some(kind) = kind(&path) else { continue };
        match import.read(&path, kind) {
            Ok(()) => import.files.push(path),
            Err(why) => log::warn!(
                "{} of an earlier broker is not taken over, and stays where it is: {why}",
                path.display()
            ),
        }
    }
    import
        .estate
        .mail
        .sort_by_key(|delivery| delivery.queued_at);
    import
}

/// Whether one of upstream's brokers runs in `dir`: its lock is by its name.
///
/// # Errors
/// In the words that clients look for.
pub fn check_free(dir: &Path) -> Result<(), StartError> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.starts_with("broker-") && name.ends_with(".lock")) {
            continue;
        }
        let held = File::open(entry.path()).map(|file| file.try_lock());
        if let Ok(Err(TryLockError::WouldBlock)) = held {
            let text = format!(
                "another broker instance is already running in this directory (pid: {}, {}); it is agent-relay-broker, so stop it \
                 first, or use another directory",
                pid(dir).map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
                dir.display()
            );
            return Err(StartError::new(Sysexit::TempFail, text));
        }
    }
    Ok(())
}

/// The process of the broker that runs in `dir`, as it has told its clients.
fn pid(dir: &Path) -> Option<u64> {
    let told = read_untouched(&dir.join("connection.json")).ok()?;
    let told: Value = serde_json::from_slice(&told).ok()?;
    told["pid"].as_u64()
}

#[derive(Clone, Copy)]
enum Kind {
    Pending,
    Dead,
    State,
}

fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
    [
        ("pending-", Kind::Pending),
        ("dead-letters-", Kind::Dead),
        ("state-", Kind::State),
    ]
    .into_iter()
    .find_map(|(start, kind)| name.starts_with(start).then_some(kind))
}

/// A message of upstream's files. Keys of other versions are passed over.
#[derive(Deserialize)]
struct LeftMessage {
    delivery_id: String,
    event_id: String,
    from: String,
    target: String,
    body: String,
    #[serde(default)]
    thread_id: Option<String>,
    #[serde(default)]
    injection_mode: Option<String>,
}

/// An entry of `pending-NAME.json` or `dead-letters-NAME.json`.
#[derive(Deserialize)]
struct Letter {
    worker_name: String,
    delivery: LeftMessage,
    #[serde(default)]
    queued_at_ms: u64,
    #[serde(default)]
    reason: Option<String>,
}

/// An agent of `state-NAME.json`.
#[derive(Deserialize)]
struct LeftAgent {
    spec: LeftSpec,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    started_at: u64,
}

#[derive(Deserialize)]
struct LeftSpec {
    cli: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    team: Option<String>,
}

impl Import {
    fn read(&mut self, path: &Path, kind: Kind) -> Result<(), String> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            return Err(
                "it is a symbolic link; put the file itself here to have it taken over".to_owned(),
            );
        }
        trust::own(path).map_err(|why| {
            format!("{why}, who could have written it; `chmod go-w` it, if you know its contents, to have it taken over")
        })?;
        let bytes = read_untouched(path).map_err(|e| e.to_string())?;
        let torn = |e: serde_json::Error| format!("it is torn, or of another version ({e})");
        match kind {
            Kind::Pending | Kind::Dead => {
                let entries: Vec<Value> = serde_json::from_slice(&bytes).map_err(torn)?;
                self.refuse_if_strange(&entries, |entry| entry["delivery"].is_object())?;
                for (n, entry) in entries.into_iter().enumerate() {
                    if let Err(why) = self.letter(entry, kind) {
                        self.pass_over(path, &format!("entry {}", n + 1), &why);
                    }
                }
            }
            Kind::State => {
                let mut state: Map<String, Value> = serde_json::from_slice(&bytes).map_err(torn)?;
                let agents = state.remove("agents").unwrap_or_default();
                let Value::Object(agents) = agents else {
                    return Err("it has no agents, so it is of another version".to_owned());
                };
                for (name, agent) in agents {
                    if let Err(why) = self.agent(&name, agent) {
                        self.pass_over(path, &format!("agent {name:?}"), &why);
                    }
                }
            }
        }
        Ok(())
    }

    /// A file of which nothing is understood is of another version, and not one with many bad entries.
    fn refuse_if_strange(
        &self,
        entries: &[Value],
        known: impl Fn(&Value) -> bool,
    ) -> Result<(), String> {
        match entries.is_empty() || entries.iter().any(known) {
            true => Ok(()),
            false => Err("its entries are of another version".to_owned()),
        }
    }

    fn pass_over(&mut self, path: &Path, which: &str, why: &str) {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        self.unreadable.push(format!("{file}, {which}: {why}"));
    }

    fn letter(&mut self, entry: Value, kind: Kind) -> Result<(), String> {
        let letter: Letter = serde_json::from_value(entry).map_err(|e| e.to_string())?;
        let name = AgentName::check(&letter.worker_name)?;
        let reason = letter.reason.clone();
        let delivery = delivery(name, letter);
        match kind {
            Kind::Dead if self.estate.dead.iter().all(|(d, _)| d.id != delivery.id) => {
                let why = reason.unwrap_or_else(|| "given up by agent-relay-broker".to_owned());
                self.estate.dead.push((delivery, why));
            }
            Kind::Pending | Kind::State if self.estate.mail.iter().all(|d| d.id != delivery.id) => {
                self.estate.mail.push(delivery);
            }
            _ => return Err(format!("{} stands there twice", delivery.id)),
        }
        Ok(())
    }

    fn agent(&mut self, name: &str, agent: Value) -> Result<(), String> {
        let left: LeftAgent = serde_json::from_value(agent).map_err(|e| e.to_string())?;
        let name = AgentName::check(name)?;
        let words = left.spec.cli.iter().chain(&left.spec.args);
        let command: Vec<&str> = words.map(String::as_str).collect();
        let departed = Departed {
            reason: LEFT.to_owned(),
            at: match left.started_at {
                0 => clock::now().wall,
                secs => Wall(secs.saturating_mul(1000)),
            },
            command: command.join(" "),
            request: Some(Box::new(StoredSpawn {
                name: name.to_string(),
                cli: left.spec.cli,
                args: left.spec.args,
                cwd: left.spec.cwd,
                channels: left.channels,
                model: left.spec.model,
                team: left.spec.team,
                ..StoredSpawn::default()
            })),
            ..Departed::default()
        };
        self.estate.agents.push((name, departed));
        Ok(())
    }

    /// Puts the files aside and says what was taken; to be called once that is in the journal.
    ///
    /// # Errors
    /// When they cannot be moved: they would be taken again by the next start.
    pub(super) fn put_aside(&self, dir: &Path) -> Result<(), StartError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let aside = dir.join(ASIDE);
        create_private_dir(&aside).map_err(StartError::folder)?;
        for path in &self.files {
            move_into(&aside, path).map_err(|e| {
                StartError::folder(format!(
                    "{} is taken over, and cannot be put aside in {}: {e}; make that folder writable",
                    path.display(),
                    aside.display()
                ))
            })?;
        }
        log::warn!(
            "{} messages, {} dead letters and {} agents of an earlier agent-relay-broker are taken over, and its files kept in \
             {}; {} entries were passed over",
            self.estate.mail.len(),
            self.estate.dead.len(),
            self.estate.agents.len(),
            aside.display(),
            self.unreadable.len()
        );
        for entry in self.unreadable.iter().take(TOLD) {
            log::warn!("not taken over, and kept there: {entry}");
        }
        Ok(())
    }
}

fn delivery(agent: AgentName, letter: Letter) -> Delivery {
    let message = letter.delivery;
    // Upstream makes ids of its own for what did not come from an engine, and acknowledges what did as it takes it.
    let origin = match message.event_id.starts_with("http_") {
        true => Origin::Local,
        false => Origin::Acknowledged,
    };
    Delivery {
        id: DeliveryId::new(message.delivery_id),
        msg_id: MsgId::new(message.event_id),
        agent,
        origin,
        from: message.from,
        target: message.target,
        body: message.body,
        thread_id: message.thread_id,
        mode: match message.injection_mode.as_deref() {
            Some("steer") => Mode::Steer,
            _ => Mode::Wait,
        },
        raw: false,
        by_operator: false,
        queued_at: Wall(letter.queued_at_ms),
    }
}

/// Moves a file into a folder, beside one of the same name from an earlier time.
fn move_into(folder: &Path, path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (0u32..)
        .map(|n| match n {
            0 => folder.join(&*name),
            n => folder.join(format!("{name}.{n}")),
        })
        .find(|to| !to.exists());
    match free {
        Some(to) => fs::rename(path, to),
        None => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

#[cfg(test)]
mod tests;
