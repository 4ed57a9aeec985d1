//! What is typed: a message framed for the terminal it goes to. Decides nothing about when.

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

/// The words as one line, for programs to which a newline is Enter and a tab asks for a completion.
pub fn one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
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
            // A blank disarms what composers take as a command at the start, or complete at the end (injection 1.4).
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
