//! Terminal output as text in pieces: a character that is split over two reads is held back until it is whole. Keeps
//! nothing but that tail.

/// Makes text of bytes.
#[derive(Debug, Default)]
pub struct Pieces {
    tail: Vec<u8>,
}

impl Pieces {
    /// What is whole by now; what can never become a character is shown as U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.tail.is_empty() {
            let (text, tail) = split(bytes);
            self.tail.extend_from_slice(tail);
            return text;
        }
        let mut joined = std::mem::take(&mut self.tail);
        joined.extend_from_slice(bytes);
        let (text, tail) = split(&joined);
        self.tail.extend_from_slice(tail);
        text
    }

    /// What was held back when no more comes.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.tail)).into_owned()
    }
}

fn split(bytes: &[u8]) -> (String, &[u8]) {
    let (whole, tail) = bytes.split_at(bytes.len() - unfinished(bytes));
    (String::from_utf8_lossy(whole).into_owned(), tail)
}

/// How many bytes at the end begin a character that is not complete.
fn unfinished(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let needs = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return 0,
        };
        return if back + 1 < needs { back + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cut_anywhere_arrives_whole() {
        let text = "aé漢🦀z\u{1b}[1m";
        for cut in 0..=text.len() {
            let mut pieces = Pieces::default();
            let mut got = pieces.push(&text.as_bytes()[..cut]);
            got += &pieces.push(&text.as_bytes()[cut..]);
            assert_eq!(got, text, "cut at {cut}");
            assert_eq!(pieces.finish(), "");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_not_held_back_for_ever() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.push(&[b'a', 0xff, b'b']), "a\u{fffd}b");
        assert_eq!(pieces.push(&[0xf0, 0x9f]), "");
        assert_eq!(pieces.push(b"x"), "\u{fffd}x");
        assert_eq!(pieces.push(&[0x80, 0x80, 0x80, 0x80]).chars().count(), 4);
        pieces.push(&[0xe6]);
        assert_eq!(pieces.finish(), "\u{fffd}");
    }
}
