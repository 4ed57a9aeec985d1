//! The small HTTP/1.1 server that the local API and the embedded engine share: one thread per connection, deadlines on
//! every step, limits on every size, and WebSocket upgrade. Knows no route.

pub mod callers;
mod conn;
mod connections;
mod handler;
mod head;
pub mod http;
pub mod link;
pub mod server;
pub mod skip;
#[cfg(test)]
mod tests;

pub use handler::{Handler, ServerLimits};
pub use http::{HandlerOutcome, Request, Response};
pub use link::{LinkError, Socket, WebSocketLink};
pub use server::Server;
