//! WebSockets from the question whether they may be opened to their end; what nodes say over them is the business of
//! `frames`.

use serde_json::Value;

use super::directory::Owner;
use super::event::{Effect, SocketKind};
use super::faults::NODE_FRAMES;
use super::http::call::refuse;
use super::id::digest;
use super::limits;
use super::live::{ConnId, Role};
use super::step::Step;
use crate::ids::Ticket;

impl Step<'_> {
    pub fn socket_wanted(&mut self, ticket: Ticket, kind: SocketKind, token: Option<&str>) {
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
                if self.core.behaviour().one_socket {
                    self.close_older(ws, &role);
                }
                let conn = self.core.live.open(ws, role);
                self.effect(Effect::Admit { ticket, conn });
            }
            Err((status, code)) => {
                let refusal = refuse(status, code, "This token does not open this socket");
                self.answer(ticket, Err(refusal));
            }
        }
    }

    pub fn socket_frame(&mut self, conn: ConnId, text: &str) {
        let Some(open) = self.core.live.conns.get(&conn) else {
            return;
        };
        match &open.role {
            Role::Node { .. } => {
                log::trace!(target: NODE_FRAMES, "{text}");
                if self.core.faults.passes() {
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

    pub fn socket_drained(&mut self, conn: ConnId, frames: u32) {
        let Some(open) = self.core.live.conns.get_mut(&conn) else {
            return;
        };
        let starved = open.credit == 0;
        open.credit = (open.credit + frames).min(limits::CREDIT);
        if starved {
            self.flush_connection(conn);
        }
    }

    pub fn socket_closed(&mut self, conn: ConnId) {
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
