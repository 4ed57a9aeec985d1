//! `journal show` and `journal check`: a look at the journal without a broker, and beside one that runs. Reads files and
//! changes none. Each record of the ledger has its words here, in one match.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::args::{JournalArgs, JournalCommand};
use super::context::Context;
use super::engine_folder::ENGINE_DIR;
use super::failure::Failure;
use super::find::state_dir;
use super::render::{brief, clean, note, print, print_json, span_ms, table};
use crate::domain::{DeliveryMode, Outcome};
#[cfg(feature = "engine")]
use crate::engine::EngineRecord;
use crate::journal::{Emptied, Entry, JournalVerdict, Lock, Look, OpenError, Tenant};
use crate::ledger::{Delivery, Ledger, Origin, Record};
use crate::sys::session::alive;
use crate::sys::sysexit::Sysexit;
use crate::time::Wall;

/// How much of a message's text the table shows.
const BODY: usize = 60;

/// What happened, in a sentence.
fn words(record: &Record) -> String {
    match record {
        Record::Opened { at } => format!("a broker started at {}", at.iso()),
        Record::Bound { agent, agent_id } => format!("{agent} is {agent_id} to the engine"),
        Record::Accepted { delivery } => accepted(delivery),
        Record::Noted {
            agent_id,
            seq,
            msg_id,
        } => format!("number {} of {agent_id} ({msg_id}) needs no typing", seq.0),
        Record::Waited { agent, ms } => {
            format!(
                "messages for {agent}, which is not here, have waited {} more",
                span_ms(*ms)
            )
        }
        Record::Suspended { id } => format!("{id} waits for a person's word"),
        Record::Resumed { id } => format!("{id} goes on"),
        Record::Attempted { id } => format!("{id} is being typed"),
        Record::Settled { id, proof } => format!("{id} is {}", proof.words()),
        Record::DeadLettered { id, reason, at } => {
            format!("{id} was given up at {}: {reason}", at.iso())
        }
        Record::Redelivered { id, delivery } => {
            format!("dead letter {id} waits again as {}", delivery.id)
        }
        Record::Spawned { agent, .. } => format!("{agent} runs"),
        Record::Restarted { agent, failures } => {
            format!("{agent} is started again ({failures} failures in a row)")
        }
        Record::Ended {
            agent,
            released: true,
        } => format!("{agent} was released"),
        Record::Ended { agent, .. } => format!("{agent} ended"),
        Record::Asked { agent } => format!("the engine is asked for an identity for {agent}"),
        Record::Uncleared { agent, .. } => {
            format!("what the engine has for {agent} is to be given up")
        }
        Record::Cleared { agent } => format!("the engine has nothing more for {agent}"),
        Record::Departed { agent, departed } => {
            let at = departed.at.iso();
            format!("{agent} is away since {at}: {}", departed.reason)
        }
        Record::Held { agent, mode } => match mode {
            DeliveryMode::AutoInject => format!("messages for {agent} are typed as they come"),
            DeliveryMode::ManualFlush => format!("messages for {agent} are held"),
        },
        Record::Invoked { id } => format!("action {id} began"),
        Record::Answered { id, outcome } => match outcome {
            Outcome::Output(output) => {
                format!("action {id} ended: {}", brief(&output.to_string(), BODY))
            }
            Outcome::Error(error) => format!("action {id} failed: {}", brief(error, BODY)),
        },
        Record::Numbered { upto } => format!("event numbers up to {upto} may be used"),
        Record::Snapshot(_) => snapshot(record),
    }
}

fn accepted(delivery: &Delivery) -> String {
    let origin = match &delivery.origin {
        Origin::Engine { seq, .. } => format!("number {} of the engine", seq.0),
        Origin::Local => "sent here".to_owned(),
        Origin::Acknowledged => "redelivered for the engine".to_owned(),
        Origin::Task => "first task".to_owned(),
    };
    format!(
        "{} taken for {} from {} ({origin}, {}): {}",
        delivery.id,
        delivery.agent,
        delivery.from,
        delivery.queued_at.iso(),
        brief(&delivery.body, BODY),
    )
}

fn snapshot(record: &Record) -> String {
    let mut ledger = Ledger::default();
    ledger.apply(record);
    format!(
        "all before this in one: {} pending, {} dead",
        ledger.mail().len(),
        ledger.dead().len(),
    )
}

/// One of the two journals of a state folder.
struct Place {
    dir: PathBuf,
    kind: &'static str,
    /// The process that seems to have it open.
    pid: Option<u32>,
}

