//! What stands where the embedded engine would, in a build without it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use super::failure::Failure;
use crate::config::StartPlan;

/// An engine that cannot be.
pub struct NoEngine(Infallible);

impl NoEngine {
    /// Its base URL.
    pub fn url(&self) -> String {
        match self.0 {}
    }

    /// The key of its workspace.
    pub fn workspace_key(&self) -> &str {
        match self.0 {}
    }
}

impl Drop for NoEngine {
    fn drop(&mut self) {
        match self.0 {}
    }
}

/// Says that this build has no engine, and what to do.
pub fn check() -> Result<(), Failure> {
    Err(Failure::usage(
        "this build has no engine of its own. Name the engine that this node is to join with --engine URL (or \
         RELAY_BASE_URL) and its key with RELAY_WORKSPACE_KEY or --workspace-key-file; or use a build with the feature \
         `engine`, which runs one inside",
    ))
}

/// There is none.
pub fn alone(
    _: &Path,
    _: SocketAddr,
    _: Option<String>,
    _: &str,
    _: &[String],
) -> Result<NoEngine, Failure> {
    missing()
}

/// There is none.
pub fn embedded(_: &StartPlan, _: Option<SocketAddr>) -> Result<NoEngine, Failure> {
    missing()
}

/// There is none, however it should behave.
pub fn check_words(_: &[String]) -> Result<(), Failure> {
    check()
}

fn missing() -> Result<NoEngine, Failure> {
    check().and(Err(Failure::new("this build has no engine")))
}
