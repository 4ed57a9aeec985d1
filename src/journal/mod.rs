//! The append-only, checksummed, synced log. Generic over its record: it knows no domain, decides nothing about what is
//! in it, and never loses, changes or invents a record silently. One thread owns a [`Journal`]; [`Lock`] keeps other
//! processes out of its folder.
//!
//! `frame` is the text, `recover` the pure part of opening, `scan` what is in a folder, `writer` the files,
//! `opening` what opening them comes to, `inspect` a look at them from outside, `lock` the lock.

mod date;
#[cfg(test)]
mod fake_disk;
mod frame;
mod inspect;
mod lock;
mod opening;
mod recover;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

pub use frame::VERSION;
pub use inspect::{Entry, JournalVerdict, Look};
pub use lock::{Lock, LockError, Tenant};
pub use opening::{Damage, Emptied, OpenError, Recovery};
pub use writer::{Journal, Opened, Options};
