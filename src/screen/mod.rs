//! Bytes to a picture of the terminal: what is drawn, where the cursor stands, which modes are on, and the answers a
//! program expects to its questions. Owns the emulator; never reads a descriptor or a clock. A panic of the emulator
//! resets the picture and kills nobody. Agents' cores call it, one screen each.

mod answers;
mod cursor;
mod emulator;
mod joined;
pub mod keys;
mod modes;
mod picture;
mod plain_lines;
mod questions;
mod replay;
mod scanner;
mod settings;
pub mod utf8;

pub use emulator::{Screen, Told};
pub use joined::first_parts;
pub use modes::Modes;
pub use picture::{Cells, Nearby};
pub use plain_lines::PlainLines;
pub use questions::Unasked;
pub use settings::TerminalSettings;
