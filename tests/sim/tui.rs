//! Model command lines: what sits at the other side of an agent's terminal. A kernel's line discipline, and programs that
//! read lines, echo raw bytes, or have a composer with bracketed paste; each may be slow, deaf, garrulous, or dying.
//! Knows nothing of messages: what a program takes as input is handed out as text.

use std::collections::VecDeque;

use relay_broker::agent::tty_state::{Front, TtyState};
use relay_broker::msg::How;
use relay_broker::prng::Prng;

/// What the kernel keeps of what nobody has read.
const QUEUE: usize = 4095;
/// What has lain in the terminal for so long was seen to lie there.
const LAIN: u64 = 20_000_000;
/// Columns of the terminals here, unless somebody else asks for the agent.
pub const COLS: u16 = 80;
/// And rows.
pub const ROWS: u16 = 24;

/// What kind of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads lines; the kernel echoes.
    Registry,
    /// Reads raw bytes and echoes them itself, or shows nothing.
    Raw { echo: bool },
    /// Draws a draft and takes pastes. `known` ones are in the table of profiles.
    Composer { known: bool },
}

/// How a program behaves. Chances are per thousand.
#[derive(Clone, Debug)]
pub struct Manner {
    pub kind: Kind,
    /// Until it has set up its terminal.
    pub start_us: u64,
    /// Throws away what was typed before that.
    pub flushes: bool,
    /// Nobody can tell whether it waits for input.
    pub hidden: bool,
    /// From input to reading it, at most.
    pub read_us: u64,
    /// From input to reading it, at least.
    pub waits_us: u64,
    /// Bytes per read.
    pub chunk: usize,
    /// Does not read for up to `deaf_us`.
    pub deaf: u64,
    pub deaf_us: u64,
    /// Does not take an Enter.
    pub swallows: u64,
    /// Throws a paste away, as a dialog does.
    pub dialogs: u64,
    /// Says something this often; 0 for never.
    pub chatter_us: u64,
    /// Writes what it took into its history.
    pub keeps: u64,
    /// Tells by its hook what it took.
    pub tells: u64,
    /// Says by a status sequence that it works.
    pub signs: u64,
    /// Ends when it has taken an input.
    pub dies: u64,
    /// Goes on when its terminal hangs up.
    pub stubborn: bool,
}

impl Manner {
    /// Reads at once and never fails.
    pub fn good(kind: Kind) -> Self {
        Self {
            kind,
            start_us: 20_000,
            flushes: false,
            hidden: false,
            read_us: 500,
            waits_us: 0,
            chunk: 4096,
            deaf: 0,
            deaf_us: 0,
            swallows: 0,
            dialogs: 0,
            chatter_us: 0,
            keeps: 0,
            tells: 0,
            signs: 0,
            dies: 0,
            stubborn: false,
        }
    }

    /// The command line that makes the profile fit.
    pub fn command(&self) -> &'static str {
        match self.kind {
            Kind::Composer { known: true } => "claude",
            _ => "program",
        }
    }
}

/// What happened at the other side.
#[derive(Debug, Default)]
pub struct Acted {
    /// What the program takes as one input of its user.
    pub accepted: Vec<String>,
    /// What its hook tells of it.
    pub told: Vec<String>,
    /// What it threw away after it had lain there for a while.
    pub thrown: String,
    pub exit: Option<How>,
}

/// A program in its terminal.
#[derive(Debug)]
pub struct Seat {
    pub manner: Manner,
    line_mode: bool,
    input: VecDeque<u8>,
    output: Vec<u8>,
    started: bool,
    /// It has emptied its terminal.
    flushed: bool,
    /// When something was typed last.
    typed_at: u64,
    dead: bool,
    /// When it reads next, if there is something.
    reads_at: Option<u64>,
    starts_at: u64,
    chatters_at: Option<u64>,
    dies_at: Option<u64>,
    draft: Draft,
    cols: usize,
    history: Vec<String>,
    /// How long the history was when somebody looked.
    noted: usize,
}

#[derive(Debug, Default)]
struct Draft {
    text: Vec<u8>,
    escape: Vec<u8>,
    pasting: bool,
    discard: bool,
    rows: usize,
    pasted: u32,
}

impl Seat {
    pub fn new(manner: Manner, cols: u16, now: u64) -> Self {
        let starts_at = now + manner.start_us * 1000;
        Self {
            chatters_at: (manner.chatter_us > 0).then(|| starts_at + manner.chatter_us * 1000),
            manner,
            line_mode: true,
            input: VecDeque::new(),
            output: Vec::new(),
            started: false,
            flushed: false,
            typed_at: 0,
            dead: false,
            reads_at: None,
            starts_at,
            dies_at: None,
            draft: Draft::default(),
            cols: usize::from(cols),
            history: Vec::new(),
            noted: 0,
        }
    }

    /// Remembers how long its history is.
    pub fn note_history(&mut self) {
        self.noted = self.history.len();
    }

