//! What a start makes of the bytes it finds.

use super::*;
use crate::journal::frame;
use crate::machine::Log;
use crate::sys::disk::tests::Scratch;
use crate::sys::disk::{Disk, RealDisk};
use crate::time::Wall;

#[test]
fn what_was_committed_is_there_after_every_start() {
    let dir = Scratch::new();
    let open = || Journal::<Note>::open(dir.path(), "test", Options::default()).expect("opens");
    let mut first = open();
    assert_eq!((first.records.len(), first.recovery), (0, Recovery::Fresh));
    first
        .journal
        .commit(&[Note::Said(1), Note::Said(2)])
        .expect("room");
    first.journal.commit(&[Note::Said(3)]).expect("room");
    drop(first.journal);
    let mut second = open();
    assert_eq!(told(&second.records), [1, 2, 3]);
    assert_eq!(second.recovery, Recovery::Clean { records: 3 });
    second.journal.commit(&[Note::Said(4)]).expect("room");
    second
        .journal
        .replace(&Note::All(vec![1, 2, 3, 4]))
        .expect("room");
    second.journal.commit(&[Note::Said(5)]).expect("room");
    drop(second.journal);
    assert_eq!(told(&open().records), [1, 2, 3, 4, 5]);
    let names = RealDisk.list(dir.path()).expect("readable");
    assert_eq!(names, ["journal.4"], "one file, and nothing beside it");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join("journal.4"))
            .expect("there")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

/// The times that a look sees, in the order of the records.
fn dates(dir: &Scratch) -> Vec<Option<u64>> {
    let look = Look::take(dir.path(), "test").expect("readable");
    let look = look.expect("a journal");
    let entries = look.entries();
    entries.iter().map(|e| e.at.map(|at| at.0)).collect()
}

#[test]
fn records_keep_their_times_over_every_start_and_those_without_stay_without() {
    let dir = Scratch::new();
    let open = || Journal::<Note>::open(dir.path(), "test", Options::default()).expect("opens");
    let mut first = open();
    first.journal.commit(&[Note::Said(1)]).expect("room");
    first.journal.date(Wall(1000));
    first
        .journal
        .commit(&[Note::Said(2), Note::Said(3)])
        .expect("room");
    drop(first.journal);
    let mut second = open();
    second.journal.date(Wall(2000));
    second.journal.commit(&[Note::Said(4)]).expect("room");
    assert_eq!(dates(&dir), [None, Some(1000), Some(1000), Some(2000)]);
    assert_eq!(told(&open().records), [1, 2, 3, 4]);
}

#[test]
fn a_snapshot_says_when_it_was_taken() {
    let dir = Scratch::new();
    let opened = Journal::<Note>::open(dir.path(), "test", Options::default());
    let mut journal = opened.expect("opens").journal;
    journal.date(Wall(3000));
    journal.replace(&Note::All(vec![1])).expect("room");
    assert_eq!(dates(&dir), [Some(3000)]);
}

