//! The files in which CLIs keep what they were asked. They are looked into after Enter, for the message that was typed; what
//! cannot be found or read proves nothing, and the screen decides. Never writes.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::agent::profile::Source;
use crate::agent::proof::MessageHead;
use crate::sys::proc;

/// The most of a file that one look reads.
const READ_MAX: u64 = 256 * 1024;
/// How far before its old end a longer file is read: what closes a JSON list is written over.
const BACK: u64 = 8;
/// The most files that one pattern may stand for.
const FILES_MAX: usize = 64;

/// One program's history.
#[derive(Debug)]
pub struct Transcript {
    source: Source,
    folder: Option<PathBuf>,
    before: Vec<State>,
}

/// A file at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    path: PathBuf,
    bytes: u64,
    changed: Option<SystemTime>,
}

impl Transcript {
    /// Of a process, by its own environment; a process whose environment cannot be read has no history.
    pub fn of(source: Source, pid: u32) -> Self {
        let variable = |name: &str| proc::variable(pid, name).filter(|path| path.is_absolute());
        let folder = source
            .variable
            .and_then(variable)
            .or_else(|| Some(variable("HOME")?.join(source.below_home)));
        Self {
            source,
            folder,
            before: Vec::new(),
        }
    }

    /// Remembers how everything is, before Enter.
    pub fn note(&mut self) {
        self.before = self.states();
    }

    /// Whether the message was written since then; a `long` one as a placeholder, too.
    pub fn has(&self, head: &MessageHead, long: bool) -> bool {
        self.states().iter().any(|now| {
            let old = self.before.iter().find(|old| old.path == now.path);
            if old == Some(now) {
                return false;
            }
            let known = old.map_or(0, |old| old.bytes);
            let grown = now.bytes > known;
            let from = match grown {
                true => known.saturating_sub(BACK),
                false => 0,
            };
            let from = from.max(now.bytes.saturating_sub(READ_MAX));
            // In a file that was written anew any placeholder may be an old one.
            let placeholder = self.source.placeholder.filter(|_| grown && long);
            read(&now.path, from).is_some_and(|text| head.is_in_json(&text, placeholder))
        })
    }

    fn states(&self) -> Vec<State> {
        let Some(folder) = &self.folder else {
            return Vec::new();
        };
        let (above, file) = match self.source.file.split_once("*/") {
            None => return state(folder.join(self.source.file)).into_iter().collect(),
            Some(parts) => parts,
        };
        let entries = fs::read_dir(folder.join(above)).into_iter().flatten();
        entries
            .flatten()
            .take(FILES_MAX)
            .filter_map(|entry| state(entry.path().join(file)))
            .collect()
    }
}

/// Plain files only: others may block whoever opens them.
fn state(path: PathBuf) -> Option<State> {
    let facts = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    Some(State {
        path,
        bytes: facts.len(),
        changed: facts.modified().ok(),
    })
}

fn read(path: &Path, from: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(READ_MAX + BACK).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history whose one file lies in a folder of its own.
    fn history(name: &str, file: &'static str) -> (Transcript, PathBuf) {
        let folder = std::env::temp_dir().join(format!("relay-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("tmp/project")).expect("a temporary folder");
        let source = Source {
            variable: None,
            below_home: ".some",
            file,
            placeholder: Some("[Pasted"),
        };
        let history = Transcript {
            source,
            folder: Some(folder.clone()),
            before: Vec::new(),
        };
        (history, folder)
    }

    fn line(text: &str) -> String {
        format!("{}\n", serde_json::json!({ "text": text }))
    }

    #[test]
    fn only_what_was_written_since_counts() {
        let (mut history, folder) = history("appended", "history.jsonl");
        let file = folder.join("history.jsonl");
        let head = MessageHead::of("Relay message from bob [ws / 42]: hello").expect("letters");
        assert!(!history.has(&head, true), "no file yet");
        fs::write(&file, line("Relay message from bob [ws / 42]: hello")).expect("written");
        history.note();
        assert!(!history.has(&head, true), "an older one");
        let two = [
            line("Relay message from bob [ws / 42]: hello"),
            line("other words"),
        ]
        .concat();
        fs::write(&file, &two).expect("written");
        assert!(!history.has(&head, true));
        let three = two + &line("Relay message from bob [ws / 42]: hello");
        fs::write(&file, three).expect("written");
        assert!(history.has(&head, true));
        history.note();
        let pasted = fs::read_to_string(&file).expect("text") + &line("[Pasted text #1 +9 lines]");
        fs::write(&file, pasted).expect("written");
        assert!(
            history.has(&head, true) && !history.has(&head, false),
            "drawn in full, written in full"
        );
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_list_that_is_written_anew_is_read_too_wherever_it_lies() {
        let (mut history, folder) = history("anew", "tmp/*/logs.json");
        let file = folder.join("tmp/project/logs.json");
        let head = MessageHead::of("Relay message from bob [ws / 42]: hello").expect("letters");
        fs::write(
            &file,
            r#"[{"m":"an older one that is long enough to be cut out later"}]"#,
        )
        .expect("written");
        history.note();
        fs::write(
            &file,
            r#"[{"m":"Relay message from bob [ws / 42]: hello"}]"#,
        )
        .expect("written");
        assert!(history.has(&head, true));
        fs::write(&file, r#"[{"m":"[Pasted"}]"#).expect("written");
        assert!(!history.has(&head, true), "an old placeholder");
        fs::remove_dir_all(folder).expect("removed");
    }
}
