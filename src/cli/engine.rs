//! The embedded engine as the command line runs it: inside `up`, and alone as `engine`. A build without the feature `engine`
//! has `no_engine.rs` in place of this file.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::engine_folder::{ENGINE_DIR, LAST_ADDRESS, warn_if_open};
use super::failure::Failure;
use crate::broker::lock_exit;
use crate::config::{self, StartPlan};
pub use crate::engine::server::Engine;
use crate::engine::server::{EngineError, EngineSettings};
use crate::sys::disk::{read_small, write_private};
use crate::sys::limits;
use crate::sys::sysexit::Sysexit;

/// Where an embedded engine listens when nobody else does: the port self-hosted engines use.
const USUAL_PORT: u16 = 8787;

/// Whether this build has an engine at all.
pub const fn check() -> Result<(), Failure> {
    Ok(())
}

/// An engine without a broker, for brokers elsewhere. `behave` is what `--behave` says.
pub fn alone(
    dir: &Path,
    listen: SocketAddr,
    workspace_key: Option<String>,
    workspace_name: &str,
    behave: &[String],
) -> Result<Engine, Failure> {
    let settings = EngineSettings {
        dir: dir.to_owned(),
        listen,
        workspace_key,
        workspace_name: workspace_name.to_owned(),
    };
    start(settings, behave)
}

#[cfg(feature = "faults")]
fn start(settings: EngineSettings, behave: &[String]) -> Result<Engine, Failure> {
    let started = match behave {
        [] => Engine::start(settings),
        words => Engine::start_behaving(settings, &read_words(words)?),
    };
    started.map_err(|e| engine_failure(&e))
}

#[cfg(not(feature = "faults"))]
fn start(settings: EngineSettings, _: &[String]) -> Result<Engine, Failure> {
    Engine::start(settings).map_err(|e| engine_failure(&e))
}

#[cfg(feature = "faults")]
fn read_words(words: &[String]) -> Result<crate::engine::faults::Behave, Failure> {
    crate::engine::faults::Behave::parse(words.iter().map(String::as_str))
        .map_err(|why| Failure::usage(format!("--behave: {why}")))
}

/// Whether an engine can behave as `--behave` says.
#[cfg(feature = "faults")]
pub fn check_words(words: &[String]) -> Result<(), Failure> {
    read_words(words).map(|_| ())
}

/// Whether an engine can behave as `--behave` says: in a build without faults not at all.
#[cfg(not(feature = "faults"))]
pub fn check_words(words: &[String]) -> Result<(), Failure> {
    match words {
        [] => Ok(()),
        _ => Err(Failure::usage(
            "--behave: this build has no faults; build one for tests with `cargo build --features faults`",
        )),
    }
}

fn engine_failure(e: &EngineError) -> Failure {
    let exit = match e {
        EngineError::Locked(e) => lock_exit(e),
        EngineError::Folder(_) | EngineError::Journal(_) | EngineError::Write(_) => {
            Sysexit::CantCreate
        }
        EngineError::Listen { error, .. } if error.kind() == ErrorKind::PermissionDenied => {
            Sysexit::NoPermission
        }
        EngineError::Key { .. } => Sysexit::Config,
        EngineError::System(error) if limits::is_reached(error) => Sysexit::OsError,
        EngineError::Listen { .. } | EngineError::Exposed(_) | EngineError::System(_) => {
            Sysexit::Failure
        }
    };
    Failure::with(exit, e.to_string())
}

/// The engine inside this process, on the address that clients may still have from last time.
pub fn embedded(plan: &StartPlan, listen: Option<SocketAddr>) -> Result<Engine, Failure> {
    let state_dir = plan.state_dir();
    let remembered = state_dir.join(LAST_ADDRESS);
    let last = read_small(&remembered)
        .ok()
        .and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok());
    let mut lost = Vec::new();
    let (engine, listen) = loop {
        let address = listen.unwrap_or_else(|| choose(last, |at| !lost.contains(&at) && free(at)));
        // Also where it listened last time: the risk is taken anew with every start.
        let origin = "--engine-listen (perhaps of last time)";
        config::check_listen(origin, address, plan.allow_plain_http)?;
        let settings = EngineSettings {
            dir: state_dir.join(ENGINE_DIR),
            listen: address,
            workspace_key: None,
            workspace_name: plan.name().to_owned(),
        };
        match Engine::start_inside(settings, plan.message_ttl(), plan.agents_may()) {
            Ok(engine) => break (engine, address),
            // Brokers that start at the same moment all find the same address free.
            Err(e) if listen.is_none() && is_taken(&e) && address.port() != 0 => lost.push(address),
            Err(e) => return Err(engine_failure(&e)),
        }
    };
    warn_if_open("the engine", listen);
    let url = engine.url();
    let address = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    if let Err(e) = write_private(&remembered, format!("{address}\n").as_bytes()) {
        log::warn!(
            "cannot remember the engine's address in {}: {e}",
            remembered.display()
        );
    }
    Ok(engine)
}

/// Whether somebody else listens there.
fn is_taken(e: &EngineError) -> bool {
    matches!(e, EngineError::Listen { error, .. } if error.kind() == ErrorKind::AddrInUse)
}

/// The first of: last time's, the usual one, any.
fn choose(last: Option<SocketAddr>, free: impl Fn(SocketAddr) -> bool) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], USUAL_PORT));
    last.into_iter()
        .chain([usual])
        .find(|address| free(*address))
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_comes_back_where_it_was_if_it_can() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(choose(Some(address(4000)), |_| true), address(4000));
        assert_eq!(
            choose(Some(address(4000)), |a| a.port() != 4000),
            address(8787)
        );
        assert_eq!(choose(None, |_| true), address(8787));
        assert_eq!(choose(Some(address(4000)), |_| false), address(0));
    }
}
