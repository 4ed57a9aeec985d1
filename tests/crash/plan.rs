//! What a seed means: how often the broker is killed, and when. Knows nothing of processes.

use std::fmt;
use std::time::Duration;

use relay_broker::prng::Prng;
use relay_broker::sys::failpoint;

/// The runs that come first: a few points that carry the most weight, each at a hit in the middle of the burst.
pub const CHOSEN: &[(&str, u64)] = &[
    ("journal.appended", 60),
    ("inject.durable", 40),
    ("agent.wrote", 50),
    ("agent.landed", 30),
    ("agent.noted", 45),
    ("begin.renamed", 4),
];

/// One death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// So long after the start of that life.
    After(Duration),
    /// By its own hand, at a point, when it comes there for the N-th time.
    At(&'static str, u64),
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// One for each life but the last.
    pub kills: Vec<Kill>,
    /// After how many bytes the journal begins a new file.
    pub rotate: Option<u64>,
}

impl Plan {
    /// The plan of a seed, always the same.
    pub fn of(seed: u64) -> Self {
        let index = usize::try_from(seed).unwrap_or(usize::MAX);
        let chosen = CHOSEN.get(index).filter(|_| cfg!(debug_assertions));
        if let Some((point, hit)) = chosen {
            return Self {
                seed,
                kills: vec![Kill::At(point, *hit)],
                rotate: Some(20_000),
            };
        }
        let mut dice = Prng::new(seed);
        let count = 1 + dice.below(3);
        let kills = (0..count).map(|life| kill(&mut dice, life)).collect();
        let rotate = [None, Some(8_000), Some(30_000)];
        let rotate = rotate[usize::try_from(dice.below(3)).unwrap_or(0)];
        Self {
            seed,
            kills,
            rotate,
        }
    }

    /// What the broker is told about its next life.
    pub fn faults(&self, life: usize) -> String {
        let mut faults = Vec::new();
        if let Some(Kill::At(point, hit)) = self.kills.get(life) {
            faults.push(format!("die={point}:{hit}"));
        }
        faults.extend(self.rotate.map(|bytes| format!("rotate={bytes}")));
        faults.join(",")
    }
}

fn kill(dice: &mut Prng, life: u64) -> Kill {
    // A release build knows no points.
    if dice.below(2) == 0 || cfg!(not(debug_assertions)) {
        // Most often while the burst is under way, sometimes during the start.
        return Kill::After(Duration::from_micros(dice.below(600_000)));
    }
    // Before the first life there is nothing to open.
    let open = |point: &str| point.starts_with("open.");
    let points: Vec<_> = failpoint::POINTS
        .iter()
        .filter(|point| life > 0 || !open(point))
        .collect();
    let point = points[usize::try_from(dice.below(points.len() as u64)).unwrap_or(0)];
    let most = match point.split('.').next() {
        Some("open") => 1,
        Some("begin") => 8,
        Some("journal" | "commit") => 120,
        _ => 50,
    };
    Kill::At(point, 1 + dice.below(most))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kills: Vec<_> = self
            .kills
            .iter()
            .map(|kill| match kill {
                Kill::After(time) => format!("after {time:?}"),
                Kill::At(point, hit) => format!("at {point}:{hit}"),
            })
            .collect();
        write!(f, "killed {}", kills.join(", then "))?;
        if let Some(bytes) = self.rotate {
            write!(f, ", a new journal file every {bytes} bytes")?;
        }
        Ok(())
    }
}
