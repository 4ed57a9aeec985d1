//! The link's one thread: a non-blocking socket under the WebSocket, slept on together with the queue of outgoing frames.
//! Does what [`UplinkCore`] decides and tells the dispatcher what happened.

use std::io;
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{TryRecvError, TrySendError};
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::http::Uri;
use tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{HandshakeError, Message};

use super::core::{Effect, Event, UplinkCore};
use super::enrol::Enroller;
use super::frame_faults::{FrameFault, FrameFaults};
use super::proxy;
use super::rest::RestClient;
use super::roots::TrustedRoots;
use crate::identity::derive::Enrolment;
use crate::machine::NoLog;
use crate::machine::event_loop::{Driver, EventLoop};
use crate::msg::{LinkCommand, LinkReport, Secret};
use crate::net::http::endpoint;
use crate::net::link::{self, LinkError, Pollable, WebSocketLink};
use crate::net::skip::{PassedOver, Skipping};
use crate::sys::wake::{Receiver, Sender, mailbox};
use crate::sys::{clock, entropy, thread};
use crate::time::{Mono, Wall};
use crate::wire::Parsed;
use crate::wire::down::Down;
use crate::wire::head;
use crate::wire::up::Up;

/// How many frames wait for the link. Full means the link is dropped; acknowledgements are cumulative and answers are in
/// the journal, so reconnecting repairs it.
pub const OUTBOX: usize = 1024;
/// The largest message we take. What the engine sends is far smaller; of larger ones the beginning is read, and the link is
/// kept.
const FRAME_BYTES: usize = 4 * 1024 * 1024;
/// The most that waits inside the WebSocket for a peer that does not read.
const UNSENT_BYTES: usize = 8 * 1024 * 1024;
/// With this code a hosted engine closes a socket that it has another one for
/// ([engine-protocol 3.10](crate::docs::engine_protocol#3.10)).
const REPLACED: u16 = 4000;
/// For everything from the name's address to the open WebSocket.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the last frames may take to leave at the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Everything the uplink's thread is sent.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // frames are the common case, and commands rare
pub enum LinkInput {
    /// A frame for the engine; dropped while there is no link.
    Frame(Up),
    /// An order.
    Command(LinkCommand),
}

/// What the thread needs to know.
pub struct UplinkSettings {
    /// Gets other tokens when the one at hand is no good.
    pub enroller: Enroller,
    /// What to begin with.
    pub enrolment: Enrolment,
}

/// The dispatcher's end.
#[derive(Clone)]
pub struct Uplink {
    queue: Sender<LinkInput>,
    /// A frame was lost because the queue was full: the link must start over, so that the engine repairs it.
    overflowed: Arc<AtomicBool>,
    /// Beside the queue, because the goodbye must get through a full one without anybody waiting.
    finished: Arc<AtomicBool>,
}

impl Uplink {
    /// Starts the thread `uplink`.
    ///
    /// # Errors
    /// When a thread or descriptor is not to be had.
    pub fn start(
        settings: UplinkSettings,
        report: impl Fn(LinkReport) + Send + 'static,
    ) -> io::Result<(Self, thread::Handle)> {
        let (queue, inbox) = mailbox(OUTBOX)?;
        let seed = u64::from_ne_bytes(entropy::bytes()?);
        let core = UplinkCore::new(seed, settings.enroller.is_pinned());
        let UplinkSettings {
            enroller,
            enrolment,
        } = settings;
        let overflowed = Arc::new(AtomicBool::new(false));
        let finished = Arc::new(AtomicBool::new(false));
        let thread = UplinkThread {
            event_loop: EventLoop::new(core, NoLog),
            inbox,
            finished: finished.clone(),
            received: 0,
            faults: FrameFaults::default(),
            driver: UplinkDriver {
                enroller,
                link: None,
                greeted: false,
                overflowed: overflowed.clone(),
                token: enrolment.token.clone(),
                report: Box::new(report),
            },
        };
        let handle = thread::start("uplink", 512, move || thread.run(enrolment))?;
        Ok((
            Self {
                queue,
                overflowed,
                finished,
            },
            handle,
        ))
    }

    /// Hands a frame or order over without waiting. A full queue drops the frame and then the link.
    pub fn send(&self, input: LinkInput) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(input) {
            log::warn!("{OUTBOX} frames wait for the engine; the link starts over");
            self.overflowed.store(true, Ordering::Release);
            // The thread may have emptied its queue since, and must look again.
            self.queue.wake();
        }
    }

    /// Lets the thread say goodbye and end.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        let _ = self.queue.try_send(LinkInput::Command(LinkCommand::Finish));
    }
}

/// The socket, with its encryption if it has any, and with what passes over giants.
type Stream = Skipping<MaybeTlsStream<TcpStream>>;

