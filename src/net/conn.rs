//! One connection: read a request within its deadlines and limits, have it answered, write the answer, again. Sockets are
//! non-blocking and every wait is one `poll` with a deadline, so that a stranger who is slow costs one sleeping thread
//! for a bounded time. Knows no route and asks the server's list only whether it has been given up.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig};

use super::connections::{Doing, ServerState};
use super::handler::{Handler, ServerLimits};
use super::head::{
    AnswerFraming, Fault, Framing, HEADERS, RequestHead, chunk_size, end_of_head, handshake,
    head_of, malformed, parse_head, plain,
};
use super::http::{HandlerOutcome, Response};
use super::link::{self, Socket};
use crate::sys::{clock, limits};
use crate::time::Mono;

/// How long the request of a client is waited for that is turned away.
const TURN_AWAY_TIME: Duration = Duration::from_millis(50);
/// How long what a client still sends is read and thrown away, so that our last words are not lost to a reset.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// A refused connection's whole life.
const REFUSE_TIME: Duration = Duration::from_secs(1);
/// The longest line that announces a chunk.
const CHUNK_LINE: usize = 256;
/// How much is read at once.
const READ_BYTES: usize = 8 * 1024;
/// What may wait in a WebSocket's outgoing buffer besides one full message.
const SOCKET_SLACK: usize = 256 * 1024;

struct Conn<'a> {
    stream: TcpStream,
    /// Read and not yet used.
    buf: Vec<u8>,
    shared: &'a ServerState,
    id: u64,
    /// A request on it was believed.
    known: bool,
}

/// Serves one connection until it ends. `refused`: the first request is answered with 503.
pub(super) fn serve(stream: TcpStream, shared: &ServerState, id: u64, refused: bool) {
    let mut conn = Conn {
        stream,
        buf: Vec::new(),
        shared,
        id,
        known: false,
    };
    if refused {
        return refuse(&mut conn);
    }
    loop {
        if shared.stopping() || !conn.is(Doing::Waiting(clock::now().mono)) {
            return;
        }
        let read = conn.read_request(&conn.limits());
        if !conn.is(Doing::Working) {
            return;
        }
        let head = match read {
            Ok(head) => head,
            Err(Fault::Gone) => return,
            Err(Fault::Answer(status, code, message)) => {
                conn.complain(&shared.handler.refuse(status, code, &message));
                return;
            }
        };
        let handshake = handshake(&head);
        let mut frame = AnswerFraming::of(&head);
        // What was not read stands before the next request.
        frame.keep &= head.body_read;
        let request = head.request;
        let stranger = (!conn.known).then(|| request.head());
        let outcome = match catch_unwind(AssertUnwindSafe(|| shared.handler.handle(request))) {
            Ok(outcome) => outcome,
            Err(panic) => {
                log::error!("answering a request panicked: {}", words(&*panic));
                let sorry = "the request hit a bug; the log names it";
                HandlerOutcome::Respond(plain(500, "internal_error", sorry))
            }
        };
        match outcome {
            HandlerOutcome::Respond(response) => {
                if stranger.is_some_and(|head| shared.handler.knows(&head)) {
                    conn.believe();
                }
                let keep = frame.keep && !shared.stopping();
                if conn.respond(&response, &frame, keep).is_err() || !keep {
                    return;
                }
            }
            HandlerOutcome::Upgrade(run) => match handshake {
                Ok(_) if !shared.becomes_socket(id) => {
                    let why = format!(
                        "all {} WebSockets are taken; close one or try again shortly",
                        shared.limits.sockets
                    );
                    let full = shared.handler.refuse(503, "too_many_connections", &why);
                    let _ = conn.respond(&full, &frame, false);
                    return;
                }
                Ok(key) => return upgrade(conn, &key, &shared.limits, run),
                Err(response) => {
                    let _ = conn.respond(&response, &frame, false);
                    return;
                }
            },
        }
    }
}

/// Ends the sending side and reads on for a moment: closing a socket with unread input resets it, and a reset makes the
/// client lose what we said last.
pub(super) fn linger(socket: &TcpStream, shared: &ServerState) {
    let _ = socket.shutdown(Shutdown::Write);
    let until = clock::now().mono + LINGER_TIME;
    let mut sink = [0; READ_BYTES];
    while !shared.stopping() {
        let mut reader = socket;
        match reader.read(&mut sink) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if ready(socket, PollFlags::IN, until).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
        if clock::now().mono >= until {
            return;
        }
    }
}

