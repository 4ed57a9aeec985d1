//! A look from outside, beside whoever writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::machine::persist;
use crate::sys::disk::tests::Scratch;

/// The verdict after reading these one after the other, as far as it needs to, and how many it read.
fn settled(mut reads: Vec<Option<&[u8]>>) -> (Option<JournalVerdict>, usize) {
    reads.reverse();
    let all = reads.len();
    let look = inspect::settle(|| Ok(reads.pop().flatten().map(Look::at))).expect("no error");
    (look.map(|look| look.verdict()), all - reads.len())
}

#[test]
fn damage_is_believed_when_it_is_seen_twice_and_a_file_that_goes_is_looked_for_again() {
    let (whole, ends) = three_commits();
    let mut rotten = whole.clone();
    rotten[ends[2] - 3] ^= 1;
    let mut other = whole.clone();
    other[ends[1] - 3] ^= 1;
    let damaged = Some(JournalVerdict::Damaged {
        offset: ends[1] as u64,
        missing: Some(1),
    });
    let (w, r, o) = (Some(&whole[..]), Some(&rotten[..]), Some(&other[..]));
    assert_eq!(settled(vec![w]), (Some(JournalVerdict::Whole), 1));
    assert_eq!(
        settled(vec![None, None, w]),
        (Some(JournalVerdict::Whole), 3)
    );
    assert_eq!(settled(vec![r, w]), (Some(JournalVerdict::Whole), 2));
    assert_eq!(settled(vec![r, r]), (damaged, 2));
    assert_eq!(settled(vec![o, r, r]), (damaged, 3));
    assert_eq!(settled(vec![None; 10]), (None, 10), "not for ever");
}

/// Ends the other thread's loop, also when this one fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_look_at_a_journal_that_is_written_and_rotated_all_the_time_sees_a_whole_one() {
    const COMMITS: u64 = 200;
    let scratch = Scratch::new();
    let options = Options {
        rotate_bytes: 1,
        ..Options::default()
    };
    let opened = Journal::open(scratch.path(), "test", options).expect("opens");
    let (over, said) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _over = Over(&over);
            let (mut journal, mut diary) = (opened.journal, Diary::default());
            let mut out = Out::default();
            while !over.load(Ordering::Acquire) {
                let next = diary.0.len() as u64;
                diary.step(Now::default(), next, &mut out);
                persist(&diary, &mut journal, &mut out).expect("room");
                said.fetch_add(1, Ordering::Release);
            }
        });
        let _over = Over(&over);
        while said.load(Ordering::Acquire) < COMMITS && !over.load(Ordering::Acquire) {
            let look = Look::take(scratch.path(), "test").expect("readable");
            let look = look.expect("a journal");
            assert!(
                !matches!(look.verdict(), JournalVerdict::Damaged { .. }),
                "{:?}",
                look.verdict()
            );
            let found = told(&look.records().expect("ours"));
            assert!(found.iter().copied().eq(0..found.len() as u64), "{found:?}");
        }
    });
    assert!(said.into_inner() >= COMMITS, "the writer failed");
}
