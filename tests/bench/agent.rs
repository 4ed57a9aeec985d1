//! The agent that is measured: reads its terminal and notes when the last byte of each message's line could be read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::now_ns;

/// What surrounds a message's number in its text.
const MARK: &str = "@@";

/// What surrounds the number of bytes that an agent is to print.
const FLOOD: &str = "%%";

/// The text of message `n`, about as long as people's and agents' messages are.
pub fn text(n: usize) -> String {
    format!(
        "the build is green again and the branch may be merged now, see the notes {MARK}{n}{MARK}"
    )
}

/// The text that has an agent print so many bytes.
pub fn order(bytes: usize) -> String {
    format!("print {FLOOD}{bytes}{FLOOD} bytes")
}

/// Prints so many bytes, in lines with colours, as a busy program does; how long the terminal took to take them.
fn flood(output: &mut impl Write, bytes: usize) -> io::Result<u64> {
    let line = b"\x1b[32mok\x1b[0m  the quick brown fox jumps over the lazy dog, again and again and again\r\n";
    let lines = line.repeat(50);
    let begun = now_ns();
    for _ in 0..bytes.div_ceil(lines.len()) {
        output.write_all(&lines)?;
    }
    output.flush()?;
    Ok(now_ns() - begun)
}

/// How long the last flood took, once it is over; the note of it is taken away.
pub fn flood_took(log: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(log).ok()?;
    let note = text.lines().find_map(|line| line.strip_prefix(FLOOD))?;
    let took = note.parse().ok()?;
    std::fs::write(log, "").ok()?;
    Some(took)
}

/// Runs until its terminal is closed. In `raw` mode it takes byte by byte and echoes itself, as full-screen programs do;
/// otherwise the kernel collects lines and echoes.
pub fn run(log: &Path, raw: bool) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    if raw {
        let mut modes = tcgetattr(input.as_fd())?;
        modes.make_raw();
        tcsetattr(input.as_fd(), OptionalActions::Now, &modes)?;
    }
    let mut log = File::options().create(true).append(true).open(log)?;
    output.write_all(b"->pty:ready\n")?;
    output.flush()?;
    let (mut chunk, mut line) = (vec![0; 64 * 1024], Vec::new());
    loop {
        let count = input.read(&mut chunk)?;
        let at = now_ns();
        if count == 0 {
            return Ok(());
        }
        if raw {
            output.write_all(&chunk[..count])?;
            output.flush()?;
        }
        for byte in &chunk[..count] {
            if !matches!(byte, b'\n' | b'\r') {
                line.push(*byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            if let Some(bytes) = text.split(FLOOD).nth(1) {
                let took = flood(&mut output, bytes.parse().unwrap_or_default())?;
                log.write_all(format!("{FLOOD}{took}\n").as_bytes())?;
            }
            if let Some(n) = text.split(MARK).nth(1) {
                log.write_all(format!("{n} {at}\n").as_bytes())?;
            }
            line.clear();
        }
    }
}

/// As [`run`], but takes a hundred bytes a second of a raw terminal, and notes only that it has begun.
pub fn crawl(log: &Path) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut modes = tcgetattr(input.as_fd())?;
    modes.make_raw();
    tcsetattr(input.as_fd(), OptionalActions::Now, &modes)?;
    output.write_all(b"->pty:ready\n")?;
    output.flush()?;
    let mut chunk = [0; 100];
    while input.read(&mut chunk)? > 0 {
        std::fs::write(log, "reads\n")?;
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// When message `n` could be read, from an agent's log.
pub fn read_at(log: &Path, n: usize) -> Option<u64> {
    let text = std::fs::read_to_string(log).ok()?;
    text.lines().rev().find_map(|line| {
        let (number, at) = line.split_once(' ')?;
        (number.parse() == Ok(n)).then(|| at.parse().ok())?
    })
}
