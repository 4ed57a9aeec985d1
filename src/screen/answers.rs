//! What a terminal answers when a program asks. In a headless terminal nobody else would, and programs wait for it:
//! some for seconds, some with a stricter guard against pastes ever after ([injection 1.1](crate::docs::injection#1.1)).
//! Viewers' terminals are not asked (`questions`), so each question is answered once.

use super::cursor;
use super::emulator::{Screen, Told};
use super::scanner::Sequence;
use crate::msg::Size;

/// The most that one piece of output can make us say; a flood of questions is a mistake or an attack.
const ANSWERS_MAX: usize = 4096;
/// Titles are for people; longer ones are cut.
const TITLE_MAX: usize = 256;

impl Screen {
    /// Acts on a sequence; everything up to and with it is on the picture.
    pub(super) fn found(&mut self, found: &Sequence) {
        self.remember(found);
        match found {
            Sequence::Device(..) | Sequence::Escape(_) | Sequence::Control(_) => {}
            Sequence::Csi(body, last) => self.asked(body, *last),
            Sequence::Osc(body) => match body.as_slice() {
                b"10;?" => self.say("\x1b]10;rgb:cccc/cccc/cccc\x1b\\"),
                b"11;?" => self.say("\x1b]11;rgb:0000/0000/0000\x1b\\"),
                [b'0' | b'2', b';', title @ ..] => {
                    self.title = String::from_utf8_lossy(title)
                        .chars()
                        .filter(|c| !c.is_control())
                        .take(TITLE_MAX)
                        .collect();
                    self.tell(Told::Title(self.title.chars().next()));
                }
                [b'7', b'5', b'0', b'1', b';', status @ ..] => {
                    self.tell(Told::Status(String::from_utf8_lossy(status).into_owned()));
                }
                [b'9', b';', b'4', b';', state, ..] => self.tell(Told::Progress(*state != b'0')),
                _ => {}
            },
        }
    }

    fn asked(&mut self, body: &[u8], last: u8) {
        match (body, last) {
            // DA1: a VT220 with colours. DA2: a version number nobody acts on.
            (b"" | b"0", b'c') => self.say("\x1b[?62;22c"),
            (b">" | b">0", b'c') => self.say("\x1b[>1;10;0c"),
            (b"5", b'n') => self.say("\x1b[0n"),
            (b"6" | b"?6", b'n') => {
                let (row, col) = cursor::position(self.parser.screen());
                let private = if body.len() > 1 { "?" } else { "" };
                self.say(&format!("\x1b[{private}{row};{col}R"));
            }
            ([b'?', mode @ .., b'$'], b'p') => {
                if let Some(mode) = std::str::from_utf8(mode).ok().and_then(|m| m.parse().ok()) {
                    self.asked_mode(mode);
                }
            }
            (b">" | b">0", b'q') => self.say(concat!(
                "\x1bP>|relay-broker(",
                env!("CARGO_PKG_VERSION"),
                ")\x1b\\"
            )),
            // The kitty keyboard protocol: known, and nothing pushed.
            (b"?", b'u') => self.say("\x1b[?0u"),
            (b"18", b't') => {
                let Size { rows, cols } = self.size;
                self.say(&format!("\x1b[8;{rows};{cols}t"));
            }
            _ => {}
        }
    }

    /// DECRQM: 1 set, 2 reset, 0 unknown to us.
    fn asked_mode(&mut self, mode: u16) {
        let modes = self.modes();
        let on = match mode {
            1 => modes.application_cursor,
            25 => !modes.cursor_hidden,
            47 | 1049 => modes.alternate_screen,
            2004 => modes.bracketed_paste,
            _ => return self.say(&format!("\x1b[?{mode};0$y")),
        };
        self.say(&format!("\x1b[?{mode};{}$y", if on { 1 } else { 2 }));
    }

