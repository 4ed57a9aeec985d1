//! One call that tells how an engine is reached, for whoever looks for what is wrong.

use super::{CallError, RestClient, reason};

/// What is seen of an engine by asking it anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineProbe {
    /// Of its answer.
    pub status: u16,
    /// Its time, as HTTP spells it, if it tells that.
    pub date: Option<String>,
    /// What it says it is.
    pub server: Option<String>,
}

impl RestClient {
    /// Asks for the workspace, whatever the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn probe(&self) -> Result<EngineProbe, CallError> {
        let call = self.http.get(format!("{}/v1/workspace", self.base));
        let call = call.header("authorization", format!("Bearer {}", self.key.reveal()));
        let response = call.call().map_err(|e| {
            let why = reason(&e);
            CallError::Unreachable(format!(
                "the engine at {} cannot be reached: {why}",
                self.base
            ))
        })?;
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Ok(EngineProbe {
            status: response.status().as_u16(),
            date: header("date"),
            server: header("server"),
        })
    }
}
