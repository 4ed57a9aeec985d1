//! A WebSocket on a non-blocking socket, waited for together with a wake descriptor: one `poll`, no read timeout, no
//! second thread. Used by the uplink, by the local API's streams and by the embedded engine.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use super::skip::Skipping;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side closed it, with its code and reason if it gave them.
    #[error("closed by the other side{}", .0.as_ref().map(|(c, r)| format!(" ({c} {r})")).unwrap_or_default())]
    Closed(Option<(u16, String)>),
    /// More is waiting to be sent than the link may hold.
    #[error("the other side does not read; too much is waiting to be sent")]
    Stuck,
    /// Anything else.
    #[error("{0}")]
    Broken(String),
}

/// A WebSocket on a plain socket, as the server hands it over: the socket is non-blocking, ready for a [`WebSocketLink`].
pub type Socket = WebSocket<TcpStream>;

/// A socket whose descriptor can be polled.
pub trait Pollable: Read + Write {
    /// The descriptor under any encryption.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

impl Pollable for TcpStream {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Pollable for MaybeTlsStream<TcpStream> {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            MaybeTlsStream::Plain(stream) => stream.as_fd(),
            #[cfg(feature = "tls")]
            MaybeTlsStream::Rustls(stream) => stream.sock.as_fd(),
            // The enum is open for back-ends that this crate does not enable.
            _ => unreachable!("no other TLS back-end is compiled in"),
        }
    }
}

impl<S: Pollable> Pollable for Skipping<S> {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.inner().descriptor()
    }
}

/// See the module. The socket under it must be non-blocking.
pub struct WebSocketLink<S> {
    socket: WebSocket<S>,
    unsent: bool,
}

impl<S: Pollable> WebSocketLink<S> {
    /// Wraps an open WebSocket whose socket the caller has made non-blocking.
    pub fn new(socket: WebSocket<S>) -> Self {
        Self {
            socket,
            unsent: false,
        }
    }

    /// The stream under it.
    pub fn stream(&self) -> &S {
        self.socket.get_ref()
    }

    /// Queues a message and sends as much as the socket takes; [`WebSocketLink::wait`] goes on with the rest.
    ///
    /// # Errors
    /// When the link is over, or its outgoing buffer is full.
    pub fn send(&mut self, message: Message) -> Result<(), LinkError> {
        match self.socket.write(message) {
            Ok(()) => self.flush(),
            Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                self.unsent = true;
                Ok(())
            }
            Err(e) => Err(sort(e)),
        }
    }

    /// Sends what is queued as far as the socket takes it.
    ///
    /// # Errors
    /// When the link is over.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        match self.socket.flush() {
            Ok(()) => {
                self.unsent = false;
                Ok(())
            }
            Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                self.unsent = true;
                Ok(())
            }
            Err(e) => Err(sort(e)),
        }
    }

    /// Whether something queued has not reached the socket yet.
    pub fn has_unsent(&self) -> bool {
        self.unsent
    }

    /// The next message that is already here; `None` when the socket has no more. Pings are answered on the way. Call it
    /// until `None` before waiting: encryption may hold more than the descriptor shows.
    ///
    /// # Errors
    /// When the link is over.
    #[allow(clippy::should_implement_trait)] // an iterator could not say why it ended
    pub fn next(&mut self) -> Result<Option<Message>, LinkError> {
        match self.socket.read() {
            Ok(Message::Close(frame)) => {
                // The answer to their goodbye is queued and would otherwise never leave.
                let _ = self.socket.flush();
                Err(LinkError::Closed(
                    frame.map(|f| (u16::from(f.code), f.reason.as_str().to_owned())),
                ))
            }
            Ok(message) => {
                if matches!(message, Message::Ping(_)) {
                    self.flush()?;
                }
                Ok(Some(message))
            }
            Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => {
                if matches!(e, tungstenite::Error::Capacity(_)) {
                    self.close(1009, "message too big");
                }
                Err(sort(e))
            }
        }
    }

    /// Says goodbye; the other side's answer is not waited for.
    pub fn close(&mut self, code: u16, reason: &str) {
        let frame = tungstenite::protocol::CloseFrame {
            code: code.into(),
            reason: reason.to_owned().into(),
        };
        let _ = self.socket.close(Some(frame));
        let _ = self.socket.flush();
    }

    /// Sleeps until the socket has something, or can take what is unsent, or `wake` is poked, or `limit` has passed.
    ///
    /// # Errors
    /// When `poll` itself fails.
    pub fn wait(&mut self, wake: &impl AsFd, limit: Option<Duration>) -> io::Result<()> {
        let interest = if self.unsent {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        let writable = {
            let socket = self.socket.get_ref().descriptor();
            let mut fds = [
                PollFd::new(&socket, interest),
                PollFd::new(wake, PollFlags::IN),
            ];
            wait(&mut fds, limit)?;
            fds[0].revents().contains(PollFlags::OUT)
        };
        if writable && let Err(e) = self.flush() {
            log::debug!("while sending: {e}");
        }
        Ok(())
    }
}

/// `poll` with an optional limit; a signal counts as a wake-up for nothing.
///
/// # Errors
/// When `poll` itself fails.
pub fn wait(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.map(|d| Timespec {
        tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: d.subsec_nanos().into(),
    });
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn sort(error: tungstenite::Error) -> LinkError {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            LinkError::Closed(None)
        }
        tungstenite::Error::WriteBufferFull(_) => LinkError::Stuck,
        other => LinkError::Broken(other.to_string()),
    }
}
