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

/// The system's monotonic clock in microseconds, which other processes of the machine read alike; 0 where there is none.
pub fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
    u64::try_from(micros).unwrap_or(0)
}
