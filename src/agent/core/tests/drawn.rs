//! However a program draws a draft, the draft is recognised: at every width, with every ending, scrolled or not.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::*;

/// How a program draws its input line.
#[derive(Clone, Copy, Debug)]
struct Style {
    /// The row of the profile table it goes by.
    row: &'static str,
    /// What the input line begins with.
    mark: &'static str,
    /// What the other rows of a draft begin with.
    indent: &'static str,
    /// A full row ends with a wrap of its own, which puts the cursor into the next one.
    wraps: bool,
    /// It redraws its whole screen; others only write where the cursor is.
    redraws: bool,
    /// What an empty input line shows, pale.
    hint: &'static str,
    /// Rows below the input line.
    footer: usize,
    /// How it draws a text of more than 400 letters.
    folds: &'static str,
    /// How it draws a tab.
    tab: &'static str,
}

const ECHO: Style = Style {
    row: "",
    mark: "> ",
    indent: "",
    wraps: false,
    redraws: false,
    hint: "",
    footer: 0,
    folds: "",
    tab: "  ",
};
const CLAUDE: Style = Style {
    row: "claude",
    mark: "❯ ",
    indent: "  ",
    redraws: true,
    footer: 2,
    ..ECHO
};
const STYLES: [Style; 10] = [
    Style { mark: "", ..ECHO },
    ECHO,
    Style {
        wraps: true,
        ..ECHO
    },
    CLAUDE,
    Style {
        wraps: true,
        ..CLAUDE
    },
    Style {
        row: "codex",
        mark: "› ",
        hint: "Ask Codex to do anything",
        ..CLAUDE
    },
    Style {
        row: "gemini",
        mark: "> ",
        hint: "Type your message",
        ..CLAUDE
    },
    Style {
        row: "opencode",
        mark: "┃  ",
        indent: "┃  ",
        ..CLAUDE
    },
    Style { row: "", ..CLAUDE },
    Style {
        row: "",
        mark: "ask> ",
        indent: "ask> ",
        ..CLAUDE
    },
];
const ROWS: u16 = 12;

/// The text in rows of so many cells, as a terminal wraps it.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut used = 0;
    for letter in text.chars() {
        let cells = letter.width().unwrap_or(0);
        if letter == '\n' || used + cells > width {
            rows.push(String::new());
            used = 0;
        }
        if letter != '\n' {
            used += cells;
            rows.last_mut().expect("a row").push(letter);
        }
    }
    rows
}

/// A program that draws so.
struct Painter {
    style: Style,
    cols: usize,
    transcript: Vec<String>,
    draft: String,
    enters: usize,
}

impl Painter {
    fn folded(&self, text: &str) -> Vec<String> {
        let width = self.cols - self.style.indent.width();
        let mut rows = wrapped(text, width);
        if self.style.wraps && !text.is_empty() && rows.last().map(|row| row.width()) == Some(width)
        {
            rows.push(String::new());
        }
        rows
    }

    fn entry(&self, text: &str) -> Vec<String> {
        let Style { mark, indent, .. } = self.style;
        let long = text.len() > 400 && !self.style.folds.is_empty();
        let text = if long { self.style.folds } else { text };
        let rows = self
            .folded(&text.replace('\t', self.style.tab))
            .into_iter()
            .enumerate();
        rows.map(|(at, row)| [if at == 0 { mark } else { indent }, &row].concat())
            .collect()
    }

    fn picture(&self) -> Vec<u8> {
        let mut rows: Vec<String> = Vec::new();
        for said in &self.transcript {
            rows.extend(self.entry(said));
            rows.push(String::new());
        }
        let draft = self.entry(&self.draft);
        let cursor = draft.last().map_or(0, |row| row.width()) + 1;
        rows.extend(draft);
        if self.draft.is_empty() {
            let room = self.cols - self.style.mark.chars().count();
            let hint: String = self.style.hint.chars().take(room).collect();
            let hint = format!("\x1b[2m{hint}\x1b[m");
            rows.last_mut().expect("a row").push_str(&hint);
        }
        let mut at = rows.len();
        rows.extend(vec!["── footer".to_owned(); self.style.footer]);
        let cut = rows.len().saturating_sub(ROWS.into());
        at -= cut;
        let picture = rows[cut..].join("\x1b[K\r\n");
        format!("\x1b[H{picture}\x1b[J\x1b[{at};{cursor}H").into_bytes()
    }

