//! One operation fails, once, or the machine goes down with it.

use super::*;
use crate::journal::fake_disk::{Crash, Fault};
use crate::machine::{CommitError, Log, persist};

#[test]
fn a_full_disk_refuses_the_commit_and_takes_it_when_there_is_room() {
    let disk = FakeDisk::default();
    let mut journal = open(&disk).journal;
    journal.commit(&[Note::Said(1)]).expect("room");
    let before = disk.get("journal.1").expect("the current file");
    disk.fail(0, Fault::Full);
    let CommitError(why) = journal.commit(&[Note::Said(2)]).expect_err("full");
    assert!(why.contains("told to fail"), "{why}");
    assert!(
        !journal.needs_replacement(),
        "the file is as good as before"
    );
    assert_eq!(
        disk.get("journal.1"),
        Some(before),
        "cut back to the last whole frame"
    );
    journal.commit(&[Note::Said(2)]).expect("room again");
    journal.commit(&[Note::Said(3)]).expect("room");
    drop(journal);
    let opened = open(&disk);
    assert_eq!(
        (told(&opened.records), opened.recovery),
        (vec![1, 2, 3], Recovery::Clean { records: 3 })
    );
}

#[test]
fn a_torn_write_that_cannot_be_cut_at_once_is_cut_before_the_next() {
    let disk = FakeDisk::default();
    let mut journal = open(&disk).journal;
    disk.fail(0, Fault::Gone);
    journal
        .commit(&[Note::Said(1)])
        .expect_err("the cut fails too");
    disk.repair();
    journal.commit(&[Note::Said(2)]).expect("room again");
    drop(journal);
    let opened = open(&disk);
    assert_eq!(
        (told(&opened.records), opened.recovery),
        (vec![2], Recovery::Clean { records: 1 })
    );
}

#[test]
fn a_failed_sync_ends_trust_in_the_file_until_a_snapshot_stands_elsewhere() {
    let disk = FakeDisk::default();
    let mut journal = open(&disk).journal;
    let (mut diary, mut out) = (Diary::default(), Out::default());
    diary.step(Now::default(), 1, &mut out);
    persist(&diary, &mut journal, &mut out).expect("room");
    diary.step(Now::default(), 2, &mut out);
    disk.fail(1, Fault::Refused);
    persist(&diary, &mut journal, &mut out).expect_err("the sync fails");
    assert!(journal.needs_replacement() && journal.is_long(0));
    disk.repair();
    journal
        .commit(&[Note::Said(2)])
        .expect_err("never written again");
    assert_eq!(out.records.len(), 1, "nothing was let go");
    disk.fail(0, Fault::Full);
    persist(&diary, &mut journal, &mut out).expect_err("no room for a new file");
    disk.repair();
    persist(&diary, &mut journal, &mut out).expect("a new file stands");
    assert!(!journal.needs_replacement() && out.records.is_empty());
    assert_eq!(disk.names(), ["journal.2"]);
    disk.crash(Crash::Power);
    assert_eq!(told(&open(&disk).records), [1, 2]);
}

#[test]
fn a_file_that_a_start_might_pass_over_takes_no_more_commits() {
    let disk = FakeDisk::default();
    let mut journal = open(&disk).journal;
    journal.commit(&[Note::Said(1)]).expect("room");
    // The new file is there, though renaming it was said to have failed: from now on it would count.
    disk.fail(3, Fault::DoneButStuck);
    journal
        .replace(&Note::All(vec![1]))
        .expect_err("not renamed, it is said");
    assert_eq!(disk.names(), ["journal.1", "journal.2"]);
    journal
        .commit(&[Note::Said(2)])
        .expect_err("it would be lost");
    assert!(journal.needs_replacement());
    journal
        .replace(&Note::All(vec![1, 2]))
        .expect("nothing is wrong any more");
    assert_eq!(disk.names(), ["journal.3"]);
}

#[test]
fn a_journal_on_a_full_disk_opens_and_waits_for_room() {
    let disk = FakeDisk::default();
    disk.put("journal.1", &three_commits().0);
    disk.fail(1, Fault::Full);
    let Opened {
        mut journal,
        records,
        ..
    } = open(&disk);
    assert_eq!(told(&records), [1, 2, 3]);
    assert_eq!(disk.names(), ["journal.1"], "the half-written file is gone");
    journal
        .commit(&[Note::Said(4)])
        .expect_err("no file to write");
    assert!(journal.needs_replacement());
    journal
        .replace(&Note::All(vec![1, 2, 3, 4]))
        .expect("room again");
    assert_eq!(disk.names(), ["journal.2"]);
}

