//! What is typed: a message made harmless, and framed for the terminal it goes to. Decides nothing about when.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The longest line a terminal in line mode takes, newline included; the kernel drops the rest without a word.
pub const LINE_MAX: usize = if cfg!(target_os = "macos") {
    1024
} else {
    4095
};

/// How a message is put into the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Line mode: the kernel collects lines.
    Lines,
    /// Raw mode with DECSET 2004: between paste marks.
    Paste,
    /// Raw mode without: every byte is a key, so it goes as one line.
    Plain,
}

/// Removes whatever could act as a key or a command of the terminal: every escape sequence, then all controls except
/// newline and tab (injection, rule 4). Line ends, Unicode's among them, become LF; those at the end go. The controls that
/// turn the direction of text go as well, because with them a person reads something else than the agent; the marks that
/// Arabic and Hebrew are written with stay, and so do the joiners of emoji. Letters and their accents are composed.
pub fn sanitise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let mut ends = true;
    while let Some(at) = rest.find(is_hostile) {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = line_end(rest);
        if end > 0 {
            clean.push('\n');
        }
        rest = &rest[if end > 0 {
            end
        } else {
            sequence(rest, &mut ends)
        }..];
    }
    clean.push_str(rest);
    clean.truncate(clean.trim_end_matches('\n').len());
    composed(clean)
}

/// In the form in which programs show text (NFC), so that it is found again on the screen.
fn composed(text: String) -> String {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return text;
    }
    text.nfc().collect()
}

fn is_hostile(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

/// Length of the line end other than LF that `text` starts with.
fn line_end(text: &str) -> usize {
    match text.chars().next() {
        Some('\r') if text.starts_with("\r\n") => 2,
        Some('\r') => 1,
        Some(c @ ('\u{2028}' | '\u{2029}')) => c.len_utf8(),
        _ => 0,
    }
}

/// The words as one line, for programs to which a newline is Enter and a tab asks for a completion.
pub fn one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
}

/// Length of the control or escape sequence that `text` starts with. `ends` is whether the end of a string may come yet.
fn sequence(text: &str, ends: &mut bool) -> usize {
    let mut chars = text.char_indices();
    let introducer = match chars.next() {
        Some((_, '\x1b')) => match text[1..].chars().next() {
            Some('[') => (2, Kind::Csi),
            Some(']' | 'P' | 'X' | '^' | '_') => (2, Kind::Text),
            Some('O' | 'N') => (2, Kind::One),
            Some(' '..='/') => (1, Kind::Intermediate),
            Some(c @ '0'..='~') => (1 + c.len_utf8(), Kind::Done),
            _ => (1, Kind::Done),
        },
        Some((_, '\u{9b}')) => (2, Kind::Csi),
        Some((_, '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}')) => (2, Kind::Text),
        Some((_, '\u{8e}' | '\u{8f}')) => (2, Kind::One),
        Some((_, c)) => (c.len_utf8(), Kind::Done),
        None => (0, Kind::Done),
    };
    let (start, kind) = introducer;
    let body = &text[start..];
    start
        + match kind {
            Kind::Done => 0,
            Kind::One => body
                .chars()
                .next()
                .filter(char::is_ascii_graphic)
                .map_or(0, char::len_utf8),
            Kind::Csi => ending(body, '0'..='?'),
            Kind::Intermediate => ending(body, ' '..='/'),
            Kind::Text => string_end(body, ends),
        }
}

enum Kind {
    Done,
    /// One character follows.
    One,
    /// Parameters, intermediates and a final letter follow.
    Csi,
    /// Intermediates and a final follow.
    Intermediate,
    /// Text up to ST or BEL follows.
    Text,
}

/// Parameters or intermediates and, if it is there, the final character.
fn ending(body: &str, parameters: std::ops::RangeInclusive<char>) -> usize {
    let middle = body
        .find(|c: char| !parameters.contains(&c) && !(' '..='/').contains(&c))
        .unwrap_or(body.len());
    match body[middle..].chars().next() {
        Some('0'..='~') => middle + 1,
        _ => middle,
    }
}

