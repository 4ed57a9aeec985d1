//! Frames with mail: judged, put in order, accepted. Nothing here types or acknowledges what is not finished.

use super::limits::Side;
use super::speaker::Speaker;
use super::state::{Mail, MailStep, MailView};
use crate::ids::{AgentId, AgentName, DeliveryId, Seq};
use crate::ledger::{Delivery, Origin, Record, Verdict};
use crate::wire::down::Deliver;
use crate::wire::fields::{self, PayloadKind};
use crate::words::{self, NO_WORDS};

/// Whether it says that an action was refused.
fn is_denial(frame: &Deliver) -> bool {
    frame.seq == Seq(0) && fields::kind_word(&frame.payload) == "action.denied"
}

impl Mail {
    /// A frame with a message or notice for an agent.
    pub(in crate::dispatch) fn deliver(&mut self, step: &mut MailStep, mut frame: Deliver) {
        if step.peers.control.is_stopping() {
            // Not accepted, so it stays the engine's and comes again after the next start.
            return;
        }
        self.address(step, &mut frame);
        let undelivered = fields::undelivered(&frame.payload).map(str::to_owned);
        if let Some(why) = undelivered.filter(|_| !step.peers.agents.is_here(&frame.agent)) {
            return self.handed_over(step, frame, &why);
        }
        if self.is_full(&frame.agent_id) && frame.seq > step.ledger().received(&frame.agent_id) {
            self.leave_to_engine(step, &frame);
            return;
        }
        match self.judge(step.view(), &frame) {
            Verdict::Fresh => {
                let agent_id = frame.agent_id.clone();
                self.take_in(step, frame);
                self.close_gap(step, &agent_id);
            }
            Verdict::Pending => {}
            Verdict::Stale => self.acknowledge(step, &frame.agent, &frame.agent_id),
            Verdict::Copy => self.copy(step, &frame),
            Verdict::Gap => self.hold_early(step, frame),
        }
    }

    /// Fills in what a frame leaves out, and finds the agent that it means: by the id, which stays when a name changes
    /// hands, and by the name only where no agent here has that id.
    fn address(&mut self, step: &mut MailStep, frame: &mut Deliver) {
        if frame.agent_id.as_str().is_empty() {
            // Engines of the 4.x line name no id; the name then stands for the identity.
            let known = identity_of(step.view(), &frame.agent).cloned();
            frame.agent_id = known.unwrap_or_else(|| AgentId::new(format!("name:{}", frame.agent)));
        }
        if frame.delivery_id.as_str().is_empty() {
            frame.delivery_id = DeliveryId::new(format!("del_{}_{}", frame.msg_id, frame.agent_id));
        }
        if is_denial(frame) {
            // All refusals of one action bear the same ids (engine-protocol 4.2), and none is ever sent again.
            let id = format!("{}_{}", frame.delivery_id, step.unused());
            frame.delivery_id = DeliveryId::new(id);
        }
        // The engine's name for the agent is that of its newest frame.
        match bearer_of(step.view(), frame) {
            Some(name) => {
                let engines_name = std::mem::replace(&mut frame.agent, name);
                self.called.insert(frame.agent_id.clone(), engines_name);
            }
            None => drop(self.called.remove(&frame.agent_id)),
        }
    }

    pub(super) fn judge(&self, view: MailView, frame: &Deliver) -> Verdict {
        if is_denial(frame) {
            return Verdict::Fresh;
        }
        let verdict = view
            .ledger()
            .judge(&frame.agent_id, frame.seq, &frame.msg_id);
        if verdict == Verdict::Fresh && self.is_behind_what_was_left(view, frame) {
            return Verdict::Gap;
        }
        let waits =
            verdict == Verdict::Fresh && view.ledger().mail().get(&frame.delivery_id).is_some();
        if waits { Verdict::Copy } else { verdict }
    }

    /// A message we have under another number: done with, never typed.
    pub(super) fn copy(&mut self, step: &mut MailStep, frame: &Deliver) {
        if frame.seq != Seq(0) {
            self.note(step, frame);
        }
        self.acknowledge(step, &frame.agent, &frame.agent_id);
    }

