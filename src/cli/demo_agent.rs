//! The agent of `demo`: a program that knows its terminal and nothing else. It reads a line at a time, writes down every
//! line it reads, shows it, and sometimes answers through the broker it runs under, as any agent would.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use super::args;
use super::context::Context;
use super::failure::Failure;
use crate::sys::{clock, stdio};
use crate::wire::local::SendRequest;

/// Asks an agent to read nothing for a while.
pub const WORK: &str = "work until you are woken";
/// Being busy ends by itself after this.
const WORK_LIMIT: Duration = Duration::from_secs(30);
const WORK_LOOK: Duration = Duration::from_millis(5);
/// Whatever a message asks for, two agents never talk longer than this.
const TURNS_MAX: u32 = 10;

/// `__demo-agent`.
pub fn run(c: &Context, args: &args::DemoAgent) -> Result<(), Failure> {
    let failed =
        |what: &str, e: &dyn std::fmt::Display| Failure::new(format!("demo agent: {what}: {e}"));
    let mut receipts = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.receipts)
        .map_err(|e| failed("cannot open the receipts", &e))?;
    // Without the terminal's own echo, a line is on the screen only once this program has read it.
    let stdin = io::stdin();
    if let Ok(mut modes) = tcgetattr(&stdin) {
        modes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &modes)
            .map_err(|e| failed("cannot set up the terminal", &e))?;
    }
    // Any program may say by itself that it is ready; otherwise the broker waits until it has been quiet for a while.
    say(&format!("{} listens ->pty:ready", args.name));
    let mut buffer = [0; 4096];
    loop {
        // A terminal in line mode gives one line for one read, so nothing is taken before its turn.
        let line = match rustix::io::read(&stdin, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => String::from_utf8_lossy(&buffer[..n]).trim().to_owned(),
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return Ok(()),
        };
        if line.is_empty() {
            continue;
        }
        write_down(&mut receipts, &line).map_err(|e| failed("cannot write a receipt", &e))?;
        say(&line);
        let Some((from, body)) = relay_line(&line) else {
            continue;
        };
        if body == WORK {
            work(&args.wake);
        } else if let Some(answer) = answer(&args.peer, from, body)
            && let Err(e) = send(c, &args.name, &args.peer, answer)
        {
            say(&format!("cannot answer: {e}"));
        }
    }
}

fn say(line: &str) {
    // A terminal that is gone shows at the next read.
    let _ = stdio::output().write_all(format!("{line}\n> ").as_bytes());
}

fn write_down(receipts: &mut File, line: &str) -> io::Result<()> {
    let entry = json!({"at_ms": clock::now().wall.0, "pid": std::process::id(), "line": line});
    receipts.write_all(format!("{entry}\n").as_bytes())
}

/// Sender and words of `Relay message from SENDER [CONTEXT]: WORDS`.
pub fn relay_line(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("Relay message from ")?;
    let (head, body) = rest.split_once("]: ")?;
    let (from, _) = head.split_once(" [")?;
    Some((from, body))
}

fn work(wake: &Path) {
    say("working, reading nothing");
    let begun = clock::now().mono;
    while !wake.exists() && clock::now().mono.since(begun) < WORK_LIMIT {
        std::thread::sleep(WORK_LOOK);
    }
    say("back again");
}

/// What this agent says to its peer, if anything.
fn answer(peer: &str, from: &str, body: &str) -> Option<String> {
    let (said, turns) = match body.strip_prefix("say hello to ") {
        Some(request) => {
            let (_, turns) = request.split_once(" for ")?;
            (0, turns.strip_suffix(" turns")?.parse::<u32>().ok()?)
        }
        None => {
            let (_, count) = body.split_once(", turn ")?;
            let (turn, turns) = count.split_once(" of ")?;
            if from != peer {
                return None;
            }
            (turn.parse::<u32>().ok()?, turns.parse::<u32>().ok()?)
        }
    };
    let more = said < turns.min(TURNS_MAX);
    more.then(|| format!("hello {peer}, turn {} of {turns}", said + 1))
}

fn send(c: &Context, from: &str, to: &str, text: String) -> Result<(), Failure> {
    let request = SendRequest {
        to: to.to_owned(),
        text,
        from: Some(from.to_owned()),
        ..SendRequest::default()
    };
    c.client()?.post("/api/send", &request).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agents_talk_for_as_many_turns_as_asked_and_no_longer() {
        let first = answer("bob", "demo-user", "say hello to bob for 2 turns");
        assert_eq!(first.as_deref(), Some("hello bob, turn 1 of 2"));
        let second = answer("ada", "bob", "hello bob, turn 1 of 2");
        assert_eq!(
            second, None,
            "ada's peer is ada's name here, so the sender is a stranger"
        );
        let second = answer("ada", "ada", "hello bob, turn 1 of 2");
        assert_eq!(second.as_deref(), Some("hello ada, turn 2 of 2"));
        assert_eq!(answer("bob", "bob", "hello ada, turn 2 of 2"), None);
        assert_eq!(answer("bob", "bob", "hello, turn 10 of 99"), None);
        assert_eq!(answer("bob", "bob", "note 1"), None);
    }

    #[test]
    fn the_words_of_a_relay_line_are_found() {
        let line = "Relay message from ada [1901 / 3100]: hello bob, turn 1 of 2";
        assert_eq!(relay_line(line), Some(("ada", "hello bob, turn 1 of 2")));
        assert_eq!(relay_line("something else"), None);
    }
}
