//! Faults on order: what a test double does to its clients so that they can show how they bear it. The orders come with
//! `--behave` and later over `/__behave`; both use the same keys. Cutting, refusing, forgetting and losing answers happen
//! here, in the core; delay and black hole are the business of `server`, which reads the same orders. A build without the
//! feature `faults` has `none` in place of all that.

#[cfg(not(feature = "faults"))]
mod none;
#[cfg(feature = "faults")]
mod obey;
#[cfg(feature = "faults")]
pub(super) mod orders;

pub(super) mod state;

#[cfg(feature = "faults")]
pub use orders::{Behave, Hole, Orders, ROUTE, Traffic};

/// The close code that stands for no goodbye at all: the connection just ends.
pub const NO_GOODBYE: u16 = 1006;
/// Under this name every frame that a node sent goes to the log, at the level of `trace`, before any fault befalls it.
pub const NODE_FRAMES: &str = "relay_broker::engine::node_frames";
