//! The claim of whoever started a broker for itself: renewed as long as that one lives
//! ([local-api 1.3](crate::docs::local_api#1.3)). Knows no clock; whoever asks says when.

use std::time::Duration;

use parking_lot::Mutex;

use crate::time::Mono;

/// How long a broker stays after its owner was heard of last; clients renew every 60 s.
pub const LEASE: Duration = Duration::from_secs(120);

/// One broker's lease.
#[derive(Debug)]
pub struct Lease {
    span: Duration,
    ends: Mutex<Mono>,
}

impl Lease {
    /// Begins now.
    pub fn new(span: Duration, now: Mono) -> Self {
        Self {
            span,
            ends: Mutex::new(now + span),
        }
    }

    /// Begins anew; says how long it lasts from here. One that is over, and was not looked at yet, lives again.
    pub fn renew(&self, now: Mono) -> Duration {
        let mut ends = self.ends.lock();
        *ends = (*ends).max(now + self.span);
        self.span
    }

    /// Whether nobody renewed it in time.
    pub fn is_over(&self, now: Mono) -> bool {
        now >= *self.ends.lock()
    }

    /// How often to look: ten seconds, for the usual one.
    pub fn every(&self) -> Duration {
        self.span / 12
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Mono {
        Mono(0) + Duration::from_secs(secs)
    }

    #[test]
    fn a_lease_that_is_renewed_goes_on_and_one_that_is_not_ends_after_two_minutes() {
        let lease = Lease::new(LEASE, at(5));
        assert!(!lease.is_over(at(124)));
        assert!(lease.is_over(at(125)));
        assert_eq!(lease.renew(at(65)), LEASE);
        assert!(!lease.is_over(at(184)));
        assert!(lease.is_over(at(185)));
        assert_eq!(lease.every(), Duration::from_secs(10));
    }

    #[test]
    fn a_renewal_that_comes_late_to_be_counted_takes_no_time_away() {
        let lease = Lease::new(LEASE, at(0));
        lease.renew(at(60));
        lease.renew(at(30));
        assert!(!lease.is_over(at(179)));
    }
}