    /// What it wrote into its history since then.
    pub fn history(&self) -> &[String] {
        &self.history[self.noted..]
    }

    /// It speaks of what it took, in the ways that CLIs have.
    fn speak(&mut self, acted: &mut Acted, prng: &mut Prng) {
        let mut often = |chance: u64| chance > 0 && prng.below(1000) < chance;
        for text in &acted.accepted {
            if often(self.manner.keeps) {
                self.history.push(text.clone());
            }
            if often(self.manner.tells) {
                acted.told.push(text.clone());
            }
            if often(self.manner.signs) {
                let signs = b"\x1b]7501;state=working\x1b\\\x1b]7501;state=done\x1b\\";
                self.output.extend(signs);
            }
        }
    }

    /// What the kernel says of the terminal.
    pub fn facts(&self) -> TtyState {
        TtyState {
            line_mode: self.line_mode,
            echo: self.line_mode,
            enter: Some(b'\r'),
            unread: Some(self.readable() > 0),
            front: Front::Own,
        }
    }

    fn readable(&self) -> usize {
        if self.line_mode {
            let end = self.input.iter().rposition(|b| *b == b'\n');
            end.map_or(0, |at| at + 1)
        } else {
            self.input.len()
        }
    }

    /// Takes bytes as far as there is room, and echoes in line mode.
    pub fn write(&mut self, bytes: &[u8], now: u64, prng: &mut Prng) -> usize {
        if self.dead {
            return 0;
        }
        if !bytes.is_empty() {
            self.typed_at = now;
        }
        let room = QUEUE - self.input.len();
        let taken = bytes.len().min(room);
        for byte in &bytes[..taken] {
            let byte = match byte {
                b'\r' if self.line_mode => b'\n',
                byte => *byte,
            };
            self.input.push_back(byte);
            if self.line_mode {
                match byte {
                    b'\n' => self.output.extend(b"\r\n"),
                    byte => self.output.push(byte),
                }
            }
        }
        self.look(now, prng);
        taken
    }

    /// Whether it waits for input, as the kernel tells.
    pub fn awaited(&self) -> Option<bool> {
        (!self.manner.hidden).then_some(self.started)
    }

    /// Whether it has emptied its terminal since the last time.
    pub fn take_flushed(&mut self) -> bool {
        std::mem::take(&mut self.flushed)
    }

    /// What it showed since the last time.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Plans the next read if there is something to read.
    pub fn look(&mut self, now: u64, prng: &mut Prng) {
        if self.reads_at.is_some() || self.readable() == 0 || !self.started {
            return;
        }
        let mut wait = self.manner.waits_us * 1000;
        wait += prng.below(self.manner.read_us * 1000 + 1);
        if prng.below(1000) < self.manner.deaf {
            wait += prng.below(self.manner.deaf_us * 1000 + 1);
        }
        self.reads_at = Some(now + wait);
    }

