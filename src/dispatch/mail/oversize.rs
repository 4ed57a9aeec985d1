//! Messages whose frames are larger than one may be: their words are not taken in, but it is known for whom they are. Each
//! ends in the way that its like ends, and nothing waits behind it.

use serde_json::json;

use super::state::{Mail, MailStep};
use crate::wire::down::Deliver;

/// What becomes of a message that is too large.
pub(super) const TOO_LARGE: &str = "its frame is larger than the 4 MiB that are taken in; have it sent in parts, or as a \
     file";

impl Mail {
    /// `frame` is what can be known of it, its words not among that.
    pub(in crate::dispatch) fn too_large(
        &mut self,
        step: &mut MailStep,
        mut frame: Deliver,
        bytes: u64,
    ) {
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
        self.deliver(step, Deliver { left_out, ..frame });
    }
}
