//! How the program ends: an exit code by which a supervisor knows whether another start can be of use, and the reason on
//! standard error.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use crate::support::{KEY, Node, Scratch, Scripted, Upgrade, command, refused, run, signal};

/// The codes and what each of them means, as docs/operations.md lists them; one test for each stands below, that of 71 in
/// `limited`.
const CODES: [i32; 9] = [0, 1, 2, 69, 71, 73, 75, 77, 78];

/// A start that fails: its exit code and the one line that says why. Nothing may stand on standard output.
fn refusal(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut up = command(dir, args);
    let out = up
        .envs(variables.iter().copied())
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.stdout.is_empty(), "{out:?}");
    let why = text
        .lines()
        .last()
        .unwrap_or_else(|| panic!("no word: {out:?}"));
    // In a log it has a time before it.
    let (_, why) = why
        .split_once("relay-broker: ")
        .unwrap_or_else(|| panic!("{text}"));
    (out.status.code().expect("no signal"), why.to_owned())
}

const UP: [&str; 3] = ["up", "--engine-listen", "127.0.0.1:0"];

#[test]
fn a_broker_that_is_asked_to_stop_ends_with_0() {
    for name in ["TERM", "INT"] {
        let folder = Scratch::new();
        let mut node = Node::up(folder.path(), &[]);
        signal(node.process.pid(), name);
        let code = crate::support::until("its end", || {
            node.process.ended().then(|| node.process.code())
        });
        assert_eq!(code, Some(0), "{name}");
    }
}

#[test]
fn a_port_in_use_is_an_ordinary_failure_with_1() {
    let folder = Scratch::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let args = [&UP[..], &["--api-port", &port]].concat();
    let (code, why) = refusal(folder.path(), &args, &[]);
    assert_eq!(code, 1, "{why}");
    assert!(why.contains("failed to bind API"), "{why}");
}

#[test]
fn a_command_line_that_cannot_be_meant_ends_with_2() {
    let folder = Scratch::new();
    for args in [
        &["up", "--nonsense"][..],
        &["up", "--agent", "ada"],
        &["up", "--workspace-key", "nonsense"],
        &["up", "--engine", "nonsense", "--workspace-key", KEY],
    ] {
        let (code, why) = refusal(folder.path(), args, &[]);
        assert_eq!(code, 2, "{args:?}: {why}");
    }
}

#[test]
fn an_engine_that_a_first_start_needs_and_does_not_reach_ends_it_with_69() {
    let folder = Scratch::new();
    // A port that is free now; nobody listens there.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", free.local_addr().expect("bound"));
    drop(free);
    let args = ["up", "--engine", &url, "--workspace-key", KEY];
    let (code, why) = refusal(folder.path(), &args, &[]);
    assert_eq!(code, 69, "{why}");
    assert!(why.contains("check --engine"), "{why}");
}

#[test]
fn a_state_folder_that_cannot_be_used_ends_with_73() {
    let folder = Scratch::new();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").expect("room");
    let below = file.join("state");
    let below = below.to_str().expect("text");
    let (code, why) = refusal(
        folder.path(),
        &[&UP[..], &["--state-dir", below]].concat(),
        &[],
    );
    assert_eq!(code, 73, "{why}");
    assert!(why.contains("--state-dir"), "{why}");
    // A journal that a later version has written is as much in the way.
    assert_eq!(Node::up(folder.path(), &[]).process.stop(), Some(0));
    let journal = folder.path().join(".relay-broker/journal");
    let mut files = std::fs::read_dir(&journal).expect("the journal");
    let file = files.next().expect("a file").expect("readable").path();
    std::fs::write(file, "relay-journal 99 broker\n").expect("room");
    let (code, why) = refusal(folder.path(), &UP, &[]);
    assert_eq!(code, 73, "{why}");
    assert!(why.contains("version 99"), "{why}");
}

