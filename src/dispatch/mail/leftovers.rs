//! What the engine has for an agent that was released: mail that came after its program had ended, what was more than may
//! wait here, what was under way. A release ends all that waits, so it is taken over HTTP, made dead letters of, and closed
//! at the engine, before anybody bears the name again. It is written down that this is owed: the engine may be away.

use std::time::Duration;

use super::dead_letters::emit_dropped;
use super::state::{Mail, MailStep};
use crate::dispatch::notice::{End, Notice};
use crate::dispatch::rest_jobs::{RestJob, sentence};
use crate::domain::Mode;
use crate::ids::{AgentId, AgentName, DeliveryId};
use crate::ledger::{Delivery, Origin, Record, Verdict};
use crate::msg::{RestCall, RestDone, Secret, Wanted};
use crate::wire::rest::{LEFTOVERS_PAGE, LeftoverRow};

/// How many names are cleared at a time.
const AT_ONCE: usize = 4;
/// When it is tried again, with a link to the engine and without one.
const AGAIN: Duration = Duration::from_secs(3);
const AGAIN_UNLINKED: Duration = Duration::from_secs(15);

impl Mail {
    /// The agent was released: what the engine has for it is to be cleared.
    pub(in crate::dispatch) fn leave_with_engine(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        agent_id: &AgentId,
    ) {
        step.record(Record::Uncleared {
            agent: name.clone(),
            agent_id: agent_id.clone(),
        });
        // What is being listed is older than this release.
        if is_under_way(step, name) {
            self.list_again.insert(name.clone());
        }
        self.clear_leftovers(step);
    }

    /// Asks for what is to be cleared and nobody has asked for yet.
    pub(super) fn clear_leftovers(&mut self, step: &mut MailStep) {
        self.leftovers_at = None;
        if step.peers.control.is_stopping() {
            return;
        }
        let owed = step.ledger().all_uncleared();
        let (busy, idle): (Vec<_>, Vec<_>) =
            owed.cloned().partition(|name| is_under_way(step, name));
        let room = AT_ONCE.saturating_sub(busy.len());
        let waits = !busy.is_empty() || !idle.is_empty();
        for name in idle.into_iter().take(room) {
            ask(step, &name, None);
        }
        if waits {
            self.leftovers_again(step);
        }
    }

    fn leftovers_again(&mut self, step: &mut MailStep) {
        let again = match step.peers.control.is_open() {
            true => AGAIN,
            false => AGAIN_UNLINKED,
        };
        self.leftovers_at.get_or_insert(step.now.mono + again);
    }

    pub(super) fn tick_leftovers(&mut self, step: &mut MailStep) {
        if self.leftovers_at.is_some_and(|at| at <= step.now.mono) {
            let owed: Vec<AgentName> = step.ledger().all_uncleared().cloned().collect();
            for name in owed {
                step.notice(Notice::NameCleared(name, false));
            }
            self.clear_leftovers(step);
        }
    }

    /// The engine says what it has, or will not.
    pub(in crate::dispatch) fn leftovers_listed(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        done: RestDone,
    ) {
        match done {
            RestDone::Leftovers(token, rows) if !rows.is_empty() => {
                let more = (rows.len() >= LEFTOVERS_PAGE).then(|| token.clone());
                let ids = rows.iter().map(|row| row.id.clone()).collect();
                take_over(self, step, name, rows);
                let name = name.clone();
                step.rest_job(
                    RestCall::Close { token, ids },
                    RestJob::Closing { name, more },
                );
            }
            RestDone::Leftovers(..) | RestDone::NobodysMail => self.cleared(step, name),
            done => self.not_cleared(step, name, &done),
        }
    }

    /// The engine has let go of them, or will not.
    pub(in crate::dispatch) fn leftovers_closed(
        &mut self,
        step: &mut MailStep,
        name: &AgentName,
        more: Option<Secret>,
        done: &RestDone,
    ) {
        match (done, more) {
            (RestDone::Closed, Some(token)) if !step.peers.control.is_stopping() => {
                ask(step, name, Some(token));
            }
            (RestDone::Closed, None) => self.cleared(step, name),
            (RestDone::Closed, Some(_)) => {}
            (done, _) => self.not_cleared(step, name, done),
        }
    }

