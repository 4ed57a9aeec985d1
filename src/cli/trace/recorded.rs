//! What the journal knows of messages, as steps: it has the ends of those that the history lost when a broker was killed.

use std::collections::HashMap;
use std::path::Path;

use crate::history::{HistoryFact, HistoryStep, MessageWay};
use crate::ids::{AgentName, DeliveryId, MsgId};
use crate::journal::Look;
use crate::ledger::{Delivery, Ledger, Origin, Record};
use crate::time::Wall;

/// How far apart the journal and the history may tell of one attempt, in milliseconds.
const CLOSE: u64 = 10_000;
/// How many characters of a text are shown.
const TEXT: usize = 80;

/// What a journal tells.
#[derive(Default)]
pub(super) struct JournalMemory {
    pub(super) steps: Vec<HistoryStep>,
    /// What is pending or dead by the last record.
    pub(super) ledger: Ledger,
}

impl JournalMemory {
    /// Whether the delivery has not ended.
    pub(super) fn waits(&self, id: &DeliveryId) -> bool {
        self.ledger.mail().get(id).is_some()
    }
}

/// Reads the journal of a state folder; `None` where there is none that can be read.
pub(super) fn read(state_dir: &Path) -> Option<JournalMemory> {
    let look = Look::take(&state_dir.join("journal"), "broker").ok()??;
    let (mut all, mut ids) = (JournalMemory::default(), HashMap::new());
    for entry in look.entries() {
        let record: Record = serde_json::from_slice(&entry.line).ok()?;
        let fact = fact_of(&record, &mut ids);
        all.ledger.apply(&record);
        if let Record::Snapshot(_) = record {
            all.steps.extend(of_image(&all.ledger, &mut ids));
        }
        if let Some((id, at, fact)) = fact
            && let Some((agent, message)) = ids.get(&id).cloned()
        {
            all.steps.push(HistoryStep {
                at: at.or(entry.at).unwrap_or_default(),
                agent: Some(agent),
                delivery: Some(id),
                message: Some(message),
                fact,
            });
        }
    }
    Some(all)
}

/// What a journal that was begun anew still has: what waits, and what was given up.
fn of_image(ledger: &Ledger, ids: &mut Known) -> Vec<HistoryStep> {
    let pending = ledger.mail().all().map(|pending| &pending.delivery);
    let mut steps: Vec<HistoryStep> = pending.map(|delivery| accepted(delivery, ids)).collect();
    for dead in ledger.dead().iter() {
        let accepted = accepted(&dead.pending.delivery, ids);
        steps.push(accepted.clone());
        steps.push(HistoryStep {
            at: dead.at,
            fact: HistoryFact::GivenUp {
                reason: dead.reason.clone(),
            },
            ..accepted
        });
    }
    steps
}

type Known = HashMap<DeliveryId, (AgentName, MsgId)>;

fn fact_of(record: &Record, ids: &mut Known) -> Option<(DeliveryId, Option<Wall>, HistoryFact)> {
    Some(match record {
        Record::Accepted { delivery } => {
            let step = accepted(delivery, ids);
            (delivery.id.clone(), Some(step.at), step.fact)
        }
        Record::Attempted { id } => (id.clone(), None, HistoryFact::Given { bytes: 0 }),
        Record::Settled { id, proof } => {
            let (proof, reason) = (*proof, None);
            (id.clone(), None, HistoryFact::Settled { proof, reason })
        }
        Record::DeadLettered { id, reason, at } => {
            let reason = reason.clone();
            (id.clone(), Some(*at), HistoryFact::GivenUp { reason })
        }
        Record::Redelivered { id, delivery } => {
            let anew = delivery.id.clone();
            ids.insert(
                anew.clone(),
                (delivery.agent.clone(), delivery.msg_id.clone()),
            );
            (id.clone(), None, HistoryFact::Redelivered { anew })
        }
        _ => return None,
    })
}

fn accepted(delivery: &Delivery, ids: &mut Known) -> HistoryStep {
    let ours = (delivery.agent.clone(), delivery.msg_id.clone());
    ids.insert(delivery.id.clone(), ours);
    let (way, seq) = match &delivery.origin {
        Origin::Engine { seq, .. } => (MessageWay::Engine, Some(seq.0).filter(|seq| *seq > 0)),
        Origin::Acknowledged => (MessageWay::Engine, None),
        Origin::Local | Origin::Task => (MessageWay::Local, None),
    };
    HistoryStep {
        at: delivery.queued_at,
        agent: Some(delivery.agent.clone()),
        delivery: Some(delivery.id.clone()),
        message: Some(delivery.msg_id.clone()),
        fact: HistoryFact::Accepted {
            from: delivery.from.clone(),
            target: delivery.target.clone(),
            way,
            seq,
            bytes: delivery.body.len() as u64,
            text: delivery.body.chars().take(TEXT).collect(),
            disk_ms: 0,
        },
    }
}

/// The history's steps, and those of the journal that are not among them.
pub(super) fn joined(mut steps: Vec<HistoryStep>, recorded: &JournalMemory) -> Vec<HistoryStep> {
    let mut told: HashMap<&DeliveryId, Vec<&HistoryStep>> = HashMap::new();
    for step in &steps {
        if let Some(id) = &step.delivery {
            told.entry(id).or_default().push(step);
        }
    }
    let missing = |step: &&HistoryStep| {
        let id = step.delivery.as_ref();
        let same = id.and_then(|id| told.get(id)).into_iter().flatten();
        !same.into_iter().any(|known| is_same(known, step))
    };
    let more: Vec<HistoryStep> = recorded.steps.iter().filter(missing).cloned().collect();
    steps.extend(more);
    steps.sort_by_key(|step| step.at);
    steps
}

fn is_same(known: &HistoryStep, step: &HistoryStep) -> bool {
    let kind = std::mem::discriminant(&known.fact) == std::mem::discriminant(&step.fact);
    let close = known.at.0.abs_diff(step.at.0) < CLOSE;
    kind && (close || !matches!(step.fact, HistoryFact::Given { .. }))
}
