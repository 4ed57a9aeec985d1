//! The part of an agent's core that stops what the program does because somebody says so, without a message.

use std::time::Duration;

use super::{AgentCore, Effects, State};
use crate::agent::prompt::Focus;
use crate::ids::Ticket;
use crate::msg::AgentReport;
use crate::time::Mono;

/// Between two Escapes of a program that takes several: at once they could be read as one key.
const BETWEEN: Duration = Duration::from_millis(200);

impl AgentCore {
    /// Presses the program's own key, where that is for nothing else now.
    pub(super) fn interrupt_call(&mut self, now: Mono, ticket: Ticket, out: &mut Effects) {
        let refused = self.not_interrupted(now);
        if refused.is_none() {
            self.escapes_due = Some((now, self.profile.interrupts));
            self.press_due_escape(now, out);
        }
        let result = refused.map_or(Ok(()), |why| Err(why.to_owned()));
        Self::report(out, AgentReport::Interrupted(ticket, result));
    }

    /// The next of several, if it is time and nothing has come between.
    pub(super) fn press_due_escape(&mut self, now: Mono, out: &mut Effects) {
        let Some((_, left)) = self.escapes_due.take_if(|(at, _)| *at <= now) else {
            return;
        };
        if left == 0 || self.not_interrupted(now).is_some() {
            return;
        }
        self.write(vec![0x1b], out);
        self.escapes_due = Some((now + BETWEEN, left - 1)).filter(|(_, left)| *left > 0);
    }

    /// Why Escape would be for something else.
    fn not_interrupted(&mut self, now: Mono) -> Option<&'static str> {
        if matches!(self.state, State::Starting(_)) {
            return Some("the program is still starting");
        }
        if !matches!(self.state, State::Ready) {
            return Some("a message is on its way into the terminal; ask again once it has landed");
        }
        if self.profile.interrupts == 0 || !self.screen.modes().bracketed_paste {
            return Some("the program takes no Escape; keys are typed by attaching to it");
        }
        if matches!(self.focus(), Focus::Away) {
            return Some("something other than the program's input line has the keyboard");
        }
        (!self.may_work(now)).then_some("the program does not work on anything")
    }
}
