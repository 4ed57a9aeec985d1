//! The embedded control plane: a small Relaycast engine that real clients and brokers talk to over HTTP and WebSocket
//! ([engine-protocol 8](crate::docs::engine_protocol#8)). It owns workspaces, agents, nodes, channels, messages and
//! mailboxes; it never imports the broker, and the broker does not know that it exists.
//!
//! [`EngineCore`] decides and is pure: events in, records and effects out. `server` gives it threads, sockets and a
//! journal. `behaviour` and `faults` make a test double of it, for clients that must bear other engines and bad days.
//!
//! Reading order: `record` (what is remembered; `stored` spells what also crosses sockets), `directory` and its parts (what
//! is known), `live` (what is connected now), `event` (what can happen), `core` and `step` (what handlers work with), then
//! the handlers in `http` and `frames`, and at the roof `http/routes` and `machine`. Imports between the files go one way
//! only.

mod absent;
mod actions;
mod agents;
mod apply;
pub mod behaviour;
mod capability;
mod core;
mod directory;
mod event;
pub mod faults;
mod frames;
mod history;
mod http;
mod id;
mod invocation;
pub mod limits;
mod live;
mod machine;
mod mailbox;
mod payload;
mod placement;
mod record;
mod routing;
#[cfg(feature = "faults")]
mod schema;
pub mod server;
mod sockets;
mod step;
mod stored;
mod sweep;
#[cfg(test)]
mod tests;
mod views;

pub use self::core::EngineCore;
pub use event::{Effect, Event, SocketKind};
pub use http::call::HttpCall;
pub use record::EngineRecord;
