//! What was said in threads lately, as far as it came through this broker: for clients that show conversations. Of this life
//! of the broker only; the engine has the history.

use crate::ledger::{Delivery, Mailboxes};
use crate::msg::Reply;
use crate::time::Wall;
use crate::wire::local::{ThreadList, ThreadView};

/// How many threads are remembered; the ones that were silent longest are forgotten first.
const KEPT: usize = 200;
/// How much of a message is shown, in characters.
const SHOWN: usize = 200;

/// Threads, the one with the newest message last.
#[derive(Default)]
pub(in crate::dispatch) struct Threads(Vec<Thread>);

struct Thread {
    id: String,
    name: String,
    last: String,
    at: Wall,
}

impl Threads {
    /// A message came in. One for several agents comes once for each of them.
    pub(super) fn note(&mut self, now: Wall, delivery: &Delivery) {
        let Some(id) = &delivery.thread_id else {
            return;
        };
        self.0.retain(|thread| thread.id != *id);
        self.0.push(Thread {
            id: id.clone(),
            name: match delivery.target.starts_with('#') {
                true => delivery.target.clone(),
                false => delivery.from.clone(),
            },
            last: delivery.body.chars().take(SHOWN).collect(),
            at: now,
        });
        if self.0.len() > KEPT {
            self.0.remove(0);
        }
    }

    /// The newest first. Unread is what waits for agents of this broker.
    pub(in crate::dispatch) fn list(&self, mail: &Mailboxes) -> Reply {
        let waiting = |id: &str| {
            let all = mail.all();
            all.filter(|p| p.delivery.thread_id.as_deref() == Some(id))
                .count() as u64
        };
        let shown = |thread: &Thread| ThreadView {
            thread_id: thread.id.clone(),
            name: thread.name.clone(),
            last_message: thread.last.clone(),
            last_message_at: thread.at.iso(),
            unread_count: waiting(&thread.id),
        };
        Reply::Threads(ThreadList {
            threads: self.0.iter().rev().map(shown).collect(),
        })
    }
}
