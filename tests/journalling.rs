//! A person looks into the journal: what happened, and whether it is whole.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Node, Scratch, run, until};

/// A broker took one message for `ada`, which read it, and stopped. The folder is as it left it.
fn after_one_message(folder: &Path, text: &str) {
    let node = Node::up(folder, &[]);
    node.spawn("ada", &["cat"]);
    let boss = node.engine.register("boss");
    node.engine.dm(&boss, "ada", text);
    until("delivery_verified", || {
        node.events("delivery_verified").pop()
    });
    assert_eq!(node.process.stop(), Some(0));
}

fn journal_dir(folder: &Path) -> PathBuf {
    folder.join(".relay-broker/journal")
}

/// The one file of the journal.
fn file(folder: &Path) -> PathBuf {
    let mut files = fs::read_dir(journal_dir(folder)).expect("a journal");
    files.next().expect("a file").expect("readable").path()
}

/// Everything that a look could change: names, bytes, modes, times of change.
fn everything(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            all.extend(everything(&path));
        } else {
            let facts = path.symlink_metadata().expect("there");
            let bytes = fs::read(&path).unwrap_or_default();
            let changed = (facts.mtime_nsec(), facts.ctime_nsec());
            all.insert(path, (bytes, facts.mode(), changed.0, changed.1));
        }
    }
    all
}

fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect()
}

/// The verdict as `check --json` gives it, with the exit code.
fn check(folder: &Path) -> (Option<i32>, Value) {
    let (code, out, _) = run(folder, &["journal", "check", "--json"]);
    (code, objects(&out).pop().expect("an object"))
}

#[test]
fn a_person_reads_what_became_of_a_message_newest_first_without_a_broker() {
    let folder = Scratch::new();
    let body = format!("look {} end", "here ".repeat(60));
    after_one_message(folder.path(), &format!("\u{1b}[31m{body}"));
    // As a person may have left it: a look does not even tighten this.
    let path = file(folder.path());
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("ours");
    let before = everything(folder.path());

    let (code, table, notes) = run(folder.path(), &["journal", "show"]);
    assert_eq!((code, notes.as_str()), (Some(0), ""));
    assert!(table.starts_with("FILE"), "{table}");
    let row = |word: &str| {
        let mut rows = table.lines();
        rows.position(|row| row.contains(word))
            .unwrap_or_else(|| panic!("no {word} in {table}"))
    };
    assert!(
        row(" settled ") < row(" attempted "),
        "newest first: {table}"
    );
    assert!(row(" attempted ") <= row(" accepted "), "{table}");
    assert!(table.contains("taken for ada from boss"), "{table}");
    assert!(
        table.contains("look here here") && !table.contains(" end"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "nothing acts on the terminal");

    let (code, out, _) = run(folder.path(), &["journal", "show", "--json"]);
    let all = objects(&out);
    assert_eq!((code, all.len()), (Some(0), table.lines().count() - 1));
    let accepted = all.iter().find(|o| o["record"]["t"] == "accepted");
    let accepted = accepted.expect("the message");
    let whole = accepted["record"]["delivery"]["body"].as_str();
    assert!(
        whole.is_some_and(|text| text.ends_with(&body)),
        "{accepted}"
    );
    assert_eq!(accepted["file"], path.to_str().expect("text"));
    assert!(accepted["frame"].is_u64() && accepted["offset"].is_u64());

    let (_, out, _) = run(
        folder.path(),
        &["journal", "show", "--json", "--limit", "2"],
    );
    assert_eq!(objects(&out), all[..2]);
    let (code, _, _) = run(folder.path(), &["journal", "check"]);
    assert_eq!(code, Some(0));
    assert_eq!(everything(folder.path()), before, "only looked at");
}

/// Milliseconds since 1970, as this machine believes.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("small enough")
}

#[test]
fn every_record_and_every_event_says_when_it_was() {
    let folder = Scratch::new();
    let begun = now_ms();
    after_one_message(folder.path(), "when?");
    let over = now_ms();
    let shown = |engine: &[&str]| {
        let args = [&["journal", "show", "--json"], engine].concat();
        objects(&run(folder.path(), &args).1)
    };
    let journal = shown(&[]);
    for record in journal.iter().chain(&shown(&["--engine"])) {
        let at = record["at_ms"].as_u64().unwrap_or_default();
        assert!((begun..=over).contains(&at), "{record}");
        assert!(record["record"]["at_ms"].is_null(), "{record}");
    }
    let (_, table, _) = run(folder.path(), &["journal", "show"]);
    let newest = journal[0]["at_ms"].as_u64().expect("a time");
    let iso = relay_broker::time::Wall(newest).iso();
    assert!(
        table.lines().nth(1).expect("a row").contains(&iso),
        "{table}"
    );

    // The next start writes them anew, and they keep their times.
    let node = Node::up(folder.path(), &[]);
    node.spawn("eve", &["cat"]);
    let told = |records: &[Value]| -> Vec<(Value, Value)> {
        let told = records
            .iter()
            .map(|r| (r["at_ms"].clone(), r["words"].clone()));
        told.collect()
    };
    assert!(told(&shown(&[])).ends_with(&told(&journal)));
    let events = node.get("/api/events/replay?sinceSeq=0");
    for event in events["events"].as_array().expect("events") {
        let at = event["timestamp"].as_u64().unwrap_or_default();
        assert!((over..=now_ms()).contains(&at), "{event}");
    }
}

