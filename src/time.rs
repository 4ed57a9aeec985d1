//! Time as plain numbers, so that a simulation can make it up. Only `sys::clock` reads the real clocks.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds on a clock that only goes forward; its zero is arbitrary and differs per process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// The time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, more: Duration) -> Mono {
        Mono(
            self.0
                .saturating_add(u64::try_from(more.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// Milliseconds since 1970 UTC, as the machine believes. For people and for the wire, never for deadlines.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Wall(pub u64);

/// A time in milliseconds, the unit of everything that crosses a socket or lies on disk.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Wall {
    /// `2026-06-28T10:00:00.000Z`, the form all engine messages use
    /// ([engine-protocol 1.4](crate::docs::engine_protocol#1.4)).
    pub fn iso(self) -> String {
        let at = std::time::UNIX_EPOCH + Duration::from_millis(self.0.min(253_402_300_799_999));
        humantime::format_rfc3339_millis(at).to_string()
    }
}

impl Add<Duration> for Wall {
    type Output = Wall;
    fn add(self, more: Duration) -> Wall {
        Wall(self.0.saturating_add(millis(more)))
    }
}

impl Sub for Wall {
    type Output = Duration;
    fn sub(self, earlier: Wall) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks, read once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and durations.
    pub mono: Mono,
    /// For people and the wire.
    pub wall: Wall,
}

/// The earlier of two optional deadlines.
pub fn soonest(a: Option<Mono>, b: Option<Mono>) -> Option<Mono> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_written_as_the_engine_expects() {
        assert_eq!(Wall(1_782_640_800_123).iso(), "2026-06-28T10:00:00.123Z");
    }

    #[test]
    fn soonest_prefers_the_earlier_and_ignores_absent() {
        assert_eq!(soonest(Some(Mono(3)), Some(Mono(2))), Some(Mono(2)));
        assert_eq!(soonest(None, Some(Mono(2))), Some(Mono(2)));
        assert_eq!(soonest(None, None), None);
    }
}
