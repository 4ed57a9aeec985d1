//! An engine that does as it is told, as far as a node's enrolment and link go: for refusals, junk and silence, which a
//! real engine does not offer. Everything else that is asked of it is not there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value, json};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::StatusCode;
use tungstenite::{Message, WebSocket};

use super::program::{Node, PATIENCE};

/// The workspace key that opens it.
pub const KEY: &str = "rk_live_scripted";

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// With lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What becomes of a link that a node wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    Yes,
    Unauthorized,
    Unavailable,
}

/// `None` hangs up without an answer.
type Answer = dyn Fn(&Asked) -> Option<(u16, Value)> + Send + Sync;
type Door = dyn Fn(&str) -> Upgrade + Send + Sync;

/// See the module.
pub struct Scripted {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    links: Receiver<Link>,
}

impl Scripted {
    /// `mint` answers each `POST /v1/nodes`; `door` decides about each link by its token.
    pub fn start(
        mint: impl Fn(&Asked) -> Option<(u16, Value)> + Send + Sync + 'static,
        door: impl Fn(&str) -> Upgrade + Send + Sync + 'static,
    ) -> Self {
        let answer = move |asked: &Asked| match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/v1/nodes") => mint(asked),
            _ => Some(refused(404, "not_found")),
        };
        Self::answering(answer, door)
    }

    /// `answer` answers every request but those about the workspace.
    pub fn answering(
        answer: impl Fn(&Asked) -> Option<(u16, Value)> + Send + Sync + 'static,
        door: impl Fn(&str) -> Upgrade + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (opened, links) = unbounded();
        let (answer, door): (Arc<Answer>, Arc<Door>) = (Arc::new(answer), Arc::new(door));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, door) = (answer.clone(), door.clone());
                let (opened, log) = (opened.clone(), log.clone());
                std::thread::spawn(move || serve(stream, &*answer, &*door, &opened, &log));
            }
        });
        Self { url, asked, links }
    }

    /// One that gives every node the token `nt_live_1` and takes every link.
    pub fn willing() -> Self {
        Self::start(|asked| Some(created(asked, "nt_live_1")), |_| Upgrade::Yes)
    }

    /// The flags that lead a broker to it.
    pub fn flags(&self) -> [&str; 4] {
        ["--engine", &self.url, "--workspace-key", KEY]
    }

    /// The requests for a node token so far.
    pub fn mints(&self) -> Vec<Asked> {
        let all = self.asked.lock().expect("whole");
        let mints = all
            .iter()
            .filter(|a| a.path == "/v1/nodes" && a.method == "POST");
        mints.cloned().collect()
    }

    /// All requests so far, as `METHOD /path`, for paths that begin so.
    pub fn requests(&self, prefix: &str) -> Vec<String> {
        let all = self.asked.lock().expect("whole");
        let about = all.iter().filter(|asked| asked.path.starts_with(prefix));
        about
            .map(|asked| format!("{} {}", asked.method, asked.path))
            .collect()
    }

    /// The next link that a node opens.
    pub fn link(&self) -> Link {
        self.links.recv_timeout(PATIENCE).expect("a link")
    }
}

/// The answer to a node that is created, or gets a new token.
pub fn created(asked: &Asked, token: &str) -> (u16, Value) {
    let data = json!({"id": asked.body["node_id"], "name": asked.body["name"], "token": token});
    (201, json!({"ok": true, "data": data}))
}

/// A refusal in an engine's words.
pub fn refused(status: u16, code: &str) -> (u16, Value) {
    let error = json!({"code": code, "message": "as the script says"});
    (status, json!({"ok": false, "error": error}))
}

/// The engine's end of a link.
pub struct Link {
    socket: WebSocket<TcpStream>,
    /// What the node presented.
    pub token: String,
}

