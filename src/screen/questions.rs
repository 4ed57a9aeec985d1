//! What a program asks its terminal. The broker answers; a viewer's terminal that were asked, too, would answer once more,
//! and its answer would reach the program as keys, or the viewer's own shell after he has left. So viewers are shown the
//! output without the questions in it. Pure: bytes in, bytes out.

use super::scanner::{Scanner, Sequence};

/// The longest beginning of a sequence that is kept back until its end shows what it is.
const HELD_MAX: usize = 2048;

/// One viewer's stream of output, without questions.
#[derive(Debug, Default)]
pub struct Unasked {
    scanner: Scanner,
    /// The beginning of a sequence.
    held: Vec<u8>,
}

impl Unasked {
    /// Takes output; gives what may be shown of it.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = std::mem::take(&mut self.held);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (upto, found) = self.scanner.next(rest);
            shown.extend_from_slice(&rest[..upto]);
            rest = &rest[upto..];
            if found.is_some_and(|found| found.is_question()) {
                let (length, after) = self.scanner.found();
                let end = shown.len() - after;
                // The beginning of one that is too long was shown long ago.
                shown.drain(end.saturating_sub(length)..end);
            }
        }
        let inside = self.scanner.inside();
        if (1..=HELD_MAX).contains(&inside) {
            self.held = shown.split_off(shown.len().saturating_sub(inside));
        }
        shown
    }
}

impl Sequence {
    /// Whether a terminal would answer (ECMA-48, xterm's control sequences, and the protocols of kitty).
    pub fn is_question(&self) -> bool {
        match self {
            Sequence::Csi(body, last) => asks(body, *last),
            // One of several values may be asked for while others are set.
            Sequence::Osc(body) => body
                .split(|byte| matches!(byte, b';' | b'='))
                .any(|part| part == b"?"),
            // DECRQSS and XTGETTCAP; a command for graphics is answered unless it says otherwise.
            Sequence::Device(b'P', body) => body.starts_with(b"$q") || body.starts_with(b"+q"),
            Sequence::Device(_, body) => {
                let options = body.split(|byte| *byte == b';').next().unwrap_or_default();
                body.starts_with(b"G")
                    && options
                        .split(|byte| *byte == b',')
                        .any(|option| option.ends_with(b"a=q"))
            }
            // DECID, an old spelling of DA1.
            Sequence::Escape(body) => body == b"Z",
            Sequence::Control(control) => *control == 0x05,
        }
    }
}

fn asks(body: &[u8], last: u8) -> bool {
    let mark = body.first().copied().filter(|byte| !byte.is_ascii_digit());
    match last {
        b'c' => mark != Some(b'?'),
        b'n' => mark != Some(b'>'),
        b'p' => body.ends_with(b"$"),
        b'q' => mark == Some(b'>'),
        b'u' => mark == Some(b'?') || body.ends_with(b"$") || body.ends_with(b"&"),
        b'm' => mark == Some(b'?'),
        b'S' => mark == Some(b'?'),
        b't' => matches!(
            body,
            b"11"
                | b"13"
                | b"13;2"
                | b"14"
                | b"14;2"
                | b"15"
                | b"16"
                | b"18"
                | b"19"
                | b"20"
                | b"21"
        ),
        b'x' => mark.is_none(),
        b'w' => body.ends_with(b"$"),
        b'y' => body.ends_with(b"*"),
        b'v' => body.ends_with(b"\""),
        b'|' => body.ends_with(b"'"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTIONS: [&str; 31] = [
        "\x1b[c",
        "\x1b[0c",
        "\x1b[>c",
        "\x1b[=c",
        "\x1b[5n",
        "\x1b[6n",
        "\x1b[?6n",
        "\x1b[?996n",
        "\x1b[?2026$p",
        "\x1b[4$p",
        "\x1b[>q",
        "\x1b[>0q",
        "\x1b[?u",
        "\x1b[?4m",
        "\x1b[?2;1;0S",
        "\x1b[14t",
        "\x1b[18t",
        "\x1b[x",
        "\x1b[1$w",
        "\x1b[1;1;1;1;1;1*y",
        "\x1bZ",
        "\x05",
        "\x1b]10;?\x07",
        "\x1b]11;?\x1b\\",
        "\x1b]4;1;?\x07",
        "\x1b]52;c;?\x07",
        "\x1b]21;foreground=?\x1b\\",
        "\x1b]7501;?\x1b\\",
        "\x1bP$qm\x1b\\",
        "\x1bP+q544e\x1b\\",
        "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\",
    ];

    /// A string's end that has lost its beginning does nothing.
    fn bare(shown: &[u8]) -> String {
        String::from_utf8_lossy(shown).replace("\x1b\\", "")
    }

    #[test]
    fn viewers_terminals_are_not_asked_wherever_the_question_is_cut() {
        for question in QUESTIONS {
            let text = format!("a{question}b");
            for cut in 1..text.len() {
                let mut output = Unasked::default();
                let mut shown = output.pass(&text.as_bytes()[..cut]);
                shown.extend(output.pass(&text.as_bytes()[cut..]));
                assert_eq!(bare(&shown), "ab", "{question:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn everything_else_is_shown_as_it_is_written() {
        for text in [
            "plain é漢\r\n",
            "\x1b[1;31mred\x1b[m",
            "\x1b[?2026h\x1b[2J\x1b[?2026l",
            "\x1b]0;why?\x07",
            "\x1b]8;;http://a/?\x1b\\x",
            "\x1b[?5c",
            "\x1b[>4n",
            "\x1b[5 q",
            "\x1b[!p",
            "\x1b[8;24;80t",
            "\x1b[22;0t",
            "\x1b[>1u",
            "\x1b[<u",
            "\x1b[=1;1u",
            "\x1b[>4;2m",
            "\x1b[2S",
            "\x1b(0q\x1b(B",
            "\x0elq\x0f",
            "\x1bPq#0;2;0;0;0\x1b\\",
            "\x1b_Ga=T,f=100;AAAA\x1b\\",
            "\x1b[u",
            "\x1b[s",
            "\x1b[1\x18n",
            "\x1b\x1b[m",
        ] {
            for cut in 1..text.len() {
                let mut output = Unasked::default();
                let mut shown = output.pass(&text.as_bytes()[..cut]);
                shown.extend(output.pass(&text.as_bytes()[cut..]));
                assert_eq!(String::from_utf8_lossy(&shown), text, "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_never_ends_is_not_kept_back_for_ever() {
        let mut output = Unasked::default();
        let mut shown = output.pass(b"\x1bPq").len();
        for _ in 0..100 {
            shown += output.pass(&[b'x'; 100]).len();
        }
        assert_eq!(shown, 3 + 100 * 100);
        assert_eq!(output.pass(b"\x1b\\y"), b"\x1b\\y");
    }
}
