//! Signals as plain messages: one thread blocked in the signal pipe, no wake-ups.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// Blocks until somebody asks the process to leave. The second return is the second signal, which means "now".
pub struct Stops(Signals);

impl Stops {
    /// Takes over TERM, INT, QUIT and HUP. PID 1 has no default actions, so the handlers must be explicit.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP])?))
    }

    /// A handle that ends the waiting from another thread.
    pub fn closer(&self) -> signal_hook::iterator::Handle {
        self.0.handle()
    }

    /// Waits for the next one; `None` once closed.
    pub fn wait(&mut self) -> Option<i32> {
        self.0.forever().next()
    }
}
