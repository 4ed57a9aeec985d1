//! What people do at the keyboard, as far as a message must wait for it: has somebody begun a line? Keys are read as a
//! terminal sends them. Whatever is not purely a report of the terminal itself counts as hands on the keyboard; knows nothing
//! of messages.

use crate::time::Mono;

/// What people did at the keyboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HumanInput {
    /// The last key that began or continued a line; `None` once Enter ended it.
    pub typing: Option<Mono>,
}

/// Reads keys.
#[derive(Debug, Default)]
pub struct KeyReader {
    hands: HumanInput,
    /// Between the marks of a paste everything is text.
    pasting: bool,
    /// The begin of a sequence whose end has not come.
    rest: Vec<u8>,
}

/// What a key does to the line that is being typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// A terminal's report, or a key that is let go.
    Nothing,
    /// It begins the line, or goes on with it. Arrows do so, too: they bring earlier lines back.
    Line,
    /// It ends the line.
    End,
    /// A paste begins.
    Paste,
}

const PASTE_END: &[u8] = b"\x1b[201~";
/// A sequence that is longer is none.
const LONGEST: usize = 4096;

impl KeyReader {
    /// What is known.
    pub fn hands(&self) -> HumanInput {
        self.hands
    }

    /// Keys came.
    pub fn pressed(&mut self, now: Mono, keys: &[u8]) {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(keys);
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let step = match self.pasting {
                true => Some((self.paste(left), Key::Line)),
                false => next(left),
            };
            let Some((len, key)) = step else {
                self.rest = left.to_vec();
                return;
            };
            match key {
                Key::Nothing => {}
                Key::End => self.hands.typing = None,
                Key::Line => self.hands.typing = Some(now),
                Key::Paste => self.pasting = true,
            }
            left = &left[len..];
        }
    }

    /// How much of `left` is paste, its end included.
    fn paste(&mut self, left: &[u8]) -> usize {
        let end = left
            .windows(PASTE_END.len())
            .position(|window| window == PASTE_END);
        self.pasting = end.is_none();
        end.map_or(left.len(), |at| at + PASTE_END.len())
    }
}

/// The first key of `keys` and its length; `None` when its end is not there yet.
fn next(keys: &[u8]) -> Option<(usize, Key)> {
    match keys {
        [0x1b, b'[', rest @ ..] => csi(rest).map(|(len, key)| (len + 2, key)),
        [0x1b, b'O'] => None,
        [0x1b, b'O', b'M', ..] => Some((3, Key::End)),
        [0x1b, b'O', _, ..] => Some((3, Key::Line)),
        [0x1b, b']', b'0'..=b'9', ..]
        | [0x1b, b'P', b'0'..=b'9' | b'>' | b'!', ..]
        | [0x1b, b'_', b'G', ..] => string(keys),
        // Escape, or another key with Alt; Enter with it begins another row.
        [0x1b, b'\r' | b'\n', ..] => Some((2, Key::Line)),
        [b'\r' | b'\n' | 0x03, ..] => Some((1, Key::End)),
        _ => Some((1, Key::Line)),
    }
}

/// An answer that is a text, up to ST or BEL.
fn string(keys: &[u8]) -> Option<(usize, Key)> {
    let bell = keys.iter().position(|byte| *byte == 0x07).map(|at| at + 1);
    let st = keys.windows(2).position(|pair| pair == b"\x1b\\");
    match (bell, st.map(|at| at + 2)) {
        (None, None) if keys.len() > LONGEST => Some((keys.len(), Key::Line)),
        (None, None) => None,
        (bell, st) => Some((
            bell.unwrap_or(LONGEST).min(st.unwrap_or(usize::MAX)),
            Key::Nothing,
        )),
    }
}

/// What follows `CSI`.
fn csi(rest: &[u8]) -> Option<(usize, Key)> {
    if let [b'M', report @ ..] = rest {
        // A mouse report of the oldest kind: three bytes follow.
        return (report.len() >= 3).then_some((4, Key::Nothing));
    }
    let end = rest
        .iter()
        .position(|byte| !matches!(byte, 0x20..=0x3f))
        .or_else(|| (rest.len() > LONGEST).then_some(LONGEST))?;
    let (words, last) = (&rest[..end], rest[end]);
    let key = match (words.first(), last) {
        (None, b'I' | b'O') | (Some(b'<'), b'M' | b'm') => Key::Nothing,
        (Some(_), b'M' | b'c' | b'n' | b't' | b'x' | b'y') | (Some(b'?'), b'u') => Key::Nothing,
        (Some(_), b'R') if words.contains(&b';') => Key::Nothing,
        (_, b'~') if words == b"200" => Key::Paste,
        (Some(_), _) => with_numbers(words, last),
        (None, _) => Key::Line,
    };
    Some((end + 1, key))
}

/// A key that is told in numbers, as in the protocols of kitty (`CSI code:shifted:base;modifiers:event;text u`) and xterm
/// (`CSI 27;modifiers;code ~`).
fn with_numbers(words: &[u8], last: u8) -> Key {
    let words = String::from_utf8_lossy(words);
    let fields: Vec<Vec<u32>> = words
        .split(';')
        .map(|field| field.split(':').map(|n| n.parse().unwrap_or(0)).collect())
        .collect();
    let number = |field: usize, at: usize| fields.get(field).and_then(|f| f.get(at)).copied();
    if number(1, 1) == Some(3) {
        return Key::Nothing;
    }
    let code = match last {
        b'u' => number(0, 0),
        b'~' if number(0, 0) == Some(27) => number(2, 0),
        _ => None,
    };
    // Bits, from 1; those of Caps Lock and Num Lock say nothing.
    let modifiers = number(1, 0).unwrap_or(1).saturating_sub(1) & !(64 | 128);
    let base = number(0, 2).filter(|_| last == b'u').or(code);
    match (code, modifiers) {
        (Some(ENTER | KEYPAD_ENTER), 0) => Key::End,
        (_, CTRL) if base == Some(u32::from(b'c')) => Key::End,
        _ => Key::Line,
    }
}