impl Place {
    fn find(c: &Context, engine: bool) -> Result<Place, Failure> {
        let state = state_dir(c.state_dir.as_deref(), &c.env)?;
        let (dir, kind, pid) = if engine {
            let dir = state.join(ENGINE_DIR).join("journal");
            let pid = Lock::written(Tenant::Engine, &dir);
            (dir, "engine", pid)
        } else {
            let pid = Lock::written(Tenant::Broker, &state);
            (state.join("journal"), "broker", pid)
        };
        let pid = pid.filter(|pid| alive(*pid));
        Ok(Place { dir, kind, pid })
    }

    fn look(&self) -> Result<Look, OpenError> {
        let absent = || {
            let text = format!(
                "there is no journal in {}; `--state-dir` names another state folder",
                self.dir.display()
            );
            OpenError::Disk(std::io::Error::new(std::io::ErrorKind::NotFound, text))
        };
        if !self.dir.exists() {
            return Err(absent());
        }
        Look::take(&self.dir, self.kind)?.ok_or_else(absent)
    }

    /// Whether this program understands all of it.
    fn understand(&self, look: &Look) -> Result<usize, OpenError> {
        fn count<R: DeserializeOwned>(look: &Look) -> Result<usize, OpenError> {
            Ok(look.records::<R>()?.len())
        }
        match self.kind {
            // A build without an engine looks at the frames alone.
            #[cfg(not(feature = "engine"))]
            "engine" => count::<Value>(look),
            #[cfg(feature = "engine")]
            "engine" => count::<EngineRecord>(look),
            _ => count::<Record>(look),
        }
    }

    fn print_who_runs(&self) {
        if let Some(pid) = self.pid {
            note(&format!(
                "note: the {} is running (process {pid}); this is what was on disk a moment ago",
                self.kind
            ));
        }
    }
}

/// `journal`.
pub fn journal(c: &Context, args: &JournalArgs) -> Result<(), Failure> {
    c.operators("the journal")?;
    match &args.command {
        JournalCommand::Show(args) => show(c, args.engine, args.limit),
        JournalCommand::Check(args) => check(c, args.engine),
    }
}

fn show(c: &Context, engine: bool, limit: Option<usize>) -> Result<(), Failure> {
    let place = Place::find(c, engine)?;
    let look = place.look().map_err(|e| Failure::new(e.to_string()))?;
    place.print_who_runs();
    if look.verdict() != JournalVerdict::Whole {
        note(&format!("note: {}", sentence(&look)));
    }
    let entries = look.entries();
    let newest = entries.iter().rev().take(limit.unwrap_or(usize::MAX));
    if c.json {
        // Line by line, so that a reader who has seen enough ends it.
        for entry in newest {
            print_json(&as_json(&place, entry))?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = newest
        .map(|entry| {
            let (word, words) = readable(&place, entry);
            let at = entry.at.map_or("-".to_owned(), Wall::iso);
            vec![name(entry.file), entry.frame.to_string(), at, word, words]
        })
        .collect();
    let heads = ["FILE", "FRAME", "WHEN", "RECORD", "WHAT"];
    print(&table(c.paint, &heads, &rows))
}

fn as_json(place: &Place, entry: &Entry<'_>) -> Value {
    let (_, words) = readable(place, entry);
    json!({
        "file": entry.file,
        "frame": entry.frame,
        "offset": entry.offset,
        "at_ms": entry.at,
        "words": words,
        "record": value(entry),
    })
}

/// The record's own word and a sentence. What this program does not understand is shown as it stands.
fn readable(place: &Place, entry: &Entry<'_>) -> (String, String) {
    let value = value(entry);
    if place.kind == "engine" {
        // The engine's records have their word outside, and facts that explain themselves inside.
        return match value.as_object().and_then(|object| object.iter().next()) {
            Some((word, facts)) => (word.clone(), brief(&facts.to_string(), 2 * BODY)),
            None => ("?".to_owned(), brief(&value.to_string(), 2 * BODY)),
        };
    }
    let word = value["t"].as_str().unwrap_or("?").to_owned();
    match serde_json::from_value::<Record>(value.clone()) {
        Ok(record) => (word, words(&record)),
        Err(_) => (
            word,
            format!("not understood: {}", brief(&value.to_string(), BODY)),
        ),
    }
}

/// The line as JSON, or as the text it is.
fn value(entry: &Entry<'_>) -> Value {
    serde_json::from_slice(&entry.line)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&entry.line).into_owned()))
}

fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str());
    name.to_string_lossy().into_owned()
}

