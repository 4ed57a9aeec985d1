//! Somebody takes the journal's files away, or puts others beside them, while it is open.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::machine::{Log, persist};
use crate::sys::disk::tests::Scratch;
use crate::sys::disk::{Disk, RealDisk, create_private_dir};

/// A journal that was told 1, in `state/journal` of a scratch folder.
struct Told {
    scratch: Scratch,
    journal: Journal<Note>,
    diary: Diary,
    out: Out<Note, u64>,
}

impl Told {
    fn one() -> Told {
        let scratch = Scratch::new();
        let dir = scratch.path().join("state/journal");
        create_private_dir(&dir).expect("room");
        let opened = Journal::open(&dir, "test", Options::default()).expect("opens");
        let mut told = Told {
            scratch,
            journal: opened.journal,
            diary: Diary::default(),
            out: Out::default(),
        };
        told.say(1).expect("room");
        told
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("state/journal")
    }

    fn say(&mut self, n: u64) -> Result<(), String> {
        self.diary.step(Now::default(), n, &mut self.out);
        self.again()
    }

    fn again(&mut self) -> Result<(), String> {
        persist(&self.diary, &mut self.journal, &mut self.out).map_err(|e| e.to_string())
    }

    fn on_disk(&self) -> Vec<u64> {
        let look = Look::take(&self.dir(), "test").expect("readable");
        told(&look.expect("a journal").records().expect("ours"))
    }
}

#[test]
fn a_file_removed_under_an_open_journal_is_missed_at_the_next_commit_and_written_anew() {
    let mut told = Told::one();
    fs::remove_file(told.dir().join("journal.1")).expect("there");
    let why = told.say(2).expect_err("it would be written to nowhere");
    assert!(
        why.contains("journal.1") && why.contains("removed"),
        "{why}"
    );
    told.again().expect("a new file");
    assert_eq!(told.on_disk(), [1, 2]);
}

#[test]
fn a_folder_removed_under_an_open_journal_is_made_again_with_all_in_it() {
    let mut told = Told::one();
    fs::remove_dir_all(told.dir()).expect("there");
    told.say(2).expect_err("it would be written to nowhere");
    told.again().expect("a new folder");
    assert_eq!(told.on_disk(), [1, 2]);
    let mode = fs::metadata(told.dir()).expect("there").permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o700
    );
}

#[test]
fn a_state_folder_removed_whole_is_not_made_up_for_and_when_it_is_back_all_is_written() {
    let mut told = Told::one();
    fs::remove_dir_all(told.scratch.path().join("state")).expect("there");
    told.say(2).expect_err("it would be written to nowhere");
    for _ in 0..2 {
        let why = told.again().expect_err("there is no place for it");
        assert!(why.contains("state/journal"), "{why}");
    }
    create_private_dir(&told.scratch.path().join("state")).expect("room");
    told.again().expect("a new folder");
    assert_eq!(told.on_disk(), [1, 2]);
}

#[test]
fn a_journal_never_writes_over_one_that_another_process_began_in_its_place() {
    let mut told = Told::one();
    fs::remove_dir_all(told.scratch.path().join("state")).expect("there");
    create_private_dir(&told.dir()).expect("room");
    let mut other = Journal::<Note>::open(&told.dir(), "test", Options::default())
        .expect("it knows of no other")
        .journal;
    other.commit(&[Note::Said(7)]).expect("room");
    told.say(2).expect_err("it would be written to nowhere");
    let why = told.again().expect_err("not beside another");
    assert!(
        why.contains("journal.1") && why.contains("another"),
        "{why}"
    );
    assert_eq!(told.on_disk(), [7], "left as it is");
    assert_eq!(RealDisk.list(&told.dir()).expect("there"), ["journal.1"]);
}

#[test]
fn a_folder_that_was_moved_away_and_comes_back_is_known_as_our_own() {
    let mut told = Told::one();
    let (state, aside) = (
        told.scratch.path().join("state"),
        told.scratch.path().join("aside"),
    );
    for n in [2, 4] {
        fs::rename(&state, &aside).expect("there");
        told.say(n).expect_err("it would be written to nowhere");
        told.again().expect_err("there is no place for it");
        fs::rename(&aside, &state).expect("free");
        told.again().expect("its own file is in the way of nothing");
        told.say(n + 1).expect("and it goes on");
    }
    assert_eq!(told.on_disk(), [1, 2, 3, 4, 5]);
    assert_eq!(RealDisk.list(&told.dir()).expect("there").len(), 1);
}

#[test]
fn an_old_folder_put_back_in_place_of_the_one_made_meanwhile_is_known_too() {
    let mut told = Told::one();
    let aside = told.scratch.path().join("aside");
    fs::rename(told.dir(), &aside).expect("there");
    told.say(2).expect_err("it would be written to nowhere");
    told.again().expect("in a folder made again");
    fs::remove_dir_all(told.dir()).expect("there");
    fs::rename(&aside, told.dir()).expect("free");
    told.say(3).expect_err("it would be written to nowhere");
    told.again().expect("its own file of before");
    assert_eq!(told.on_disk(), [1, 2, 3]);
}

#[test]
fn what_another_process_put_under_the_name_of_our_file_stays() {
    let mut told = Told::one();
    fs::rename(told.dir(), told.scratch.path().join("aside")).expect("there");
    create_private_dir(&told.dir()).expect("room");
    let mut other = Journal::<Note>::open(&told.dir(), "test", Options::default())
        .expect("it knows of no other")
        .journal;
    other.commit(&[Note::Said(7)]).expect("room");
    told.say(2).expect_err("it would be written to nowhere");
    told.again().expect_err("not beside another");
    let snapshot = told.diary.snapshot().expect("always");
    told.journal.replace(&snapshot).expect_err("nor anew");
    assert_eq!(told.on_disk(), [7]);
}

/// Whether a file is open that has no name any more, and had this one.
fn holds(name: &Path) -> bool {
    let open = fs::read_dir("/proc/self/fd").into_iter();
    let mut targets = open
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let gone = PathBuf::from(format!("{} (deleted)", name.display()));
    targets.any(|target| target == gone)
}

#[test]
fn room_that_a_removed_file_holds_is_given_back() {
    let mut told = Told::one();
    fs::remove_file(told.dir().join("journal.1")).expect("there");
    told.say(2).expect_err("it would be written to nowhere");
    assert!(!holds(&told.dir().join("journal.1")));
}

#[test]
fn room_that_is_held_by_a_file_removed_after_it_was_moved_away_is_given_back_with_the_next_file() {
    let mut told = Told::one();
    let aside = told.scratch.path().join("aside");
    fs::rename(told.dir(), &aside).expect("there");
    told.say(2).expect_err("it would be written to nowhere");
    told.again().expect("in a folder made again");
    fs::remove_dir_all(&aside).expect("there");
    let all = told.diary.snapshot().expect("a snapshot");
    told.journal.replace(&all).expect("room");
    assert!(!holds(&aside.join("journal.1")));
    assert_eq!(told.on_disk(), [1, 2]);
}
