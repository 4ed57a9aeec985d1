//! Pictures before and after a text was typed.

use super::*;
use crate::msg::Size;

fn screen(text: &str) -> Screen {
    let mut screen = Screen::new(Size { rows: 12, cols: 30 });
    screen.feed(text.as_bytes());
    screen
}

fn seen(before: &str, after: &str, message: &str) -> Drawn {
    let key = MessageTail::of(message).expect("letters");
    let was = Before::of(&screen(before), &key, message);
    was.compare(&screen(after), &key)
}

const MESSAGE: &str = "Relay message from bob [ws / evt_42]: please look, now!";

#[test]
fn a_draft_is_found_however_it_is_wrapped() {
    let prompt = "welcome\r\n> ";
    assert_eq!(seen(prompt, prompt, MESSAGE), Drawn::No);
    assert_eq!(
        seen(prompt, &format!("{prompt}{MESSAGE}"), MESSAGE),
        Drawn::Cursor
    );
    let boxed = "╭────╮\r\n│ > Relay message from bob │\r\n│   [ws / evt_42]: please  │\r\n│   look, now! │\x1b[4;16H";
    assert_eq!(seen(prompt, boxed, MESSAGE), Drawn::Cursor);
    let cursor_parked = format!("{boxed}\x1b[4;2H");
    assert_eq!(seen(prompt, &cursor_parked, MESSAGE), Drawn::Row);
}

#[test]
fn a_placeholder_counts_only_if_it_is_new() {
    let old = "[Pasted text #1 +40 lines]\r\n> ";
    assert_eq!(seen(old, old, MESSAGE), Drawn::No);
    assert_eq!(
        seen(old, &format!("{old}[Pasted text #2 +40 lines]"), MESSAGE),
        Drawn::Row
    );
    assert_eq!(
        seen(old, &format!("{old}[Pasted text #1 +40 lines]"), MESSAGE),
        Drawn::Row
    );
}

#[test]
fn an_earlier_message_with_the_same_words_is_not_taken_for_the_draft() {
    let transcript =
        format!("{MESSAGE}\r\n\r\nDo you want to proceed?\r\n> 1. Yes\r\n  2. No\x1b[5;3H");
    assert_eq!(seen(&transcript, &transcript, MESSAGE), Drawn::No);
}

/// A dialog takes the paste, and the picture stays as it was.
#[test]
fn an_earlier_message_of_the_same_phrase_over_and_over_is_not_taken_for_the_draft() {
    let phrase = "lorem ipsum dolor sit amet";
    let message = format!("m=2; {phrase} {phrase} {phrase}");
    for rows in 3..=9 {
        let picture = format!("{phrase}\r\n").repeat(rows) + "> ";
        assert_eq!(seen(&picture, &picture, &message), Drawn::No, "{rows}");
    }
}

#[test]
fn a_submitted_message_in_the_transcript_is_no_longer_the_draft() {
    let after = format!("> {MESSAGE}\r\n\r\n─────\r\n> ");
    assert_eq!(seen("> ", &after, MESSAGE), Drawn::Near);
}

#[test]
fn messages_without_latin_letters_are_found_too() {
    assert_eq!(seen("> ", "> 你好，世界", "你好，世界"), Drawn::Cursor);
    assert_eq!(seen("> ", "> 🦀🦀", "🦀🦀"), Drawn::Cursor);
    assert_eq!(MessageTail::of(" \t\n"), None);
}
