//! What agents printed is there when somebody asks later: over ends of agents and brokers, within its bound, in the form
//! that was asked for, and with every gap marked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Node, Scratch, command, run, until};

/// What `logs` prints, once that has this in it.
#[track_caller]
fn logs(folder: &Path, args: &[&str], wanted: &str) -> String {
    let args = [&["logs"], args].concat();
    until(&format!("{wanted:?} in {args:?}"), || {
        let (code, out, _) = run(folder, &args);
        (code == Some(0) && out.contains(wanted)).then_some(out)
    })
}

/// Starts a program that may end at any time.
fn start(node: &Node, name: &str, argv: &[&str]) {
    let body = serde_json::json!({"name": name, "cli": argv[0], "args": argv[1..]});
    let (status, answer) = node.call("POST", "/api/spawn", Some(body));
    assert_eq!(status, 200, "{answer}");
}

/// Ended with the value.
struct Follower(std::process::Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How often a text is in another.
fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

/// The lines that are no marks.
fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.starts_with("--- "))
        .collect()
}

#[test]
fn what_an_agent_printed_is_there_after_its_end_and_after_that_of_its_broker() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    start(
        &node,
        "ada",
        &["sh", "-c", "printf '\\033[1mbold\\033[0m\\nlast'; exit 3"],
    );
    let text = logs(folder.path(), &["ada"], "exit code 3");
    assert_eq!(lines(&text), ["bold", "last"], "{text}");
    until("gone", || node.agent("ada").is_none().then_some(()));
    node.process.stop();
    let text = logs(folder.path(), &["ada"], "exit code 3");
    assert_eq!(lines(&text), ["bold", "last"], "without a broker: {text}");
    let (_, raw, _) = run(folder.path(), &["logs", "ada", "--raw"]);
    assert_eq!(raw, "\u{1b}[1mbold\u{1b}[0m\r\nlast");
    let node = Node::up(folder.path(), &[]);
    start(&node, "ada", &["sh", "-c", "echo second"]);
    let text = logs(folder.path(), &["ada"], "second");
    assert_eq!(lines(&text), ["bold", "last", "second"], "{text}");
    assert_eq!(
        (count(&text, " started"), count(&text, "killed")),
        (2, 0),
        "{text}"
    );
    let (_, found, _) = run(folder.path(), &["logs", "ada", "--grep", "^(la|se).*d?$"]);
    assert_eq!(found, "last\nsecond\n");
    let (_, none, _) = run(folder.path(), &["logs", "ada", "--since", "0s"]);
    assert_eq!(none, "");
    let (code, _, err) = run(folder.path(), &["logs", "eve"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there is ada"), "{err}");
}

#[test]
fn a_broker_that_is_killed_leaves_a_recording_that_says_so() {
    let folder = Scratch::new();
    let agent = ["--agent", "ada=sh -c 'echo here I am; exec cat'"];
    let node = Node::up(folder.path(), &agent);
    logs(folder.path(), &["ada"], "here I am");
    node.process.kill9();
    let node = Node::up(folder.path(), &agent);
    let text = until("a second life", || {
        let (_, text, _) = run(folder.path(), &["logs", "ada"]);
        (count(&text, "here I am") == 2).then_some(text)
    });
    assert_eq!(count(&text, "the broker was killed"), 1, "{text}");
    drop(node);
}

#[test]
fn a_recording_is_for_its_owner_alone_and_none_is_made_where_none_is_wanted() {
    let folder = Scratch::new();
    let config = "[output]\nrecord = \"plain\"\n[agent.quiet]\ncommand = \"sh -c 'echo secret; exec cat'\"\nrecord = \"off\"\n\
                  [harness.loud]\ncommand = \"sh\"\nargs = [\"-c\", \"printf '\\\\033[31mred\\\\033[0m\\\\n'; exec cat\"]\nrecord = \"raw\"\n";
    fs::write(folder.path().join("relay-broker.toml"), config).expect("room");
    let node = Node::up(folder.path(), &[]);
    node.ready("quiet");
    start(
        &node,
        "plain",
        &["sh", "-c", "printf '\\033[31mred\\033[0m\\n'; exec cat"],
    );
    start(&node, "loud", &["loud"]);
    logs(folder.path(), &["loud"], "red");
    logs(folder.path(), &["plain"], "red");
    let raw = |name: &str| run(folder.path(), &["logs", name, "--raw"]).1;
    assert_eq!(raw("plain"), "red\n");
    assert_eq!(raw("loud"), "\u{1b}[31mred\u{1b}[0m\r\n");
    let recordings = folder.path().join(".relay-broker/recordings");
    assert!(!recordings.join("quiet").exists());
    for name in ["plain", "loud"] {
        let file = recordings.join(name).join("00000001.tape");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&recordings)), (0o600, 0o700));
    }
    let asked = command(folder.path(), &["logs", "loud"])
        .env("RELAY_AGENT_TOKEN", "at_x")
        .output();
    let asked = asked.expect("it runs");
    assert_eq!(
        asked.status.code(),
        Some(1),
        "the operator's, and no agent's"
    );
}

