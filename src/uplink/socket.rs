//! The link's one thread: a non-blocking socket under the WebSocket, slept on together with the queue of outgoing frames.
//! Does what [`UplinkCore`] decides and tells the dispatcher what happened.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{TryRecvError, TrySendError};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::{ClientHandshake, Request, Response};
use tungstenite::http::Uri;
use tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{HandshakeError, Message, WebSocket};

use super::core::{Input, Output, UplinkCore};
use super::rest::Client;
use crate::identity::derive::Enrolment;
use crate::ids::NodeId;
use crate::msg::{LinkCommand, LinkReport, Secret};
use crate::net::link::{Link, LinkError};
use crate::sys::wake::{Receiver, Sender, mailbox};
use crate::sys::{clock, entropy, thread};
use crate::wire::down::Down;
use crate::wire::up::Up;
use crate::wire::{Parsed, WireError};

/// How many frames wait for the link. Full means the link is dropped; acknowledgements are cumulative and answers are in
/// the journal, so reconnecting repairs it.
pub const OUTBOX: usize = 1024;
/// The largest frame we read; larger ones are not the engine's.
const FRAME_BYTES: usize = 16 * 1024 * 1024;
/// The most that waits inside the WebSocket for a peer that does not read.
const UNSENT_BYTES: usize = 8 * 1024 * 1024;
/// Connecting and the handshake, each.
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
    /// The engine over HTTP.
    pub client: Client,
    /// Our own node id; the engine may hold another.
    pub node_id: NodeId,
    /// The name to enrol under.
    pub node_name: String,
    /// Where tokens are kept between starts.
    pub tokens: Box<dyn Tokens>,
    /// Given by the operator; never stored, never replaced.
    pub pinned: Option<Secret>,
}

