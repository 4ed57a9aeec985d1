//! Where recordings lie: a folder for each name in the state folder, and in it files with numbers that only grow. Also says
//! which are there, and which have to go.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::frame::{OnTape, TapeFrame};
use crate::ids::AgentName;
use crate::sys::disk::read_untouched;
use crate::time::{Wall, millis};

/// The folder of all recordings, in the state folder.
pub const FOLDER: &str = "recordings";
/// Ends the names of the files.
const ENDING: &str = ".tape";
/// A longer name of a folder is shortened, and told apart by a digest.
const NAME_MOST: usize = 180;
/// How long the recording of an agent is kept that is not here any more.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many bytes the recordings of such agents may have together; the oldest go first.
const KEPT_BYTES: u64 = 256 * 1024 * 1024;

/// A recording that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Whose it is.
    pub agent: AgentName,
    /// When the oldest of what is kept was printed.
    pub since: Wall,
    /// When something was added last.
    pub until: Wall,
    /// How many bytes it takes.
    pub bytes: u64,
}

/// The folder of one agent's recording. Names may hold letters that a file system takes for others.
pub(super) fn of(recordings: &Path, agent: &AgentName) -> PathBuf {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    let spelled = agent.as_str().bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02x}"),
    });
    let name: String = spelled.collect();
    recordings.join(match name.get(..NAME_MOST) {
        None => name,
        Some(beginning) => {
            let digest = Sha256::digest(agent.as_str());
            let digest: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
            format!("{beginning}~{digest}")
        }
    })
}

/// The path of the file of that number.
pub(super) fn file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}{ENDING}"))
}

/// The numbers of the files in a folder, the oldest first; none where there is no folder.
pub(super) fn numbers(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_suffix(ENDING)?.parse().ok();
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| number(entry.file_name().to_str()?))
        .collect();
    numbers.sort_unstable();
    numbers
}

/// All recordings of a state folder, those that were added to last first.
pub fn recorded(state_dir: &Path) -> Vec<Recorded> {
    let entries = fs::read_dir(state_dir.join(FOLDER))
        .into_iter()
        .flatten()
        .flatten();
    let mut all: Vec<Recorded> = entries.filter_map(|entry| look(&entry.path())).collect();
    all.sort_by_key(|recorded| std::cmp::Reverse(recorded.until));
    all
}

/// What one folder holds, by the first frame of its oldest file.
fn look(folder: &Path) -> Option<Recorded> {
    let first = file(folder, *numbers(folder).first()?);
    let bytes = read_untouched(&first).ok()?;
    let (TapeFrame { at, what }, _) = TapeFrame::decode(&bytes)?;
    let (OnTape::GoesOn(head) | OnTape::Begun(head)) = what else {
        return None;
    };
    let weight = weigh(folder);
    Some(Recorded {
        agent: head.agent,
        since: at,
        until: weight.until,
        bytes: weight.bytes,
    })
}

/// What a recording takes, and when it was added to.
struct Weight {
    folder: PathBuf,
    bytes: u64,
    until: Wall,
}

fn weigh(folder: &Path) -> Weight {
    let mut weight = Weight {
        folder: folder.to_owned(),
        bytes: 0,
        until: Wall(0),
    };
    for number in numbers(folder) {
        let Ok(found) = fs::symlink_metadata(file(folder, number)) else {
            continue;
        };
        let changed = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
        weight.bytes += found.len();
        weight.until = weight.until.max(Wall(millis(changed)));
    }
    weight
}

/// Removes recordings of agents that are not here any more: those that are too old, and the oldest where all together are
/// too large. Those of `here` stay.
pub(super) fn sweep(recordings: &Path, here: &[PathBuf], now: Wall) {
    let entries = fs::read_dir(recordings).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path());
    let mut gone: Vec<Weight> = folders
        .filter(|folder| !here.contains(folder))
        .map(|folder| weigh(&folder))
        .collect();
    gone.sort_by_key(|weight| std::cmp::Reverse(weight.until));
    let mut kept = 0;
    for weight in gone {
        kept += weight.bytes;
        if now - weight.until > KEPT || kept > KEPT_BYTES {
            remove(&weight.folder);
        }
    }
}

/// Removes the files of a recording, and then its folder unless something else is in it.
fn remove(folder: &Path) {
    for number in numbers(folder) {
        let _ = fs::remove_file(file(folder, number));
    }
    if let Err(e) = fs::remove_dir(folder) {
        log::debug!("{} stays: {e}", folder.display());
    }
}