    fn say(&mut self, answer: &str) {
        if self.answers.len() + answer.len() <= ANSWERS_MAX {
            self.answers.extend_from_slice(answer.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::msg::Size;
    use crate::screen::Screen;
    use crate::screen::Told;

    fn ask(pieces: &[&str]) -> String {
        let mut screen = Screen::new(Size { rows: 10, cols: 40 });
        for piece in pieces {
            screen.feed(piece.as_bytes());
        }
        String::from_utf8(screen.take_answers()).expect("answers are text")
    }

    #[test]
    fn programs_get_the_answers_they_wait_for() {
        assert_eq!(ask(&["\x1b[c"]), "\x1b[?62;22c");
        assert_eq!(ask(&["\x1b[0c"]), "\x1b[?62;22c");
        assert_eq!(ask(&["\x1b[5n"]), "\x1b[0n");
        assert_eq!(ask(&["ab\r\ncde\x1b[6n"]), "\x1b[2;4R");
        assert_eq!(ask(&["\x1b[?6n"]), "\x1b[?1;1R");
        assert_eq!(ask(&["\x1b[?2004$p"]), "\x1b[?2004;2$y");
        assert_eq!(ask(&["\x1b[?2004h\x1b[?2004$p"]), "\x1b[?2004;1$y");
        assert_eq!(ask(&["\x1b[?2026$p"]), "\x1b[?2026;0$y");
        assert_eq!(ask(&["\x1b[?u"]), "\x1b[?0u");
        assert_eq!(ask(&["\x1b]11;?\x07"]), "\x1b]11;rgb:0000/0000/0000\x1b\\");
        assert!(ask(&["\x1b[>q"]).starts_with("\x1bP>|relay-broker("));
        assert_eq!(ask(&["\x1b[18t"]), "\x1b[8;10;40t");
    }

    #[test]
    fn a_question_split_over_reads_is_answered_once() {
        assert_eq!(ask(&["\x1b", "[", "6", "n"]), "\x1b[1;1R");
        assert_eq!(
            ask(&["\x1b]1", "0;?", "\x1b", "\\"]),
            "\x1b]10;rgb:cccc/cccc/cccc\x1b\\"
        );
    }

    #[test]
    fn questions_inside_other_sequences_are_not_questions() {
        assert_eq!(
            ask(&["\x1bPq\x1b[6n"]),
            "\x1b[1;1R",
            "an escape ends the string"
        );
        assert_eq!(ask(&["\x1b_[6n\x07[6n"]), "");
        assert_eq!(ask(&["\x1b[6\x18n", "\x1b[38;5;6mn", "[6n"]), "");
        assert_eq!(ask(&["\x1b[?2026h\x1b[2J\x1b[6\x1b[5n"]), "\x1b[0n");
    }

    #[test]
    fn the_cursor_is_answered_as_it_was_when_asked() {
        assert_eq!(
            ask(&["a\x1b[6nbc\x1b[6n\r\n\x1b[6n"]),
            "\x1b[1;2R\x1b[1;4R\x1b[2;1R"
        );
    }

    #[test]
    fn a_title_of_any_length_and_cut_is_taken() {
        let mut screen = Screen::new(Size { rows: 2, cols: 9 });
        screen.feed(b"\x1b]0;one");
        screen.feed(b" two\x1b\\x");
        assert_eq!(screen.title(), "one two");
        screen.feed("\x1b]2;é".as_bytes());
        screen.feed(&vec![b'y'; 100_000]);
        screen.feed(b"\x07z");
        assert_eq!(screen.title().chars().count(), super::TITLE_MAX);
        assert_eq!(screen.lines()[0], "xz");
    }

    #[test]
    fn what_a_program_tells_of_itself_is_heard_in_its_order() {
        let mut screen = Screen::new(Size { rows: 2, cols: 9 });
        screen.feed("\x1b]0;✳ here\x07\x1b]7501;state=working:app=codex\x1b\\".as_bytes());
        screen.feed(b"\x1b]9;4;3;\x07\x1b]9;4;0\x07\x1b]9;message\x07");
        assert_eq!(
            screen.take_told(),
            [
                Told::Title(Some('✳')),
                Told::Status("state=working:app=codex".into()),
                Told::Progress(true),
                Told::Progress(false),
            ]
        );
        screen.feed("\x1b]2;x\x07".repeat(10_000).as_bytes());
        assert!(screen.take_told().len() <= crate::screen::emulator::TOLD_MAX);
    }

    #[test]
    fn the_cursor_answer_stays_inside_the_screen() {
        let row = "x".repeat(40);
        assert_eq!(ask(&[&row, "\x1b[6n"]), "\x1b[1;40R");
    }

    #[test]
    fn a_flood_of_questions_gets_a_bounded_answer() {
        assert!(ask(&["\x1b[6n".repeat(100_000).as_str()]).len() <= super::ANSWERS_MAX);
    }
}
