//! Named places where a test build may be told to die, and a disk that may be told to be full: what a crash test needs to
//! choose its moment. It works with debug assertions only; in a release build every function here is empty, and no
//! name of a place is left in the program. Never decides anything by itself: [`arm`] is called once, at the start, with what
//! `config` read.

/// All places, in the order in which a message passes them; the last ones are passed when a journal file is begun.
pub const POINTS: &[&str] = &[
    // A commit.
    "journal.appended",
    "journal.synced",
    "commit.durable",
    // What a turn lets out.
    "reply.durable",
    "inject.durable",
    "ack.durable",
    "ack.sent",
    "commit.performed",
    // An agent's thread.
    "agent.ordered",
    "agent.wrote",
    "agent.landed",
    "agent.noted",
    "agent.reported",
    // A new journal file, at each opening and at each rotation.
    "begin.created",
    "begin.appended",
    "begin.synced",
    "begin.renamed",
    "begin.named",
    "begin.retired",
    // A start.
    "open.read",
    "open.replayed",
    "open.durable",
    "open.connection",
];

#[cfg(debug_assertions)]
mod armed {
    use std::io;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    /// What the process was told to suffer.
    #[derive(Debug, Default)]
    pub struct Plan {
        point: Option<&'static str>,
        hits_left: AtomicU64,
        full_while: Option<PathBuf>,
        rotate_bytes: Option<u64>,
        lease_ms: Option<u64>,
    }

    static PLAN: OnceLock<Plan> = OnceLock::new();

    impl Plan {
        /// `die=POINT:N` (at the N-th time there, from 1), `full=FILE` (no room while that file is there),
        /// `rotate=BYTES` (begin a new journal file so often) and `lease=MS` (a lease, where there is one, lasts so long),
        /// separated by commas.
        fn parse(text: &str) -> Result<Self, String> {
            let mut plan = Self::default();
            for part in text.split(',').filter(|part| !part.is_empty()) {
                match part.split_once('=') {
                    Some(("die", place)) => plan.die(place)?,
                    Some(("full", file)) => plan.full_while = Some(file.into()),
                    Some(("rotate", bytes)) => {
                        let bytes = bytes.parse().map_err(|e| format!("{part:?}: {e}"))?;
                        plan.rotate_bytes = Some(bytes);
                    }
                    Some(("lease", ms)) => {
                        let ms = ms.parse().map_err(|e| format!("{part:?}: {e}"))?;
                        plan.lease_ms = Some(ms);
                    }
                    _ => return Err(format!("{part:?} is no fault that can be asked for")),
                }
            }
            Ok(plan)
        }

        fn die(&mut self, place: &str) -> Result<(), String> {
            let (name, hit) = place.split_once(':').unwrap_or((place, "1"));
            let known = super::POINTS.iter().find(|point| **point == name);
            self.point = Some(known.ok_or_else(|| format!("there is no point {name:?}"))?);
            let hit: u64 = hit.parse().map_err(|e| format!("{place:?}: {e}"))?;
            self.hits_left = AtomicU64::new(hit.max(1));
            Ok(())
        }
    }

    /// Takes the plan; only the first one counts.
    ///
    /// # Errors
    /// When it cannot be understood, in one sentence.
    pub fn arm(text: &str) -> Result<(), String> {
        let plan = Plan::parse(text)?;
        let _ = PLAN.set(plan);
        Ok(())
    }

    /// Dies here, by SIGKILL, if that was the plan: nothing is flushed, no destructor runs.
    pub fn hit(point: &str) {
        let Some(plan) = PLAN.get().filter(|plan| plan.point == Some(point)) else {
            return;
        };
        if plan.hits_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = kill_process(getpid(), Signal::KILL);
            // The signal is on its way; this thread must get no further.
            loop {
                std::thread::park();
            }
        }
    }

    /// Whether the disk is to be taken for a full one now.
    ///
    /// # Errors
    /// The one of a full disk.
    pub fn room() -> io::Result<()> {
        let file = PLAN.get().and_then(|plan| plan.full_while.as_ref());
        match file {
            Some(file) if file.exists() => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// How long a journal file may become, if that was said.
    pub fn rotate_bytes() -> Option<u64> {
        PLAN.get().and_then(|plan| plan.rotate_bytes)
    }

    /// How long a lease lasts, if that was said.
    pub fn lease() -> Option<Duration> {
        let ms = PLAN.get().and_then(|plan| plan.lease_ms);
        ms.map(Duration::from_millis)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_plan_names_a_known_place_and_when_to_die_there() {
            let plan =
                Plan::parse("die=agent.noted:3,rotate=4096,full=/f,lease=500").expect("a plan");
            assert_eq!(plan.point, Some("agent.noted"));
            assert_eq!(plan.hits_left.into_inner(), 3);
            assert_eq!((plan.rotate_bytes, plan.lease_ms), (Some(4096), Some(500)));
            assert_eq!(plan.full_while, Some("/f".into()));
            for wrong in ["die=nowhere:1", "die=agent.noted:x", "rotate=", "drown"] {
                Plan::parse(wrong).expect_err(wrong);
            }
        }
    }
}

#[cfg(debug_assertions)]
pub use armed::{arm, hit, lease, room, rotate_bytes};

#[cfg(not(debug_assertions))]
mod disarmed {
    /// Nothing happens here in a release build.
    #[inline(always)]
    pub fn hit(_: &str) {}

    /// Only the disk itself can be full in a release build.
    ///
    /// # Errors
    /// Never.
    #[inline(always)]
    pub fn room() -> std::io::Result<()> {
        Ok(())
    }

    /// As the journal has it in a release build.
    #[inline(always)]
    pub fn rotate_bytes() -> Option<u64> {
        None
    }

    /// As `config` has it in a release build.
    #[inline(always)]
    pub fn lease() -> Option<std::time::Duration> {
        None
    }
}

#[cfg(not(debug_assertions))]
pub use disarmed::{hit, lease, room, rotate_bytes};
