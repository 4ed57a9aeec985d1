//! `mcp`: the tools of the running broker on standard input and output, for agent programs that start such a server
//! themselves. Each line is passed on to `POST /mcp` and its answer comes back as a line: this process keeps nothing but who
//! is asking.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::args;
use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::find::{NO_BROKER, SILENT, connection_in, state_dir};
use super::mcp_config;
use crate::sys::{limits, stdio, thread};
use crate::wire::local::TEXT_MAX;

/// The longest line: the longest text with every letter escaped, and something around it.
const LINE_MAX: usize = 6 * TEXT_MAX + 64 * 1024;
/// How many requests wait in a lane; the next is read when there is room.
const WAITING: usize = 16;
/// Stack of a thread that passes a request on; JSON is the deepest it gets.
const STACK_KIB: usize = 512;
/// JSON-RPC's code for what the server itself cannot do.
const INTERNAL: i64 = -32603;
const PARSE: i64 = -32700;
/// Said to a model when its request found no broker.
const NOT_DONE: &str = "the broker of this machine is not there: it stops, or starts again. Nothing was done; try again in half a \
     minute, and tell a person if that does not help";
/// Said when the broker had the request, or may have had it.
const NOT_KNOWN: &str = "the broker did not answer, so it is not known whether this was done: it stops, starts again, or has very \
     much to do. Look in half a minute, with list_agents or check_inbox, before you do it again; a message that was sent \
     is not lost";

/// `mcp`.
///
/// # Errors
/// When there is no broker, or standard output is gone.
pub fn mcp(c: &Context, args: &args::Mcp) -> Result<(), Failure> {
    if let Some(client) = args.print_config {
        return mcp_config::print_config(c, client);
    }
    let client = c.client()?;
    let bridge = Arc::new(Bridge {
        folder: state_dir(c.state_dir.as_deref(), &c.env)?,
        client: Mutex::new(Arc::new(client)),
        given_up: Mutex::default(),
        output: Mutex::new(()),
    });
    run(&bridge, stdio::input())
        .map_err(|e| Failure::new(format!("cannot start a thread: {}", limits::explain(&e))))
}

/// Reads to the end of the input, and leaves once everything is answered. What calls a tool is done in the order in which
/// it came; everything else need not wait for that.
fn run(bridge: &Arc<Bridge>, input: impl Read) -> io::Result<()> {
    let (calls, others) = (lane(bridge, "calls")?, lane(bridge, "others")?);
    read_lines(input, |line| {
        bridge.note_cancelled(&line);
        let lane = if has(&line, b"tools/call") {
            &calls.0
        } else {
            &others.0
        };
        // Its thread ends after the last line.
        let _ = lane.send(line);
    });
    for (lane, thread) in [calls, others] {
        drop(lane);
        thread.join();
    }
    Ok(())
}

/// A thread that passes on one request after the other.
fn lane(bridge: &Arc<Bridge>, name: &str) -> io::Result<(Sender<Vec<u8>>, thread::Handle)> {
    let (send, lines) = bounded(WAITING);
    let bridge = bridge.clone();
    let thread = thread::start(format!("mcp:{name}"), STACK_KIB, move || {
        bridge.work(&lines)
    })?;
    Ok((send, thread))
}

fn has(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|part| part == word)
}

/// Between standard input and the broker.
struct Bridge {
    /// Where the broker says how it is reached.
    folder: PathBuf,
    /// Of the broker that ran there last.
    client: Mutex<Arc<Client>>,
    /// Ids of requests that the client does not wait for any more.
    given_up: Mutex<HashSet<String>>,
    /// Held while a line is written.
    output: Mutex<()>,
}

impl Bridge {
    /// Of the broker that runs there now: another one has another address.
    fn client(&self) -> Result<Arc<Client>, Failure> {
        let file = connection_in(&self.folder)?;
        let mut client = self.client.lock();
        if client.pid() != file.pid {
            *client = Arc::new(client.at(&file));
        }
        Ok(client.clone())
    }

    fn work(&self, lines: &Receiver<Vec<u8>>) {
        for line in lines {
            let asked = McpQuestion::read(&line);
            let answer = self.pass_on(line, asked.as_ref());
            let given_up =
                asked.is_some_and(|asked| self.given_up.lock().remove(&asked.id.to_string()));
            if let Some(answer) = answer.filter(|_| !given_up) {
                self.say(&answer);
            }
        }
    }