fn refuse(conn: &mut Conn<'_>) {
    let hurried = ServerLimits {
        head_time: REFUSE_TIME,
        idle_time: REFUSE_TIME,
        ..conn.shared.limits.clone()
    };
    // Reading the head first lets the answer arrive as an answer and not as a reset.
    let _ = conn.read_head(&hurried);
    let why = format!(
        "all {} connections are taken; close one or try again shortly",
        conn.shared.limits.connections
    );
    let full = conn
        .shared
        .handler
        .refuse(503, "too_many_connections", &why);
    conn.complain(&full);
}

fn upgrade(
    mut conn: Conn<'_>,
    key: &str,
    limits: &ServerLimits,
    run: Box<dyn FnOnce(Socket) + Send>,
) {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    if conn.write_all(answer.as_bytes()).is_err() {
        return;
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(READ_BYTES)
        .max_write_buffer_size(limits.frame_bytes + SOCKET_SLACK)
        .max_message_size(Some(limits.frame_bytes))
        .max_frame_size(Some(limits.frame_bytes));
    let socket = Socket::from_partially_read(conn.stream, conn.buf, Role::Server, Some(config));
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(socket))) {
        log::error!("a WebSocket's owner panicked: {}", words(&*panic));
    }
}

impl Conn<'_> {
    /// Notes what it does. `false`: it has been given up.
    fn is(&self, doing: Doing) -> bool {
        self.shared.mark(self.id, doing)
    }

    fn believe(&mut self) {
        if !self.known {
            self.known = self.shared.believe(self.id);
        }
    }

    /// As long as nobody has shown a key here, the time for everything is short.
    fn limits(&self) -> ServerLimits {
        let mut limits = self.shared.limits.clone();
        if !self.known {
            limits.idle_time = limits.idle_time.min(limits.stranger_time);
            limits.write_time = limits.write_time.min(limits.stranger_time);
        }
        limits
    }

    fn read_request(&mut self, limits: &ServerLimits) -> Result<RequestHead, Fault> {
        let mut head = self.read_head(limits)?;
        if self.shared.handler.knows(&head.request) {
            self.believe();
        }
        self.shared.has_asked(self.id);
        let until = clock::now().mono + limits.body_time;
        let announced = match head.body {
            Framing::Length(length) => length,
            Framing::Chunked => 1,
        };
        if announced == 0 {
            return Ok(head);
        }
        let chunked = matches!(head.body, Framing::Chunked);
        let narrow = limits.stranger_body_bytes < limits.body_bytes;
        if !self.known && narrow && (chunked || announced > limits.stranger_body_bytes) {
            head.body_read = false;
            return Ok(head);
        }
        if announced > limits.body_bytes {
            return Err(too_large(limits));
        }
        if head.expects_continue && self.buf.is_empty() {
            self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .map_err(|_| Fault::Gone)?;
        }
        head.request.body = match head.body {
            Framing::Length(length) => self.take(length, until)?,
            Framing::Chunked => self.read_chunks(limits, until)?,
        };
        Ok(head)
    }

    fn read_head(&mut self, limits: &ServerLimits) -> Result<RequestHead, Fault> {
        let idle_until = clock::now().mono + limits.idle_time;
        let mut until = None;
        let mut searched = 0;
        loop {
            // Empty lines before a request are left over from sloppy clients.
            let blank = self
                .buf
                .iter()
                .take_while(|b| matches!(b, b'\r' | b'\n'))
                .count();
            if blank > 0 {
                self.buf.drain(..blank);
                searched = 0;
            }
            if !self.buf.is_empty() && until.is_none() {
                until = Some(clock::now().mono + limits.head_time);
            }
            let end = end_of_head(&self.buf, searched);
            if end.unwrap_or(self.buf.len()) > limits.head_bytes {
                return Err(Fault::Answer(
                    431,
                    "head_too_large",
                    format!(
                        "request line and headers are over {} bytes",
                        limits.head_bytes
                    ),
                ));
            }
            if let Some(end) = end {
                let head = parse_head(&self.buf[..end])?;
                self.buf.drain(..end);
                return Ok(head);
            }
            searched = self.buf.len().saturating_sub(3);
            match self.fill(until.unwrap_or(idle_until)) {
                Ok(0) => return Err(Fault::Gone),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut && until.is_some() => {
                    return Err(too_slow("head"));
                }
                Err(_) => return Err(Fault::Gone),
            }
        }
    }

    /// Exactly `length` bytes of body.
    fn take(&mut self, length: usize, until: Mono) -> Result<Vec<u8>, Fault> {
        while self.buf.len() < length {
            self.more(until)?;
        }
        let rest = self.buf.split_off(length);
        Ok(std::mem::replace(&mut self.buf, rest))
    }

    /// One line of a chunked body, without its end.
    fn line(&mut self, until: Mono) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(at) = self.buf.iter().position(|b| *b == b'\n') {
                let mut line = self.take(at + 1, until)?;
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            if self.buf.len() > CHUNK_LINE {
                return Err(malformed("a line of the chunked body is too long"));
            }
            self.more(until)?;
        }
    }

    fn read_chunks(&mut self, limits: &ServerLimits, until: Mono) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        loop {
            let line = self.line(until)?;
            let size = chunk_size(&line).ok_or_else(|| malformed("a chunk has no valid size"))?;
            if size == 0 {
                break;
            }
            if size > limits.body_bytes - body.len() {
                return Err(too_large(limits));
            }
            body.extend(self.take(size, until)?);
            if !self.line(until)?.is_empty() {
                return Err(malformed("a chunk is longer than its size says"));
            }
        }
        let mut trailers = 0;
        loop {
            let line = self.line(until)?;
            if line.is_empty() {
                return Ok(body);
            }
            trailers += 1;
            if trailers > HEADERS {
                return Err(malformed("too many trailers"));
            }
        }
    }

    /// Reads on within a body, where both the end of the stream and the deadline are faults.
    fn more(&mut self, until: Mono) -> Result<(), Fault> {
        match self.fill(until) {
            Ok(0) => Err(Fault::Gone),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(too_slow("body")),
            Err(_) => Err(Fault::Gone),
        }
    }

    /// Reads what is there, waiting for it until the deadline; 0 is the end of the stream.
    fn fill(&mut self, until: Mono) -> io::Result<usize> {
        let mut block = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut block) {
                Ok(n) => {
                    self.buf.extend_from_slice(&block[..n]);
                    // A sender who is never out of bytes would otherwise never meet the deadline.
                    return if n > 0 && clock::now().mono >= until {
                        Err(io::ErrorKind::TimedOut.into())
                    } else {
                        Ok(n)
                    };
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready(&self.stream, PollFlags::IN, until)?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.write_until(bytes, clock::now().mono + self.limits().write_time);
        self.is(Doing::Working);
        written
    }

    fn write_until(&mut self, mut bytes: &[u8], until: Mono) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.is(Doing::Unread(clock::now().mono)) {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    ready(&self.stream, PollFlags::OUT, until)?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn respond(
        &mut self,
        response: &Response,
        frame: &AnswerFraming,
        keep: bool,
    ) -> io::Result<()> {
        let mut bytes = head_of(response, frame, keep).into_bytes();
        if !frame.head_only {
            bytes.extend_from_slice(&response.body);
        }
        self.write_all(&bytes)
    }

    /// The server's own error, after which the connection ends.
    fn complain(&mut self, what: &Response) {
        let frame = AnswerFraming {
            http_10: false,
            head_only: false,
            keep: false,
        };
        // The client may be gone already; there is nobody else to tell.
        let _ = self.respond(what, &frame, false);
    }
}

/// Answers whatever a client wants with 503, without a thread or descriptor for it. Waits for its request only for a moment,
/// since everybody else waits meanwhile.
pub(super) fn turn_away(socket: &TcpStream, handler: &dyn Handler, why: &io::Error) {
    let mut stream = socket;
    // Unread input would turn our last words into a reset.
    let _ = ready(socket, PollFlags::IN, clock::now().mono + TURN_AWAY_TIME);
    let _ = stream.read(&mut [0; READ_BYTES]);
    let frame = AnswerFraming {
        http_10: false,
        head_only: false,
        keep: false,
    };
    let message = format!(
        "there is no room for this connection: {}",
        limits::explain(why)
    );
    let response = handler.refuse(503, "no_room", &message);
    let mut bytes = head_of(&response, &frame, false).into_bytes();
    bytes.extend_from_slice(&response.body);
    let _ = stream.write(&bytes);
    let _ = socket.shutdown(Shutdown::Write);
}

/// Waits until the socket is ready; `TimedOut` at the deadline.
fn ready(socket: &TcpStream, interest: PollFlags, until: Mono) -> io::Result<()> {
    let left = until.since(clock::now().mono);
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    link::wait(&mut [PollFd::new(socket, interest)], Some(left))
}

fn too_large(limits: &ServerLimits) -> Fault {
    let message = format!("the body is over {} bytes", limits.body_bytes);
    Fault::Answer(413, "body_too_large", message)
}

fn too_slow(part: &str) -> Fault {
    let message = format!("the request's {part} took too long to arrive");
    Fault::Answer(408, "request_timeout", message)
}

/// The text of a panic.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}
