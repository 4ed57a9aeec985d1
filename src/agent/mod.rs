//! One agent: a program in a terminal, or behind pipes, and the thread that types to it and listens. The parts that think
//! are pure ([`core`] and what it asks); [`pty`] and the actor touch the operating system. Never talks to the dispatcher
//! except by reports, and never to another agent.

mod activity;
mod actor;
pub mod core;
pub mod dialog;
mod draft;
mod drawn;
pub mod driver;
pub mod exec;
mod gate;
mod given_tools;
pub mod headless;
pub mod hint;
pub mod hook;
mod inject;
mod interrupt;
mod keys;
mod known_dialogs;
pub mod landed_note;
mod pipe_actor;
mod pipes;
pub mod profile;
pub mod profiles;
pub mod prompt;
pub mod proof;
pub mod pty;
mod ready;
pub mod repl;
mod restored;
pub mod running;
pub mod runs;
mod seen_note;
mod start;
mod transcript;
pub mod tty_state;
mod verify;

pub use start::{Grounds, start};
