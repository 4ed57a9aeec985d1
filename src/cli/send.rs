//! `send`, and waiting until the message is seen in the agent's terminal. The event stream is opened before the message
//! leaves, so no event can be missed.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{self, Urgency};
use super::client::{Client, EventStream, Heard, typed};
use super::context::Context;
use super::failure::Failure;
use super::fleet::is_no_such_call;
use super::render::{clean, note, span};
use crate::domain::Proof;
use crate::net::http::encode;
use crate::sys::{clock, stdio};
use crate::time::Mono;
use crate::wire::event::{BrokerEvent, Numbered};
use crate::wire::local::{SendRequest, Sent, TEXT_MAX};
use crate::wire::rest::Reader;

/// `send`.
pub fn send(c: &Context, args: &args::Send) -> Result<(), Failure> {
    let text = match args.text.as_slice() {
        [dash] if dash == "-" => read_text(stdio::input())?,
        words => words.join(" "),
    };
    check(&text)?;
    let client = c.client()?;
    let stream = match args.wait {
        true => Some(client.events(client.newest()?)?),
        false => None,
    };
    let request = SendRequest {
        to: args.to.clone(),
        text,
        from: args.from.clone(),
        thread_id: None,
        mode: match args.mode {
            Urgency::Wait => None,
            Urgency::Steer => Some("steer".to_owned()),
        },
        raw: args.raw,
        ..SendRequest::default()
    };
    let begun = clock::now().mono;
    let answer = client.post("/api/send", &request)?;
    let sent: Sent = typed(answer.clone())?;
    c.tell(&answer, &describe(&args.to, &sent))?;
    match stream {
        Some(mut stream) => {
            let mut watch = Watch::new(c, &client, &sent, begun, args);
            watch.wait_for_the_end(&mut stream)
        }
        None => Ok(()),
    }
}

fn describe(to: &str, sent: &Sent) -> String {
    let what = match &sent.waits {
        _ if sent.suspended => format!(
            "held for {}: agents seem to answer each other without end, and a person has to look first",
            clean(&sent.targets.join(", "))
        ),
        _ if sent.steer_refused => format!(
            "queued for {}, and it waits its turn: only people may interrupt here",
            clean(&sent.targets.join(", "))
        ),
        _ if !sent.targets.is_empty() => format!("queued for {}", clean(&sent.targets.join(", "))),
        None => "taken by the engine".to_owned(),
        Some(waits) => {
            let name = clean(to.strip_prefix('@').unwrap_or(to));
            let until = waits.until_ms.map_or_else(
                || "it comes".to_owned(),
                |at| format!("{}; see `relay-broker pending {name}`", at.iso()),
            );
            format!("{name} does not run here; the message waits until {until}")
        }
    };
    format!("{what} (message {})\n", clean(sent.event_id.as_str()))
}

/// All of the input as a message; one newline at its end is the shell's, not the message's.
fn read_text(input: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    input
        .take(TEXT_MAX as u64 + 2)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::new(format!("cannot read standard input: {e}")))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.len() > TEXT_MAX {
        return Err(too_long());
    }
    String::from_utf8(bytes).map_err(|e| {
        Failure::new(format!(
            "standard input is not UTF-8 text (byte {}); encode it first, for example with base64",
            e.utf8_error().valid_up_to()
        ))
    })
}

fn too_long() -> Failure {
    Failure::new("the message is over 1 MiB; put it into a file and send the file's path instead")
}

fn check(text: &str) -> Result<(), Failure> {
    if text.len() > TEXT_MAX {
        return Err(too_long());
    }
    if text.trim().is_empty() {
        return Err(Failure::usage("the message is empty; say something"));
    }
    Ok(())
}

/// How far the message has come, for the sentence when time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sent,
    Queued,
    Held,
    Typed,
    Blocked,
}

