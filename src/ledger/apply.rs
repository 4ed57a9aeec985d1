//! The ledger itself: what each record changes, and what can be asked.

use std::collections::{BTreeMap, VecDeque};

use super::cursor::{Cursor, Verdict};
use super::dead_letters::{Dead, DeadLetters};
use super::delivery::{Delivery, Origin};
use super::image::Image;
use super::mailbox::{Mailboxes, Pending};
use super::record::Record;
use super::restart::{Life, Lives};
use super::stored::{DeliveryModeEntry, OutcomeEntry};
use crate::domain::{DeliveryMode, Outcome};
use crate::ids::{AgentId, AgentName, DeliveryId, InvocationId, MsgId, Seq};

/// How many answers to invocations are kept, first in, first out.
pub const ANSWERS_KEPT: usize = 1000;
/// How many agent identities are remembered. Beyond it the one that was bound longest ago and has no open mail is
/// forgotten: should the engine send it mail again, the first number it sends is the new base.
pub const IDENTITIES_KEPT: usize = 1000;
/// How many registrations without an answer are remembered. Beyond it a name counts as answered: should the engine have
/// made that agent, the next list of those that live takes it offline.
pub const UNANSWERED_KEPT: usize = 1000;

/// What is true about deliveries, agents and invocations, by the records alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    cursors: BTreeMap<AgentId, Cursor>,
    /// The same identities, the one bound longest ago first.
    identities: VecDeque<AgentId>,
    bound: BTreeMap<AgentName, AgentId>,
    mail: Mailboxes,
    dead: DeadLetters,
    lives: Lives,
    modes: BTreeMap<AgentName, DeliveryMode>,
    /// Who was released, and of whom the engine may still have mail.
    uncleared: BTreeMap<AgentName, AgentId>,
    /// For whom an identity was asked that may have been given, and whether they were released since.
    unanswered: BTreeMap<AgentName, bool>,
    answers: BTreeMap<InvocationId, Option<Outcome>>,
    answer_order: VecDeque<InvocationId>,
    numbered: u64,
}

