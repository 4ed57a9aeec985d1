//! What a terminal showed when a message arrived there, for the history.

use crate::history::{HistoryFact, HistoryQueue, HistoryStep};
use crate::ids::{AgentName, DeliveryId};
use crate::screen::Screen;
use crate::sys::clock;

/// How many rows are noted.
const SHOWN: usize = 4;

/// Notes the last rows of the screen for messages that have just landed.
pub(super) fn seen(
    history: &HistoryQueue,
    agent: &AgentName,
    landed: Vec<DeliveryId>,
    screen: &Screen,
) {
    for id in landed.into_iter().filter(|_| history.is_kept()) {
        history.note(HistoryStep {
            at: clock::now().wall,
            agent: Some(agent.clone()),
            delivery: Some(id),
            message: None,
            fact: HistoryFact::Seen {
                rows: screen.last_lines(SHOWN),
            },
        });
    }
}
