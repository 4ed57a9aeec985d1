//! What a person's terminal sends, in pieces: keys, pastes, and reports. A report is a terminal's answer to a program's
//! question; agents' programs have theirs from the broker, so one more from each viewer would reach them as keys. Keeps
//! the beginning of a sequence over reads that split it, and knows keys in the spellings of the keyboard protocols. Pure;
//! the owner decides how long a beginning may wait, because the Escape key is one, too.

/// The longest report that is waited for; OSC 52 may bring a whole clipboard, and is passed on as it comes.
const REPORT_MAX: usize = 4096;
/// The end of a paste.
const PASTED: &[u8] = b"\x1b[201~";
/// Bits of a key's modifiers, as CSI u and xterm count them (their number less one).
const CTRL: u32 = 4;
const SHIFT: u32 = 1;
/// Num Lock and Caps Lock are lights and no keys.
const LOCKS: u32 = 64 | 128;

/// A piece of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Keys to pass on as they are.
    Keys(Vec<u8>),
    /// A letter together with Ctrl alone, and its bytes.
    Ctrl(char, Vec<u8>),
    /// Text between the marks of a paste, marks included; nothing in it is a key.
    Pasted(Vec<u8>),
}

impl Piece {
    /// As it was sent.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Piece::Keys(bytes) | Piece::Ctrl(_, bytes) | Piece::Pasted(bytes) => bytes,
        }
    }
}

/// One terminal's input.
#[derive(Debug, Default)]
pub struct Keyboard {
    /// The beginning of a sequence.
    rest: Vec<u8>,
    pasting: bool,
}

/// What begins the bytes.
enum First {
    /// So many bytes that mean nothing but themselves.
    Plain(usize),
    Sequence(usize),
    Report(usize),
    /// More is to come.
    Part,
}

impl Keyboard {
    /// Takes what was read; what is complete comes back, without the reports in it.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let (mut pieces, mut at) = (Vec::new(), 0);
        while at < all.len() {
            if self.pasting {
                let end = self.paste(&all[at..]);
                push(&mut pieces, Piece::Pasted(all[at..at + end].to_vec()));
                at += end;
                if self.pasting {
                    break;
                }
                continue;
            }
            match first(&all[at..]) {
                First::Plain(len) => {
                    letters(&all[at..at + len], &mut pieces);
                    at += len;
                }
                First::Sequence(len) => {
                    let sequence = &all[at..at + len];
                    self.pasting = sequence == b"\x1b[200~";
                    push(&mut pieces, key(sequence));
                    at += len;
                }
                First::Report(len) => at += len,
                First::Part => break,
            }
        }
        self.rest = all.split_off(at);
        pieces
    }

    /// Whether the beginning of a sequence waits for its rest.
    pub fn waits(&self) -> bool {
        !self.rest.is_empty()
    }

    /// The rest did not come, so what waits was keys: Escape alone, or together with a letter.
    pub fn give_up(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    /// How much of these bytes belongs to the paste. An end that was cut in two waits.
    fn paste(&mut self, bytes: &[u8]) -> usize {
        if let Some(at) = bytes.windows(PASTED.len()).position(|part| part == PASTED) {
            self.pasting = false;
            return at + PASTED.len();
        }
        let begun = (1..PASTED.len())
            .rev()
            .find(|len| bytes.ends_with(&PASTED[..*len]));
        bytes.len() - begun.unwrap_or(0)
    }
}

/// Adds a piece; plain keys join those before them.
fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    match (pieces.last_mut(), piece) {
        (Some(Piece::Keys(before)), Piece::Keys(more)) => before.extend(more),
        (_, Piece::Keys(none) | Piece::Pasted(none)) if none.is_empty() => {}
        (_, piece) => pieces.push(piece),
    }
}

/// Plain bytes: control characters are letters with Ctrl.
fn letters(bytes: &[u8], pieces: &mut Vec<Piece>) {
    for byte in bytes {
        push(
            pieces,
            match byte {
                0x03 => Piece::Ctrl('c', vec![*byte]),
                0x1d => Piece::Ctrl(']', vec![*byte]),
                _ => Piece::Keys(vec![*byte]),
            },
        );
    }
}

