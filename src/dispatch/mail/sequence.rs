//! Frames that come before their turn: kept until what is missing has come, asked for, or stepped over.

use std::time::Duration;

use super::gap::{AskedAnew, Gap};
use super::state::{Mail, MailStep};
use crate::dispatch::notice::Notice;
use crate::ids::AgentId;
use crate::ledger::Verdict;
use crate::msg::{Effect, LinkCommand};
use crate::wire::down::Deliver;

/// How long the missing frames may take to come after we asked for them.
const GAP_PATIENCE: Duration = Duration::from_secs(10);
/// How long an engine that has answered may take to begin to send again what was left to it: what it sends again follows
/// its answer on the same socket.
const REPLAY_PATIENCE: Duration = Duration::from_millis(250);
/// How many frames behind a gap are kept per agent. Those beyond stay the engine's and are asked for once it closes.
const GAP_KEEP: usize = 1024;
/// How many bytes of words all frames behind gaps may hold together. Those beyond are treated alike.
const GAP_BYTES: usize = 32 * 1024 * 1024;

impl Mail {
    /// Numbers are missing. They may still come with a replay, and taking this frame now would make them look stale, and
    /// lose them. So it waits while we ask: first for the agents' mail, then by a new link, on which the engine sends all
    /// it has in order. Only what is missing even then is gone: expired rows leave gaps
    /// ([engine-protocol 4.4](crate::docs::engine_protocol#4.4)).
    pub(super) fn hold_early(&mut self, step: &mut MailStep, frame: Deliver) {
        let agent_id = frame.agent_id.clone();
        if self.is_sent_anew(step, &agent_id) {
            self.step_over(step, frame);
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
            self.step_over(step, frame);
            return;
        }
        if gap.early.len() < GAP_KEEP && kept + bytes <= GAP_BYTES {
            gap.insert(frame);
        } else {
            gap.overflowed = true;
        }
        if first {
            step.notice(Notice::MailMissing);
        }
    }

    /// Whether the engine has begun to send all it has for this agent, on a link that was opened for that and that it knows
    /// us on. What the old link brings until it is gone, and what comes before the engine has taken our registration, is no
    /// part of that, and says nothing of what is missing.
    fn is_sent_anew(&self, step: &MailStep, agent_id: &AgentId) -> bool {
        let asked = self.asked_anew.get(agent_id);
        let asked = asked.filter(|asked| asked.old_link_gone && step.peers.control.is_open());
        asked.is_some_and(|asked| asked.received == step.ledger().received(agent_id))
    }

    /// The engine answers a request; if it was for missing mail, the replay begins.
    pub(in crate::dispatch) fn replay_begins(&mut self, step: &mut MailStep, request: &str) {
        for gap in self.gaps.values_mut() {
            if gap.asked.as_deref() == Some(request) {
                gap.asked = None;
                gap.answered = true;
                if gap.early.is_empty() {
                    gap.give_up_at = Some(step.now.mono + REPLAY_PATIENCE);
                }
            }
        }
    }

    /// A list of agents went out, by which the engine is asked for what is missing. That may take so long to come.
    pub(in crate::dispatch) fn listed(&mut self, step: &mut MailStep, request: Option<&str>) {
        for gap in self.gaps.values_mut() {
            if let Some(request) = request {
                gap.asked = Some(request.to_owned());
            }
            gap.give_up_at.get_or_insert(step.now.mono + GAP_PATIENCE);
        }
    }

    fn step_over(&mut self, step: &mut MailStep, frame: Deliver) {
        log::warn!(
            event = "mail_skipped", agent:% = frame.agent;
            "mail of {} goes on at number {}: the engine no longer has what came before",
            frame.agent,
            frame.seq
        );
        let agent_id = frame.agent_id.clone();
        self.asked_anew.remove(&agent_id);
        if step.ledger().knows(&agent_id, &frame.msg_id) {
            self.copy(step, &frame);
        } else {
            self.take_in(step, frame);
        }
        self.close_gap(step, &agent_id);
    }

    pub(super) fn close_gap(&mut self, step: &mut MailStep, agent_id: &AgentId) {
        while let Some(gap) = self.gaps.get_mut(agent_id) {
            let Some(frame) = gap.pop() else {
                let more = gap.overflowed;
                self.gaps.remove(agent_id);
                if more {
                    step.notice(Notice::MailMissing);
                }
                return;
            };
            match self.judge(step.view(), &frame) {
                Verdict::Gap => {
                    if let Some(gap) = self.gaps.get_mut(agent_id) {
                        gap.insert(frame);
                    }
                    return;
                }
                Verdict::Fresh => self.take_in(step, frame),
                Verdict::Copy => self.copy(step, &frame),
                Verdict::Pending | Verdict::Stale => {}
            }
        }
    }

    /// Nothing came of asking: only a new link makes the engine send everything. Once it has, what is missing is gone.
    pub(super) fn tick_gaps(&mut self, step: &mut MailStep) {
        let over = |gap: &Gap| gap.give_up_at.is_some_and(|at| at <= step.now.mono);
        let stuck: Vec<_> = self
            .gaps
            .iter()
            .filter(|(_, gap)| over(gap))
            .map(|(id, _)| id.clone())
            .collect();
        let mut new_link = false;
        for agent_id in stuck {
            let sent_anew = self.is_sent_anew(step, &agent_id);
            let gap = self.gaps.get_mut(&agent_id);
            if let Some(frame) = gap.filter(|_| sent_anew).and_then(Gap::pop) {
                self.step_over(step, frame);
                // What is missing behind that one is asked for in its turn.
                if let Some(gap) = self.gaps.get_mut(&agent_id) {
                    gap.give_up_at = Some(step.now.mono + GAP_PATIENCE);
                }
                continue;
            }
            new_link = true;
            self.ask_anew(step, agent_id);
        }
        if new_link {
            log::info!(event = "mail_missing"; "mail is missing; opening a new link to have it sent again");
            step.effect(Effect::Link(LinkCommand::Reconnect));
        }
    }

    fn ask_anew(&mut self, step: &MailStep, agent_id: AgentId) {
        let gap = self.gaps.remove(&agent_id);
        // Mail was left to the engine, it answered, and nothing came: asking the next time would be in vain, too.
        self.lists_replay_nothing |= gap.is_some_and(|gap| gap.answered && gap.early.is_empty());
        let asked = AskedAnew {
            received: step.ledger().received(&agent_id),
            old_link_gone: false,
        };
        self.asked_anew.insert(agent_id, asked);
    }
}
