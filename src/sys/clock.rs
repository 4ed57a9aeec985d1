//! The only place that asks what time it is.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Mono, Now, Wall};

/// Reads both clocks.
pub fn now() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    // One nanosecond up front keeps `Mono(0)` free for "never".
    let nanos = START.get_or_init(Instant::now).elapsed().as_nanos() + 1;
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis());
    Now {
        mono: Mono(u64::try_from(nanos).unwrap_or(u64::MAX)),
        wall: Wall(u64::try_from(millis).unwrap_or(u64::MAX)),
    }
}
