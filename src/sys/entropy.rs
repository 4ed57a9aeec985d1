//! Secrets and seeds from the operating system's generator.

use std::io;

pub use crate::ids::to_hex;

/// Fills an array with random bytes.
///
/// # Errors
/// When the operating system has no generator to offer.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut out = [0; N];
    getrandom::fill(&mut out)
        .map_err(|e| io::Error::other(format!("no random numbers to be had: {e}")))?;
    Ok(out)
}

/// `2 * N` random hex digits.
///
/// # Errors
/// As [`bytes`].
pub fn hex<const N: usize>() -> io::Result<String> {
    Ok(to_hex(&bytes::<N>()?))
}
