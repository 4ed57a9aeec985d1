//! The journal's text: a first line that says what it is, then frames. A frame is one commit: a header line, then one
//! line of JSON per record.
//!
//! ```text
//! relay-journal 1 broker
//! frame FILE NUMBER COUNT LENGTH PREVIOUS CHAIN
//! {"at_ms":1782640800123,"the first":"record"}
//! {"at_ms":1782640800123,"the second":"record"}
//! ```
//!
//! When a record was decided is the first member of its object; records of journals that are older than that have none.
//! FILE is the N of `journal.N` (some file systems show the blocks of a deleted file behind a torn end), NUMBER counts
//! from 0 in each file, COUNT the records, LENGTH the bytes of their lines. CHAIN is the SHA-256 of the
//! header up to PREVIOUS and of the lines; PREVIOUS is the CHAIN of the frame before, or zeros. So each frame can be
//! verified by itself when its neighbours are lost, and none can be moved, doubled or left out unnoticed. A raw line
//! break cannot occur inside JSON text, so no record can pass for a frame. Pure: bytes in, bytes out.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::date;
use crate::ids::to_hex;
use crate::time::Wall;

/// The version of the format this program writes, and the only one it reads.
pub const VERSION: u64 = 1;
/// The word every journal begins with.
pub(super) const MAGIC: &str = "relay-journal";
/// The word every frame begins with.
const WORD: &[u8] = b"frame ";
/// No header is longer: the word, four numbers of at most 20 digits, two hashes of 64.
const HEADER_MAX: usize = 6 + 4 * 21 + 2 * 65;

/// A SHA-256, the link between frames.
pub(super) type Chain = [u8; 32];

/// Where the next frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FramePosition {
    /// The file it is in.
    pub file: u64,
    /// Its number.
    pub number: u64,
    /// The chain of the frame before.
    pub previous: Chain,
}

impl FramePosition {
    /// The place of a file's first frame.
    pub(super) fn start(file: u64) -> FramePosition {
        FramePosition {
            file,
            number: 0,
            previous: [0; 32],
        }
    }
}

/// A file's first line, line break included.
pub(super) fn first_line(kind: &str) -> String {
    format!("{MAGIC} {VERSION} {kind}\n")
}

/// One frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub file: u64,
    pub number: u64,
    pub count: u64,
    /// Bytes of the lines that follow.
    pub length: u64,
    pub previous: Chain,
    pub chain: Chain,
}

impl Header {
    /// Reads the header line at the start of `bytes`, and says how long it is. `None` for anything that is not exactly
    /// as [`encode`] would have written it.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Header, usize)> {
        let window = &bytes[..bytes.len().min(HEADER_MAX)];
        let end = window.iter().position(|b| *b == b'\n')?;
        let line = std::str::from_utf8(&window[..end]).ok()?;
        let mut words = line.strip_prefix("frame ")?.split(' ');
        let header = Header {
            file: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
            count: words.next()?.parse().ok()?,
            length: words.next()?.parse().ok()?,
            previous: from_hex(words.next()?)?,
            chain: from_hex(words.next()?)?,
        };
        // Only one spelling is right, so that a flipped bit cannot hide in a leading zero or a capital.
        (header.line() == line).then_some((header, end + 1))
    }

    /// Whether `lines` are the ones this header was written for.
    pub(super) fn fits(&self, lines: &[u8]) -> bool {
        lines.len() as u64 == self.length && self.hash(lines) == self.chain
    }

    /// The place of the frame after this one.
    pub(super) fn next(&self) -> FramePosition {
        FramePosition {
            file: self.file,
            number: self.number.saturating_add(1),
            previous: self.chain,
        }
    }

    /// Bytes of the header line, line break included.
    pub(super) fn size(&self) -> usize {
        self.line().len() + 1
    }

    fn hash(&self, lines: &[u8]) -> Chain {
        Sha256::new()
            .chain_update(self.front())
            .chain_update(lines)
            .finalize()
            .into()
    }

    /// The part of the header that the chain covers.
    fn front(&self) -> String {
        let Header {
            file,
            number,
            count,
            length,
            previous,
            ..
        } = self;
        format!(
            "frame {file} {number} {count} {length} {}",
            to_hex(previous)
        )
    }

    fn line(&self) -> String {
        format!("{} {}", self.front(), to_hex(&self.chain))
    }
}

