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

pub use http::{HandlerOutcome, Request, Response};
pub use link::{LinkError, WebSocketLink};
pub use server::{Handler, Server, ServerLimits};

/// A WebSocket on a plain socket, as the server hands it over: the socket is non-blocking, ready for a [`WebSocketLink`].
pub type Socket = tungstenite::WebSocket<std::net::TcpStream>;
