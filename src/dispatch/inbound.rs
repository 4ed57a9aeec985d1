//! Frames with mail: judged, put in order, accepted. Nothing here types or acknowledges what is not finished.

use std::collections::BTreeMap;
use std::time::Duration;

use super::limits::Side;
use super::{Dispatcher, Out};
use crate::ids::{AgentId, AgentName, DeliveryId, Seq};
use crate::ledger::{Record, Verdict};
use crate::msg::{Delivery, Effect, LinkCommand, Origin};
use crate::time::{Mono, Now};
use crate::wire::down::Deliver;
use crate::wire::fields::{self, PayloadKind};
use crate::words::{self, NO_WORDS};

/// How long the missing frames may take to come after we asked for them.
pub(super) const GAP_PATIENCE: Duration = Duration::from_secs(10);
/// How long an engine that has answered may take to begin to send again what was left to it: what it sends again follows
/// its answer on the same socket.
const REPLAY_PATIENCE: Duration = Duration::from_millis(250);
/// How many frames behind a gap are kept per agent. Those beyond stay the engine's and are asked for once it closes.
const GAP_KEEP: usize = 1024;
/// How many bytes of words all frames behind gaps may hold together. Those beyond are treated alike.
const GAP_BYTES: usize = 32 * 1024 * 1024;

/// Frames that came before their turn.
#[derive(Debug, Default)]
pub(super) struct Gap {
    early: BTreeMap<Seq, Deliver>,
    /// How much they say, in bytes.
    bytes: usize,
    /// More came than are kept.
    overflowed: bool,
    /// When to ask in another way; not before it was asked for.
    pub(super) give_up_at: Option<Mono>,
    /// The request by which the engine was asked for what is missing, until it answers.
    pub(super) asked: Option<String>,
    /// It has answered: what it sends from now on is the replay.
    answered: bool,
}

impl Gap {
    fn insert(&mut self, frame: Deliver) {
        self.bytes += frame.bytes;
        if let Some(copy) = self.early.insert(frame.seq, frame) {
            self.bytes -= copy.bytes;
        }
    }

    /// Counted anew from what is there.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.early.values().map(|frame| frame.bytes).sum()
    }

    fn pop(&mut self) -> Option<Deliver> {
        let (_, frame) = self.early.pop_first()?;
        self.bytes -= frame.bytes;
        Some(frame)
    }
}

/// Whether it says that an action was refused.
fn is_denial(frame: &Deliver) -> bool {
    frame.seq == Seq(0) && fields::kind_word(&frame.payload) == "action.denied"
}

impl Dispatcher {
    pub(super) fn deliver(&mut self, now: Now, mut frame: Deliver, out: &mut Out) {
        if self.stopping.is_some() {
            // Not accepted, so it stays the engine's and comes again after the next start.
            return;
        }
        self.address(now, &mut frame);
        let undelivered = fields::undelivered(&frame.payload).map(str::to_owned);
        if let Some(why) = undelivered.filter(|_| !self.members.contains_key(&frame.agent)) {
            return self.handed_over(now, frame, &why, out);
        }
        if self.is_full(&frame.agent_id) && frame.seq > self.ledger.received(&frame.agent_id) {
            self.leave_to_engine(&frame);
            return;
        }
        match self.judge(&frame) {
            Verdict::Fresh => {
                let agent_id = frame.agent_id.clone();
                self.take_in(now, frame, out);
                self.close_gap(now, &agent_id, out);
            }
            Verdict::Pending => {}
            Verdict::Stale => self.acknowledge(&frame.agent, &frame.agent_id, out),
            Verdict::Copy => self.copy(&frame, out),
            Verdict::Gap => self.hold_early(now, frame, out),
        }
    }

    /// Fills in what a frame leaves out, and finds the agent that it means: by the id, which stays when a name changes
    /// hands, and by the name only where no agent here has that id.
    fn address(&mut self, now: Now, frame: &mut Deliver) {
        if frame.agent_id.as_str().is_empty() {
            // Engines of the 4.x line name no id; the name then stands for the identity.
            let known = self.identity_of(&frame.agent).cloned();
            frame.agent_id = known.unwrap_or_else(|| AgentId::new(format!("name:{}", frame.agent)));
        }
        if frame.delivery_id.as_str().is_empty() {
            frame.delivery_id = DeliveryId::new(format!("del_{}_{}", frame.msg_id, frame.agent_id));
        }
        if is_denial(frame) {
            // All refusals of one action bear the same ids (engine-protocol 4.2), and none is ever sent again.
            let id = format!("{}_{}", frame.delivery_id, self.unused(now));
            frame.delivery_id = DeliveryId::new(id);
        }
        // The engine's name for the agent is that of its newest frame.
        match self.bearer_of(frame) {
            Some(name) => {
                let engines_name = std::mem::replace(&mut frame.agent, name);
                self.called.insert(frame.agent_id.clone(), engines_name);
            }
            None => drop(self.called.remove(&frame.agent_id)),
        }
    }

