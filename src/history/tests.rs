use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::files::{FILES, file_name};
use super::writer::{HistoryFiles, queue};
use super::{HistoryFact, HistoryLimits, HistoryStep, read};
use crate::ids::{AgentName, MsgId};
use crate::time::Wall;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("relay-history-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        crate::sys::disk::create_private_dir(&dir).expect("a temporary folder");
        Self(dir)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn step(n: u64) -> HistoryStep {
    HistoryStep {
        at: Wall(n),
        agent: Some(AgentName::new("ada")),
        delivery: None,
        message: Some(MsgId::new(format!("m{n}"))),
        fact: HistoryFact::Given { bytes: n },
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn files(folder: &Folder, bytes: u64) -> HistoryFiles {
    HistoryFiles::new(folder.path(), HistoryLimits { bytes, age: DAY })
}

#[test]
fn what_is_written_is_remembered_in_order_over_a_restart_and_a_torn_line() {
    let (folder, lost) = (Folder::new("order"), AtomicU64::new(0));
    files(&folder, 1 << 20).write(vec![step(1), step(2)], &lost);
    let path = folder.path().join(file_name(0));
    let mut torn = std::fs::read(&path).expect("written");
    torn.extend(b"{\"at\":3,\"k\":\"giv");
    std::fs::write(&path, torn).expect("room");
    files(&folder, 1 << 20).write(vec![step(4)], &lost);
    let found = read(folder.path()).expect("readable");
    assert_eq!(found.steps, [step(1), step(2), step(4)]);
    assert_eq!(found.since, Some(Wall(1)));
}

#[test]
fn the_oldest_goes_first_and_all_of_it_stays_within_the_bound() {
    let (folder, lost) = (Folder::new("bound"), AtomicU64::new(0));
    let mut history = files(&folder, 8000);
    for n in 0..500 {
        history.write(vec![step(n)], &lost);
    }
    let bytes = |age| std::fs::metadata(folder.path().join(file_name(age))).map_or(0, |m| m.len());
    let all: u64 = (0..FILES).map(bytes).sum();
    assert!(all <= 8000 && all > 4000, "{all}");
    let found = read(folder.path()).expect("readable");
    assert_eq!(found.steps.last(), Some(&step(499)));
    assert!(found.since > Some(Wall(300)), "{:?}", found.since);
    let numbers: Vec<u64> = found.steps.iter().map(|step| step.at.0).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn what_the_queue_has_no_room_for_is_counted_and_marked_where_it_is_missing() {
    let folder = Folder::new("lost");
    let (full, steps) = queue(2);
    for n in 0..5 {
        full.note(step(n));
    }
    let lost = AtomicU64::new(3);
    files(&folder, 1 << 20).write(steps.try_iter().collect(), &lost);
    assert_eq!(lost.load(Ordering::Relaxed), 0);
    let found = read(folder.path()).expect("readable").steps;
    assert_eq!(found[0].fact, HistoryFact::Lost { count: 3 });
    assert_eq!(found[1..], [step(0), step(1)]);
}

#[test]
fn files_that_cannot_be_written_cost_steps_and_nothing_else() {
    let (folder, lost) = (Folder::new("away"), AtomicU64::new(0));
    let mut history = files(&folder, 1 << 20);
    std::fs::remove_dir_all(folder.path()).expect("ours");
    history.write(vec![step(1), step(2)], &lost);
    assert_eq!(lost.load(Ordering::Relaxed), 2);
    crate::sys::disk::create_private_dir(folder.path()).expect("room");
    history.write(vec![step(3)], &lost);
    let found = read(folder.path()).expect("readable").steps;
    assert_eq!(found[0].fact, HistoryFact::Lost { count: 2 });
    assert_eq!(found[1], step(3));
}

#[test]
fn whoever_keeps_no_history_pays_nothing_and_reads_nothing() {
    let none = super::HistoryQueue::default();
    none.note(step(1));
    assert!(!none.is_kept());
    assert_eq!(
        read(Path::new("/nowhere")).expect("nothing"),
        super::Remembered::default()
    );
}
