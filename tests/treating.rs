//! How the operator wants agent programs to be treated, as the configuration file says it.

use std::path::Path;

use serde_json::Value;

use crate::support::{Node, Process, Scratch, run};

/// A program with a terminal, under any name.
fn program(folder: &Path, name: &str, script: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    let made = std::process::Command::new("chmod")
        .arg("+x")
        .arg(&path)
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    path.to_str().expect("a path").to_owned()
}

fn configure(folder: &Path, text: &str) {
    std::fs::write(folder.join("relay-broker.toml"), text).expect("a file");
}

fn evidence(node: &Node, name: &str) -> Value {
    let ready = node.events("worker_ready");
    let of = ready.iter().find(|event| event["name"] == name);
    of.expect("it is ready")["evidence"].clone()
}

#[test]
fn an_operator_can_describe_a_program_that_nobody_measured() {
    let folder = Scratch::new();
    let said = "stty raw -echo; printf 'loading'; exec cat >/dev/null";
    let mine = program(folder.path(), "mine", said);
    let other = program(folder.path(), "other", said);
    configure(
        folder.path(),
        "[profile.mine]\nlike = \"codex\"\nready_within = \"1s\"\n",
    );
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &[&mine]);
    assert_eq!(evidence(&node, "ada"), "1 s passed since the start");
    node.spawn("bob", &[&other]);
    assert_eq!(evidence(&node, "bob"), "output, then 300 ms of quiet");
    let (code, _, err) = run(
        folder.path(),
        &["spawn", "eve", "--profile", "mine", "--", &other],
    );
    assert_eq!(code, Some(0), "{err}");
    node.ready("eve");
    assert_eq!(evidence(&node, "eve"), "1 s passed since the start");
    let (code, _, err) = run(
        folder.path(),
        &["spawn", "max", "--profile", "yours", "--", &other],
    );
    assert_eq!(code, Some(1));
    assert!(err.contains("no profile is named 'yours'"), "{err}");
}

#[test]
fn a_setting_that_cannot_be_meant_stops_the_start_and_is_named() {
    let folder = Scratch::new();
    configure(folder.path(), "[profile.mine]\nlike = \"vim\"\n");
    let (code, err) = Process::try_start(folder.path(), &["up"])
        .err()
        .expect("refused");
    assert_eq!(code, Some(2));
    assert!(
        err.contains("relay-broker.toml: [profile.mine] like = \"vim\""),
        "{err}"
    );
}
