//! Other users of the machine: what they prepare is not believed, and what they try does not keep the owner out.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Node, Process, Scratch, run, until};

/// Somebody else on the machine.
const MALLORY: u32 = 4711;

const UP: [&str; 5] = ["up", "--grace", "2s", "--engine-listen", "127.0.0.1:0"];

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

fn folder(at: PathBuf) -> PathBuf {
    fs::create_dir_all(&at).expect("room");
    at
}

/// Makes everything at a path somebody else's; `false` where that is not permitted, because root alone may.
fn give_away(path: &Path) -> bool {
    let inside = fs::read_dir(path).into_iter().flatten().flatten();
    chown(path, Some(MALLORY), Some(MALLORY)).is_ok()
        && inside.map(|e| e.path()).all(|p| give_away(&p))
}

/// The exit code of what does not start, and what it says.
fn ended(at: &Path, args: &[&str]) -> (Option<i32>, String) {
    let _ = fs::remove_file(at.join("stderr.log"));
    match Process::try_start(at, args) {
        Ok(_) => panic!("it started"),
        Err(end) => end,
    }
}

/// What `up` says when it does not start.
fn refusal(at: &Path, more: &[&str]) -> String {
    let (code, words) = ended(at, &[&UP[..], more].concat());
    assert_eq!(code, Some(73), "{words}");
    words
}

fn starts(at: &Path, more: &[&str]) {
    let args = [&UP[..], more].concat();
    let process = Process::start(at, &args);
    assert_eq!(process.stop(), Some(0));
}