    /// When it does something next.
    pub fn deadline(&self) -> Option<u64> {
        if self.dead {
            return None;
        }
        let start = (!self.started).then_some(self.starts_at);
        [start, self.reads_at, self.chatters_at, self.dies_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The terminal hung up, or a signal came.
    pub fn hang_up(&mut self, now: u64, kill: bool) {
        if kill || !self.manner.stubborn {
            self.dies_at = Some(
                self.dies_at
                    .map_or(now + 1_000_000, |at| at.min(now + 1_000_000)),
            );
        }
    }

    /// It reads what is there before it does anything else.
    pub fn read_up(&mut self, now: u64) {
        if self.started && self.readable() > 0 {
            self.reads_at = Some(now);
        }
    }

    /// It ends by itself.
    pub fn die(&mut self, at: u64) {
        self.dies_at = Some(at);
    }

    /// From now on it is quick, attentive and quiet, and reads what it has left lying.
    pub fn behave(&mut self, now: u64) {
        self.manner = Manner {
            start_us: self.manner.start_us,
            flushes: self.manner.flushes,
            hidden: self.manner.hidden,
            ..Manner::good(self.manner.kind)
        };
        self.chatters_at = None;
        self.reads_at = self.reads_at.map(|at| at.min(now + 1_000_000));
    }

    /// Does what is due.
    pub fn act(&mut self, now: u64, prng: &mut Prng) -> Acted {
        let mut acted = Acted::default();
        if self.dead {
            return acted;
        }
        if self.dies_at.is_some_and(|at| at <= now) {
            self.dead = true;
            acted.exit = Some(How {
                code: Some(1),
                ..How::default()
            });
            return acted;
        }
        if !self.started && self.starts_at <= now {
            self.start(now, &mut acted);
            self.look(now, prng);
        }
        if self.chatters_at.is_some_and(|at| at <= now) {
            self.chatters_at = Some(now + self.manner.chatter_us * 1000);
            self.chatter();
        }
        if self.reads_at.is_some_and(|at| at <= now) {
            self.reads_at = None;
            let count = self.readable().min(self.manner.chunk);
            let bytes: Vec<u8> = self.input.drain(..count).collect();
            for byte in bytes {
                self.read(byte, prng, &mut acted);
            }
            if let Kind::Composer { .. } = self.manner.kind {
                self.speak(&mut acted, prng);
                self.draw();
            }
            if !acted.accepted.is_empty() && prng.below(1000) < self.manner.dies {
                self.dies_at = Some(now + prng.below(20_000_000));
            }
            self.look(now, prng);
        }
        acted
    }

    fn start(&mut self, now: u64, acted: &mut Acted) {
        self.started = true;
        if self.manner.kind == Kind::Registry {
            self.output.extend(b"ready\r\n");
            return;
        }
        self.line_mode = false;
        if self.manner.flushes {
            let thrown: Vec<u8> = self.input.drain(..).collect();
            if now > self.typed_at + LAIN {
                acted.thrown = String::from_utf8_lossy(&thrown).into_owned();
            }
            self.flushed = true;
        }
        match self.manner.kind {
            Kind::Composer { .. } => {
                self.output.extend("\x1b[?2004hWelcome.\r\n\r\n❯ ".bytes());
                self.draft.rows = 1;
            }
            _ => self.output.extend(b"raw\r\n"),
        }
    }

    fn chatter(&mut self) {
        match self.manner.kind {
            // A spinner in the title, so that the composer stays where it is.
            Kind::Composer { .. } => self.output.extend(b"\x1b]0;working\x07"),
            _ if self.started => self.output.extend(b"thinking...\r\n"),
            _ => {}
        }
    }

    fn read(&mut self, byte: u8, prng: &mut Prng, acted: &mut Acted) {
        match self.manner.kind {
            Kind::Registry => match byte {
                b'\n' => self.submit(acted),
                byte => self.draft.text.push(byte),
            },
            Kind::Raw { echo } => match byte {
                // What was typed before it went raw came as lines.
                b'\r' | b'\n' => {
                    if echo {
                        self.output.extend(b"\r\n");
                    }
                    self.submit(acted);
                }
                byte => {
                    if echo {
                        self.output.push(byte);
                    }
                    self.draft.text.push(byte);
                }
            },
            Kind::Composer { .. } => self.compose(byte, prng, acted),
        }
    }

    fn submit(&mut self, acted: &mut Acted) {
        let text = std::mem::take(&mut self.draft.text);
        if !text.is_empty() {
            acted
                .accepted
                .push(String::from_utf8_lossy(&text).into_owned());
        }
    }

    fn compose(&mut self, byte: u8, prng: &mut Prng, acted: &mut Acted) {
        if byte == 0x1b {
            self.draft.escape = vec![byte];
            return;
        }
        if !self.draft.escape.is_empty() {
            self.draft.escape.push(byte);
            match self.draft.escape.as_slice() {
                b"\x1b[200~" => {
                    self.draft.pasting = true;
                    self.draft.discard = prng.below(1000) < self.manner.dialogs;
                    self.draft.pasted += 1;
                }
                b"\x1b[201~" => {
                    self.draft.pasting = false;
                    self.draft.discard = false;
                }
                // An Escape of its own, and a key after it.
                [_, key] if *key != b'[' => {
                    self.draft.escape.clear();
                    self.compose(byte, prng, acted);
                    return;
                }
                _ => {}
            }
            if byte == b'~' || self.draft.escape.len() > 8 {
                self.draft.escape.clear();
            }
            return;
        }
        match byte {
            b'\r' | b'\n' if !self.draft.pasting => {
                if prng.below(1000) >= self.manner.swallows {
                    self.erase();
                    let said = String::from_utf8_lossy(&self.draft.text).replace('\n', "\r\n");
                    self.output.extend(format!("you: {said}\r\n\r\n").bytes());
                    self.draft.rows = 1;
                    self.submit(acted);
                }
            }
            _ if self.draft.discard => {}
            byte => self.draft.text.push(byte),
        }
    }

    fn erase(&mut self) {
        let up = self.draft.rows - 1;
        if up > 0 {
            self.output.extend(format!("\x1b[{up}A").bytes());
        }
        self.output.extend(b"\r\x1b[J");
    }

    /// The draft where the cursor is, or a placeholder when it is long.
    fn draw(&mut self) {
        self.erase();
        let text = String::from_utf8_lossy(&self.draft.text).into_owned();
        let (shown, rows) = if text.len() > 400 {
            let lines = text.matches('\n').count();
            let shown = format!("[Pasted text #{} +{lines} lines]", self.draft.pasted);
            (shown, 1)
        } else {
            let rows = text
                .split('\n')
                .map(|line| 1 + (line.chars().count() + 1) / self.cols)
                .sum();
            (text.replace('\n', "\r\n  "), rows)
        };
        self.output.extend(format!("❯ {shown}").bytes());
        self.draft.rows = rows;
    }
}
