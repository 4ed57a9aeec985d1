//! The watch over the lease: a broker whose owner is gone stops in order, as if it had been asked to.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::handle::Stopper;
use crate::api::Lease;
use crate::sys::{clock, thread};

/// Starts the thread `lease`, if there is a lease. The thread ends when the lease does, or with what this returns.
pub(super) fn watch(
    lease: &Option<Arc<Lease>>,
    stopper: &Stopper,
) -> io::Result<Option<Sender<()>>> {
    let Some(lease) = lease.clone() else {
        return Ok(None);
    };
    let (alive, over) = bounded(0);
    let stopper = stopper.clone();
    thread::start("lease", 128, move || look(&lease, &over, &stopper))?;
    Ok(Some(alive))
}

fn look(lease: &Lease, over: &Receiver<()>, stopper: &Stopper) {
    while over.recv_timeout(lease.every()) == Err(RecvTimeoutError::Timeout) {
        // Who asks a second time has the end hurried.
        if stopper.is_asked() {
            return;
        }
        if lease.is_over(clock::now().mono) {
            log::warn!("nobody renewed the lease of this broker, so its owner is gone; stopping");
            stopper.stop();
            return;
        }
    }
}
