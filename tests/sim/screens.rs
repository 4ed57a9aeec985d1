//! The picture of a terminal under hostile output: random sequences, broken text, pieces of real terminals cut anywhere, and
//! sizes that change in between. Whatever comes, no panic leaves the screen, and every question about it has an answer.
//! `scripts/soak --screen N` feeds N pieces; the ordinary test run feeds ten thousand.

use std::time::Instant;

use relay_broker::msg::Size;
use relay_broker::prng::Prng;
use relay_broker::screen::Screen;

/// What a screen may say in answer to one piece of output.
const ANSWERS_MAX: usize = 4096;
/// A new screen begins after so many pieces, so that a failing seed is short to look at.
const PIECES: u64 = 1000;

const TEXTS: [&str; 16] = [
    "word ",
    "漢字",
    "🦀",
    "👩\u{200d}👩\u{200d}👧",
    "e\u{301}\u{302}\u{303}",
    "\u{301}",
    "\u{ad}",
    "\u{200b}",
    "ﷺ",
    "\u{10ffff}",
    "\r\n",
    "\r",
    "\n",
    "\t",
    "\x08",
    "\x07",
];
const SEQUENCES: [&str; 30] = [
    "\x1bc",
    "\x1b7",
    "\x1b8",
    "\x1bD",
    "\x1bM",
    "\x1bE",
    "\x1bH",
    "\x1b#8",
    "\x1b(0",
    "\x1b(B",
    "\x1b)0",
    "\x0e",
    "\x0f",
    "\x1b[?1049h",
    "\x1b[?1049l",
    "\x1b[?47h",
    "\x1b[?47l",
    "\x1b[?6h",
    "\x1b[?6l",
    "\x1b[?7l",
    "\x1b[?7h",
    "\x1b[4h",
    "\x1b[?2004h",
    "\x1b[?1003h",
    "\x1b[s",
    "\x1b[u",
    "\x1b[6n",
    "\x1b[c",
    "\x1b\\",
    "\x1b[999;999H",
];
const NUMBERS: [&str; 14] = [
    "",
    "0",
    "1",
    "2",
    "3",
    "5",
    "7",
    "23",
    "24",
    "80",
    "255",
    "65535",
    "65536",
    "99999999999999999999",
];

fn one<T: Copy>(prng: &mut Prng, of: &[T]) -> T {
    of[at(prng, of.len())]
}

fn at(prng: &mut Prng, bound: usize) -> usize {
    usize::try_from(prng.below(bound as u64)).unwrap_or(0)
}

fn byte(prng: &mut Prng, from: u8, to: u8) -> u8 {
    from + u8::try_from(prng.below(u64::from(to - from) + 1)).unwrap_or(0)
}

/// A control sequence with any number of any numbers and any final.
fn csi(prng: &mut Prng, piece: &mut Vec<u8>) {
    piece.extend(b"\x1b[");
    if prng.below(4) == 0 {
        piece.push(one(prng, b"?>=<!"));
    }
    let most = if prng.below(50) == 0 { 200 } else { 5 };
    for _ in 0..prng.below(most) {
        piece.extend(one(prng, &NUMBERS).bytes());
        piece.push(one(prng, b";;;:"));
    }
    piece.extend(one(prng, &NUMBERS).bytes());
    if prng.below(8) == 0 {
        piece.push(byte(prng, b' ', b'/'));
    }
    piece.push(byte(prng, b'@', b'~'));
}

/// A string of the terminal, which may be long, and may never end.
fn string(prng: &mut Prng, piece: &mut Vec<u8>) {
    piece.extend(
        one(
            prng,
            &[
                "\x1b]0;",
                "\x1b]2;",
                "\x1b]8;;",
                "\x1b]52;c;",
                "\x1b]",
                "\x1bP",
                "\x1b_",
                "\x1b^",
            ],
        )
        .bytes(),
    );
    let most = if prng.below(100) == 0 { 20_000 } else { 40 };
    for _ in 0..prng.below(most) {
        piece.push(byte(prng, 0x20, 0xff));
    }
    piece.extend(one(prng, &["\x07", "\x1b\\", "\u{9c}", ""]).bytes());
}