const ENTER: u32 = 13;
const KEYPAD_ENTER: u32 = 57414;
const CTRL: u32 = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(1) + Duration::from_millis(ms)
    }

    /// Whether a line is begun after these reads.
    fn typing(reads: &[&[u8]]) -> bool {
        let mut keyboard = KeyReader::default();
        for read in reads {
            keyboard.pressed(at(1), read);
        }
        keyboard.hands().typing.is_some()
    }

    #[test]
    fn what_a_terminal_reports_by_itself_is_nobodys_key() {
        let reports: [&[u8]; 20] = [
            b"\x1b[I",
            b"\x1b[O",
            b"\x1b[<0;10;5M",
            b"\x1b[<0;10;5m",
            b"\x1b[M !!",
            b"\x1b[32;10;5M",
            b"\x1b[12;40R",
            b"\x1b[?12;40R",
            b"\x1b[?62;1;4c",
            b"\x1b[>1;10;0c",
            b"\x1b[0n",
            b"\x1b[?997;1n",
            b"\x1b[?2026;2$y",
            b"\x1b[?5u",
            b"\x1b[8;40;120t",
            b"\x1b[48;40;120;800;960t",
            b"\x1b]11;rgb:ffff/ffff/ffff\x07",
            b"\x1b]10;rgb:0/0/0\x1b\\",
            b"\x1bP>|xterm(390)\x1b\\",
            b"\x1b_Gi=31;OK\x1b\\",
        ];
        for report in reports {
            assert!(!typing(&[report]), "{report:?}");
            assert!(!typing(&[&report.repeat(3)]), "{report:?}");
            assert!(
                typing(&[&[report, b"x"].concat()]),
                "text behind {report:?}"
            );
            assert!(
                typing(&[&[b"x", report].concat()]),
                "text before {report:?}"
            );
            // Cut any earlier it may be a key with Alt.
            for cut in 3..report.len() {
                let (head, tail) = report.split_at(cut);
                assert!(!typing(&[head, tail]), "{report:?} cut at {cut}");
                assert!(typing(&[head, tail, b"x"]), "{report:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_paste_is_typing_whatever_lines_are_in_it() {
        assert!(typing(&[b"\x1b[200~hello\x1b[201~"]));
        assert!(typing(&[b"\x1b[200~hello\r\n\x1b[201~"]));
        assert!(typing(&[b"\x1b[200~hel", b"lo\r", b"\x1b[201~"]));
        assert!(!typing(&[b"\x1b[200~hello\x1b[201~\r"]));
        assert!(!typing(&[b"\x1b[200~hello\x1b[201~", b"\r"]));
    }

    #[test]
    fn keys_told_in_numbers_are_keys() {
        for key in [
            &b"\x1b[97u"[..],
            b"\x1b[97;1:1u",
            b"\x1b[97;129;97u",
            b"\x1b[13;2u",
            b"\x1b[1089::99;1u",
            b"\x1b[27;2;13~",
        ] {
            assert!(typing(&[key]), "{key:?}");
        }
        for ends in [
            &b"\x1b[13u"[..],
            b"\x1b[13;129u",
            b"\x1b[13;1:1u\x1b[13;1:3u",
            b"\x1b[57414u",
            b"\x1b[99;5u",
            b"\x1b[1089::99;5u",
            b"\x1b[27;5;99~",
            b"\r",
            b"\x03",
            b"\x1bOM",
        ] {
            assert!(!typing(&[b"x", ends]), "{ends:?}");
        }
        assert!(!typing(&[b"\x1b[97;1:3u"]), "letting go is no key");
    }

    #[test]
    fn arrows_and_escape_are_hands_on_the_keyboard_too() {
        for key in [
            &b"\x1b[A"[..],
            b"\x1bOA",
            b"\x1b[1;5D",
            b"\x1b[3~",
            b"\x1b",
            b"\x1bb",
            b"\x1b\r",
            b"\x1bP",
            b"\t",
        ] {
            assert!(typing(&[key]), "{key:?}");
        }
        assert!(!typing(&[b"\x1b[A\r"]));
    }

    #[test]
    fn no_bytes_at_all_make_it_stumble() {
        let mut prng = crate::prng::Prng::new(7);
        let parts: [&[u8]; 12] = [
            b"\x1b",
            b"[",
            b"M",
            b"200~",
            b"\x1b[201~",
            b";",
            b":",
            b"u",
            b"9999999999999",
            b"\x1b]1",
            b"\x1bO",
            b"x",
        ];
        for _ in 0..5000 {
            let mut keyboard = KeyReader::default();
            for _ in 0..prng.below(8) {
                let mut read = Vec::new();
                for _ in 0..prng.below(6) {
                    read.extend_from_slice(parts[prng.below(parts.len() as u64) as usize]);
                }
                keyboard.pressed(at(1), &read);
            }
            keyboard.pressed(at(2), &vec![b'z'; 2 * LONGEST]);
            assert!(keyboard.rest.len() <= 3 * LONGEST);
        }
    }
}
