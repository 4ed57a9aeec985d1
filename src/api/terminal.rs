//! Keys and sizes for an agent's terminal, given straight to the agent's thread.

use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, TrySendError, bounded};

use super::render::ApiError;
use super::routes;
use super::state::Api;
use crate::ids::AgentName;
use crate::msg::Size;
use crate::registry::{AgentHandle, AgentInput};

/// The running agent that a path names: its name, and how its thread is reached.
pub(crate) fn lookup(api: &Api, name: Option<&str>) -> Result<(AgentName, AgentHandle), ApiError> {
    let name = routes::agent(name)?;
    match api.context.registry.get(&name) {
        Some(handle) if !handle.has_terminal => {
            let text = format!("agent '{name}' has no terminal (headless)");
            Err(ApiError::new(409, "unsupported_runtime", text))
        }
        Some(handle) => Ok((name, handle)),
        None => Err(ApiError::no_agent(name.as_str())),
    }
}

/// Types bytes and waits until they are in the terminal; says how many.
///
/// # Errors
/// `worker_timeout` and `pty_write_queue_full` are failures of this one write; after any other there is no terminal.
pub(crate) fn type_bytes(
    handle: &AgentHandle,
    bytes: Vec<u8>,
    limit: Duration,
) -> Result<usize, ApiError> {
    let (done, written) = bounded(1);
    let input = AgentInput::Type {
        bytes,
        done: Some(done),
    };
    give(handle, input)?;
    match written.recv_timeout(limit) {
        Ok(Ok(count)) => Ok(count),
        Ok(Err(why)) => Err(ApiError::new(
            500,
            "internal_error",
            format!("the terminal did not take the input: {why}"),
        )),
        Err(RecvTimeoutError::Timeout) => Err(ApiError::new(
            504,
            "worker_timeout",
            format!(
                "the agent has not read its input within {limit:?}; it may still, so look before you repeat it"
            ),
        )),
        Err(RecvTimeoutError::Disconnected) => Err(gone()),
    }
}

/// Sets the terminal's own size.
pub(crate) fn resize(handle: &AgentHandle, size: Size) -> Result<(), ApiError> {
    handle.seats.set(size, &handle.input).map_err(refused)
}

fn give(handle: &AgentHandle, input: AgentInput) -> Result<(), ApiError> {
    handle.input.try_send(input).map_err(refused)
}

/// Why an agent's thread was not given something.
pub(crate) fn refused(e: TrySendError<AgentInput>) -> ApiError {
    match e {
        TrySendError::Full(_) => ApiError::new(
            503,
            "pty_write_queue_full",
            "the agent has stopped reading and too much input waits for it",
        )
        .retryable(),
        TrySendError::Disconnected(_) => gone(),
    }
}

fn gone() -> ApiError {
    ApiError::new(404, "agent_not_found", "the agent has just ended")
}
