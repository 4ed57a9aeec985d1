//! The disk fails, fills up or goes away under a running broker: it says so, acknowledges nothing, lets agents go on, and
//! recovers by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::delivering::{keeper, kept};
use crate::support::{Engine, Node, Process, Scratch, run, until};

/// An engine in a process and a folder of its own, so that only the broker's disk is in trouble.
struct Alone {
    engine: Engine,
    _process: Process,
    _folder: Scratch,
}

impl Alone {
    fn start() -> Self {
        let folder = Scratch::new();
        let args = ["engine", "--listen", "127.0.0.1:0", "--dir", "e"];
        let process = Process::start(folder.path(), &args);
        let url = process.first_line.split_whitespace().last();
        let url = url.expect("a URL").to_owned();
        let key = fs::read_to_string(folder.path().join("e/workspace-key")).expect("the key");
        let key = key.trim().to_owned();
        Self {
            engine: Engine { url, key },
            _process: process,
            _folder: folder,
        }
    }
}

/// A file system of one mebibyte, and of so many files, at a folder; `None` where mounting is not permitted.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).expect("room");
        let size = "size=1m,nr_inodes=128,mode=700";
        let size = ["-t", "tmpfs", "-o", size, "tmpfs"];
        let mounted = Command::new("mount").args(size).arg(at).output();
        mounted
            .is_ok_and(|out| out.status.success())
            .then(|| Self(at.to_owned()))
    }

    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let status = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(status.is_ok_and(|s| s.success()), "{options}");
    }

    /// Leaves not a byte of room; the file that takes it.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut bytes = 1024 * 1024;
        while bytes > 0 {
            let full = fs::read(&filler).unwrap_or_default();
            if fs::write(&filler, [full, vec![b'x'; bytes]].concat()).is_err() {
                bytes /= 2;
            }
        }
        filler
    }

    /// Leaves room for bytes, and none for another file; the folder whose files take it.
    fn crowd(&self) -> PathBuf {
        let crowd = self.0.join("crowd");
        fs::create_dir_all(&crowd).expect("room");
        let made = (0..).take_while(|n| fs::write(crowd.join(n.to_string()), "").is_ok());
        assert!(made.count() > 0, "there was room before");
        crowd
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Longer than a page where it is written down, so that no room left over in the last one takes it, and short enough for a
/// line of a terminal in line mode.
fn long(marker: &str) -> String {
    format!("{}@@{marker}@@", "\"\"\" ".repeat(850))
}

fn send(node: &Node, text: &str) -> (u16, Value) {
    let body = json!({"to": "ada", "text": text, "from": "me"});
    node.call("POST", "/api/send", Some(body))
}

/// One keeps what it reads, one shows that it runs.
fn agents() -> [String; 4] {
    let ada = shell_words::join(keeper("ada.txt"));
    let script = "while :; do echo tick >> ticks.txt; sleep 0.02; done";
    let clock = shell_words::join(["sh", "-c", script]);
    [
        "--agent".into(),
        format!("ada={ada}"),
        "--agent".into(),
        format!("clock={clock}"),
    ]
}

fn up(folder: &Path, alone: &Alone, faults: &str) -> Node {
    let agents = agents();
    let mut args = vec!["--engine", &alone.engine.url];
    args.extend(["--workspace-key", &alone.engine.key]);
    args.extend(agents.iter().map(String::as_str));
    let node = Node::up_with(folder, &args, faults);
    node.ready("ada");
    node
}

fn healthy(node: &Node) {
    until("good health", || {
        (node.get("/health")["status"] == "ok").then_some(())
    });
}

/// The whole story as a user sees it. `breaks` makes the journal unwritable, `mends` undoes that, and `reason` is in what
/// the broker says in between.
fn degrades_and_recovers(
    node: &Node,
    alone: &Alone,
    folder: &Path,
    breaks: impl FnOnce(),
    mends: impl FnOnce(),
    reason: &str,
) {
    let file = folder.join("ada.txt");
    let boss = alone.engine.register("boss");
    assert_eq!(send(node, "@@before@@").0, 200);
    until("the first one read", || {
        (kept(&file).len() == 1).then_some(())
    });
    healthy(node);
    breaks();
    let sent = std::thread::scope(|scope| {
        // It is this one that finds the disk out of order, so it waits until the disk is in order again.
        let first = scope.spawn(|| send(node, &long("first")));
        let health = until("degraded", || {
            Some(node.get("/health")).filter(|health| health["status"] == "degraded")
        });
        let why = health["degradedReason"].as_str().expect("a reason");
        assert!(why.contains(reason), "{why}");
        let (code, text, _) = run(folder, &["status"]);
        assert_eq!(code, Some(0));
        assert!(text.contains("degraded") && text.contains(reason), "{text}");
        let (code, text, _) = run(folder, &["doctor"]);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("it is degraded") && text.contains(reason),
            "{text}"
        );

        let (status, body) = send(node, "@@refused@@");
        assert_eq!((status, &body["code"]), (503, &json!("degraded")), "{body}");
        assert!(
            body["error"].as_str().is_some_and(|e| e.contains(reason)),
            "{body}"
        );
        let id = alone.engine.dm(&boss, "ada", "@@mail@@");
        let ticks = || fs::metadata(folder.join("ticks.txt")).map_or(0, |m| m.len());
        let before = ticks();
        until("an agent that goes on", || {
            (ticks() > before + 50).then_some(())
        });
        assert_eq!(
            kept(&file),
            ["before"],
            "what is not written down is not typed"
        );
        let acknowledged = |e: &Value| e["event_id"] == id.as_str();
        assert!(!node.events("delivery_ack").iter().any(acknowledged));
        mends();
        first.join().expect("no panic")
    });
    assert_eq!(sent.0, 200, "{}", sent.1);
    healthy(node);
    until("all mail", || (kept(&file).len() >= 3).then_some(()));
    assert_eq!(send(node, "@@after@@").0, 200);
    until("nothing pending", || {
        (node.get("/api/status")["pending_delivery_count"] == 0).then_some(())
    });
    until("the last one read", || {
        (kept(&file).len() >= 4).then_some(())
    });
    let mut got = kept(&file);
    assert_eq!(got.pop().as_deref(), Some("after"));
    got.sort();
    assert_eq!(
        got,
        ["before", "first", "mail"],
        "each once, and the refused one never"
    );
}

