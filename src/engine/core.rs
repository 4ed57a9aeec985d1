//! The engine's mind: what can happen to it, one line per event, and the state it owns. Pure; see [`Machine`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::absent::Absent;
use super::behaviour::{Age, Behaviour};
use super::directory::{Id, Owner, State, digest};
use super::http::HttpCall;
use super::live::{ConnId, Live, Role};
use super::record::EngineRecord;
use super::trouble::{NODE_FRAMES, Trouble};
use super::turn::Turn;
use crate::ids::Ticket;
use crate::machine::{Machine, Out};
use crate::time::{Mono, Now, Wall, soonest};

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
        /// Its name when it has to be made.
        name: String,
        /// Its key.
        key: String,
    },
    /// An HTTP request; answered by exactly one [`Effect::Answer`].
    Http {
        /// Whom to answer.
        ticket: Ticket,
        /// What is asked.
        call: HttpCall,
        /// See the enum.
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
        /// See the enum.
        entropy: [u8; 32],
    },
    /// Somebody asks for a WebSocket; answered by [`Effect::Admit`], or by [`Effect::Answer`] with 401.
    SocketWanted {
        /// Whom to answer.
        ticket: Ticket,
        /// Which route.
        kind: SocketKind,
        /// From the query if not empty there, else from the header ([engine-protocol 1.2](crate::docs::engine_protocol#1.2)).
        token: Option<String>,
    },
    /// A text message came in.
    SocketFrame {
        /// From where.
        conn: ConnId,
        /// As received.
        text: String,
        /// See the enum.
        entropy: [u8; 32],
    },
    /// So many pushed frames have reached the socket; without these reports only [`super::limits::CREDIT`] deliveries
    /// flow over one connection.
    SocketDrained {
        /// Where.
        conn: ConnId,
        /// How many since the last report.
        frames: u32,
    },
    /// The connection is over, whoever ended it.
    SocketClosed {
        /// Which.
        conn: ConnId,
    },
    /// The deadline has passed; also the first event of a life.
    Tick,
    /// Leave.
    Stop,
}

/// All output.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer an HTTP request, or refuse a WebSocket.
    Answer {
        /// Whom.
        ticket: Ticket,
        /// HTTP status.
        status: u16,
        /// `None` for no body at all.
        body: Option<Value>,
    },
    /// Open the WebSocket; it goes by this number from now on.
    Admit {
        /// Whom.
        ticket: Ticket,
        /// Its number.
        conn: ConnId,
    },
    /// Send a text message.
    Push {
        /// Where.
        conn: ConnId,
        /// As is.
        text: String,
    },
    /// Close the connection.
    Close {
        /// Which.
        conn: ConnId,
        /// WebSocket close code.
        code: u16,
        /// Goes with it.
        reason: &'static str,
    },
    /// Perform nothing any more.
    Exit,
}

/// See the module.
#[derive(Debug)]
pub struct EngineCore {
    pub(super) state: State,
    pub(super) live: Live,
    pub(super) last_issued: Id,
    pub(super) sweep_at: Option<Mono>,
    pub(super) behaviour: Behaviour,
    pub(super) trouble: Trouble,
    /// How long mail waits for an agent that is not here; `None` for ever.
    pub(super) ttl: Option<Duration>,
    /// Mail that nobody is there to take.
    pub(super) absent: Absent,
    /// Replies to `POST /v1/nodes` that may be asked for again, by workspace and idempotency key: a digest of what was
    /// asked, and when. Gone after a restart, when the token itself must do.
    pub(super) minted: BTreeMap<(Id, String), (String, Wall)>,
}

impl Default for EngineCore {
    fn default() -> Self {
        Self {
            state: State::default(),
            live: Live::default(),
            last_issued: 0,
            sweep_at: None,
            behaviour: Behaviour::default(),
            trouble: Trouble::default(),
            ttl: Some(super::limits::DELIVERY_TTL),
            absent: Absent::default(),
            minted: BTreeMap::new(),
        }
    }
}

impl EngineCore {
    /// An engine that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that behaves as an engine of that age.
    pub fn behaving(age: Age) -> Self {
        Self {
            behaviour: Behaviour::of(age),
            ..Self::default()
        }
    }

    /// Takes orders for trouble from now on, at the route of [`super::trouble::ROUTE`].
    pub fn allow_trouble(&mut self) {
        self.trouble.allowed = true;
    }

    /// Lets mail wait so long for agents that are not here; `None` for ever.
    pub fn keep_mail_for(&mut self, ttl: Option<Duration>) {
        self.ttl = ttl;
    }

    /// Asks to be woken in `after`, if nothing earlier was asked for.
    pub(super) fn remind(&mut self, now: Mono, after: Duration) {
        self.sweep_at = soonest(self.sweep_at, Some(now + after));
    }
}

