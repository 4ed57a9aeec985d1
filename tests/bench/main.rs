//! How fast a message goes through the broker: the release binary, a minimal engine on loopback, agents in real terminals.
//! Everything is quoted beside what one fdatasync takes in the same file system in the same moments, and measured once more
//! with 10 ms added to each fdatasync of the broker. All times are CLOCK_MONOTONIC of one machine.

mod agent;
mod api;
mod beside;
mod disk;
mod engine;
mod node;
mod recording;
mod report;
mod tools;

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use disk::{Delay, Disk};
use node::{Agents, Node};
use report::{Figures, Run};
use tools::ToolServer;

/// Messages of a single-message figure.
const SINGLES: usize = 500;
/// Messages of a burst, and how many bursts.
const BURST: usize = 1000;
const BURSTS: usize = 5;
/// The same with a delay: each takes its time.
const DELAYED_SINGLES: usize = 50;
const DELAYED_BURSTS: usize = 1;
/// How often a broker is started in an empty folder.
const COLD_STARTS: usize = 21;
/// How often the local API is asked while a message waits.
const ANSWERS: usize = 1000;
/// How often a tool server is started.
const TOOL_SERVERS: usize = 101;
/// Before each single message, so that nothing of the one before is still going on.
const PAUSE: Duration = Duration::from_millis(3);

/// CLOCK_MONOTONIC in nanoseconds, the same in every process.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (secs, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    secs * 1_000_000_000 + nanos
}

const HELP: &str = "\
Usage: scripts/bench [--json] [--dir DIR] [--delay MS | --no-delay]
  --json      one JSON object instead of tables
  --dir DIR   where the state folders are made [default: in the target folder]
  --delay MS  how much the second run adds to each fdatasync [default: 10]
  --no-delay  only the first run
  --beside PROGRAM
              another build of the program instead, each in turn: what it takes of what this one takes
  --recording only what it costs to record what an agent prints";

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["agent", log, "slow"] => agent::crawl(Path::new(log)),
        ["agent", log, terminal] => agent::run(Path::new(log), *terminal == "raw"),
        ["sync", file] => {
            println!("{}", Disk::open(Path::new(file), None)?.one()?);
            Ok(())
        }
        _ => measure(&words),
    }
}

struct Options {
    json: bool,
    dir: PathBuf,
    delay: Option<Duration>,
    beside: Option<PathBuf>,
    recording: bool,
}

fn options(words: &[&str]) -> Result<Options, String> {
    let mut options = Options {
        json: false,
        dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        delay: Some(Duration::from_millis(10)),
        beside: None,
        recording: false,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            // Cargo says so to every benchmark.
            "--bench" => {}
            "--json" => options.json = true,
            "--recording" => options.recording = true,
            "--no-delay" => options.delay = None,
            "--dir" => options.dir = words.next().ok_or(HELP)?.into(),
            "--beside" => options.beside = Some(words.next().ok_or(HELP)?.into()),
            "--delay" => {
                let millis = words.next().and_then(|text| text.parse().ok());
                options.delay = Some(Duration::from_millis(millis.ok_or(HELP)?));
            }
            _ => return Err(HELP.to_owned()),
        }
    }
    Ok(options)
}

fn measure(words: &[&str]) -> io::Result<()> {
    let options = match options(words) {
        Ok(options) => options,
        Err(help) => {
            println!("{help}");
            return Ok(());
        }
    };
    let folder = options
        .dir
        .join(format!("relay-broker-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let table = match &options.beside {
        Some(other) => Some(beside::table(&folder, other)),
        None => options.recording.then(|| recording::table(&folder)),
    };
    if let Some(table) = table {
        let _ = std::fs::remove_dir_all(&folder);
        print!("{}", table?);
        return Ok(());
    }
    let measured = runs(&folder, options.delay);
    let _ = std::fs::remove_dir_all(&folder);
    let runs = measured?;
    if options.json {
        println!("{}", report::json(&runs));
    } else {
        runs.iter().for_each(|run| print!("{}", report::table(run)));
    }
    Ok(())
}

fn runs(folder: &Path, delay: Option<Duration>) -> io::Result<Vec<Run>> {
    let mut runs = vec![run(&folder.join("plain"), None)?];
    if let Some(added) = delay {
        let delay = Delay::build(folder, added)?;
        runs.push(run(&folder.join("delayed"), Some(&delay))?);
    }
    Ok(runs)
}

fn run(folder: &Path, delay: Option<&Delay>) -> io::Result<Run> {
    std::fs::create_dir_all(folder)?;
    let (singles, bursts) = match delay {
        None => (SINGLES, BURSTS),
        Some(_) => (DELAYED_SINGLES, DELAYED_BURSTS),
    };
    let mut disk = Disk::open(&folder.join("fdatasync"), delay)?;
    let starts = if delay.is_none() { COLD_STARTS } else { 0 };
    let cold_start = (0..starts)
        .map(|n| node::cold_start(node::built(), &folder.join(format!("cold-{n}"))))
        .collect::<io::Result<_>>()?;
    let answers = match delay {
        None => api::answers(&folder.join("slow"), ANSWERS)?,
        Some(_) => Vec::new(),
    };
    let tool_server = match delay {
        None => tools::starts(&folder.join("tools"), TOOL_SERVERS)?,
        Some(_) => ToolServer::default(),
    };
    let mut terminals = Vec::new();
    for terminal in ["raw", "line"] {
        let begin = |count: usize| {
            let dir = folder.join(format!("{terminal}-{count}"));
            Node::start(&dir, delay, Agents { count, terminal })
        };
        let mut node = begin(1)?;
        let Singles {
            fdatasync,
            read,
            ack,
        } = one_at_a_time(&mut node, &mut disk, singles)?;
        let burst_one = node.bursts(BURST, bursts)?;
        drop(node);
        let burst_ten = begin(10)?.bursts(BURST, bursts)?;
        terminals.push(Figures {
            terminal,
            fdatasync,
            read,
            ack,
            burst_one,
            burst_ten,
        });
    }
    Ok(Run {
        added: delay.map(|delay| delay.added),
        cold_start,
        answers,
        tool_server,
        terminals,
    })
}

/// Nanoseconds of single messages, and of the disk between them: other work on the machine changes it from second to
/// second, so that the two can only be compared when they take turns.
struct Singles {
    fdatasync: Vec<u64>,
    /// From a frame's first byte leaving to its line's last byte being readable.
    read: Vec<u64>,
    /// To its acknowledgement.
    ack: Vec<u64>,
}

fn one_at_a_time(node: &mut Node, disk: &mut Disk, count: usize) -> io::Result<Singles> {
    let mut singles = Singles {
        fdatasync: Vec::new(),
        read: Vec::new(),
        ack: Vec::new(),
    };
    for _ in 0..count {
        singles.fdatasync.push(disk.one()?);
        thread::sleep(PAUSE);
        let (sent, acked, read_at) = node.one()?;
        singles.read.push(read_at.saturating_sub(sent));
        singles.ack.push(acked.saturating_sub(sent));
    }
    Ok(singles)
}