fn first(bytes: &[u8]) -> First {
    let plain = bytes.iter().position(|byte| *byte == 0x1b);
    match plain.unwrap_or(bytes.len()) {
        0 => {}
        len => return First::Plain(len),
    }
    match bytes.get(1) {
        None => First::Part,
        Some(b'[') => csi(bytes),
        // A key with Alt looks like the beginning of a string, and goes on in another way.
        Some(b']') => string(bytes, |c| {
            c.is_ascii_digit() || matches!(c, b'l' | b'L' | b'I')
        }),
        Some(b'P') => string(bytes, |c| {
            c.is_ascii_digit() || matches!(c, b'>' | b'!' | b'$' | b'+')
        }),
        Some(b'_') => string(bytes, |c| c == b'G'),
        // Escape, and then a sequence of its own.
        Some(0x1b) => First::Plain(1),
        Some(b'O') if bytes.len() == 2 => First::Part,
        Some(b'O') => First::Sequence(3),
        Some(_) => First::Sequence(2),
    }
}

fn csi(bytes: &[u8]) -> First {
    for (at, byte) in bytes.iter().enumerate().skip(2) {
        match byte {
            b' '..=b'?' => {}
            b'@'..=b'~' if is_report(&bytes[2..at], *byte) => return First::Report(at + 1),
            b'@'..=b'~' => return First::Sequence(at + 1),
            // Nothing of the kind; it ends where it stops to look like one.
            _ => return First::Sequence(at),
        }
    }
    if bytes.len() > REPORT_MAX {
        return First::Sequence(bytes.len());
    }
    First::Part
}

/// A string up to its end; the byte that begins it tells whether a terminal would.
fn string(bytes: &[u8], begins: impl Fn(u8) -> bool) -> First {
    match bytes.get(2) {
        None => return First::Part,
        Some(byte) if !begins(*byte) => return First::Sequence(2),
        Some(_) => {}
    }
    for (at, byte) in bytes.iter().enumerate().skip(3) {
        match byte {
            0x07 => return First::Report(at + 1),
            0x1b => match bytes.get(at + 1) {
                Some(b'\\') => return First::Report(at + 2),
                Some(_) => return First::Sequence(at),
                None => return First::Part,
            },
            0..=0x1f => return First::Sequence(at),
            _ => {}
        }
    }
    if bytes.len() > REPORT_MAX {
        return First::Sequence(bytes.len());
    }
    First::Part
}

/// Whether a control sequence is one that no key sends: DA, DSR, CPR, DECRPM, window sizes, keyboard flags, and their
/// kin (ECMA-48 and xterm's control sequences). `CSI 1 ; 2 R` is F3 with Shift where it is not the cursor at the second
/// column of the first row; it is taken for the key, because viewers' terminals are not asked where their cursors are.
fn is_report(body: &[u8], last: u8) -> bool {
    let private = matches!(body.first(), Some(b'?' | b'>' | b'='));
    match last {
        b'c' | b'm' | b'S' | b'u' => private,
        b'n' | b't' => !body.is_empty(),
        b'y' => body.contains(&b'$'),
        b'x' => body.iter().filter(|byte| **byte == b';').count() >= 2,
        b'R' => private || !matches!(numbers(body).as_slice(), [] | [_] | [1, 2..=256]),
        _ => false,
    }
}

/// The numbers between semicolons; subordinate ones are left out.
fn numbers(body: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(body);
    let number = |part: &str| part.split(':').next().and_then(|n| n.parse().ok());
    text.split(';')
        .map(|part| number(part).unwrap_or(0))
        .collect()
}

/// A key's sequence: with Ctrl alone it is told apart.
fn key(sequence: &[u8]) -> Piece {
    let letter = (sequence.len() > 3)
        .then(|| {
            with_ctrl(
                &sequence[2..sequence.len() - 1],
                sequence[sequence.len() - 1],
            )
        })
        .flatten();
    match letter {
        Some(letter) => Piece::Ctrl(letter, sequence.to_vec()),
        None => Piece::Keys(sequence.to_vec()),
    }
}

