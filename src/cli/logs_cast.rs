//! `logs --cast`: a recording as an asciicast of version 2, with the sizes that the terminal had and a marker where something
//! else happened. What came before the wanted time is drawn at once, so that the picture is whole from the start.

use serde_json::json;

use super::failure::Failure;
use super::render::print_json;
use crate::domain::RecordForm;
use crate::ids::AgentName;
use crate::msg::Size;
use crate::recording::{OnTape, TapeFrame, TapeHead};
use crate::screen::utf8::Pieces;
use crate::time::Wall;

/// A player waits no longer than this where nothing happens, in seconds.
const IDLE: u64 = 2;
/// Empties a terminal for the next life.
const RESET: &str = "\u{1b}c";

/// Takes the frames of a recording, one after the other.
pub(super) trait Playback {
    /// The next frame.
    ///
    /// # Errors
    /// When standard output takes nothing.
    fn frame(&mut self, frame: TapeFrame) -> Result<(), Failure>;

    /// Nothing more comes.
    ///
    /// # Errors
    /// As [`Playback::frame`].
    fn finish(&mut self) -> Result<(), Failure>;
}

/// Writes a recording as an asciicast. See the module.
pub(super) struct Cast {
    agent: AgentName,
    from: Wall,
    /// What is to be drawn before the first moment.
    before: Vec<u8>,
    size: Size,
    /// Output is lines, which end with a newline alone.
    bare_lines: bool,
    pieces: Pieces,
    /// When it begins, once that is written.
    began: Option<Wall>,
}

impl Cast {
    /// Of this agent, from that time on.
    pub(super) fn new(agent: &AgentName, from: Wall) -> Self {
        Self {
            agent: agent.clone(),
            from,
            before: Vec::new(),
            size: Size::default(),
            bare_lines: false,
            pieces: Pieces::default(),
            began: None,
        }
    }

    fn head(&mut self, at: Wall) -> Result<(), Failure> {
        self.began = Some(at);
        print_json(&json!({
            "version": 2,
            "width": self.size.cols,
            "height": self.size.rows,
            "timestamp": at.0 / 1000,
            "idle_time_limit": IDLE,
            "title": self.agent,
            "env": {"TERM": "xterm-256color"},
        }))?;
        let before = std::mem::take(&mut self.before);
        self.output(at, &before)
    }

    fn event(&self, at: Wall, kind: &str, data: &str) -> Result<(), Failure> {
        let began = self.began.unwrap_or(at);
        let millis = u32::try_from((at - began).as_millis()).unwrap_or(u32::MAX);
        print_json(&json!([f64::from(millis) / 1000.0, kind, data]))
    }

    fn output(&mut self, at: Wall, bytes: &[u8]) -> Result<(), Failure> {
        let text = self.pieces.push(bytes);
        match text.is_empty() {
            true => Ok(()),
            false => self.event(at, "o", &text),
        }
    }

    /// Output as a terminal takes it.
    fn drawn(&self, bytes: Vec<u8>) -> Vec<u8> {
        match self.bare_lines {
            true => String::from_utf8_lossy(&bytes)
                .replace('\n', "\r\n")
                .into_bytes(),
            false => bytes,
        }
    }

    fn take_head(&mut self, head: &TapeHead) {
        self.size = head.size;
        self.bare_lines = !head.terminal || head.form == RecordForm::Plain.word();
    }

    /// Before the wanted time.
    fn skip(&mut self, what: OnTape) {
        match what {
            OnTape::Begun(head) => {
                self.before.clear();
                self.take_head(&head);
            }
            OnTape::GoesOn(head) if self.before.is_empty() => self.take_head(&head),
            OnTape::Output(bytes) => {
                let drawn = self.drawn(bytes);
                self.before.extend(drawn);
            }
            OnTape::Resized(size) => self.size = size,
            OnTape::GoesOn(_) | OnTape::Ended(_) | OnTape::Lost(..) => {}
        }
    }

    fn resize(&mut self, at: Wall, size: Size) -> Result<(), Failure> {
        self.size = size;
        self.event(at, "r", &format!("{}x{}", size.cols, size.rows))
    }
}

impl Playback for Cast {
    fn frame(&mut self, frame: TapeFrame) -> Result<(), Failure> {
        let TapeFrame { at, what } = frame;
        if at < self.from {
            self.skip(what);
            return Ok(());
        }
        let first = self.began.is_none();
        match &what {
            OnTape::Begun(head) if first => {
                self.before.clear();
                self.take_head(head);
            }
            // It is no moment of its own: what follows in its file is.
            OnTape::GoesOn(head) if first && self.before.is_empty() => {
                self.take_head(head);
                return Ok(());
            }
            _ => {}
        }
        if first {
            self.head(at)?;
        }
        match what {
            OnTape::GoesOn(_) => Ok(()),
            OnTape::Begun(head) => {
                if !first {
                    self.pieces = Pieces::default();
                    self.event(at, "o", RESET)?;
                    self.take_head(&head);
                    self.resize(at, head.size)?;
                }
                self.event(at, "m", "started")
            }
            OnTape::Output(bytes) => {
                let drawn = self.drawn(bytes);
                self.output(at, &drawn)
            }
            OnTape::Resized(size) => self.resize(at, size),
            OnTape::Ended(how) => self.event(at, "m", &format!("ended: {how}")),
            OnTape::Lost(bytes, why) => {
                self.event(at, "m", &format!("{bytes} bytes missing: {why}"))
            }
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        match self.began {
            Some(_) => Ok(()),
            // Nothing happened since: the picture as it stood.
            None => self.head(self.from),
        }
    }
}
