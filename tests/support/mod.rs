//! What several test modules share. One submodule per line. Each test binary uses a part of it.

#![allow(dead_code, unused_imports)]

mod program; // the real program as child processes
mod scratch; // folders that go away
mod scripted; // an engine that does as it is told

pub use program::{Engine, Node, Process, command, http, run, script, signal, try_http, until};
pub use scratch::{Scratch, fixture};
pub use scripted::{Asked, KEY, Link, Scripted, Upgrade, created, refused};