#[test]
fn a_file_cut_at_any_byte_gives_exactly_the_commits_before_it() {
    let (bytes, ends) = three_commits();
    for cut in 0..bytes.len() {
        let disk = FakeDisk::default();
        disk.put("journal.1", &bytes[..cut]);
        let opened = open(&disk);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let expected: Vec<u64> = (1..4).take(whole.saturating_sub(2)).collect();
        assert_eq!(told(&opened.records), expected, "cut at {cut}");
        match opened.recovery {
            Recovery::Clean { .. } => assert!(ends[1..].contains(&cut)),
            Recovery::TailCut { bytes, .. } => assert_eq!(bytes, (cut - ends[whole - 1]) as u64),
            // No crash can leave a file without its first frame, so that is not passed over in silence.
            Recovery::Damaged(_) => assert!(cut < ends[1]),
            Recovery::Fresh => panic!("cut at {cut}: there was a file"),
        }
        drop(opened.journal);
        assert_eq!(
            told(&open(&disk).records),
            expected,
            "again, after a cut at {cut}"
        );
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let (mut bytes, ends) = three_commits();
    for position in 0..bytes.len() {
        for bit in 0..8 {
            bytes[position] ^= 1 << bit;
            let disk = FakeDisk::default();
            disk.put("journal.1", &bytes);
            let lost = ends.iter().filter(|end| **end <= position).count();
            match open_with(&disk, Options::default()) {
                Err(error) => {
                    assert_eq!(lost, 0, "only the first line is refused: {error}");
                    assert!(error.to_string().contains("/j/journal.1"), "{error}");
                    assert_eq!(
                        disk.get("journal.1").as_ref(),
                        Some(&bytes),
                        "kept as it was"
                    );
                }
                Ok(opened) => {
                    let left: Vec<u64> = (1..4).filter(|n| *n as usize + 1 != lost).collect();
                    assert_eq!(told(&opened.records), left, "byte {position} bit {bit}");
                    // Rot in the very last commit looks like a torn write.
                    assert_eq!(opened.recovery.degraded().is_some(), lost != 4);
                    let kept = disk.get("journal.1.damaged-1");
                    assert_eq!(kept.is_some(), lost != 4);
                    assert!(kept.is_none_or(|kept| kept == bytes));
                }
            }
            bytes[position] ^= 1 << bit;
        }
    }
}

#[test]
fn damage_in_the_middle_is_named_kept_and_survived_unless_strictness_was_asked_for() {
    let (mut bytes, ends) = three_commits();
    bytes[ends[2] - 3] ^= 1;
    let disk = FakeDisk::default();
    disk.put("journal.7", &bytes);
    let error = strict(&disk).expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("/j/journal.7 is damaged from byte"),
        "{error}"
    );
    assert_eq!(
        (disk.names(), disk.get("journal.7")),
        (vec!["journal.7".into()], Some(bytes.clone()))
    );
    let mut opened = open(&disk);
    assert_eq!(told(&opened.records), [2, 3]);
    let text = opened.recovery.degraded().expect("said");
    assert_eq!(
        text,
        format!(
            "/j/journal.7 is damaged and is kept as journal.7.damaged-1, from byte {}; 3 commits were saved, \
             1 are missing: what they recorded may be lost or happen again",
            ends[1]
        )
    );
    opened.journal.commit(&[Note::Said(4)]).expect("room");
    drop(opened.journal);
    let again = strict(&disk).expect("the new file is whole");
    assert_eq!(
        (told(&again.records), again.recovery),
        (vec![2, 3, 4], Recovery::Clean { records: 3 })
    );
    assert_eq!(disk.get("journal.7.damaged-1"), Some(bytes));
}

#[test]
fn a_journal_of_another_version_or_kind_or_none_at_all_is_refused_by_name_and_left_alone() {
    for (text, says) in [
        (
            "relay-journal 2 test\n{}\n",
            "/j/journal.1 is a journal of version 2; this program knows 1",
        ),
        (
            "relay-journal 1 engine\n",
            "/j/journal.1 is a journal of kind \"engine\", not \"test\"",
        ),
        (
            "SQLite format 3\0",
            "/j/journal.1 is not a readable journal",
        ),
    ] {
        let disk = FakeDisk::default();
        disk.put("journal.1", text.as_bytes());
        let error = open_with(&disk, Options::default()).expect_err("refused");
        assert!(error.to_string().starts_with(says), "{error}");
        assert_eq!(
            (disk.names(), disk.asked()),
            (vec!["journal.1".into()], 0),
            "nothing was done"
        );
    }
}

#[test]
fn a_record_of_a_later_program_is_refused_and_left_alone() {
    let (frame, _) =
        frame::encode(FramePosition::start(1), frame::undated(&["tomorrow's"])).expect("text");
    let disk = FakeDisk::default();
    disk.put(
        "journal.1",
        &[frame::first_line("test").into_bytes(), frame].concat(),
    );
    let error = open_with(&disk, Options::default()).expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("/j/journal.1 holds a record this program does not understand")
    );
    assert_eq!(disk.asked(), 0);
}

#[test]
fn of_two_files_the_newer_counts_if_anything_in_it_can_be_read() {
    let (old, ends) = three_commits();
    let new = {
        let (frame, _) = frame::encode(
            FramePosition::start(1),
            frame::undated(&[Note::All(vec![8, 9])]),
        )
        .expect("text");
        [frame::first_line("test").into_bytes(), frame].concat()
    };
    for cut in 0..=new.len() {
        let disk = FakeDisk::default();
        disk.put("journal.1", &old);
        disk.put("journal.2", &new[..cut]);
        let opened = open(&disk);
        let expected: &[u64] = if cut == new.len() {
            &[8, 9]
        } else {
            &[1, 2, 3]
        };
        assert_eq!(told(&opened.records), expected, "cut at {cut}");
        // One without a single byte is passed over.
        let damaged = (1..new.len()).contains(&cut);
        assert_eq!(
            opened.recovery.degraded().is_some(),
            damaged,
            "cut at {cut}"
        );
    }
    let disk = FakeDisk::default();
    disk.put("journal.1", &old[..ends[3] + 5]);
    disk.put("journal.2", &new);
    disk.put("journal.new", b"half");
    assert_eq!(open(&disk).recovery, Recovery::Clean { records: 1 });
    assert_eq!(disk.names(), ["journal.3"]);
}
