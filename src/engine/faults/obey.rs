//! How the core does what was ordered.

use serde_json::{Value, json};

use super::NO_GOODBYE;
use super::orders::{Orders, ROUTE};
use crate::engine::behaviour::UpstreamVersion;
use crate::engine::event::Effect;
use crate::engine::http::call::{HttpAnswer, HttpCall, HttpRefusal, invalid, refuse};
use crate::engine::id::Id;
use crate::engine::live::{ConnId, Role};
use crate::engine::schema;
use crate::engine::step::Step;

impl Step<'_> {
    /// The status that a try to open a node socket is refused with, if that was ordered.
    pub fn ordered_refusal(&mut self) -> Option<HttpRefusal> {
        let faults = &mut self.core.faults;
        faults.upgrades += 1;
        let (status, left) = faults.refuse.take()?;
        if left > 1 {
            faults.refuse = Some((status, left - 1));
        }
        faults.refused += 1;
        let code = match status {
            401 => "node_token_invalid",
            429 => "rate_limit_exceeded",
            _ => "internal_error",
        };
        Some(refuse(status, code, "Refused on order"))
    }

    /// Puts a failure in place of a success, if that was ordered for such a call.
    pub fn ordered_failure(&mut self, call: &HttpCall, answer: HttpAnswer) -> HttpAnswer {
        let faults = &mut self.core.faults;
        let path = || format!("/{}", call.segments.join("/"));
        if answer.is_err()
            || faults.fail == 0
            || call.method == "GET"
            || !path().starts_with(&faults.fail_path)
        {
            return answer;
        }
        faults.fail -= 1;
        Err(refuse(500, "internal_error", "Done, and failed on order"))
    }

    /// Takes orders, or shows what became of them, if this engine does and the call is one.
    pub fn takes_order(&mut self, call: &HttpCall) -> Option<HttpAnswer> {
        let [one] = call.segments.as_slice() else {
            return None;
        };
        if one != ROUTE || !self.core.faults.allowed {
            return None;
        }
        if call.method == "GET" {
            return Some(Ok((200, self.faults_view())));
        }
        let empty = Value::Null;
        let orders = Orders::read(call.body.as_ref().unwrap_or(&empty)).map_err(invalid);
        Some(orders.and_then(|orders| self.obey(&orders)))
    }

    /// What an engine that plays an age would find wrong with a frame.
    pub fn breach(&self, text: &str) -> Option<String> {
        schema::check(self.core.behaviour().schema?, text).err()
    }

    /// Does what is ordered; see [`Orders`].
    pub fn obey(&mut self, orders: &Orders) -> HttpAnswer {
        let faults = &mut self.core.faults;
        if let Some(status) = orders.refuse {
            let times = orders.times.unwrap_or(1);
            faults.refuse = (times > 0).then_some((status, times));
        }
        if let Some(frames) = orders.cut_after {
            faults.cut_after = (frames > 0).then_some(frames);
        }
        if let Some(times) = orders.fail {
            faults.fail = times;
            faults.fail_path = orders.fail_path.clone().unwrap_or_default();
        }
        if orders.forget {
            self.forget_node_tokens();
        }
        let token = match &orders.rotate {
            Some(name) => Some(self.rotate_node_token(name)?),
            None => None,
        };
        if orders.supersede {
            self.close_nodes(self.core.behaviour().superseded_code, "superseded");
        }
        if orders.cut {
            self.core.faults.cut_due = true;
        }
        let mut view = self.faults_view();
        if let Some(token) = token {
            view["token"] = json!(token);
        }
        Ok((200, view))
    }

    /// Cuts what is to be cut; the last thing of every step.
    pub fn cut_if_due(&mut self) {
        if std::mem::take(&mut self.core.faults.cut_due) {
            self.core.faults.cuts += 1;
            self.close_nodes(NO_GOODBYE, "cut");
        }
    }

    fn close_nodes(&mut self, code: u16, reason: &'static str) {
        let nodes: Vec<(ConnId, Id, Role)> = self
            .core
            .live
            .conns
            .iter()
            .filter(|(_, c)| matches!(c.role, Role::Node { .. }))
            .map(|(id, c)| (*id, c.ws, c.role.clone()))
            .collect();
        for (conn, ws, role) in nodes {
            self.core.live.conns.remove(&conn);
            if let Role::Node {
                node,
                provider: Some(provider),
            } = role
            {
                self.node_lost(ws, &node, &provider);
            }
            self.effect(Effect::Close { conn, code, reason });
        }
    }

    fn forget_node_tokens(&mut self) {
        let nodes: Vec<(Id, String)> = self
            .core
            .state
            .workspaces
            .values()
            .flat_map(|w| w.nodes.values().map(move |n| (w.id, n)))
            .filter(|(_, n)| n.token_hash.is_some())
            .map(|(ws, n)| (ws, n.id.clone()))
            .collect();
        for (ws, node) in nodes {
            // Nobody ever sees the new one.
            self.renew_node_token(ws, &node);
        }
    }

    fn rotate_node_token(&mut self, name: &str) -> Result<String, HttpRefusal> {
        let found = self
            .core
            .state
            .workspaces
            .values()
            .find_map(|w| Some((w.id, w.node_named(name)?.id.clone())));
        let (ws, node) = found
            .ok_or_else(|| refuse(404, "node_not_found", format!("Node \"{name}\" not found")))?;
        Ok(self.renew_node_token(ws, &node))
    }

    /// What tests wait for instead of waiting for a while.
    fn faults_view(&self) -> Value {
        let faults = &self.core.faults;
        let open = self.core.live.conns.values();
        json!({
            "age": self.core.behaviour().schema.map(UpstreamVersion::as_str),
            "node_sockets": open.filter(|c| matches!(c.role, Role::Node { .. })).count(),
            "frames": faults.frames,
            "upgrades": faults.upgrades,
            "minted": faults.minted,
            "refused": faults.refused,
            "refusals_left": faults.refuse.map_or(0, |(_, left)| left),
            "failures_left": faults.fail,
            "cuts": faults.cuts,
        })
    }
}