    fn cleared(&mut self, step: &mut MailStep, name: &AgentName) {
        if self.list_again.remove(name) && !step.peers.control.is_stopping() {
            return ask(step, name, None);
        }
        if let Some(agent_id) = step.ledger().uncleared(name) {
            self.forget_early(agent_id);
        }
        step.record(Record::Cleared {
            agent: name.clone(),
        });
        step.notice(Notice::NameCleared(name.clone(), true));
        self.clear_leftovers(step);
    }

    /// What the engine refuses it will refuse again. Anything else is tried again.
    fn not_cleared(&mut self, step: &mut MailStep, name: &AgentName, done: &RestDone) {
        let status = match done {
            RestDone::Failed { status, .. } => *status,
            _ => None,
        };
        if status.is_some_and(|status| status < 500 && status != 429) {
            log::error!(
            event = "leftovers_stay", agent:% = name;
                "what the engine has for {name}, which was released, stays there: {}",
                sentence(done)
            );
            return self.cleared(step, name);
        }
        step.notice(Notice::NameCleared(name.clone(), false));
        self.leftovers_again(step);
    }
}

fn is_under_way(step: &MailStep, name: &AgentName) -> bool {
    step.awaits(|job| match job {
        RestJob::Leftovers(n) | RestJob::Closing { name: n, .. } => n == name,
        _ => false,
    })
}

fn ask(step: &mut MailStep, name: &AgentName, token: Option<Secret>) {
    let Some(agent_id) = step.ledger().uncleared(name).cloned() else {
        return;
    };
    let wanted = Wanted {
        token,
        ..step.peers.control.wanted(name)
    };
    let wanted = Box::new(wanted);
    step.rest_job(
        RestCall::Leftovers { wanted, agent_id },
        RestJob::Leftovers(name.clone()),
    );
}

/// Makes dead letters of what is not known here yet. What is was given up, or read, before.
fn take_over(mail: &mut Mail, step: &mut MailStep, name: &AgentName, rows: Vec<LeftoverRow>) {
    let Some(agent_id) = step.ledger().uncleared(name).cloned() else {
        return;
    };
    let mut taken: Vec<DeliveryId> = Vec::new();
    for row in rows {
        let verdict = step.ledger().judge(&agent_id, row.seq, &row.message_id);
        let here = step.ledger().mail().get(&row.id).is_some()
            || step.ledger().dead().get(&row.id).is_some();
        if here || !matches!(verdict, Verdict::Fresh | Verdict::Gap) {
            continue;
        }
        taken.push(row.id.clone());
        let delivery = delivery(step, name, &agent_id, row);
        mail.take_on(step, delivery);
    }
    if taken.is_empty() {
        return;
    }
    emit_dropped(step, name, &taken, End::Released);
    for id in taken {
        mail.give_up(step, &id, End::Released.why());
    }
}

fn delivery(step: &MailStep, name: &AgentName, agent_id: &AgentId, row: LeftoverRow) -> Delivery {
    let target = match &row.channel_id {
        Some(channel) if !row.is_direct() => format!("#{channel}"),
        _ => name.to_string(),
    };
    let mode = match row.interrupts() {
        true => Mode::Steer,
        false => Mode::Wait,
    };
    let words = row.message.unwrap_or_default();
    Delivery {
        id: row.id,
        msg_id: row.message_id,
        agent: name.clone(),
        origin: Origin::Engine {
            agent_id: agent_id.clone(),
            seq: row.seq,
        },
        from: words.agent_name.unwrap_or_else(|| "unknown".to_owned()),
        target,
        body: words.text.unwrap_or_default(),
        thread_id: words.thread_id,
        mode,
        raw: false,
        by_operator: false,
        queued_at: step.now.wall,
    }
}