fn check(c: &Context, engine: bool) -> Result<(), Failure> {
    let place = Place::find(c, engine)?;
    let checked = place.look().and_then(|look| {
        let records = place.understand(&look)?;
        Ok((look, records))
    });
    if !c.json {
        place.print_who_runs();
    }
    let (look, records) = match checked {
        Ok(checked) => checked,
        Err(error) if c.json => {
            print_json(&refusal(&place, &error))?;
            return Err(Failure::silent(Sysexit::Failure));
        }
        Err(error) => return Err(Failure::new(error.to_string())),
    };
    let damaged = matches!(look.verdict(), JournalVerdict::Damaged { .. });
    if c.json {
        print_json(&facts(&place, &look, records))?;
    } else {
        print(&report(&look, records))?;
    }
    if damaged {
        Err(Failure::silent(Sysexit::Failure))
    } else {
        Ok(())
    }
}

fn report(look: &Look, records: usize) -> String {
    let mut text = format!(
        "{}\n{records} records in {} commits verify\n",
        clean(&sentence(look)),
        look.commits()
    );
    for path in look.empty() {
        text.push_str(&format!("{}\n", clean(&Emptied(path).to_string())));
    }
    for kept in look.kept() {
        text.push_str(&format!(
            "kept from damage found earlier: {}\n",
            clean(kept)
        ));
    }
    text
}

/// The verdict.
fn sentence(look: &Look) -> String {
    let file = look.file().display();
    match look.verdict() {
        JournalVerdict::Whole => format!("{file} is whole"),
        JournalVerdict::Torn { offset, bytes } => format!(
            "{file} is whole up to byte {offset}; the {bytes} bytes behind are a last write that was torn by a crash \
             or is under way, and count for nothing"
        ),
        JournalVerdict::Damaged { offset, missing } => {
            let missing = match missing {
                Some(1) => "1 commit is missing".to_owned(),
                Some(n) => format!("{n} commits are missing"),
                None => "an unknown part of the history is missing".to_owned(),
            };
            format!("{file} is damaged from byte {offset}: {missing}")
        }
    }
}

fn facts(place: &Place, look: &Look, records: usize) -> Value {
    let (verdict, offset, missing) = match look.verdict() {
        JournalVerdict::Whole => ("whole", None, Some(0)),
        JournalVerdict::Torn { offset, .. } => ("torn_tail", Some(offset), Some(0)),
        JournalVerdict::Damaged { offset, missing } => ("damaged", Some(offset), missing),
    };
    json!({
        "verdict": verdict,
        "file": look.file(),
        "offset": offset,
        "records": records,
        "commits": look.commits(),
        "missing_commits": missing,
        "kept": look.kept(),
        "pid": place.pid,
    })
}

fn refusal(place: &Place, error: &OpenError) -> Value {
    let (file, offset) = match error {
        OpenError::Version { path, .. }
        | OpenError::Kind { path, .. }
        | OpenError::NotAJournal { path } => (Some(path), Some(0)),
        OpenError::Damaged { path, offset } | OpenError::Record { path, offset, .. } => {
            (Some(path), Some(*offset))
        }
        OpenError::Disk(_) => (None, None),
    };
    json!({
        "verdict": "refused",
        "file": file,
        "offset": offset,
        "reason": error.to_string(),
        "pid": place.pid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AgentId, AgentName, DeliveryId, MsgId, Seq};

    #[test]
    fn a_message_is_told_on_one_line_that_cannot_act_on_the_terminal() {
        let delivery = Delivery {
            id: DeliveryId::new("del_1"),
            msg_id: MsgId::new("m_1"),
            agent: AgentName::new("ada"),
            origin: Origin::Engine {
                agent_id: AgentId::new("id_1"),
                seq: Seq(4),
            },
            from: "lead".into(),
            target: "ada".into(),
            body: format!("stop\n\u{1b}[2J{}", "x".repeat(500)),
            thread_id: None,
            mode: crate::domain::Mode::Wait,
            raw: false,
            by_operator: false,
            queued_at: Wall(0),
        };
        let text = words(&Record::Accepted { delivery });
        let begin = "del_1 taken for ada from lead (number 4 of the engine, 1970-01-01T00:00:00.000Z): stop ⏎ ·[2Jx";
        assert!(text.starts_with(begin), "{text}");
        assert!(text.ends_with("x…"), "{text}");
    }

    #[test]
    fn a_snapshot_says_how_much_is_in_it() {
        let image = Ledger::default().image();
        let text = words(&Record::Snapshot(Box::new(image)));
        assert_eq!(text, "all before this in one: 0 pending, 0 dead");
    }
}
