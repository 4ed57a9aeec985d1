//! How soon the tool server of an agent answers, and what it takes of memory while its broker runs. An empty process is
//! started in turn with it, because the system's share of a start is most of it.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::node::{Agents, Node, built};
use crate::now_ns;

/// What a client says first.
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;

/// Starts of a tool server.
#[derive(Default)]
pub struct ToolServer {
    /// Nanoseconds from its start to its first answer.
    pub answered: Vec<u64>,
    /// Nanoseconds of an empty process, from its start to its end.
    pub empty: Vec<u64>,
    /// KiB of its own and of what it shares by their number with the broker, the same program; none where the system does
    /// not say.
    pub pss_kib: Vec<u64>,
}

/// So many starts, beside one broker with one agent.
///
/// # Errors
/// When it does not start or answer.
pub fn starts(dir: &Path, count: usize) -> io::Result<ToolServer> {
    let agents = Agents {
        count: 1,
        terminal: "raw",
    };
    let _node = Node::start(dir, None, agents)?;
    let mut figures = ToolServer::default();
    for _ in 0..count {
        let begun = now_ns();
        Command::new("/bin/true").status()?;
        figures.empty.push(now_ns() - begun);
        start(dir, &mut figures)?;
    }
    Ok(figures)
}

fn start(dir: &Path, figures: &mut ToolServer) -> io::Result<()> {
    let begun = now_ns();
    let mut server = Command::new(built())
        .arg("--state-dir")
        .arg(dir.join("state"))
        .arg("mcp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (input, output) = (server.stdin.take(), server.stdout.take());
    let (Some(mut input), Some(output)) = (input, output) else {
        return Err(io::Error::other("it has no pipes"));
    };
    writeln!(input, "{HELLO}")?;
    let mut answer = String::new();
    BufReader::new(output).read_line(&mut answer)?;
    figures.answered.push(now_ns() - begun);
    if !answer.contains("serverInfo") {
        return Err(io::Error::other(format!("no answer to hello: {answer:?}")));
    }
    figures.pss_kib.extend(pss_kib(server.id()));
    drop(input);
    server.wait()?;
    Ok(())
}

fn pss_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
