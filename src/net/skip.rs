//! WebSocket frames that are too large to be taken in: a reader under the WebSocket passes over them without holding more
//! than how each began. In the place of one stands a short text frame that says so, in the order in which they came; the
//! connection goes on.

use std::io::{self, Read, Write};

/// What stands in the place of a message begins so. No JSON does.
const MARK: char = '\u{1}';
/// Nobody sends a frame of more bytes than this, or would wait for its end: the stream counts as broken.
const MOST: u64 = 256 * 1024 * 1024;
/// How much of the beginning is kept.
const KEPT: usize = 32 * 1024;
/// What is read from under it at once.
const CHUNK: usize = 16 * 1024;

/// A message that was passed over.
#[derive(Debug, PartialEq, Eq)]
pub struct PassedOver<'a> {
    /// How many bytes it had.
    pub bytes: u64,
    /// How it began; not valid JSON, because it ends somewhere.
    pub head: &'a str,
}

impl<'a> PassedOver<'a> {
    /// Reads a text message that may stand in the place of one.
    pub fn read(text: &'a str) -> Option<Self> {
        let (bytes, head) = text.strip_prefix(MARK)?.split_once('\n')?;
        let bytes = bytes.parse().ok()?;
        Some(Self { bytes, head })
    }
}

/// Where in the stream the reader is.
#[derive(Debug)]
enum At {
    /// In the answer to the upgrade; so many bytes of the empty line at its end have been seen.
    Answer(usize),
    /// Before or in a frame's header.
    Header,
    /// In a frame that is let through.
    Through(u64),
    /// In a frame that is passed over.
    Over(u64),
}

/// A message in several frames, of which some have come.
#[derive(Debug, Default)]
struct PartialMessage {
    bytes: u64,
    over: bool,
}

/// Bytes that are taken from the front.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    taken: usize,
}

impl Queue {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.rest().is_empty() {
            self.bytes.clear();
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves as many as there are and as `to` takes, but at most `most`.
    fn give(&mut self, to: &mut [u8], most: u64) -> usize {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let n = self.rest().len().min(to.len()).min(most);
        to[..n].copy_from_slice(&self.rest()[..n]);
        self.taken += n;
        n
    }
}

/// See the module.
#[derive(Debug)]
pub struct Skipping<S> {
    inner: S,
    most: u64,
    at: At,
    /// Read, and not looked at yet.
    raw: Queue,
    /// Made here, and not given out yet.
    out: Queue,
    header: Vec<u8>,
    message: PartialMessage,
    /// The frame in hand ends its message.
    last: bool,
    kept: Vec<u8>,
    received: u64,
}

impl<S> Skipping<S> {
    /// Over a stream that begins with the answer to an upgrade. Messages of more than `most` bytes are passed over.
    pub fn new(inner: S, most: usize) -> Self {
        Self {
            inner,
            most: most as u64,
            at: At::Answer(0),
            raw: Queue::default(),
            out: Queue::default(),
            header: Vec::new(),
            message: PartialMessage::default(),
            last: false,
            kept: Vec::new(),
            received: 0,
        }
    }

    /// How many bytes have come in, those that were passed over among them.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The stream under it.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Takes what is in hand one step further. Gives out at most as many bytes as `buf` takes.
    fn advance(&mut self, buf: &mut [u8]) -> usize {
        match self.at {
            At::Answer(seen) => self.answer(buf, seen),
            At::Header => {
                self.header();
                0
            }
            At::Through(left) => {
                let n = self.raw.give(buf, left);
                self.at = match left - n as u64 {
                    0 => At::Header,
                    left => At::Through(left),
                };
                n
            }
            At::Over(left) => {
                self.pass_over(left);
                0
            }
        }
    }

