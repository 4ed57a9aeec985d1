//! `backup`: a copy of the state folder from which a node can be started again, here or elsewhere, taken while its broker
//! runs or without one. The engine's journal is copied before the broker's: what the broker then has that the engine has
//! not heard of is typed once all the same, and what it has done meanwhile the engine hears of at the next link. Nothing is
//! changed in the folder that is copied.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::Backup;
use super::context::Context;
use super::engine_folder::{ENGINE_DIR, LAST_ADDRESS};
use super::failure::Failure;
use super::find::state_dir;
use super::render::clean;
use crate::agent::landed_note;
use crate::identity::copy;
use crate::journal::{JournalVerdict, Lock, Look, Tenant};
use crate::ledger::{Ledger, Record};
use crate::sys::disk::{create_private_dir, read_small, write_private};
use crate::sys::session::alive;
use crate::sys::sysexit::Sysexit;

/// What is copied.
#[derive(Default)]
struct Copied {
    node_id: Option<String>,
    records: usize,
    pending: usize,
    dead: usize,
    engine_records: Option<usize>,
}

/// `backup`.
pub fn backup(c: &Context, args: &Backup) -> Result<(), Failure> {
    c.operators("the state folder")?;
    let from = state_dir(c.state_dir.as_deref(), &c.env)?;
    let to = std::path::absolute(&args.dir)
        .map_err(|e| Failure::new(format!("{}: {e}; name another folder", args.dir.display())))?;
    refuse_within(&from, &to)?;
    let draft = begin(&to)?;
    let copied = fill(c, &from, &draft).and_then(|copied| {
        std::fs::rename(&draft, &to).map_err(|e| unwritten(&to, &e))?;
        Ok(copied)
    });
    if copied.is_err() {
        // Whoever looks at a folder of that name can rely on its being whole.
        let _ = std::fs::remove_dir_all(&draft);
    }
    let copied = copied?;
    let running = Lock::written(Tenant::Broker, &from).is_some_and(alive);
    let facts = json!({
        "dir": to,
        "state_dir": from,
        "running": running,
        "node_id": copied.node_id,
        "records": copied.records,
        "pending": copied.pending,
        "dead": copied.dead,
        "engine_records": copied.engine_records,
    });
    let engine = match copied.engine_records {
        Some(records) => format!(", and {records} of its engine"),
        None => String::new(),
    };
    let text = format!(
        "{} holds {} records{engine}: {} messages wait, {} are dead letters; \
         to go on from it, copy it, and start with --state-dir and the copy ({} stays as it is)\n",
        clean(&to.display().to_string()),
        copied.records,
        copied.pending,
        copied.dead,
        shell_words::quote(&to.display().to_string()),
    );
    c.tell(&facts, &text)
}

/// A copy inside of what is copied goes when that goes, and is copied along the next time.
fn refuse_within(from: &Path, to: &Path) -> Result<(), Failure> {
    let there = to.ancestors().find_map(|at| at.canonicalize().ok());
    let within = from
        .canonicalize()
        .is_ok_and(|from| there.is_some_and(|there| there.starts_with(from)));
    match within {
        false => Ok(()),
        true => Err(Failure::with(
            Sysexit::CantCreate,
            format!(
                "{} is in the state folder {} itself, and would be lost with it; name a folder elsewhere",
                to.display(),
                from.display()
            ),
        )),
    }
}

/// Makes the folder in which the copy grows, beside the one that it becomes.
fn begin(to: &Path) -> Result<PathBuf, Failure> {
    let empty = std::fs::read_dir(to).map(|mut entries| entries.next().is_none());
    match empty {
        Ok(true) => {}
        Ok(false) => {
            return Err(Failure::with(
                Sysexit::CantCreate,
                format!(
                    "{} is not empty; name a folder that is not there yet",
                    to.display()
                ),
            ));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(unwritten(to, &e)),
    }
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let draft = to.with_file_name(name);
    create_private_dir(&draft).map_err(|e| unwritten(to, &e))?;
    Ok(draft)
}

fn unwritten(to: &Path, e: &std::io::Error) -> Failure {
    Failure::with(
        Sysexit::CantCreate,
        format!("the backup {} cannot be written: {e}", to.display()),
    )
}

fn fill(c: &Context, from: &Path, to: &Path) -> Result<Copied, Failure> {
    let mut copied = Copied::default();
    let engine = from.join(ENGINE_DIR);
    if engine.join("journal").is_dir() {
        create_private_dir(&to.join(ENGINE_DIR)).map_err(|e| unwritten(to, &e))?;
        let journal = Path::new(ENGINE_DIR).join("journal");
        let look = journal_of(&from.join(&journal), &to.join(&journal), "engine")?;
        copied.engine_records = Some(look.entries().len());
        file(from, to, &Path::new(ENGINE_DIR).join("workspace-key"))?;
        file(from, to, Path::new(LAST_ADDRESS))?;
    }
    let look = journal_of(&from.join("journal"), &to.join("journal"), "broker")?;
    let mut ledger = Ledger::default();
    let records = look.records::<Record>();
    for record in records.map_err(|e| Failure::new(e.to_string()))? {
        ledger.apply(&record);
        copied.records += 1;
    }
    (copied.pending, copied.dead) = (ledger.mail().len(), ledger.dead().len());
    let notes = from.join(landed_note::FOLDER);
    for entry in std::fs::read_dir(notes).into_iter().flatten().flatten() {
        file(
            from,
            to,
            &Path::new(landed_note::FOLDER).join(entry.file_name()),
        )?;
    }
    let id = copy::copy(from, &c.env.data_dir(from), to);
    copied.node_id = id
        .map_err(|e| Failure::with(Sysexit::CantCreate, e.to_string()))?
        .map(|id| id.to_string());
    Ok(copied)
}

/// Copies a journal up to its last whole commit, and looks at the copy.
fn journal_of(from: &Path, to: &Path, kind: &str) -> Result<Look, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(format!("{e}; nothing was copied"));
    let absent = || {
        let text = format!("there is no journal in {}", from.display());
        failed(&text)
    };
    let look = Look::take(from, kind).map_err(|e| failed(&e))?;
    let look = look.ok_or_else(absent)?;
    if let JournalVerdict::Damaged { offset, .. } = look.verdict() {
        let text = format!(
            "{} is damaged from byte {offset}: `relay-broker journal check` says more, and the next start of its broker saves \
             what can be saved",
            look.file().display()
        );
        return Err(failed(&text));
    }
    create_private_dir(to).map_err(|e| unwritten(to, &e))?;
    look.copy(to).map_err(|e| unwritten(to, &e))?;
    let copied = Look::take(to, kind).map_err(|e| failed(&e))?;
    copied.ok_or_else(absent)
}

/// Copies a small file that may be missing, or go while it is looked at.
fn file(from: &Path, to: &Path, name: &Path) -> Result<(), Failure> {
    let target = to.join(name);
    let bytes = match read_small(&from.join(name)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Failure::with(Sysexit::CantCreate, e.to_string())),
    };
    let folder = target.parent().unwrap_or(to);
    create_private_dir(folder)
        .and_then(|()| write_private(&target, &bytes))
        .map_err(|e| unwritten(to, &e))
}
