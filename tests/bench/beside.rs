//! Two builds of the program, measured in turn in one run: what one takes of what the other takes. Times of one machine
//! change from minute to minute, so only what was measured within the same seconds is compared.

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::thread;

use crate::PAUSE;
use crate::node::{Agents, Node, built, cold_start};

/// How often each has its turn.
const ROUNDS: usize = 7;
/// Of each round.
const STARTS: usize = 5;
const SINGLES: usize = 60;
const BURST: usize = 1000;
const FLOOD_BYTES: usize = 16 * 1024 * 1024;

/// What is measured of a program in one turn, each the less the better.
const FIGURES: [&str; 8] = [
    "cold start, ms",
    "to readable, ms",
    "to delivery.ack, ms",
    "burst, ms for 1,000 messages",
    "burst, CPU us a message",
    "pump, ms for 16 MiB",
    "pump, CPU ms for 16 MiB",
    "own memory after it, KiB",
];

type Turn = [f64; FIGURES.len()];

/// The table of all figures: here, there, and the ratio.
///
/// # Errors
/// When a broker cannot be measured.
pub fn table(folder: &Path, other: &Path) -> io::Result<String> {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        here.push(turn(built(), &folder.join(format!("here-{round}")))?);
        there.push(turn(other, &folder.join(format!("there-{round}")))?);
    }
    let mut text = format!(
        "{:<32} {:>12} {:>12} {:>8}\n",
        "FIGURE (median of 7 turns)", "BUILT HERE", "THE OTHER", "RATIO"
    );
    for (at, figure) in FIGURES.iter().enumerate() {
        let column = |turns: &[Turn]| middle(turns.iter().map(|turn| turn[at]).collect());
        let ratios = here
            .iter()
            .zip(&there)
            .map(|(a, b)| b[at] / a[at])
            .collect();
        let _ = writeln!(
            text,
            "{figure:<32} {:>12.3} {:>12.3} {:>8.2}",
            column(&here),
            column(&there),
            middle(ratios)
        );
    }
    Ok(text)
}

#[allow(clippy::cast_precision_loss)] // far below where it matters
fn turn(program: &Path, folder: &Path) -> io::Result<Turn> {
    let starts = (0..STARTS)
        .map(|n| cold_start(program, &folder.join(format!("cold-{n}"))))
        .collect::<io::Result<Vec<_>>>()?;
    let agents = Agents {
        count: 1,
        terminal: "raw",
    };
    let mut node = Node::start_of(program, &folder.join("node"), None, agents)?;
    let (mut read, mut ack) = (Vec::new(), Vec::new());
    for _ in 0..SINGLES {
        thread::sleep(PAUSE);
        let (sent, acked, read_at) = node.one()?;
        read.push(read_at.saturating_sub(sent));
        ack.push(acked.saturating_sub(sent));
    }
    let bursts = node.bursts(BURST, 1)?;
    let before = node.cpu_ns().unwrap_or_default();
    let pumped = node.flood(FLOOD_BYTES)?;
    let pump_cpu = node.cpu_ns().unwrap_or_default() - before;
    let millis = |ns: u64| ns as f64 / 1e6;
    let middle_of = |times: Vec<u64>| middle(times.into_iter().map(millis).collect());
    Ok([
        middle_of(starts),
        middle_of(read),
        middle_of(ack),
        1e3 * BURST as f64 / bursts.rates[0],
        bursts.cpu_us.unwrap_or(f64::NAN),
        millis(pumped),
        millis(pump_cpu),
        node.resident()
            .map_or(f64::NAN, |bytes| bytes as f64 / 1024.0),
    ])
}

/// The median.
pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
