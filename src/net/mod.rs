//! The small HTTP/1.1 server that the local API and the embedded engine share: one thread per connection, deadlines on
//! every step, limits on every size, and WebSocket upgrade. Knows no route.

pub mod callers;
mod conn;
mod head;
pub mod http;
pub mod link;
pub mod server;
pub mod skip;
#[cfg(test)]
mod tests;

pub use http::{Outcome, Request, Response};
pub use link::{Link, LinkError};
pub use server::{Handler, Limits, Server};

/// A WebSocket on a plain socket, as the server hands it over: the socket is non-blocking, ready for a [`Link`].
pub type Socket = tungstenite::WebSocket<std::net::TcpStream>;
