//! The server over real sockets on loopback.

mod websockets;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use tungstenite::{Message, client::IntoClientRequest};

use super::link::LinkError;
use super::{Handler, HandlerOutcome, Request, Response, Server, ServerLimits, WebSocketLink};
use crate::sys::clock;
use crate::sys::wake::Wake;

/// No wait of these tests is longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers with what it was sent; has a few special paths.
struct Echo {
    /// `/wait` says that it has begun, and then waits until it is let go.
    begun: Sender<()>,
    go: Receiver<()>,
}

impl Handler for Echo {
    fn handle(&self, request: Request) -> HandlerOutcome {
        match request.path.as_str() {
            "/socket" => HandlerOutcome::Upgrade(Box::new(|socket| {
                let wake = Wake::new().expect("descriptors");
                let mut link = WebSocketLink::new(socket);
                loop {
                    match link.next() {
                        Ok(Some(m)) if m.is_text() || m.is_binary() => {
                            link.send(m).expect("room");
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => link.wait(&wake, None).expect("poll"),
                        Err(_) => return,
                    }
                }
            })),
            "/wait" => {
                self.begun.send(()).expect("test waits");
                let _ = self.go.recv_timeout(PATIENCE);
                HandlerOutcome::Respond(Response::text(200, "done"))
            }
            // More than the buffers of a connection that nobody reads take.
            "/much" => HandlerOutcome::Respond(Response::text(200, "x".repeat(32 * 1024 * 1024))),
            "/bug" => panic!("a bug, made on purpose"),
            _ => HandlerOutcome::Respond(Response::text(
                200,
                format!(
                    "{} {} {:?} {}",
                    request.method,
                    request.path,
                    request.query,
                    String::from_utf8_lossy(&request.body)
                ),
            )),
        }
    }
}

/// Knows who has the key `yes`, as the local API does.
struct Guarded(Echo);

impl Handler for Guarded {
    fn handle(&self, request: Request) -> HandlerOutcome {
        self.0.handle(request)
    }

    fn knows(&self, head: &Request) -> bool {
        head.header("x-api-key") == Some("yes")
    }
}

/// Learns from its answers who is known, as the embedded engine does: whoever says `Bearer k`.
struct Learning(Echo, Mutex<bool>);

impl Handler for Learning {
    fn handle(&self, request: Request) -> HandlerOutcome {
        *self.1.lock() |= request.bearer() == Some("k");
        self.0.handle(request)
    }

    fn knows(&self, head: &Request) -> bool {
        *self.1.lock() && head.bearer() == Some("k")
    }
}

struct World {
    server: Server,
    begun: Receiver<()>,
    go: Sender<()>,
}

fn world(limits: ServerLimits) -> World {
    world_of(limits, |echo| Arc::new(echo))
}

fn world_of(limits: ServerLimits, handler: impl FnOnce(Echo) -> Arc<dyn Handler>) -> World {
    let (begun_in, begun) = unbounded();
    let (go, go_out) = bounded(16);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let handler = handler(Echo {
        begun: begun_in,
        go: go_out,
    });
    let server = Server::start("test", listener, limits, handler).expect("threads");
    World { server, begun, go }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn of(world: &World) -> Self {
        let stream = TcpStream::connect(world.server.addr()).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Self(BufReader::new(stream))
    }

    fn say(&mut self, text: &str) -> &mut Self {
        self.0.get_mut().write_all(text.as_bytes()).expect("write");
        self
    }

    fn head(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a line");
            if line.trim().is_empty() {
                return lines;
            }
            lines.push(line.trim().to_owned());
        }
    }

    /// Status line and body of one answer.
    fn hear(&mut self) -> (String, String) {
        let head = self.head();
        let length = head
            .iter()
            .find_map(|l| l.strip_prefix("content-length: "))
            .map_or(0, |l| l.parse().expect("a number"));
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the body");
        let status = head.first().cloned().unwrap_or_default();
        (status, String::from_utf8(body).expect("text"))
    }

    /// Reads to the end of the connection; an error stands for an end by reset.
    fn ends(&mut self) -> String {
        let mut rest = String::new();
        match self.0.read_to_string(&mut rest) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
        }
        rest
    }
}

fn ask(world: &World, text: &str) -> (String, String) {
    Client::of(world).say(text).hear()
}