/// The letter that is pressed, or repeated, together with Ctrl: by the kitty protocol and xterm's formatOtherKeys
/// (`CSI code:shifted:base ; modifiers:event u`), xterm's modifyOtherKeys (`CSI 27 ; modifiers ; code ~`), or the console
/// of Windows (`CSI key ; scan ; character ; down ; state ; count _`).
fn with_ctrl(body: &[u8], last: u8) -> Option<char> {
    let text = std::str::from_utf8(body).ok()?;
    let mut parts = text.split(';');
    let number = |part: Option<&str>| part.and_then(|n| n.parse::<u32>().ok());
    let (codes, modifiers) = match last {
        b'u' => (parts.next()?, parts.next()?),
        b'~' if parts.next() == Some("27") => {
            let modifiers = parts.next()?;
            (parts.next()?, modifiers)
        }
        b'_' => {
            let (character, down) = (number(parts.nth(2)), number(parts.next()));
            let character = u8::try_from(character?).ok().filter(|_| down == Some(1))?;
            return control(character);
        }
        _ => return None,
    };
    let mut modifiers = modifiers.split(':');
    let held = number(modifiers.next())?.checked_sub(1)? & !LOCKS;
    if modifiers.next() == Some("3") {
        // It is let go.
        return None;
    }
    let mut codes = codes.split(':');
    let (code, shifted, base) = (
        number(codes.next()),
        number(codes.next()),
        number(codes.next()),
    );
    match held {
        // On other layouts the key that is `]` on the usual one serves, too.
        CTRL if base == Some(u32::from(']')) => Some(']'),
        CTRL => char::from_u32(code?),
        held if held == CTRL | SHIFT && shifted == Some(u32::from(']')) => Some(']'),
        _ => None,
    }
}

