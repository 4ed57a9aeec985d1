//! What every request of the API can use: the context, what the dispatcher said last, and the way to ask it.

use std::time::Duration;

use parking_lot::Mutex;

use super::context::ApiContext;
use super::render::ApiError;
use crate::msg::{ApiCall, Refusal, RefusalKind, Reply};
use crate::wire::local::Status;

/// How long calls may take that wait for a process or the engine; existing clients give up after 30 seconds.
pub(crate) const LONG: Duration = Duration::from_secs(25);
/// How long all others may.
pub(crate) const SHORT: Duration = Duration::from_secs(5);
/// How long typed input may wait to be read.
const INPUT_LIMIT: Duration = Duration::from_secs(5);

/// How long a tool waits to say what became of a message: most are typed by then, and a model does not notice.
const RECEIPT_LIMIT: Duration = Duration::from_millis(800);

/// The context, and what the API itself keeps.
pub(crate) struct Api {
    pub(crate) context: ApiContext,
    /// What the dispatcher said last, for the time when it cannot say anything.
    pub(crate) last_status: Mutex<Option<Status>>,
    /// How long typed input may wait to be read.
    pub(crate) input_limit: Duration,
    /// How long a tool waits to say what became of a message.
    pub(crate) receipt_limit: Duration,
}

impl Api {
    pub(crate) fn new(context: ApiContext) -> Self {
        Self {
            context,
            last_status: Mutex::new(None),
            input_limit: INPUT_LIMIT,
            receipt_limit: RECEIPT_LIMIT,
        }
    }

    /// Why the journal cannot be written, while that is so.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.context.published.get().degraded.clone()
    }

    /// Asks the dispatcher, unless it is known that it cannot answer: without a journal it answers what rests on no record.
    pub(crate) fn ask(&self, call: ApiCall, limit: Duration) -> Result<Reply, ApiError> {
        if let Some(trouble) = self.trouble().filter(|_| call.needs_record()) {
            return Err(unwritable(&trouble));
        }
        (self.context.ask)(call, limit)
            .map_err(|refusal| explain(refusal, self.trouble().as_deref()))
    }
}

/// Nothing was begun.
fn unwritable(trouble: &str) -> ApiError {
    let text = format!("nothing can be written down at the moment: {trouble}");
    ApiError::new(503, "degraded", text).retryable()
}

/// No answer while the journal cannot be written means that one thing, and the caller must know whether to ask again.
pub(crate) fn explain(refusal: Refusal, trouble: Option<&str>) -> ApiError {
    match (refusal.kind, trouble) {
        (RefusalKind::Timeout, Some(trouble)) => unwritable(trouble),
        (RefusalKind::Begun, Some(trouble)) => {
            let mut begun = unwritable(trouble);
            begun.message.push_str(
                "; this request came just before that and will be carried out once it can be written: \
                 do not send it again",
            );
            begun.retryable = false;
            begun
        }
        _ => refusal.into(),
    }
}