#[test]
fn a_client_asks_twice_over_one_connection() {
    let w = world(ServerLimits::default());
    let mut c = Client::of(&w);
    c.say("GET /a?x=1%202&y=a+b HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(
        c.hear(),
        (
            "HTTP/1.1 200 OK".into(),
            r#"GET /a [("x", "1 2"), ("y", "a b")] "#.into()
        )
    );
    c.say("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(c.hear().1, "POST /b [] hi");
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    let w = world(ServerLimits::default());
    let mut c = Client::of(&w);
    c.say("GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /3 HTTP/1.1\r\n\r\n");
    assert_eq!(c.hear().1, "GET /1 [] ");
    assert_eq!(c.hear().1, "POST /2 [] x");
    assert_eq!(c.hear().1, "GET /3 [] ");
}

#[test]
fn a_client_that_wants_to_leave_is_let_go() {
    let w = world(ServerLimits::default());
    for head in [
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut c = Client::of(&w);
        c.say(head);
        assert_eq!(c.hear().1, "GET / [] ");
        assert_eq!(c.ends(), "");
    }
    let mut old = Client::of(&w);
    for _ in 0..2 {
        old.say("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(old.head().contains(&"connection: keep-alive".to_owned()));
        old.0.read_exact(&mut [0; 9]).expect("the body");
    }
}

#[test]
fn a_body_in_chunks_arrives_whole() {
    let w = world(ServerLimits::default());
    let mut c = Client::of(&w);
    c.say("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    c.say("a;x=y\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\nGET /next HTTP/1.1\r\n\r\n");
    assert_eq!(c.hear().1, "POST / [] abc0123456789");
    assert_eq!(c.hear().1, "GET /next [] ");
}

#[test]
fn a_careful_client_is_told_to_go_on_with_its_body() {
    let w = world(ServerLimits::default());
    let mut c = Client::of(&w);
    c.say("POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(c.head(), ["HTTP/1.1 100 Continue"]);
    c.say("hi");
    assert_eq!(c.hear().1, "POST / [] hi");
}

#[test]
fn head_gets_the_head_alone() {
    let w = world(ServerLimits::default());
    let mut c = Client::of(&w);
    c.say("HEAD / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    assert!(c.head().contains(&"content-length: 9".to_owned()));
    assert_eq!(c.hear().1, "GET /2 [] ");
}

#[test]
fn too_much_is_refused_before_it_is_held() {
    let limits = ServerLimits {
        body_bytes: 8,
        head_bytes: 200,
        ..ServerLimits::default()
    };
    let w = world(limits);
    let (status, body) = ask(&w, "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 413 Content Too Large");
    assert!(body.contains(r#""code":"body_too_large""#), "{body}");
    let chunked =
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n1\r\n9\r\n";
    assert!(ask(&w, chunked).0.contains("413"));
    let huge = "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n";
    assert!(ask(&w, huge).0.contains("413"));
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200));
    assert!(ask(&w, &long).0.contains("431"));
    let exact = "POST / HTTP/1.1\r\nContent-Length: 8\r\n\r\n12345678";
    assert_eq!(ask(&w, exact).1, "POST / [] 12345678");
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let w = world(ServerLimits::default());
    for head in [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://localhost\r\nOrigin: http://evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: a\r\nx-api-key: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        "GET http://evil/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://evil HTTP/1.1\r\n\r\n",
    ] {
        let mut c = Client::of(&w);
        c.say(head);
        let (status, body) = c.hear();
        assert_eq!(status, "HTTP/1.1 400 Bad Request", "{head:?}");
        assert!(body.contains(r#""code":"bad_request""#), "{body}");
        assert_eq!(c.ends(), "", "{head:?}");
    }
    let odd = "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n";
    assert!(ask(&w, odd).0.contains("501 Not Implemented"));
}

#[test]
fn a_head_that_trickles_is_cut_off() {
    let w = world(ServerLimits {
        head_time: Duration::from_millis(100),
        idle_time: PATIENCE,
        ..ServerLimits::default()
    });
    let mut c = Client::of(&w);
    c.say("GET / HTTP/1.1\r\nX");
    assert_eq!(c.hear().0, "HTTP/1.1 408 Request Timeout");
    assert_eq!(c.ends(), "");
}

#[test]
fn a_body_that_trickles_is_cut_off() {
    let w = world(ServerLimits {
        body_time: Duration::from_millis(100),
        ..ServerLimits::default()
    });
    let mut c = Client::of(&w);
    c.say("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab");
    assert_eq!(c.hear().0, "HTTP/1.1 408 Request Timeout");
}

#[test]
fn a_connection_left_idle_is_closed_without_a_word() {
    let w = world(ServerLimits {
        idle_time: Duration::from_millis(100),
        ..ServerLimits::default()
    });
    assert_eq!(Client::of(&w).ends(), "");
}

#[test]
fn a_full_server_says_so_and_serves_again_when_there_is_room() {
    let w = world(ServerLimits {
        connections: 1,
        ..ServerLimits::default()
    });
    let mut busy = Client::of(&w);
    busy.say("GET /wait HTTP/1.1\r\nConnection: close\r\n\r\n");
    w.begun.recv_timeout(PATIENCE).expect("it is at work");
    let (status, body) = ask(&w, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(body.contains("too_many_connections"), "{body}");
    assert!(
        body.contains("all 1 connections"),
        "the limit is named: {body}"
    );
    w.go.send(()).expect("it waits");
    assert_eq!(busy.hear().1, "done");
    assert_eq!(busy.ends(), "");
    assert_eq!(ask(&w, "GET / HTTP/1.1\r\n\r\n").1, "GET / [] ");
}

#[test]
fn strangers_who_only_hold_connections_open_keep_nobody_out() {
    let w = world(ServerLimits {
        connections: 4,
        ..ServerLimits::default()
    });
    let mut held: Vec<Client> = (0..40)
        .map(|_| {
            let mut c = Client::of(&w);
            // A connection that made room for another may be closed already.
            let _ = c.0.get_mut().write_all(b"GET / HT");
            c
        })
        .collect();
    assert_eq!(ask(&w, "GET / HTTP/1.1\r\n\r\n").1, "GET / [] ");
    assert_eq!(held[0].ends(), "", "the oldest made room");
}

#[test]
fn a_newcomer_has_time_to_show_its_key_however_many_come_after_it() {
    let limits = ServerLimits {
        connections: 2,
        newcomer_time: PATIENCE,
        ..ServerLimits::default()
    };
    let w = world_of(limits, |echo| Arc::new(Guarded(echo)));
    let mut slow = Client::of(&w);
    let mut first = Client::of(&w);
    let mut crowd: Vec<Client> = (0..40).map(|_| Client::of(&w)).collect();
    for c in &mut crowd {
        c.say("GET / HTTP/1.1\r\nX-API-Key: no\r\n\r\n");
    }
    first.say("GET / HTTP/1.1\r\nX-API-Key: no\r\n\r\n");
    // The others of the crowd go through the second place one after the other.
    assert_eq!(crowd[39].hear().1, "GET / [] ");
    slow.say("GET /slow HTTP/1.1\r\nX-API-Key: yes\r\n\r\n");
    assert_eq!(slow.hear().1, "GET /slow [] ");
}

/// One that asks for much and reads nothing of it.
fn deaf(w: &World, headers: &str) -> Client {
    let mut c = Client::of(w);
    c.say(&format!("GET /much HTTP/1.1\r\n{headers}\r\n"));
    // It has begun to answer, so it is not waiting for a request.
    c.0.fill_buf().expect("a beginning");
    c
}

#[test]
fn strangers_who_do_not_read_their_answers_keep_nobody_out() {
    let w = world(ServerLimits {
        connections: 4,
        ..ServerLimits::default()
    });
    let _held: Vec<Client> = (0..12).map(|_| deaf(&w, "")).collect();
    for _ in 0..8 {
        assert_eq!(ask(&w, "GET / HTTP/1.1\r\n\r\n").1, "GET / [] ");
    }
}

#[test]
fn strangers_are_put_out_before_anybody_who_has_shown_the_key() {
    let limits = ServerLimits {
        connections: 4,
        ..ServerLimits::default()
    };
    let w = world_of(limits, |echo| Arc::new(Guarded(echo)));
    let mut owner = Client::of(&w);
    owner.say("GET /1 HTTP/1.1\r\nX-API-Key: yes\r\n\r\n");
    assert_eq!(owner.hear().1, "GET /1 [] ");
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(deaf(&w, "X-API-Key: no\r\n"));
        let mut idle = Client::of(&w);
        idle.say("GET / HTTP/1.1\r\nX-API-Key: no\r\n\r\n").hear();
        held.push(idle);
    }
    owner.say("GET /2 HTTP/1.1\r\nX-API-Key: yes\r\n\r\n");
    assert_eq!(
        owner.hear().1,
        "GET /2 [] ",
        "it was the oldest, and stayed"
    );
}

#[test]
fn where_only_answers_tell_who_is_known_a_key_that_is_refused_tells_nothing() {
    let limits = ServerLimits {
        connections: 2,
        stranger_time: Duration::from_millis(100),
        ..ServerLimits::default()
    };
    let w = world_of(limits, |echo| Arc::new(Learning(echo, Mutex::new(false))));
    let mut known = Client::of(&w);
    known.say("GET / HTTP/1.1\r\nAuthorization: Bearer k\r\n\r\n");
    known.hear();
    let mut stranger = Client::of(&w);
    stranger.say("GET / HTTP/1.1\r\n\r\n").hear();
    assert_eq!(stranger.ends(), "", "its time is short");
    let mut refused = Client::of(&w);
    refused.say("GET / HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n");
    refused.hear();
    assert_eq!(refused.ends(), "", "so is its");
    known.say("GET /later HTTP/1.1\r\nAuthorization: Bearer k\r\n\r\n");
    assert_eq!(known.hear().1, "GET /later [] ");
}

#[test]
fn the_body_of_a_stranger_is_not_even_read() {
    let limits = ServerLimits {
        stranger_body_bytes: 0,
        ..ServerLimits::default()
    };
    let w = world_of(limits, |echo| Arc::new(Guarded(echo)));
    let mut c = Client::of(&w);
    c.say("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(c.hear().1, "POST / [] ");
    assert_eq!(c.ends(), "", "where the next request begins is not known");
    let with_key = "POST / HTTP/1.1\r\nX-API-Key: yes\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(ask(&w, with_key).1, "POST / [] hi");
}

#[test]
fn a_bug_in_an_answer_costs_one_answer() {
    let w = world(ServerLimits::default());
    let mut c = Client::of(&w);
    c.say("GET /bug HTTP/1.1\r\n\r\nGET /after HTTP/1.1\r\n\r\n");
    assert_eq!(c.hear().0, "HTTP/1.1 500 Internal Server Error");
    assert_eq!(c.hear().1, "GET /after [] ");
}
