//! From what is remembered to the life of one message: which steps are its own, in which order, and what became of it. Pure.

use crate::domain::Proof;
use crate::history::{HistoryFact, HistoryStep, MessageWay};
use crate::ids::{AgentName, DeliveryId, MsgId};
use crate::time::{Wall, millis};

/// One message on its way to one agent, over all its deliveries.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MessageLife {
    pub(super) agent: AgentName,
    pub(super) message: MsgId,
    /// The first one, and those that dead letters became.
    pub(super) deliveries: Vec<DeliveryId>,
    pub(super) from: String,
    pub(super) text: String,
    pub(super) accepted: Wall,
    seq: Option<u64>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageFate {
    /// It was seen to arrive.
    Arrived(Proof),
    /// It was typed, and nothing was seen.
    Unverified,
    /// It is a dead letter.
    GivenUp,
    /// It has not ended.
    Waits,
    /// It ended, and how is not remembered.
    Forgotten,
}

impl MessageFate {
    /// For programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Arrived(_) => "verified",
            Self::Unverified => "unverified",
            Self::GivenUp => "dead",
            Self::Waits => "waiting",
            Self::Forgotten => "forgotten",
        }
    }
}

/// All messages of which it is remembered that they were accepted, in that order.
pub(super) fn lives(steps: &[HistoryStep]) -> Vec<MessageLife> {
    let mut lives: Vec<MessageLife> = Vec::new();
    for step in steps {
        let (Some(agent), Some(message), Some(id)) = (&step.agent, &step.message, &step.delivery)
        else {
            continue;
        };
        let same = |life: &&mut MessageLife| life.message == *message && life.agent == *agent;
        match (&step.fact, lives.iter_mut().rev().find(same)) {
            (HistoryFact::Redelivered { anew }, Some(life)) => life.add(anew),
            (_, Some(life)) => life.add(id),
            (
                HistoryFact::Accepted {
                    from, text, seq, ..
                },
                None,
            ) => lives.push(MessageLife {
                agent: agent.clone(),
                message: message.clone(),
                deliveries: vec![id.clone()],
                from: from.clone(),
                text: text.clone(),
                accepted: step.at,
                seq: *seq,
            }),
            // The beginning has aged out.
            (_, None) => lives.push(MessageLife {
                agent: agent.clone(),
                message: message.clone(),
                deliveries: vec![id.clone()],
                from: String::new(),
                text: String::new(),
                accepted: step.at,
                seq: None,
            }),
        }
    }
    lives
}

impl MessageLife {
    fn add(&mut self, id: &DeliveryId) {
        if !self.deliveries.contains(id) {
            self.deliveries.push(id.clone());
        }
    }

    /// Whether the message or one of its deliveries is called so.
    pub(super) fn is_called(&self, id: &str) -> bool {
        self.message.as_str() == id
            || self
                .deliveries
                .iter()
                .any(|delivery| delivery.as_str() == id)
    }

    /// Whether the name of one begins so.
    pub(super) fn begins(&self, prefix: &str) -> bool {
        self.message.as_str().starts_with(prefix)
            || self
                .deliveries
                .iter()
                .any(|delivery| delivery.as_str().starts_with(prefix))
    }

    fn is_own(&self, step: &HistoryStep) -> bool {
        match (&step.delivery, &step.message) {
            (Some(id), _) => self.deliveries.contains(id),
            (None, Some(message)) => {
                *message == self.message && step.agent.as_ref() == Some(&self.agent)
            }
            (None, None) => false,
        }
    }

