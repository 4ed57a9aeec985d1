//! Durations counted into buckets, by whoever has them, while others read. Neither ever waits for the other: each bucket is
//! one atomic number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of the buckets, in microseconds: from what memory takes to what people wait for.
pub const BOUNDS_US: [u64; 16] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
];

/// See the module.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bound, not cumulative, and one for all that is longer.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// What a [`Histogram`] held at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramView {
    /// For each bound how many were not longer, in order.
    pub up_to: [u64; BOUNDS_US.len()],
    /// How many there were.
    pub count: u64,
    /// All of them together, in seconds.
    pub sum_secs: f64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted so far. Buckets and count agree with each other; the sum may be ahead of them by what is counted
    /// meanwhile.
    pub fn view(&self) -> HistogramView {
        let mut count = 0;
        let mut up_to = [0; BOUNDS_US.len()];
        for (bucket, sum) in self.buckets.iter().zip(&mut up_to) {
            count += bucket.load(Ordering::Relaxed);
            *sum = count;
        }
        count += self.buckets[BOUNDS_US.len()].load(Ordering::Relaxed);
        HistogramView {
            up_to,
            count,
            sum_secs: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_counted_once_in_the_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for us in [0, 100, 101, 1_000, 2_000_000, 10_000_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let view = histogram.view();
        assert_eq!(view.count, 6);
        assert_eq!(view.up_to[0], 2, "the bound is inside");
        assert_eq!(view.up_to[1], 3);
        assert_eq!(view.up_to[3], 4);
        assert_eq!(view.up_to[BOUNDS_US.len() - 1], 5);
        assert!((view.sum_secs - 10_002.001_201).abs() < 1e-6, "{view:?}");
    }
}
