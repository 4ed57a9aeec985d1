//! The part of an agent's core that sees what has the keyboard.

use super::AgentCore;
use crate::agent::dialog;
use crate::agent::prompt::{self, Focus};
use crate::agent::ready::Sight;
use crate::agent::tty_state::{Front, TtyState};

impl AgentCore {
    /// What has the keyboard now.
    pub(super) fn focus(&mut self) -> Focus {
        let mut focus = prompt::focus(&self.screen, self.profile.prompt);
        let input_line = matches!(focus, Focus::Empty | Focus::Draft | Focus::Home);
        if input_line && dialog::stands(&self.screen, &self.profile) {
            focus = Focus::Away;
        }
        self.prompt_known |= matches!(focus, Focus::Empty | Focus::Draft | Focus::Home);
        focus
    }

    /// Whether another process group has the terminal than those that are the agent itself.
    pub(super) fn is_foreign(&self, facts: TtyState) -> bool {
        let home = self.home.map(|home| home.front);
        matches!(facts.front, Front::Other(_)) && home != Some(facts.front)
    }

    pub(super) fn sight(&mut self) -> Sight {
        match self.focus() {
            Focus::Away if prompt::is_menu(&self.screen) => Sight::Other,
            Focus::Away if self.screen.last_lines(1).is_empty() => Sight::Other,
            Focus::Away => Sight::Strange,
            _ => Sight::Prompt,
        }
    }
}
