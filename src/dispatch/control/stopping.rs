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
    /// Takes nothing new from now on, so that what is in terminals can arrive before agents are ended.
    pub(in crate::dispatch) fn drain(
        &mut self,
        step: &mut ControlStep,
        until: Mono,
        rest: Duration,
    ) {
        if self.stop.is_under_way() {
            return;
        }
        self.stop.drain = Some((until, rest));
        if self.link.is_open() {
            self.heartbeat(step);
        }
    }

    /// Whether what is in terminals is waited for.
    pub(in crate::dispatch) fn is_draining(&self) -> bool {
        self.stop.drain.is_some()
    }

    /// Starts the end that was waited with, unless something is being typed and there is time yet.
    pub(in crate::dispatch) fn end_once_drained(&mut self, step: &mut ControlStep, typing: bool) {
        let over = |(until, _): &mut (Mono, Duration)| !typing || *until <= step.now.mono;
        if let Some((_, rest)) = self.stop.drain.take_if(over) {
            self.shutdown(step, step.now.mono + rest);
        }
    }

    /// Starts the orderly end, or hurries it.
    pub(in crate::dispatch) fn shutdown(&mut self, step: &mut ControlStep, deadline: Mono) {
        let again = self.stop.is_under_way();
        self.stop.drain = None;
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
        if self.stop.is_ending() && step.peers.agents.is_empty() {
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
