//! A late viewer's terminal beside one that was there from the beginning. The terminals here are made of other parts than the
//! screen: they read with the parser of a terminal, and keep whatever they are told.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::msg::Size;
use crate::prng::Prng;
use crate::screen::{Screen, Unasked};

const SMALL: Size = Size { rows: 6, cols: 20 };

/// What a terminal is told to keep, by what it is about.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    private: BTreeMap<u16, bool>,
    ansi: BTreeMap<u16, bool>,
    second: bool,
    keypad: bool,
    sets: BTreeMap<u8, u8>,
    left: u8,
    pushed: [Vec<u16>; 2],
    keys: BTreeMap<u16, u16>,
    cursor: u16,
    margins: Option<(u16, u16)>,
    colours: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl vte::Perform for Kept {
    fn execute(&mut self, byte: u8) {
        match byte {
            0x0e => self.left = 1,
            0x0f => self.left = 0,
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, between: &[u8], _: bool, last: u8) {
        match (between, last) {
            ([], b'=') => self.keypad = true,
            ([], b'>') => self.keypad = false,
            ([], b'c') => *self = Self::default(),
            ([], b'n') => self.left = 2,
            ([slot @ (b'(' | b')' | b'*')], b'B') => {
                self.sets.remove(slot);
            }
            ([slot @ (b'(' | b')' | b'*')], set) => {
                self.sets.insert(*slot, set);
            }
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &vte::Params, between: &[u8], _: bool, last: char) {
        let numbers: Vec<u16> = params.iter().map(|p| p[0]).collect();
        let first = numbers.first().copied().unwrap_or(0);
        match (between, last) {
            (b"?", 'h' | 'l') => {
                for mode in numbers {
                    self.private(mode, last == 'h');
                }
            }
            ([], 'h' | 'l') => {
                self.ansi.remove(&first);
                if last == 'h' {
                    self.ansi.insert(first, true);
                }
            }
            (b">", 'u') => self.pushed[usize::from(self.second)].push(first),
            (b"<", 'u') => {
                let pushed = &mut self.pushed[usize::from(self.second)];
                pushed.truncate(pushed.len().saturating_sub(first.max(1).into()));
            }
            (b">", 'm') if numbers.len() > 1 => {
                self.keys.insert(first, numbers[1]);
            }
            (b">", 'm') => {
                self.keys.remove(&first);
            }
            (b" ", 'q') => self.cursor = first,
            ([], 'r') => {
                let bottom = numbers.get(1).copied().unwrap_or(0);
                self.margins = (bottom > first).then_some((first, bottom));
            }
            _ => {}
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        match params {
            [kind @ (b"10" | b"11" | b"12"), colour] => {
                self.colours.insert(kind.to_vec(), colour.to_vec());
            }
            [[b'1', kind @ ..]] => {
                self.colours.remove(kind);
            }
            [b"9", b"4", b"0", ..] => {
                self.colours.remove(&b"9"[..]);
            }
            [b"9", b"4", rest @ ..] => {
                self.colours.insert(b"9".to_vec(), rest.concat());
            }
            _ => {}
        }
    }
}

impl Kept {
    fn private(&mut self, mode: u16, on: bool) {
        match mode {
            47 | 1047 | 1049 => self.second = on,
            7 | 25 if on => drop(self.private.remove(&mode)),
            7 | 25 => drop(self.private.insert(mode, false)),
            _ if on => drop(self.private.insert(mode, true)),
            _ => drop(self.private.remove(&mode)),
        }
    }
}

/// A viewer's terminal.
struct Terminal {
    reads: vte::Parser,
    kept: Kept,
    picture: Screen,
}

impl Terminal {
    fn new() -> Self {
        Self {
            reads: vte::Parser::new(),
            kept: Kept::default(),
            picture: Screen::new(SMALL),
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        self.reads.advance(&mut self.kept, bytes);
        self.picture.feed(bytes);
    }

    fn seen(&self) -> (Vec<String>, (u16, u16)) {
        (self.picture.lines(), self.picture.snapshot(false).cursor)
    }
}

const MODES: [u16; 24] = [
    1, 5, 6, 7, 9, 12, 25, 66, 1000, 1002, 1003, 1004, 1006, 1007, 1015, 1016, 1049, 2004, 2005,
    2026, 2027, 2031, 2048, 9001,
];
const OTHERS: [&str; 44] = [
    "word ",
    "漢字",
    "lqqk",
    "é",
    "\r\n",
    "\x1b[H",
    "\x1b[3;5H",
    "\x1b[2J",
    "\x1b[1;31m",
    "\x1b[m",
    "\x1b[4h",
    "\x1b[4l",
    "\x1b[20h",
    "\x1b[20l",
    "\x1b=",
    "\x1b>",
    "\x1b(0",
    "\x1b(B",
    "\x1b)0",
    "\x1b*0",
    "\x0e",
    "\x0f",
    "\x1bn",
    "\x1b[>1u",
    "\x1b[>5u",
    "\x1b[<u",
    "\x1b[<2u",
    "\x1b[>4;2m",
    "\x1b[>4m",
    "\x1b[3 q",
    "\x1b[0 q",
    "\x1b[2;5r",
    "\x1b[r",
    "\x1b7",
    "\x1b8",
    "\x1b[s",
    "\x1b[u",
    "\x1b]11;#123456\x07",
    "\x1b]111\x07",
    "\x1b]12;red\x1b\\",
    "\x1b]9;4;1;50\x07",
    "\x1b]9;4;0\x07",
    "\x1b[6n",
    "\x1bc",
];

fn piece(prng: &mut Prng) -> String {
    let at = |prng: &mut Prng, len: usize| usize::try_from(prng.below(len as u64)).unwrap_or(0);
    if prng.below(2) == 0 {
        let on = if prng.below(3) > 0 { 'h' } else { 'l' };
        return format!("\x1b[?{}{on}", MODES[at(prng, MODES.len())]);
    }
    OTHERS[at(prng, OTHERS.len())].to_owned()
}

/// What a program writes, and where a late viewer comes. The emulator has margins for each page where terminals have one
/// pair, so a program has either margins or a second page here.
fn output(seed: u64) -> (String, usize) {
    let mut prng = Prng::new(seed);
    let margins = ["\x1b[?6h", "\x1b[?6l", "\x1b[2;5r", "\x1b[r"];
    let pages = ["\x1b[?1049h", "\x1b[?1049l"];
    let without = if seed.is_multiple_of(2) {
        &margins[..]
    } else {
        &pages
    };
    let pieces = (0..1 + prng.below(24)).map(|_| piece(&mut prng));
    let text: String = pieces
        .filter(|piece| !without.contains(&piece.as_str()))
        .collect();
    let cut = prng.below(text.len() as u64 + 1);
    (text, usize::try_from(cut).unwrap_or(0))
}

fn picture(screen: &Screen) -> Vec<u8> {
    STANDARD
        .decode(screen.snapshot(true).screen)
        .expect("base64")
}

#[test]
fn a_late_viewers_terminal_is_in_the_state_of_one_that_was_there() {
    for seed in 0..3000 {
        let (text, cut) = output(seed);
        let (before, after) = text.as_bytes().split_at(cut);
        let mut program = Screen::new(SMALL);
        program.feed(before);
        let (mut there, mut late) = (Terminal::new(), Terminal::new());
        there.show(before);
        late.show(&picture(&program));
        there.show(after);
        late.show(after);
        assert_eq!(late.kept, there.kept, "seed {seed}: {text:?} cut at {cut}");
        assert_eq!(
            late.seen(),
            there.seen(),
            "seed {seed}: {text:?} cut at {cut}"
        );
        // What is saved and what is below shows when it comes back.
        for probe in ["\x1b[r\x1b[?6l\x1b8x", "\x1b[?1049l\x1b[?47lx", "\x1b8y"] {
            there.show(probe.as_bytes());
            late.show(probe.as_bytes());
            assert_eq!(
                late.seen(),
                there.seen(),
                "seed {seed}: {text:?} cut at {cut}, then {probe:?}"
            );
        }
    }
}

#[test]
fn a_terminal_that_is_left_has_kept_nothing_whenever_it_came() {
    for seed in 0..3000 {
        let (text, cut) = output(seed);
        let (before, after) = text.as_bytes().split_at(cut);
        let mut program = Screen::new(SMALL);
        program.feed(before);
        let (mut unasked, mut shown) = (Unasked::default(), Screen::new(SMALL));
        let mut viewer = Terminal::new();
        for bytes in [&picture(&program)[..], after] {
            let bytes = unasked.pass(bytes);
            shown.feed(&bytes);
            viewer.show(&bytes);
        }
        // Flags of the keyboard that were pushed on a page nobody sees any more cannot be taken from there.
        let unseen = !viewer.kept.second && !viewer.kept.pushed[1].is_empty();
        viewer.show(shown.leave().as_bytes());
        if unseen {
            viewer.kept.pushed[1].clear();
        }
        assert_eq!(
            viewer.kept,
            Kept::default(),
            "seed {seed}: {text:?} cut at {cut}"
        );
    }
}

#[test]
fn the_page_below_comes_back_for_a_late_viewer_by_whatever_name_the_second_was_shown() {
    for mode in [47, 1047, 1049] {
        let mut program = Screen::new(SMALL);
        program.feed(format!("below\r\n\x1b[?{mode}hfull\x1b[?7l").as_bytes());
        let mut late = Terminal::new();
        late.show(&picture(&program));
        assert!(late.kept.second);
        late.show(format!("\x1b[?{mode}lback").as_bytes());
        assert_eq!(late.seen().0[..2], ["below", "back"], "mode {mode}");
    }
}

#[test]
fn a_cursor_that_was_saved_on_the_page_below_comes_back_for_a_late_viewer() {
    for mode in [47, 1047, 1049] {
        let before = format!("\x1b[3;5H\x1b7\x1b[5;2H\x1b[?{mode}h\x1b[2;2Hfull");
        let after = format!("\x1b[?{mode}l\x1b8x");
        let mut program = Screen::new(SMALL);
        program.feed(before.as_bytes());
        let (mut there, mut late) = (Terminal::new(), Terminal::new());
        there.show(before.as_bytes());
        late.show(&picture(&program));
        there.show(after.as_bytes());
        late.show(after.as_bytes());
        assert_eq!(late.seen(), there.seen(), "mode {mode}");
        // The last of the three saves the cursor itself when it shows the other page.
        let row = if mode == 1049 { 4 } else { 2 };
        assert_eq!(late.seen().0[row].trim(), "x", "mode {mode}");
    }
}

#[test]
fn a_late_viewer_has_the_title_that_the_program_gave() {
    let mut program = Screen::new(SMALL);
    program.feed(b"\x1b]2;ada works\x07ready");
    let mut late = Screen::new(SMALL);
    late.feed(&picture(&program));
    assert_eq!(late.title(), "ada works");
    assert_eq!(late.lines()[0], "ready");
}

#[test]
fn lines_are_lines_in_the_picture_too() {
    let mut screen = Screen::new(SMALL);
    screen.feed(b"q\x1b(0lqk\x1b[1mx\x1b[");
    screen.feed(b"m\x1b(Bq\r\n\x1b)0\x0ex\x0fx");
    assert_eq!(screen.lines()[..2], ["q┌─┐│q", "│x"]);
}

#[test]
fn what_the_emulator_does_not_know_is_drawn_all_the_same() {
    let mut screen = Screen::new(SMALL);
    screen.feed(b"ab\x1b[s\x1b[4;4Hx\x1b[uc\x1bEd\x1bDe");
    assert_eq!(screen.lines()[..4], ["abc", "d", " e", "   x"]);
    screen.feed(b"\x1b[?1047hother\x1b[?1047l");
    assert_eq!(screen.lines()[0], "abc");
}

#[test]
fn the_cursor_is_left_below_what_stays_and_not_at_the_end_of_the_page() {
    let mut screen = Screen::new(SMALL);
    screen.feed(b"one\r\ntwo");
    assert_eq!(screen.leave(), "\x1b[0m\x1b[3;1H\x1b[J");
    screen.feed(b"\x1b[?1049hfull\x1b[6;1Hscreen");
    assert_eq!(screen.leave(), "\x1b[?1049l\x1b[0m\x1b[3;1H\x1b[J");
    screen.feed(b"\x1b[?1049l\x1b[6;1Hend");
    assert_eq!(screen.leave(), "\x1b[0m\x1b[6;1H\r\n");
}

#[test]
fn a_letter_that_is_half_written_is_completed_for_a_late_viewer() {
    let text = "a漢字🦀".as_bytes();
    for cut in 0..text.len() {
        for step in 0..cut {
            let mut program = Screen::new(SMALL);
            program.feed(&text[..step]);
            program.feed(&text[step..cut]);
            let mut late = Screen::new(SMALL);
            late.feed(&picture(&program));
            late.feed(&text[cut..]);
            assert_eq!(late.lines()[0], "a漢字🦀", "cut at {cut}");
        }
    }
}
