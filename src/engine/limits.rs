//! Bounds on what the engine keeps. Each says what happens at its edge.

use std::time::Duration;

/// Messages kept per workspace; beyond it the oldest that nobody still has to receive is forgotten.
pub const HISTORY: usize = 10_000;
/// Bytes of messages kept per workspace that nobody still has to receive; beyond it the oldest is forgotten.
pub const HISTORY_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of messages per workspace that somebody still has to receive. Beyond it the post succeeds, nobody gets it who
/// has not read it yet, and the sender hears `delivery.failed`, as for a full mailbox.
pub const WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of one message's text; more answers 400 `invalid_request`.
pub const TEXT_BYTES: usize = 1024 * 1024;
/// Reactions on one message; more answers 400 `invalid_request`.
pub const REACTIONS: usize = 1_000;
/// Unacknowledged deliveries per agent; beyond it the post succeeds, this agent gets nothing and the sender hears
/// `delivery.failed` ([engine-protocol 4.6](crate::docs::engine_protocol#4.6)).
pub const MAILBOX: usize = 1_000;
/// How long a delivery waits for its acknowledgement before it is dropped and its sender told
/// ([engine-protocol 4.6](crate::docs::engine_protocol#4.6)).
pub const DELIVERY_TTL: Duration = Duration::from_secs(3_600);
/// Finished invocations kept per workspace for `GET …/invocations/:id`; the oldest is forgotten.
pub const INVOCATIONS: usize = 1_000;
/// Unfinished invocations per workspace; beyond it invoking answers 503 `node_dispatch_unavailable`.
pub const OPEN_INVOCATIONS: usize = 1_000;
/// A node is live for this long after its last heartbeat ([engine-protocol 6](crate::docs::engine_protocol#6)).
pub const LIVENESS: Duration = Duration::from_secs(45);
/// An agent counts as online for this long after an HTTP heartbeat ([engine-protocol 6](crate::docs::engine_protocol#6)).
pub const PRESENCE: Duration = Duration::from_secs(300);
/// How long a node may take over an action before it is sent again: longer than upstream's 30 s, so that a slow
/// spawn is not started twice ([engine-protocol 5.3](crate::docs::engine_protocol#5.3) calls that safe).
pub const DISPATCH: Duration = Duration::from_secs(120);
/// The same in engines of other makes, for a test double.
pub const DISPATCH_UPSTREAM: Duration = Duration::from_secs(30);
/// A provider that sent something within this time keeps its place against another instance of its name.
pub const INSTANCE: Duration = Duration::from_secs(35);
/// How often an action is sent before it counts as failed.
pub const DISPATCHES: u32 = 5;
/// How long an action may wait for a node to come.
pub const PENDING: Duration = Duration::from_secs(72 * 3_600);
/// `deliver` frames on the way to one connection; more are sent as the connection's thread reports them written
/// ([`super::event::Event::SocketDrained`]).
pub const CREDIT: u32 = 512;
/// How long an idempotency key is honoured ([engine-protocol 1.8](crate::docs::engine_protocol#1.8)), as long as its
/// message is kept.
pub const IDEMPOTENCY: Duration = Duration::from_secs(24 * 3_600);