#[test]
fn a_second_broker_on_a_state_folder_ends_with_75() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let (code, why) = refusal(folder.path(), &UP, &[]);
    assert_eq!(code, 75, "{why}");
    assert!(
        why.starts_with("another broker instance is already running in this directory"),
        "{why}"
    );
    // Also where its engine is elsewhere, and nothing is asked of the engine's folder first.
    let args = ["up", "--engine", &node.engine.url, "--workspace-key", KEY];
    let (code, why) = refusal(folder.path(), &args, &[]);
    assert_eq!(code, 75, "{why}");
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn a_key_or_node_that_the_engine_refuses_ends_with_77() {
    let folder = Scratch::new();
    let engine = Node::up(&folder.path().join(made(&folder, "engine")), &[]);
    let args = [
        "up",
        "--engine",
        &engine.engine.url,
        "--workspace-key",
        "rk_live_another",
    ];
    let (code, why) = refusal(&folder.path().join(made(&folder, "a")), &args, &[]);
    assert_eq!(code, 77, "{why}");
    assert!(why.contains("refuses the workspace key"), "{why}");
    let engine = Scripted::start(|_| Some(refused(403, "forbidden")), |_| Upgrade::Yes);
    let flags = engine.flags();
    let args: Vec<&str> = ["up"].into_iter().chain(flags.iter().copied()).collect();
    let (code, why) = refusal(&folder.path().join(made(&folder, "b")), &args, &[]);
    assert_eq!(code, 77, "{why}");
    assert!(why.contains("no node token to be had"), "{why}");
}

fn made<'a>(folder: &Scratch, name: &'a str) -> &'a str {
    std::fs::create_dir_all(folder.path().join(name)).expect("room");
    name
}

#[test]
fn a_variable_or_file_that_cannot_be_meant_ends_with_78_and_is_named() {
    let folder = Scratch::new();
    let refuses = |args: &[&str], variables: &[(&str, &str)], named: &str| {
        let (code, why) = refusal(folder.path(), args, variables);
        assert_eq!(code, 78, "{variables:?}: {why}");
        assert!(why.contains(named), "{why}");
    };
    refuses(&UP, &[("RELAY_BROKER_CONFIG", "missing")], "missing");
    refuses(
        &["up"],
        &[("RELAY_WORKSPACE_KEY", "nonsense")],
        "RELAY_WORKSPACE_KEY",
    );
    refuses(
        &["up"],
        &[("RELAY_BASE_URL", "http://127.0.0.1:1")],
        "RELAY_BASE_URL",
    );
    refuses(
        &["up"],
        &[("RELAY_API_KEY_FILE", "missing")],
        "RELAY_API_KEY_FILE",
    );
    std::fs::write(folder.path().join("relay-broker.toml"), "[nonsense").expect("room");
    refuses(&UP, &[], "relay-broker.toml");
}

#[test]
fn the_codes_in_the_docs_are_those_that_are_tested() {
    let docs = include_str!("../docs/operations.md");
    let section = docs.split("## Exit codes").nth(1).expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let told: Vec<i32> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(told, CODES);
}

/// A unit tries again just where the docs say that it is of use.
#[test]
fn the_units_start_no_broker_again_whose_next_start_would_find_the_same() {
    let docs = include_str!("../docs/operations.md");
    let rows = docs.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let code: i32 = cells.first()?.parse().ok()?;
        cells.last()?.starts_with("no").then_some(code)
    });
    let of_no_use: Vec<i32> = rows.filter(|code| *code != 0).collect();
    for unit in [
        include_str!("../packaging/systemd/system/relay-broker.service"),
        include_str!("../packaging/systemd/user/relay-broker.service"),
    ] {
        let prevented = unit
            .lines()
            .find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
        let prevented = prevented.expect("a line").split(' ');
        let prevented: Vec<i32> = prevented.filter_map(|code| code.parse().ok()).collect();
        assert_eq!(prevented, of_no_use);
    }
}

/// What a failed start says comes whole, also where the log before it fills the pipe that its parent reads.
#[test]
fn the_reason_of_a_failed_start_arrives_behind_a_flood_of_other_lines() {
    let folder = Scratch::new();
    let engine = Scripted::start(|_| Some(refused(403, "forbidden")), |_| Upgrade::Yes);
    let flags = engine.flags();
    let mut up = command(folder.path(), &["up"]);
    up.args(flags)
        .env("RUST_LOG", "trace")
        .stdout(Stdio::piped());
    // Of this child alone: other tests start programs meanwhile.
    let (from, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    // The pipe is full when the program begins to speak.
    rustix::io::ioctl_fionbio(&to, true).expect("ours");
    while rustix::io::write(&to, &[b'\n'; 4096]).is_ok() {}
    let mut child = up.stderr(to).spawn().expect("it starts");
    drop(up);
    // It has nothing more to ask of the engine, so that it is about to say why it ends.
    crate::support::until("the refusal", || (!engine.mints().is_empty()).then_some(()));
    let mut said = String::new();
    std::fs::File::from(from)
        .read_to_string(&mut said)
        .expect("text");
    assert_eq!(child.wait().expect("ours").code(), Some(77));
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.contains("relay-broker: no node token to be had") && said.ends_with('\n'),
        "{last}"
    );
}