/// Keeps node tokens for exactly this node, workspace and engine.
pub trait Tokens: Send {
    /// The one from last time.
    fn cached(&self) -> Option<Enrolment>;
    /// Keeps a fresh one; a failure costs a new enrolment at the next start and is only logged.
    fn keep(&self, enrolment: &Enrolment);
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
        let core = UplinkCore::new(seed, settings.pinned.is_some());
        let overflowed = Arc::new(AtomicBool::new(false));
        let finished = Arc::new(AtomicBool::new(false));
        let shell = Shell {
            settings,
            core,
            inbox,
            overflowed: overflowed.clone(),
            finished: finished.clone(),
            link: None,
            token: None,
            report: Box::new(report),
        };
        let handle = thread::start("uplink", 512, move || shell.run())?;
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

struct Shell {
    settings: UplinkSettings,
    core: UplinkCore,
    inbox: Receiver<LinkInput>,
    overflowed: Arc<AtomicBool>,
    finished: Arc<AtomicBool>,
    link: Option<Link<MaybeTlsStream<TcpStream>>>,
    token: Option<Secret>,
    report: Box<dyn Fn(LinkReport) + Send>,
}

impl Shell {
    fn run(mut self) {
        self.find_token();
        self.feed(Input::Start {
            has_token: self.token.is_some(),
        });
        loop {
            match self.drain_inbox() {
                Ok(()) => {}
                Err(Finished) => return self.farewell(),
            }
            if self.overflowed.swap(false, Ordering::AcqRel) {
                self.feed(Input::Reconnect);
            }
            self.drain_socket();
            let limit = self.core.deadline().map(|at| at.since(clock::now().mono));
            if limit == Some(Duration::ZERO) {
                self.feed(Input::Tick);
                continue;
            }
            let slept = match &mut self.link {
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

    /// Steps the core and does what it says, including what follows from that.
    fn feed(&mut self, input: Input) {
        let mut todo = vec![input];
        while let Some(input) = todo.pop() {
            let mut out = Vec::new();
            self.core.step(clock::now(), input, &mut out);
            for order in out {
                match order {
                    Output::Report(report) => (self.report)(report),
                    Output::Drop => self.link = None,
                    Output::Mint => todo.push(self.mint()),
                    Output::Open => todo.push(self.open()),
                }
            }
        }
    }

    fn drain_inbox(&mut self) -> Result<(), Finished> {
        loop {
            match self.inbox.try_recv() {
                Ok(LinkInput::Frame(frame)) => self.send(&frame),
                Ok(LinkInput::Command(LinkCommand::Reconnect)) => self.feed(Input::Reconnect),
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
        let Some(link) = &mut self.link else { return };
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
        while let Some(link) = &mut self.link {
            match link.next() {
                Ok(Some(Message::Text(text))) => {
                    self.feed(Input::Heard { frame: true });
                    self.hear(text.as_str());
                }
                Ok(Some(_)) => self.feed(Input::Heard { frame: false }),
                Ok(None) => return,
                Err(e) => self.lost(&e),
            }
        }
    }

    fn hear(&self, text: &str) {
        match Down::parse(text) {
            Ok(Parsed::Known(frame)) => (self.report)(LinkReport::Frame(frame)),
            Ok(Parsed::Unknown { kind, .. }) => {
                log::debug!("a frame of unknown type {kind:?} is passed over")
            }
            Err(WireError::Broken { kind, why, .. }) => {
                log::warn!("a broken {kind} frame is passed over: {why}")
            }
            Err(e) => log::warn!("something that is no frame is passed over: {e}"),
        }
    }

    fn lost(&mut self, why: &LinkError) {
        self.link = None;
        let superseded =
            matches!(why, LinkError::Closed(Some((_, reason))) if reason == "superseded");
        self.feed(Input::Closed {
            why: why.to_string(),
            superseded,
        });
    }

    fn farewell(mut self) {
        if let Some(link) = &mut self.link {
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

    // ---- enrolment ----------------------------------------------------------------------------------------------

    /// Order: the operator's token, the cached one; minting is the core's decision.
    fn find_token(&mut self) {
        let enrolment = match &self.settings.pinned {
            Some(token) => Some(Enrolment {
                node_id: self.settings.node_id.clone(),
                node_name: String::new(),
                token: token.clone(),
            }),
            None => self.settings.tokens.cached(),
        };
        if let Some(enrolment) = enrolment {
            self.enrol(enrolment);
        }
    }

    fn enrol(&mut self, enrolment: Enrolment) {
        self.token = Some(enrolment.token);
        let (node_id, node_name) = (enrolment.node_id, enrolment.node_name);
        (self.report)(LinkReport::Enrolled { node_id, node_name });
    }

    fn mint(&mut self) -> Input {
        let id = &self.settings.node_id;
        let made = self.settings.client.mint(id, &self.settings.node_name);
        let made = match made {
            // The name belongs to another node: part of our id makes it our own.
            Err(e) if e.to_string().contains("node_name_conflict") => {
                let name = format!("{}-{}", self.settings.node_name, id.tail());
                self.settings.client.mint(id, &name)
            }
            other => other,
        };
        match made {
            Ok(node) => {
                let enrolment = Enrolment {
                    node_id: node.id,
                    node_name: node.name,
                    token: Secret::new(node.token),
                };
                self.settings.tokens.keep(&enrolment);
                self.enrol(enrolment);
                Input::Minted
            }
            Err(e) => Input::MintFailed {
                why: format!("no node token to be had: {e}"),
                refused: e.refused(),
            },
        }
    }

    // ---- opening ------------------------------------------------------------------------------------------------

    fn open(&mut self) -> Input {
        let Some(token) = &self.token else {
            return Input::OpenFailed {
                why: "there is no node token".into(),
                unauthorized: true,
            };
        };
        match open(self.settings.client.base(), token) {
            Ok(link) => {
                self.link = Some(link);
                Input::Opened
            }
            Err(Unopened { why, unauthorized }) => Input::OpenFailed { why, unauthorized },
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
    crate::net::link::wait(&mut [PollFd::new(inbox, PollFlags::IN)], limit)
}

/// Connects, upgrades with the token in a header, and makes the socket non-blocking.
fn open(base: &str, token: &Secret) -> Result<Link<MaybeTlsStream<TcpStream>>, Unopened> {
    let url = format!("{}/v1/node/ws", websocket_base(base));
    let mut request = url
        .as_str()
        .into_client_request()
        .map_err(Unopened::because)?;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
        .map_err(|_| Unopened::because("the node token has characters that no header can carry"))?;
    request.headers_mut().insert(AUTHORIZATION, bearer);
    let stream = connect(request.uri())?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES))
        .max_frame_size(Some(FRAME_BYTES))
        .max_write_buffer_size(UNSENT_BYTES);
    let (socket, _) = upgrade(request, stream, config).map_err(|e| match e {
        HandshakeError::Failure(tungstenite::Error::Http(response)) => {
            let status = response.status();
            Unopened {
                why: format!("the engine at {base} answers the upgrade with {status}"),
                unauthorized: status == 401,
            }
        }
        HandshakeError::Failure(e) => Unopened::because(format!("no WebSocket with {base}: {e}")),
        HandshakeError::Interrupted(_) => {
            Unopened::because(format!("{base} does not finish the handshake"))
        }
    })?;
    let tcp = match socket.get_ref() {
        MaybeTlsStream::Plain(tcp) => tcp,
        #[cfg(feature = "tls")]
        MaybeTlsStream::Rustls(tls) => &tls.sock,
        _ => return Err(Unopened::because("an unknown kind of encryption")),
    };
    tcp.set_nonblocking(true).map_err(Unopened::because)?;
    Ok(Link::new(socket))
}

type Upgraded = (WebSocket<MaybeTlsStream<TcpStream>>, Response);
type Refused = HandshakeError<ClientHandshake<MaybeTlsStream<TcpStream>>>;

#[cfg(feature = "tls")]
#[allow(clippy::result_large_err)] // the library's own type, taken apart at once
fn upgrade(
    request: Request,
    stream: TcpStream,
    config: WebSocketConfig,
) -> Result<Upgraded, Refused> {
    tungstenite::client_tls_with_config(request, stream, Some(config), None)
}

#[cfg(not(feature = "tls"))]
#[allow(clippy::result_large_err)] // the library's own type, taken apart at once
fn upgrade(
    request: Request,
    stream: TcpStream,
    config: WebSocketConfig,
) -> Result<Upgraded, Refused> {
    if request.uri().scheme_str() == Some("wss") {
        let why = "this program was built without encryption; use an http address, or build it with the feature `tls`";
        return Err(HandshakeError::Failure(tungstenite::Error::Io(
            io::Error::other(why),
        )));
    }
    tungstenite::client::client_with_config(request, MaybeTlsStream::Plain(stream), Some(config))
}

/// `http` becomes `ws`, so `https` becomes `wss` (engine-wire 1.1).
fn websocket_base(base: &str) -> String {
    let base = base.trim_end_matches('/');
    match base.strip_prefix("http") {
        Some(rest) => format!("ws{rest}"),
        None => base.to_owned(),
    }
}

fn connect(uri: &Uri) -> Result<TcpStream, Unopened> {
    let host = uri
        .host()
        .ok_or_else(|| Unopened::because(format!("{uri} names no host")))?;
    let port = uri
        .port_u16()
        .unwrap_or(if uri.scheme_str() == Some("wss") {
            443
        } else {
            80
        });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (bare, port)
        .to_socket_addrs()
        .map_err(|e| Unopened::because(format!("{host}: {e}")))?;
    let mut last = Unopened::because(format!("{host} has no address"));
    for address in addresses {
        match TcpStream::connect_timeout(&address, HANDSHAKE) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                stream
                    .set_read_timeout(Some(HANDSHAKE))
                    .map_err(Unopened::because)?;
                stream
                    .set_write_timeout(Some(HANDSHAKE))
                    .map_err(Unopened::because)?;
                return Ok(stream);
            }
            Err(e) => last = Unopened::because(format!("{address}: {e}")),
        }
    }
    Err(last)
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
}