    /// What a program that only writes shows for a letter of the draft.
    fn echoed(&self, letter: char, shown: &mut String) {
        shown.push(letter);
        if !self.style.wraps || self.style.redraws {
            return;
        }
        let rows = wrapped(&[self.style.mark, &self.draft].concat(), self.cols);
        if rows.last().map(|row| row.width()) == Some(self.cols) && letter.width() != Some(0) {
            shown.push_str("\r\n");
        }
    }
}

impl Program for Painter {
    fn settings(&self) -> TtyState {
        RAW
    }
    fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(bytes).expect("whole letters");
        let mut shown = String::new();
        for letter in text
            .replace("\x1b[200~", "")
            .replace("\x1b[201~", "")
            .chars()
        {
            if letter == '\r' {
                self.enters += 1;
                self.transcript.push(std::mem::take(&mut self.draft));
                shown += &format!("\r\n{}", self.style.mark);
            } else {
                self.draft.push(letter);
                match letter {
                    '\n' => shown.push_str("\r\n"),
                    _ => self.echoed(letter, &mut shown),
                }
            }
        }
        match self.style.redraws {
            true => self.picture(),
            false => shown.into_bytes(),
        }
    }
}

fn world(style: Style, cols: u16) -> World<Painter> {
    let painter = Painter {
        style,
        cols: cols.into(),
        transcript: Vec::new(),
        draft: String::new(),
        enters: 0,
    };
    let mut world = World::ready(painter, COMPOSER);
    world.core.profile = Profiles::default().by_command(&[style.row.into()]);
    world.core.profile.first_rest = Duration::ZERO;
    world.event(Event::Resize(Size { rows: ROWS, cols }));
    let shown = match style.redraws {
        true => world.program.picture(),
        false => style.mark.into(),
    };
    world.event(Event::Output(shown));
    world
}

/// Sends the text, which must be submitted by one Enter, and reported so.
fn arrives(world: &mut World<Painter>, text: &str) {
    let style = world.program.style;
    let (said, enters) = (world.program.transcript.len(), world.program.enters);
    world.reports.clear();
    world.inject(text, Mode::Wait);
    world.run(3000);
    let case = || {
        let screen = world.core.screen.lines().join("\n");
        format!("{text:?} in {style:?}: {:?}\n{screen}", world.reports)
    };
    assert_eq!(
        world.program.transcript.get(said).map(String::as_str),
        Some(text),
        "{}",
        case()
    );
    assert_eq!(world.program.enters - enters, 1, "{}", case());
    assert!(
        matches!(
            world.reported()[..],
            [AgentReport::Typed(_), AgentReport::Landed(..)]
        ),
        "{}",
        case()
    );
}

fn message(number: usize, length: usize, ending: &str) -> String {
    let words = format!(
        "Relay message from bob [ws / evt_{number}]: please have a look at the build of last night and tell us what broke"
    );
    let letters = words.chars().cycle().take(length - ending.chars().count());
    letters.collect::<String>() + ending
}

const ENDINGS: [&str; 12] = [
    ".", "?", "!", ")", "...", "?!)\"", ">", "'", "%", " -", "。", "❯",
];

#[test]
fn a_draft_of_any_length_and_ending_is_submitted_scrolled_or_not() {
    for style in STYLES {
        let mut world = world(style, 17);
        for (number, ending) in ENDINGS.into_iter().enumerate() {
            for length in 40..40 + 17 {
                arrives(&mut world, &message(number, length, ending));
            }
        }
    }
}

#[test]
fn a_message_that_was_sent_before_is_submitted_again_wherever_the_first_one_stands() {
    for style in STYLES {
        for length in 40..40 + 17 {
            let mut world = world(style, 17);
            for _ in 0..4 {
                arrives(&mut world, &message(0, length, "."));
            }
        }
    }
}

#[test]
fn a_message_that_ends_in_what_an_empty_input_line_shows_is_not_taken_for_a_draft_afterwards() {
    for style in STYLES {
        for (hint, ending) in [
            ("Ask Codex to do anything", "Ask Codex to do anything"),
            ("Try \"edit this\"", "Try \"edit this\""),
            ("Explain this code", "code"),
            ("> go on with it >", ">"),
        ] {
            let mut world = world(Style { hint, ..style }, 60);
            for number in 0..3 {
                let text = format!("Relay message from eve [ws / {number}]: {ending}");
                arrives(&mut world, &text);
            }
            // Another program shows another hint every time.
            world.program.style.hint = "Summarize recent commits";
            arrives(
                &mut world,
                &format!("Relay message from eve [ws / 9]: {hint}"),
            );
            world.program.style.hint = hint;
            arrives(
                &mut world,
                "Relay message from eve [ws / 9]: Summarize recent commits",
            );
        }
    }
}