fn control(byte: u8) -> Option<char> {
    match byte {
        0x03 => Some('c'),
        0x1d => Some(']'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes through, pieces joined.
    fn pass(keyboard: &mut Keyboard, bytes: &[u8]) -> Vec<u8> {
        let pieces = keyboard.read(bytes).into_iter();
        pieces.flat_map(Piece::into_bytes).collect()
    }

    fn leaves(reads: &[&[u8]]) -> bool {
        let mut keyboard = Keyboard::default();
        let mut pieces = reads
            .iter()
            .flat_map(|read| keyboard.read(read))
            .collect::<Vec<_>>();
        pieces.retain(|piece| matches!(piece, Piece::Ctrl(']', _)));
        !pieces.is_empty()
    }

    const REPORTS: [&str; 24] = [
        "\x1b[?62;22c",
        "\x1b[>1;10;0c",
        "\x1b[0n",
        "\x1b[?997;1n",
        "\x1b[24;80R",
        "\x1b[2;1R",
        "\x1b[?1;1R",
        "\x1b]10;rgb:cccc/cccc/cccc\x1b\\",
        "\x1b]11;rgb:0000/0000/0000\x07",
        "\x1b]4;1;rgb:ff/00/00\x1b\\",
        "\x1b]52;c;aGk=\x07",
        "\x1b]lmy title\x1b\\",
        "\x1bP>|XTerm(390)\x1b\\",
        "\x1bP!|7E565445\x1b\\",
        "\x1bP1$r0m\x1b\\",
        "\x1bP1+r436f=323536\x1b\\",
        "\x1b_Gi=31;OK\x1b\\",
        "\x1b[?2026;2$y",
        "\x1b[4;2$y",
        "\x1b[?0u",
        "\x1b[8;24;80t",
        "\x1b[48;24;80;480;640t",
        "\x1b[>4;2m",
        "\x1b[?2;0;640;480S",
    ];

    #[test]
    fn a_terminals_reports_are_dropped_and_keys_around_them_are_not() {
        for report in REPORTS {
            let bytes = format!("a{report}b");
            assert_eq!(
                pass(&mut Keyboard::default(), bytes.as_bytes()),
                b"ab",
                "{report:?}"
            );
        }
    }

    #[test]
    fn a_report_cut_anywhere_is_dropped_just_the_same() {
        for report in REPORTS {
            for cut in 1..report.len() {
                let (mut keyboard, (one, two)) = (Keyboard::default(), report.split_at(cut));
                let mut got = pass(&mut keyboard, one.as_bytes());
                got.extend(pass(&mut keyboard, format!("{two}x").as_bytes()));
                assert_eq!(got, b"x", "{report:?} cut at {cut}");
                assert!(!keyboard.waits());
            }
        }
    }

    #[test]
    fn keys_of_every_kind_come_through_as_they_are_cut_or_not() {
        for keys in [
            "ls -l\r",
            "\x1b[A",
            "\x1bOP",
            "\x1b[1;2R",
            "\x1b[1;5R",
            "\x1b[R",
            "\x1b[15~",
            "\x1b[<0;10;20M",
            "\x1b[<0;10;20m",
            "\x1b[I",
            "\x1b[O",
            "\x1b[97;5u",
            "\x1b[97;5:3u",
            "\x1b[27;5;9~",
            "\x1b[57442;5u",
            "\x1b[1;2P",
            "\x1b[Z",
            "\x1b[c",
            "\x1bx",
            "\x1b]x",
            "\x1bPx",
            "\x1b_x",
            "\x1b\x1b[A",
            "é漢\x7f\t",
            "\x1b[M !!",
            "\x1b]1\r",
        ] {
            assert_eq!(
                pass(&mut Keyboard::default(), keys.as_bytes()),
                keys.as_bytes(),
                "{keys:?}"
            );
            for cut in 1..keys.len() {
                let (mut keyboard, bytes) = (Keyboard::default(), keys.as_bytes());
                let mut got = pass(&mut keyboard, &bytes[..cut]);
                got.extend(pass(&mut keyboard, &bytes[cut..]));
                got.extend(keyboard.give_up());
                assert_eq!(got, bytes, "{keys:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn escape_alone_waits_until_it_is_given_up_and_is_a_key_then() {
        let mut keyboard = Keyboard::default();
        assert_eq!(keyboard.read(b"\x1b"), []);
        assert!(keyboard.waits());
        assert_eq!(keyboard.give_up(), b"\x1b");
        assert!(!keyboard.waits());
    }

    #[test]
    fn the_detaching_key_is_known_in_every_spelling_and_with_the_lock_lights_on() {
        for key in [
            "\x1d",
            "\x1b[93;5u",
            "\x1b[93;5:1u",
            "\x1b[93;5:2u",
            "\x1b[27;5;93~",
            "\x1b[93;69u",
            "\x1b[93;133u",
            "\x1b[93;197u",
            "\x1b[93;197:1u",
            "\x1b[93:125;5u",
            "\x1b[93:125:93;69:1u",
            "\x1b[1098::93;5u",
            "\x1b[1098:1066:93;69u",
            "\x1b[36::93;5u",
            "\x1b[57:93;6u",
            "\x1b[93;5;93u",
            "\x1b[221;27;29;1;8;1_",
        ] {
            assert!(leaves(&[key.as_bytes()]), "{key:?}");
            assert!(leaves(&[b"ab", key.as_bytes(), b"cd"]), "{key:?}");
            for cut in 1..key.len() {
                let (one, two) = key.as_bytes().split_at(cut);
                assert!(leaves(&[one, two]), "{key:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn other_keys_do_not_detach() {
        for key in [
            "]",
            "\x1b[93u",
            "\x1b[93;1u",
            "\x1b[93;3u",
            "\x1b[93;6u",
            "\x1b[93;7u",
            "\x1b[93;13u",
            "\x1b[93;5:3u",
            "\x1b[91;5u",
            "\x1b[27;3;93~",
            "\x1b[93;5~",
            "\x1b[221;27;29;0;8;1_",
            "\x1b]",
            "\x1b[1098::91;5u",
        ] {
            assert!(!leaves(&[key.as_bytes()]), "{key:?}");
        }
    }

    #[test]
    fn nothing_in_a_paste_is_a_key_or_a_report_wherever_it_is_cut() {
        let paste = "\x1b[200~a\x1d\x1b[93;5u\x1b[?62c\x1b[201~";
        for cut in 1..paste.len() {
            let (mut keyboard, bytes) = (Keyboard::default(), paste.as_bytes());
            assert!(!leaves(&[&bytes[..cut], &bytes[cut..]]));
            let mut got = pass(&mut keyboard, &bytes[..cut]);
            got.extend(pass(&mut keyboard, &bytes[cut..]));
            assert_eq!(got, bytes, "cut at {cut}");
            assert_eq!(keyboard.read(b"\x1d"), [Piece::Ctrl(']', vec![0x1d])]);
        }
    }

    #[test]
    fn a_string_without_an_end_is_not_kept_for_ever() {
        let mut keyboard = Keyboard::default();
        let mut got = pass(&mut keyboard, b"\x1b]52;c;");
        got.extend(pass(&mut keyboard, &vec![b'x'; 2 * REPORT_MAX]));
        assert_eq!(got.len(), 7 + 2 * REPORT_MAX);
    }
}