    fn answer(&mut self, buf: &mut [u8], mut seen: usize) -> usize {
        const END: &[u8] = b"\r\n\r\n";
        let mut n = 0u64;
        for byte in self.raw.rest().iter().take(buf.len()) {
            seen = match *byte == END[seen] {
                true => seen + 1,
                false => usize::from(*byte == END[0]),
            };
            n += 1;
            if seen == END.len() {
                break;
            }
        }
        self.at = match seen == END.len() {
            true => At::Header,
            false => At::Answer(seen),
        };
        self.raw.give(buf, n)
    }

    fn header(&mut self) {
        let mut byte = [0];
        while self.raw.give(&mut byte, 1) == 1 {
            self.header.extend(byte);
            if let Some(length) = length_of(&self.header) {
                return self.begin(length);
            }
        }
    }

    /// A frame of that many bytes begins: its header is complete.
    fn begin(&mut self, length: u64) {
        let header = std::mem::take(&mut self.header);
        let (first, control) = (header[0], header[0] & 0x08 != 0);
        if control {
            self.out.add(&header);
            self.at = At::Through(length);
            return self.skip_empty(length);
        }
        self.last = first & 0x80 != 0;
        self.message.bytes = self.message.bytes.saturating_add(length);
        if self.message.over || self.message.bytes > self.most {
            let begun = first & 0x0f == 0 && !self.message.over;
            if begun {
                // What was let through of it ends here; nobody can read the half of a message.
                self.out.add(&[0x80, 0]);
            }
            self.message.over = true;
            self.at = At::Over(length);
            if length == 0 {
                self.pass_over(0);
            }
            return;
        }
        if self.last {
            self.message = PartialMessage::default();
        }
        self.out.add(&header);
        self.at = At::Through(length);
        self.skip_empty(length);
    }

    fn skip_empty(&mut self, length: u64) {
        if length == 0 {
            self.at = At::Header;
        }
    }

    fn pass_over(&mut self, left: u64) {
        let here = self.raw.rest();
        let n = here.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let room = KEPT.saturating_sub(self.kept.len()).min(n);
        self.kept.extend_from_slice(&here[..room]);
        self.raw.taken += n;
        let left = left - n as u64;
        if left > 0 {
            self.at = At::Over(left);
            return;
        }
        self.at = At::Header;
        if self.last {
            self.stand_in();
        }
    }

    /// Puts a short frame in the place of the message that was passed over.
    fn stand_in(&mut self) {
        let bytes = std::mem::take(&mut self.message).bytes;
        let kept = std::mem::take(&mut self.kept);
        let text = format!("{MARK}{bytes}\n{}", String::from_utf8_lossy(&kept));
        let mut frame = vec![0x81];
        match u16::try_from(text.len()) {
            Ok(length) => {
                frame.push(126);
                frame.extend(length.to_be_bytes());
            }
            Err(_) => {
                frame.push(127);
                frame.extend((text.len() as u64).to_be_bytes());
            }
        }
        frame.extend(text.as_bytes());
        self.out.add(&frame);
    }
}

/// The length of the payload that a header tells, once it is complete.
fn length_of(header: &[u8]) -> Option<u64> {
    let short = *header.get(1)?;
    let (extended, mask) = (short & 0x7f, if short & 0x80 != 0 { 4 } else { 0 });
    let wide = match extended {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let length = header.get(2..2 + wide)?;
    header.get(2 + wide..2 + wide + mask)?;
    Some(match wide {
        0 => u64::from(extended),
        _ => length
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    })
}

impl<S: Read> Read for Skipping<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.out.rest().is_empty() {
                return Ok(self.out.give(buf, u64::MAX));
            }
            if self.raw.rest().is_empty() {
                let mut chunk = [0; CHUNK];
                let n = self.inner.read(&mut chunk)?;
                if n == 0 {
                    return Ok(0);
                }
                self.received += n as u64;
                self.raw.add(&chunk[..n]);
            }
            let n = self.advance(buf);
            if self.message.bytes > MOST {
                let why = format!("a message of {} bytes is no message", self.message.bytes);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            if n > 0 {
                return Ok(n);
            }
        }
    }
}

