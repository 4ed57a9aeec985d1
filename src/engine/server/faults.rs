//! Faults between the engine and its clients, for a test double: answers that come late, and a black hole that swallows
//! traffic until it is lifted. Connections ask here before they read or write; without orders that costs one load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::faults::{Hole, Orders, Traffic};

/// See the module. Shared by the core's thread and all connections.
#[derive(Default)]
pub struct NetworkFaults {
    /// Whether there has ever been an order.
    bad: AtomicBool,
    now: Mutex<Current>,
    changed: Condvar,
}

#[derive(Default)]
struct Current {
    delay: Duration,
    hole: Option<Hole>,
    over: bool,
}

impl NetworkFaults {
    /// Takes what concerns it of the orders.
    pub fn obey(&self, orders: &Orders) {
        let mut now = self.now.lock();
        if let Some(ms) = orders.delay_ms {
            now.delay = Duration::from_millis(ms);
        }
        if let Some(hole) = orders.black_hole {
            now.hole = Some(hole);
        }
        self.bad.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Fair for good: nobody is held any more.
    pub fn end(&self) {
        self.now.lock().over = true;
        self.changed.notify_all();
    }

    /// How much later than now something said now arrives; `None` for at once.
    pub fn delay(&self) -> Option<Duration> {
        if !self.bad.load(Ordering::Acquire) {
            return None;
        }
        let now = self.now.lock();
        (!now.delay.is_zero() && !now.over).then_some(now.delay)
    }

    /// Waits while a black hole swallows requests.
    pub fn hold_requests(&self) {
        self.hold(Traffic::Http);
    }

    /// Waits while a black hole swallows what passes over WebSockets.
    pub fn hold_sockets(&self) {
        self.hold(Traffic::Sockets);
    }

    /// Waits while a black hole swallows such traffic.
    fn hold(&self, traffic: Traffic) {
        if !self.bad.load(Ordering::Acquire) {
            return;
        }
        let mut now = self.now.lock();
        while !now.over && now.hole.is_some_and(|h| h.swallows(traffic)) {
            self.changed.wait(&mut now);
        }
    }

    /// Waits as long as an answer is late.
    pub fn linger(&self) {
        let Some(delay) = self.delay() else {
            return;
        };
        let mut now = self.now.lock();
        if !now.over {
            // Woken early only by other orders: then the answer is less late.
            self.changed.wait_for(&mut now, delay);
        }
    }
}
