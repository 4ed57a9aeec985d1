//! What the engine's threads say to each other: connections to the core's, and the core's to connections.

use crossbeam_channel::Sender;
use serde_json::Value;

use crate::engine::event::SocketKind;
use crate::engine::http::call::HttpCall;
use crate::engine::live::ConnId;
use crate::sys::wake;
use crate::time::Mono;

/// What waits for one connection; when it is full the connection is dropped, and a node gets everything again when it
/// comes back. Deliveries never fill it: see [`crate::engine::limits::CREDIT`].
pub const QUEUE: usize = 4096;
/// After so many frames the core hears that they are written.
pub const REPORT: u32 = 128;

/// What reaches the core's thread.
pub enum EngineInbound {
    Http {
        call: HttpCall,
        proof: Option<String>,
        entropy: [u8; 32],
        reply: Sender<(u16, Option<Value>)>,
    },
    Socket {
        kind: SocketKind,
        token: Option<String>,
        queue: wake::Sender<Timed>,
        reply: Sender<Admission>,
    },
    Frame {
        conn: ConnId,
        text: String,
        entropy: [u8; 32],
    },
    Drained {
        conn: ConnId,
        frames: u32,
    },
    Closed {
        conn: ConnId,
    },
    Stop,
}

/// What reaches a connection's thread.
pub enum Word {
    Text(String),
    Close(u16, &'static str),
    /// End without a goodbye.
    Cut,
}

/// A word, and before when it must not arrive.
pub type Timed = (Option<Mono>, Word);

pub type Admission = Result<ConnId, (u16, Option<Value>)>;
