//! The figures as a table, each beside its target and the disk's own, and as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::node::Bursts;
use crate::tools::ToolServer;

/// One kind of terminal. Times in nanoseconds.
pub struct Figures {
    pub terminal: &'static str,
    /// Of the disk alone.
    pub fdatasync: Vec<u64>,
    pub read: Vec<u64>,
    pub ack: Vec<u64>,
    pub burst_one: Bursts,
    pub burst_ten: Bursts,
}

/// Everything measured on one disk.
pub struct Run {
    /// Added to each fdatasync.
    pub added: Option<Duration>,
    /// Nanoseconds of starts in an empty folder, to `node.register`; none with a delay.
    pub cold_start: Vec<u64>,
    /// Nanoseconds of the local API's answers while a long message waits for a slow reader; none with a delay.
    pub answers: Vec<u64>,
    /// Starts of an agent's tool server; none with a delay.
    pub tool_server: ToolServer,
    pub terminals: Vec<Figures>,
}

/// One figure and what it should be.
struct Row {
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// How many fdatasyncs fit into it; for a rate, into one message. Not a number for what takes no time.
    syncs: f64,
    /// `None` where a target makes no sense.
    target: Option<(f64, String)>,
}

impl Row {
    fn passes(&self) -> Option<bool> {
        let (limit, _) = self.target.as_ref()?;
        Some(if self.unit == "/s" {
            self.value >= *limit
        } else {
            self.value <= *limit
        })
    }

    fn line(&self) -> String {
        let value = match self.unit {
            "ms" => format!("{:.3} ms", self.value),
            unit => format!("{:.0} {unit}", self.value),
        };
        let target = self.target.as_ref().map_or("", |(_, text)| text);
        let word = match self.passes() {
            Some(true) => "pass",
            Some(false) => "MISS",
            None => "",
        };
        let syncs = match self.syncs.is_nan() {
            true => String::new(),
            false => format!("{:.2}", self.syncs),
        };
        let line = format!(
            "{:<32} {value:>12} {syncs:>12}  {target:<32} {word}",
            self.what
        );
        line.trim_end().to_owned() + "\n"
    }
}

fn rows(run: &Run, figures: &Figures) -> Vec<Row> {
    let sync = percentile(&figures.fdatasync, 50);
    // With a delay, rates and the fixed limit would say more about the delay than about the broker.
    let real = run.added.is_none();
    let time = |what, times: &[u64], p, target| {
        let value = percentile(times, p);
        Row {
            what,
            value,
            unit: "ms",
            syncs: value / sync,
            target,
        }
    };
    let limit = |syncs: f64, more: f64| {
        let text = format!("at most {syncs:.0} fdatasyncs + {more} ms");
        Some((syncs * sync + more, text))
    };
    let rate = |what, bursts: &Bursts, least: f64| {
        let value = median(&bursts.rates);
        Row {
            what,
            value,
            unit: "/s",
            syncs: 1000.0 / value / sync,
            target: real.then(|| (least, format!("at least {least:.0} /s"))),
        }
    };
    let cpu = |what, bursts: &Bursts| {
        let value = bursts.cpu_us?;
        Some(Row {
            what,
            value,
            unit: "us",
            syncs: value / 1000.0 / sync,
            target: None,
        })
    };
    let fixed = real.then(|| (6.0, "at most 6 ms".to_owned()));
    let mut rows = vec![
        time("to readable, p50", &figures.read, 50, limit(3.0, 0.5)),
        time("to readable, p99", &figures.read, 99, fixed),
        time("to delivery.ack, p50", &figures.ack, 50, limit(5.0, 1.0)),
        time("to delivery.ack, p99", &figures.ack, 99, None),
        rate("burst of 1,000 to one agent", &figures.burst_one, 1000.0),
        rate("burst of 1,000 to ten agents", &figures.burst_ten, 5000.0),
    ];
    rows.extend(cpu("  broker's CPU a message, one", &figures.burst_one));
    rows.extend(cpu("  broker's CPU a message, ten", &figures.burst_ten));
    rows
}