#[test]
fn a_state_folder_that_somebody_else_prepared_is_refused_with_the_way_out() {
    let scratch = Scratch::new();
    let shared = folder(scratch.path().join("shared"));
    mode(&shared, 0o1777);
    let state = shared.join(".relay-broker");
    let key = folder(state.join("engine")).join("workspace-key");
    fs::write(&key, "rk_live_00000000000000000000000000000000\n").expect("room");
    if !give_away(&state) {
        return;
    }
    let words = refusal(&shared, &[]);
    for part in [
        ".relay-broker belongs to user 4711",
        "--trust-state-dir",
        "chown -R 0 ",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(!state.join("engine/journal").exists(), "nothing was begun");
    // Also where only the key, or the folder around it, is theirs.
    for ours in [&state, &state.join("engine")] {
        chown(ours, Some(0), Some(0)).expect("root may");
        let words = refusal(&shared, &[]);
        assert!(words.contains("belongs to user 4711"), "{words}");
    }
    starts(&shared, &["--trust-state-dir"]);
}

#[test]
fn a_state_folder_that_anybody_could_replace_or_write_in_is_refused() {
    let scratch = Scratch::new();
    let shared = folder(scratch.path().join("shared"));
    mode(&shared, 0o777);
    let words = refusal(&shared, &[]);
    assert!(
        words.contains("every user may put something else in its place"),
        "{words}"
    );
    assert!(!shared.join(".relay-broker").exists(), "nothing was made");
    starts(&shared, &["--trust-state-dir"]);

    let state = folder(scratch.path().join("open"));
    mode(&state, 0o777);
    let named = ["--state-dir", state.to_str().expect("text")];
    let words = refusal(scratch.path(), &named);
    assert!(
        words.contains("is writable by other users (mode 777)"),
        "{words}"
    );
    // A folder made under a common umask is its owner's alone from now on.
    mode(&state, 0o775);
    starts(scratch.path(), &named);
    let now = fs::metadata(&state).expect("there").permissions().mode();
    assert_eq!(now & 0o777, 0o755);
}

#[test]
fn a_state_folder_that_must_be_there_is_not_made_where_a_volume_is_missing() {
    let scratch = Scratch::new();
    let state = scratch.path().join("volume").join("state");
    let named = [
        "--require-state-dir",
        "--state-dir",
        state.to_str().expect("text"),
    ];
    let words = refusal(scratch.path(), &named);
    assert!(
        words.contains("volume/state is not there") && words.contains("mount its volume"),
        "{words}"
    );
    assert!(!state.exists(), "nothing was made");
    folder(state.clone());
    starts(scratch.path(), &named);
}

#[test]
fn a_start_below_a_state_folder_says_that_it_makes_another_one() {
    let scratch = Scratch::new();
    let below = folder(scratch.path().join("project/src"));
    let said = |at: &Path| {
        let _ = fs::remove_file(at.join("stderr.log"));
        starts(at, &[]);
        let words = fs::read_to_string(at.join("stderr.log")).expect("a log");
        words.contains("starts another broker").then_some(words)
    };
    assert_eq!(said(scratch.path()), None);
    let words = said(&below).expect("a note");
    assert!(words.contains("project/src/.relay-broker"), "{words}");
    // The second time it is at home there.
    assert_eq!(said(&below), None);
}

#[test]
fn a_local_api_beyond_this_machine_is_asked_for_by_name_and_told() {
    let scratch = Scratch::new();
    let words = {
        let _ = fs::remove_file(scratch.path().join("stderr.log"));
        let args = [&UP[..], &["--api-bind", "0.0.0.0"]].concat();
        let Err((code, words)) = Process::try_start(scratch.path(), &args) else {
            panic!("it started");
        };
        assert_ne!(code, Some(0));
        words
    };
    assert!(words.contains("--allow-plain-http"), "{words}");
    starts(
        scratch.path(),
        &["--api-bind", "0.0.0.0", "--allow-plain-http"],
    );
    let words = fs::read_to_string(scratch.path().join("stderr.log")).expect("a log");
    assert!(
        words.contains("the local API listens on 0.0.0.0, beyond this machine"),
        "{words}"
    );
}

#[test]
fn an_engine_alone_keeps_to_the_same_rule() {
    let scratch = Scratch::new();
    let dir = folder(scratch.path().join("e"));
    mode(&dir, 0o777);
    let args = ["engine", "--listen", "127.0.0.1:0", "--dir", "e"];
    let (code, _, words) = run(scratch.path(), &args);
    assert_eq!(code, Some(73));
    assert!(words.contains("is writable by other users"), "{words}");
    mode(&dir, 0o755);
    drop(Process::start(scratch.path(), &args));
}

#[test]
fn commands_pass_over_the_folder_of_somebody_else_on_the_way_up_and_say_so() {
    let scratch = Scratch::new();
    let node = Node::up(scratch.path(), &[]);
    let shared = folder(scratch.path().join("shared"));
    let theirs = folder(shared.join(".relay-broker"));
    let ours = fs::read_to_string(scratch.path().join(".relay-broker/connection.json"));
    let faked = ours
        .expect("there")
        .replace(&node.api, "http://127.0.0.1:9");
    fs::write(theirs.join("connection.json"), faked).expect("room");
    mode(&theirs, 0o777);
    let answered = || {
        let (code, out, words) = run(&shared, &["status", "--json"]);
        assert_eq!(code, Some(0), "{words}");
        assert!(out.contains(&node.engine.url), "{out}");
        words
    };
    let words = answered();
    assert!(
        words.contains("passing over a state folder") && words.contains("writable by other users"),
        "{words}"
    );
    mode(&theirs, 0o755);
    if give_away(&theirs) {
        let words = answered();
        assert!(words.contains("belongs to user 4711"), "{words}");
        // What is named is meant.
        let named = ["status", "--state-dir", theirs.to_str().expect("text")];
        let (_, _, words) = run(&shared, &named);
        assert!(words.contains("127.0.0.1:9"), "{words}");
    }
}

#[test]
fn a_list_of_programs_that_somebody_else_left_here_is_not_run_unless_named() {
    let scratch = Scratch::new();
    let list = scratch.path().join("relay-broker.toml");
    fs::write(&list, "[harness.x]\ncommand = \"true\"\n").expect("room");
    mode(&list, 0o666);
    let args = [&UP[..], &["--config", "relay-broker.toml"]].concat();
    let (code, words) = ended(scratch.path(), &UP);
    assert_eq!(code, Some(78), "{words}");
    assert!(words.contains("--config relay-broker.toml"), "{words}");
    assert_eq!(Process::start(scratch.path(), &args).stop(), Some(0));
    mode(&list, 0o644);
    if chown(&list, Some(MALLORY), None).is_ok() {
        let (_, words) = ended(scratch.path(), &UP);
        assert!(words.contains("belongs to user 4711"), "{words}");
    }
}

/// N7: whose identity somebody else left is named, and stays as it is.
#[test]
fn an_identity_that_somebody_else_left_in_the_state_folder_is_refused() {
    let scratch = Scratch::new();
    starts(scratch.path(), &[]);
    for name in ["machine-id", "identity.json"] {
        let path = scratch.path().join(".relay-broker").join(name);
        let theirs = b"node_of_somebody_else\n";
        fs::write(&path, theirs).expect("room");
        if !give_away(&path) {
            return;
        }
        let words = refusal(scratch.path(), &[]);
        assert!(
            words.contains(name) && words.contains("belongs to user 4711"),
            "{words}"
        );
        assert_eq!(fs::read(&path).expect("kept"), theirs);
        fs::remove_file(&path).expect("root may");
    }
}

#[test]
fn pipes_and_endless_files_in_the_state_folder_do_not_hold_up_a_start() {
    let scratch = Scratch::new();
    starts(scratch.path(), &[]);
    let state = scratch.path().join(".relay-broker");
    for name in [
        "workspace.json",
        "engine-address",
        "connection.json",
        "landed/X",
    ] {
        let path = state.join(name);
        folder(path.parent().expect("a folder").to_owned());
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()));
        starts(scratch.path(), &[]);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/zero", &path).expect("room");
        starts(scratch.path(), &["--trust-state-dir"]);
        fs::remove_file(&path)
            .or_else(|e| match e.kind() {
                // Files are replaced by others whatever they were.
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(e),
            })
            .expect("ours");
    }
}