impl Ledger {
    /// Changes the truth by one fact. Facts about things that are not there change nothing: a journal can be cut at any
    /// frame, and what remains must still be readable.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Opened { .. } => {}
            Record::Asked { agent } => self.asked(agent),
            Record::Bound { agent, agent_id } => self.bind(agent, agent_id),
            Record::Accepted { delivery } => {
                if let Origin::Engine { agent_id, seq } = &delivery.origin {
                    self.cursor(agent_id).take(*seq, &delivery.msg_id, true);
                }
                self.mail.push(Pending {
                    delivery: delivery.clone(),
                    attempts: 0,
                    waited_ms: 0,
                    suspended: false,
                });
            }
            Record::Noted {
                agent_id,
                seq,
                msg_id,
            } => {
                self.cursor(agent_id).take(*seq, msg_id, false);
            }
            Record::Waited { agent, ms } => self.mail.waited(agent, *ms),
            Record::Attempted { id } => self.mail.attempted(id),
            Record::Suspended { id } => self.mail.suspend(id, true),
            Record::Resumed { id } => self.mail.suspend(id, false),
            Record::Settled { id, .. } => {
                self.end(id);
            }
            Record::DeadLettered { id, reason, at } => {
                if let Some(pending) = self.end(id) {
                    self.dead.push(Dead {
                        pending,
                        reason: reason.clone(),
                        at: *at,
                    });
                }
            }
            Record::Redelivered { id, delivery } => self.redeliver(id, delivery),
            Record::Spawned {
                agent,
                request,
                anew,
                declared,
                waiting,
            } => {
                let life = Life::new(request, *declared, *waiting);
                self.lives.begin(agent, life, *anew);
            }
            Record::Restarted { agent, failures } => self.lives.restart(agent, *failures),
            Record::Ended { agent, released } => self.end_life(agent, *released),
            Record::Uncleared { agent, agent_id } => {
                self.unanswered.remove(agent);
                self.uncleared.insert(agent.clone(), agent_id.clone());
            }
            Record::Cleared { agent } => {
                self.unanswered.remove(agent);
                self.uncleared.remove(agent);
            }
            Record::Departed { agent, departed } => self.lives.depart(agent, departed),
            Record::Held {
                agent,
                mode: DeliveryMode::AutoInject,
            } => {
                self.modes.remove(agent);
            }
            Record::Held { agent, mode } => {
                self.modes.insert(agent.clone(), *mode);
            }
            Record::Invoked { id } => self.keep_answer(id, None),
            Record::Answered { id, outcome } => self.keep_answer(id, Some(outcome.clone())),
            Record::Numbered { upto } => self.numbered = self.numbered.max(*upto),
            Record::Snapshot(image) => *self = Self::from_image((**image).clone()),
        }
    }

    fn asked(&mut self, agent: &AgentName) {
        if self.unanswered.len() < UNANSWERED_KEPT {
            self.unanswered.entry(agent.clone()).or_default();
        }
    }

    fn bind(&mut self, agent: &AgentName, agent_id: &AgentId) {
        self.unanswered.remove(agent);
        self.bound.insert(agent.clone(), agent_id.clone());
        self.identities.retain(|id| id != agent_id);
        self.identities.push_back(agent_id.clone());
        self.cursors.entry(agent_id.clone()).or_default();
        self.forget_identities();
    }

    fn end_life(&mut self, agent: &AgentName, released: bool) {
        self.lives.end(agent, released);
        if let Some(was_released) = self.unanswered.get_mut(agent) {
            *was_released |= released;
        }
    }

    fn cursor(&mut self, agent_id: &AgentId) -> &mut Cursor {
        if !self.cursors.contains_key(agent_id) {
            self.identities.push_back(agent_id.clone());
            self.cursors.insert(agent_id.clone(), Cursor::default());
            self.forget_identities();
        }
        self.cursors.entry(agent_id.clone()).or_default()
    }

    fn forget_identities(&mut self) {
        if self.identities.len() <= IDENTITIES_KEPT {
            return;
        }
        let lives = |id: &AgentId| {
            let mut alive = self.lives.iter();
            alive.any(|(name, _)| self.bound.get(name) == Some(id))
        };
        // The newest is the one that is being bound right now.
        let others = self.identities.iter().take(IDENTITIES_KEPT).enumerate();
        let forgotten = others
            .filter(|(_, id)| self.cursors.get(id).is_none_or(Cursor::is_settled))
            .find(|(_, id)| !lives(id))
            .map(|(at, _)| at);
        if let Some(id) = forgotten.and_then(|at| self.identities.remove(at)) {
            self.cursors.remove(&id);
            let lives = &mut self.lives;
            self.bound.retain(|name, bound| {
                let keep = *bound != id;
                if !keep {
                    lives.forget(name);
                }
                keep
            });
        }
    }

    fn redeliver(&mut self, id: &DeliveryId, delivery: &Delivery) {
        if let Some(dead) = self.dead.take(id) {
            self.mail.push(Pending {
                delivery: delivery.clone(),
                attempts: dead.pending.attempts,
                waited_ms: 0,
                suspended: false,
            });
        }
    }

    fn end(&mut self, id: &DeliveryId) -> Option<Pending> {
        let mut pending = self.mail.take(id)?;
        pending.suspended = false;
        if let Origin::Engine { agent_id, seq } = &pending.delivery.origin
            && let Some(cursor) = self.cursors.get_mut(agent_id)
        {
            cursor.end(*seq);
        }
        Some(pending)
    }

    fn keep_answer(&mut self, id: &InvocationId, outcome: Option<Outcome>) {
        if self.answers.insert(id.clone(), outcome).is_some() {
            return;
        }
        self.answer_order.push_back(id.clone());
        if self.answer_order.len() > ANSWERS_KEPT
            && let Some(oldest) = self.answer_order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }

    /// Everything as one value.
    pub fn image(&self) -> Image {
        let modes = self.modes.iter();
        let modes = modes.map(|(agent, mode)| (agent.clone(), DeliveryModeEntry(*mode)));
        let answers = self.answer_order.iter().map(|id| {
            let outcome = self.answers.get(id).cloned().flatten();
            (id.clone(), outcome.map(OutcomeEntry))
        });
        Image {
            cursors: self.cursors.clone(),
            identities: self.identities.clone(),
            bound: self.bound.clone(),
            pending: self.mail.all().cloned().collect(),
            dead: self.dead.clone(),
            lives: self.lives.clone(),
            modes: modes.collect(),
            uncleared: self.uncleared.clone(),
            unanswered: self.unanswered.clone(),
            answers: answers.collect(),
            numbered: self.numbered,
        }
    }

    fn from_image(image: Image) -> Self {
        let mut identities = image.identities;
        if identities.is_empty() {
            // As written before the order was remembered.
            identities = image.cursors.keys().cloned().collect();
        }
        let modes = image.modes.into_iter();
        let modes = modes.map(|(agent, DeliveryModeEntry(mode))| (agent, mode));
        let mut ledger = Self {
            cursors: image.cursors,
            identities,
            bound: image.bound,
            dead: image.dead,
            lives: image.lives,
            modes: modes.collect(),
            uncleared: image.uncleared,
            unanswered: image.unanswered,
            numbered: image.numbered,
            ..Self::default()
        };
        for pending in image.pending {
            ledger.mail.push(pending);
        }
        for (id, outcome) in image.answers {
            ledger.keep_answer(&id, outcome.map(|OutcomeEntry(outcome)| outcome));
        }
        ledger
    }

    // ---- looking ------------------------------------------------------------------------------------------------

    /// What a frame for that agent id is.
    pub fn judge(&self, agent_id: &AgentId, seq: Seq, msg_id: &MsgId) -> Verdict {
        self.cursors
            .get(agent_id)
            .map_or(Verdict::Fresh, |cursor| cursor.judge(seq, msg_id))
    }

    /// Whether that message was taken in lately, under whatever number.
    pub fn knows(&self, agent_id: &AgentId, msg_id: &MsgId) -> bool {
        self.cursors
            .get(agent_id)
            .is_some_and(|cursor| cursor.knows(msg_id))
    }

    /// The highest number taken in for that agent id.
    pub fn received(&self, agent_id: &AgentId) -> Seq {
        self.cursors.get(agent_id).map_or(Seq(0), Cursor::received)
    }

    /// What may be acknowledged for that agent id.
    pub fn settled(&self, agent_id: &AgentId) -> Option<Seq> {
        self.cursors.get(agent_id)?.settled()
    }

    /// The identity a name was last bound to.
    pub fn bound(&self, agent: &AgentName) -> Option<&AgentId> {
        self.bound.get(agent)
    }

    /// All names that were given an identity, with the last of each.
    pub fn all_bound(&self) -> impl Iterator<Item = (&AgentName, &AgentId)> {
        self.bound.iter()
    }

    /// The name that was last bound to an identity, if another has not taken its place.
    pub fn bearer(&self, agent_id: &AgentId) -> Option<&AgentName> {
        let mut names = self.bound.iter();
        names.find(|(_, id)| *id == agent_id).map(|(name, _)| name)
    }

    /// What waits.
    pub fn mail(&self) -> &Mailboxes {
        &self.mail
    }

    /// Who lives here.
    pub fn lives(&self) -> &Lives {
        &self.lives
    }

    /// What was given up.
    pub fn dead(&self) -> &DeadLetters {
        &self.dead
    }

    /// How messages reach an agent.
    pub fn mode(&self, agent: &AgentName) -> DeliveryMode {
        self.modes.get(agent).copied().unwrap_or_default()
    }

    /// The identity that a name had whose bearer was released, while the engine may still have mail for it.
    pub fn uncleared(&self, agent: &AgentName) -> Option<&AgentId> {
        self.uncleared.get(agent)
    }

    /// All of these names.
    pub fn all_uncleared(&self) -> impl Iterator<Item = &AgentName> {
        self.uncleared.keys()
    }

    /// Whether an identity was asked for this name, with no answer known: `Some(true)` if the name was released since, and so
    /// must not be borne again before the engine has nothing of that agent.
    pub fn unanswered(&self, agent: &AgentName) -> Option<bool> {
        self.unanswered.get(agent).copied()
    }

    /// All of these names.
    pub fn all_unanswered(&self) -> impl Iterator<Item = &AgentName> {
        self.unanswered.keys()
    }

    /// The answer to an invocation: `None` if never seen, `Some(None)` while it runs.
    pub fn answer(&self, id: &InvocationId) -> Option<Option<&Outcome>> {
        self.answers.get(id).map(Option::as_ref)
    }

    /// Event numbers up to this one may have been used.
    pub fn numbered(&self) -> u64 {
        self.numbered
    }
}

