//! How the local API asks the dispatcher: a call in, one answer out, within a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::driver::Inbound;
use super::ports::{ApiCaller, DispatchInput};
use crate::api;
use crate::msg::{Answer, ApiCall, Refusal, RefusalKind};

/// Asks through this inbox.
pub(super) fn ask(inbox: Sender<DispatchInput>) -> api::Ask {
    Box::new(move |call, limit| call_within(&inbox, call, limit))
}

fn call_within(inbox: &Sender<DispatchInput>, call: ApiCall, limit: Duration) -> Answer {
    let (answer, wait) = bounded(1);
    let waiting = Arc::new(AtomicBool::new(true));
    let caller = ApiCaller {
        answer,
        waiting: waiting.clone(),
    };
    match inbox.send_timeout(Inbound::Call(call, caller), limit) {
        Ok(()) => {}
        Err(SendTimeoutError::Timeout(_)) => return Err(late(limit)),
        Err(SendTimeoutError::Disconnected(_)) => return Err(gone()),
    }
    match wait.recv_timeout(limit) {
        Ok(answer) => answer,
        // Taken back before anybody looked at it: it will not happen.
        Err(RecvTimeoutError::Timeout) if waiting.swap(false, Ordering::AcqRel) => Err(late(limit)),
        Err(RecvTimeoutError::Timeout) => {
            let message = format!("{}; it was begun and may still happen", late(limit).message);
            Err(Refusal::new(RefusalKind::Begun, message))
        }
        Err(RecvTimeoutError::Disconnected) => Err(gone()),
    }
}

fn late(limit: Duration) -> Refusal {
    let message = format!("no answer within {} s", limit.as_secs());
    Refusal::new(RefusalKind::Timeout, message)
}

fn gone() -> Refusal {
    Refusal::new(RefusalKind::Stopping, "the broker is stopping")
}
