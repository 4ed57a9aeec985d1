//! What stands where faults of the network would, in a build without them.

use std::time::Duration;

pub use self::NoNetworkFaults as NetworkFaults;

/// A network without faults on order.
#[derive(Default)]
pub struct NoNetworkFaults;

impl NoNetworkFaults {
    /// Nobody is held.
    pub const fn end(&self) {}

    /// Everything arrives at once.
    pub const fn delay(&self) -> Option<Duration> {
        None
    }

    /// No request is swallowed.
    pub const fn hold_requests(&self) {}

    /// No frame is swallowed.
    pub const fn hold_sockets(&self) {}

    /// No answer is late.
    pub const fn linger(&self) {}
}
