//! Operations fail again and again, from any of their calls on, until the disk is repaired: nothing is let go that is not
//! on disk, and the same journal goes on by itself.

use super::*;
use crate::journal::fake_disk::{Broken, Crash, Outage};
use crate::machine::{Log, persist};

/// Each operation alone; a cut that fails after a write that failed; and all of them.
const WHAT: [&[&str]; 8] = [
    &["create"],
    &["append"],
    &["sync"],
    &["rename"],
    &["remove"],
    &["sync_dir"],
    &["append", "truncate"],
    &[],
];
const HOW: [Broken; 5] = [
    Broken::Full,
    Broken::Short,
    Broken::Io,
    Broken::DoneButFailed,
    Broken::ReadOnly,
];

const ALL: [Crash; 3] = [Crash::Kill, Crash::Power, Crash::Torn];

fn small() -> Options {
    Options {
        rotate_bytes: 300,
        ..Options::default()
    }
}

/// If the machine went down now, in one of these ways: all that was let go would be there, and nothing else than was said.
fn is_safe(disk: &FakeDisk, ways: &[Crash], let_go: &[u64], said: &[u64], when: &str) {
    for how in ways {
        let after = disk.fork();
        after.crash(*how);
        let opened = open(&after);
        assert_eq!(opened.recovery.degraded(), None, "{when}, {how:?}");
        let found = told(&opened.records);
        assert!(
            found.starts_with(let_go) && said.starts_with(&found),
            "{when}, {how:?}: {let_go:?} was let go, {found:?} is there"
        );
    }
}

/// Says eight things through one outage, which ends after three tries in vain. Whether the outage was met.
fn live(outage: Outage) -> bool {
    let disk = FakeDisk::default();
    let mut journal = open_with(&disk, small()).expect("healthy").journal;
    let (mut diary, mut out, mut let_go) = (Diary::default(), Out::default(), Vec::new());
    disk.outage(outage);
    let mut met = false;
    for n in 1..=8 {
        let when = format!("{outage:?} at {n}");
        diary.step(Now::default(), n, &mut out);
        for tries in 1.. {
            let done = persist(&diary, &mut journal, &mut out);
            met |= disk.met();
            if done.is_ok() {
                break;
            }
            is_safe(&disk, &ALL, &let_go, &diary.0, &when);
            assert!(tries <= 3, "{when}: repaired, and it does not go on");
            if tries == 3 {
                disk.repair();
            }
        }
        let_go.append(&mut out.effects);
        // After a success a power cut takes most away.
        is_safe(&disk, &[Crash::Power], &let_go, &diary.0, &when);
    }
    disk.repair();
    let snapshot = diary.snapshot().expect("always");
    journal.replace(&snapshot).expect("a healthy disk");
    assert_eq!(disk.names().len(), 1, "{outage:?}: {:?}", disk.names());
    is_safe(&disk, &ALL, &let_go, &diary.0, "at the end");
    met
}

/// Lets the outage begin at each call in turn, until it comes too late to be met. How many were met.
fn at_each_call(mut live: impl FnMut(Outage) -> bool) -> usize {
    let mut met = 0;
    for what in WHAT {
        for how in HOW {
            let first = met;
            for after in 0.. {
                if !live(Outage { what, after, how }) {
                    break;
                }
                met += 1;
            }
            assert!(met > first, "{what:?} was never asked");
        }
    }
    met
}

#[test]
fn whatever_fails_for_a_while_nothing_is_let_go_too_early_and_the_journal_goes_on_by_itself() {
    let met = at_each_call(live);
    assert!(met > 300, "only {met} calls were met");
}

#[test]
fn a_look_that_fails_says_nothing_about_the_file_and_ends_no_writing() {
    let disk = FakeDisk::default();
    let mut journal = open_with(&disk, small()).expect("healthy").journal;
    let (mut diary, mut out) = (Diary::default(), Out::default());
    disk.outage(Outage {
        what: &["in_place"],
        after: 0,
        how: Broken::Io,
    });
    for n in 1..=8 {
        diary.step(Now::default(), n, &mut out);
        persist(&diary, &mut journal, &mut out).expect("all that counts goes well");
        journal.look();
        assert!(!journal.needs_replacement());
        is_safe(&disk, &ALL, &diary.0, &diary.0, "while looks fail");
    }
    assert!(disk.met());
    let all = diary.snapshot().expect("a snapshot");
    journal
        .replace(&all)
        .expect("the file is not somebody else's");
    is_safe(&disk, &ALL, &diary.0, &diary.0, "after a rotation");
}

#[test]
fn a_start_during_an_outage_loses_nothing_and_the_next_one_has_all() {
    let met = at_each_call(|outage| {
        let disk = FakeDisk::default();
        disk.put("journal.3", &three_commits().0);
        disk.outage(outage);
        let opened = open_with(&disk, small());
        let met = disk.met();
        let (mut diary, mut out) = (Diary(vec![1, 2, 3]), Out::default());
        match opened {
            Err(error) => assert!(matches!(error, OpenError::Disk(_)), "{error}"),
            Ok(mut opened) => {
                assert_eq!(told(&opened.records), [1, 2, 3]);
                diary.step(Now::default(), 4, &mut out);
                let _ = persist(&diary, &mut opened.journal, &mut out);
                is_safe(
                    &disk,
                    &ALL,
                    &[1, 2, 3],
                    &[1, 2, 3, 4],
                    &format!("{outage:?}"),
                );
                disk.repair();
                persist(&diary, &mut opened.journal, &mut out).expect("repaired");
            }
        }
        is_safe(&disk, &ALL, &diary.0, &diary.0, &format!("{outage:?}"));
        // What cannot be cut at a start is never asked: opening writes a file of its own.
        met || outage.what.is_empty() && outage.after == 0
    });
    assert!(met > 30, "only {met} calls were met");
}

#[test]
fn a_folder_that_can_only_be_read_is_refused_with_the_reason_and_left_as_it_is() {
    let disk = FakeDisk::default();
    let bytes = three_commits().0;
    disk.put("journal.1", &bytes);
    disk.outage(Outage {
        what: &[],
        after: 0,
        how: Broken::ReadOnly,
    });
    let error = open_with(&disk, small()).expect_err("nothing could be kept");
    assert!(error.to_string().contains("Read-only"), "{error}");
    assert_eq!(
        (disk.names(), disk.get("journal.1")),
        (vec!["journal.1".into()], Some(bytes))
    );
}

#[test]
fn a_file_system_that_becomes_read_only_takes_nothing_and_goes_on_when_it_is_writable_again() {
    let disk = FakeDisk::default();
    let mut journal = open(&disk).journal;
    journal.commit(&[Note::Said(1)]).expect("room");
    disk.outage(Outage {
        what: &[],
        after: 0,
        how: Broken::ReadOnly,
    });
    for _ in 0..3 {
        let why = journal.commit(&[Note::Said(2)]).expect_err("read-only");
        assert!(why.0.contains("Read-only"), "{why}");
    }
    disk.repair();
    journal.commit(&[Note::Said(2)]).expect("writable again");
    assert_eq!(told(&open(&disk).records), [1, 2]);
}
