//! What several test modules share. One submodule per line.

mod program; // the real program as child processes
mod scratch; // folders that go away

pub use program::{Engine, Node, Process, run, signal, until};
pub use scratch::{Scratch, fixture};
