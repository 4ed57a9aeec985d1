//! What has the keyboard: a CLI's input line, with or without somebody's words in it, or something else? Read from the
//! cursor's row, by the mark that the CLI's own row of the profile table names, never by the words of a dialog: those change
//! from version to version, and a dialog we do not know must be left alone as well. Decides nothing.

use crate::screen::Screen;

/// How a CLI draws its input line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What the line begins with.
    pub mark: char,
    /// From the mark to the first letter, in columns.
    pub gap: u16,
}

/// What takes the next key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// Nobody knows how this program draws its input line.
    Unknown,
    /// An input line without words.
    Empty,
    /// An input line with words in it.
    Draft,
    /// An input line whose cursor stands before words that look typed. Some are the CLI's own hint.
    Home,
    /// Something else: a dialog, a menu, a viewer, another program.
    Away,
}

/// How far above the cursor the first row of a long draft is looked for.
const ROWS: u16 = 12;

/// What takes the next key, as far as the screen shows it.
pub fn focus(screen: &Screen, prompt: Option<Prompt>) -> Focus {
    let Some(prompt) = prompt else {
        return Focus::Unknown;
    };
    let cells = screen.cursor_cells();
    let Some(mark) = mark_at(&cells.text, prompt) else {
        return above(screen, prompt);
    };
    let first = mark + usize::from(prompt.gap);
    match cells.cursor {
        // The cursor of a menu stands on its mark.
        at if at < first => Focus::Away,
        // So does the one of a menu that stands before the option's number, or behind it.
        _ if is_option(&cells.text[first..].iter().collect::<String>()) => Focus::Away,
        // A parked cursor, with nothing between it and the line's begin.
        at if at > first && cells.text[first..at].iter().all(|c| c.is_whitespace()) => Focus::Away,
        at if at > first => Focus::Draft,
        _ if is_hint(&cells.text[first..], &cells.faded[first..]) => Focus::Empty,
        _ => Focus::Home,
    }
}

/// Whether something stands on the cursor's row before the cursor, as any prompt does.
pub fn is_behind_words(screen: &Screen) -> bool {
    let cells = screen.cursor_cells();
    let mut before = cells.text.iter().take(cells.cursor);
    before.any(|c| !c.is_whitespace())
}

/// The words in the input line, up to the end of the cursor's row; `None` if there is no input line.
pub fn standing(screen: &Screen, prompt: Prompt) -> Option<String> {
    let cells = screen.cursor_cells();
    if let Some(mark) = mark_at(&cells.text, prompt) {
        return Some(cells.text[mark + 1..].iter().collect());
    }
    let mut rows = vec![cells.text.iter().collect::<String>()];
    for row in screen.rows_above_cursor(ROWS) {
        let cells: Vec<char> = row.chars().collect();
        if cells.iter().all(|c| c.is_whitespace()) {
            return None;
        }
        let mark = mark_at(&cells, prompt);
        rows.push(cells[mark.map_or(0, |at| at + 1)..].iter().collect());
        if mark.is_some() {
            rows.reverse();
            return Some(rows.join("\n"));
        }
    }
    None
}

/// Where the mark stands, if nothing but blanks comes before it and a blank after it.
fn mark_at(row: &[char], prompt: Prompt) -> Option<usize> {
    let at = row.iter().position(|c| !c.is_whitespace())?;
    let opens = row[at] == prompt.mark;
    let spaced = row.get(at + 1).is_none_or(|c| c.is_whitespace());
    (opens && spaced && row.len() > at + usize::from(prompt.gap)).then_some(at)
}

/// Nothing, or what is drawn paler than typed words are. The first letter may be drawn as the cursor, so it counts only if
/// it is alone.
fn is_hint(text: &[char], faded: &[bool]) -> bool {
    let pale = |(c, faded): (&char, &bool)| c.is_whitespace() || *faded;
    let alone = text.iter().skip(1).all(|c| c.is_whitespace());
    let from = usize::from(!alone);
    text.iter().zip(faded).skip(from).all(pale)
}

/// A draft of several rows has its mark on the first.
fn above(screen: &Screen, prompt: Prompt) -> Focus {
    for row in screen.rows_above_cursor(ROWS) {
        let cells: Vec<char> = row.chars().collect();
        if cells.iter().all(|c| c.is_whitespace()) {
            return Focus::Away;
        }
        if let Some(at) = mark_at(&cells, prompt) {
            let words: String = cells[at + 1..].iter().collect();
            return if is_option(&words) {
                Focus::Away
            } else {
                Focus::Draft
            };
        }
    }
    Focus::Away
}

/// `1. Yes`: a row of a menu.
pub fn is_option(words: &str) -> bool {
    let words = words.trim_start();
    let rest = words.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < words.len() && rest.starts_with(['.', ')'])
}

