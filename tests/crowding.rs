//! Callers without a key who crowd the embedded engine's door: they ask for much, read nothing, and come back whenever they
//! are put out. Who has a key is answered all the same. And pages of the web that reach it under another name.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use relay_broker::engine::server::Engine;

use crate::embedded::{agent, start};
use crate::support::{Scratch, until};

/// More than there are places for callers.
const CROWD: usize = 300;
const CALLS: usize = 40;

/// Callers who are there until this is dropped.
struct Crowd {
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Crowd {
    /// Each of them asks the same again and again.
    fn at(addr: SocketAddr, request: &str) -> Self {
        // Both ends are in this process.
        relay_broker::sys::limits::raise();
        let over = Arc::new(AtomicBool::new(false));
        let came = Arc::new(AtomicUsize::new(0));
        let many = request.repeat(100);
        let threads = (0..CROWD).map(|_| {
            let (over, came, many) = (over.clone(), came.clone(), many.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(stream) = TcpStream::connect(addr) {
                        came.fetch_add(1, Ordering::Relaxed);
                        stay(stream, many.as_bytes(), &over);
                    }
                }
            })
        });
        let threads = threads.collect();
        until("the crowd", || {
            (came.load(Ordering::Relaxed) >= CROWD).then_some(())
        });
        Self { over, threads }
    }
}

/// Until it is put out; who gets rid of no more words waits.
fn stay(mut stream: TcpStream, words: &[u8], over: &AtomicBool) {
    let moment = Some(Duration::from_millis(100));
    let _ = stream
        .set_write_timeout(moment)
        .and(stream.set_read_timeout(moment));
    while !over.load(Ordering::Relaxed) {
        let done = match words {
            [] => stream.read(&mut [0]).and_then(|n| {
                if n == 0 {
                    Err(ErrorKind::BrokenPipe.into())
                } else {
                    Ok(())
                }
            }),
            _ => stream.write_all(words),
        };
        match done {
            Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            _ => {}
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The status of an answer to one request on a connection of its own; 0 for none.
fn status(addr: SocketAddr, request: &str) -> u16 {
    let Ok(mut stream) = TcpStream::connect(addr) else {
        return 0;
    };
    let mut answer = String::new();
    let heard = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read_to_string(&mut answer));
    let _ = stream.shutdown(Shutdown::Both);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    status.filter(|_| heard.is_ok()).unwrap_or(0)
}

fn get(path: &str, token: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    )
}

fn each_call_is_answered(e: &Engine, request: &str) {
    let statuses: Vec<u16> = (0..CALLS).map(|_| status(e.addr(), request)).collect();
    assert_eq!(statuses, vec![200; CALLS]);
}

#[test]
fn callers_without_a_key_who_read_nothing_keep_nobody_out_of_the_engine() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let token = agent(&e, "ada");
    let request = "GET /v1/agents HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let _crowd = Crowd::at(e.addr(), request);
    each_call_is_answered(&e, &get("/v1/agents", e.workspace_key()));
    each_call_is_answered(&e, &get("/v1/agent", &token));
}

#[test]
fn callers_with_a_made_up_key_keep_nobody_out_of_the_engine() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let request = get("/v1/agents", "at_live_0").replace("Connection: close\r\n", "");
    let _crowd = Crowd::at(e.addr(), &request);
    each_call_is_answered(&e, &get("/v1/agents", e.workspace_key()));
}

#[test]
fn callers_who_say_nothing_keep_nobody_out_of_the_engine() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let _crowd = Crowd::at(e.addr(), "");
    let key = e.workspace_key();
    let calls = ["/v1/agents", "/v1/nodes", "/v1/channels"];
    let statuses = calls.map(|path| status(e.addr(), &get(path, key)));
    assert_eq!(statuses, [200; 3]);
}

#[test]
fn a_page_that_reaches_the_engine_under_another_name_is_told_nothing() {
    let dir = Scratch::new();
    let e = start(dir.path());
    let asks = |headers: &str| {
        let key = e.workspace_key();
        let head = format!("GET /v1/agents HTTP/1.1\r\nAuthorization: Bearer {key}\r\n");
        status(
            e.addr(),
            &format!("{head}Connection: close\r\n{headers}\r\n"),
        )
    };
    for ours in [
        "Host: localhost\r\n",
        "Host: 127.0.0.1:8787\r\nOrigin: http://localhost:5173\r\n",
    ] {
        assert_eq!(asks(ours), 200, "{ours}");
    }
    for theirs in [
        "Host: evil.example\r\n",
        "Host: localhost\r\nOrigin: https://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
    ] {
        assert_eq!(asks(theirs), 403, "{theirs}");
    }
    for twofold in [
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost\r\n",
    ] {
        assert_eq!(asks(twofold), 400, "{twofold}");
    }
}
