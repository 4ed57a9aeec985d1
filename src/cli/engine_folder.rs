//! Where the embedded engine lives in a state folder, and what is said of an open address.

use std::fmt::Display;
use std::net::SocketAddr;

use super::log_lines::warn;

/// Holds the address the embedded engine had last, so that SDK clients find it again.
pub const LAST_ADDRESS: &str = "engine-address";
/// The embedded engine's folder in the state folder.
pub const ENGINE_DIR: &str = "engine";

/// Warns of an address beyond this machine.
pub fn warn_if_open(what: &str, address: SocketAddr) {
    if !address.ip().is_loopback() {
        warn(&format!("relay-broker: {}", open_address(what, address)));
    }
}

/// What is said of an address beyond this machine.
pub fn open_address(what: &str, address: impl Display) -> String {
    format!(
        "note: {what} listens on {address}, beyond this machine, and without encryption; put a TLS proxy in front of it or \
         keep the network private"
    )
}
