//! Where the cursor stands, and how a program saves it.

use super::settings::Charsets;

/// Row and column from 1. After a full row the emulator's cursor stands beyond the edge; a real one does not.
pub(super) fn position(screen: &vt100::Screen) -> (u16, u16) {
    let (row, col) = screen.cursor_position();
    let (rows, cols) = screen.size();
    (row.min(rows.get() - 1) + 1, col.min(cols.get() - 1) + 1)
}

/// A cursor as DECSC saves it.
#[derive(Clone, Debug)]
pub(super) struct SavedCursor {
    pub(super) row: u16,
    pub(super) col: u16,
    pub(super) pen: String,
    pub(super) charsets: Charsets,
    pub(super) origin: bool,
}