/// Does what the core decides.
struct UplinkDriver {
    enroller: Enroller,
    link: Option<WebSocketLink<Stream>>,
    /// Our registration has gone out on this link. What was queued for an earlier link has no place before it.
    greeted: bool,
    overflowed: Arc<AtomicBool>,
    token: Secret,
    report: Box<dyn Fn(LinkReport) + Send>,
}

impl Driver<UplinkCore> for UplinkDriver {
    type Inbound = Event;

    fn accept(&mut self, event: Event) -> Event {
        event
    }

    fn tick(&self) -> Event {
        Event::Tick
    }

    fn perform(&mut self, _: Wall, effect: Effect, events: &mut Vec<Event>) -> ControlFlow<()> {
        match effect {
            Effect::Report(report) => (self.report)(report),
            Effect::Drop => self.link = None,
            Effect::Mint => events.push(self.mint()),
            Effect::Open => events.push(self.open()),
        }
        ControlFlow::Continue(())
    }

    /// There is no log.
    fn degraded(&mut self, _: Option<&str>) {}
}

impl UplinkDriver {
    fn enrol(&mut self, enrolment: Enrolment) {
        self.token = enrolment.token;
        let (node_id, node_name) = (enrolment.node_id, enrolment.node_name);
        (self.report)(LinkReport::Enrolled { node_id, node_name });
    }

    fn mint(&mut self) -> Event {
        match self.enroller.mint(Some(&self.token)) {
            Ok(enrolment) => {
                self.enrol(enrolment);
                Event::Minted
            }
            Err(no) => Event::MintFailed {
                why: no.why,
                refused: no.refused,
            },
        }
    }

    fn open(&mut self) -> Event {
        // Another process with our id may have got a newer one, which killed ours.
        if let Some(newer) = self.enroller.at_hand().filter(|e| e.token != self.token) {
            self.enrol(newer);
        }
        let client = self.enroller.client();
        let until = clock::now().mono + HANDSHAKE;
        match open(client, &self.token, until) {
            Ok(link) => {
                self.link = Some(link);
                self.greeted = false;
                // What overflowed was for a link that is gone.
                self.overflowed.store(false, Ordering::Release);
                Event::Opened
            }
            Err(Unopened { why, unauthorized }) => Event::OpenFailed { why, unauthorized },
        }
    }
}

/// Listens to the dispatcher and to the socket.
struct UplinkThread {
    event_loop: EventLoop<UplinkCore, NoLog>,
    driver: UplinkDriver,
    inbox: Receiver<LinkInput>,
    finished: Arc<AtomicBool>,
    /// How many bytes had come in over the link when it was last looked at.
    received: u64,
    faults: FrameFaults,
}

impl UplinkThread {
    fn run(mut self, enrolment: Enrolment) {
        self.driver.enrol(enrolment);
        self.feed(Event::Start { has_token: true });
        loop {
            match self.drain_inbox() {
                Ok(()) => {}
                Err(Finished) => return self.farewell(),
            }
            if self.driver.overflowed.swap(false, Ordering::AcqRel) {
                self.feed(Event::Reconnect);
            }
            self.drain_socket();
            let until = self.event_loop.settle(clock::now, &mut self.driver);
            let limit = until.map(|at| at.since(clock::now().mono));
            let slept = match &mut self.driver.link {
                Some(link) => link.wait(&self.inbox, limit),
                None => wait_only(&self.inbox, limit),
            };
            if let Err(e) = slept {
                log::error!("the uplink cannot wait: {e}");
                std::thread::sleep(Duration::from_secs(1));
            }
            self.inbox.clear();
        }
    }

    fn feed(&mut self, event: Event) {
        self.event_loop.feed(clock::now, event, &mut self.driver);
    }

