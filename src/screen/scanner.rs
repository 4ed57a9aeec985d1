//! Finds in a program's output the sequences that do more than draw: questions, titles, and everything that stays switched
//! on. Keeps its place over reads that split a sequence. By hand and not by the emulator's callbacks: with those the
//! emulator would be compiled into this crate, for size, at half its speed.

/// The most of a sequence that is kept; nothing that concerns anybody is longer.
const BODY_MAX: usize = 1024;

/// Where in a sequence the output stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    Escape,
    Csi,
    Osc,
    /// DCS or APC, by its introducer.
    String(u8),
    /// SOS or PM: skipped up to its end.
    Skipped,
}

/// Finds the sequences that concern somebody.
#[derive(Debug, Default)]
pub struct Scanner {
    place: Place,
    body: Vec<u8>,
    /// How many bytes of the sequence have come.
    length: usize,
    /// How many bytes the sequence had that was found last.
    found: usize,
}

/// A sequence that concerns somebody.
#[derive(Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Parameters, then the final letter.
    Csi(Vec<u8>, u8),
    /// Without introducer and terminator.
    Osc(Vec<u8>),
    /// A device control string (`P`) or an application's command (`_`), by its introducer and without its terminator.
    Device(u8, Vec<u8>),
    /// What follows the escape: `7`, `(0`.
    Escape(Vec<u8>),
    /// ENQ, SO or SI.
    Control(u8),
}

impl Scanner {
    /// How many bytes are before the end of the next sequence that concerns somebody, and the sequence; all of them if
    /// there is none.
    pub fn next(&mut self, bytes: &[u8]) -> (usize, Option<Sequence>) {
        let mut at = 0;
        while at < bytes.len() {
            if self.place == Place::Text {
                let found = bytes[at..]
                    .iter()
                    .position(|byte| matches!(byte, 0x05 | 0x0e | 0x0f | 0x1b));
                let Some(skip) = found else { break };
                at += skip + 1;
                self.length = 1;
                match bytes[at - 1] {
                    0x1b => self.place = Place::Escape,
                    control => {
                        self.found = 1;
                        return (at, Some(Sequence::Control(control)));
                    }
                }
                self.body.clear();
                continue;
            }
            let byte = bytes[at];
            at += 1;
            self.length += 1;
            if let Some(found) = self.byte(byte) {
                return (at, Some(found));
            }
        }
        (bytes.len(), None)
    }

    /// How many bytes the sequence had that was found last, and how many have come since its end: one, the escape that ended
    /// a string.
    pub fn found(&self) -> (usize, usize) {
        (self.found, usize::from(self.place != Place::Text))
    }

    /// How many bytes have come of a sequence that is not at its end.
    pub fn inside(&self) -> usize {
        match self.place {
            Place::Text => 0,
            _ => self.length,
        }
    }

    /// The next byte of a sequence.
    fn byte(&mut self, byte: u8) -> Option<Sequence> {
        match (self.place, byte) {
            (_, 0x18 | 0x1a) => self.place = Place::Text,
            // A string ends with `ESC \`, and the escape alone ends it for the emulator.
            (Place::Osc | Place::String(_), 0x07 | 0x1b) => return self.string(byte),
            (_, 0x1b) => self.begin(),
            (Place::Escape, _) => return self.escape(byte),
            (Place::Csi, b'@'..=b'~') => {
                self.place = Place::Text;
                self.found = self.length;
                return self.csi(byte);
            }
            (Place::Csi, b' '..=b'?') | (Place::Osc | Place::String(_), _)
                if self.body.len() < BODY_MAX =>
            {
                self.body.push(byte);
            }
            _ => {}
        }
        None
    }

    fn begin(&mut self) {
        self.place = Place::Escape;
        self.body.clear();
        self.length = 1;
    }

    fn escape(&mut self, byte: u8) -> Option<Sequence> {
        if self.body.is_empty() {
            self.place = match byte {
                b'[' => Place::Csi,
                b']' => Place::Osc,
                b'P' | b'_' => Place::String(byte),
                b'X' | b'^' => Place::Skipped,
                _ => Place::Escape,
            };
            if self.place != Place::Escape {
                return None;
            }
        }
        match byte {
            b' '..=b'/' if self.body.len() < BODY_MAX => self.body.push(byte),
            b'0'..=b'~' => {
                self.place = Place::Text;
                self.found = self.length;
                self.body.push(byte);
                return Some(Sequence::Escape(std::mem::take(&mut self.body)));
            }
            _ => {}
        }
        None
    }

    fn string(&mut self, byte: u8) -> Option<Sequence> {
        let place = self.place;
        let body = std::mem::take(&mut self.body);
        self.found = self.length;
        self.place = Place::Text;
        if byte == 0x1b {
            // It belongs to what follows.
            self.found -= 1;
            self.begin();
        }
        match place {
            Place::Osc => Some(Sequence::Osc(body)),
            Place::String(kind) => Some(Sequence::Device(kind, body)),
            _ => None,
        }
    }

    fn csi(&mut self, last: u8) -> Option<Sequence> {
        let marked = || self.body.iter().any(|byte| !matches!(byte, b'0'..=b';'));
        let concerns = match last {
            b'c' | b'h' | b'l' | b'n' | b'p' | b'q' | b'r' | b's' | b't' | b'u' | b'x' | b'g' => {
                true
            }
            // Without a mark these only draw.
            b'm' | b'f' | b'S' | b'v' | b'w' | b'y' | b'|' => marked(),
            _ => false,
        };
        concerns.then(|| Sequence::Csi(std::mem::take(&mut self.body), last))
    }
}