#[test]
fn a_person_looks_into_the_journal_of_a_running_broker_and_disturbs_nothing() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &["cat"]);
    let says = format!("the broker is running (process {})", node.process.pid());
    for command in ["show", "check"] {
        let (code, out, notes) = run(folder.path(), &["journal", command]);
        assert_eq!(code, Some(0), "{out}{notes}");
        assert!(notes.contains(&says), "{notes}");
    }
    let (_, facts) = check(folder.path());
    assert_eq!(facts["pid"], node.process.pid());
    let (code, _, notes) = run(folder.path(), &["journal", "check", "--engine"]);
    assert_eq!(code, Some(0), "{notes}");
    assert!(notes.contains("the engine is running"), "{notes}");
    let boss = node.engine.register("boss");
    node.engine.dm(&boss, "ada", "still here?");
    until("delivery_verified", || {
        node.events("delivery_verified").pop()
    });
}

#[test]
fn a_torn_last_write_is_no_damage_and_a_flipped_bit_is_and_the_offset_is_told() {
    let folder = Scratch::new();
    after_one_message(folder.path(), "hello");
    let path = file(folder.path());
    let whole = fs::read(&path).expect("readable");
    let (code, facts) = check(folder.path());
    assert_eq!((code, &facts["verdict"]), (Some(0), &"whole".into()));
    let (_, out, _) = run(folder.path(), &["journal", "show", "--json"]);
    let frames: Vec<u64> = objects(&out)
        .iter()
        .filter_map(|o| o["offset"].as_u64())
        .collect();
    let (last, earlier) = (frames[0], frames[frames.len() / 2]);
    assert!(earlier < last);

    fs::write(&path, &whole[..whole.len() - 1]).expect("room");
    let (code, facts) = check(folder.path());
    assert_eq!((code, &facts["verdict"]), (Some(0), &"torn_tail".into()));
    assert_eq!(facts["offset"], last);
    let (_, out, _) = run(folder.path(), &["journal", "check"]);
    assert!(out.contains(&format!("whole up to byte {last}")), "{out}");

    let mut rotten = whole.clone();
    rotten[usize::try_from(earlier).expect("small") + 20] ^= 4;
    fs::write(&path, &rotten).expect("room");
    let (code, facts) = check(folder.path());
    assert_eq!((code, &facts["verdict"]), (Some(1), &"damaged".into()));
    assert_eq!(
        (&facts["offset"], &facts["missing_commits"]),
        (&earlier.into(), &1.into())
    );
    let (code, out, _) = run(folder.path(), &["journal", "check"]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains(&format!("is damaged from byte {earlier}")),
        "{out}"
    );
    let (code, out, notes) = run(folder.path(), &["journal", "show"]);
    assert_eq!(code, Some(0), "what verifies is shown");
    assert!(out.contains("settled") && notes.contains("is damaged from byte"));
    assert_eq!(fs::read(&path).expect("there"), rotten, "only looked at");
}

#[test]
fn a_start_says_aloud_that_a_last_write_was_torn() {
    let folder = Scratch::new();
    after_one_message(folder.path(), "hello");
    let path = file(folder.path());
    let bytes = fs::read(&path).expect("readable");
    fs::write(&path, &bytes[..bytes.len() - 3]).expect("ours");
    let _node = Node::up(folder.path(), &[]);
    until("a warning", || {
        let log = fs::read_to_string(folder.path().join("stderr.log")).ok()?;
        let is_it = |line: &&str| line.contains("torn by a crash") && line.contains(" WARN ");
        log.lines().any(|line| is_it(&line)).then_some(())
    });
}

#[test]
fn an_empty_file_beside_a_whole_journal_is_named_and_passed_over_by_a_look_and_a_start_alike() {
    let folder = Scratch::new();
    after_one_message(folder.path(), "hello");
    let whole = file(folder.path());
    let empty = journal_dir(folder.path()).join("journal.900");
    fs::write(&empty, "").expect("room");
    let (code, verdict) = check(folder.path());
    assert_eq!((code, &verdict["verdict"]), (Some(0), &"whole".into()));
    assert_eq!(verdict["file"], whole.to_str().expect("text"));
    let (_, text, _) = run(folder.path(), &["journal", "check"]);
    assert!(
        text.contains("journal.900 is empty and is passed over"),
        "{text}"
    );
    let node = Node::up(folder.path(), &[]);
    // Until it is registered at the engine it is not well, for another reason.
    until("the node's registration", || {
        node.events("node_registered").pop()
    });
    assert_eq!(node.get("/health")["status"], "ok");
    assert_eq!(
        file(folder.path()).file_name(),
        Some("journal.901".as_ref())
    );
    let log = fs::read_to_string(folder.path().join("stderr.log")).expect("a log");
    let said = log
        .lines()
        .find(|line| line.contains("journal.900 is empty"));
    assert!(said.is_some_and(|line| line.contains(" WARN ")), "{log}");
    drop(node);
    // With nothing beside it, an empty file is all there is of a history.
    fs::remove_dir_all(journal_dir(folder.path())).expect("ours");
    fs::create_dir(journal_dir(folder.path())).expect("room");
    fs::write(&empty, "").expect("room");
    assert_eq!(check(folder.path()).1["verdict"], "damaged");
}

