//! Mail that nobody is there to take: its agent is on no connected node. Its time is counted by the monotonic clock and
//! written down, so that neither a jump of the wall clock nor a restart changes it. When it is over, the row is handed to a
//! broker as a delivery that says so, and is the broker's dead letter once acknowledged: until then it stays here. Engines
//! of other makes drop it and tell the sender alone ([engine-protocol 4.6](crate::docs::engine_protocol#4.6)).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::directory::{Agent, DEFAULT_PROVIDER, Workspace};
use super::id::Id;
use super::live::{ConnId, Here};
use super::mailbox::{Mailbox, Reason, Row};
use super::payload;
use super::record::EngineRecord;
use super::step::Step;
use crate::ids::AgentId;
use crate::wire::down::{ContextUpdate, Down};

/// How much of the waiting a kill may make forgotten.
pub const WRITTEN_EVERY: Duration = Duration::from_secs(60);
impl Step<'_> {
    /// Whether the agent's mail flows over some node.
    pub fn is_in_hand(&self, ws: Id, agent: Id) -> bool {
        let who = self.agent(ws, agent);
        who.is_some_and(|who| self.core.live.of(ws, who).is_some())
    }

    /// Something changed that may begin or end the waiting of mail.
    pub fn look_at_mail(&mut self) {
        self.core.remind(self.now.mono, Duration::ZERO);
    }

    /// A message is about to be posted to the agent: what waited before it is not counted as its own waiting.
    pub fn mail_comes(&mut self, ws: Id, agent: Id) {
        if self.is_in_hand(ws, agent) {
            return;
        }
        self.write_waited(ws, agent);
        self.core.absent.since.insert((ws, agent), self.now.mono);
    }

    /// Writes down how long an agent's mail has waited since that was last done.
    pub fn write_waited(&mut self, ws: Id, agent: Id) {
        if self.is_in_hand(ws, agent) || self.core.ttl.is_none() {
            return;
        }
        let has_mail = |w: &Workspace| {
            w.mailboxes
                .get(&agent)
                .is_some_and(|m| m.rows().next().is_some())
        };
        let workspace = self.core.state.workspaces.get(&ws);
        let now = self.now.mono;
        let Some(since) = self.core.absent.since.get_mut(&(ws, agent)) else {
            return;
        };
        let ms = u64::try_from(now.since(*since).as_millis()).unwrap_or(u64::MAX);
        *since = *since + Duration::from_millis(ms);
        if ms > 0 && workspace.is_some_and(has_mail) {
            self.record(EngineRecord::Waited { ws, agent, ms });
        }
    }

    /// Mail that waits for an agent that was released has nobody to wait for any more.
    pub fn give_up_mail(&mut self, ws: Id, agent: Id) {
        if self.core.behaviour().schema.is_none() && !self.is_in_hand(ws, agent) {
            let ms = u64::MAX;
            self.record(EngineRecord::Waited { ws, agent, ms });
            self.look_at_mail();
        }
    }

    /// Lets the time of all mail pass that nobody is there to take.
    pub fn age_mail(&mut self, ws: Id) {
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return;
        };
        let has_mail = w
            .mailboxes
            .iter()
            .filter(|(_, m)| m.rows().next().is_some());
        let waiting: BTreeSet<Id> = has_mail
            .map(|(agent, _)| *agent)
            .filter(|agent| !self.is_in_hand(ws, *agent))
            .collect();
        let absent = &mut self.core.absent;
        let keep = |(w, agent): &(Id, Id)| *w != ws || waiting.contains(agent);
        absent.since.retain(|key, _| keep(key));
        absent.handed.retain(|key, _| keep(key));
        for agent in waiting {
            let now = self.now.mono;
            let since = *self.core.absent.since.entry((ws, agent)).or_insert(now);
            for row in self.overdue(ws, agent) {
                self.end_of(ws, agent, row);
            }
            if now.since(since) >= WRITTEN_EVERY {
                self.write_waited(ws, agent);
            }
        }
    }

    fn overdue(&self, ws: Id, agent: Id) -> Vec<Row> {
        let w = self.core.state.workspaces.get(&ws);
        let mailbox = w.and_then(|w| w.mailboxes.get(&agent));
        let rows = mailbox.into_iter().flat_map(Mailbox::rows);
        rows.filter(|row| self.left(ws, agent, row).is_some_and(|left| left.is_zero()))
            .cloned()
            .collect()
    }

    /// How long a row has to wait yet; `None` for ever.
    fn left(&self, ws: Id, agent: Id, row: &Row) -> Option<Duration> {
        if row.waited_ms == u64::MAX {
            return Some(Duration::ZERO);
        }
        let since = self.core.absent.since.get(&(ws, agent));
        let unwritten = since.map_or(Duration::ZERO, |since| self.now.mono.since(*since));
        let waited = Duration::from_millis(row.waited_ms) + unwritten;
        self.core.ttl.map(|ttl| ttl.saturating_sub(waited))
    }

    /// When the next of a workspace's rows is overdue, or its waiting is to be written down; what is overdue already waits
    /// for a broker and not for the time.
    pub fn next_overdue(&self, w: &Workspace) -> Option<Duration> {
        let mailboxes = w
            .mailboxes
            .iter()
            .filter(|(agent, _)| !self.is_in_hand(w.id, **agent));
        let lefts = mailboxes.flat_map(|(agent, mailbox)| {
            mailbox
                .rows()
                .filter_map(|row| self.left(w.id, *agent, row))
        });
        let next = lefts.filter(|left| !left.is_zero()).min();
        let next = next.map(|left| left.min(WRITTEN_EVERY));
        // What was handed over and is not acknowledged is handed over again.
        let handed = self.core.absent.handed.iter();
        let again = handed
            .filter(|((ws, _), _)| *ws == w.id)
            .map(|(_, (_, _, at))| WRITTEN_EVERY.saturating_sub(self.now.mono.since(*at)))
            .filter(|left| !left.is_zero());
        again.chain(next).min()
    }

    /// A row's time is over. Who was never on a broker's node and read a channel in another way was told by the stream.
    fn end_of(&mut self, ws: Id, agent: Id, row: Row) {
        let w = self.core.state.workspaces.get(&ws);
        let message = w.and_then(|w| w.history.get(row.message));
        let read = message.is_none_or(|m| m.readers.contains_key(&agent));
        let lived = self
            .agent(ws, agent)
            .is_some_and(|a| !a.last_node.is_empty());
        let direct = row.reason == Reason::Dm;
        if self.core.behaviour().schema.is_some() || read || !(lived || direct) {
            return self.drop_row(ws, agent, &row, None);
        }
        let sender = message.map_or(0, |m| m.from);
        if let Some((_, conn)) = self.keeper(ws, agent, sender) {
            self.hand_over(ws, agent, conn, &row);
        }
    }

    fn hand_over(&mut self, ws: Id, agent: Id, conn: ConnId, row: &Row) {
        let key = (ws, agent);
        let now = self.now.mono;
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return;
        };
        let mailbox = w.mailboxes.get(&agent);
        let lies = |seq: u64| mailbox.is_some_and(|m| m.row(seq).is_some());
        let handed = self.core.absent.handed.get(&key);
        if handed.is_some_and(|(to, seq, at)| {
            *to == conn && lies(*seq) && now.since(*at) < WRITTEN_EVERY
        }) {
            return;
        }
        let frame = w
            .agents
            .get(&agent)
            .and_then(|who| payload::deliver(w, who, row));
        if let Some(Down::Deliver(mut frame)) = frame {
            frame.payload["undelivered"] = json!(self.words(row));
            self.core.absent.handed.insert(key, (conn, row.seq, now));
            self.push(conn, &Down::Deliver(frame));
        }
    }

    fn words(&self, row: &Row) -> String {
        let ttl = self.core.ttl.filter(|_| row.waited_ms != u64::MAX);
        match ttl {
            Some(ttl) => format!(
                "nobody came within {} to read it",
                humantime::format_duration(ttl)
            ),
            None => "the agent was released before it read the message".to_owned(),
        }
    }

    /// The broker's node that looks after the mail of an agent that is not here: where it lived last, else the sender's, else
    /// any.
    fn keeper(&self, ws: Id, agent: Id, sender: Id) -> Option<(String, ConnId)> {
        let last = self.agent(ws, agent).map(|a| a.last_node.clone());
        let senders = self.agent(ws, sender).map(|a| a.node.clone());
        let nodes = self.core.live.all().filter(|(w, ..)| *w == ws);
        let any = nodes.map(|(_, node, ..)| node.to_owned());
        let w = self.core.state.workspaces.get(&ws)?;
        last.into_iter().chain(senders).chain(any).find_map(|node| {
            w.nodes.get(&node).filter(|n| !n.is_direct())?;
            let attachment = self.core.live.get(ws, &node, DEFAULT_PROVIDER)?;
            Some((node, attachment.conn))
        })
    }

    /// A broker has made dead letters of what it was handed.
    pub fn took_over(&mut self, here: &Here, agent: Id, up_to: u64) {
        let handed = self.core.absent.handed.get(&(here.ws, agent)).copied();
        let Some((_, seq, _)) = handed.filter(|(conn, ..)| *conn == here.conn) else {
            return;
        };
        let w = self.core.state.workspaces.get(&here.ws);
        let row = w.and_then(|w| w.mailboxes.get(&agent)?.row(seq)).cloned();
        if let Some(row) = row.filter(|_| up_to >= seq) {
            self.drop_row(here.ws, agent, &row, Some(&here.node));
        }
        self.look_at_mail();
    }

    fn drop_row(&mut self, ws: Id, agent: Id, row: &Row, kept_by: Option<&str>) {
        let w = self.core.state.workspaces.get(&ws);
        let sender = w.and_then(|w| w.history.get(row.message)).map(|m| m.from);
        let seq = row.seq;
        self.record(EngineRecord::DeliveryClosed { ws, agent, seq });
        let Some(sender) = sender else {
            return;
        };
        let mut failure = json!({
            "delivery_id": payload::delivery_id(row.message, agent),
            "seq": seq,
            "reason": "ttl_expired",
            "error": "delivery TTL expired",
            "retryable": false,
        });
        if let Some(node) = kept_by {
            failure["kept_by"] = json!(node);
        }
        self.delivery_failed(ws, sender, agent, row.message, failure);
    }

    /// The agent is about to be deleted, and its mailbox with it.
    pub fn notify_of_lost_mail(&mut self, ws: Id, agent: Id) {
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return;
        };
        let mailbox = w
            .mailboxes
            .get(&agent)
            .filter(|_| self.core.behaviour().schema.is_none());
        let rows = mailbox.into_iter().flat_map(Mailbox::rows);
        let lost: Vec<_> = rows
            .filter_map(|row| {
                let m = w
                    .history
                    .get(row.message)
                    .filter(|m| !m.readers.contains_key(&agent))?;
                let failure = json!({
                    "delivery_id": payload::delivery_id(row.message, agent),
                    "seq": row.seq,
                    "reason": "agent_deleted",
                    "error": "the agent was deleted",
                    "retryable": false,
                    "text": m.text,
                    "from_name": m.from_name,
                });
                Some((m.from, row.message, failure))
            })
            .collect();
        for (sender, message, failure) in lost {
            self.delivery_failed(ws, sender, agent, message, failure);
        }
    }

    /// News of a failed delivery for the node that looks after such mail.
    pub fn notify_keeper(&mut self, ws: Id, agent: Id, sender: Id, data: Value) {
        if let Some((_, conn)) = self.keeper(ws, agent, sender) {
            let frame = Down::ContextUpdate(ContextUpdate {
                topic: "agent".into(),
                event: "delivery.failed".into(),
                channel_id: None,
                agent_ids: Some(vec![AgentId::new(sender.to_string())]),
                data,
            });
            self.push(conn, &frame);
        }
    }

    /// One row that lies here, for people.
    pub fn waiting_view(&self, w: &Workspace, agent: &Agent, row: &Row) -> Option<Value> {
        let m = w
            .history
            .get(row.message)
            .filter(|m| !m.readers.contains_key(&agent.id))?;
        let channel = w.channels.get(&m.channel)?;
        let target = match row.reason {
            Reason::Dm => agent.name.clone(),
            Reason::Message | Reason::Mention | Reason::ThreadReply => format!("#{}", channel.name),
        };
        let left = self.left(w.id, agent.id, row);
        Some(json!({
            "delivery_id": payload::delivery_id(row.message, agent.id),
            "message_id": row.message.to_string(),
            "agent_name": agent.name,
            "from": m.from_name,
            "target": target,
            "text": m.text,
            "mode": m.mode.as_str(),
            "posted_at_ms": m.at.0,
            "left_ms": left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        }))
    }
}
