//! Bodies made of nothing but trouble: whatever a sender puts together, no byte that a program reads is a key, except those
//! of our own frame.

use super::*;
use crate::prng::Prng;
use crate::words;

/// How many bodies for each kind of terminal.
const BODIES: u64 = 3000;
const OPEN: &str = "\x1b[200~";
const CLOSE: &str = "\x1b[201~";

/// What bodies are put together from, besides single controls and halves of the marks.
const PARTS: [&str; 54] = [
    "touch x",
    "42",
    " ",
    "\\",
    "@READ",
    "/",
    "!",
    "\r",
    "\r\n",
    "\n",
    "\t",
    "\x1b",
    "\x1b[",
    "\x1b]",
    "\x1bP",
    "\x1b_",
    "\x1b^",
    "\x1bX",
    "\x1bO",
    "\x1bN",
    "\x1b(",
    "\x1b\\",
    "\x1bc",
    "[",
    "]",
    "0;",
    "~",
    "200~",
    "201~",
    "\u{9b}",
    "\u{9d}",
    "\u{90}",
    "\u{9c}",
    OPEN,
    CLOSE,
    "\u{9b}201~",
    "\u{202e}",
    "\u{2066}",
    "\u{2069}",
    "\u{2028}",
    "\u{2029}",
    "\u{200b}",
    "\u{e0041}",
    "\u{e007f}",
    "🏴",
    "\u{200d}",
    "\u{feff}",
    "漢",
    "🦀",
    "e\u{301}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fffd}",
    "\u{10ffff}",
];

fn body(prng: &mut Prng) -> String {
    let mut body = String::new();
    for _ in 0..=prng.below(24) {
        let at = |bound: usize, prng: &mut Prng| prng.below(bound as u64) as usize;
        match prng.below(4) {
            0 => body.extend(char::from_u32(prng.below(0xa1) as u32)),
            1 => {
                let mark = [OPEN, CLOSE][at(2, prng)];
                let (head, tail) = mark.split_at(at(mark.len() + 1, prng));
                body += [head, tail][at(2, prng)];
            }
            _ => body += PARTS[at(PARTS.len(), prng)],
        }
    }
    body
}

/// No key and nothing that is not seen; LF and TAB only where they are text.
fn is_text(written: &str, lines: bool) -> bool {
    let key = |c: char| match c {
        '\n' | '\t' => !lines,
        '\u{2028}' | '\u{2029}' => true,
        c => c.is_control() || words::turns(c),
    };
    !written.contains(key) && words::visible(written) == written
}

/// Gives one body after the other to a program of its own; what was written to each, and the world afterwards.
fn each<P: Program>(
    seed: u64,
    (envelope, greeting): (&str, &[u8]),
    program: impl Fn() -> P,
    judge: impl Fn(&str, &str, &World<P>),
) {
    let mut prng = Prng::new(seed);
    let mut empty = 0;
    for _ in 0..BODIES {
        let body = envelope.to_owned() + &body(&mut prng);
        let mut world = World::ready(program(), greeting);
        world.inject(&body, Mode::Wait);
        world.run(3000);
        let written = world.written().concat();
        if written.is_empty() {
            assert!(
                matches!(world.reported()[..], [AgentReport::Failed(..)]),
                "{body:?}: {:?}",
                world.reports
            );
            empty += 1;
        } else {
            judge(&body, &written, &world);
        }
    }
    assert!(
        empty < BODIES / 4,
        "{empty} bodies had nothing left to type"
    );
}

#[test]
fn no_body_presses_a_key_of_a_program_that_reads_lines() {
    each(
        1,
        ("", b""),
        || Lines,
        |body, written, _| {
            let text = written.strip_suffix('\r').expect("Enter");
            assert!(is_text(text, true), "{body:?} became {written:?}");
        },
    );
}

#[test]
fn no_body_presses_a_key_of_a_raw_program() {
    each(
        2,
        ("", b""),
        || Parrot,
        |body, written, _| {
            let text = written.strip_suffix('\r').expect("Enter");
            assert!(is_text(text, false), "{body:?} became {written:?}");
        },
    );
}

#[test]
fn no_body_leaves_its_paste() {
    // Its letters are what a composer's picture is searched for; nothing else may be left of such a body.
    let envelope = "Relay message from eve [ws / m1]: ";
    each(
        3,
        (envelope, COMPOSER),
        Composer::default,
        |body, written, world| {
            let text = written
                .strip_prefix(OPEN)
                .and_then(|rest| rest.strip_suffix('\r')?.strip_suffix(CLOSE))
                .unwrap_or_else(|| panic!("{body:?} became {written:?}; {:?}", world.reports));
            assert!(is_text(text, true), "{body:?} became {written:?}");
            assert_eq!(world.program.submitted, [text], "{body:?}");
            assert_eq!(text.trim_end(), words::sanitise(body).trim_end());
            assert!(world.program.draft.is_empty() && world.program.stash.is_empty());
        },
    );
}

#[test]
fn no_body_is_more_than_one_line_to_what_runs_every_line() {
    let one_line = |greeting| {
        let mut world = World::ready(Parrot, greeting);
        world.core.profile = Profiles::default().by_command(&["bash".into()]);
        world.inject("one\n\ttouch x\r\u{2028}touch y", Mode::Wait);
        world.run(1000);
        world.written().concat()
    };
    let line = "one  touch x  touch y";
    assert_eq!(one_line(b""), format!("{line}\r"));
    assert_eq!(one_line(COMPOSER), format!("{OPEN}{line}{CLOSE}\r"));
    let mut world = World::ready(Lines, b"");
    world.core.profile = Profiles::default().by_command(&["bash".into()]);
    world.inject("one\n\ttouch x", Mode::Wait);
    world.run(1000);
    assert_eq!(world.written(), ["one  touch x\r"]);
}
