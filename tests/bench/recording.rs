//! What recording costs: the same flood of output through one agent, by turns unrecorded, as lines and byte for byte, and
//! what is on the disk afterwards.

use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::beside::middle;
use crate::node::{Agents, Node};

/// How often each form has its turn.
const ROUNDS: usize = 5;
/// How much the agent prints in each.
const FLOOD_BYTES: usize = 200 * 1000 * 1000;
/// The first is what the others are compared with.
const FORMS: [&str; 3] = ["off", "plain", "raw"];

/// One turn of one form.
struct Flood {
    millis: f64,
    cpu_millis: f64,
    /// On the disk afterwards.
    kib: f64,
}

/// The table: each form, and its time beside that of no recording in the same round.
///
/// # Errors
/// When a broker cannot be measured.
pub fn table(folder: &Path) -> io::Result<String> {
    let mut turns: Vec<Vec<Flood>> = FORMS.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for (form, turns) in FORMS.iter().zip(&mut turns) {
            turns.push(turn(form, &folder.join(format!("{form}-{round}")))?);
        }
    }
    let mut text = format!(
        "{:<28} {:>8} {:>10} {:>8} {:>10} {:>9}\n",
        "200 MB (median of 5 turns)", "MS", "OF OFF", "CPU MS", "OF OFF", "DISK KIB"
    );
    for (form, flood) in FORMS.iter().zip(&turns) {
        let column = |value: fn(&Flood) -> f64| middle(flood.iter().map(value).collect());
        let ratio = |value: fn(&Flood) -> f64| {
            let pairs = flood.iter().zip(&turns[0]);
            middle(
                pairs
                    .map(|(with, without)| value(with) / value(without))
                    .collect(),
            )
        };
        let _ = writeln!(
            text,
            "record = {form:<19} {:>8.0} {:>10.3} {:>8.0} {:>10.3} {:>9.0}",
            column(|f| f.millis),
            ratio(|f| f.millis),
            column(|f| f.cpu_millis),
            ratio(|f| f.cpu_millis),
            column(|f| f.kib),
        );
    }
    Ok(text)
}

#[allow(clippy::cast_precision_loss)] // far below where it matters
fn turn(form: &str, folder: &Path) -> io::Result<Flood> {
    std::fs::create_dir_all(folder)?;
    let config = format!("[output]\nrecord = {form:?}\n");
    std::fs::write(folder.join("relay-broker.toml"), config)?;
    let agents = Agents {
        count: 1,
        terminal: "raw",
    };
    let mut node = Node::start(folder, None, agents)?;
    let before = node.cpu_ns().unwrap_or_default();
    let took = node.flood(FLOOD_BYTES)?;
    let cpu = node.cpu_ns().unwrap_or_default() - before;
    drop(node);
    let files = std::fs::read_dir(folder.join("state/recordings/a0"));
    let sizes = files.into_iter().flatten().flatten();
    let bytes: u64 = sizes
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum();
    Ok(Flood {
        millis: took as f64 / 1e6,
        cpu_millis: cpu as f64 / 1e6,
        kib: bytes as f64 / 1024.0,
    })
}
