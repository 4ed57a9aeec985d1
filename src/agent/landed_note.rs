//! A note beside the journal: which delivery this agent's terminal was last seen to take. The agent's own thread writes it
//! the moment it sees that, long before the dispatcher has written `Settled`, so that a killed broker does not type a
//! message again that was read while its report was on the way. It is not synced: a power cut may lose it, and then the
//! message comes again, marked as redelivered. The journal alone decides what is pending; a note about anything else says
//! nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::Proof;
use crate::ids::{AgentName, DeliveryId};
use crate::ledger::StoredProof;
use crate::msg::AgentReport;
use crate::sys::disk::{create_private_dir, open_private, read_small};
use crate::sys::failpoint;

/// The folder of all notes, in the state folder.
pub const FOLDER: &str = "landed";
/// One write of this size within one page of the page cache is all there or not at all, whenever we are killed.
const SIZE: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Note {
    agent: AgentName,
    delivery_id: DeliveryId,
    #[serde(with = "StoredProof")]
    proof: Proof,
}

/// The note of one agent.
pub struct LandedNote {
    agent: AgentName,
    file: File,
}

impl LandedNote {
    /// Opens the agent's note in `dir`, which is made if missing.
    ///
    /// # Errors
    /// When folder or file cannot be made.
    pub fn open(dir: &Path, agent: &AgentName) -> io::Result<Self> {
        create_private_dir(dir)?;
        // Names may hold any letters; a file name may not.
        let name: String = agent.as_str().bytes().map(|b| format!("{b:02x}")).collect();
        let name = &name[..name.len().min(200)];
        Ok(Self {
            agent: agent.clone(),
            file: open_private(&dir.join(name))?,
        })
    }

    /// Replaces the note. A failure costs at most a message that comes again after a crash, so it is only logged.
    pub fn landed(&self, delivery_id: &DeliveryId, proof: Proof) {
        let note = Note {
            agent: self.agent.clone(),
            delivery_id: delivery_id.clone(),
            proof,
        };
        let mut bytes = serde_json::to_vec(&note).unwrap_or_default();
        if bytes.len() >= SIZE {
            log::debug!("a delivery id of {} bytes is not noted", bytes.len());
            return;
        }
        bytes.resize(SIZE, b' ');
        if let Err(e) = self.file.write_all_at(&bytes, 0) {
            log::warn!("the note of {} cannot be written: {e}", self.agent);
        }
    }
}

/// Reports; that a message landed is noted before.
pub(super) fn tell_noted(
    mark: Option<&LandedNote>,
    tell: &(dyn Fn(AgentReport) + Send),
    report: AgentReport,
) {
    let landed = matches!(report, AgentReport::Landed(..));
    if let (AgentReport::Landed(id, proof, _), Some(mark)) = (&report, mark) {
        failpoint::hit("agent.landed");
        mark.landed(id, *proof);
        failpoint::hit("agent.noted");
    }
    tell(report);
    if landed {
        failpoint::hit("agent.reported");
    }
}

/// All notes of an earlier life. What cannot be read says nothing.
pub fn read_all(dir: &Path) -> Vec<(AgentName, DeliveryId, Proof)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| read_small(&entry.path()).ok())
        .filter_map(|bytes| serde_json::from_slice::<Note>(&bytes).ok())
        .map(|note| (note.agent, note.delivery_id, note.proof))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_note_of_each_agent_is_found_again() {
        let dir = std::env::temp_dir().join(format!("relay-broker-marks-{}", std::process::id()));
        let (ada, bob) = (AgentName::new("ada/1"), AgentName::new("bob"));
        let mark = LandedNote::open(&dir, &ada).expect("a temporary folder");
        mark.landed(
            &DeliveryId::new("a much longer one than the next"),
            Proof::Screen,
        );
        mark.landed(&DeliveryId::new("d2"), Proof::Echo);
        LandedNote::open(&dir, &bob)
            .expect("a file")
            .landed(&DeliveryId::new("d3"), Proof::Read);
        let mut found = read_all(&dir);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let _ = std::fs::remove_dir_all(&dir);
        assert_eq!(
            found,
            [
                (ada, DeliveryId::new("d2"), Proof::Echo),
                (bob, DeliveryId::new("d3"), Proof::Read)
            ]
        );
    }
}