#[test]
fn a_long_journal_is_shortened_but_a_large_snapshot_is_not_rewritten_at_each_commit() {
    let disk = FakeDisk::default();
    let options = Options {
        rotate_bytes: 400,
        ..Options::default()
    };
    let mut journal = open_with(&disk, options).expect("opens").journal;
    assert!(!journal.is_long(0));
    journal.commit(&[Note::Said(1)]).expect("room");
    journal.commit(&[Note::Said(2)]).expect("room");
    assert!(journal.is_long(0));
    journal.replace(&Note::All(vec![7; 1000])).expect("room");
    let mut commits = 0;
    while !journal.is_long(2500) {
        journal.commit(&[Note::Said(3)]).expect("room");
        commits += 1;
    }
    assert!(
        commits > 5,
        "as many bytes of commits as of snapshot, but {commits} were enough"
    );
}

#[test]
fn the_file_becomes_small_again_once_most_of_a_large_snapshot_has_ended() {
    let disk = FakeDisk::default();
    let options = Options {
        rotate_bytes: 400,
        ..Options::default()
    };
    let mut journal = open_with(&disk, options).expect("opens").journal;
    journal.replace(&Note::All(vec![7; 5000])).expect("room");
    // Escapes make it longer in the file than it says, so the first answer is what later ones are held against.
    assert!(!journal.is_long(2_000), "all of it is still needed");
    journal.commit(&[Note::Said(1)]).expect("room");
    assert!(!journal.is_long(1_500), "most of it is");
    assert!(journal.is_long(1_000), "half of it has ended");
    journal.replace(&Note::All(vec![7; 100])).expect("room");
    assert!(!journal.is_long(900));
    assert!(!journal.is_long(0), "a small one is not worth the work");
}

/// One life: opens, says `5 * life + 1..=5`, one batch each, and is asked to shorten the file all the time. Gives what
/// was let go: what the world has been told.
fn live(disk: &FakeDisk, life: u64, known: &mut Vec<u64>) -> Result<(), String> {
    let options = Options {
        rotate_bytes: 300,
        ..Options::default()
    };
    let opened = open_with(disk, options).map_err(|e| e.to_string())?;
    if let Some(lost) = opened.recovery.degraded() {
        panic!("no crash damages a journal: {lost}");
    }
    let (mut diary, mut journal) = (Diary(told(&opened.records)), opened.journal);
    let in_doubt = diary
        .0
        .strip_prefix(&known[..])
        .expect("all that was let go is known, in order");
    assert!(
        in_doubt.len() <= 1,
        "at most the batch that was in flight: {in_doubt:?}"
    );
    known.clone_from(&diary.0);
    let mut out = Out::default();
    for n in 1..=5 {
        diary.step(Now::default(), 5 * life + n, &mut out);
        let mut tries = 0;
        while let Err(CommitError(why)) = persist(&diary, &mut journal, &mut out) {
            tries += 1;
            if tries > 2 {
                return Err(why);
            }
        }
        known.append(&mut out.effects);
    }
    Ok(())
}

#[test]
fn whatever_fails_at_whatever_moment_nothing_let_go_is_ever_lost() {
    let mut points = 0;
    for fault in [
        Fault::Full,
        Fault::Refused,
        Fault::DoneButFailed,
        Fault::DoneButStuck,
        Fault::Gone,
    ] {
        for how in [Crash::Kill, Crash::Power, Crash::Torn] {
            for at in 0.. {
                let (disk, mut known) = (FakeDisk::default(), Vec::new());
                live(&disk, 0, &mut known).expect("a healthy disk");
                disk.crash(how);
                let before = disk.asked();
                disk.fail(at, fault);
                let _ = live(&disk, 1, &mut known);
                let reached = disk.asked() - before > at;
                disk.crash(how);
                live(&disk, 2, &mut known).expect("a healthy disk");
                disk.crash(how);
                live(&disk, 3, &mut known).expect("a healthy disk");
                assert_eq!(disk.names().len(), 1, "{:?}", disk.names());
                points += 1;
                if !reached {
                    break;
                }
            }
        }
    }
    assert!(
        points > 200,
        "the faults must reach every step, but only {points} were tried"
    );
}