    fn drain_inbox(&mut self) -> Result<(), Finished> {
        loop {
            match self.inbox.try_recv() {
                Ok(LinkInput::Frame(frame)) => self.send(&frame),
                Ok(LinkInput::Command(LinkCommand::Reconnect)) => self.feed(Event::Reconnect),
                Ok(LinkInput::Command(LinkCommand::Finish)) | Err(TryRecvError::Disconnected) => {
                    return Err(Finished);
                }
                Err(TryRecvError::Empty) if self.finished.load(Ordering::Acquire) => {
                    return Err(Finished);
                }
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    fn send(&mut self, frame: &Up) {
        self.driver.greeted |= matches!(frame, Up::NodeRegister(_));
        let Some(link) = self.driver.link.as_mut().filter(|_| self.driver.greeted) else {
            return;
        };
        let mut sent = link.send(Message::text(frame.to_text()));
        if sent.is_ok() && matches!(frame, Up::NodeHeartbeat(_)) {
            // The answer to the ping is what tells a quiet link from a black hole.
            sent = link.send(Message::Ping(Vec::new().into()));
        }
        if let Err(e) = sent {
            self.lost(&e);
        }
    }

    fn drain_socket(&mut self) {
        while let Some(link) = &mut self.driver.link {
            match link.next() {
                Ok(Some(Message::Text(text))) => self.hear(text.as_str()),
                Ok(Some(Message::Binary(_))) => self.pass_over(&FrameFault::Binary),
                Ok(Some(_)) => self.feed(Event::Heard { frame: false }),
                Ok(None) => {
                    // One that takes long to come is life, too.
                    let received = link.stream().received();
                    if std::mem::replace(&mut self.received, received) != received {
                        self.feed(Event::Heard { frame: false });
                    }
                    return;
                }
                Err(e) => self.lost(&e),
            }
        }
    }

    fn hear(&mut self, text: &str) {
        if let Some(giant) = PassedOver::read(text) {
            return self.hear_of(&giant);
        }
        match Down::parse(text) {
            Ok(Parsed::Known(frame)) => {
                self.feed(Event::Heard {
                    frame: matches!(frame, Down::Reply(_)),
                });
                (self.driver.report)(LinkReport::Frame(frame));
            }
            Ok(Parsed::Unknown { kind, .. }) => self.pass_over(&FrameFault::Unknown(kind)),
            Err(e) => self.pass_over(&FrameFault::Broken(e)),
        }
    }

    /// A message was too large; whoever it was for hears of it all the same.
    fn hear_of(&mut self, giant: &PassedOver<'_>) {
        let fault = FrameFault::TooLarge(giant.bytes);
        let Some(frame) = head::frame(giant.head) else {
            return self.pass_over(&fault);
        };
        self.note(&fault);
        (self.driver.report)(LinkReport::TooLarge(frame, giant.bytes));
    }

    fn pass_over(&mut self, fault: &FrameFault) {
        self.note(fault);
        (self.driver.report)(LinkReport::PassedOver);
    }

    fn note(&mut self, fault: &FrameFault) {
        self.feed(Event::Heard { frame: false });
        if let Some(line) = self.faults.note(clock::now().mono, fault) {
            log::warn!("{line}");
        }
    }

    fn lost(&mut self, why: &LinkError) {
        self.driver.link = None;
        let code = match why {
            LinkError::Closed(Some((code, reason))) if reason == "superseded" => Some(*code),
            _ => None,
        };
        let why = why.to_string();
        self.feed(match code {
            Some(REPLACED) => Event::Replaced { why },
            code => Event::Closed {
                why,
                superseded: code.is_some(),
            },
        });
    }

    fn farewell(mut self) {
        if let Some(link) = &mut self.driver.link {
            let until = clock::now().mono + FAREWELL;
            while link.has_unsent() && clock::now().mono < until {
                if link
                    .wait(&self.inbox, Some(until.since(clock::now().mono)))
                    .is_err()
                    || link.flush().is_err()
                {
                    break;
                }
            }
            link.close(1000, "bye");
        }
    }
}

struct Finished;

struct Unopened {
    why: String,
    unauthorized: bool,
}

impl Unopened {
    fn because(why: impl std::fmt::Display) -> Self {
        Self {
            why: why.to_string(),
            unauthorized: false,
        }
    }
}

fn wait_only(inbox: &Receiver<LinkInput>, limit: Option<Duration>) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags};
    link::wait(&mut [PollFd::new(inbox, PollFlags::IN)], limit)
}

/// Connects, upgrades with the token in a header, and gives a non-blocking socket, all within one deadline.
fn open(
    client: &RestClient,
    token: &Secret,
    until: Mono,
) -> Result<WebSocketLink<Stream>, Unopened> {
    let base = client.base();
    let url = format!("{}/v1/node/ws", websocket_base(base));
    let mut request = url
        .as_str()
        .into_client_request()
        .map_err(Unopened::because)?;
    let bearer =
        HeaderValue::from_str(&format!("Bearer {}", token.reveal())).map_err(|_| Unopened {
            why: "the node token has characters that no header can carry".into(),
            unauthorized: true,
        })?;
    request.headers_mut().insert(AUTHORIZATION, bearer);
    let (host, port) = target(request.uri())?;
    let stream = proxy::connect(&host, port, client.proxy(), until)
        .map_err(|e| Unopened::because(format!("the engine at {base} cannot be reached: {e}")))?;
    stream.set_nonblocking(true).map_err(Unopened::because)?;
    let encrypted = request.uri().scheme_str() == Some("wss");
    let stream = match encrypted {
        true => encrypt(&host, stream, client.roots())?,
        false => MaybeTlsStream::Plain(stream),
    };
    let config = WebSocketConfig::default().max_write_buffer_size(UNSENT_BYTES);
    let stream = Skipping::new(stream, FRAME_BYTES);
    let mut tried = client_with_config(request, stream, Some(config));
    loop {
        match tried {
            Ok((socket, _)) => return Ok(WebSocketLink::new(socket)),
            Err(HandshakeError::Interrupted(going)) => {
                let left = until.since(clock::now().mono);
                if left.is_zero() {
                    let why = format!("{base} does not finish the handshake");
                    return Err(Unopened::because(why));
                }
                let stream = going.get_ref().get_ref();
                wait_readable(stream, left).map_err(Unopened::because)?;
                tried = going.handshake();
            }
            Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let status = response.status();
                return Err(Unopened {
                    why: format!("the engine at {base} answers the upgrade with {status}"),
                    unauthorized: status == 401,
                });
            }
            Err(HandshakeError::Failure(e)) => {
                return Err(Unopened::because(format!("no WebSocket with {base}: {e}")));
            }
        }
    }
}

