//! `attach`: the user's terminal joined to an agent's. One loop over keys, the broker's socket and signals; bytes go
//! through untouched both ways, but for the one key that detaches.

use std::io;

use rustix::event::{PollFd, PollFlags};
use serde_json::{Value, json};
use tungstenite::Message;

use super::args;
use super::client::Stream;
use super::failure::Failure;
use super::render::{clean, print};
use super::run::Context;
use super::tty::{self, Raw, Signals};
use crate::net::LinkError;
use crate::net::http::encode;
use crate::net::link::wait;

/// Ctrl-], plain and as the two keyboard protocols write it.
const DETACH: [&[u8]; 4] = [b"\x1d", b"\x1b[93;5u", b"\x1b[93;5:1u", b"\x1b[27;5;93~"];
/// Ctrl-C: while only looking, there is nothing else it could mean than to leave.
const INTERRUPT: u8 = 0x03;

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Detached,
    Signalled,
    Gone,
    Broken(String),
}

/// `attach`.
pub fn attach(c: &Context, args: &args::Attach) -> Result<(), Failure> {
    let (input, output) = tty::present();
    if !output || !(input || args.view) {
        return Err(Failure::new(format!(
            "attach needs a terminal; for a picture use `relay-broker snapshot {}`",
            clean(&args.name)
        )));
    }
    let client = c.client()?;
    let size = tty::size();
    let name = encode(&args.name);
    let path = if args.view {
        format!("/api/attach/{name}?mode=view")
    } else {
        format!(
            "/api/attach/{name}?mode=drive&rows={}&cols={}",
            size.rows, size.cols
        )
    };
    let mut stream = client.socket(&path)?;
    let broken = |e: io::Error| Failure::new(format!("cannot use this terminal: {e}"));
    let signals = Signals::listen().map_err(broken)?;
    let raw = Raw::enter().map_err(broken)?;
    let end = join(&mut stream, &signals, input, args.view);
    drop(raw);
    stream.link.close(1000, "detached");
    let name = clean(&args.name);
    match end {
        End::Detached => print(&format!("detached; {name} goes on\n")),
        End::Gone => print(&format!("{name} has ended\n")),
        End::Signalled => Err(Failure::new(format!(
            "detached by a signal; {name} goes on"
        ))),
        End::Broken(why) => Err(Failure::new(format!(
            "the connection to the broker is lost ({}); see `relay-broker status`",
            clean(&why)
        ))),
    }
}

fn join(stream: &mut Stream, signals: &Signals, mut input: bool, view: bool) -> End {
    let stdin = io::stdin();
    let mut keys = [0; 4096];
    loop {
        if let Err(end) = show(stream) {
            return end;
        }
        let socket = if stream.link.has_unsent() {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        // A slow broker makes us stop reading keys, not hold them without bound.
        let listen = if input && !stream.link.has_unsent() {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let (key, resized, stop, writable) = {
            let mut fds = [
                PollFd::new(&stream.watch, socket),
                PollFd::new(&signals.resized, PollFlags::IN),
                PollFd::new(&signals.stop, PollFlags::IN),
                PollFd::new(&stdin, listen),
            ];
            // Without interest a hung-up descriptor would still wake us for ever, so it is left out.
            let count = if listen.is_empty() { 3 } else { 4 };
            if let Err(e) = wait(&mut fds[..count], None) {
                return End::Broken(e.to_string());
            }
            let hit = |n: usize| n < count && !fds[n].revents().is_empty();
            (
                hit(3),
                hit(1),
                hit(2),
                fds[0].revents().contains(PollFlags::OUT),
            )
        };
        if stop {
            return End::Signalled;
        }
        if writable && let Err(e) = stream.link.flush() {
            return End::Broken(e.to_string());
        }
        if resized {
            tty::drain(&signals.resized);
            let size = tty::size();
            let resize = json!({"type": "resize", "rows": size.rows, "cols": size.cols});
            if !view && let Err(e) = stream.link.send(Message::text(resize.to_string())) {
                return End::Broken(e.to_string());
            }
        }
        if key {
            match rustix::io::read(&stdin, &mut keys) {
                Ok(0) | Err(rustix::io::Errno::IO) if view => input = false,
                Ok(0) | Err(rustix::io::Errno::IO) => return End::Detached,
                Ok(n) => {
                    if let Some(end) = press(stream, &keys[..n], view) {
                        return end;
                    }
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(e) => return End::Broken(e.to_string()),
            }
        }
    }
}

/// Shows everything that is here already.
fn show(stream: &mut Stream) -> Result<(), End> {
    loop {
        match stream.link.next() {
            Ok(None) => return Ok(()),
            Ok(Some(Message::Binary(bytes))) => {
                tty::write(&bytes).map_err(|e| End::Broken(e.to_string()))?;
            }
            Ok(Some(Message::Text(text))) => {
                let said: Value = serde_json::from_str(text.as_str()).unwrap_or_default();
                if said["type"] == "gone" {
                    return Err(End::Gone);
                }
            }
            Ok(Some(_)) => {}
            Err(LinkError::Closed(Some((1000, _)))) => return Err(End::Gone),
            Err(e) => return Err(End::Broken(e.to_string())),
        }
    }
}

/// Sends keys on, up to the one that detaches.
fn press(stream: &mut Stream, keys: &[u8], view: bool) -> Option<End> {
    let (pass, detach) = split(keys);
    if view {
        let leave = detach || pass.contains(&INTERRUPT) || pass == b"q";
        return leave.then_some(End::Detached);
    }
    if !pass.is_empty()
        && let Err(e) = stream.link.send(Message::binary(pass.to_vec()))
    {
        return Some(End::Broken(e.to_string()));
    }
    detach.then_some(End::Detached)
}

/// What comes before the detaching key, and whether it is there. Inside a paste Ctrl-] is text like any other only if
/// the terminal does not filter it; every terminal we know does.
fn split(keys: &[u8]) -> (&[u8], bool) {
    let first = DETACH
        .iter()
        .filter_map(|mark| keys.windows(mark.len()).position(|part| part == *mark))
        .min();
    match first {
        Some(at) => (&keys[..at], true),
        None => (keys, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detaching_key_is_found_in_every_spelling() {
        assert_eq!(split(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(split(b"ab\x1dcd"), (&b"ab"[..], true));
        for spelled in DETACH {
            assert_eq!(split(spelled), (&b""[..], true));
        }
    }

    #[test]
    fn other_control_keys_reach_the_agent() {
        assert_eq!(split(b"\x03\x1a\x1b[A"), (&b"\x03\x1a\x1b[A"[..], false));
    }
}