    pub(super) fn take_in(&mut self, step: &mut MailStep, frame: Deliver) {
        match fields::kind(&frame.payload) {
            PayloadKind::Message => {
                let obstacle = no_reader(step.view(), &frame);
                if obstacle.is_some() || !self.defer(step, &frame) {
                    self.accept_frame(step, frame, obstacle);
                }
                return;
            }
            PayloadKind::Notice => {}
            PayloadKind::Unknown => {
                let word = fields::kind_word(&frame.payload);
                log::warn!(
                event = "frame_unknown", agent:% = frame.agent, message_id:% = frame.msg_id;
                        "a frame of unknown type {word:?} for {} is acknowledged and not shown",
                        frame.agent
                    );
            }
        }
        // Outside the sequence there is nothing to remember: a notice that comes twice is shown neither time.
        if frame.seq != Seq(0) {
            self.note(step, &frame);
        }
        self.acknowledge(step, &frame.agent, &frame.agent_id);
    }

    pub(super) fn note(&mut self, step: &mut MailStep, frame: &Deliver) {
        let (agent_id, seq, msg_id) = (frame.agent_id.clone(), frame.seq, frame.msg_id.clone());
        step.record(Record::Noted {
            agent_id,
            seq,
            msg_id,
        });
    }

    pub(super) fn accept_frame(
        &mut self,
        step: &mut MailStep,
        frame: Deliver,
        obstacle: Option<&str>,
    ) {
        let mut delivery = Delivery {
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
            by_operator: false,
            queued_at: step.now.wall,
        };
        let speaker = Speaker::of_frame(step.view(), &frame, &delivery);
        speaker.queues(step.view(), &mut delivery);
        let id = delivery.id.clone();
        let wordless = words::is_nothing_but_controls(&delivery.body);
        let wordless = wordless.then(|| format!("the message has {NO_WORDS}"));
        // Outside the sequence it never comes again, so it cannot be left to the engine.
        let crowd = (frame.seq == Seq(0))
            .then(|| self.crowd(step.view(), &frame.agent, Side::Engine, frame.bytes))
            .flatten();
        match wordless.as_deref().or(obstacle).or(crowd.as_deref()) {
            None => self.accept(step, delivery, &speaker),
            Some(why) => {
                self.take_on(step, delivery);
                self.bury(step, &id, why);
            }
        }
    }
}

/// The identity that the name has here.
fn identity_of<'a>(view: MailView<'a>, name: &AgentName) -> Option<&'a AgentId> {
    let here = view.peers.agents.agent_id(name);
    here.or_else(|| view.ledger().bound(name))
}

/// The agent of this node with the frame's id, if it goes by another name here.
fn bearer_of(view: MailView, frame: &Deliver) -> Option<AgentName> {
    if identity_of(view, &frame.agent) == Some(&frame.agent_id) {
        return None;
    }
    let mut here = view.peers.agents.here().into_iter();
    let bearer = here.find(|(name, _)| identity_of(view, name) == Some(&frame.agent_id));
    let bearer = bearer.map(|(name, _)| name);
    bearer
        .or_else(|| view.ledger().bearer(&frame.agent_id))
        .cloned()
}

/// Why nobody will come to read this, if so. An agent that crashed, or that the last broker had, may come back.
fn no_reader(view: MailView, frame: &Deliver) -> Option<&'static str> {
    if frame.left_out {
        return Some(super::oversize::TOO_LARGE);
    }
    if view.ledger().uncleared(&frame.agent) == Some(&frame.agent_id) {
        // Who bears the name by now is not known to the engine yet.
        return Some("the agent was released from this node");
    }
    if view.ledger().unanswered(&frame.agent) == Some(true) {
        // Nobody here knows the identity of who was released, and who bears the name by now has none yet.
        return Some("the agent was released from this node");
    }
    let identity = identity_of(view, &frame.agent);
    if identity.is_some_and(|id| *id != frame.agent_id) {
        return Some("it is for another agent of this name, whose id no agent of this node has");
    }
    if view.peers.agents.is_here(&frame.agent) {
        return None;
    }
    if view.ledger().lives().was_released(&frame.agent) {
        return Some("the agent was released from this node");
    }
    identity
        .is_none()
        .then_some("no agent of this name has ever run on this node")
}