#[cfg(test)]
mod tests {
    use super::super::delivery::Delivery;
    use super::super::restart::Departed;
    use super::*;
    use crate::domain::{Mode, Proof};
    use crate::time::Wall;

    fn delivery(agent: &str, seq: u64) -> Delivery {
        Delivery {
            id: DeliveryId::new(format!("del_{agent}_{seq}")),
            msg_id: MsgId::new(format!("m_{agent}_{seq}")),
            agent: AgentName::new(agent),
            origin: Origin::Engine {
                agent_id: AgentId::new(format!("id_{agent}")),
                seq: Seq(seq),
            },
            from: "lead".into(),
            target: agent.into(),
            body: "hello".into(),
            thread_id: None,
            mode: Mode::Wait,
            raw: false,
            by_operator: false,
            queued_at: Wall(1),
        }
    }

    fn story() -> Vec<Record> {
        let id = |seq| DeliveryId::new(format!("del_w1_{seq}"));
        vec![
            Record::Opened { at: Wall(1) },
            Record::Asked {
                agent: AgentName::new("w1"),
            },
            Record::Bound {
                agent: AgentName::new("w1"),
                agent_id: AgentId::new("id_w1"),
            },
            Record::Accepted {
                delivery: delivery("w1", 1),
            },
            Record::Accepted {
                delivery: delivery("w1", 2),
            },
            Record::Attempted { id: id(1) },
            Record::Waited {
                agent: AgentName::new("w1"),
                ms: 250,
            },
            Record::Accepted {
                delivery: delivery("w1", 3),
            },
            Record::Settled {
                id: id(1),
                proof: Proof::Echo,
            },
            Record::DeadLettered {
                id: id(2),
                reason: "too long".into(),
                at: Wall(5),
            },
            Record::Held {
                agent: AgentName::new("w1"),
                mode: DeliveryMode::ManualFlush,
            },
            Record::Spawned {
                agent: AgentName::new("w1"),
                request: Box::default(),
                anew: false,
                declared: false,
                waiting: false,
            },
            Record::Restarted {
                agent: AgentName::new("w1"),
                failures: 1,
            },
            Record::Ended {
                agent: AgentName::new("w1"),
                released: true,
            },
            Record::Asked {
                agent: AgentName::new("w3"),
            },
            Record::Ended {
                agent: AgentName::new("w3"),
                released: true,
            },
            Record::Departed {
                agent: AgentName::new("w2"),
                departed: Departed {
                    reason: "exit code 1".into(),
                    given_up: true,
                    at: Wall(3),
                    command: "sh".into(),
                    code: Some(1),
                    last_lines: vec!["$ exit 1".into()],
                    ..Departed::default()
                },
            },
            Record::Invoked {
                id: InvocationId::new("inv_1"),
            },
            Record::Answered {
                id: InvocationId::new("inv_1"),
                outcome: Outcome::Error("no".into()),
            },
            Record::Numbered { upto: 1000 },
        ]
    }