/// Up to and with the terminator. Without one only the introducer goes: a stray one must not swallow the message. What was
/// not found once is not looked for again, or a message of introducers would take its length squared.
fn string_end(body: &str, ends: &mut bool) -> usize {
    if !*ends {
        return 0;
    }
    let end = body.char_indices().find_map(|(at, c)| match c {
        '\x07' | '\u{9c}' => Some(at + c.len_utf8()),
        '\x1b' if body[at..].starts_with("\x1b\\") => Some(at + 2),
        _ => None,
    });
    *ends = end.is_some();
    end.unwrap_or(0)
}

/// The first line that a terminal in line mode would cut: its number from 1 and its bytes, newline included.
pub fn too_long_line(text: &str) -> Option<(usize, usize)> {
    text.split('\n')
        .enumerate()
        .map(|(at, line)| (at + 1, line.len() + 1))
        .find(|(_, bytes)| *bytes > LINE_MAX)
}

/// The text with line ends put in, so that no line is longer than a terminal in line mode takes; between words where there is
/// a blank.
pub fn wrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / LINE_MAX);
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let mut rest = line;
        while rest.len() >= LINE_MAX {
            let mut most = LINE_MAX - 1;
            while !rest.is_char_boundary(most) {
                most -= 1;
            }
            let blank = rest[..most].rfind(' ').map(|at| at + 1);
            let (line, left) = rest.split_at(blank.unwrap_or(most));
            out.push_str(line.trim_end_matches(' '));
            out.push('\n');
            rest = left;
        }
        out.push_str(rest);
    }
    out
}