/// The handshake's own messages always fit into an empty socket, so all that can be waited for is the other side.
fn wait_readable(stream: &Stream, limit: Duration) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags};
    let descriptor = stream.descriptor();
    link::wait(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(limit))
}

/// With the bundled roots if there are no others; the handshake happens with the first bytes.
#[cfg(feature = "tls")]
fn encrypt(
    host: &str,
    stream: TcpStream,
    roots: Option<&TrustedRoots>,
) -> Result<MaybeTlsStream<TcpStream>, Unopened> {
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    let bundled = || RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let roots = roots.map_or_else(bundled, TrustedRoots::store);
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = host.to_owned().try_into().map_err(Unopened::because)?;
    let client = ClientConnection::new(Arc::new(config), name).map_err(Unopened::because)?;
    Ok(MaybeTlsStream::Rustls(StreamOwned::new(client, stream)))
}

#[cfg(not(feature = "tls"))]
fn encrypt(
    _: &str,
    _: TcpStream,
    _: Option<&TrustedRoots>,
) -> Result<MaybeTlsStream<TcpStream>, Unopened> {
    let why = "this program was built without encryption; use an http address, or build it with the feature `tls`";
    Err(Unopened::because(why))
}

/// `http` becomes `ws`, so `https` becomes `wss` ([engine-protocol 1.1](crate::docs::engine_protocol#1.1)).
fn websocket_base(base: &str) -> String {
    let base = base.trim_end_matches('/');
    match base.strip_prefix("http") {
        Some(rest) => format!("ws{rest}"),
        None => base.to_owned(),
    }
}

fn target(uri: &Uri) -> Result<(String, u16), Unopened> {
    let (host, port) = endpoint(uri)
        .ok_or_else(|| Unopened::because(format!("{uri} names no host, or a port that is none")))?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_address_follows_the_base_url() {
        assert_eq!(
            websocket_base("http://127.0.0.1:8787"),
            "ws://127.0.0.1:8787"
        );
        assert_eq!(
            websocket_base("https://cast.agentrelay.com/"),
            "wss://cast.agentrelay.com"
        );
    }

    /// Opens a link to a server that answers with these bytes, one at a time and never more.
    fn client(base: &str) -> RestClient {
        RestClient::new(base, Secret::new("rk_live_1"), None, None)
    }

    fn opening(answer: &'static str) -> Unopened {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        thread::start("engine", 128, move || {
            let (mut stream, _) = listener.accept().expect("a caller");
            for byte in answer.bytes().cycle() {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = stream.read_to_end(&mut Vec::new());
        })
        .expect("a thread");
        let until = clock::now().mono + Duration::from_millis(100);
        open(&client(&base), &Secret::new("nt_live_1"), until)
            .err()
            .expect("no link")
    }

    #[test]
    fn an_engine_that_never_finishes_its_answer_costs_the_time_that_was_given_and_no_more() {
        for answer in ["", "HTTP/1.1 101 Switching Protocols\r\nX-Slow: yes\r\n"] {
            let before = clock::now().mono;
            let Unopened { why, unauthorized } = opening(answer);
            assert!(!unauthorized, "{why}");
            assert!(clock::now().mono.since(before) < HANDSHAKE, "{why}");
        }
    }

    #[test]
    fn a_token_that_no_header_can_carry_counts_as_refused_so_that_another_is_asked_for() {
        let until = clock::now().mono + HANDSHAKE;
        let refused = open(&client("http://127.0.0.1:1"), &Secret::new("nt\n"), until).err();
        assert!(refused.expect("no link").unauthorized);
    }
}
