//! `trace`: the whole life of one message, with and without a running broker, from the history on disk; what a killed broker
//! could not add to that is taken from the journal.

mod life;
mod recorded;
mod show;
#[cfg(test)]
mod tests;

use std::path::Path;

use self::life::{MessageFate, MessageLife};
use self::show::TracedMessage;
use super::args;
use super::context::Context;
use super::failure::Failure;
use super::find::state_dir;
use super::render::{print, print_json};
use crate::history::{self, HistoryStep};
use crate::sys::sysexit::Sysexit;
use crate::time::Wall;

/// All that is remembered of messages.
struct TraceMemory {
    steps: Vec<HistoryStep>,
    since: Option<Wall>,
    recorded: Option<recorded::JournalMemory>,
}

impl TraceMemory {
    fn read(state: &Path) -> Result<Self, Failure> {
        let dir = state.join(history::FOLDER);
        let remembered = history::read(&dir).map_err(|e| {
            Failure::new(format!(
                "the history in {} cannot be read: {e}",
                dir.display()
            ))
        })?;
        // Later than the history: what it has as waiting may have ended meanwhile, and not the other way about.
        let recorded = recorded::read(state);
        let steps = match &recorded {
            Some(recorded) => recorded::joined(remembered.steps, recorded),
            None => remembered.steps,
        };
        Ok(Self {
            steps,
            since: remembered.since,
            recorded,
        })
    }

    fn end(&self, life: &MessageLife) -> MessageFate {
        let end = life.end(&self.steps);
        let gone = |recorded: &recorded::JournalMemory| {
            !life.deliveries.iter().any(|id| recorded.waits(id))
        };
        match end {
            MessageFate::Waits if self.recorded.as_ref().is_some_and(gone) => {
                MessageFate::Forgotten
            }
            end => end,
        }
    }

    fn goes_back(&self) -> String {
        match self.since {
            Some(since) => format!("the history here goes back to {}; what ended before is not remembered", since.iso()),
            None => "no history is kept here: `[history]` in relay-broker.toml says how much, and a broker of this version has \
                     to have run"
                .to_owned(),
        }
    }
}

/// `trace`.
pub fn trace(c: &Context, args: &args::Trace) -> Result<(), Failure> {
    c.operators("the history")?;
    let memory = TraceMemory::read(&state_dir(c.state_dir.as_deref(), &c.env)?)?;
    let lives = life::lives(&memory.steps);
    let found = find(&lives, args);
    let life = match found.as_slice() {
        [] => return Err(unknown(&memory, args)),
        [life] => *life,
        several => return ambiguous(c, several),
    };
    let program = c.program();
    let traced = TracedMessage {
        life,
        all: &memory.steps,
        end: memory.end(life),
        behind: life.behind(&lives, &memory.steps),
        since: memory.since,
        program: &program,
    };
    match c.json {
        true => print_json(&show::for_programs(&traced)),
        false => print(&show::for_people(c.paint, &traced)),
    }
}

fn find<'a>(lives: &'a [MessageLife], args: &args::Trace) -> Vec<&'a MessageLife> {
    let of = |life: &&MessageLife| {
        args.last
            .as_ref()
            .is_none_or(|name| life.agent.as_str() == name)
            && args.from.as_ref().is_none_or(|name| life.from == *name)
    };
    let lives = lives.iter().filter(of);
    let Some(id) = &args.id else {
        return lives.rev().take(1).collect();
    };
    let lives: Vec<&MessageLife> = lives.collect();
    let called: Vec<&MessageLife> = lives
        .iter()
        .copied()
        .filter(|life| life.is_called(id))
        .collect();
    match called.is_empty() {
        false => called,
        true => lives.into_iter().filter(|life| life.begins(id)).collect(),
    }
}

fn unknown(memory: &TraceMemory, args: &args::Trace) -> Failure {
    let what = match (&args.id, &args.last, &args.from) {
        (Some(id), _, _) => {
            format!("no message or delivery whose id is, or begins with, '{id}' is remembered")
        }
        (None, Some(name), _) => format!("no message for '{name}' is remembered"),
        (None, None, Some(name)) => format!("no message from '{name}' is remembered"),
        (None, None, None) => "no message is remembered".to_owned(),
    };
    Failure::new(format!("{what}; {}", memory.goes_back())).named("not_remembered")
}

fn ambiguous(c: &Context, several: &[&MessageLife]) -> Result<(), Failure> {
    match c.json {
        true => print_json(&show::choice_for_programs(several))?,
        false => print(&show::choice(c.paint, several))?,
    }
    let n = several.len();
    let text = format!("{n} messages are meant by it; name one by its DELIVERY");
    Err(Failure::with(Sysexit::Ambiguous, text))
}
