//! The local HTTP API ([local-api 2](crate::docs::local_api#2) and [3](crate::docs::local_api#3)): how people, clients and
//! attached terminals reach a running broker. It checks who asks, turns requests into [`ApiCall`](crate::msg::ApiCall)s, and
//! answers into JSON; what the broker does about a call is not decided here. Terminal bytes go straight between a client and
//! the agent's thread.

mod attach;
mod auth;
mod context;
mod exposition;
mod fleet;
mod latencies;
mod lease;
mod mcp;
mod metrics;
mod own_events;
mod probes;
mod render;
mod results;
mod rights;
mod routes;
mod server;
mod state;
mod status;
mod stream;
mod terminal;
#[cfg(test)]
mod tests;

pub use context::{ApiContext, Ask, BrokerLife, BrokerStage, Reload, SessionFacts};
pub use latencies::Latencies;
pub use lease::{LEASE, Lease};
pub use server::{ApiServer, start};
