//! opencode as a run for each message: `opencode run --format json`, which is given the message on its standard input and
//! ends with its turn. A message has arrived when the run's first step shows. Runs are started and reaped by a process of
//! ours ([`runs`](crate::agent::runs)), which passes their output on and says when one ends.
//!
//! As measured on 1.18.33: each line has a `type` and the `sessionID`; `step_start` comes with the model's answer, `error`
//! stands alone where there is none; an interrupt ends the run at once.

use serde::Deserialize;
use serde_json::{Value, json};

use super::dialect::{Dialect, ProgramWord};
use crate::known_clis;

/// The words that choose a session, and whether a value follows.
const SESSION_WORDS: [(&str, bool); 6] = [
    ("--session", true),
    ("-s", true),
    ("--title", true),
    ("--continue", false),
    ("-c", false),
    ("--fork", false),
];

/// The words of our own process between.
#[derive(Debug, Default)]
pub(super) struct OpencodeRuns {
    /// What chooses the session of the next run.
    session: Vec<String>,
    /// Whether the next run's session is the one that earlier runs showed.
    known: Option<String>,
    run: Option<OpencodeRun>,
}

#[derive(Debug)]
struct OpencodeRun {
    key: String,
    took: bool,
    trouble: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RunLine {
    r#type: String,
    #[serde(rename = "sessionID")]
    session: Option<String>,
    part: RunPart,
    error: Value,
    /// Of our own process: the run that ended, and how if not well.
    relay_run: Option<String>,
    failed: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RunPart {
    text: Option<String>,
    tool: Option<String>,
}

impl OpencodeRuns {
    /// Whose first run chooses its session by these words.
    pub(super) fn new(session: Vec<String>) -> Self {
        Self {
            session,
            ..Self::default()
        }
    }

    fn session(&mut self, id: Option<String>) -> Option<ProgramWord> {
        let id = id.filter(|id| self.known.as_ref() != Some(id))?;
        self.session = vec!["--session".to_owned(), id.clone()];
        self.known = Some(id.clone());
        Some(ProgramWord::Session(id))
    }

    /// The run shows that it works on its message.
    fn began(&mut self) -> Vec<ProgramWord> {
        let mut heard = vec![ProgramWord::Began];
        if let Some(run) = self.run.as_mut().filter(|run| !run.took) {
            run.took = true;
            heard.push(ProgramWord::Took(run.key.clone()));
        }
        heard
    }

    fn ended(&mut self, key: &str, failed: Option<String>) -> Vec<ProgramWord> {
        let Some(run) = self.run.take_if(|run| run.key == key) else {
            return Vec::new();
        };
        let failed = match (failed, run.trouble) {
            (Some(how), Some(told)) => Some(format!("{told} ({how})")),
            (how, told) => told.or(how),
        };
        if run.took {
            return vec![ProgramWord::TurnOver(failed)];
        }
        let why = failed.unwrap_or_else(|| "it ended without a word".to_owned());
        vec![ProgramWord::Dropped(
            run.key,
            format!("opencode run: {why}"),
        )]
    }
}

impl Dialect for OpencodeRuns {
    fn hear(&mut self, line: &str) -> Vec<ProgramWord> {
        let Ok(line) = serde_json::from_str::<RunLine>(line) else {
            return vec![ProgramWord::Said(line.to_owned())];
        };
        if let Some(key) = line.relay_run {
            return self.ended(&key, line.failed);
        }
        let mut heard: Vec<ProgramWord> = self.session(line.session).into_iter().collect();
        match line.r#type.as_str() {
            "step_start" => heard.extend(self.began()),
            "text" => {
                heard.extend(self.began());
                heard.extend(line.part.text.map(ProgramWord::Said));
            }
            "tool_use" => {
                heard.extend(self.began());
                let name = line.part.tool;
                heard.extend(name.map(|name| ProgramWord::Said(format!("[{name}]"))));
            }
            "error" => {
                let told = told(&line.error);
                heard.push(ProgramWord::Said(format!("[{told}]")));
                if let Some(run) = &mut self.run {
                    run.trouble = Some(told);
                }
            }
            _ => {}
        }
        heard
    }

    fn say(&mut self, key: &str, text: &str) -> String {
        self.run = Some(OpencodeRun {
            key: key.to_owned(),
            took: false,
            trouble: None,
        });
        json!({"run": key, "more": self.session, "input": text}).to_string()
    }

    fn interrupt(&mut self) -> String {
        json!({"stop": self.run.as_ref().map(|run| &run.key)}).to_string()
    }

    fn give_back(&mut self, _: &str) -> Option<String> {
        None
    }

    fn nobody(&self, _: &str) -> String {
        String::new()
    }

    fn queues(&self) -> bool {
        false
    }
}

/// What an error says of itself.
fn told(error: &Value) -> String {
    let message = error["data"]["message"]
        .as_str()
        .or_else(|| error["message"].as_str());
    let name = error["name"].as_str();
    match (name, message) {
        (Some(name), Some(message)) => format!("{name}: {message}"),
        (one, other) => one.or(other).unwrap_or("error").to_owned(),
    }
}

/// A command line without what chooses a session, and that: it holds for the first run alone, because each later one goes
/// on with the session of the first.
pub fn without_session(argv: &[String]) -> (Vec<String>, Vec<String>) {
    let (_, args) = known_clis::started(argv);
    let (program, args) = argv.split_at(argv.len() - args.len());
    let (mut rest, mut chosen) = (program.to_vec(), Vec::new());
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let flag = word.split_once('=').map_or(word.as_str(), |(flag, _)| flag);
        let Some((_, takes)) = SESSION_WORDS.iter().find(|(known, _)| *known == flag) else {
            rest.push(word.clone());
            continue;
        };
        chosen.push(word.clone());
        if *takes && !word.contains('=') {
            chosen.extend(words.next().cloned());
        }
    }
    (rest, chosen)
}