    /// The identity that the name has here.
    fn identity_of(&self, name: &AgentName) -> Option<&AgentId> {
        let member = self.members.get(name).and_then(|m| m.agent_id.as_ref());
        member.or_else(|| self.ledger.bound(name))
    }

    /// The agent of this node with the frame's id, if it goes by another name here.
    fn bearer_of(&self, frame: &Deliver) -> Option<AgentName> {
        if self.identity_of(&frame.agent) == Some(&frame.agent_id) {
            return None;
        }
        let lives = |name: &&AgentName| self.identity_of(name) == Some(&frame.agent_id);
        let bearer = self.members.keys().find(lives);
        bearer
            .or_else(|| self.ledger.bearer(&frame.agent_id))
            .cloned()
    }

    pub(super) fn judge(&self, frame: &Deliver) -> Verdict {
        if is_denial(frame) {
            return Verdict::Fresh;
        }
        let verdict = self.ledger.judge(&frame.agent_id, frame.seq, &frame.msg_id);
        if verdict == Verdict::Fresh && self.is_behind_what_was_left(frame) {
            return Verdict::Gap;
        }
        let waits =
            verdict == Verdict::Fresh && self.ledger.mail().get(&frame.delivery_id).is_some();
        if waits { Verdict::Copy } else { verdict }
    }

    /// A message we have under another number: done with, never typed.
    fn copy(&mut self, frame: &Deliver, out: &mut Out) {
        if frame.seq != Seq(0) {
            self.note(frame, out);
        }
        self.acknowledge(&frame.agent, &frame.agent_id, out);
    }

    fn take_in(&mut self, now: Now, frame: Deliver, out: &mut Out) {
        let kind = fields::kind(&frame.payload);
        if kind == PayloadKind::Message {
            let obstacle = self.no_reader(&frame);
            if obstacle.is_some() || !self.defer(&frame, out) {
                self.accept_frame(now, frame, obstacle, out);
            }
            return;
        }
        if kind == PayloadKind::Unknown {
            let word = fields::kind_word(&frame.payload);
            log::warn!(
                "a frame of unknown type {word:?} for {} is acknowledged and not shown",
                frame.agent
            );
        }
        // Outside the sequence there is nothing to remember: a notice that comes twice is shown neither time.
        if frame.seq != Seq(0) {
            self.note(&frame, out);
        }
        self.acknowledge(&frame.agent, &frame.agent_id, out);
    }

    pub(super) fn note(&mut self, frame: &Deliver, out: &mut Out) {
        let (agent_id, seq, msg_id) = (frame.agent_id.clone(), frame.seq, frame.msg_id.clone());
        self.record(
            Record::Noted {
                agent_id,
                seq,
                msg_id,
            },
            out,
        );
    }

