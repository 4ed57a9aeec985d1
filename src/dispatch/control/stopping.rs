//! The orderly end: no new calls, no new frames, every agent is hung up on; then what only memory knows is written down, the
//! engine has our goodbye, and the process ends.

use std::time::Duration;

use super::state::{Control, ControlStep};
use crate::dispatch::notice::Notice;
use crate::msg::{Effect, ExitReason, LinkCommand};
use crate::time::Mono;
use crate::wire::up::{NodeDeregister, Up};

/// Between killing what is left of the agents and leaving.
const LAST_MOMENT: Duration = Duration::from_millis(500);

impl Control {
    /// Starts the orderly end, or hurries it.
    pub(in crate::dispatch) fn shutdown(&mut self, step: &mut ControlStep, deadline: Mono) {
        let again = self.stop.is_under_way();
        self.stop.deadline = Some(self.stop.deadline.map_or(deadline, |at| at.min(deadline)));
        let grace = match again {
            true => Duration::ZERO,
            false => step.config().grace,
        };
        if self.link.is_open() && !again {
            // No handler is live from now on, so that no spawn is placed here any more.
            self.heartbeat(step);
        }
        step.notice(Notice::Stopping { grace });
    }

    /// Time is up: whoever is left is killed, and has a moment to be seen gone.
    pub(in crate::dispatch) fn tick_stop(&mut self, step: &mut ControlStep) {
        if self.stop.deadline.is_none_or(|at| at > step.now.mono) {
            return;
        }
        if std::mem::replace(&mut self.stop.hurried, true) {
            self.leave(step, ExitReason::DeadlinePassed);
            return;
        }
        self.stop.deadline = Some(step.now.mono + LAST_MOMENT);
        let grace = Duration::ZERO;
        step.notice(Notice::Stopping { grace });
    }

    /// Leaves once nobody runs here any more, if that is wanted.
    pub(in crate::dispatch) fn leave_if_empty(&mut self, step: &mut ControlStep) {
        if self.stop.is_under_way() && step.peers.agents.is_empty() {
            self.leave(step, ExitReason::Stopped);
        }
    }

    fn leave(&mut self, step: &mut ControlStep, reason: ExitReason) {
        if !std::mem::replace(&mut self.stop.exited, true) {
            step.notice(Notice::Leaving);
            step.notice(Notice::Left(reason));
        }
    }

    /// Everything is written down.
    pub(in crate::dispatch) fn say_goodbye(&mut self, step: &mut ControlStep, reason: ExitReason) {
        if self.link.is_open() {
            step.send(Up::NodeDeregister(NodeDeregister::default()));
        }
        step.effect(Effect::Link(LinkCommand::Finish));
        step.effect(Effect::Exit(reason));
    }
}
