//! Pictures that are joined of several, such as a family, and those with a colour of skin: one thing, two columns wide, as
//! every agent CLI and most newer terminals count them. The emulator counts each part, and a row that just fits would wrap,
//! so only the first part of each is drawn.

use std::borrow::Cow;

use crate::words::is_picture;

/// What joins two pictures.
const JOINER: &str = "\u{200d}";

/// What is known of the text before the next byte.
#[derive(Debug, Default)]
pub(super) struct JoinedPictures {
    /// A picture was drawn last, and what belongs to it.
    picture: bool,
    /// A joiner, which is drawn if no picture follows, and the beginning of a letter.
    held: Vec<u8>,
    /// A joiner is held.
    joins: bool,
}

impl JoinedPictures {
    /// What of the output is to be drawn now.
    pub(super) fn first_parts<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let plain = !self.picture && self.held.is_empty();
        // Pictures have four bytes, or end in one that no ASCII letter has.
        if plain && bytes.last().is_none_or(u8::is_ascii) && !bytes.iter().any(|b| may_join(*b)) {
            return Cow::Borrowed(bytes);
        }
        let mut all = std::mem::take(&mut self.held);
        if self.joins {
            all.drain(..JOINER.len());
        }
        all.extend_from_slice(bytes);
        let mut drawn = Vec::with_capacity(all.len() + JOINER.len());
        let mut rest = &all[..];
        while let [first, ..] = rest {
            match letter(rest) {
                Some(c) => {
                    self.draw(c, &mut drawn);
                    rest = &rest[c.len_utf8()..];
                }
                None if is_begun(rest) => break,
                None => {
                    self.leave(&mut drawn);
                    drawn.push(*first);
                    rest = &rest[1..];
                }
            }
        }
        if self.joins {
            self.held.extend_from_slice(JOINER.as_bytes());
        }
        self.held.extend_from_slice(rest);
        Cow::Owned(drawn)
    }

    fn draw(&mut self, c: char, drawn: &mut Vec<u8>) {
        match c {
            '\u{200d}' if self.picture && !self.joins => self.joins = true,
            // A colour makes a picture of a sign that is narrow otherwise.
            '\u{1f3fb}'..='\u{1f3ff}' if self.picture && !self.joins => push('\u{fe0f}', drawn),
            c if self.joins && is_picture(c) => self.joins = false,
            '\u{fe0e}' | '\u{fe0f}' if self.picture && !self.joins => push(c, drawn),
            c => {
                self.leave(drawn);
                self.picture = is_picture(c);
                push(c, drawn);
            }
        }
    }

    /// No picture comes, so the joiner joins nothing.
    fn leave(&mut self, drawn: &mut Vec<u8>) {
        if std::mem::take(&mut self.joins) {
            drawn.extend_from_slice(JOINER.as_bytes());
        }
        self.picture = false;
    }
}

/// A text as it is drawn: of joined pictures the first part.
pub fn first_parts(text: &str) -> Cow<'_, str> {
    let mut joined = JoinedPictures::default();
    match joined.first_parts(text.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(mut drawn) => {
            drawn.extend_from_slice(&joined.held);
            Cow::Owned(String::from_utf8_lossy(&drawn).into_owned())
        }
    }
}

/// Only with one of these is there anything to do: the last byte of a joiner, and the first of four.
fn may_join(byte: u8) -> bool {
    byte == 0x8d || byte >= 0xf0
}

fn push(c: char, drawn: &mut Vec<u8>) {
    drawn.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// How many bytes a letter has that begins so.
fn length(first: u8) -> usize {
    match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    }
}

fn letter(bytes: &[u8]) -> Option<char> {
    let letter = bytes.get(..length(bytes[0]))?;
    std::str::from_utf8(letter).ok()?.chars().next()
}

/// Whether it is the beginning of a letter, with nothing wrong so far.
fn is_begun(bytes: &[u8]) -> bool {
    bytes.len() < length(bytes[0]) && bytes[1..].iter().all(|byte| matches!(byte, 0x80..=0xbf))
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use crate::msg::Size;
    use crate::screen::Screen;

    fn columns(text: &str, piece: usize) -> usize {
        let mut screen = Screen::new(Size { rows: 2, cols: 60 });
        for bytes in text.as_bytes().chunks(piece) {
            screen.feed(bytes);
        }
        screen.nearby(0, 0).cursor.1.into()
    }

    #[test]
    fn joined_pictures_take_as_many_columns_as_programs_count_for_them() {
        for picture in [
            "🦀",
            "👩\u{200d}👩\u{200d}👧",
            "👩🏽\u{200d}💻",
            "👨🏻\u{200d}❤\u{fe0f}\u{200d}💋\u{200d}👨🏿",
            "🏳\u{fe0f}\u{200d}🌈",
            "❤\u{fe0f}\u{200d}🔥",
            "🧔\u{200d}♂\u{fe0f}",
            "🐻\u{200d}❄\u{fe0f}",
            "👍🏽",
            "☝🏾",
            "🇩🇪",
            "1\u{fe0f}\u{20e3}",
            "❤\u{fe0f}",
        ] {
            for text in [
                picture.to_owned(),
                format!("a{picture}b{picture}{picture} c"),
                format!("{picture}漢{picture}\u{2500}"),
            ] {
                for piece in [1, 2, 3, 5, 100] {
                    assert_eq!(columns(&text, piece), text.width(), "{text:?} by {piece}");
                }
            }
        }
    }

    #[test]
    fn a_joiner_that_joins_nothing_changes_nothing() {
        for (bytes, shown) in [
            (&b"a\xe2\x80\x8db"[..], "a\u{200d}b"),
            ("👩\u{200d}x".as_bytes(), "👩\u{200d}x"),
            ("👩\u{200d}\u{200d}👧".as_bytes(), "👩\u{200d}\u{200d}👧"),
        ] {
            for piece in [1, 100] {
                let mut screen = Screen::new(Size { rows: 2, cols: 20 });
                for bytes in bytes.chunks(piece) {
                    screen.feed(bytes);
                }
                assert_eq!(screen.lines()[0], shown, "{bytes:?} by {piece}");
            }
        }
    }
}
