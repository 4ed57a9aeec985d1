//! One life of the broker after the other in one folder, and what can be learned about each: which events it published,
//! and what its journal said when it died.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use relay_broker::agent::landed_note;
use relay_broker::journal::{Journal, Options};
use relay_broker::ledger::{Ledger, Record};
use serde_json::Value;
use tungstenite::client::IntoClientRequest;

use crate::burst::Door;
use crate::support::{Process, until};

/// That a message was typed, as a life told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    pub life: usize,
    pub id: String,
    pub redelivered: bool,
}

/// A broker that runs, and whoever listens to it.
pub struct Life {
    pub process: Process,
    pub door: Door,
    listener: JoinHandle<()>,
}

impl Life {
    /// Starts the next one; `None` if it died before it answered.
    pub fn begin(
        dir: &Path,
        args: &[&str],
        faults: &str,
        life: usize,
        typed: &Arc<Mutex<Vec<Typed>>>,
    ) -> Option<Self> {
        let process = match Process::try_start_with(dir, args, faults) {
            Ok(process) => process,
            // Ended by a signal, which has no code.
            Err((None, _)) => return None,
            Err((Some(code), text)) => panic!("life {life} ended with {code}: {text}"),
        };
        let file = std::fs::read(dir.join(".relay-broker/connection.json")).expect("written");
        let file: Value = serde_json::from_slice(&file).expect("JSON");
        let text = |key: &str| file[key].as_str().expect("a text").to_owned();
        let door = Door {
            life: life + 1,
            url: text("url"),
            key: text("api_key"),
        };
        let listener = listen(&door, life, typed.clone());
        Some(Self {
            process,
            door,
            listener,
        })
    }

    /// Kills it, if it has not died yet, and hears its last words out.
    pub fn end(self) {
        self.process.kill9();
        let _ = self.listener.join();
    }
}

fn listen(door: &Door, life: usize, typed: Arc<Mutex<Vec<Typed>>>) -> JoinHandle<()> {
    let address = door.url.trim_start_matches("http://").to_owned();
    let url = format!("ws://{address}/ws?sinceSeq=0");
    let key = door.key.clone();
    std::thread::spawn(move || {
        let Ok(stream) = TcpStream::connect(address) else {
            return;
        };
        let mut request = url.into_client_request().expect("a URL");
        request
            .headers_mut()
            .insert("x-api-key", key.parse().expect("a key is plain text"));
        // It may die at any moment: then there is nothing more to hear.
        let Ok((mut socket, _)) = tungstenite::client(request, stream) else {
            return;
        };
        while let Ok(message) = socket.read() {
            let Ok(text) = message.to_text() else {
                continue;
            };
            let Ok(event) = serde_json::from_str::<Value>(text) else {
                continue;
            };
            if event["kind"] == "delivery_injected" {
                typed.lock().expect("no holder panics").push(Typed {
                    life,
                    id: event["event_id"].as_str().expect("an id").to_owned(),
                    redelivered: event["redelivered"] == true,
                });
            }
        }
    })
}

/// What a dead broker's folder says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Autopsy {
    /// Messages whose typing began, and of which neither the journal nor a note says that it ended.
    pub doubtful: BTreeSet<String>,
    /// What is wrong with the journal, if anything is. A kill damages none.
    pub damage: Option<String>,
}

/// Looks at a copy, so that the next life finds everything as it was left.
pub fn autopsy(dir: &Path, copy: &Path) -> Autopsy {
    let state = dir.join(".relay-broker");
    let _ = std::fs::remove_dir_all(copy);
    std::fs::create_dir(copy).expect("room");
    for file in std::fs::read_dir(state.join("journal"))
        .into_iter()
        .flatten()
    {
        let file = file.expect("readable");
        std::fs::copy(file.path(), copy.join(file.file_name())).expect("room");
    }
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    let opened = match Journal::<Record>::open(copy, "broker", strict) {
        Ok(opened) => opened,
        Err(e) => {
            return Autopsy {
                damage: Some(e.to_string()),
                ..Autopsy::default()
            };
        }
    };
    let mut ledger = Ledger::default();
    opened
        .records
        .iter()
        .for_each(|record| ledger.apply(record));
    let noted: BTreeSet<_> = landed_note::read_all(&state.join("landed"))
        .into_iter()
        .map(|(_, id, _)| id)
        .collect();
    let doubtful = ledger
        .mail()
        .all()
        .filter(|pending| pending.attempts > 0 && !noted.contains(&pending.delivery.id))
        .map(|pending| pending.delivery.msg_id.to_string())
        .collect();
    Autopsy {
        doubtful,
        damage: None,
    }
}

/// Waits until no reader of the last life is left, so that all of its last words are in its file.
pub fn readers_gone(pids: &Path) {
    let all: Vec<PathBuf> = std::fs::read_to_string(pids)
        .unwrap_or_default()
        .lines()
        .map(|pid| Path::new("/proc").join(pid).join("stat"))
        .collect();
    until("the end of the readers", || {
        // A dead one that nobody has waited for is a `Z`.
        let gone = |stat: &PathBuf| match std::fs::read_to_string(stat) {
            Ok(text) => text.rsplit(')').next().is_some_and(|s| s.starts_with(" Z")),
            Err(_) => true,
        };
        all.iter().all(gone).then_some(())
    });
}