impl Link {
    /// The next frame of the node.
    pub fn next(&mut self) -> Value {
        loop {
            match self.socket.read().expect("the link is open") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(_) => panic!("the node hung up"),
                _ => {}
            }
        }
    }

    /// The next frame of one type; others are passed over.
    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Takes the node's registration and answers it; the frame.
    pub fn register(&mut self) -> Value {
        let frame = self.next();
        assert_eq!(frame["type"], "node.register", "first of all: {frame}");
        self.reply(&frame, json!({}));
        frame
    }

    /// An agent that runs on the node, as the engine at the other end of its link sees it come.
    pub fn with_agent(&mut self, node: &Node) {
        std::thread::scope(|scope| {
            scope.spawn(|| node.spawn("w1", &["cat"]));
            let asked = self.next_of("agent.register");
            self.reply(
                &asked,
                json!({"agent_id": "7", "token": "at_live_7", "name": "w1"}),
            );
        });
    }

    /// Answers a request.
    pub fn reply(&mut self, to: &Value, data: Value) {
        self.send(json!({"v": 1, "type": "reply", "id": to["id"], "ok": true, "data": data}));
    }

    pub fn send(&mut self, frame: Value) {
        self.say(Message::text(frame.to_string()));
    }

    pub fn say(&mut self, message: Message) {
        self.socket.send(message).expect("the link is open");
    }

    /// Bytes as they are, which need not be frames.
    pub fn raw(&mut self, bytes: &[u8]) {
        let stream = self.socket.get_mut();
        stream.write_all(bytes).expect("the link is open");
    }

    /// Hangs up with a reason.
    pub fn close(self, reason: &str) {
        self.close_with(1000, reason);
    }

    /// Hangs up with a code and a reason.
    pub fn close_with(mut self, code: u16, reason: &str) {
        let frame = tungstenite::protocol::CloseFrame {
            code: code.into(),
            reason: reason.to_owned().into(),
        };
        let _ = self.socket.close(Some(frame));
        // Until the node has hung up too.
        while self.socket.read().is_ok() {}
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &Answer,
    door: &Door,
    opened: &Sender<Link>,
    log: &Mutex<Vec<Asked>>,
) {
    let _ = stream.set_nodelay(true);
    while let Some(start) = peek(&stream) {
        if start.starts_with("GET /v1/node/ws") {
            return upgrade(stream, door, opened);
        }
        let Some(asked) = read(&mut stream) else {
            return;
        };
        log.lock().expect("whole").push(asked.clone());
        let answered = if asked.path == "/v1/workspace" {
            Some((
                200,
                json!({"ok": true, "data": {"id": "1901", "name": "test"}}),
            ))
        } else {
            answer(&asked)
        };
        let Some((status, body)) = answered else {
            return;
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn peek(stream: &TcpStream) -> Option<String> {
    let mut start = [0; 16];
    loop {
        match stream.peek(&mut start) {
            Ok(0) | Err(_) => return None,
            Ok(16) => return Some(String::from_utf8_lossy(&start).into_owned()),
            Ok(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn upgrade(stream: TcpStream, door: &Door, opened: &Sender<Link>) {
    let mut token = String::new();
    #[allow(clippy::result_large_err)] // the library's own type
    let judge = |request: &Request, response: Response| {
        let bearer = request.headers().get("authorization");
        let bearer = bearer.and_then(|value| value.to_str().ok()).unwrap_or("");
        token = bearer.trim_start_matches("Bearer ").to_owned();
        match door(&token) {
            Upgrade::Yes => Ok(response),
            Upgrade::Unauthorized => Err(no(StatusCode::UNAUTHORIZED)),
            Upgrade::Unavailable => Err(no(StatusCode::SERVICE_UNAVAILABLE)),
        }
    };
    if let Ok(socket) = tungstenite::accept_hdr(stream, judge) {
        let _ = socket.get_ref().set_read_timeout(Some(PATIENCE));
        let _ = opened.send(Link { socket, token });
    }
}

fn no(status: StatusCode) -> ErrorResponse {
    let mut answer = ErrorResponse::new(None);
    *answer.status_mut() = status;
    answer
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(&head).ok()?;
    let headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|h| {
            let value = String::from_utf8_lossy(h.value).into_owned();
            (h.name.to_lowercase(), value)
        })
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Asked {
        method: request.method?.to_owned(),
        path: request.path?.to_owned(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}
