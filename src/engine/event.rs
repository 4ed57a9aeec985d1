//! What can happen to the engine, and what it then does: all input and all output of the core.

use serde_json::Value;

#[cfg(feature = "faults")]
use super::faults::orders::Orders;
use super::http::call::HttpCall;
use super::live::ConnId;
use crate::ids::Ticket;

/// The two WebSocket routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// `/v1/node/ws` ([engine-protocol 3](crate::docs::engine_protocol#3)).
    Node,
    /// `/v1/ws` ([engine-protocol 2.9](crate::docs::engine_protocol#2.9)).
    Stream,
}

/// All input. `entropy` is 32 fresh random bytes from which tokens are made.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The workspace of the given key must exist: made under the name, or under a variant of it, if it does not.
    Ensure {
        /// The workspace's name when it has to be made.
        name: String,
        /// The workspace's key.
        key: String,
    },
    /// An HTTP request; answered by exactly one [`Effect::Answer`].
    Http {
        /// Whom to answer.
        ticket: Ticket,
        /// What is asked.
        call: HttpCall,
        /// Fresh random bytes for tokens.
        entropy: [u8; 32],
    },
    /// An HTTP request whose sender shows a node's token besides its own
    /// ([engine-protocol 2.2](crate::docs::engine_protocol#2.2), from 9.0).
    HttpWithProof {
        /// Whom to answer.
        ticket: Ticket,
        /// What is asked.
        call: HttpCall,
        /// The header `X-Relaycast-Node-Token`.
        proof: String,
        /// Fresh random bytes for tokens.
        entropy: [u8; 32],
    },
    /// Faults from the start; nobody is answered.
    #[cfg(feature = "faults")]
    Order {
        /// What shall go wrong.
        orders: Box<Orders>,
        /// Fresh random bytes for tokens.
        entropy: [u8; 32],
    },
    /// Somebody asks for a WebSocket; answered by [`Effect::Admit`], or by [`Effect::Answer`] with 401.
    SocketWanted {
        /// Whom to answer.
        ticket: Ticket,
        /// The route that is asked for.
        kind: SocketKind,
        /// From the query if not empty there, else from the header ([engine-protocol 1.2](crate::docs::engine_protocol#1.2)).
        token: Option<String>,
    },
    /// A text message came in.
    SocketFrame {
        /// The connection that it came over.
        conn: ConnId,
        /// As received.
        text: String,
        /// Fresh random bytes for tokens.
        entropy: [u8; 32],
    },
    /// So many pushed frames have reached the socket; without these reports only [`super::limits::CREDIT`]
    /// deliveries flow over one connection.
    SocketDrained {
        /// The connection with that socket.
        conn: ConnId,
        /// How many since the last report.
        frames: u32,
    },
    /// The connection is over, whoever ended it.
    SocketClosed {
        /// The connection's number.
        conn: ConnId,
    },
    /// The deadline has passed; also the first event of a life.
    Tick,
    /// The engine is to leave.
    Stop,
}

/// All output.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer an HTTP request, or refuse a WebSocket.
    Answer {
        /// The request that is answered.
        ticket: Ticket,
        /// HTTP status.
        status: u16,
        /// `None` for no body at all.
        body: Option<Value>,
    },
    /// Open the WebSocket; it goes by this number from now on.
    Admit {
        /// The request that is answered.
        ticket: Ticket,
        /// The connection's number.
        conn: ConnId,
    },
    /// Send a text message.
    Push {
        /// The connection to send over.
        conn: ConnId,
        /// The message as it is.
        text: String,
    },
    /// Close the connection.
    Close {
        /// The connection's number.
        conn: ConnId,
        /// WebSocket close code.
        code: u16,
        /// Goes with it.
        reason: &'static str,
    },
    /// Perform nothing any more.
    Exit,
}