/// The bytes of the text in its frame, without Enter. The ends of a `raw` text may be commands to the program.
pub fn framed(text: &str, frame: Frame, raw: bool) -> Vec<u8> {
    match frame {
        Frame::Lines => text.as_bytes().to_vec(),
        Frame::Plain => one_line(text).into_bytes(),
        Frame::Paste => {
            let mut bytes = Vec::with_capacity(text.len() + 14);
            bytes.extend_from_slice(b"\x1b[200~");
            // A blank disarms what composers take as a command at the start, or complete at the end (injection, rule 4).
            if !raw && text.starts_with(['/', '!', '@', '#', '?']) {
                bytes.push(b' ');
            }
            bytes.extend_from_slice(text.as_bytes());
            let last_word = text.rsplit(char::is_whitespace).next().unwrap_or("");
            let armed = last_word.starts_with(['@', '#', '/']) || last_word.ends_with('\\');
            if !raw && armed {
                bytes.push(b' ');
            }
            bytes.extend_from_slice(b"\x1b[201~");
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_words_lines_tabs_and_emoji() {
        let text = "Relay message from a [ws / evt_1]: line\n\ttab 🦀 é 漢\n\nend";
        assert_eq!(sanitise(text), text);
        assert_eq!(sanitise("a\r\nb\rc\n\r\n"), "a\nb\nc");
        assert_eq!(sanitise("\n\n"), "");
    }

    #[test]
    fn nothing_in_a_message_can_press_a_key() {
        for (hostile, clean) in [
            ("before\x1b[201~\rEVIL\r", "before\nEVIL"),
            ("a\x1b[20\x1b[201~1~b", "a1~b"),
            ("a\x1b\x1b[201~b", "ab"),
            ("\u{9b}201~x", "x"),
            ("a\x1b[31mred\x1b[0m", "ared"),
            ("t\x1b]0;title\x07u", "tu"),
            ("t\x1b]0;title\x1b\\u", "tu"),
            ("t\x1b]never ends", "tnever ends"),
            ("d\x1bPq#0\x1b\\e", "de"),
            ("k\x1bOPx", "kx"),
            ("c\x1b(Bd", "cd"),
            ("r\x1bcs", "rs"),
            ("\x03\x04\x15\x1a\x7f\0\x08\x0c^", "^"),
            ("é\u{85}\u{9c}ü", "éü"),
            ("end\x1b", "end"),
            ("end\x1b[", "end"),
            ("\x1b\u{e9}", "é"),
            ("\r\x1b[m\n\r\nx", "\n\n\nx"),
            ("one\u{2028}two\u{2029}three\u{85}", "one\ntwo\nthree"),
        ] {
            assert_eq!(sanitise(hostile), clean, "{hostile:?}");
        }
    }

    #[test]
    fn letters_are_typed_in_the_form_in_which_programs_show_them() {
        assert_eq!(sanitise("cafe\u{301} \u{1100}\u{1161}"), "café 가");
        // Nothing composes this.
        assert_eq!(sanitise("q\u{301}"), "q\u{301}");
        let composed = "café 가 漢字 🦀";
        assert_eq!(sanitise(composed), composed);
    }

    #[test]
    fn a_person_reads_what_the_agent_reads() {
        assert_eq!(
            sanitise("run \u{202e}fr- mr\u{202c} or \u{2066}not\u{2069}\u{202a}\u{2068}"),
            "run fr- mr or not"
        );
        let written = "\u{200e}שלום\u{200f} \u{61c}سلام می\u{200c}خواهم 👩\u{200d}👧";
        assert_eq!(sanitise(written), written);
    }

    #[test]
    fn no_order_of_removals_leaves_a_control_behind() {
        let parts = [
            "\x1b", "[", "201~", "\u{9b}", "]", "\x07", "\r", "x", "\\", "P", "O", " ",
        ];
        for a in parts {
            for b in parts {
                for c in parts {
                    for d in parts {
                        let clean = sanitise(&[a, b, c, d, b].concat());
                        assert!(
                            !clean.chars().any(|c| c.is_control() && c != '\n'),
                            "{clean:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_message_that_only_begins_things_is_cleaned_as_quickly_as_any() {
        // With a search to the end from every beginning this would take minutes.
        for (hostile, clean) in [
            ("\x1b]", ""),
            ("\u{90}x", "x"),
            ("\x1b]\x1b\\", ""),
            ("\x1b[", ""),
        ] {
            assert!(sanitise(&hostile.repeat(400_000)) == clean.repeat(400_000));
        }
    }

    #[test]
    fn a_line_the_kernel_would_cut_is_found() {
        assert_eq!(too_long_line(&"x".repeat(LINE_MAX - 1)), None);
        let long = format!("ok\n{}", "x".repeat(LINE_MAX));
        assert_eq!(too_long_line(&long), Some((2, LINE_MAX + 1)));
    }

    #[test]
    fn long_lines_are_wrapped_between_words_and_lose_none() {
        let words = "漢字 and words ".repeat(1000);
        let text = format!("short\n{words}\n{}", "x".repeat(2 * LINE_MAX));
        let lines = wrapped(&text);
        assert_eq!(too_long_line(&lines), None);
        let letters = |text: &str| text.replace([' ', '\n'], "");
        assert_eq!(letters(&lines), letters(&text));
        assert!(lines.starts_with("short\n漢字 and words "));
        let ends = |line: &str| ["漢字", "and", "words"].iter().any(|w| line.ends_with(w));
        let prose = lines.lines().filter(|line| !line.contains('x'));
        assert!(
            prose
                .skip(1)
                .all(|line| line.is_empty() || ends(line.trim_end()))
        );
        assert_eq!(wrapped("as it is\n"), "as it is\n");
    }

    #[test]
    fn a_paste_is_marked_and_its_ends_are_disarmed() {
        assert_eq!(
            framed("hi\nyou", Frame::Paste, false),
            b"\x1b[200~hi\nyou\x1b[201~"
        );
        assert_eq!(
            framed("/help @me", Frame::Paste, false),
            b"\x1b[200~ /help @me \x1b[201~"
        );
        assert_eq!(
            framed("a\\", Frame::Paste, false),
            b"\x1b[200~a\\ \x1b[201~"
        );
        assert_eq!(framed("/a\\\n\tb", Frame::Plain, false), b"/a\\  b");
        assert_eq!(
            framed("/compact", Frame::Paste, true),
            b"\x1b[200~/compact\x1b[201~"
        );
        assert_eq!(framed("/a\\\n\tb", Frame::Lines, false), b"/a\\\n\tb");
    }
}
