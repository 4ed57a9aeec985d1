//! Which modes the program switched on. Decides nothing; the injector and attached terminals do.

use std::fmt::Write;

/// Modes of a terminal that others act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// DECSET 2004: pasted text comes between marks.
    pub bracketed_paste: bool,
    /// DECSET 1049 or 47: a full-screen program.
    pub alternate_screen: bool,
    /// DECSET 1: cursor keys send `ESC O`.
    pub application_cursor: bool,
    /// Any of the mouse modes 9, 1000, 1002, 1003.
    pub mouse: bool,
    /// DECRST 25.
    pub cursor_hidden: bool,
}

impl Modes {
    /// Those of an emulator.
    pub(super) fn of(screen: &vt100::Screen) -> Self {
        Self {
            bracketed_paste: screen.bracketed_paste(),
            alternate_screen: screen.alternate_screen(),
            application_cursor: screen.application_cursor(),
            mouse: screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None,
            cursor_hidden: screen.hide_cursor(),
        }
    }

    /// Sequences that switch a fresh terminal into these modes; the exact mouse mode is not among them.
    pub(super) fn as_sequences(self) -> String {
        let mut text = String::new();
        for (on, mode) in [
            (self.alternate_screen, "?1049h"),
            (self.bracketed_paste, "?2004h"),
            (self.application_cursor, "?1h"),
            (self.cursor_hidden, "?25l"),
        ] {
            if on {
                // Writing to a String cannot fail.
                let _ = write!(text, "\x1b[{mode}");
            }
        }
        text
    }
}