#[test]
fn whoever_follows_hears_of_new_lines_and_of_the_next_life() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    start(&node, "ada", &["sh", "-c", "echo one; read x; echo two"]);
    logs(folder.path(), &["ada"], "one");
    let follows = command(folder.path(), &["logs", "ada", "-f", "--json"])
        .stdout(Stdio::piped())
        .spawn();
    let mut follows = Follower(follows.expect("it runs"));
    let mut heard = std::io::BufRead::lines(std::io::BufReader::new(
        follows.0.stdout.take().expect("piped"),
    ));
    let mut hear = |wanted: &str| loop {
        let line = heard.next().expect("more").expect("text");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        if line["text"].as_str().expect("a text").contains(wanted) {
            break line;
        }
    };
    assert_eq!(hear("one")["agent"], "ada");
    let body = serde_json::json!({"to": "ada", "text": "go", "from": "me"});
    node.call("POST", "/api/send", Some(body));
    assert!(hear("two")["mark"].is_null());
    assert_eq!(hear("exit code 0")["mark"], "ended");
    until("gone", || node.agent("ada").is_none().then_some(()));
    start(&node, "ada", &["sh", "-c", "echo three"]);
    assert_eq!(hear("started")["mark"], "started");
    hear("three");
}

#[test]
fn a_cast_has_sizes_and_times_and_every_byte() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let script = "printf '\\033[32mé'; trap 'stty size; exit 0' WINCH; echo up; while :; do sleep 0.05; done";
    start(&node, "ada", &["sh", "-c", script]);
    logs(folder.path(), &["ada"], "up");
    let size = serde_json::json!({"rows": 7, "cols": 33});
    let (status, answer) = node.call("POST", "/api/resize/ada", Some(size));
    assert_eq!(status, 200, "{answer}");
    logs(folder.path(), &["ada"], "exit code 0");
    let (code, cast, err) = run(folder.path(), &["logs", "ada", "--cast"]);
    assert_eq!(code, Some(0), "{err}");
    let events: Vec<Value> = cast
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let head = &events[0];
    assert_eq!(
        (&head["version"], &head["width"], &head["height"]),
        (&2.into(), &120.into(), &40.into())
    );
    let of = |kind: &str| -> Vec<&str> {
        let all = events[1..].iter().filter(|e| e[1] == kind);
        all.map(|e| e[2].as_str().expect("text")).collect()
    };
    assert_eq!(of("o").concat(), "\u{1b}[32méup\r\n7 33\r\n");
    assert_eq!(of("r"), ["33x7"]);
    assert_eq!(of("m"), ["started", "ended: exit code 0"]);
    let times: Vec<f64> = events[1..].iter().filter_map(|e| e[0].as_f64()).collect();
    assert!(times.is_sorted() && times.len() == events.len() - 1);
}

#[test]
fn a_flood_leaves_the_disk_within_the_bound() {
    let folder = Scratch::new();
    let config = "[output]\nrecord_bytes = 262144\n";
    fs::write(folder.path().join("relay-broker.toml"), config).expect("room");
    let node = Node::up(folder.path(), &[]);
    let script = "i=0; while [ $i -lt 20 ]; do head -c 100000 /dev/zero | tr '\\0' x; i=$((i+1)); done; echo; echo done";
    start(&node, "ada", &["sh", "-c", script]);
    let text = logs(folder.path(), &["ada"], "exit code 0");
    assert!(text.contains("\ndone\n"), "what came last is kept");
    let files = fs::read_dir(folder.path().join(".relay-broker/recordings/ada")).expect("there");
    let bytes: u64 = files
        .map(|f| f.expect("a file").metadata().expect("its size").len())
        .sum();
    assert!(bytes <= 262_144, "{bytes}");
    let (_, _, err) = run(folder.path(), &["logs", "ada"]);
    assert!(err.contains("no longer kept"), "{err}");
}

/// Recording is the first to stop, costs no message, and goes on by itself.
#[cfg(debug_assertions)]
#[test]
fn a_disk_that_is_full_for_a_while_costs_output_and_the_gap_is_marked() {
    let folder = Scratch::new();
    let full = folder.path().join("full");
    let faults = format!("full={}", full.display());
    let node = Node::up_with(folder.path(), &["--log-file", "log"], &faults);
    let script = "echo first; read x; echo lost; touch said; read y; echo third";
    start(&node, "ada", &["sh", "-c", script]);
    logs(folder.path(), &["ada"], "first");
    let keys = |text: &str| {
        let body = serde_json::json!({"data": text});
        let (status, answer) = node.call("POST", "/api/input/ada", Some(body));
        assert_eq!(status, 200, "{answer}");
    };
    fs::write(&full, "").expect("room");
    keys("\r");
    until("it was said", || {
        folder.path().join("said").exists().then_some(())
    });
    let logged = |what: &str| {
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        (count(&log, what) == 1).then_some(())
    };
    until("a word of it", || logged("is not recorded until"));
    fs::remove_file(&full).expect("ours");
    logs(folder.path(), &["ada"], "bytes of output are missing here");
    keys("\r");
    let text = logs(folder.path(), &["ada"], "third");
    assert_eq!(count(&text, "missing here"), 1, "{text}");
    assert!(!text.contains("lost"), "{text}");
    assert_eq!(lines(&text)[0], "first");
    until("a word of the end", || logged("is recorded again"));
}
