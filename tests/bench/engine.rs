//! As much of an engine as a broker needs to be measured: enrolment over HTTP, and a WebSocket that sends deliveries as
//! fast as they are given and notes when each acknowledgement comes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tungstenite::Message;

use crate::now_ns;

/// `delivery.ack`, and when its last byte was here.
pub struct Ack {
    pub agent: String,
    pub up_to: u64,
    pub at: u64,
}

/// A running engine; its threads end with the process.
pub struct Engine {
    pub addr: SocketAddr,
    pub acks: Receiver<Ack>,
    /// When each `node.register` was here.
    pub registered: Receiver<u64>,
    link: Link,
}

/// What the sockets' threads tell.
#[derive(Clone)]
struct Told {
    acks: Sender<Ack>,
    registered: Sender<u64>,
}

/// The node's socket, shared by the thread that reads it and whoever sends. Frames are written whole.
type Link = Arc<Mutex<Option<TcpStream>>>;

/// Lets the WebSocket library answer pings between our own frames.
struct Shared {
    read: TcpStream,
    link: Link,
}

impl Read for Shared {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read.read(into)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut link = self.link.lock().unwrap_or_else(|e| e.into_inner());
        link.as_mut().map_or(Ok(bytes.len()), |link| {
            link.write_all(bytes).map(|()| bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Engine {
    pub fn start() -> io::Result<Engine> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let (send, acks) = mpsc::channel();
        let (tell, registered) = mpsc::channel();
        let told = Told {
            acks: send,
            registered: tell,
        };
        let link = Link::default();
        let shared = link.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (told, link) = (told.clone(), shared.clone());
                thread::spawn(move || {
                    // A broker that goes away ends its connections in many ways, all of them fine.
                    let _ = serve(stream, &told, &link);
                });
            }
        });
        Ok(Engine {
            addr,
            acks,
            registered,
            link,
        })
    }

    /// Sends frames in one go; when the first byte left.
    pub fn send(&self, frames: &[u8]) -> io::Result<u64> {
        let mut link = self.link.lock().unwrap_or_else(|e| e.into_inner());
        let link = link
            .as_mut()
            .ok_or_else(|| io::Error::other("the broker is not connected"))?;
        let at = now_ns();
        link.write_all(frames)?;
        Ok(at)
    }

    pub fn connected(&self) -> bool {
        self.link
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .is_some()
    }
}

/// A `deliver` frame on the wire: unmasked text, as servers send it.
pub fn deliver(agent: &str, seq: u64, text: &str) -> Vec<u8> {
    let id = format!("{agent}_{seq}");
    let frame = json!({
        "v": 1, "type": "deliver", "delivery_id": format!("del_{id}"), "agent_id": agent_id(agent), "agent": agent,
        "msg_id": format!("m_{id}"), "seq": seq, "mode": "wait",
        "payload": { "type": "dm.received", "data": {
            "conversation_id": "dm_1",
            "message": { "id": format!("m_{id}"), "agent_id": "1", "agent_name": "boss", "text": text },
            "id": format!("m_{id}"), "from_agent_id": "1", "from_name": "boss", "to": agent, "text": text,
        }},
    })
    .to_string();
    let mut bytes = vec![0x81];
    match u16::try_from(frame.len()) {
        Ok(short @ 0..126) => bytes.push(short.to_le_bytes()[0]),
        Ok(long) => {
            bytes.push(126);
            bytes.extend(long.to_be_bytes());
        }
        Err(_) => {
            bytes.push(127);
            bytes.extend((frame.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(frame.as_bytes());
    bytes
}

fn agent_id(name: &str) -> String {
    format!("id_{name}")
}

fn serve(stream: TcpStream, told: &Told, link: &Link) -> io::Result<()> {
    const SOCKET: &[u8] = b"GET /v1/node/ws";
    stream.set_nodelay(true)?;
    let mut begin = [0; SOCKET.len()];
    while stream.peek(&mut begin)? < begin.len() {
        thread::yield_now();
    }
    if begin == SOCKET {
        socket(stream, told, link)
    } else {
        http(stream)
    }
}

fn socket(stream: TcpStream, told: &Told, link: &Link) -> io::Result<()> {
    let shared = Shared {
        read: stream.try_clone()?,
        link: Arc::new(Mutex::new(Some(stream.try_clone()?))),
    };
    let mut socket = tungstenite::accept(shared).map_err(io::Error::other)?;
    loop {
        let message = socket.read().map_err(io::Error::other)?;
        let at = now_ns();
        let Message::Text(text) = message else {
            continue;
        };
        let frame: Value = serde_json::from_str(&text)?;
        if frame["type"] == "delivery.ack" {
            let ack = Ack {
                agent: frame["agent"].as_str().unwrap_or_default().to_owned(),
                up_to: frame["up_to_seq"].as_u64().unwrap_or_default(),
                at,
            };
            let _ = told.acks.send(ack);
        } else if let Some(data) = answer(&frame) {
            let id = frame["id"].as_str().unwrap_or("e1");
            let reply = json!({"v": 1, "id": id, "type": "reply", "ok": true, "data": data});
            socket
                .send(Message::text(reply.to_string()))
                .map_err(io::Error::other)?;
            if frame["type"] == "node.register" {
                let _ = told.registered.send(at);
                // From here on deliveries may come, through the lock that the library writes through too.
                let mut sender = link.lock().unwrap_or_else(|e| e.into_inner());
                *sender = Some(stream.try_clone()?);
                socket.get_mut().link = link.clone();
            }
        }
    }
}

fn answer(frame: &Value) -> Option<Value> {
    match frame["type"].as_str()? {
        "node.register" => Some(json!({
            "id": frame["node_id"], "name": frame["name"], "status": "online", "live": true, "role": "broker",
        })),
        "agent.register" => Some(json!({
            "agent_id": agent_id(frame["name"].as_str()?), "name": frame["name"], "token": "at_live_bench",
        })),
        "inventory.sync" => Some(json!({
            "rebound_agents": [], "open_invocations": [], "completed_invocations": [], "rescheduled_invocations": [],
        })),
        _ => None,
    }
}

fn http(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            head.push(line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = head.first().map_or("", String::as_str);
        let data = match path.split(' ').nth(1).unwrap_or_default() {
            "/v1/workspace" => json!({"id": "ws_bench", "name": "bench"}),
            "/v1/nodes" => {
                json!({"id": body["node_id"], "name": body["name"], "token": "nt_live_bench"})
            }
            "/v1/agents" => json!({"id": "2", "name": body["name"], "token": "at_live_bench"}),
            _ => json!({}),
        };
        let text = json!({"ok": true, "data": data}).to_string();
        write!(
            writer,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )?;
    }
}
