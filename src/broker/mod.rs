//! A broker as a whole: started, asked to leave, waited for. What it is told is in `settings`, its assembly in `start`, and
//! what performs the dispatcher's effects in [`driver`].

mod calls;
mod connection;
pub mod driver;
mod handle;
mod identity;
mod import;
mod keyless;
mod lease;
mod notices;
mod ports;
mod settings;
mod start;
mod start_error;
mod stopwatch;
mod story;

pub use handle::{Broker, Reloader, Stopper};
pub use import::check_free;
pub use keyless::{MADE_WORKSPACE, made_workspace};
pub use notices::{NOTICE_WORDS, NotifySettings};
pub use settings::{NodeSettings, Settings};
pub use start_error::{StartError, lock_exit};
