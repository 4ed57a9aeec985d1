//! `attach`: the user's terminal joined to an agent's. One loop over keys, the broker's socket and signals; bytes go
//! through untouched both ways, but for the one key that detaches, and for what the terminal reports of itself.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use serde_json::{Value, json};
use tungstenite::Message;

use super::args;
use super::client::EventStream;
use super::context::Context;
use super::failure::Failure;
use super::render::clean;
use super::tty::{self, Raw, Signals};
use crate::config::Env;
use crate::msg::Size;
use crate::net::LinkError;
use crate::net::http::encode;
use crate::net::link::wait;
use crate::screen::keys::{Keyboard, Piece};
use crate::sys::clock;
use crate::time::{Mono, soonest};

/// How long the rest of a sequence may take until its beginning counts as keys: Escape alone is one, too.
const SEQUENCE: Duration = Duration::from_millis(50);
/// How long the line at entry stays.
const GREETING: Duration = Duration::from_secs(4);

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
enum AttachEnd {
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
    let (name, who) = (encode(&args.name), encode(&who(&c.env)));
    let path = if args.view {
        format!("/api/attach/{name}?mode=view&who={who}")
    } else {
        format!(
            "/api/attach/{name}?mode=drive&rows={}&cols={}&who={who}",
            size.rows, size.cols
        )
    };
    let mut stream = client.socket(&path)?;
    let broken = |e: io::Error| Failure::new(format!("cannot use this terminal: {e}"));
    let signals = Signals::listen().map_err(broken)?;
    let mut visit = Visit {
        raw: Raw::enter().map_err(broken)?,
        keyboard: Keyboard::default(),
        rest_due: None,
        view: args.view,
    };
    let end = visit.join(&mut stream, &signals, input);
    drop(visit);
    stream.link.close(1000, "detached");
    let name = clean(&args.name);
    match end {
        AttachEnd::Detached => c.tell(
            &json!({"name": args.name, "end": "detached"}),
            &format!("detached; {name} goes on\n"),
        ),
        AttachEnd::Gone => c.tell(
            &json!({"name": args.name, "end": "ended"}),
            &format!("{name} has ended\n"),
        ),
        AttachEnd::Signalled => Err(Failure::new(format!(
            "detached by a signal; {name} goes on"
        ))),
        AttachEnd::Broken(why) => Err(Failure::new(format!(
            "the connection to the broker is lost ({}); see `relay-broker status`",
            clean(&why)
        ))),
    }
}

/// Who this is to others who are attached.
fn who(env: &Env) -> String {
    let user = env.user().unwrap_or_else(|| "somebody".to_owned());
    match rustix::termios::ttyname(io::stdin(), Vec::new()) {
        Ok(tty) => format!(
            "{user} on {}",
            tty.to_string_lossy().trim_start_matches("/dev/")
        ),
        Err(_) => user,
    }
}

/// One visit at an agent's terminal.
struct Visit {
    raw: Raw,
    keyboard: Keyboard,
    /// When the beginning of a sequence counts as keys.
    rest_due: Option<Mono>,
    /// Only looking.
    view: bool,
}

/// What woke the loop.
struct Woken {
    key: bool,
    resized: bool,
    stop: bool,
    writable: bool,
}

fn broken(e: impl std::fmt::Display) -> AttachEnd {
    AttachEnd::Broken(e.to_string())
}