/// D1: while nothing can be written nothing is typed, acknowledged or taken, and afterwards all of it.
#[cfg(debug_assertions)]
#[test]
fn a_disk_that_is_full_for_a_while_costs_no_message() {
    let (folder, alone) = (Scratch::new(), Alone::start());
    let full = folder.path().join("full");
    let faults = format!("full={}", full.display());
    let node = up(folder.path(), &alone, &faults);
    degrades_and_recovers(
        &node,
        &alone,
        folder.path(),
        || fs::write(&full, "").expect("room"),
        || fs::remove_file(&full).expect("ours"),
        "journal",
    );
}

#[cfg(debug_assertions)]
#[test]
fn while_the_disk_is_full_lists_and_releases_and_the_stop_go_on() {
    let (folder, alone) = (Scratch::new(), Alone::start());
    let full = folder.path().join("full");
    let faults = format!("full={}", full.display());
    let node = up(folder.path(), &alone, &faults);
    node.ready("clock");
    fs::write(&full, "").expect("room");
    alone
        .engine
        .dm(&alone.engine.register("boss"), "ada", "@@mail@@");
    until("degraded", || {
        (node.get("/health")["status"] == "degraded").then_some(())
    });
    for command in ["agents", "status", "dead"] {
        let (code, text, words) = run(folder.path(), &[command]);
        assert_eq!(code, Some(0), "{command}: {words}");
        assert!(command == "dead" || text.contains("clock"), "{text}");
    }
    let (code, text, words) = run(folder.path(), &["pending", "ada"]);
    assert_eq!(code, Some(0), "{words}");
    assert!(text.contains("@@mail@@"), "{text}");

    let (code, text, words) = run(folder.path(), &["release", "clock"]);
    assert_eq!(code, Some(0), "{words}");
    assert!(text.contains("clock is released"), "{text}");
    assert!(words.contains("once the journal can be"), "{words}");
    let ticks = || fs::read(folder.path().join("ticks.txt")).map_or(0, |bytes| bytes.len());
    let mut seen = ticks();
    let mut still = std::time::Instant::now();
    until("the end of its ticks", || {
        let now = ticks();
        if std::mem::replace(&mut seen, now) != now {
            still = std::time::Instant::now();
        }
        (still.elapsed() > std::time::Duration::from_millis(500)).then_some(())
    });
    let refused = send(&node, "@@refused@@");
    assert_eq!((refused.0, &refused.1["code"]), (503, &json!("degraded")));
    fs::remove_file(&full).expect("ours");
    healthy(&node);
    until("the release written down", || {
        node.agent("clock").is_none().then_some(())
    });

    fs::write(&full, "").expect("room");
    alone
        .engine
        .dm(&alone.engine.register("chef"), "ada", "@@more@@");
    until("degraded", || {
        (node.get("/health")["status"] == "degraded").then_some(())
    });
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn a_small_file_system_that_fills_up_and_is_cleared_costs_no_message() {
    let (folder, alone) = (Scratch::new(), Alone::start());
    let disk = folder.path().join(".relay-broker");
    let Some(small) = Small::mount(&disk) else {
        eprintln!("not permitted to mount a small file system; nothing is shown here");
        return;
    };
    let node = up(folder.path(), &alone, "");
    let filler = disk.join("filler");
    degrades_and_recovers(
        &node,
        &alone,
        folder.path(),
        || drop(small.fill()),
        || fs::remove_file(&filler).expect("ours"),
        "No space left on device",
    );
    drop(node);
}

/// Its journal is moved away where its inode stays in use, so that a new one is needed and cannot be made.
#[test]
fn a_file_system_without_an_inode_left_is_named_and_costs_no_message() {
    let (folder, alone) = (Scratch::new(), Alone::start());
    let disk = folder.path().join(".relay-broker");
    let Some(small) = Small::mount(&disk) else {
        eprintln!("not permitted to mount a small file system; nothing is shown here");
        return;
    };
    let node = up(folder.path(), &alone, "");
    let crowd = disk.join("crowd");
    degrades_and_recovers(
        &node,
        &alone,
        folder.path(),
        || {
            let crowd = small.crowd();
            for file in fs::read_dir(disk.join("journal")).expect("a journal") {
                let file = file.expect("a file");
                fs::rename(file.path(), crowd.join(file.file_name())).expect("one folder");
            }
        },
        || fs::remove_dir_all(&crowd).expect("ours"),
        "all 128 inodes of its file system are in use",
    );
    drop(node);
}

#[test]
fn a_start_without_an_inode_left_says_so_first_and_succeeds_once_there_is_one() {
    let (folder, alone) = (Scratch::new(), Alone::start());
    let disk = folder.path().join(".relay-broker");
    let Some(small) = Small::mount(&disk) else {
        eprintln!("not permitted to mount a small file system; nothing is shown here");
        return;
    };
    let crowd = small.crowd();
    let mut args = vec!["up", "--engine", &alone.engine.url];
    args.extend(["--workspace-key", &alone.engine.key]);
    let (code, out, text) = run(folder.path(), &args);
    assert_eq!((code, out.as_str()), (Some(73), ""), "{text}");
    let first = text.lines().next().unwrap_or_default();
    assert!(
        first.contains(".relay-broker") && first.contains("all 128 inodes"),
        "{text}"
    );

    fs::remove_dir_all(crowd).expect("ours");
    let node = up(folder.path(), &alone, "");
    assert_eq!(send(&node, "@@arrives@@").0, 200);
    let file = folder.path().join("ada.txt");
    until("the mail", || (!kept(&file).is_empty()).then_some(()));
    assert_eq!(kept(&file), ["arrives"]);
    drop(node);
}

#[test]
fn a_journal_folder_that_cannot_be_made_again_degrades_the_broker_until_it_can() {
    let (folder, alone) = (Scratch::new(), Alone::start());
    let node = up(folder.path(), &alone, "");
    let journal = folder.path().join(".relay-broker/journal");
    degrades_and_recovers(
        &node,
        &alone,
        folder.path(),
        || {
            fs::remove_dir_all(&journal).expect("ours");
            fs::write(&journal, "in the way").expect("room");
        },
        || fs::remove_file(&journal).expect("ours"),
        "journal",
    );
}

/// Takes the journal away while three messages wait, lets something happen, which says how many wait then, kills the
/// broker, and looks for all of them.
fn journal_taken_away(take: impl FnOnce(&Path), happens: impl FnOnce(&Node, &Path) -> u64) {
    let (folder, alone) = (Scratch::new(), Alone::start());
    let node = up(folder.path(), &alone, "");
    let boss = alone.engine.register("boss");
    let mode = |node: &Node, mode: &str| {
        let path = "/api/spawned/ada/delivery-mode";
        let (status, body) = node.call("PUT", path, Some(json!({ "mode": mode })));
        assert_eq!(status, 200, "{body}");
    };
    mode(&node, "manual_flush");
    alone.engine.dm(&boss, "ada", "@@1@@");
    let waiting = |node: &Node, count: u64| {
        until("mail that waits", || {
            (node.get("/api/status")["pending_delivery_count"] == count).then_some(())
        });
    };
    waiting(&node, 1);
    assert_eq!(send(&node, "@@2@@").0, 200);
    assert_eq!(send(&node, "@@3@@").0, 200);

    let journal = folder.path().join(".relay-broker/journal");
    take(&journal);
    let count = happens(&node, &journal);
    healthy(&node);
    node.process.kill9();

    let node = up(folder.path(), &alone, "");
    waiting(&node, count);
    mode(&node, "auto_inject");
    waiting(&node, 0);
    let file = folder.path().join("ada.txt");
    until("all mail", || {
        (kept(&file).len() as u64 >= count).then_some(())
    });
    let numbers: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
    assert_eq!(kept(&file), numbers);
}

fn removed(journal: &Path) {
    fs::remove_dir_all(journal).expect("ours");
}

fn moved_away(journal: &Path) {
    fs::rename(journal, journal.with_extension("old")).expect("ours");
}

/// Answered with 200, so it must be written down in a new journal.
fn a_fourth_is_sent(node: &Node, _: &Path) -> u64 {
    assert_eq!(send(node, "@@4@@").0, 200);
    4
}

fn nothing_for_a_while(_: &Node, journal: &Path) -> u64 {
    until("a new journal", || {
        let mut names = fs::read_dir(journal).ok()?.flatten();
        names.find(|file| file.file_name() != "journal.new")
    });
    3
}

#[test]
fn a_journal_folder_removed_while_the_broker_runs_is_made_again_with_all_that_waits() {
    journal_taken_away(removed, a_fourth_is_sent);
}

#[test]
fn a_journal_folder_moved_away_while_the_broker_runs_is_made_again_with_all_that_waits() {
    journal_taken_away(moved_away, a_fourth_is_sent);
}

#[test]
fn a_journal_folder_removed_under_an_idle_broker_is_made_again_with_all_that_waits() {
    journal_taken_away(removed, nothing_for_a_while);
}

#[test]
fn a_read_only_state_folder_is_refused_by_name_and_nothing_in_it_is_lost() {
    let (folder, alone) = (Scratch::new(), Alone::start());
    let disk = folder.path().join(".relay-broker");
    let Some(small) = Small::mount(&disk) else {
        eprintln!("not permitted to mount a small file system; nothing is shown here");
        return;
    };
    let hold = json!({"mode": "manual_flush"});
    let node = up(folder.path(), &alone, "");
    let path = "/api/spawned/ada/delivery-mode";
    assert_eq!(node.call("PUT", path, Some(hold)).0, 200);
    assert_eq!(send(&node, "@@waits@@").0, 200);
    node.process.kill9();

    small.remount("ro");
    let mut args = vec!["up", "--engine", &alone.engine.url];
    args.extend(["--workspace-key", &alone.engine.key]);
    let (code, out, text) = run(folder.path(), &args);
    assert_eq!((code, out.as_str()), (Some(73), ""), "{text}");
    assert!(
        text.contains(".relay-broker") && text.contains("Read-only"),
        "{text}"
    );
    assert_eq!(
        text.trim().lines().count(),
        1,
        "one line that says it: {text}"
    );

    small.remount("rw");
    let node = up(folder.path(), &alone, "");
    let release = json!({"mode": "auto_inject"});
    assert_eq!(node.call("PUT", path, Some(release)).0, 200);
    let file = folder.path().join("ada.txt");
    until("the mail that waited", || {
        (!kept(&file).is_empty()).then_some(())
    });
    assert_eq!(kept(&file), ["waits"]);
    drop(node);
}
