//! Output in lines, whole however they come. A line is kept up to a limit; of one that is longer nothing is.

/// The most bytes of a line. The lines that say something of our messages are hardly longer than these; one with a picture
/// in it may be, and says nothing to us.
const LINE_MAX: usize = 8 * 1024 * 1024;

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OutputLine {
    /// Without its end.
    Whole(String),
    /// It was longer than a line may be, and is gone.
    TooLong,
}

/// Makes lines of pieces. Keeps nothing but a line that has begun.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    begun: Vec<u8>,
    too_long: bool,
}

impl LineSplitter {
    /// The lines that are whole by now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<OutputLine> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.add(piece.strip_suffix(b"\n").unwrap_or(piece));
            if piece.ends_with(b"\n") {
                lines.push(self.end());
            }
        }
        lines
    }

    /// The last line, if it has no end.
    pub(super) fn finish(&mut self) -> Option<OutputLine> {
        (self.too_long || !self.begun.is_empty()).then(|| self.end())
    }

    fn add(&mut self, piece: &[u8]) {
        self.too_long |= self.begun.len() + piece.len() > LINE_MAX;
        match self.too_long {
            true => self.begun = Vec::new(),
            false => self.begun.extend_from_slice(piece),
        }
    }

    fn end(&mut self) -> OutputLine {
        let line = std::mem::take(&mut self.begun);
        match std::mem::take(&mut self.too_long) {
            true => OutputLine::TooLong,
            false => OutputLine::Whole(String::from_utf8_lossy(&line).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> OutputLine {
        OutputLine::Whole(text.to_owned())
    }

    #[test]
    fn a_line_is_the_same_wherever_it_is_torn() {
        let text = "one\ntwo ä\n\nfour".as_bytes();
        for at in 0..=text.len() {
            let mut lines = LineSplitter::default();
            let mut seen = lines.push(&text[..at]);
            seen.extend(lines.push(&text[at..]));
            seen.extend(lines.finish());
            assert_eq!(
                seen,
                [whole("one"), whole("two ä"), whole(""), whole("four")],
                "torn at {at}"
            );
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_is_whole() {
        let mut lines = LineSplitter::default();
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..20 {
            assert_eq!(lines.push(&piece), []);
        }
        assert!(lines.begun.is_empty(), "nothing of it is kept");
        assert_eq!(
            lines.push(b"end\nnext\n"),
            [OutputLine::TooLong, whole("next")]
        );
        assert_eq!(lines.finish(), None);
    }
}