impl Visit {
    fn join(&mut self, stream: &mut EventStream, signals: &Signals, mut input: bool) -> AttachEnd {
        loop {
            match self.once(stream, signals, &mut input) {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    fn once(
        &mut self,
        stream: &mut EventStream,
        signals: &Signals,
        input: &mut bool,
    ) -> Result<(), AttachEnd> {
        self.show(stream)?;
        let woken = self.wait(stream, signals, *input)?;
        if woken.stop {
            return Err(AttachEnd::Signalled);
        }
        if woken.writable {
            stream.link.flush().map_err(broken)?;
        }
        if woken.resized {
            tty::drain(&signals.resized);
            self.resized(stream)?;
        }
        if woken.key {
            *input = self.read(stream)?;
        }
        self.due(stream)
    }

    fn wait(
        &self,
        stream: &EventStream,
        signals: &Signals,
        input: bool,
    ) -> Result<Woken, AttachEnd> {
        let stdin = io::stdin();
        let busy = stream.link.has_unsent();
        let socket = if busy {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        let mut fds = [
            PollFd::new(&stream.watch, socket),
            PollFd::new(&signals.resized, PollFlags::IN),
            PollFd::new(&signals.stop, PollFlags::IN),
            PollFd::new(&stdin, PollFlags::IN),
        ];
        // A slow broker makes us stop reading keys, not hold them without bound. Without interest a hung-up descriptor would
        // still wake us for ever, so it is left out.
        let count = if input && !busy { 4 } else { 3 };
        let due = soonest(self.rest_due, self.raw.note_until());
        let limit = due.map(|at| at.since(clock::now().mono));
        wait(&mut fds[..count], limit).map_err(broken)?;
        let hit = |n: usize| n < count && !fds[n].revents().is_empty();
        Ok(Woken {
            key: hit(3),
            resized: hit(1),
            stop: hit(2),
            writable: fds[0].revents().contains(PollFlags::OUT),
        })
    }

    /// Shows everything that is here already.
    fn show(&mut self, stream: &mut EventStream) -> Result<(), AttachEnd> {
        loop {
            match stream.link.next() {
                Ok(None) => return Ok(()),
                Ok(Some(Message::Binary(bytes))) => self.raw.show(&bytes).map_err(broken)?,
                Ok(Some(Message::Text(text))) => {
                    let said: Value = serde_json::from_str(text.as_str()).unwrap_or_default();
                    self.told(&said)?;
                }
                Ok(Some(_)) => {}
                Err(LinkError::Closed(Some((1000, _)))) => return Err(AttachEnd::Gone),
                Err(e) => return Err(broken(e)),
            }
        }
    }

    fn told(&mut self, said: &Value) -> Result<(), AttachEnd> {
        let side = |key: &str| said[key].as_u64().and_then(|n| u16::try_from(n).ok());
        match said["type"].as_str() {
            Some("gone") => Err(AttachEnd::Gone),
            Some("attached") => {
                if let (Some(rows), Some(cols)) = (side("rows"), side("cols")) {
                    self.raw.resize(Size { rows, cols });
                }
                let until = clock::now().mono + GREETING;
                self.raw
                    .say(greeting(said, self.view), until)
                    .map_err(broken)
            }
            _ => Ok(()),
        }
    }

    fn resized(&mut self, stream: &mut EventStream) -> Result<(), AttachEnd> {
        let size = tty::size();
        if self.view {
            return Ok(());
        }
        self.raw.resize(size);
        let resize = json!({"type": "resize", "rows": size.rows, "cols": size.cols});
        stream
            .link
            .send(Message::text(resize.to_string()))
            .map_err(broken)
    }

    /// Reads keys; whether there may be more.
    fn read(&mut self, stream: &mut EventStream) -> Result<bool, AttachEnd> {
        let mut keys = [0; 4096];
        match rustix::io::read(io::stdin(), &mut keys) {
            Ok(0) | Err(rustix::io::Errno::IO) if self.view => Ok(false),
            Ok(0) | Err(rustix::io::Errno::IO) => Err(AttachEnd::Detached),
            Ok(n) => {
                self.raw.hush().map_err(broken)?;
                let pieces = self.keyboard.read(&keys[..n]);
                self.rest_due = self.keyboard.waits().then(|| clock::now().mono + SEQUENCE);
                self.press(stream, pieces).map(|()| true)
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(true),
            Err(e) => Err(broken(e)),
        }
    }

    /// Sends keys on, up to the one that detaches.
    fn press(&mut self, stream: &mut EventStream, pieces: Vec<Piece>) -> Result<(), AttachEnd> {
        let (pass, leaves) = split(pieces, self.view);
        if !self.view && !pass.is_empty() {
            stream.link.send(Message::binary(pass)).map_err(broken)?;
        }
        if leaves {
            Err(AttachEnd::Detached)
        } else {
            Ok(())
        }
    }

    /// What is due by now: keys that only looked like the beginning of something, and the end of the line at entry.
    fn due(&mut self, stream: &mut EventStream) -> Result<(), AttachEnd> {
        let now = clock::now().mono;
        if self.rest_due.is_some_and(|at| at <= now) {
            self.rest_due = None;
            let keys = self.keyboard.give_up();
            self.press(stream, vec![Piece::Keys(keys)])?;
        }
        if self.raw.note_until().is_some_and(|at| at <= now) {
            self.raw.hush().map_err(broken)?;
        }
        Ok(())
    }
}

/// What comes before the detaching key, and whether it is there. While only looking, Ctrl-C and q can mean nothing else.
fn split(pieces: Vec<Piece>, view: bool) -> (Vec<u8>, bool) {
    let mut pass = Vec::new();
    for piece in pieces {
        let leaves = match &piece {
            Piece::Ctrl(letter, _) => *letter == ']' || (view && *letter == 'c'),
            Piece::Keys(keys) => view && matches!(keys.as_slice(), b"q" | b"\x1b[113u"),
            Piece::Pasted(_) => false,
        };
        if leaves {
            return (pass, true);
        }
        pass.extend(piece.into_bytes());
    }
    (pass, false)
}

/// The line at entry: where one is, who else is, and how to leave.
fn greeting(attached: &Value, view: bool) -> String {
    let name = clean(attached["name"].as_str().unwrap_or("the agent"));
    let does = if view { "looking at" } else { "attached to" };
    let mut text = format!(" {does} {name}");
    let others = attached["others"].as_array();
    for other in others.into_iter().flatten() {
        let who = clean(other["who"].as_str().unwrap_or("somebody"));
        let does = if other["mode"] == "view" {
            "looks on"
        } else {
            "is here"
        };
        text.push_str(&format!("; {who} {does}"));
    }
    text + "; Ctrl-] leaves, the agent goes on "
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(keys: &[u8], view: bool) -> (Vec<u8>, bool) {
        split(Keyboard::default().read(keys), view)
    }

    #[test]
    fn keys_before_the_detaching_one_are_sent_on_and_none_behind_it() {
        assert_eq!(pressed(b"ls\r", false), (b"ls\r".to_vec(), false));
        assert_eq!(pressed(b"ab\x1dcd", false), (b"ab".to_vec(), true));
        assert_eq!(pressed(b"ab\x1b[93;69ucd", false), (b"ab".to_vec(), true));
        assert_eq!(
            pressed(b"\x03\x1a\x1b[A", false),
            (b"\x03\x1a\x1b[A".to_vec(), false)
        );
    }

    #[test]
    fn who_only_looks_leaves_by_what_he_would_press() {
        for keys in [
            "\x1d",
            "q",
            "\x03",
            "\x1b[99;5u",
            "\x1b[99;197u",
            "\x1b[113u",
        ] {
            assert!(pressed(keys.as_bytes(), true).1, "{keys:?}");
        }
        assert!(!pressed(b"quit", true).1);
        assert!(!pressed(b"q\x03", false).1);
    }

    #[test]
    fn the_line_at_entry_says_who_else_is_here_and_how_to_leave() {
        let alone = greeting(&json!({"name": "ada"}), false);
        assert_eq!(alone, " attached to ada; Ctrl-] leaves, the agent goes on ");
        let others =
            json!([{"who": "eve on pts/3", "mode": "drive"}, {"who": null, "mode": "view"}]);
        let with = greeting(&json!({"name": "a\u{1b}da", "others": others}), true);
        let words = " looking at a·da; eve on pts/3 is here; somebody looks on; Ctrl-] leaves, the agent goes on ";
        assert_eq!(with, words);
    }
}