impl Stage {
    fn sentence(self, to: &str) -> String {
        let to = clean(to);
        match self {
            Stage::Sent => format!(
                "the engine has it, and {to} has not read it yet; it waits there for {to} (`relay-broker nodes` shows who is connected)"
            ),
            Stage::Queued => format!("it still waits its turn; see `relay-broker pending {to}`"),
            Stage::Held => {
                format!("{to}'s messages are held; `relay-broker flush {to}` types them")
            }
            Stage::Typed => format!(
                "it is typed, but {to} has not shown that it read it; see `relay-broker snapshot {to}`"
            ),
            Stage::Blocked => format!(
                "{to}'s terminal does not take it, a dialog may be open; see `relay-broker attach {to}`"
            ),
        }
    }
}

/// What an event means for the message.
enum SendStep {
    /// It has come so far.
    At(Stage),
    /// Over for this agent: well, or with a reason.
    Done(String, Result<String, String>),
    /// The event is about something else.
    Other,
}

fn step(said: BrokerEvent, took: &str) -> SendStep {
    match said {
        BrokerEvent::DeliveryQueued {
            reason: Some(_), ..
        } => SendStep::At(Stage::Held),
        BrokerEvent::DeliveryQueued { .. } => SendStep::At(Stage::Queued),
        BrokerEvent::DeliveryInjected { .. } => SendStep::At(Stage::Typed),
        BrokerEvent::DeliveryBlocked { name, reason, .. } => {
            note(&format!(
                "relay-broker: {name}: {}; waiting on",
                clean(&reason)
            ));
            SendStep::At(Stage::Blocked)
        }
        BrokerEvent::DeliveryVerified {
            name,
            proof,
            reason,
            ..
        } => {
            let line = verdict(name.as_str(), proof, reason.as_deref(), took);
            SendStep::Done(name.to_string(), Ok(line))
        }
        BrokerEvent::MessageDeliveryFailed {
            name, last_error, ..
        } => {
            let why = format!("{name}: failed: {}", clean(&last_error));
            SendStep::Done(name.to_string(), Err(why))
        }
        _ => SendStep::Other,
    }
}

/// How often the engine is asked who has a message that no agent of this broker was sent.
const LOOK: Duration = Duration::from_millis(250);

/// Waits for the end of a message: for every local target, or until the engine says that its one reader has it.
struct Watch<'a> {
    c: &'a Context,
    client: &'a Client,
    sent: &'a Sent,
    args: &'a args::Send,
    begun: Mono,
    deadline: Mono,
    waiting: BTreeSet<String>,
    stage: Stage,
    failed: Option<String>,
}

impl<'a> Watch<'a> {
    fn new(
        c: &'a Context,
        client: &'a Client,
        sent: &'a Sent,
        begun: Mono,
        args: &'a args::Send,
    ) -> Self {
        Self {
            c,
            client,
            sent,
            args,
            begun,
            deadline: begun + args.timeout,
            waiting: sent.targets.iter().cloned().collect(),
            stage: Stage::Sent,
            failed: None,
        }
    }

    fn wait_for_the_end(&mut self, stream: &mut EventStream) -> Result<(), Failure> {
        let mut over = false;
        while !over {
            over = match stream.next(Some(self.wake())) {
                Heard::Event(event) => self.heard(event)?,
                Heard::Late if clock::now().mono < self.deadline => self.look()?,
                Heard::Late => return Err(self.late()),
                Heard::Over(why) => {
                    return Err(Failure::new(format!(
                        "the broker ended before the message was verified ({why}); \
                         it is kept and typed after the next start"
                    )));
                }
            };
        }
        self.failed
            .take()
            .map_or(Ok(()), |why| Err(Failure::new(why)))
    }

    /// Whether the message is beyond this broker, for all that is known of it here.
    fn is_elsewhere(&self) -> bool {
        self.stage == Stage::Sent && self.sent.targets.is_empty()
    }

    fn wake(&self) -> Mono {
        match self.is_elsewhere() {
            true => self.deadline.min(clock::now().mono + LOOK),
            false => self.deadline,
        }
    }

