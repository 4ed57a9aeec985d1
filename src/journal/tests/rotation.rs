//! A new file takes the place of an old one, and something comes between.

use super::*;
use crate::journal::fake_disk::{Crash, Fault};
use crate::machine::Log;

#[test]
fn a_rotation_interrupted_at_any_step_leaves_the_old_history_or_the_new() {
    for how in [Crash::Kill, Crash::Power, Crash::Torn] {
        for step in 0.. {
            let disk = FakeDisk::default();
            let mut journal = open(&disk).journal;
            for n in 1..=3 {
                journal.commit(&[Note::Said(n)]).expect("room");
            }
            let before = disk.asked();
            disk.fail(step, Fault::Gone);
            let done = journal.replace(&Note::All(vec![1, 2, 3]));
            let steps = disk.asked() - before;
            disk.crash(how);
            drop(journal);
            let opened = open(&disk);
            assert_eq!(told(&opened.records), [1, 2, 3], "step {step}, {how:?}");
            assert_eq!(opened.recovery.degraded(), None, "step {step}, {how:?}");
            assert_eq!(disk.names().len(), 1, "step {step}, {how:?}");
            if step >= steps {
                done.expect("nothing came between");
                assert_eq!(steps, 6, "create, append, sync, rename, sync_dir, remove");
                break;
            }
        }
    }
}

#[test]
fn a_rotation_that_fails_before_the_new_file_has_its_name_leaves_the_old_one_in_use() {
    for step in 0..3 {
        let disk = FakeDisk::default();
        let mut journal = open(&disk).journal;
        journal.commit(&[Note::Said(1)]).expect("room");
        disk.fail(step, Fault::Full);
        journal
            .replace(&Note::All(vec![1]))
            .expect_err("no room for two");
        assert_eq!(disk.names(), ["journal.1"], "nothing is left in the way");
        assert!(!journal.needs_replacement());
        journal
            .commit(&[Note::Said(2)])
            .expect("it takes commits as before");
        assert_eq!(told(&open(&disk).records), [1, 2]);
    }
}

#[test]
fn an_old_file_that_cannot_be_removed_is_removed_by_the_next_rotation() {
    let disk = FakeDisk::default();
    let mut journal = open(&disk).journal;
    disk.fail(5, Fault::Refused);
    journal
        .replace(&Note::All(vec![1]))
        .expect("the new file stands");
    assert_eq!(disk.names(), ["journal.1", "journal.2"]);
    journal.replace(&Note::All(vec![1, 2])).expect("room");
    assert_eq!(disk.names(), ["journal.3"]);
}