    /// The broker's answer; its silence becomes an error of the protocol's kind.
    fn pass_on(&self, line: Vec<u8>, asked: Option<&McpQuestion>) -> Option<Value> {
        if line.len() > LINE_MAX {
            let text =
                format!("the line is longer than {LINE_MAX} bytes; put long texts into files");
            return Some(failed(&Value::Null, PARSE, &text));
        }
        let client = match self.client() {
            Ok(client) => client,
            Err(failure) => return asked.map(|asked| asked.failed(&failure, NOT_DONE)),
        };
        match client.pass_on("/mcp", line) {
            Ok(answer) => answer,
            Err(failure) => asked.map(|asked| asked.failed(&failure, NOT_KNOWN)),
        }
    }

    /// Whoever reads the answers may be gone; the end of the input comes soon then.
    fn say(&self, answer: &Value) {
        let line = format!("{answer}\n");
        let _whole = self.output.lock();
        let mut output = stdio::output();
        let _ = output
            .write_all(line.as_bytes())
            .and_then(|()| output.flush());
    }

    fn note_cancelled(&self, line: &[u8]) {
        if !has(line, b"notifications/cancelled") {
            return;
        }
        let message: Value = serde_json::from_slice(line).unwrap_or_default();
        let id = &message["params"]["requestId"];
        if message["method"] == "notifications/cancelled" && !id.is_null() {
            self.given_up.lock().insert(id.to_string());
        }
    }
}

/// A request that wants an answer.
struct McpQuestion {
    id: Value,
    /// Whether it calls a tool, whose failure a model is shown.
    is_call: bool,
}

impl McpQuestion {
    /// The request of a line; `None` for what wants no answer.
    fn read(line: &[u8]) -> Option<Self> {
        let message: Value = serde_json::from_slice(line).ok()?;
        let method = message["method"].as_str()?;
        Some(Self {
            id: message.get("id")?.clone(),
            is_call: method == "tools/call",
        })
    }

    /// What is said where the broker gave no answer, with `words` in place of advice for operators: a model that is told how
    /// to end a broker, or how to start one, may do so.
    fn failed(&self, failure: &Failure, words: &str) -> Value {
        let text = match failure.word.as_deref() {
            Some(NO_BROKER | SILENT) => words,
            _ => &failure.text,
        };
        if !self.is_call {
            return failed(&self.id, INTERNAL, text);
        }
        let content = json!([{"type": "text", "text": text}]);
        json!({"jsonrpc": "2.0", "id": self.id, "result": {"content": content, "isError": true}})
    }
}

fn failed(id: &Value, code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// Every line until the end of the input; of one that is too long its beginning, one byte more than may be.
fn read_lines(input: impl Read, mut each: impl FnMut(Vec<u8>)) {
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        let mut some = input.by_ref().take(LINE_MAX as u64 + 1);
        match some.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.len() > LINE_MAX && skip_line(&mut input).is_err() {
            return;
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            each(line);
        }
    }
}

/// Reads on to the end of the line and keeps nothing.
fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let piece = input.fill_buf()?;
        let (taken, over) = match piece.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (piece.len(), piece.is_empty()),
        };
        input.consume(taken);
        if over {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_costs_no_other_line() {
        let long = [b"x".repeat(LINE_MAX + 10), b"\nlast\n\n".to_vec()].concat();
        let mut lengths = Vec::new();
        read_lines(&long[..], |line| lengths.push(line.len()));
        assert_eq!(lengths, [LINE_MAX + 1, 5]);
    }

    #[test]
    fn only_requests_have_an_id_that_is_answered() {
        let id = |line: &[u8]| McpQuestion::read(line).map(|asked| asked.id);
        assert_eq!(id(br#"{"id":3,"method":"ping"}"#), Some(json!(3)));
        assert_eq!(id(br#"{"method":"notifications/initialized"}"#), None);
        assert_eq!(id(br#"{"id":3,"result":{}}"#), None);
        assert_eq!(id(b"{"), None);
    }

    #[test]
    fn a_model_is_not_told_how_to_end_or_start_a_broker() {
        let asked = |line: &[u8]| McpQuestion::read(line).expect("a request");
        let call = asked(br#"{"id":3,"method":"tools/call"}"#);
        for word in [NO_BROKER, SILENT] {
            let why = Failure::new("`kill 7` ends it; `relay-broker up` starts one").named(word);
            let answer = call.failed(&why, NOT_KNOWN);
            assert_eq!(answer["result"]["isError"], true, "{answer}");
            assert_eq!(answer["result"]["content"][0]["text"], NOT_KNOWN);
            let answer = asked(br#"{"id":4,"method":"tools/list"}"#).failed(&why, NOT_DONE);
            assert_eq!(answer["error"]["message"], NOT_DONE);
        }
        let answer = call.failed(&Failure::new("the agent was released"), NOT_KNOWN);
        assert_eq!(
            answer["result"]["content"][0]["text"],
            "the agent was released"
        );
    }
}