    #[test]
    fn a_snapshot_stands_for_the_whole_story_wherever_it_is_taken() {
        let story = story();
        let mut whole = Ledger::default();
        story.iter().for_each(|r| whole.apply(r));
        for cut in 0..=story.len() {
            let mut before = Ledger::default();
            story[..cut].iter().for_each(|r| before.apply(r));
            let snapshot = Record::Snapshot(Box::new(before.image()));
            let line = serde_json::to_string(&snapshot).expect("records are plain");
            let mut after = Ledger::default();
            after.apply(&serde_json::from_str(&line).expect("as written"));
            assert_eq!(after, before);
            story[cut..].iter().for_each(|r| after.apply(r));
            assert_eq!(after, whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_ended_is_acknowledged_and_what_waits_is_kept_in_order() {
        let mut ledger = Ledger::default();
        story().iter().for_each(|r| ledger.apply(r));
        assert_eq!(ledger.settled(&AgentId::new("id_w1")), Some(Seq(2)));
        assert_eq!(
            ledger
                .mail()
                .front(&AgentName::new("w1"))
                .map(|p| p.delivery.id.as_str()),
            Some("del_w1_3")
        );
        assert_eq!(ledger.dead().len(), 1);
        assert_eq!(
            ledger.mode(&AgentName::new("w1")),
            DeliveryMode::ManualFlush
        );
    }

    #[test]
    fn a_dead_letter_that_is_redelivered_waits_again_under_its_new_id() {
        let mut ledger = Ledger::default();
        story().iter().for_each(|r| ledger.apply(r));
        let again = Delivery {
            id: DeliveryId::new("del_again"),
            origin: Origin::Local,
            ..delivery("w1", 2)
        };
        let redelivered = Record::Redelivered {
            id: DeliveryId::new("del_w1_2"),
            delivery: again,
        };
        ledger.apply(&redelivered);
        ledger.apply(&redelivered);
        assert!(ledger.dead().is_empty());
        let waiting: Vec<_> = ledger.mail().of(&AgentName::new("w1")).collect();
        assert_eq!(waiting.len(), 2, "once, however often it is told");
        assert_eq!(waiting[1].delivery.id.as_str(), "del_again");
        assert_eq!(ledger.mail().waiting_local(&AgentName::new("w1")), 1);
        assert_eq!(ledger.settled(&AgentId::new("id_w1")), Some(Seq(2)));
    }

    #[test]
    fn identities_are_forgotten_the_oldest_first_unless_they_live_or_have_open_mail() {
        let mut ledger = Ledger::default();
        let bind = |name: &str| Record::Bound {
            agent: AgentName::new(name),
            agent_id: AgentId::new(format!("id_{name}")),
        };
        ledger.apply(&bind("waits"));
        ledger.apply(&Record::Accepted {
            delivery: delivery("waits", 1),
        });
        ledger.apply(&bind("lives"));
        ledger.apply(&Record::Spawned {
            agent: AgentName::new("lives"),
            request: Box::default(),
            anew: false,
            declared: false,
            waiting: false,
        });
        (0..IDENTITIES_KEPT).for_each(|n| ledger.apply(&bind(&format!("n{n}"))));
        let known = |name: &str| ledger.bound(&AgentName::new(name)).is_some();
        assert!(known("waits") && known("lives") && known("n2"));
        assert!(!known("n0") && !known("n1"));
    }

    #[test]
    fn facts_about_things_unknown_change_nothing() {
        let mut ledger = Ledger::default();
        ledger.apply(&Record::Settled {
            id: DeliveryId::new("nobody"),
            proof: Proof::None,
        });
        ledger.apply(&Record::Attempted {
            id: DeliveryId::new("nobody"),
        });
        assert_eq!(ledger, Ledger::default());
    }
}