#[test]
fn a_journal_of_a_newer_program_is_refused_by_name() {
    let folder = Scratch::new();
    fs::create_dir_all(journal_dir(folder.path())).expect("room");
    let path = journal_dir(folder.path()).join("journal.3");
    fs::write(&path, "relay-journal 99 broker\n").expect("room");
    let name = path.to_str().expect("text");
    for command in ["show", "check"] {
        let (code, _, text) = run(folder.path(), &["journal", command]);
        assert_eq!(code, Some(1));
        assert!(text.contains(name) && text.contains("99"), "{text}");
    }
    let (code, facts) = check(folder.path());
    assert_eq!((code, &facts["verdict"]), (Some(1), &"refused".into()));
    assert_eq!(
        (&facts["file"], &facts["offset"]),
        (&name.into(), &0.into())
    );
}

#[test]
fn the_journal_is_found_as_a_running_broker_is_found() {
    let folder = Scratch::new();
    let (code, _, text) = run(folder.path(), &["journal", "check"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("there is no .relay-broker in"), "{text}");
    after_one_message(folder.path(), "hello");
    let below = folder.path().join("a/b");
    fs::create_dir_all(&below).expect("room");
    let elsewhere = Scratch::new();
    let state = folder.path().join(".relay-broker");
    let state = state.to_str().expect("text");
    let (code, upward, _) = run(&below, &["journal", "check"]);
    assert_eq!(code, Some(0));
    let (code, flag, _) = run(
        elsewhere.path(),
        &["journal", "check", "--state-dir", state],
    );
    assert_eq!((code, &flag), (Some(0), &upward));
    let variable = Command::new(env!("CARGO_BIN_EXE_relay-broker"))
        .args(["journal", "check"])
        .current_dir(elsewhere.path())
        .env_clear()
        .env("RELAY_BROKER_STATE_DIR", state)
        .output()
        .expect("the program starts");
    assert_eq!(String::from_utf8_lossy(&variable.stdout), upward);
    let empty = elsewhere.path().to_str().expect("text");
    let (code, _, text) = run(&below, &["journal", "show", "--state-dir", empty]);
    assert_eq!(code, Some(1));
    assert!(text.contains("there is no journal in"), "{text}");
}

#[test]
fn a_person_reads_what_the_engine_inside_wrote_down() {
    let folder = Scratch::new();
    after_one_message(folder.path(), "hello engine");
    let (code, table, _) = run(folder.path(), &["journal", "show", "--engine"]);
    assert_eq!(code, Some(0));
    assert!(
        table.contains("MessagePosted") && table.contains("AgentRegistered"),
        "{table}"
    );
    let (code, out, _) = run(folder.path(), &["journal", "check", "--engine"]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn a_broker_whose_journal_is_taken_away_says_so_and_goes_on_when_it_can_be_written_again() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &["cat"]);
    let boss = node.engine.register("boss");
    let dir = journal_dir(folder.path());
    fs::remove_dir_all(&dir).expect("there");
    fs::write(&dir, "in the way").expect("room");
    node.engine.dm(&boss, "ada", "are you there?");
    // The first reason is that the file is gone; the one that lasts is what keeps a new one from being made.
    until("the reason", || {
        let (_, health) = node.call("GET", "/health", None);
        let why = health["degradedReason"].as_str()?.to_owned();
        (health["status"] == "degraded" && why.contains("Not a directory")).then_some(())
    });
    let (code, out, err) = run(folder.path(), &["status"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("degraded") && out.contains("Not a directory"),
        "{out}"
    );
    let (code, _, err) = run(folder.path(), &["send", "ada", "and this?"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("Not a directory"), "{err}");
    assert!(
        node.events("delivery_injected").is_empty(),
        "nothing is typed that is not written down"
    );

    fs::remove_file(&dir).expect("there");
    until("delivery_verified", || {
        node.events("delivery_verified").pop()
    });
    assert_eq!(node.get("/health")["status"], "ok");
    let (_, table, _) = run(folder.path(), &["journal", "show"]);
    assert!(table.contains("settled"), "{table}");
    let (code, _, _) = run(folder.path(), &["journal", "check"]);
    assert_eq!(code, Some(0));
}
