//! `logs`: what agents printed, from their recordings, with or without a broker. Reads files and changes none.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::args;
use super::context::Context;
use super::failure::Failure;
use super::find::state_dir;
use super::logs_cast::{Cast, Playback};
use super::render::{clean, note, print, print_bytes, print_json, table};
use crate::domain::RecordForm;
use crate::ids::AgentName;
use crate::recording::{OnTape, TapeFrame, TapeHead, TapeReader, recorded};
use crate::screen::PlainLines;
use crate::sys::clock;
use crate::time::{Wall, millis};

/// Between looks for more. The recorder writes ten times a second.
const LOOK: Duration = Duration::from_millis(100);

/// `logs`.
pub fn logs(c: &Context, args: &args::Logs) -> Result<(), Failure> {
    c.operators("what agents print")?;
    let dir = state_dir(c.state_dir.as_deref(), &c.env)?;
    let Some(name) = &args.name else {
        return list(c, &dir);
    };
    let agent = AgentName::meant(name);
    let mut reader = TapeReader::open(&dir, &agent).ok_or_else(|| none_of(&dir, &agent))?;
    let now = clock::now().wall;
    let from = args
        .since
        .map(|since| Wall(now.0.saturating_sub(millis(since))));
    let from = from.unwrap_or(Wall(0));
    if from == Wall(0) && !reader.is_from_the_first() {
        note("relay-broker: what was printed earlier is no longer kept");
    }
    if args.cast {
        return play(&mut reader, args, &mut Cast::new(&agent, from));
    }
    if args.raw {
        return play(&mut reader, args, &mut RawPlayback { from });
    }
    let lines = PlainLines::default();
    let mut text = Text {
        c,
        args,
        agent,
        from,
        lines,
        head: None,
        alive: false,
        at: Wall(0),
    };
    play(&mut reader, args, &mut text)
}

/// Plays what is there, and what comes, if that is wanted.
fn play(
    reader: &mut TapeReader,
    args: &args::Logs,
    playback: &mut dyn Playback,
) -> Result<(), Failure> {
    let unread = |e: std::io::Error| Failure::new(format!("the recording cannot be read: {e}"));
    loop {
        while let Some(frame) = reader.read_next().map_err(unread)? {
            playback.frame(frame)?;
        }
        if !args.follow {
            return playback.finish();
        }
        std::thread::sleep(LOOK);
    }
}

