//! Frames that are larger than one may be: their words are not taken in, but it is known for whom they are. Each ends in the
//! way that its like ends, and nothing waits behind it.

use serde_json::json;

use super::{Dispatcher, Out};
use crate::time::Now;
use crate::wire::down::{Deliver, Down};
use crate::wire::up::Outcome;

/// What becomes of a message that is too large.
pub(super) const TOO_LARGE: &str = "its frame is larger than the 4 MiB that are taken in; have it sent in parts, or as a \
     file";

impl Dispatcher {
    /// `frame` is what can be known of it, its words not among that.
    pub(super) fn too_large(&mut self, now: Now, frame: Down, bytes: u64, out: &mut Out) {
        self.counters.engine_frames_refused += 1;
        match frame {
            Down::Deliver(mut frame) => {
                if !frame.payload.is_object() {
                    frame.payload = json!({});
                }
                if !frame.payload["data"].is_object() {
                    frame.payload["data"] = json!({});
                }
                frame.payload["data"]["text"] = json!(format!(
                    "(a message of {bytes} bytes, whose words were not taken in)"
                ));
                frame.bytes = frame.payload.to_string().len();
                let left_out = true;
                self.deliver(now, Deliver { left_out, ..frame }, out);
            }
            Down::ActionInvoke(invoke) => {
                let id = invoke.invocation_id;
                let why = format!("input_too_large: {bytes} bytes; 4 MiB are taken in");
                match self.ledger.answer(&id).flatten().cloned() {
                    Some(outcome) => self.send_answer(id, outcome, out),
                    None => self.answer(id, Outcome::Error(why), out),
                }
            }
            // Nobody waits for one of these for long, and none of them is sent again.
            Down::ContextUpdate(_) | Down::Ping | Down::Reply(_) | Down::Error(_) => {}
        }
    }
}