#[test]
fn a_long_paste_is_recognised_by_whatever_stands_in_its_place() {
    let text = format!(
        "Relay message from bob [ws / 1]: {}end.",
        "many words ".repeat(300)
    );
    for style in STYLES.into_iter().filter(|style| style.redraws) {
        for folds in [
            "[paste #1 3089 chars]",
            "[Pasted text #1 +40 lines]",
            "[Pasted ~40 lines]",
            "(3334 characters)",
            "<pasted>",
            "{ 3334 chars }",
        ] {
            let mut world = world(Style { folds, ..style }, 60);
            for _ in 0..3 {
                arrives(&mut world, &text);
            }
        }
    }
}

#[test]
fn controls_may_be_drawn_in_any_way() {
    for style in STYLES.into_iter().filter(|style| style.redraws) {
        for tab in ["^I", "<09>", "    ", "␉", "→", ""] {
            let mut world = world(Style { tab, ..style }, 23);
            for text in ["one\ttwo", "a\tb\tc\td", "end\t.", "caret ^C\tand <09>"] {
                arrives(
                    &mut world,
                    &format!("Relay message from bob [ws / 1]: {text}"),
                );
            }
        }
    }
}

/// So wide that the broker leaves it alone.
const WIDE: u16 = 40;
/// What borders and input lines are drawn with.
const BORDERS: [&str; 14] = [
    "|", "│", "┃", "║", ">", "❯", "─", "-", "=", "*", "+", "||", "│|", "─ >",
];
/// What a text may be made of.
const BODIES: [&str; 22] = [
    "y",
    "é",
    "é ",
    "ж",
    "Привет мир ",
    "漢",
    "漢 字。",
    "a漢",
    "🙂",
    "👩\u{200d}💻",
    "🙂 é",
    "q\u{323}\u{30d}\u{30e}\u{311}\u{30d}\u{30e}\u{311}\u{30d}\u{30e}\u{311}",
    "─\u{323}\u{30d}\u{30e}\u{311}\u{30d}\u{30e}\u{311}\u{30d}\u{30e}\u{311}",
    "क्षि",
    "─",
    "│",
    "|",
    ">",
    "* ",
    "- ─|",
    "^I",
    "<09>",
];

#[test]
fn a_draft_whose_last_row_holds_only_what_borders_are_drawn_with_is_submitted() {
    for style in STYLES {
        for ending in BORDERS {
            let mut world = world(style, WIDE);
            for cells in 80..80 + usize::from(WIDE) {
                let text = made_of("same words again ", cells);
                arrives(&mut world, &(text + ending));
            }
        }
    }
}

/// A message of so many cells, made of one thing.
fn made_of(body: &str, cells: usize) -> String {
    let mut text = "Relay message from bob [ws / evt_1]: ".to_owned();
    let mut used = text.width();
    for letter in body.chars().cycle() {
        let more = letter.width().unwrap_or(0);
        if more > 0 && used + more > cells {
            break;
        }
        used += more;
        text.push(letter);
    }
    text.trim_end_matches('\u{200d}').to_owned()
}

#[test]
fn a_draft_of_anything_is_submitted_though_it_fills_the_screen() {
    let screen = usize::from(ROWS * WIDE);
    for style in STYLES.into_iter().filter(|style| style.row.is_empty()) {
        for body in BODIES {
            let mut world = world(style, WIDE);
            for cells in (0..usize::from(WIDE)).step_by(13) {
                arrives(&mut world, &made_of(body, screen + 80 + cells));
            }
        }
    }
}

#[test]
fn a_draft_that_fills_some_rows_with_one_thing_is_submitted() {
    for style in STYLES {
        for body in BODIES {
            let mut world = world(style, WIDE);
            for cells in (100..220).step_by(19) {
                arrives(&mut world, &made_of(body, cells));
            }
        }
    }
}

#[test]
fn a_draft_that_is_mostly_empty_is_submitted() {
    for style in STYLES.into_iter().filter(|style| style.row.is_empty()) {
        for (gap, times) in [("\n", 30), ("\n\n\n\n\n\n\n", 4), (" ", 300)] {
            for end in ["b", "é", "漢", ".", "|", "─", "b."] {
                let mut world = world(style, WIDE);
                let lines = format!("{end}{gap}").repeat(times) + end;
                let far = format!("{}{end}", gap.repeat(times));
                for text in [lines, far] {
                    arrives(
                        &mut world,
                        &format!("Relay message from bob [ws / evt_1]: {text}"),
                    );
                }
            }
        }
    }
}
