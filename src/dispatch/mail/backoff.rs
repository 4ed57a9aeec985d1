//! How soon after one message the next may be typed: at once, unless typing lately failed
//! ([local-api 4.2](crate::docs::local_api#4.2)). A terminal that takes its messages is never slowed down.

use std::time::Duration;

use crate::time::{Mono, Now};

/// The pause after each further failure.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
    Duration::from_millis(5000),
];
/// So many successes in a row halve the pause.
const STREAK: u32 = 3;

/// One agent's backoff.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause: Duration,
    streak: u32,
    /// Nothing is typed before.
    pub(super) until: Option<Mono>,
}

impl Backoff {
    /// Typing failed.
    pub(super) fn failed(&mut self, now: Now) {
        let longer = PAUSES.iter().find(|pause| **pause > self.pause);
        self.pause = *longer.unwrap_or(&PAUSES[PAUSES.len() - 1]);
        self.streak = 0;
        self.rest(now);
    }

    /// A message was seen to arrive.
    pub(super) fn verified(&mut self, now: Now) {
        self.streak += 1;
        if self.streak >= STREAK {
            self.streak = 0;
            self.pause /= 2;
            if self.pause < PAUSES[0] {
                self.pause = Duration::ZERO;
            }
        }
        self.rest(now);
    }

    /// A message was typed and nothing was seen: no reason to slow down, and none to speed up.
    pub(super) fn unverified(&mut self, now: Now) {
        self.streak = 0;
        self.rest(now);
    }

    fn rest(&mut self, now: Now) {
        self.until = (!self.pause.is_zero()).then(|| now.mono + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(backoff: &Backoff) -> u64 {
        let until = backoff.until.map_or(Duration::ZERO, |at| at.since(Mono(0)));
        u64::try_from(until.as_millis()).expect("seconds")
    }

    /// D4: an unverified delivery is no failure.
    #[test]
    fn a_healthy_terminal_is_never_slowed_down() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.verified(Now::default());
            backoff.unverified(Now::default());
            assert_eq!(backoff.until, None);
        }
    }

    /// D4: an unverified delivery breaks the streak of verified ones.
    #[test]
    fn failures_slow_it_down_and_three_successes_in_a_row_halve_the_pause() {
        let (mut backoff, now) = (Backoff::default(), Now::default());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            backoff.failed(now);
            pauses.push(pause(&backoff));
        }
        assert_eq!(pauses, [200, 500, 1000, 2000, 5000, 5000]);
        backoff.verified(now);
        backoff.verified(now);
        assert_eq!(pause(&backoff), 5000);
        backoff.unverified(now);
        backoff.verified(now);
        backoff.verified(now);
        assert_eq!(pause(&backoff), 5000, "something unseen breaks the streak");
        backoff.verified(now);
        assert_eq!(pause(&backoff), 2500);
        for _ in 0..12 {
            backoff.verified(now);
        }
        assert_eq!(backoff.until, None, "recovered");
    }
}