/// What is measured once: from `up` in an empty folder to the engine's sight of `node.register`, and how long the local API
/// takes to answer while a program hardly reads.
fn once(run: &Run) -> Vec<Row> {
    let Some(first) = run.terminals.first() else {
        return Vec::new();
    };
    let row = |what, times: &[u64], p, most: Option<f64>| {
        let value = percentile(times, p);
        (!times.is_empty()).then(|| Row {
            what,
            value,
            unit: "ms",
            syncs: value / percentile(&first.fdatasync, 50),
            target: most.map(|most| (most, format!("at most {most} ms"))),
        })
    };
    let tools = &run.tool_server;
    let answer = "API answer, 20 KB unread, p99";
    [
        row(
            "cold start to node.register, p50",
            &run.cold_start,
            50,
            Some(15.0),
        ),
        row(answer, &run.answers, 99, Some(50.0)),
        row(
            "mcp to its first answer, p50",
            &tools.answered,
            50,
            Some(15.0),
        ),
        row("  an empty process, p50", &tools.empty, 50, None),
        memory(&tools.pss_kib),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The memory of a tool server beside its broker, each page by its share.
#[allow(clippy::cast_precision_loss)] // far below where it matters
fn memory(pss_kib: &[u64]) -> Option<Row> {
    let kib: Vec<f64> = pss_kib.iter().map(|kib| *kib as f64).collect();
    (!kib.is_empty()).then(|| Row {
        what: "  its memory beside the broker's",
        value: median(&kib),
        unit: "KiB",
        syncs: f64::NAN,
        target: Some((4096.0, "at most 4096 KiB (PSS)".to_owned())),
    })
}

/// For people.
pub fn table(run: &Run) -> String {
    let mut text = String::new();
    let once = once(run);
    if !once.is_empty() {
        text.extend(once.iter().map(Row::line));
        text.push('\n');
    }
    for figures in &run.terminals {
        let (p50, p99) = (
            percentile(&figures.fdatasync, 50),
            percentile(&figures.fdatasync, 99),
        );
        let added = run.added.map_or(String::new(), |added| {
            format!(", {} ms of it added", added.as_millis())
        });
        let _ = writeln!(
            text,
            "{} terminal; fdatasync of this disk: p50 {p50:.3} ms, p99 {p99:.3} ms{added}",
            figures.terminal
        );
        let _ = writeln!(
            text,
            "{:<32} {:>12} {:>12}  TARGET",
            "FIGURE", "MEASURED", "FDATASYNCS"
        );
        for row in rows(run, figures) {
            text.push_str(&row.line());
        }
        text.push('\n');
    }
    text
}

/// For programs.
pub fn json(runs: &[Run]) -> Value {
    let row = |row: Row| {
        let (limit, words) = row.target.clone().unzip();
        json!({
            "figure": row.what.trim(), "value": row.value, "unit": row.unit, "fdatasyncs": row.syncs,
            "limit": limit, "target": words, "pass": row.passes(),
        })
    };
    let terminals = runs.iter().flat_map(|run| {
        run.terminals.iter().map(move |figures| {
            json!({
                "terminal": figures.terminal,
                "added_ms": run.added.map(|added| added.as_millis()),
                "fdatasync_p50_ms": percentile(&figures.fdatasync, 50),
                "fdatasync_p99_ms": percentile(&figures.fdatasync, 99),
                "figures": rows(run, figures).into_iter().map(row).collect::<Vec<_>>(),
            })
        })
    });
    let starts = runs.iter().flat_map(once).map(row);
    json!({ "runs": terminals.collect::<Vec<_>>(), "starts": starts.collect::<Vec<_>>() })
}

/// Of nanoseconds, in milliseconds.
#[allow(clippy::cast_precision_loss)] // far below where it matters
fn percentile(times: &[u64], p: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * p / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