    /// The steps of this message, and what happened to its agent and the broker meanwhile.
    pub(super) fn steps<'a>(&self, all: &'a [HistoryStep]) -> Vec<&'a HistoryStep> {
        let own = |step: &&HistoryStep| self.is_own(step);
        let first = all.iter().position(|step| self.is_own(step)).unwrap_or(0);
        let last = all.iter().rposition(|step| self.is_own(step)).unwrap_or(0);
        let open = self.end(all) == MessageFate::Waits;
        let ended = all
            .iter()
            .find(|step| is_end(&step.fact) && self.is_own(step));
        let told = |step: &&HistoryStep| {
            ended.is_some_and(|ended| step.at >= ended.at) && self.is_acknowledged(step)
        };
        let told = all.iter().find(told);
        let mut steps: Vec<&HistoryStep> = Vec::new();
        for (place, step) in all.iter().enumerate().skip(first) {
            let during = place <= last || open;
            let around = step.agent.is_none() || step.agent.as_ref() == Some(&self.agent);
            let beside = step.delivery.is_none() && step.message.is_none() && around;
            if own(&step) || during && beside && !is_ack(step) {
                steps.push(step);
            }
        }
        steps.extend(told);
        // A decision that is told later may stand behind what its doing has brought.
        steps.sort_by_key(|step| (step.at, is_ack(step)));
        steps
    }

    fn is_acknowledged(&self, step: &HistoryStep) -> bool {
        let up_to = match step.fact {
            HistoryFact::Acknowledged { up_to } => up_to,
            _ => return false,
        };
        step.agent.as_ref() == Some(&self.agent)
            && self.seq.is_some_and(|seq| seq > 0 && seq <= up_to)
    }

    /// Which messages of the agent were before it when it was accepted.
    pub(super) fn behind<'a>(
        &self,
        lives: &'a [MessageLife],
        all: &[HistoryStep],
    ) -> Vec<&'a MessageLife> {
        let at = all.iter().position(|step| self.is_own(step)).unwrap_or(0);
        let earlier = lives.iter().take_while(|life| *life != self);
        let waits = |life: &&MessageLife| {
            life.agent == self.agent && life.end(&all[..at]) == MessageFate::Waits
        };
        earlier.filter(waits).collect()
    }

    /// What became of it, as far as is remembered.
    pub(super) fn end(&self, all: &[HistoryStep]) -> MessageFate {
        let own = all.iter().rev().filter(|step| self.is_own(step));
        for step in own {
            match &step.fact {
                HistoryFact::Settled {
                    proof: Proof::None, ..
                } => return MessageFate::Unverified,
                HistoryFact::Settled { proof, .. } => return MessageFate::Arrived(*proof),
                HistoryFact::GivenUp { .. } => return MessageFate::GivenUp,
                HistoryFact::Redelivered { .. } | HistoryFact::Accepted { .. } => {
                    return MessageFate::Waits;
                }
                _ => {}
            }
        }
        MessageFate::Waits
    }

    /// How often it was given to the agent's thread, and how often a crash made that necessary.
    pub(super) fn tries(&self, all: &[HistoryStep]) -> (usize, usize) {
        let own: Vec<&HistoryStep> = all.iter().filter(|step| self.is_own(step)).collect();
        let count =
            |what: fn(&HistoryFact) -> bool| own.iter().filter(|step| what(&step.fact)).count();
        (
            count(|fact| matches!(fact, HistoryFact::Given { .. })),
            count(|fact| matches!(fact, HistoryFact::Typed { redelivered: true })),
        )
    }

    /// All of it in one sentence.
    pub(super) fn verdict(&self, all: &[HistoryStep], end: MessageFate) -> String {
        let (who, message) = (&self.agent, &self.message);
        let last = self.steps(all);
        let ended = last
            .iter()
            .rev()
            .find(|step| self.is_own(step) && is_end(&step.fact));
        let after = ended.map_or(0, |step| millis(step.at - self.accepted));
        let (_, again) = self.tries(all);
        let twice = match again {
            0 => "",
            _ => {
                "; a crash fell between its typing and the note of that, so it may have been read twice"
            }
        };
        match end {
            MessageFate::Arrived(proof) => format!(
                "{who} has message {message}: {}, {after} ms after it was accepted{twice}",
                proof.words()
            ),
            MessageFate::Unverified => format!(
                "message {message} was typed for {who}, and nothing was seen of it: {}{twice}",
                self.reason(&last)
                    .unwrap_or_else(|| "the terminal showed nothing".to_owned())
            ),
            MessageFate::GivenUp => format!(
                "message {message} for {who} was given up: {}{twice}",
                self.reason(&last).unwrap_or_default()
            ),
            MessageFate::Waits => match self.in_the_way(all) {
                Some(why) => format!("message {message} waits for {who}: {why}{twice}"),
                None => format!("message {message} waits for {who}{twice}"),
            },
            MessageFate::Forgotten => format!(
                "message {message} for {who} has ended: the journal does not have it as waiting any more; how it ended is not \
                 remembered{twice}"
            ),
        }
    }

    /// Why it ended as it did.
    fn reason(&self, steps: &[&HistoryStep]) -> Option<String> {
        steps.iter().rev().find_map(|step| match &step.fact {
            HistoryFact::Settled { reason, .. } => reason.clone(),
            HistoryFact::GivenUp { reason } => Some(reason.clone()),
            _ => None,
        })
    }

    /// What stands in its way: what has begun, also before it came, and is not known to be over.
    fn in_the_way(&self, all: &[HistoryStep]) -> Option<String> {
        let mut way = InTheWay::default();
        for step in all {
            match self.is_own(step) {
                true => way.of_message(&step.fact),
                false if step.agent.as_ref() == Some(&self.agent) => way.of_agent(&step.fact),
                false => {}
            }
        }
        way.ended
            .or(way.dialog)
            .or(way.blocked)
            .or(way.suspected)
            .or(way.held)
    }

    /// Over which way it came, in words.
    pub(super) fn way(way: MessageWay, seq: Option<u64>) -> String {
        match (way, seq) {
            (MessageWay::Engine, Some(seq)) => format!("from the engine, as number {seq}"),
            (MessageWay::Engine, None) => "from the engine".to_owned(),
            (MessageWay::Local, _) => "on this machine".to_owned(),
        }
    }
}

fn is_ack(step: &HistoryStep) -> bool {
    matches!(step.fact, HistoryFact::Acknowledged { .. })
}

fn is_end(fact: &HistoryFact) -> bool {
    matches!(
        fact,
        HistoryFact::Settled { .. } | HistoryFact::GivenUp { .. }
    )
}

/// What keeps a message from its agent, the worst first.
#[derive(Default)]
struct InTheWay {
    ended: Option<String>,
    dialog: Option<String>,
    blocked: Option<String>,
    suspected: Option<String>,
    held: Option<String>,
}

impl InTheWay {
    fn of_message(&mut self, fact: &HistoryFact) {
        match fact {
            HistoryFact::Given { .. } => self.blocked = None,
            HistoryFact::Blocked { why } => self.blocked = Some(why.clone()),
            HistoryFact::Suspected { reason } => self.suspected = Some(reason.clone()),
            HistoryFact::Parked => self.held = Some(HELD.to_owned()),
            _ => {}
        }
    }

    fn of_agent(&mut self, fact: &HistoryFact) {
        match fact {
            HistoryFact::Ended { how } => {
                self.ended = Some(format!("the agent's program has ended ({how})"))
            }
            HistoryFact::Ready => self.ended = None,
            HistoryFact::Dialog { rows } => {
                let rows = rows.join(" ⏎ ");
                self.dialog = Some(format!(
                    "a dialog stands in the agent's terminal; the screen ends with: {rows}"
                ));
            }
            HistoryFact::DialogGone => self.dialog = None,
            HistoryFact::Mode { held } => self.held = held.then(|| HELD.to_owned()),
            _ => {}
        }
    }
}

const HELD: &str = "the agent's messages are held";
