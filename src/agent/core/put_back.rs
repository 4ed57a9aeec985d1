//! The part of an agent's mind that keeps messages from being glued to what an interrupted program puts back into its input
//! line. That may be drawn late, so it is looked for twice: before a message is typed, and before Enter.

use std::time::Duration;

use super::{Advance, AgentCore, Effects, State, TtyState};
use crate::agent::draft::{Draft, DraftStage};
use crate::agent::drawn::ABOVE;
use crate::agent::restored;
use crate::agent::verify::MessageTail;
use crate::time::Mono;

/// How many messages are remembered by their words.
const LANDED: usize = 8;
/// Between keys that take a text away which the program has put back, and the next look; and how often they are tried.
const PUT_AWAY: Duration = Duration::from_millis(100);
const TAKEN_AWAY: u8 = 4;
/// What takes a line away wherever lines are edited; and the same for the line above.
const KILL_LINE: &[u8] = b"\x15";
const JOIN_AND_KILL: &[u8] = b"\x7f\x15";

impl AgentCore {
    /// Words of ours that the program has put back are taken away, if that loses nothing.
    pub(super) fn clear_way(
        &mut self,
        now: Mono,
        mut draft: Box<Draft>,
        stalled: bool,
        out: &mut Effects,
    ) -> Advance {
        let rest = (draft.cleared > 0).then(|| self.rest_of(&draft)).flatten();
        let rows = rest.or_else(|| self.put_back(&draft));
        match rows {
            Some(rows) if self.may_take_away(&draft) => self.take_away(now, rows, draft, out),
            rows => {
                draft.behind = rows.is_some() && !self.profile.composer;
                self.measure(draft, stalled, out)
            }
        }
    }

    /// Once the program has read what was pressed, it gets time to draw something else.
    pub(super) fn paused(
        &mut self,
        now: Mono,
        facts: TtyState,
        until: Mono,
        mut draft: Box<Draft>,
        stalled: bool,
        out: &mut Effects,
    ) -> Advance {
        let until = match facts.unread {
            Some(true) => until.max(now + PUT_AWAY),
            _ => until,
        };
        draft.wake = Some(until);
        if now < until {
            draft.stage = DraftStage::Paused { until };
            return super::typing::stay(draft, stalled);
        }
        self.clear_way(now, draft, stalled, out)
    }

    /// Empties the input line, of so many rows. What was typed is typed again once it is empty.
    pub(super) fn take_away(
        &mut self,
        now: Mono,
        rows: usize,
        mut draft: Box<Draft>,
        out: &mut Effects,
    ) -> Advance {
        let keys = match self.profile.clears {
            Some(keys) => keys.repeat(rows.max(1)),
            None => [KILL_LINE, &JOIN_AND_KILL.repeat(rows.saturating_sub(1))].concat(),
        };
        self.write(keys, out);
        draft.cleared += 1;
        draft.stage = DraftStage::Paused {
            until: now + PUT_AWAY,
        };
        Advance::Go(State::Injecting(draft))
    }

    /// How many rows stand in the input line, if the message, which Enter is about to be pressed on, stands there behind an
    /// earlier one that may be taken away. Where that would lose it, they go together, which is said.
    pub(super) fn in_front(&mut self, draft: &mut Draft) -> Option<usize> {
        let (screen, prompt) = (&self.screen, self.profile.prompt);
        let earlier = self.landed.make_contiguous();
        let rows = restored::rows_in_front(screen, prompt, earlier, &draft.text, &draft.key)?;
        if self.may_take_away(draft) {
            return Some(rows);
        }
        draft.behind = true;
        None
    }

    /// Whether it loses nothing to take the last message away: the program has been told of it.
    fn may_take_away(&self, draft: &Draft) -> bool {
        // What was submitted while it worked may never have been told to anybody.
        let told = draft.showed_work && self.took_at_rest;
        let begun = self.profile.composer && !self.waits_to_begin();
        draft.cleared < TAKEN_AWAY && (begun || told)
    }

    /// How many rows the last message takes, where a program has put that back into its input line because it was
    /// interrupted: the next would be glued to it.
    fn put_back(&self, draft: &Draft) -> Option<usize> {
        let text = self.landed.back().filter(|_| draft.steer)?;
        let key = MessageTail::of(text)?;
        let here = self.screen.nearby(ABOVE, ABOVE);
        let stands = key.ends_rows(&here.rows[..here.cursor_row], &here.left);
        stands.then(|| restored::rows_of(text, self.screen.size()))
    }

    /// How many rows still stand there of what is being taken away.
    fn rest_of(&self, draft: &Draft) -> Option<usize> {
        let earlier = self.landed.iter().map(String::as_str);
        let ours: Vec<&str> = earlier.chain([draft.text.as_str()]).collect();
        restored::rows_left(&self.screen, self.profile.prompt, &ours, &draft.key)
    }

    pub(super) fn remember(&mut self, text: String) {
        if self.landed.len() >= LANDED {
            self.landed.pop_front();
        }
        self.landed.push_back(text);
    }
}
