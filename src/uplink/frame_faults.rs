//! What the engine sends that we cannot read: said once for each kind of fault and then rarely, so that a broken or
//! hostile engine cannot fill the log. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Mono;
use crate::wire::WireError;

/// The same fault is not said again sooner.
const QUIET: Duration = Duration::from_secs(600);
/// The most of a reason that is said; it may quote what came in.
const WORDS: usize = 200;

/// One frame's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// Not what it must be.
    Broken(WireError),
    /// Of a type that we do not know; newer engines may have more of them.
    Unknown(String),
    /// More bytes than a message may have.
    TooLarge(u64),
    /// Bytes where text belongs.
    Binary,
}

impl FrameFault {
    /// Of few values, whatever comes in.
    fn kind(&self) -> &'static str {
        match self {
            FrameFault::Broken(WireError::NotJson(_)) => "no JSON",
            FrameFault::Broken(WireError::NotAFrame) => "no frame",
            FrameFault::Broken(WireError::Broken { .. }) => "broken",
            FrameFault::Unknown(_) => "unknown",
            FrameFault::TooLarge(_) => "too large",
            FrameFault::Binary => "binary",
        }
    }

    fn sentence(&self) -> String {
        let text = match self {
            FrameFault::Broken(error) => error.to_string(),
            FrameFault::Unknown(kind) => format!("a frame of unknown type {kind:?}"),
            FrameFault::TooLarge(bytes) => format!("a message of {bytes} bytes, more than 4 MiB"),
            FrameFault::Binary => "bytes that are no text".to_owned(),
        };
        text.chars().take(WORDS).collect()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct FrameFaults {
    /// By kind of fault: when it was last said, and how many came since.
    said: BTreeMap<&'static str, (Mono, u64)>,
}

impl FrameFaults {
    /// Notes a fault; the line to log, if it is time for one.
    pub fn note(&mut self, now: Mono, fault: &FrameFault) -> Option<String> {
        let since = self.said.get_mut(fault.kind());
        let unsaid = match since {
            None => 0,
            Some((at, unsaid)) if now.since(*at) < QUIET => {
                *unsaid += 1;
                return None;
            }
            Some((_, unsaid)) => *unsaid,
        };
        self.said.insert(fault.kind(), (now, 0));
        let more = match unsaid {
            0 => String::new(),
            n => format!(" ({n} more like it since this was last said)"),
        };
        Some(format!(
            "the engine sent {}; passed over{more}",
            fault.sentence()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Mono {
        Mono(secs * 1_000_000_000)
    }

    #[test]
    fn each_kind_of_fault_is_said_once_and_later_with_how_many_there_were() {
        let mut junk = FrameFaults::default();
        let no_json = FrameFault::Broken(WireError::NotJson("expected value".into()));
        let line = junk.note(at(0), &no_json).expect("the first");
        assert!(line.contains("expected value"), "{line}");
        assert!(
            junk.note(at(1), &FrameFault::TooLarge(5_000_000)).is_some(),
            "another kind"
        );
        for n in 0..1000 {
            assert_eq!(junk.note(at(1), &no_json), None, "{n}");
        }
        let line = junk.note(at(601), &no_json).expect("after a while");
        assert!(line.contains("(1000 more"), "{line}");
    }

    #[test]
    fn types_made_up_by_a_hostile_engine_are_one_kind_and_cost_no_memory() {
        let mut junk = FrameFaults::default();
        let said = (0..1000).filter_map(|n| junk.note(at(0), &FrameFault::Unknown("x".repeat(n))));
        assert_eq!(said.count(), 1);
        assert_eq!(junk.said.len(), 1);
        let line = junk.note(at(700), &FrameFault::Unknown("x".repeat(1 << 20)));
        assert!(line.expect("after a while").len() < 400);
    }
}
