//! Whether a program works or rests, by its own signs: the title of its window, a status sequence, a progress report.
//! Programs that give none have none; silence is judged elsewhere. Decides nothing.

use crate::screen::Told;
use crate::time::Mono;

/// What a program says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// A turn runs.
    Busy,
    /// It waits for somebody.
    Idle,
}

/// What a program said last, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub sign: Activity,
    pub at: Mono,
    /// By its title, which a newer version may draw in a way that says nothing to us.
    pub by_title: bool,
}

/// What a program that works shows on its screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnScreen {
    /// Escape interrupts it.
    Works,
    /// Another Escape does.
    AsksAgain,
}

/// What the screen says of a program that works. Dialogs, too, have an "esc to cancel", but not in brackets.
const WORKS: [&str; 5] = [
    "esc to interrupt",
    "esc interrupt",
    "(esc to cancel",
    "esc to cancel)",
    "escape to interrupt",
];
const ASKS_AGAIN: &str = "esc again to interrupt";

/// What rows of the screen say of a program that works; `None` if they do not say that it does.
pub fn on_screen(rows: &[String]) -> Option<OnScreen> {
    if rows.iter().any(|row| row.contains(ASKS_AGAIN)) {
        return Some(OnScreen::AsksAgain);
    }
    let works = |row: &String| WORKS.iter().any(|words| row.contains(words));
    rows.iter().any(works).then_some(OnScreen::Works)
}

/// What one sequence says; `None` if it is about something else. Measured on Claude Code, Codex and Gemini CLI
/// ([injection 6](crate::docs::injection#6)).
pub fn of(told: &Told) -> Option<Activity> {
    match told {
        Told::Title(Some('✳' | '◇')) | Told::Progress(false) => Some(Activity::Idle),
        // Braille, or circles that fill and turn.
        Told::Title(Some(
            '✦' | '\u{2800}'..='\u{28ff}' | '\u{25d0}'..='\u{25d7}' | '\u{25dc}'..='\u{25df}',
        ))
        | Told::Progress(true) => Some(Activity::Busy),
        Told::Title(_) => None,
        Told::Status(status) => {
            let mut fields = status.split(':');
            match fields.find_map(|field| field.strip_prefix("state=")) {
                Some("working") => Some(Activity::Busy),
                Some("idle" | "done") => Some(Activity::Idle),
                _ => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_and_states_of_known_clis_say_whether_they_work() {
        for (told, sign) in [
            (Told::Title(Some('⠂')), Some(Activity::Busy)),
            (Told::Title(Some('◐')), Some(Activity::Busy)),
            (Told::Title(Some('◑')), Some(Activity::Busy)),
            (Told::Title(Some('✳')), Some(Activity::Idle)),
            (Told::Title(Some('p')), None),
            (Told::Title(None), None),
            (
                Told::Status("state=working:app=codex".into()),
                Some(Activity::Busy),
            ),
            (
                Told::Status("app=codex:state=done".into()),
                Some(Activity::Idle),
            ),
            (Told::Status("state=dreaming".into()), None),
        ] {
            assert_eq!(of(&told), sign, "{told:?}");
        }
    }
}