impl Machine for EngineCore {
    type Event = Event;
    type Record = EngineRecord;
    type Effect = Effect;

    fn step(&mut self, now: Now, event: Event, out: &mut Out<EngineRecord, Effect>) {
        let mut turn = Turn::new(self, now, out);
        match event {
            Event::Ensure { name, key } => turn.ensure_workspace(&name, &key),
            Event::Http {
                ticket,
                call,
                entropy,
            } => turn.with_entropy(entropy).http(ticket, &call),
            Event::HttpWithProof {
                ticket,
                call,
                proof,
                entropy,
            } => turn
                .with_entropy(entropy)
                .with_proof(proof)
                .http(ticket, &call),
            Event::SocketWanted {
                ticket,
                kind,
                token,
            } => turn.socket_wanted(ticket, kind, token.as_deref()),
            Event::SocketFrame {
                conn,
                text,
                entropy,
            } => turn.with_entropy(entropy).socket_frame(conn, &text),
            Event::SocketDrained { conn, frames } => turn.socket_drained(conn, frames),
            Event::SocketClosed { conn } => turn.socket_closed(conn),
            Event::Tick => turn.sweep(),
            Event::Stop => turn.effect(Effect::Exit),
        }
        turn.cut_if_due();
    }

    fn replay(&mut self, record: &EngineRecord) {
        self.state.apply(record);
    }

    fn snapshot(&self) -> Option<EngineRecord> {
        Some(EngineRecord::Snapshot(Box::new(self.state.clone())))
    }

    fn snapshot_size(&self) -> u64 {
        let workspaces = self.state.workspaces.values();
        workspaces.map(|w| w.history.bytes() as u64).sum()
    }

    fn deadline(&self) -> Option<Mono> {
        self.sweep_at
    }
}

impl Turn<'_> {
    fn socket_wanted(&mut self, ticket: Ticket, kind: SocketKind, token: Option<&str>) {
        if kind == SocketKind::Node
            && let Some(refusal) = self.ordered_refusal()
        {
            return self.answer(ticket, Err(refusal));
        }
        let owner = token.and_then(|t| self.core.state.tokens.get(&digest(t)).cloned());
        let role = match (kind, owner) {
            (SocketKind::Node, Some(Owner::Node(ws, node))) => {
                let role = Role::Node {
                    node,
                    provider: None,
                };
                Ok((ws, role))
            }
            (SocketKind::Node, _) => Err((401, "node_token_invalid")),
            (SocketKind::Stream, Some(Owner::Workspace(ws))) => {
                Ok((ws, Role::Stream { observer: None }))
            }
            (SocketKind::Stream, Some(Owner::Observer(ws, id))) => {
                if self.observer_may(ws, id, "stream:read") {
                    let observer = Some(id);
                    Ok((ws, Role::Stream { observer }))
                } else {
                    Err((403, "insufficient_scope"))
                }
            }
            (SocketKind::Stream, _) => Err((401, "unauthorized")),
        };
        match role {
            Ok((ws, role)) => {
                if self.core.behaviour.one_socket {
                    self.close_older(ws, &role);
                }
                let conn = self.core.live.open(ws, role);
                self.effect(Effect::Admit { ticket, conn });
            }
            Err((status, code)) => {
                let refusal =
                    super::http::refuse(status, code, "This token does not open this socket");
                self.answer(ticket, Err(refusal));
            }
        }
    }

    fn socket_frame(&mut self, conn: ConnId, text: &str) {
        let Some(open) = self.core.live.conns.get(&conn) else {
            return;
        };
        match &open.role {
            Role::Node { .. } => {
                log::trace!(target: NODE_FRAMES, "{text}");
                if self.core.trouble.passes() {
                    self.node_frame(conn, text);
                }
            }
            Role::Stream { .. } => {
                let frame: Value = serde_json::from_str(text).unwrap_or_default();
                // Subscriptions and resync are optional (engine-protocol 2.9): everything is sent, nothing twice.
                if frame.get("type").and_then(Value::as_str) == Some("ping") {
                    let text = r#"{"type":"pong"}"#.to_owned();
                    self.effect(Effect::Push { conn, text });
                }
            }
        }
    }

    fn socket_drained(&mut self, conn: ConnId, frames: u32) {
        let Some(open) = self.core.live.conns.get_mut(&conn) else {
            return;
        };
        let starved = open.credit == 0;
        open.credit = (open.credit + frames).min(super::limits::CREDIT);
        if starved {
            self.flush_connection(conn);
        }
    }

    fn socket_closed(&mut self, conn: ConnId) {
        let Some(open) = self.core.live.conns.remove(&conn) else {
            return;
        };
        if let Role::Node {
            node,
            provider: Some(provider),
        } = open.role
        {
            self.node_lost(open.ws, &node, &provider);
        }
    }
}
