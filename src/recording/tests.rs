//! Recordings as their readers find them: whole, in order, within their bound, and with every gap marked.

use std::fs;
use std::path::Path;

use super::folder;
use super::frame::{OnTape, TapeFrame, TapeHead};
use super::writer::TapeWriter;
use super::{BYTES_LEAST, FOLDER, RecordSettings, Recorder, TapeReader, recorded};
use crate::domain::RecordForm;
use crate::ids::AgentName;
use crate::msg::Size;
use crate::sys::disk::tests::Scratch;
use crate::time::Wall;

const SIZE: Size = Size { rows: 24, cols: 80 };

fn ada() -> AgentName {
    AgentName::new("ada")
}

fn start(dir: &Path, form: RecordForm) -> Recorder {
    let bytes = BYTES_LEAST;
    Recorder::start(dir.to_owned(), RecordSettings { form, bytes }).expect("a thread")
}

fn read(dir: &Path, agent: &AgentName) -> Vec<OnTape> {
    let Some(mut reader) = TapeReader::open(dir, agent) else {
        return Vec::new();
    };
    std::iter::from_fn(|| {
        reader
            .read_next()
            .expect("readable")
            .map(|frame| frame.what)
    })
    .collect()
}

/// All output in one, and every other mark as a word.
fn told(dir: &Path) -> (Vec<u8>, Vec<String>) {
    let (mut output, mut marks) = (Vec::new(), Vec::new());
    for what in read(dir, &ada()) {
        match what {
            OnTape::Output(bytes) => output.extend(bytes),
            OnTape::GoesOn(_) => {}
            OnTape::Begun(head) => marks.push(format!("begun {}", head.form)),
            OnTape::Resized(size) => marks.push(format!("{}x{}", size.cols, size.rows)),
            OnTape::Ended(how) => marks.push(how),
            OnTape::Lost(bytes, _) => marks.push(format!("lost {bytes}")),
        }
    }
    (output, marks)
}

fn weight(dir: &Path) -> u64 {
    recorded(dir).iter().map(|recorded| recorded.bytes).sum()
}

#[test]
fn lives_of_a_name_stand_one_behind_the_other_over_a_restart_of_the_broker() {
    let dir = Scratch::new();
    for life in 1..=2_u64 {
        let recorder = start(dir.path(), RecordForm::Raw);
        let tape = recorder.tape(&ada(), None, true, SIZE).expect("recorded");
        tape.begun(Wall(life * 1000));
        tape.output(Wall(life * 1000 + 1), b"one ");
        tape.output(Wall(life * 1000 + 2), b"\x1b[1mtwo");
        tape.resized(Wall(life * 1000 + 3), Size { rows: 5, cols: 9 });
        tape.output(Wall(life * 1000 + 4), &[0xff, 0]);
        tape.ended(Wall(life * 1000 + 5), "exit code 0".into());
        drop(tape);
        recorder.finish();
    }
    let (output, marks) = told(dir.path());
    assert_eq!(output, b"one \x1b[1mtwo\xff\0".repeat(2));
    assert_eq!(marks, ["begun raw", "9x5", "exit code 0"].repeat(2));
}

#[test]
fn a_recording_stays_within_its_bound_and_keeps_what_came_last() {
    let dir = Scratch::new();
    let recorder = start(dir.path(), RecordForm::Raw);
    let tape = recorder.tape(&ada(), None, true, SIZE).expect("recorded");
    tape.begun(Wall(1));
    let mut all = Vec::new();
    for n in 0..3000_u64 {
        let line = format!("{n:0>1000}\n");
        tape.output(Wall(n * 20), line.as_bytes());
        all.extend_from_slice(line.as_bytes());
    }
    drop(tape);
    recorder.finish();
    assert!(weight(dir.path()) <= BYTES_LEAST, "{}", weight(dir.path()));
    let (output, _) = told(dir.path());
    assert!(output.len() as u64 > BYTES_LEAST / 2, "{}", output.len());
    assert!(all.ends_with(&output), "nothing missing, nothing twice");
    let mut reader = TapeReader::open(dir.path(), &ada()).expect("there");
    let first = reader.read_next().expect("readable").expect("a frame");
    assert!(matches!(first.what, OnTape::GoesOn(head) if head.agent == ada()));
    assert!(!reader.is_from_the_first());
}

#[test]
fn what_a_killed_broker_did_not_write_whole_is_cut_away_by_the_next() {
    let dir = Scratch::new();
    let write = |word: &[u8]| {
        let recorder = start(dir.path(), RecordForm::Raw);
        let tape = recorder.tape(&ada(), None, true, SIZE).expect("recorded");
        tape.begun(Wall(1));
        tape.output(Wall(2), word);
        drop(tape);
        recorder.finish();
    };
    write(b"first");
    let path = folder::file(&folder::of(&dir.path().join(FOLDER), &ada()), 1);
    let bytes = fs::read(&path).expect("a file");
    fs::write(&path, &bytes[..bytes.len() - 3]).expect("room");
    assert_eq!(told(dir.path()).0, b"");
    write(b"second");
    let (output, marks) = told(dir.path());
    assert_eq!(output, b"second");
    assert_eq!(marks, ["begun raw", "begun raw"], "without an end between");
}

