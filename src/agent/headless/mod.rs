//! An agent without a terminal: its program reads messages from a pipe and tells on another what it does about them. One
//! core for all such programs, and a dialect for each kind. Pure, driven by `agent::pipe_actor`.

mod claude;
pub mod core;
mod dialect;
mod lines;
mod opencode;

pub use self::opencode::without_session;