/// Output of a program that means no good, or of a real one.
fn piece(prng: &mut Prng, recordings: &[Vec<u8>]) -> Vec<u8> {
    let mut piece = Vec::new();
    for _ in 0..=prng.below(12) {
        match prng.below(12) {
            0..=2 => csi(prng, &mut piece),
            3..=4 => piece.extend(one(prng, &SEQUENCES).bytes()),
            5 => string(prng, &mut piece),
            6 => (0..prng.below(20)).for_each(|_| piece.push(byte(prng, 0, 255))),
            7 => {
                let recording = &recordings[at(prng, recordings.len())];
                let from = at(prng, recording.len());
                let to = recording.len().min(from + at(prng, 400));
                piece.extend(&recording[from..to]);
            }
            8 => {
                let text = one(prng, &TEXTS);
                (0..prng.below(100)).for_each(|_| piece.extend(text.bytes()));
            }
            _ => piece.extend(one(prng, &TEXTS).bytes()),
        }
    }
    // A read of the terminal ends anywhere.
    piece.truncate(piece.len() - at(prng, piece.len().min(4) + 1));
    piece
}

fn size(prng: &mut Prng) -> Size {
    let (rows, cols) = match prng.below(400) {
        0 => (0, 0),
        1 => (1, 65535),
        2 => (65535, 1),
        3..=40 => (1, 1),
        41..=80 => (1 + prng.below(3), 1 + prng.below(3)),
        _ => (1 + prng.below(50), 1 + prng.below(130)),
    };
    let cells = |count| u16::try_from(count).unwrap_or(u16::MAX);
    Size {
        rows: cells(rows),
        cols: cells(cols),
    }
}

/// Everything that anybody asks of a screen.
fn ask(screen: &mut Screen, prng: &mut Prng) {
    assert!(screen.take_answers().len() <= ANSWERS_MAX);
    let _ = screen.modes();
    let size = screen.size();
    assert_eq!(screen.cursor_cells().text.len(), usize::from(size.cols));
    let _ = screen.nearby(6, 6);
    let _ = screen.rows_above_cursor(12);
    if prng.below(16) == 0 {
        assert!(!screen.title().contains(char::is_control));
        let shown = screen.last_lines(10);
        assert!(shown.len() <= 10 && !shown.concat().contains(char::is_control));
        let (row, col) = screen.snapshot(false).cursor;
        assert!(row >= 1 && row <= size.rows && col >= 1 && col <= size.cols);
        let _ = screen.snapshot(true);
    }
}

/// Feeds so many pieces; how often the emulator had to be replaced.
fn suffer(first: u64, pieces: u64) -> u64 {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/screens");
    let folders = std::fs::read_dir(folder).expect("recordings").flatten();
    let mut names: Vec<_> = folders.map(|entry| entry.path().join("bytes")).collect();
    names.sort();
    let recordings: Vec<Vec<u8>> = names
        .iter()
        .map(|name| std::fs::read(name).expect("a recording"))
        .collect();
    let mut resets = 0;
    for seed in first..first + pieces.div_ceil(PIECES) {
        let mut prng = Prng::new(seed);
        let mut screen = Screen::new(size(&mut prng));
        for _ in 0..PIECES.min(pieces) {
            if prng.below(20) == 0 {
                screen.resize(size(&mut prng));
            }
            screen.feed(&piece(&mut prng, &recordings));
            ask(&mut screen, &mut prng);
        }
        screen.resize(Size { rows: 4, cols: 20 });
        screen.feed(b"\x18\x1b\\\x1b[?6l\x1b[r\x1bc\x1b[Hstill here");
        assert!(
            screen.lines()[0].starts_with("still here"),
            "seed {seed}: {:?}",
            screen.lines()
        );
        resets += u64::from(screen.resets());
    }
    resets
}

#[test]
fn no_output_of_a_program_breaks_the_picture_of_its_terminal() {
    let resets = suffer(0, 10_000);
    println!("the emulator was replaced {resets} times");
}

/// Feeds `SCREEN_PIECES`, from the seed `SIM_FIRST` on; for `scripts/soak --screen`.
#[test]
fn screen_soak() {
    let Some(pieces) = crate::number("SCREEN_PIECES") else {
        return;
    };
    let begun = Instant::now();
    let resets = suffer(crate::number("SIM_FIRST").unwrap_or(0), pieces);
    println!(
        "{pieces} pieces of output in {:.1} s; the emulator was replaced {resets} times",
        begun.elapsed().as_secs_f64()
    );
}
