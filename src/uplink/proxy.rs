//! The way to an engine: a TCP connection within a deadline, direct or through an HTTP proxy's CONNECT tunnel. Which
//! proxy, if any, `config` has decided; nothing here reads the environment.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::resolve::{late, left, resolve};
use crate::msg::Secret;
use crate::time::Mono;

/// The most a proxy may answer before the tunnel is open.
const HEAD_BYTES: usize = 16 * 1024;
/// How many headers that answer may have.
const HEADERS: usize = 64;

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address, without brackets.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// User and password, if it wants any.
    pub login: Option<(String, Secret)>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority(&self.host, self.port))
    }
}

impl Proxy {
    /// The same, for calls over HTTP.
    pub(super) fn for_http(&self) -> Option<ureq::Proxy> {
        let mut builder = ureq::Proxy::builder(ureq::ProxyProtocol::Http)
            .host(&bracketed(&self.host))
            .port(self.port);
        if let Some((user, password)) = &self.login {
            builder = builder.username(user).password(password.reveal());
        }
        match builder.build() {
            Ok(proxy) => Some(proxy),
            Err(e) => {
                log::error!("the proxy {self} cannot be used: {e}");
                None
            }
        }
    }
}

/// A connection to the host, at the latest `until`. Its socket is blocking, and has the rest of the time for each read.
///
/// # Errors
/// When there is none; the text names who would not have it.
pub(super) fn connect(
    host: &str,
    port: u16,
    proxy: Option<&Proxy>,
    until: Mono,
) -> io::Result<TcpStream> {
    let Some(proxy) = proxy else {
        return dial(host, port, until);
    };
    let mut stream = dial(&proxy.host, proxy.port, until)
        .map_err(|e| io::Error::new(e.kind(), format!("proxy {proxy}: {e}")))?;
    tunnel(&mut stream, proxy, &authority(host, port), until)
        .map_err(|e| io::Error::new(e.kind(), format!("proxy {proxy}: {e}")))?;
    Ok(stream)
}

fn dial(host: &str, port: u16, until: Mono) -> io::Result<TcpStream> {
    let mut last = io::Error::other(format!("{host} has no address"));
    for address in resolve(host, port, until)? {
        let tried = TcpStream::connect_timeout(&address, left(until)?);
        match tried {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(e) => last = io::Error::new(e.kind(), format!("{address}: {e}")),
        }
    }
    Err(last)
}

/// Asks the proxy for a tunnel to `target`.
fn tunnel(stream: &mut TcpStream, proxy: &Proxy, target: &str, until: Mono) -> io::Result<()> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some((user, password)) = &proxy.login {
        let login = STANDARD.encode(format!("{user}:{}", password.reveal()));
        request.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
    }
    request.push_str("\r\n");
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        stream.set_read_timeout(Some(left(until)?))?;
        let count = match stream.read(&mut chunk) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(late("its answer")),
            read => read?,
        };
        if count == 0 {
            return Err(io::Error::other("it hung up instead of connecting"));
        }
        head.extend_from_slice(&chunk[..count]);
        if let Some(status) = answered(&head)? {
            return match status {
                200..=299 => Ok(()),
                407 => Err(io::Error::other(
                    "it wants a user and password (407); put them into the proxy's URL",
                )),
                _ => Err(io::Error::other(format!(
                    "it refuses to connect to {target} ({status})"
                ))),
            };
        }
        if head.len() > HEAD_BYTES {
            return Err(io::Error::other("its answer has no end"));
        }
    }
}

/// The status, once the head is whole. What is behind the tunnel never speaks first, so nothing may follow a yes.
fn answered(head: &[u8]) -> io::Result<Option<u16>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let end = match response.parse(head) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => return Err(io::Error::other(format!("its answer is no HTTP: {e}"))),
    };
    let status = response.code.unwrap_or_default();
    if (200..300).contains(&status) && head.len() > end {
        return Err(io::Error::other(
            "it says more than that the tunnel is open",
        ));
    }
    Ok(Some(status))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

fn authority(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{clock, thread};
    use crossbeam_channel::bounded;
    use std::net::TcpListener;
    use std::time::Duration;

    /// A proxy that gives one caller `answer` and then says back what it hears, and the request it got.
    fn proxy(answer: &'static str) -> (Proxy, crossbeam_channel::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (told, asked) = bounded(1);
        thread::start("proxy", 128, move || {
            let (mut stream, _) = listener.accept().expect("a caller");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a whole request");
                request.extend_from_slice(&byte);
            }
            let _ = told.send(String::from_utf8_lossy(&request).into_owned());
            let _ = stream.write_all(answer.as_bytes());
            let mut back = stream.try_clone().expect("descriptors");
            let _ = io::copy(&mut stream, &mut back);
        })
        .expect("a thread");
        let proxy = Proxy {
            host: "127.0.0.1".into(),
            port,
            login: Some(("ann".into(), Secret::new("se:cret"))),
        };
        (proxy, asked)
    }

    fn through(proxy: &Proxy, time: Duration) -> io::Result<TcpStream> {
        connect("engine.example", 443, Some(proxy), clock::now().mono + time)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_proxy_is_asked_for_a_tunnel_with_its_login_and_is_then_out_of_the_way() {
        let (proxy, asked) = proxy("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n");
        let mut stream = through(&proxy, LONG).expect("a tunnel");
        let request = asked.recv().expect("asked");
        assert!(
            request
                .starts_with("CONNECT engine.example:443 HTTP/1.1\r\nHost: engine.example:443\r\n"),
            "{request}"
        );
        assert!(
            request.contains("\r\nProxy-Authorization: Basic YW5uOnNlOmNyZXQ=\r\n"),
            "{request}"
        );
        stream.write_all(b"ping").expect("open");
        let mut back = [0; 4];
        stream.read_exact(&mut back).expect("open");
        assert_eq!(&back, b"ping");
    }

    #[test]
    fn a_proxy_that_opens_no_tunnel_is_named_with_its_reason_and_without_its_password() {
        let cases = [
            ("HTTP/1.1 407 No\r\n\r\n", "user and password (407)"),
            (
                "HTTP/1.1 403 No\r\n\r\n",
                "refuses to connect to engine.example:443 (403)",
            ),
            ("SSH-2.0-x\r\n\r\n", "is no HTTP"),
            ("HTTP/1.1 200 Yes\r\n\r\nand more", "more than that"),
        ];
        for (answer, why) in cases {
            let (proxy, _asked) = proxy(answer);
            let error = through(&proxy, LONG).expect_err("no tunnel").to_string();
            assert!(
                error.contains(why) && error.contains(&proxy.to_string()),
                "{error}"
            );
            assert!(!error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn a_proxy_that_does_not_answer_costs_the_time_that_was_given_and_no_more() {
        let (proxy, _asked) = proxy("");
        let before = clock::now().mono;
        let error = through(&proxy, Duration::from_millis(50)).expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(clock::now().mono.since(before) < LONG);
    }

    #[test]
    fn the_authority_of_an_address_with_colons_has_brackets() {
        assert_eq!(authority("::1", 80), "[::1]:80");
        assert_eq!(authority("engine.example", 443), "engine.example:443");
    }
}