/// The bytes of one frame, and the place of the next.
///
/// # Errors
/// When a record has no form in JSON.
pub(super) fn encode<'a, R: Serialize + 'a>(
    at: FramePosition,
    records: impl IntoIterator<Item = (Option<Wall>, &'a R)>,
) -> Result<(Vec<u8>, FramePosition), serde_json::Error> {
    let (mut lines, mut count) = (Vec::new(), 0);
    for (at, record) in records {
        date::write(&mut lines, at, record)?;
        lines.push(b'\n');
        count += 1;
    }
    let mut header = Header {
        file: at.file,
        number: at.number,
        count,
        length: lines.len() as u64,
        previous: at.previous,
        chain: [0; 32],
    };
    header.chain = header.hash(&lines);
    let mut bytes = header.line().into_bytes();
    bytes.push(b'\n');
    bytes.append(&mut lines);
    Ok((bytes, header.next()))
}

/// Records of which nobody knows when they were decided.
#[cfg(test)]
pub(super) fn undated<R>(records: &[R]) -> impl Iterator<Item = (Option<Wall>, &R)> {
    records.iter().map(|record| (None, record))
}

/// The next position from `from` on where a frame may begin.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let found = rest.windows(WORD.len()).position(|w| w == WORD)?;
    Some(from + found)
}

fn from_hex(text: &str) -> Option<Chain> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut chain = [0; 32];
    for (byte, pair) in chain.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (
            (pair[0] as char).to_digit(16)?,
            (pair[1] as char).to_digit(16)?,
        );
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of records without a time.
    fn encode<R: Serialize>(
        at: FramePosition,
        records: &[R],
    ) -> Result<(Vec<u8>, FramePosition), serde_json::Error> {
        super::encode(at, undated(records))
    }

    #[test]
    fn a_frame_reads_back_and_links_to_the_one_before() {
        let (first, place) = encode(FramePosition::start(7), &["a", "b"]).expect("text");
        let (second, _) = encode(place, &["c"]).expect("text");
        let (header, start) = Header::parse(&first).expect("a header");
        assert_eq!((header.number, header.count), (0, 2));
        assert!(header.fits(&first[start..]));
        let (next, _) = Header::parse(&second).expect("a header");
        assert_eq!((next.number, next.previous), (1, header.chain));
    }

    #[test]
    fn a_header_in_any_other_spelling_is_none() {
        let (bytes, _) = encode(FramePosition::start(7), &["abc"]).expect("text");
        let text = String::from_utf8(bytes).expect("text");
        assert!(Header::parse(text.as_bytes()).is_some());
        for wrong in [
            text.replacen("frame 7", "frame 07", 1),
            text.replacen("frame 7", "frame +7", 1),
            text.replacen("frame 7", "frame  7", 1),
            text.replacen(" 1 ", " 1  ", 1),
            text.to_uppercase(),
            text.replacen('\n', " \n", 1),
            text.replacen('\n', "", 2),
        ] {
            assert_eq!(Header::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn words_in_a_message_cannot_pass_for_a_frame() {
        let (inner, _) = encode(FramePosition::start(7), &["gotcha"]).expect("text");
        let inner = String::from_utf8(inner).expect("text");
        let (outer, _) = encode(FramePosition::start(7), &[format!("\n{inner}\n")]).expect("text");
        let inside = find(&outer, 1).expect("the word is there");
        assert_eq!(Header::parse(&outer[inside..]), None);
    }
}