/// Whether the end of the screen looks like a menu, for programs whose input line was never seen.
pub fn is_menu(screen: &Screen) -> bool {
    let rows = screen.last_lines(14);
    let options = rows
        .iter()
        .filter(|row| is_option(row.trim_start_matches(|c: char| !c.is_alphanumeric())));
    options.count() >= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::Size;

    const ANGLE: Option<Prompt> = Some(Prompt {
        mark: '❯', gap: 2
    });

    fn looks(text: &str) -> Focus {
        focus(&screen(text), ANGLE)
    }

    fn screen(text: &str) -> Screen {
        let mut screen = Screen::new(Size { rows: 12, cols: 30 });
        screen.feed(text.as_bytes());
        screen
    }

    #[test]
    fn an_input_line_is_told_from_one_with_words_in_it() {
        assert_eq!(looks("hello\r\n─────\r\n❯ "), Focus::Empty);
        assert_eq!(looks("❯ half"), Focus::Draft);
        assert_eq!(looks("❯ \x1b[2mTry this\x1b[m\x1b[1;3H"), Focus::Empty);
        assert_eq!(
            looks("❯ \x1b[38;5;248mTry this\x1b[m\x1b[1;3H"),
            Focus::Empty
        );
        assert_eq!(
            looks("❯ \x1b[7mT\x1b[27;2mry this\x1b[m\x1b[1;3H"),
            Focus::Empty
        );
        assert_eq!(looks("❯ typed\x1b[1;3H"), Focus::Home);
        assert_eq!(looks("❯ t\x1b[1;3H"), Focus::Home);
        assert_eq!(looks("❯ a long one\r\n  that goes on"), Focus::Draft);
        assert_eq!(focus(&screen("❯ "), None), Focus::Unknown);
    }

    #[test]
    fn the_words_of_a_draft_are_found_on_all_its_rows() {
        let standing = |text| {
            standing(
                &screen(text),
                Prompt {
                    mark: '❯', gap: 2
                },
            )
        };
        assert_eq!(
            standing("❯ said\r\n\r\n─────\r\n❯ a long\r\n  one\r\n  ").map(|text| text
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()),
            Some(vec!["a".into(), "long".into(), "one".into()])
        );
        assert_eq!(standing("❯ said\r\n\r\nanswer"), None);
    }

    #[test]
    fn a_menu_and_anything_unknown_are_not_an_input_line() {
        for other in [
            "Proceed?\r\n❯ 1. Yes\r\n  2. No\x1b[2;1H",
            "Proceed?\r\n❯ 1. Yes\r\n  2. No",
            "Proceed?\r\n❯ 1. Yes\r\n  2. No\x1b[2;3H",
            "❯ said before\r\n\r\n  answer",
            "! ",
            "❯ \x1b[1;28H",
            "",
        ] {
            assert_eq!(looks(other), Focus::Away, "{other:?}");
        }
    }

    /// `prompt`, `draft` or `away`, as the recordings in fixtures/screens say it.
    fn word(focus: Focus) -> &'static str {
        match focus {
            Focus::Unknown => "unknown",
            Focus::Empty => "prompt",
            Focus::Draft | Focus::Home => "draft",
            Focus::Away => "away",
        }
    }

    #[test]
    fn recorded_terminals_of_real_clis_are_read_as_what_they_are() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/screens");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("recordings") {
            let entry = entry.expect("an entry").path();
            let name = entry.file_name().expect("a name").to_string_lossy();
            let text = |file| std::fs::read_to_string(entry.join(file)).expect("a file");
            let (cli, _) = name.split_once('-').expect("CLI-STATE");
            let bytes = std::fs::read(entry.join("bytes")).expect("a file");
            let expect = text("expect");
            let (wanted, picture) = expect.split_once('\n').expect("a word, then the picture");
            let size = text("size");
            let (rows, cols) = size.trim().split_once(' ').expect("rows and columns");
            let (rows, cols) = (rows.parse().expect("rows"), cols.parse().expect("columns"));
            let row = crate::agent::profiles::Profiles::default().by_command(&[cli.to_owned()]);
            for piece in [1, 7, 4096] {
                let mut screen = Screen::new(Size { rows, cols });
                for bytes in bytes.chunks(piece) {
                    screen.feed(bytes);
                }
                assert_eq!(screen.lines().join("\n").trim_end(), picture.trim_end());
                assert_eq!(word(focus(&screen, row.prompt)), wanted, "{name}");
            }
            count += 1;
        }
        assert!(count >= 12, "{count} recordings");
    }

    #[test]
    fn a_menu_is_known_by_its_options() {
        assert!(is_menu(&screen(
            "Trust it?\r\n\r\n ❯ 1. Yes\r\n   2. No\r\n\r\nEnter to confirm"
        )));
        assert!(!is_menu(&screen("1. first\r\nwhat next?\r\n> ")));
    }
}