#[test]
fn a_reader_that_waits_gets_what_is_added_and_nothing_twice() {
    let dir = Scratch::new();
    let head = head("ada");
    let mut writer = TapeWriter::new(&dir.path().join(FOLDER), head);
    let mut reader = None;
    let mut output = Vec::new();
    for n in 0..2000_u64 {
        let mut frames = Vec::new();
        let what = OnTape::Output(vec![b'a' + (n % 26) as u8; 100]);
        let at = Wall(n);
        TapeFrame { at, what }.encode(&mut frames);
        writer.write(at, &frames, 2 * BYTES_LEAST).expect("room");
        let reader = reader
            .get_or_insert_with(|| TapeReader::open(dir.path(), &ada()).expect("it is there"));
        while let Some(frame) = reader.read_next().expect("readable") {
            if let OnTape::Output(bytes) = frame.what {
                assert_eq!(frame.at, at);
                output.extend(bytes);
            }
        }
    }
    assert_eq!(output.len(), 200_000);
}

#[test]
fn a_gap_stands_where_it_was_and_says_why() {
    let dir = Scratch::new();
    let mut writer = TapeWriter::new(&dir.path().join(FOLDER), head("ada"));
    let frames = |whats: &[OnTape]| {
        let mut frames = Vec::new();
        for what in whats {
            let what = what.clone();
            TapeFrame { at: Wall(5), what }.encode(&mut frames);
        }
        frames
    };
    let out = |text: &str| OnTape::Output(text.into());
    let ended = OnTape::Ended("exit code 1".into());
    writer
        .write(Wall(1), &frames(&[out("before")]), BYTES_LEAST)
        .expect("room");
    writer.miss(Wall(2), &frames(&[out("123"), out("45")]), "full");
    writer.miss(
        Wall(3),
        &frames(&[out("6"), ended.clone(), out("78")]),
        "full",
    );
    assert!(writer.is_waiting());
    writer
        .write(Wall(4), &frames(&[out("after")]), BYTES_LEAST)
        .expect("room");
    assert!(!writer.is_waiting());
    let lost = |bytes| OnTape::Lost(bytes, "full".into());
    assert_eq!(
        read(dir.path(), &ada())[1..],
        [out("before"), lost(6), ended, lost(2), out("after")]
    );
}

#[test]
fn lines_are_kept_without_escape_sequences_where_that_is_asked_for() {
    let dir = Scratch::new();
    let recorder = start(dir.path(), RecordForm::Off);
    assert!(recorder.tape(&ada(), None, true, SIZE).is_none());
    let form = Some(RecordForm::Plain);
    let tape = recorder.tape(&ada(), form, true, SIZE).expect("recorded");
    tape.begun(Wall(1));
    tape.output(Wall(2), b"\x1b[31mred\x1b[0m\r\nhal");
    tape.output(Wall(50), b"f\r\nrest");
    tape.ended(Wall(60), "exit code 0".into());
    drop(tape);
    recorder.finish();
    let (output, marks) = told(dir.path());
    assert_eq!(output, b"red\nhalf\nrest\n");
    assert_eq!(marks, ["begun plain", "exit code 0"]);
}

#[test]
fn names_that_look_alike_to_a_file_system_have_folders_of_their_own() {
    let long = "x".repeat(128);
    let names = [
        "ada",
        "Ada",
        "a.da",
        "..",
        "%41da",
        "ädа",
        &long,
        &"Ü".repeat(64),
        &"ü".repeat(64),
    ];
    let of = |name: &&str| folder::of(Path::new("r"), &AgentName::new(*name));
    let folders: std::collections::BTreeSet<_> = names.iter().map(of).collect();
    assert_eq!(folders.len(), names.len());
    for folder in folders {
        let name = folder.file_name().expect("a name").len();
        assert!(
            name < 250 && folder.parent() == Some(Path::new("r")),
            "{folder:?}"
        );
    }
}

fn head(name: &str) -> TapeHead {
    TapeHead {
        agent: AgentName::new(name),
        form: "raw".into(),
        terminal: true,
        size: SIZE,
    }
}

#[test]
fn recordings_of_those_who_are_gone_age_and_those_of_others_stay() {
    let dir = Scratch::new();
    let recordings = dir.path().join(FOLDER);
    for name in ["ada", "bob"] {
        let mut frames = Vec::new();
        let what = OnTape::Output(b"word".to_vec());
        TapeFrame { at: Wall(1), what }.encode(&mut frames);
        let mut writer = TapeWriter::new(&recordings, head(name));
        writer.write(Wall(1), &frames, BYTES_LEAST).expect("room");
    }
    let names = || {
        let mut names: Vec<String> = recorded(dir.path())
            .into_iter()
            .map(|r| r.agent.to_string())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["ada", "bob"]);
    let (here, now) = (
        folder::of(&recordings, &ada()),
        crate::sys::clock::now().wall,
    );
    folder::sweep(&recordings, std::slice::from_ref(&here), now);
    assert_eq!(names(), ["ada", "bob"]);
    let later = Wall(now.0 + 8 * 24 * 3600 * 1000);
    folder::sweep(&recordings, &[here], later);
    assert_eq!(names(), ["ada"]);
}

#[test]
fn a_frame_cut_anywhere_is_none() {
    let mut bytes = Vec::new();
    let what = OnTape::Lost(7, "full".into());
    let frame = TapeFrame { at: Wall(9), what };
    frame.encode(&mut bytes);
    for cut in 0..bytes.len() {
        assert_eq!(TapeFrame::decode(&bytes[..cut]), None, "cut at {cut}");
    }
    assert_eq!(TapeFrame::decode(&bytes), Some((frame, bytes.len())));
    assert_eq!(TapeFrame::decode(&[0; 64]), None, "a hole in the file");
}
