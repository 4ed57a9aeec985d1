//! The journal against a disk that tears, fills up, forgets and dies.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fake_disk::{Crash, FakeDisk, Fault};
use super::frame::{self, Place};
use super::*;
use crate::machine::{Log, Machine, Out, Trouble, persist};
use crate::sys::disk::tests::Scratch;
use crate::sys::disk::{Disk, RealDisk};
use crate::time::{Mono, Now};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Note {
    Said(u64),
    All(Vec<u64>),
}

/// Remembers every number it is told.
#[derive(Debug, Default, PartialEq)]
struct Diary(Vec<u64>);

impl Machine for Diary {
    type Event = u64;
    type Record = Note;
    type Effect = u64;
    fn step(&mut self, _: Now, event: u64, out: &mut Out<Note, u64>) {
        self.replay(&Note::Said(event));
        out.records.push(Note::Said(event));
        out.effects.push(event);
    }
    fn replay(&mut self, record: &Note) {
        match record {
            Note::Said(n) => self.0.push(*n),
            Note::All(all) => self.0.clone_from(all),
        }
    }
    fn snapshot(&self) -> Option<Note> {
        Some(Note::All(self.0.clone()))
    }
    fn deadline(&self) -> Option<Mono> {
        None
    }
}

fn told(records: &[Note]) -> Vec<u64> {
    let mut diary = Diary::default();
    records.iter().for_each(|r| diary.replay(r));
    diary.0
}

fn open_with(disk: &FakeDisk, options: Options) -> Result<Opened<Note, FakeDisk>, OpenError> {
    Journal::open_on(disk.clone(), Path::new("/j"), "test", options)
}

fn open(disk: &FakeDisk) -> Opened<Note, FakeDisk> {
    open_with(disk, Options::default()).expect("the journal opens")
}

fn strict(disk: &FakeDisk) -> Result<Opened<Note, FakeDisk>, OpenError> {
    open_with(
        disk,
        Options {
            strict: true,
            ..Options::default()
        },
    )
}

/// A file with an empty first frame and the numbers 1 to 3 in one commit each, and where its frames end.
fn three_commits() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = frame::first_line("test").into_bytes();
    let (mut place, mut ends) = (Place::start(1), vec![bytes.len()]);
    for n in 0..4 {
        let batch: Vec<Note> = (n > 0).then_some(Note::Said(n)).into_iter().collect();
        let (frame, next) = frame::encode(place, &batch).expect("text");
        bytes.extend(frame);
        ends.push(bytes.len());
        place = next;
    }
    (bytes, ends)
}

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
    let (frame, _) = frame::encode(Place::start(1), &["tomorrow's"]).expect("text");
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
        let (frame, _) = frame::encode(Place::start(1), &[Note::All(vec![8, 9])]).expect("text");
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
        assert_eq!(opened.recovery.degraded().is_some(), cut < new.len());
    }
    let disk = FakeDisk::default();
    disk.put("journal.1", &old[..ends[3] + 5]);
    disk.put("journal.2", &new);
    disk.put("journal.new", b"half");
    assert_eq!(open(&disk).recovery, Recovery::Clean { records: 1 });
    assert_eq!(disk.names(), ["journal.3"]);
}

#[test]
fn a_full_disk_refuses_the_commit_and_takes_it_when_there_is_room() {
    let disk = FakeDisk::default();
    let mut journal = open(&disk).journal;
    journal.commit(&[Note::Said(1)]).expect("room");
    let before = disk.get("journal.1").expect("the current file");
    disk.fail(0, Fault::Full);
    let Trouble(why) = journal.commit(&[Note::Said(2)]).expect_err("full");
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
    assert!(journal.needs_replacement() && journal.is_long());
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
    assert!(!journal.is_long());
    journal.commit(&[Note::Said(1)]).expect("room");
    journal.commit(&[Note::Said(2)]).expect("room");
    assert!(journal.is_long());
    journal.replace(&Note::All(vec![7; 1000])).expect("room");
    let mut commits = 0;
    while !journal.is_long() {
        journal.commit(&[Note::Said(3)]).expect("room");
        commits += 1;
    }
    assert!(
        commits > 5,
        "as many bytes of commits as of snapshot, but {commits} were enough"
    );
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
        while let Err(Trouble(why)) = persist(&diary, &mut journal, &mut out) {
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
