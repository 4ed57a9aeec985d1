//! Journals on file.

use super::*;

fn noted(number: u64, text: &str) -> Entry {
    Entry::Noted {
        number,
        text: text.into(),
    }
}

/// What the journals on file were told, commit by commit.
fn commits() -> Vec<Vec<Entry>> {
    vec![
        vec![noted(1, "the tide is in")],
        vec![
            noted(2, "the gate is open"),
            noted(3, "ein Schiff läuft ein ⚓"),
        ],
        vec![noted(4, "two lines\nof text")],
    ]
}

fn open(dir: &Path, strict: bool) -> Result<(Vec<Entry>, Recovery), OpenError> {
    let options = Options {
        strict,
        ..Options::default()
    };
    Journal::<Entry>::open(dir, "fixture", options).map(|opened| (opened.records, opened.recovery))
}

/// A folder with a copy of a journal on file.
fn copy(name: &str) -> Scratch {
    let dir = Scratch::new();
    let from = fixture(&format!("journal/{name}/journal.1"));
    fs::copy(&from, dir.path().join("journal.1"))
        .unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    dir
}

/// The bytes of a new journal after all [`commits`].
fn written_today() -> Vec<u8> {
    let dir = Scratch::new();
    let mut journal = Journal::<Entry>::open(dir.path(), "fixture", Options::default())
        .expect("a new journal")
        .journal;
    for batch in commits() {
        journal.commit(&batch).expect("room");
    }
    fs::read(dir.path().join("journal.1")).expect("the file")
}

#[test]
fn a_journal_of_version_one_opens_and_is_still_written_the_same() {
    let (records, recovery) = open(copy("v1").path(), true).expect("whole");
    assert_eq!(records, commits().concat());
    assert_eq!(recovery, Recovery::Clean { records: 4 });
    let on_file = fs::read(fixture("journal/v1/journal.1")).expect("on file");
    assert_eq!(
        String::from_utf8_lossy(&written_today()),
        String::from_utf8_lossy(&on_file)
    );
}

#[test]
fn a_torn_journal_opens_with_all_that_was_committed() {
    let (records, recovery) = open(copy("torn").path(), true).expect("a torn tail is no damage");
    assert_eq!(records, commits()[..2].concat());
    assert!(
        matches!(recovery, Recovery::TailCut { records: 3, .. }),
        "{recovery:?}"
    );
    assert_eq!(recovery.degraded(), None);
}

#[test]
fn a_rotten_journal_opens_degraded_and_keeps_the_rotten_file() {
    let dir = copy("rotten");
    let rotten = fs::read(fixture("journal/rotten/journal.1")).expect("on file");
    let error = open(dir.path(), true).expect_err("strict").to_string();
    assert!(error.contains("journal.1 is damaged from byte"), "{error}");
    assert_eq!(
        fs::read(dir.path().join("journal.1")).expect("untouched"),
        rotten
    );
    let (records, recovery) = open(dir.path(), false).expect("goes on");
    assert_eq!(
        records,
        [commits()[0].clone(), commits()[2].clone()].concat()
    );
    let said = recovery.degraded().expect("it says so");
    assert!(
        said.contains("1 are missing") && !said.contains('\n'),
        "{said}"
    );
    assert_eq!(
        fs::read(dir.path().join("journal.1.damaged-1")).expect("kept"),
        rotten
    );
}

/// Writes `fixtures/journal` anew: `cargo test --test tests -- --ignored write_the_journals`. Only for a new version of
/// the format, under a new name: what is on file must go on being read.
#[test]
#[ignore = "writes fixtures"]
fn write_the_journals_on_file() {
    let whole = written_today();
    let put = |name: &str, bytes: &[u8]| {
        let dir = fixture(&format!("journal/{name}"));
        fs::create_dir_all(&dir).expect("room");
        fs::write(dir.join("journal.1"), bytes).expect("room");
    };
    put("v1", &whole);
    put("torn", &whole[..whole.len() - 20]);
    let mut rotten = whole.clone();
    let gate = whole
        .windows(4)
        .position(|w| w == b"gate")
        .expect("it was told");
    rotten[gate] ^= 1;
    put("rotten", &rotten);
}
