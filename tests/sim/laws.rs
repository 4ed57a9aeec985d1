//! The laws: what must be true after every step of every world, whatever died and whenever. They keep books of their own,
//! from what was made durable, what was said to others, and what the model command lines took; they never ask the
//! dispatcher what it believes.

mod end;
mod keys;
mod releases;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relay_broker::domain::{DeliveryMode, Mode, Outcome, Proof};
use relay_broker::ids::{AgentId, AgentName, DeliveryId, InvocationId, MsgId, Seq};
use relay_broker::ledger::{Delivery, Ledger, Origin, Record};
use relay_broker::wire::down::Deliver;
use relay_broker::wire::event::BrokerEvent;

use crate::disk::Crash;

/// What became of one delivery.
#[derive(Clone, Debug)]
pub struct Fate {
    pub agent: AgentName,
    pub tag: Option<u64>,
    pub body: String,
    origin: Origin,
    /// It interrupts, so it goes before what waits.
    steer: bool,
    /// Its place in the order of acceptance, and when that was.
    place: u64,
    accepted_at: u64,
    /// How often it was handed to a terminal.
    pub injected: u32,
    /// How often a command line took it.
    pub accepted: u32,
    /// How often it ended.
    pub ends: u32,
    pub dead: bool,
    pub proof: Option<Proof>,
    /// Seen to land, and noted beside the journal.
    noted: bool,
    /// It lay in a terminal, and the program threw it away.
    thrown: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Laws {
    /// The first law that was broken.
    pub broken: Option<String>,
    /// The ledger as the disk must give it back.
    durable: Ledger,
    /// Decided, when, and perhaps on the disk.
    in_flight: Vec<(u64, Record)>,
    pub fates: BTreeMap<DeliveryId, Fate>,
    by_tag: BTreeMap<(AgentName, u64), DeliveryId>,
    by_message: BTreeMap<MsgId, Vec<DeliveryId>>,
    places: u64,
    /// What was held because agents seemed to answer each other without end; later mail may come before it.
    suspended: BTreeSet<DeliveryId>,
    /// What the engine sent: numbers and messages by agent.
    rows: BTreeMap<AgentId, BTreeMap<u64, MsgId>>,
    names: BTreeMap<AgentId, AgentName>,
    finished: BTreeMap<AgentId, BTreeSet<u64>>,
    said: BTreeMap<AgentId, u64>,
    /// How far an agent's mail has ended that no acknowledgement has told of yet.
    untold_ends: BTreeMap<AgentId, u64>,
    /// The same over all lives of the broker.
    unsaid_ends: BTreeMap<AgentId, u64>,
    /// The engine listens anew: what has ended is said in the same step.
    listens: bool,
    /// The same of those whose lives ended, as it was by then.
    last_ends: BTreeMap<AgentId, u64>,
    /// Who has an identity in this life.
    identified: BTreeSet<AgentId>,
    heard: BTreeMap<AgentId, u64>,
    published: u64,
    /// The latest place that each command line took of what waits, and of all.
    taken: BTreeMap<AgentName, (u64, u64)>,
    /// Whose name the engine may have taken away, and their mail with it.
    deleted: BTreeSet<AgentName>,
    /// Who is known to bear a name no more.
    gone: BTreeSet<AgentId>,
    /// When messages were known to be the engine's, and when the last bearer of a name was released.
    posted: BTreeMap<MsgId, u64>,
    released: BTreeMap<AgentName, u64>,
    /// What persons type themselves.
    typed: BTreeMap<AgentName, keys::Typed>,
    pub redelivered: u64,
    pub typed_twice: u64,
    /// The world's time, and how long mail waits for an agent that is not here.
    pub now: u64,
    ttl: Option<Duration>,
    /// Dead letters of which no event has told yet.
    untold: BTreeSet<DeliveryId>,
}

/// The number in a text that marks it as one of the world's messages.
pub fn tags(text: &str) -> Vec<u64> {
    let digits = |at: usize| -> String {
        text[at + 2..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect()
    };
    text.match_indices("m=")
        .filter_map(|(at, _)| digits(at).parse().ok())
        .collect()
}

impl Laws {
    /// For a world in which mail waits so long for agents that are not here.
    pub fn new(ttl: Option<Duration>) -> Self {
        Self {
            ttl,
            ..Self::default()
        }
    }

    pub fn break_law(&mut self, what: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    fn must(&mut self, held: bool, what: impl FnOnce() -> String) {
        if !held {
            self.break_law(what);
        }
    }

    // ---- the journal --------------------------------------------------------------------------------------------

    /// The dispatcher decided; nothing is durable yet.
    pub fn decided(&mut self, records: &[Record]) {
        let now = self.now;
        let decided = records.iter().map(|record| (now, record.clone()));
        self.in_flight.extend(decided);
    }

    /// All that was decided is on the disk, so the journal says.
    pub fn persisted(&mut self) {
        for (at, record) in std::mem::take(&mut self.in_flight) {
            self.remember(at, &record);
        }
    }

    /// `at` is when it was decided.
    fn remember(&mut self, at: u64, record: &Record) {
        match record {
            Record::Accepted { delivery } => self.accepted(at, delivery),
            Record::Redelivered { id, delivery } => self.raised(at, id, delivery),
            Record::Noted { agent_id, seq, .. } => {
                self.finish(agent_id, *seq);
            }
            Record::Suspended { id } => drop(self.suspended.insert(id.clone())),
            Record::Settled { id, proof } => self.ended(id, Some(*proof)),
            Record::DeadLettered { id, reason, .. } => {
                self.untold.insert(id.clone());
                self.waited_long_enough(at, id, reason);
                self.ended(id, None);
            }
            Record::Answered { id, outcome } => {
                let before = self.durable.answer(id).flatten();
                if before.is_some_and(|before| before != outcome) {
                    self.break_law(|| format!("{id} is answered again, in another way"));
                }
            }
            _ => {}
        }
        self.durable.apply(record);
        self.owes_acknowledgement(record);
        self.life_turns(record);
        if let Record::Ended {
            agent,
            released: true,
        } = record
        {
            self.released.insert(agent.clone(), self.now);
            let waiting = self.durable.mail().waiting(agent);
            let held = self.durable.mode(agent) == DeliveryMode::ManualFlush;
            self.must(waiting == 0 && !held, || {
                format!("{agent} is released with {waiting} messages waiting (held: {held})")
            });
        }
    }

    /// Nobody is said not to have come before the time was over, whatever the wall clocks did. Both ends are when the broker
    /// decided so: a reader may come while the disk refuses what was decided, and is served from then on, so its time runs
    /// whether or not the record is durable yet. It is written down in whole milliseconds, and the rest of the one in which a
    /// message came is its own.
    fn waited_long_enough(&mut self, at: u64, id: &DeliveryId, reason: &str) {
        let (Some(ttl), Some(fate)) = (self.ttl, self.fates.get(id)) else {
            return;
        };
        let waited = Duration::from_nanos(at - fate.accepted_at);
        let counted = waited + Duration::from_millis(1);
        let early = reason.starts_with("no agent named") && counted < ttl;
        self.must(!early, || {
            format!("{id} is given up after {waited:?} and not {ttl:?}: {reason}")
        });
    }

    /// All effects of a batch were performed: no end was passed over in silence, and a new link began with the
    /// acknowledgements of all that had ended by then, whether or not the agent is here. One whom the engine may have made
    /// anew, unknown here, has numbers of its own.
    pub fn all_ends_are_told(&mut self) {
        if std::mem::take(&mut self.listens) {
            self.all_that_ended_is_said();
        }
        if let Some(id) = self.untold.first().cloned() {
            self.break_law(|| format!("{id} became a dead letter and no event told"));
        }
    }

    /// What has not ended is listed, and what has is not.
    pub fn all_pending_are_listed(&mut self) {
        let mail = self.durable.mail();
        let wrong = self.fates.iter().find(|(id, fate)| {
            let listed = mail.get(id).is_some();
            listed != (fate.ends == 0)
        });
        if let Some((id, fate)) = wrong {
            let line = format!("{id} ended {} times and is not listed so", fate.ends);
            self.break_law(|| line);
        }
    }

    fn accepted(&mut self, at: u64, delivery: &Delivery) {
        let place = self.places;
        self.places += 1;
        if let Some(before) = self.fates.get(&delivery.id) {
            let (id, same) = (delivery.id.clone(), before.body == delivery.body);
            self.break_law(|| format!("{id} was accepted twice (same words: {same})"));
            return;
        }
        let tag = tags(&delivery.body).first().copied();
        if let Some(tag) = tag {
            let key = (delivery.agent.clone(), tag);
            if let Some(other) = self.by_tag.insert(key, delivery.id.clone()) {
                let id = delivery.id.clone();
                self.break_law(|| format!("message {tag} was accepted as {other} and as {id}"));
            }
        }
        self.by_message
            .entry(delivery.msg_id.clone())
            .or_default()
            .push(delivery.id.clone());
        let fate = Fate {
            agent: delivery.agent.clone(),
            tag,
            body: delivery.body.clone(),
            origin: delivery.origin.clone(),
            steer: delivery.mode == Mode::Steer,
            place,
            accepted_at: at,
            injected: 0,
            accepted: 0,
            ends: 0,
            dead: false,
            proof: None,
            noted: false,
            thrown: false,
        };
        self.fates.insert(delivery.id.clone(), fate);
    }

    /// A dead letter gets another chance, under another name, behind what waits.
    fn raised(&mut self, at: u64, id: &DeliveryId, delivery: &Delivery) {
        let old = self.fates.get(id);
        let was_dead = old.is_some_and(|fate| fate.dead);
        if let Some(tag) = old.and_then(|fate| fate.tag) {
            self.by_tag.remove(&(delivery.agent.clone(), tag));
        }
        self.must(was_dead, || {
            format!("{id} is redelivered and was no dead letter")
        });
        self.accepted(at, delivery);
    }

    fn ended(&mut self, id: &DeliveryId, proof: Option<Proof>) {
        let Some(fate) = self.fates.get_mut(id) else {
            self.break_law(|| format!("{id} ended and was never accepted"));
            return;
        };
        fate.ends += 1;
        fate.dead = proof.is_none();
        fate.proof = proof;
        let (ends, origin) = (fate.ends, fate.origin.clone());
        self.must(ends == 1, || format!("{id} ended {ends} times"));
        if let Origin::Engine { agent_id, seq } = origin {
            self.finish(&agent_id, seq);
        }
    }

    fn finish(&mut self, agent_id: &AgentId, seq: Seq) {
        if seq != Seq(0) {
            let seqs = self.finished.entry(agent_id.clone()).or_default();
            seqs.insert(seq.0);
        }
    }

    /// A new life has read the disk.
    pub fn recovered(&mut self, found: &Ledger) {
        if *found == self.durable {
            self.in_flight.clear();
            return;
        }
        let mut with = self.durable.clone();
        for (_, record) in &self.in_flight {
            with.apply(record);
        }
        if *found == with {
            self.persisted();
            // It died between the disk and its words.
            self.untold.clear();
            return;
        }
        let durable = format!("{:?}", self.durable);
        self.break_law(|| {
            format!("the disk gave back another ledger:\n  found   {found:?}\n  durable {durable}\n  or      {with:?}")
        });
    }

    /// Nothing is in flight: the disk, with nothing kept that was not synced, and the live ledger say the same.
    pub fn replayed(&mut self, found: &Ledger, live: &Ledger) {
        self.must(found == live, || {
            format!("the synced disk says another thing than the live ledger:\n  disk {found:?}\n  live {live:?}")
        });
    }

    pub fn crashed(&mut self, how: Crash) {
        // Nobody was there to tell, or to be told.
        self.untold.clear();
        self.untold_ends.clear();
        self.last_ends.clear();
        self.identified.clear();
        self.listens = false;
        if how == Crash::Power {
            // The notes are not synced.
            self.fates.values_mut().for_each(|fate| fate.noted = false);
        }
    }

    // ---- what is said -------------------------------------------------------------------------------------------

    pub fn published(&mut self, number: u64, event: &BrokerEvent) {
        let last = self.published;
        self.must(number > last, || {
            format!("event {number} comes after event {last}")
        });
        self.published = number;
        self.listens |= matches!(event, BrokerEvent::NodeRegistered { .. });
        if let BrokerEvent::DeadLetterAdded { delivery_id, .. } = event {
            self.untold.remove(delivery_id);
        }
        if let BrokerEvent::DeliveryInjected {
            delivery_id,
            redelivered,
            ..
        } = event
        {
            self.redelivered += u64::from(*redelivered);
            let injected = self.fates.get(delivery_id).map_or(0, |fate| fate.injected);
            self.must(injected < 2 || *redelivered, || {
                format!("{delivery_id} was typed {injected} times and its event does not say so")
            });
        }
    }

    /// An acknowledgement leaves the dispatcher.
    pub fn acknowledged(&mut self, agent: &AgentName, up_to: Seq) {
        // The engine takes the name for whoever bears it now; nobody knows who that is after a crash in a first spawn.
        let bearers: Vec<AgentId> = match self.durable.bound(agent) {
            Some(agent_id) => vec![agent_id.clone()],
            None => {
                let of_name = self.names.iter().filter(|(_, name)| *name == agent);
                of_name.map(|(agent_id, _)| agent_id.clone()).collect()
            }
        };
        let open: Vec<u64> = bearers
            .iter()
            .filter_map(|agent_id| self.open_up_to(agent_id, up_to))
            .collect();
        self.must(
            open.len() < bearers.len() || up_to == Seq(0) || open.is_empty(),
            || {
                format!(
                    "{agent} is acknowledged up to {up_to}, and {open:?} has not ended on the disk"
                )
            },
        );
        if let [agent_id] = bearers.as_slice() {
            let said = self.said.entry(agent_id.clone()).or_default();
            *said = (*said).max(up_to.0);
            for ends in [&mut self.untold_ends, &mut self.unsaid_ends] {
                ends.retain(|id, owed| id != agent_id || *owed > up_to.0);
            }
        }
    }

    /// The first number that was sent, is covered by that acknowledgement, and has not ended.
    fn open_up_to(&self, agent_id: &AgentId, up_to: Seq) -> Option<u64> {
        let said = self.said.get(agent_id).copied().unwrap_or(0);
        let finished = self.finished.get(agent_id);
        let rows = self.rows.get(agent_id)?;
        let covered = rows
            .keys()
            .filter(|seq| (said + 1..=up_to.0).contains(*seq));
        covered
            .copied()
            .find(|seq| finished.is_none_or(|f| !f.contains(seq)))
    }

    /// Whether the engine has sent that frame before.
    pub fn was_sent(&self, frame: &Deliver) -> bool {
        let rows = self.rows.get(&frame.agent_id);
        rows.is_some_and(|rows| rows.contains_key(&frame.seq.0))
    }

    /// The engine has read an acknowledgement.
    pub fn heard(&mut self, agent: &AgentName, up_to: Seq) {
        for (agent_id, name) in &self.names {
            if name == agent {
                let heard = self.heard.entry(agent_id.clone()).or_default();
                *heard = (*heard).max(up_to.0);
            }
        }
    }

    /// The engine sends a frame.
    pub fn sent(&mut self, frame: &Deliver) {
        if frame.seq == Seq(0) {
            return;
        }
        self.names
            .insert(frame.agent_id.clone(), frame.agent.clone());
        let rows = self.rows.entry(frame.agent_id.clone()).or_default();
        if let Some(other) = rows.insert(frame.seq.0, frame.msg_id.clone())
            && other != frame.msg_id
        {
            let seq = frame.seq;
            self.break_law(|| format!("the engine gave number {seq} to two messages"));
        }
    }

    /// The engine is told how an action ended.
    pub fn answered(&mut self, id: &InvocationId, outcome: &Outcome) {
        let durable = self.durable.answer(id).flatten() == Some(outcome);
        self.must(durable, || {
            format!("{id} is answered {outcome:?}, which is not on the disk")
        });
    }

    /// The engine is asked to take an agent's name away.
    pub fn may_be_deleted(&mut self, agent: &AgentName) {
        self.deleted.insert(agent.clone());
    }

    /// Whether the engine still keeps that mail.
    fn is_kept(&self, agent_id: &AgentId) -> bool {
        let name = self.names.get(agent_id);
        let bears = |name: &AgentName| {
            !self.deleted.contains(name) || self.durable.bound(name) == Some(agent_id)
        };
        !self.gone.contains(agent_id) && name.is_none_or(bears)
    }

    /// Whose names may be somebody else's by now, or nobody's.
    pub fn may_be_gone(&self) -> Vec<AgentName> {
        self.deleted.iter().cloned().collect()
    }

    /// The engine says who bears the name.
    pub fn borne_by(&mut self, agent: &AgentName, bearer: Option<&AgentId>) {
        let of_name = self.names.iter().filter(|(_, name)| *name == agent);
        let gone = of_name.filter(|(agent_id, _)| Some(*agent_id) != bearer);
        let gone: Vec<AgentId> = gone.map(|(agent_id, _)| agent_id.clone()).collect();
        self.gone.extend(gone);
    }

    /// A local sender was told that its message is taken.
    pub fn promised(&mut self, msg_id: &MsgId) {
        let known = self.by_message.contains_key(msg_id);
        self.must(known, || {
            format!("{msg_id} was answered with success and is not on the disk")
        });
    }

    // ---- typing -------------------------------------------------------------------------------------------------

    /// A terminal is given a message.
    pub fn injected(&mut self, id: &DeliveryId) {
        let of_the_last = self.is_of_the_last_bearer(id);
        self.must(!of_the_last, || {
            format!("{id} is typed, which was there when the last bearer of the name was released")
        });
        let pending = self.durable.mail().get(id);
        let (attempts, held) = pending.map_or((0, false), |p| (p.attempts, p.suspended));
        self.must(!held, || {
            format!("{id} is typed and waits for a person's word")
        });
        let Some(fate) = self.fates.get_mut(id) else {
            self.break_law(|| format!("{id} is typed and was never accepted"));
            return;
        };
        fate.injected += 1;
        self.typed_twice += u64::from(fate.injected == 2);
        let (injected, noted, ends) = (fate.injected, fate.noted, fate.ends);
        self.must(attempts >= injected, || {
            format!("{id} is typed for the {injected}. time after {attempts} durable attempts")
        });
        self.must(!noted, || {
            format!("{id} is typed again although it was noted that it had landed")
        });
        self.must(ends == 0, || format!("{id} is typed after it ended"));
    }

    /// Nothing of it was typed, and it waits again or is given up.
    pub fn given_back(&mut self, id: &DeliveryId) {
        if let Some(fate) = self.fates.get_mut(id) {
            fate.injected -= 1;
        }
    }

    /// A terminal was seen to take a message, and the note of it is written.
    pub fn landed(&mut self, id: &DeliveryId) {
        if let Some(fate) = self.fates.get_mut(id) {
            fate.noted = true;
        }
    }

    /// A command line took an input.
    pub fn took(&mut self, agent: &AgentName, text: &str) {
        let tags = tags(text);
        if tags.len() > 1 {
            self.break_law(|| format!("{agent} took several messages as one: {text:?}"));
            return;
        }
        let Some(tag) = tags.first() else {
            return self.took_keys(agent, text);
        };
        let Some(id) = self.by_tag.get(&(agent.clone(), *tag)).cloned() else {
            self.break_law(|| format!("{agent} took message {tag}, which is not on the disk"));
            return;
        };
        let Some(fate) = self.fates.get_mut(&id) else {
            return;
        };
        fate.accepted += 1;
        let (accepted, injected) = (fate.accepted, fate.injected);
        let (place, steer) = (fate.place, fate.steer);
        let first_line = fate.body.lines().next().unwrap_or_default().to_owned();
        self.must(text.contains(&first_line), || {
            format!("{agent} took a part of message {tag}: {text:?}")
        });
        self.must(accepted <= injected, || {
            format!("{agent} took message {tag} {accepted} times and it was typed {injected} times")
        });
        if self.suspended.contains(&id) {
            return;
        }
        let (waited, any) = self.taken.get(agent).copied().unwrap_or_default();
        let waited_now = if steer { waited } else { place };
        self.taken
            .insert(agent.clone(), (waited_now, any.max(place)));
        let before = if steer { any } else { waited };
        self.must(place >= before, || {
            format!("{agent} took message {tag} after a later one")
        });
    }

    /// A program threw away what was typed for it.
    pub fn thrown(&mut self, agent: &AgentName, text: &str) {
        for tag in tags(text) {
            let id = self.by_tag.get(&(agent.clone(), tag));
            if let Some(fate) = id.and_then(|id| self.fates.get_mut(id)) {
                fate.thrown = true;
            }
        }
    }

    // ---- the end ------------------------------------------------------------------------------------------------

    /// Whether nothing is left to happen.
    pub fn is_quiet(&self) -> bool {
        self.durable.mail().is_empty()
            && self.in_flight.is_empty()
            && self.rows.iter().all(|(agent_id, rows)| {
                if !self.is_kept(agent_id) {
                    return true;
                }
                let last = rows.last_key_value().map_or(0, |(seq, _)| *seq);
                self.heard.get(agent_id).copied().unwrap_or(0) >= last
            })
    }
}
