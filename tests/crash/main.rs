//! The program killed in the middle of bursts, at chosen points and at any, until it is certain that nothing is lost,
//! nothing changes its order, and nothing is read twice without being marked. Counts come from what the agents read.
//!
//! `CRASH_RUNS=n` for more runs than the handful, `CRASH_SEED=s` for the first seed, `CRASH_JOBS=j` for how many at once;
//! `scripts/crash` sets them. A run is all in its seed but for the moments at which the system's threads take turns.

mod burst; // who sends what
mod life; // one life of the broker after the other
mod plan; // what a seed means
mod run; // one run from start to verdict
#[path = "../support/mod.rs"]
mod support; // the program as child processes
mod verdict; // what may be said about a run

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use plan::Plan;
use verdict::Tally;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => default,
    }
}

#[test]
fn bursts_survive_kills_with_nothing_lost_reordered_or_doubled_unmarked() {
    let runs = number("CRASH_RUNS", plan::CHOSEN.len() as u64);
    let first = number("CRASH_SEED", 0);
    let jobs = number("CRASH_JOBS", 2).clamp(1, runs.max(1));
    let (next, total, began) = (
        AtomicU64::new(0),
        Mutex::new(Tally::default()),
        Instant::now(),
    );
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= runs {
                return;
            }
            let plan = Plan::of(first + index);
            let tally = std::panic::catch_unwind(|| run::run(&plan)).unwrap_or_else(|_| {
                // The harness has printed what went wrong; this names the run it went wrong in.
                Tally::broken(format!("CRASH_SEED={} {plan}: the run panicked", plan.seed))
            });
            let mut total = total.lock().expect("no worker panics while it counts");
            for violation in &tally.violations {
                eprintln!("{violation}");
            }
            total.add(tally);
            if total.runs % 25 == 0 {
                eprintln!("{:>6.0} s  {total}", began.elapsed().as_secs_f64());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(worker);
        }
    });
    let total = total
        .into_inner()
        .expect("no worker panics while it counts");
    eprintln!("{:>6.0} s  {total}", began.elapsed().as_secs_f64());
    assert!(
        total.violations.is_empty(),
        "first of {}: {}",
        total.violations.len(),
        total.violations[0]
    );
    assert_eq!(total.runs, runs);
    assert!(total.kills > 0, "nobody was killed, so nothing was shown");
}