impl<S: Write> Write for Skipping<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::Role;
    use tungstenite::{Message, WebSocket};

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    /// A peer's bytes, so many at a time.
    struct Wire {
        bytes: Queue,
        step: u64,
    }

    impl Read for Wire {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.bytes.give(buf, self.step) {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                n => Ok(n),
            }
        }
    }

    impl Write for Wire {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first, 127];
        frame.extend((payload.len() as u64).to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// The texts that arrive when at most 1,000 bytes of a message are taken.
    fn heard(frames: &[Vec<u8>], step: u64) -> Vec<String> {
        let mut bytes = Queue::default();
        bytes.add(&[ANSWER, &frames.concat()].concat());
        let mut through = Skipping::new(Wire { bytes, step }, 1000);
        let mut answer = vec![0; ANSWER.len()];
        through.read_exact(&mut answer).expect("the answer");
        assert_eq!(answer, ANSWER);
        let mut socket = WebSocket::from_raw_socket(through, Role::Client, None);
        let mut texts = Vec::new();
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => texts.push(text.as_str().to_owned()),
                Ok(_) => {}
                Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                    return texts;
                }
                Err(e) => panic!("the socket ended: {e}"),
            }
        }
    }

    #[test]
    fn a_giant_is_passed_over_and_those_around_it_arrive_in_order_however_the_bytes_come() {
        let giant = "x".repeat(100_000);
        let frames = [
            frame(0x81, b"before"),
            frame(0x81, giant.as_bytes()),
            frame(0x81, b"between"),
            frame(0x81, &[b'y'; 1001]),
            frame(0x81, &[b'z'; 1000]),
        ];
        for step in [1, 7, 1000, 1 << 20] {
            let texts = heard(&frames, step);
            assert_eq!(texts.len(), 5, "{step}");
            assert_eq!(
                (texts[0].as_str(), texts[2].as_str()),
                ("before", "between")
            );
            let over = PassedOver::read(&texts[1]).expect("a giant");
            assert_eq!((over.bytes, over.head.len()), (100_000, KEPT), "{step}");
            assert_eq!(PassedOver::read(&texts[3]).expect("one more").bytes, 1001);
            assert_eq!(PassedOver::read(&texts[4]), None);
        }
    }

    #[test]
    fn a_giant_in_pieces_is_passed_over_with_a_ping_among_them() {
        let frames = [
            frame(0x01, &[b'a'; 2000]),
            vec![0x89, 0],
            frame(0x00, &[b'b'; 10]),
            vec![0x80, 0],
            frame(0x81, b"after"),
        ];
        let texts = heard(&frames, 3);
        assert_eq!(PassedOver::read(&texts[0]).expect("a giant").bytes, 2010);
        assert_eq!(texts[1..], ["after"]);
    }

    #[test]
    fn a_message_that_grows_too_large_in_small_pieces_ends_as_half_of_one_and_then_as_none() {
        let pieces = [
            frame(0x01, &[b'a'; 600]),
            frame(0x00, &[b'b'; 600]),
            frame(0x80, b"c"),
            frame(0x81, b"after"),
        ];
        let texts = heard(&pieces, 1 << 20);
        assert_eq!(texts[0], "a".repeat(600));
        assert_eq!(PassedOver::read(&texts[1]).expect("a giant").bytes, 1201);
        assert_eq!(texts[2..], ["after"]);
    }

    #[test]
    fn a_length_that_no_memory_holds_is_said_and_makes_no_room_for_itself() {
        for length in [MOST + 1, u64::MAX] {
            let mut endless = vec![0x81, 127];
            endless.extend(length.to_be_bytes());
            let mut bytes = Queue::default();
            bytes.add(&[ANSWER, &endless].concat());
            let mut through = Skipping::new(Wire { bytes, step: 100 }, 1000);
            let broken = io::copy(&mut through, &mut io::sink()).expect_err("an end");
            assert!(broken.to_string().contains(&length.to_string()), "{broken}");
        }
    }
}