    /// Whether an event was the last that is waited for.
    fn heard(&mut self, event: Value) -> Result<bool, Failure> {
        if event["event_id"] != self.sent.event_id.as_str() {
            return Ok(false);
        }
        let Ok(Numbered { event: said, .. }) = serde_json::from_value(event.clone()) else {
            return Ok(false);
        };
        match step(said, &self.took()) {
            SendStep::Other => Ok(false),
            SendStep::At(further) => {
                self.stage = further;
                Ok(false)
            }
            SendStep::Done(name, end) => {
                self.waiting.remove(&name);
                let line = end.unwrap_or_else(|why| {
                    self.failed = Some(why);
                    String::new()
                });
                self.c.tell(&event, &line)?;
                Ok(self.waiting.is_empty())
            }
        }
    }

    /// Whether the engine says that an agent of another node has the message. Nodes acknowledge what is in a terminal,
    /// and the engine then lists the agent as a reader ([engine-protocol 4.5](crate::docs::engine_protocol#4.5)).
    fn look(&mut self) -> Result<bool, Failure> {
        let path = format!(
            "/api/messages/{}/readers",
            encode(self.sent.event_id.as_str())
        );
        let answer = match self.client.get(&path) {
            Ok(answer) => answer,
            Err(refused) if is_no_such_call(&refused) => return Err(self.unknowable()),
            Err(_) => return Ok(false),
        };
        let readers: Vec<Reader> = typed(answer["readers"].clone()).unwrap_or_default();
        let to = self.args.to.trim_start_matches('@');
        let there = readers
            .iter()
            .find(|r| r.agent_name == to || to.starts_with('#'));
        let Some(reader) = there else {
            return Ok(false);
        };
        let name = clean(&reader.agent_name);
        let line = format!("{name}: received on another node in {}\n", self.took());
        let facts = json!({"kind": "message_received", "reader": reader});
        self.c.tell(&facts, &line)?;
        Ok(true)
    }

    /// An engine that knows the message and does not know the question.
    fn unknowable(&self) -> Failure {
        let to = clean(&self.args.to);
        Failure::new(format!(
            "the engine has it for {to}, which does not run here, and this engine does not tell who has read a message; \
             `relay-broker events` on {to}'s machine shows it arrive"
        ))
        .named("agent_elsewhere")
    }

    fn took(&self) -> String {
        span(clock::now().mono.since(self.begun))
    }

    fn late(&self) -> Failure {
        Failure::new(format!(
            "not verified within {}: {}",
            humantime::format_duration(self.args.timeout),
            self.stage.sentence(&self.args.to)
        ))
        .named("timeout")
    }
}

fn verdict(name: &str, proof: Proof, reason: Option<&str>, took: &str) -> String {
    let how = proof.words();
    match proof.is_seen() {
        false => {
            let why = reason.unwrap_or("the terminal showed nothing");
            format!("{name}: {how}: {}\n", clean(why))
        }
        true => format!("{name}: {how} in {took}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sysexit::Sysexit;

    #[test]
    fn piped_text_loses_only_its_last_newline() {
        assert_eq!(read_text(&b"a\n\nb\n\n"[..]), Ok("a\n\nb\n".to_owned()));
    }

    #[test]
    fn what_cannot_be_a_message_is_refused_with_a_way_out() {
        let long = vec![b'x'; TEXT_MAX + 1];
        assert!(
            read_text(&long[..])
                .expect_err("long")
                .text
                .contains("1 MiB")
        );
        assert!(read_text(&long[1..]).is_ok());
        let bad = read_text(&b"ab\xff"[..]).expect_err("not text");
        assert!(bad.text.contains("not UTF-8 text (byte 2)"));
        assert_eq!(check(" \n").expect_err("empty").code, Sysexit::Usage);
    }

    #[test]
    fn the_verdict_says_how_and_how_fast() {
        let line = verdict("ada", Proof::Echo, None, "1.2 ms");
        assert_eq!(line, "ada: verified by echo in 1.2 ms\n");
        let line = verdict("ada", Proof::None, Some("nothing seen"), "5 s");
        assert_eq!(line, "ada: unverified: nothing seen\n");
    }
}