/// Clients of a broker know three codes.
#[test]
fn commands_that_find_no_broker_end_with_1() {
    let folder = Scratch::new();
    let (code, _, _) = run(folder.path(), &["status"]);
    assert_eq!(code, Some(1));
}

/// The exit code of a broker that ends by itself.
fn ends(node: &mut Node) -> i32 {
    crate::support::until("its end", || node.process.code())
}

fn last_word(folder: &Scratch) -> String {
    let log = std::fs::read_to_string(folder.path().join("stderr.log")).unwrap_or_default();
    // In a log it has a time before it.
    let word = log
        .lines()
        .last()
        .and_then(|line| line.split_once("relay-broker: "));
    word.map_or(log.clone(), |(_, word)| word.to_owned())
}

fn say(node: &Node, to: &str) {
    let text = serde_json::json!({"to": to, "text": "go", "raw": true});
    let (status, body) = node.call("POST", "/api/send", Some(text));
    assert_eq!(status, 200, "{body}");
}

#[test]
fn a_broker_that_exits_with_its_agents_waits_for_the_last_and_ends_well() {
    let folder = Scratch::new();
    let agents = [
        "--agent",
        "ada=sh -c 'read x'",
        "--agent",
        "bob=sh -c 'read x'",
    ];
    let mut node = Node::up(
        folder.path(),
        &[&["--exit-with-agents"], &agents[..]].concat(),
    );
    node.ready("ada");
    node.ready("bob");
    say(&node, "ada");
    crate::support::until("the end of ada", || {
        node.agent("ada").is_none().then_some(())
    });
    assert!(!node.process.ended() && node.agent("bob").is_some());
    say(&node, "bob");
    assert_eq!(ends(&mut node), 0);
    assert!(!folder.path().join(".relay-broker/connection.json").exists());
}

#[test]
fn a_broker_that_exits_with_any_of_its_agents_says_which_one_failed() {
    let folder = Scratch::new();
    let agents = [
        "--agent",
        "ada=sh -c 'read x; exit 70'",
        "--agent",
        "bob=cat",
    ];
    let mut node = Node::up(
        folder.path(),
        &[&["--exit-with-agents=any"], &agents[..]].concat(),
    );
    node.ready("ada");
    say(&node, "ada");
    assert_eq!(ends(&mut node), 1);
    assert_eq!(last_word(&folder), "agent ada ended: exit code 70");
}

#[test]
fn an_agent_that_is_tried_again_has_not_ended_and_one_that_is_given_up_has_failed() {
    let folder = Scratch::new();
    let file = "[agent.ada]\ncommand = \"sh -c 'echo start >> starts; exit 3'\"\ncooldown = \"1ms\"\nmax_failures = 3\n";
    std::fs::write(folder.path().join("relay-broker.toml"), file).expect("writable");
    let mut node = Node::up(folder.path(), &["--exit-with-agents=any"]);
    assert_eq!(ends(&mut node), 1);
    let starts = std::fs::read_to_string(folder.path().join("starts")).expect("it ran");
    assert_eq!(starts.lines().count(), 3);
    assert_eq!(
        last_word(&folder),
        "agent ada ended: it failed 3 times in a row, at last with: exit code 3"
    );
}

#[test]
fn a_broker_without_agents_cannot_exit_with_them() {
    let folder = Scratch::new();
    let (code, why) = refusal(
        folder.path(),
        &[&UP[..], &["--exit-with-agents"]].concat(),
        &[],
    );
    assert_eq!(code, 2);
    assert!(
        why.contains("and there are none; add --agent NAME=CMD"),
        "{why}"
    );
}
