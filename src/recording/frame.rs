//! How a recording lies on disk: frames, each a letter, a length, a time and what came then. All numbers are little-endian.
//! A file that ends in the middle of a frame is one whose writer was killed there; what is before is whole.

use serde::{Deserialize, Serialize};

use crate::ids::AgentName;
use crate::msg::Size;
use crate::time::Wall;

/// Letter, length of what follows the time, and the time in milliseconds since 1970.
pub(super) const HEAD: usize = 1 + 4 + 8;
/// No frame is longer; whatever claims to be is none of ours.
const PAYLOAD_MOST: usize = 1024 * 1024;

/// What is known of a recording before anything of it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapeHead {
    /// Whose it is.
    pub agent: AgentName,
    /// `raw` or `plain`.
    pub form: String,
    /// Whether it is the output of a terminal; if not, lines end with a newline alone.
    pub terminal: bool,
    /// The size of the terminal.
    pub size: Size,
}

/// What happened at one moment of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnTape {
    /// A file begins in the middle of a life.
    GoesOn(TapeHead),
    /// A program was started.
    Begun(TapeHead),
    /// It printed this.
    Output(Vec<u8>),
    /// Its terminal has another size.
    Resized(Size),
    /// It ended so.
    Ended(String),
    /// So many bytes of output are missing here, and why.
    Lost(u64, String),
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeFrame {
    /// When.
    pub at: Wall,
    /// What.
    pub what: OnTape,
}

/// The letter of output, whose frames are looked at without being taken apart.
pub(super) const OUTPUT: u8 = b'o';
/// The letter of a gap.
pub(super) const LOST: u8 = b'l';

/// Adds a frame.
pub(super) fn put(out: &mut Vec<u8>, letter: u8, at: Wall, payload: &[u8]) {
    out.push(letter);
    out.extend_from_slice(
        &u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    out.extend_from_slice(&at.0.to_le_bytes());
    out.extend_from_slice(payload);
}

impl TapeFrame {
    /// Adds it to what is to be written.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let json = |head: &TapeHead| serde_json::to_vec(head).unwrap_or_default();
        let (letter, payload) = match &self.what {
            OnTape::GoesOn(head) => (b'h', json(head)),
            OnTape::Begun(head) => (b'b', json(head)),
            OnTape::Output(bytes) => (OUTPUT, bytes.clone()),
            OnTape::Resized(size) => {
                let (rows, cols) = (size.rows.to_le_bytes(), size.cols.to_le_bytes());
                (b'r', [rows, cols].concat())
            }
            OnTape::Ended(how) => (b'e', how.clone().into_bytes()),
            OnTape::Lost(bytes, why) => (LOST, [&bytes.to_le_bytes()[..], why.as_bytes()].concat()),
        };
        put(out, letter, self.at, &payload);
    }

    /// The first frame of these bytes and its length; `None` where they hold no whole one.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let (letter, payload, at) = split(bytes)?;
        let text = || String::from_utf8_lossy(payload).into_owned();
        let head = || serde_json::from_slice(payload).ok();
        let what = match letter {
            b'h' => OnTape::GoesOn(head()?),
            b'b' => OnTape::Begun(head()?),
            OUTPUT => OnTape::Output(payload.to_vec()),
            b'r' => {
                let [a, b, c, d] = payload.try_into().ok()?;
                OnTape::Resized(Size {
                    rows: u16::from_le_bytes([a, b]),
                    cols: u16::from_le_bytes([c, d]),
                })
            }
            b'e' => OnTape::Ended(text()),
            LOST => {
                let (count, why) = payload.split_at_checked(8)?;
                let count = u64::from_le_bytes(count.try_into().ok()?);
                OnTape::Lost(count, String::from_utf8_lossy(why).into_owned())
            }
            _ => return None,
        };
        Some((Self { at, what }, HEAD + payload.len()))
    }
}

/// Letter, payload and time of the first frame.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], Wall)> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let length = u32::from_le_bytes(head[1..5].try_into().ok()?) as usize;
    let at = Wall(u64::from_le_bytes(head[5..].try_into().ok()?));
    let payload = rest.get(..length).filter(|_| length <= PAYLOAD_MOST)?;
    Some((head[0], payload, at))
}

/// The frames of these bytes, each as its letter and its bytes, head and all.
pub(super) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (letter, payload, _) = split(bytes)?;
        let (frame, rest) = bytes.split_at(HEAD + payload.len());
        bytes = rest;
        Some((letter, frame))
    })
}
