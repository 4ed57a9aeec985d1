//! The part of an agent's core that notices what its program asks, and answers it where the operator's policy says so.

use super::{AgentCore, Effects, State};
use crate::agent::dialog::{self, SeenDialog};
use crate::agent::gate::HANDS_OFF;
use crate::agent::prompt::Focus;
use crate::msg::AgentReport;
use crate::time::Mono;

/// How much of the screen is told with a dialog.
const SHOWN: usize = 14;

impl AgentCore {
    /// Output came. Only a program whose input line is known can be seen to be elsewhere.
    pub(super) fn watch_dialogs(&mut self, now: Mono) {
        if self.profile.composer && self.profile.prompt.is_some() {
            self.dialogs.changed(now);
        }
        // Between two questions there may be less time than between two looks.
        if self.dialogs.is_answered()
            && matches!(self.focus(), Focus::Empty | Focus::Draft | Focus::Home)
        {
            self.dialogs.prompt_seen();
        }
    }

    /// If it is time to.
    pub(super) fn look_for_dialogs(&mut self, now: Mono, out: &mut Effects) {
        if self.dialogs.due.is_none_or(|at| at > now) {
            return;
        }
        let focus = self.focus();
        let seen = dialog::seen(&self.screen, &self.profile, focus, self.prompt_known);
        let news = self.dialogs.look(now, seen, self.last_output);
        if let Some(dialog) = news.gone {
            Self::report(out, AgentReport::Unblocked(dialog));
        }
        if let Some(dialog) = news.stands {
            let rows = self.screen.last_lines(SHOWN);
            Self::report(out, AgentReport::Blocked(dialog, rows));
        }
        if let Some(seen) = news.settled {
            self.answer_dialog(now, seen, out);
        }
    }

    fn answer_dialog(&mut self, now: Mono, seen: SeenDialog, out: &mut Effects) {
        let (dialog, policy) = (seen.dialog, self.profile.policy(seen.dialog));
        let Some(keys) = seen.keys(&self.screen, policy) else {
            return;
        };
        // Keys that are on their way, of a message or a person, could meet another dialog than they were meant for.
        let busy = self.is_typing()
            || matches!(self.state, State::Verifying(_))
            || self.written < self.queued
            || self
                .keyboard
                .hands()
                .typing
                .is_some_and(|at| now < at + HANDS_OFF);
        if busy {
            self.dialogs.again(now);
            return;
        }
        let names = match &keys[..] {
            b"\r" => "enter".to_owned(),
            b"\x1b" => "escape".to_owned(),
            other => String::from_utf8_lossy(other).into_owned(),
        };
        self.write(keys, out);
        self.dialogs.answered(seen);
        Self::report(
            out,
            AgentReport::Answered {
                dialog,
                policy,
                keys: names,
            },
        );
    }
}

#[cfg(test)]
mod tests;