/// Whose output is kept.
fn list(c: &Context, dir: &Path) -> Result<(), Failure> {
    let all = recorded(dir);
    if c.json {
        let rows: Vec<_> = all
            .iter()
            .map(|r| json!({"name": r.agent, "bytes": r.bytes, "since": r.since.iso(), "until": r.until.iso()}))
            .collect();
        return print_json(&json!({"recordings": rows}));
    }
    if all.is_empty() {
        return print("no agent's output is kept here\n");
    }
    let row = |r: &crate::recording::Recorded| {
        let kib = r.bytes.div_ceil(1024);
        vec![
            r.agent.to_string(),
            format!("{kib} KiB"),
            r.since.iso(),
            r.until.iso(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    print(&table(c.paint, &["NAME", "SIZE", "SINCE", "LAST"], &rows))
}

fn none_of(dir: &Path, agent: &AgentName) -> Failure {
    let names: Vec<String> = recorded(dir)
        .into_iter()
        .map(|r| r.agent.to_string())
        .collect();
    let there = match names.is_empty() {
        true => "nothing is kept of any agent".to_owned(),
        false => format!("there is {}", names.join(", ")),
    };
    Failure::new(clean(&format!(
        "nothing is kept of what '{agent}' printed: it never ran here, printed nothing, is recorded as \"off\", or is gone for \
         over a week ({there})"
    )))
    .named("not_recorded")
}

/// Every byte.
struct RawPlayback {
    from: Wall,
}

impl Playback for RawPlayback {
    fn frame(&mut self, frame: TapeFrame) -> Result<(), Failure> {
        match frame.what {
            _ if frame.at < self.from => Ok(()),
            OnTape::Output(bytes) => print_bytes(&bytes),
            OnTape::Lost(bytes, why) => {
                note(&format!("relay-broker: {}", lost(bytes, &why)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

fn lost(bytes: u64, why: &str) -> String {
    match bytes {
        0 => format!("output is missing here: {}", clean(why)),
        _ => format!("{bytes} bytes of output are missing here: {}", clean(why)),
    }
}

/// Lines for people, or for programs as JSON.
struct Text<'a> {
    c: &'a Context,
    args: &'a args::Logs,
    agent: AgentName,
    from: Wall,
    lines: PlainLines,
    /// What is recorded, and how.
    head: Option<TapeHead>,
    /// A life goes on whose end was not told yet.
    alive: bool,
    at: Wall,
}

impl Text<'_> {
    fn line(&self, at: Wall, line: &str) -> Result<(), Failure> {
        let unwanted = |regex: &regex_lite::Regex| !regex.is_match(line);
        if at < self.from || self.args.grep.as_ref().is_some_and(unwanted) {
            return Ok(());
        }
        let line = clean(line);
        match (self.c.json, self.args.times) {
            (true, _) => print_json(&json!({"at": at.iso(), "agent": self.agent, "text": line})),
            (false, true) => print(&format!("{}  {line}\n", self.c.paint.dim(&at.iso()))),
            (false, false) => print(&format!("{line}\n")),
        }
    }

    /// Something that is no output. Whoever looks for words is not told.
    fn mark(&self, at: Wall, mark: &str, words: &str) -> Result<(), Failure> {
        if at < self.from || self.args.grep.is_some() {
            return Ok(());
        }
        let words = clean(words);
        if self.c.json {
            return print_json(
                &json!({"at": at.iso(), "agent": self.agent, "mark": mark, "text": words}),
            );
        }
        let line = format!("--- {} {words}", at.iso());
        print(&format!("{}\n", self.c.paint.dim(&line)))
    }

    fn output(&mut self, at: Wall, bytes: &[u8]) -> Result<(), Failure> {
        let is_plain = |head: &TapeHead| head.form == RecordForm::Plain.word();
        self.alive = true;
        if self.head.as_ref().is_some_and(is_plain) {
            let text = String::from_utf8_lossy(bytes);
            return text.lines().try_for_each(|line| self.line(at, line));
        }
        let mut told = Vec::new();
        self.lines
            .push(bytes, &mut |line| told.push(line.to_owned()));
        told.iter().try_for_each(|line| self.line(at, line))
    }

    /// What stands in the last row is all that comes.
    fn last_row(&mut self) -> Result<(), Failure> {
        let mut told = Vec::new();
        let mut lines = std::mem::take(&mut self.lines);
        lines.finish(&mut |line| told.push(line.to_owned()));
        told.iter().try_for_each(|line| self.line(self.at, line))
    }
}

impl Playback for Text<'_> {
    fn frame(&mut self, frame: TapeFrame) -> Result<(), Failure> {
        let TapeFrame { at, what } = frame;
        if !matches!(what, OnTape::Output(_) | OnTape::Resized(_)) {
            self.last_row()?;
        }
        self.at = at;
        match what {
            OnTape::GoesOn(head) => {
                self.head = Some(head);
                Ok(())
            }
            OnTape::Begun(head) => {
                if std::mem::replace(&mut self.alive, true) {
                    let words = "its end was not recorded, as the broker was killed: up to 0.1 s of output may be missing";
                    self.mark(at, "cut", words)?;
                }
                let words = format!("{} started", head.agent);
                self.head = Some(head);
                self.mark(at, "started", &words)
            }
            OnTape::Output(bytes) => self.output(at, &bytes),
            OnTape::Resized(_) => Ok(()),
            OnTape::Ended(how) => {
                self.alive = false;
                self.mark(at, "ended", &format!("{} ended: {how}", self.agent))
            }
            OnTape::Lost(bytes, why) => self.mark(at, "gap", &lost(bytes, &why)),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.last_row()
    }
}