    /// Why nobody will come to read this, if so. An agent that crashed, or that the last broker had, may come back.
    fn no_reader(&self, frame: &Deliver) -> Option<&'static str> {
        if frame.left_out {
            return Some(super::oversize::TOO_LARGE);
        }
        let identity = self.identity_of(&frame.agent);
        if identity.is_some_and(|id| *id != frame.agent_id) {
            return Some(
                "it is for another agent of this name, whose id no agent of this node has",
            );
        }
        if self.members.contains_key(&frame.agent) {
            return None;
        }
        if self.ledger.lives().was_released(&frame.agent) {
            return Some("the agent was released from this node");
        }
        identity
            .is_none()
            .then_some("no agent of this name has ever run on this node")
    }

    pub(super) fn accept_frame(
        &mut self,
        now: Now,
        frame: Deliver,
        obstacle: Option<&str>,
        out: &mut Out,
    ) {
        let delivery = Delivery {
            id: frame.delivery_id.clone(),
            msg_id: frame.msg_id.clone(),
            agent: frame.agent.clone(),
            origin: Origin::Engine {
                agent_id: frame.agent_id.clone(),
                seq: frame.seq,
            },
            from: fields::sender(&frame.payload),
            target: fields::target(&frame),
            body: fields::body(&frame.payload),
            thread_id: fields::thread_id(&frame.payload),
            mode: frame.mode,
            raw: false,
            queued_at: now.wall,
        };
        let id = delivery.id.clone();
        let wordless = words::is_nothing_but_controls(&delivery.body);
        let wordless = wordless.then(|| format!("the message has {NO_WORDS}"));
        // Outside the sequence it never comes again, so it cannot be left to the engine.
        let crowd = (frame.seq == Seq(0))
            .then(|| self.crowd(&frame.agent, Side::Engine, frame.bytes))
            .flatten();
        match wordless.as_deref().or(obstacle).or(crowd.as_deref()) {
            None => self.accept(now, delivery, out),
            Some(why) => {
                self.take_on(delivery, out);
                self.bury(now, &id, why, out);
            }
        }
    }

    // ---- out of order -------------------------------------------------------------------------------------------

    /// Numbers are missing. They may still come with a replay, and taking this frame now would make them look stale, and
    /// lose them. So it waits while we ask: first for the agents' mail, then by a new link, on which the engine sends all
    /// it has in order. Only what is missing even then is gone: expired rows leave gaps
    /// ([engine-protocol 4.4](crate::docs::engine_protocol#4.4)).
    fn hold_early(&mut self, now: Now, frame: Deliver, out: &mut Out) {
        let agent_id = frame.agent_id.clone();
        if self.asked_anew.get(&agent_id) == Some(&self.ledger.received(&agent_id)) {
            self.step_over(now, frame, out);
            return;
        }
        let first = !self.gaps.contains_key(&agent_id);
        let bytes = frame.bytes;
        let kept: usize = self.gaps.values().map(|gap| gap.bytes).sum();
        let gap = self.gaps.entry(agent_id.clone()).or_default();
        let again = gap
            .early
            .first_key_value()
            .is_some_and(|(seq, _)| *seq == frame.seq);
        if again && gap.answered {
            // A replay is in order: what begins with this number again has nothing before it. Before the engine's answer it
            // is no replay, only a frame that came twice.
            self.step_over(now, frame, out);
            return;
        }
        if gap.early.len() < GAP_KEEP && kept + bytes <= GAP_BYTES {
            gap.insert(frame);
        } else {
            gap.overflowed = true;
        }
        if first {
            self.inventory_needed(now, out);
        }
    }

    /// The engine answers a request; if it was for missing mail, the replay begins.
    pub(super) fn replay_begins(&mut self, now: Now, request: &str) {
        for gap in self.gaps.values_mut() {
            if gap.asked.as_deref() == Some(request) {
                gap.asked = None;
                gap.answered = true;
                if gap.early.is_empty() {
                    gap.give_up_at = Some(now.mono + REPLAY_PATIENCE);
                }
            }
        }
    }

    fn step_over(&mut self, now: Now, frame: Deliver, out: &mut Out) {
        log::warn!(
            "mail of {} goes on at number {}: the engine no longer has what came before",
            frame.agent,
            frame.seq
        );
        let agent_id = frame.agent_id.clone();
        self.asked_anew.remove(&agent_id);
        if self.ledger.knows(&agent_id, &frame.msg_id) {
            self.copy(&frame, out);
        } else {
            self.take_in(now, frame, out);
        }
        self.close_gap(now, &agent_id, out);
    }

    fn close_gap(&mut self, now: Now, agent_id: &AgentId, out: &mut Out) {
        while let Some(gap) = self.gaps.get_mut(agent_id) {
            let Some(frame) = gap.pop() else {
                let more = gap.overflowed;
                self.gaps.remove(agent_id);
                if more {
                    self.inventory_needed(now, out);
                }
                return;
            };
            match self.judge(&frame) {
                Verdict::Gap => {
                    if let Some(gap) = self.gaps.get_mut(agent_id) {
                        gap.insert(frame);
                    }
                    return;
                }
                Verdict::Fresh => self.take_in(now, frame, out),
                Verdict::Copy => self.copy(&frame, out),
                Verdict::Pending | Verdict::Stale => {}
            }
        }
    }

    /// Nothing came of asking: only a new link makes the engine send everything.
    pub(super) fn tick_gaps(&mut self, now: Now, out: &mut Out) {
        let over = |gap: &Gap| gap.give_up_at.is_some_and(|at| at <= now.mono);
        let stuck: Vec<_> = self
            .gaps
            .iter()
            .filter(|(_, gap)| over(gap))
            .map(|(id, _)| id.clone())
            .collect();
        if stuck.is_empty() {
            return;
        }
        for agent_id in stuck {
            let gap = self.gaps.get(&agent_id);
            // Mail was left to the engine, it answered, and nothing came: asking the next time would be in vain, too.
            self.link.lists_replay_nothing |=
                gap.is_some_and(|gap| gap.answered && gap.early.is_empty());
            let received = self.ledger.received(&agent_id);
            self.asked_anew.insert(agent_id.clone(), received);
            self.gaps.remove(&agent_id);
        }
        log::info!("mail is missing; opening a new link to have it sent again");
        out.effects.push(Effect::Link(LinkCommand::Reconnect));
    }
}
