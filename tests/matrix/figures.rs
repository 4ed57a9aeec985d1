//! How long a node is away after its link or its engine was: measured, not judged, because a time says as much about the
//! machine as about the program. Both are seen from outside and therefore a little too long, by a look at the node's events.

use std::time::{Duration, Instant};

use crate::world::World;

const DROPS: usize = 20;
const OUTAGES: usize = 5;
const OUTAGE: Duration = Duration::from_secs(5);

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what}: median {median:.0?}, most {most:.0?} of {}",
        times.len()
    );
}

#[test]
#[ignore = "measures; run it alone, in release"]
fn figures() {
    for age in [None, Some("5.0.1"), Some("6.0.3"), Some("8.2"), Some("9.0")] {
        let name = age.unwrap_or("as it comes");
        let mut world = World::of(age);
        let nodes = [world.node("one")];
        world.keeper(&nodes[0], "a0");
        let drops = (0..DROPS).map(|_| {
            let begun = Instant::now();
            world.cut(&nodes);
            begun.elapsed()
        });
        let drops = drops.collect();
        show(&format!("engine {name}, link cut to registered"), drops);
        let outages = (0..OUTAGES).map(|_| {
            world.stop();
            std::thread::sleep(OUTAGE);
            let back = Instant::now();
            world.resume(&nodes);
            back.elapsed()
        });
        let outages = outages.collect();
        show(
            &format!("engine {name}, away 5 s, start to registered"),
            outages,
        );
    }
}
