//! The log: where it goes, what its lines look like, and what signals do about it.

use std::fs;
use std::path::Path;

use relay_broker::sys::session::alive;

use crate::support::{Node, Scratch, command, signal, until};

/// Whether a line begins with a time such as `2026-06-28T10:00:00.000Z`.
fn has_time(line: &str) -> bool {
    let shape: String = line
        .chars()
        .take(24)
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape == "0000-00-00T00:00:00.000Z"
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn every_line_that_is_not_for_a_terminal_has_its_time() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    assert_eq!(node.process.stop(), Some(0));
    let log = read(&folder.path().join("stderr.log"));
    assert!(log.lines().count() > 5, "{log}");
    for line in log.lines() {
        assert!(has_time(line), "{line}");
    }
}

#[test]
fn a_log_file_that_is_moved_away_is_begun_anew_at_a_hang_up_which_ends_nothing() {
    let folder = Scratch::new();
    let (log, old) = (folder.path().join("log"), folder.path().join("log.1"));
    let node = Node::up(folder.path(), &["--log-file", "log", "--agent", "ada=cat"]);
    node.ready("ada");
    assert!(read(&log).contains("engine"), "{}", read(&log));
    assert_eq!(read(&folder.path().join("stderr.log")), "");
    fs::rename(&log, &old).expect("ours");
    signal(node.process.pid(), "HUP");
    until("a new file", || read(&log).contains("SIGHUP").then_some(()));
    assert!(!read(&old).contains("SIGHUP"));
    assert!(alive(node.process.pid()));
    node.ready("ada");
    assert_eq!(node.process.stop(), Some(0));
    assert!(read(&log).ends_with("stopped\n"));
}

#[test]
fn who_asks_by_signal_how_things_stand_is_told_in_the_log() {
    let folder = Scratch::new();
    let mut node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    let log = folder.path().join("stderr.log");
    let told = |times| {
        until("the state of things", || {
            let log = read(&log);
            let agents = log.matches("status: agent ada: ready").count();
            (agents == times && log.contains("1 agents, 0 messages wait")).then_some(())
        });
    };
    signal(node.process.pid(), "USR1");
    told(1);
    node.get("/api/status");
    signal(node.process.pid(), "QUIT");
    told(2);
    let code = until("its end", || {
        node.process.ended().then(|| node.process.code())
    });
    assert_eq!(code, Some(0));
}

#[test]
fn a_level_on_the_command_line_wins_over_the_variable() {
    let folder = Scratch::new();
    let lines = |args: &[&str]| {
        let log = folder.path().join("stderr.log");
        let _ = fs::remove_file(&log);
        let node = Node::up_in(folder.path(), args, &[("RUST_LOG", "debug")]);
        assert_eq!(node.process.stop(), Some(0));
        read(&log).matches(" DEBUG ").count()
    };
    assert!(lines(&[]) > 0);
    assert_eq!(lines(&["--log-level", "warn"]), 0);
}

#[test]
fn a_log_file_that_cannot_be_written_ends_the_start_and_a_failed_start_speaks_on_standard_error_too()
 {
    let folder = Scratch::new();
    let out = command(folder.path(), &["up", "--log-file", "no/such/folder/log"]).output();
    let out = out.expect("it starts");
    assert_eq!(out.status.code(), Some(73));
    let node = Node::up(folder.path(), &[]);
    let out = command(folder.path(), &["up", "--log-file", "log"]).output();
    let out = out.expect("it starts");
    assert_eq!(out.status.code(), Some(75));
    for said in [
        String::from_utf8_lossy(&out.stderr).into_owned(),
        read(&folder.path().join("log")),
    ] {
        assert!(said.contains("another broker instance"), "{said}");
    }
    assert_eq!(node.process.stop(), Some(0));
}
