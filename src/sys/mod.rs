//! The operating system behind small types. Everything here may block or fail; nothing here knows what a message is.

pub mod clock;
pub mod disk;
pub mod entropy;
pub mod failpoint;
pub mod histogram;
pub mod limits;
pub mod memory;
pub mod proc;
pub mod process_figures;
pub mod reading;
pub mod reap;
pub mod service_manager;
pub mod session;
pub mod signal;
pub mod socket;
pub mod stdio;
pub mod sysexit;
pub mod thread;
pub mod trust;
pub mod wake;
