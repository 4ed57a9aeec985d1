//! How frames are answered, and from where they come.

use serde_json::Value;

use crate::engine::live::{ConnId, Here, Role};
use crate::engine::step::Step;
use crate::wire::down::{Down, EngineReply, ErrorFrame};

/// A frame's failure: code and words.
pub type FrameFailure = (&'static str, String);

pub fn failure<T>(code: &'static str, message: impl Into<String>) -> Result<T, FrameFailure> {
    Err((code, message.into()))
}

impl Step<'_> {
    /// The connection's place, once it registered and while nobody superseded it.
    pub fn here(&self, conn: ConnId) -> Option<Here> {
        let open = self.core.live.conns.get(&conn)?;
        match &open.role {
            Role::Node {
                node,
                provider: Some(provider),
            } => Some(Here {
                conn,
                ws: open.ws,
                node: node.clone(),
                provider: provider.clone(),
            }),
            Role::Node { provider: None, .. } | Role::Stream { .. } => None,
        }
    }

    /// A provider that speaks keeps its place; see [`Self::holds_its_place`].
    pub fn note_heard(&mut self, conn: ConnId) {
        let now = self.now.mono;
        if let Some(here) = self.here(conn)
            && let Some(a) = self.core.live.get_mut(here.ws, &here.node, &here.provider)
        {
            a.heard = now;
        }
    }

    fn frame_id(&mut self, id: Option<&str>) -> String {
        id.map_or_else(|| format!("eng_{}", self.fresh_id()), str::to_owned)
    }

    pub fn reply(&mut self, conn: ConnId, id: Option<&str>, data: Value) {
        let id = self.frame_id(id);
        self.push(conn, &Down::Reply(EngineReply { id, ok: true, data }));
    }

    pub fn complain(&mut self, conn: ConnId, id: Option<&str>, code: &str, message: &str) {
        let in_words = self.core.behaviour().conflict_in_words && code == "agent_location_conflict";
        let code = if in_words {
            "node_control_failed"
        } else {
            code
        };
        let frame = Down::Error(ErrorFrame {
            id: self.frame_id(id),
            ok: false,
            code: code.to_owned(),
            message: message.to_owned(),
        });
        self.push(conn, &frame);
    }
}
