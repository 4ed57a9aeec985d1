//! A program that hangs with a message: said after as long as a terminal is given, and stopped where somebody wants that.

use std::time::Duration;

use super::{HeadlessCore, HeadlessEffects};
use crate::ids::DeliveryId;
use crate::msg::AgentReport;
use crate::time::Mono;

/// How long a program that works on nothing may take to show that it has a message.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);
/// How long one that works may be silent while a message waits: models think, and tools run.
const SILENT_AT_WORK: Duration = Duration::from_secs(30);

impl HeadlessCore {
    /// The message that has its turn: in the program's hand, or the next for it.
    fn next_in_turn(&self) -> Option<&DeliveryId> {
        let in_hand = self.in_hand.as_ref().map(|in_hand| &in_hand.id);
        in_hand.or_else(|| Some(&self.waiting.front()?.delivery_id))
    }

    /// When the message that has its turn counts as held up, unless that was told.
    pub(super) fn hangs_at(&self) -> Option<Mono> {
        let told = self.held_up.as_ref();
        let waits = self.next_in_turn().is_some_and(|id| told != Some(id));
        if !waits || self.stopping {
            return None;
        }
        let given = self.in_hand.as_ref().map(|in_hand| in_hand.given_at);
        match (given, self.works) {
            (Some(given), false) => Some(given + TAKEN_WITHIN),
            (Some(given), true) => Some(given.max(self.heard_at) + SILENT_AT_WORK),
            (None, true) => Some(self.heard_at + SILENT_AT_WORK),
            (None, false) => None,
        }
    }

    /// Says that a message is held up, if it is time, and by what.
    pub(super) fn look_for_hang(&mut self, now: Mono, out: &mut HeadlessEffects) {
        let due = self.hangs_at().is_some_and(|at| at <= now);
        let Some(id) = self.next_in_turn().filter(|_| due).cloned() else {
            return;
        };
        let why = self.hang_evidence(now);
        self.held_up = Some(id.clone());
        Self::report(out, AgentReport::Stalled(id, why));
        self.stop_what_hangs(out);
    }

    fn hang_evidence(&self, now: Mono) -> String {
        let silent = now.since(self.heard_at).as_secs();
        let what = match &self.in_hand {
            Some(in_hand) if in_hand.mark.is_some() => {
                "its pipe is full, because the program does not read it".to_owned()
            }
            _ if self.works => {
                format!(
                    "it works, has written nothing for {silent} s, and has not taken the message"
                )
            }
            _ => format!(
                "the program has not said within {} s that it has the message",
                TAKEN_WITHIN.as_secs()
            ),
        };
        let last = self.last.back();
        let last = last.map(|line| format!("; its last line is {line:?}"));
        format!(
            "{what}{}. It is acknowledged once the program takes it; a restart gives it to a new one",
            last.unwrap_or_default()
        )
    }

    /// A message that cannot be asked for back comes back by the end of its run.
    pub(super) fn stop_what_hangs(&mut self, out: &mut HeadlessEffects) {
        let hangs = self.in_hand.as_ref().is_some_and(|in_hand| {
            in_hand.wanted_back && self.held_up.as_ref() == Some(&in_hand.id)
        });
        if hangs {
            self.interrupt(out);
        }
    }

    /// Somebody wants it to stop what it does: told each time, because the first may have come to nothing.
    pub(super) fn interrupt_asked(&mut self, out: &mut HeadlessEffects) -> Result<(), String> {
        if !self.works && self.in_hand.is_none() {
            return Err("the program does not work on anything".to_owned());
        }
        let held_up = self.held_up.as_ref();
        let in_hand = self.in_hand.as_ref();
        if in_hand.is_some_and(|h| h.mark.is_some() && held_up == Some(&h.id)) {
            return Err(
                "the program does not read its pipe, so it cannot be told; a restart ends it"
                    .to_owned(),
            );
        }
        self.interrupted = false;
        self.interrupt(out);
        Ok(())
    }
}