#[test]
fn what_a_killed_broker_left_of_a_key_file_is_gone_after_the_next_start() {
    let scratch = Scratch::new();
    starts(scratch.path(), &[]);
    let state = scratch.path().join(".relay-broker");
    let data = scratch.path().join(".local/share/agent-relay");
    let dead = 2_147_483_646;
    let left = [
        state.join(format!(".connection.json.{dead}-0.tmp")),
        state.join(format!("engine/.workspace-key.{dead}-0.tmp")),
        data.join(format!("node-tokens/.node_x.json.{dead}-3.tmp")),
        data.join(format!(".machine-id.{dead}.new.{dead}-0.tmp")),
    ];
    let others = [data.join(".mine.tmp"), state.join("notes.tmp")];
    for path in left.iter().chain(&others) {
        fs::write(path, "secret").expect("room");
    }
    starts(scratch.path(), &[]);
    until("swept", || {
        left.iter().all(|path| !path.exists()).then_some(())
    });
    assert!(
        others.iter().all(|path| path.exists()),
        "not ours to remove"
    );
}

/// Asks again and again and reads nothing, as long as the other side takes it.
fn deaf(api: &str, head: &str) -> TcpStream {
    let address = api.split_once("://").expect("a URL").1;
    let mut stream = TcpStream::connect(address).expect("a listener");
    stream.set_nonblocking(true).expect("ours");
    let requests = head.repeat(64);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(200) {
        match stream.write(requests.as_bytes()) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
            // It has been put out already.
            Err(_) => break,
        }
    }
    stream
}

#[test]
fn callers_without_the_key_who_read_nothing_do_not_keep_the_owner_out() {
    let scratch = Scratch::new();
    let node = Node::up(scratch.path(), &[]);
    let head = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let _held: Vec<TcpStream> = (0..80).map(|_| deaf(&node.api, head)).collect();
    for _ in 0..50 {
        assert_eq!(node.call("GET", "/api/spawned", None).0, 200);
    }
    assert_eq!(run(scratch.path(), &["agents"]).0, Some(0));
}
