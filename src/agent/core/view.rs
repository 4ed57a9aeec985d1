//! The agent as it is told of to whoever asks why it does, or does not, take messages.

use super::{AgentCore, State};
use crate::ids::DeliveryId;
use crate::wire::local::{TerminalView, TypingStep};

impl AgentCore {
    /// What is known of the terminal beside its picture.
    pub(super) fn terminal_view(&self) -> TerminalView {
        let (step, delivery_id) = self.typing_step();
        let settings = self.facts.or(self.home);
        TerminalView {
            step,
            delivery_id: delivery_id.cloned(),
            title: self.screen.title().to_owned(),
            works: self.works(),
            hooked: self.hooked,
            line_mode: settings.map(|settings| settings.line_mode),
            echo: settings.map(|settings| settings.echo),
            unread: self.facts.and_then(|settings| settings.unread),
        }
    }

    fn typing_step(&self) -> (TypingStep, Option<&DeliveryId>) {
        match &self.state {
            State::Starting(_) => (TypingStep::Starting, None),
            State::Ready => (TypingStep::Free, None),
            State::Injecting(draft) => (TypingStep::Typing, Some(&draft.id)),
            State::Stalled(draft) => (TypingStep::HeldUp, Some(&draft.id)),
            State::Verifying(check) if check.is_stalled() => {
                (TypingStep::HeldUp, Some(&check.draft.id))
            }
            State::Verifying(check) => (TypingStep::Entered, Some(&check.draft.id)),
            State::Gone => (TypingStep::Over, None),
        }
    }
}
