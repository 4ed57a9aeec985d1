//! How the operator wants agent programs to be treated, as the configuration file says it.

use std::path::Path;

use serde_json::Value;

use crate::support::{Node, Process, Scratch, run, script, until};

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
    let mine = script(folder.path(), "mine", said);
    let other = script(folder.path(), "other", said);
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
    assert_eq!(code, Some(78));
    assert!(
        err.contains("relay-broker.toml:2: [profile.mine] like = \"vim\""),
        "{err}"
    );
}

/// A program that asks as Claude Code does, waits for a key, and then shows its input line.
fn asks(folder: &Path, name: &str) -> String {
    let text = "stty raw -echo; \
         printf '\\033[?2004hQuick safety check: is it yours?\\r\\n\\r\\n ❯ 1. Yes, I trust this folder\\r\\n'; \
         printf '   2. No, exit\\r\\n\\r\\n Enter to confirm\\033[3;2H'; \
         dd bs=1 count=1 of=\"$0.key\" 2>/dev/null; printf '\\033[2J\\033[H❯ '; exec cat";
    script(folder, name, text)
}

#[test]
fn an_agent_that_asks_whether_to_trust_its_folder_is_shown_as_blocked_and_nothing_is_pressed() {
    let folder = Scratch::new();
    let claude = asks(folder.path(), "claude");
    let node = Node::up(folder.path(), &[]);
    let body = serde_json::json!({"name": "ada", "harness_config": {"command": claude}});
    assert_eq!(node.call("POST", "/api/spawn", Some(body)).0, 200);
    let (code, out, err) = run(folder.path(), &["wait", "ada", "--until", "blocked"]);
    assert_eq!((code, out.as_str()), (Some(0), "ada is blocked\n"), "{err}");
    let agent = node.agent("ada").expect("it runs");
    assert_eq!(agent["blocked_on"], "trust_folder");
    let event = &node.events("agent_blocked")[0];
    assert!(
        event["screen"].to_string().contains("1. Yes, I trust"),
        "{event}"
    );
    let (_, out, _) = run(folder.path(), &["agents"]);
    assert!(out.contains("blocked/working (trust_folder)"), "{out}");
    let (_, status, _) = run(folder.path(), &["status"]);
    let shown = status.split_once("ada is blocked; its screen shows\n");
    let (_, shown) = shown.unwrap_or_else(|| panic!("what it asks is not in {status}"));
    assert!(shown.contains("1. Yes"), "{status}");
    let typed = node.call(
        "POST",
        "/api/input/ada",
        Some(serde_json::json!({"data": "1"})),
    );
    assert_eq!(typed.0, 200);
    node.ready("ada");
    assert_eq!(node.events("agent_unblocked")[0]["dialog"], "trust_folder");
    let pressed = std::fs::read(format!("{claude}.key")).expect("a key");
    assert_eq!(pressed, b"1");
    assert!(node.events("dialog_answered").is_empty());
}

#[test]
fn a_folder_is_trusted_for_an_operator_who_said_so() {
    let folder = Scratch::new();
    let mine = asks(folder.path(), "mine");
    configure(
        folder.path(),
        &format!(
            "[harness.mine]\ncommand = {mine:?}\nprofile = \"claude\"\ntrust_folder = \"accept\"\n"
        ),
    );
    let node = Node::up(folder.path(), &[]);
    let wish = ["spawn", "ada", "--on", "any", "--", "mine"];
    let (code, _, err) = run(folder.path(), &wish);
    assert_eq!(code, Some(0), "{err}");
    node.ready("ada");
    let answered = node.events("dialog_answered");
    assert_eq!(answered.len(), 1, "{answered:?}");
    assert_eq!(
        (&answered[0]["policy"], &answered[0]["keys"]),
        (&"accept".into(), &"enter".into())
    );
    let pressed = std::fs::read(format!("{mine}.key")).expect("a key");
    assert_eq!(pressed, b"\r");
}

#[test]
fn an_operator_can_say_how_long_a_dialog_may_hold_messages_back() {
    let folder = Scratch::new();
    let text = "stty raw -echo; printf '\\033[?2004h❯ '; dd bs=1 count=1 of=/dev/null 2>/dev/null; \
         printf '\\033[2J\\033[HDo you want to proceed?\\r\\n ❯ 1. Yes\\r\\n   2. No\\r\\n\\r\\n Esc to cancel\\033[2;2H'; \
         exec cat > \"$0.typed\"";
    let claude = script(folder.path(), "claude", text);
    let node = Node::up(folder.path(), &["--blocked-limit", "1s"]);
    node.spawn("ada", &[&claude]);
    let key = serde_json::json!({"data": "x\r"});
    assert_eq!(node.call("POST", "/api/input/ada", Some(key)).0, 200);
    until("the dialog", || {
        let agent = node.agent("ada")?;
        (agent["blocked_on"] == "permission").then_some(())
    });
    assert_eq!(run(folder.path(), &["send", "ada", "hello"]).0, Some(0));
    let letter = until("the dead letter", || node.events("dead_letter_added").pop());
    let reason = letter["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("held back for 1 s"), "{reason}");
    assert!(reason.contains("(it asks for permission)"), "{reason}");
    assert!(reason.contains("Do you want to proceed?"), "{reason}");
    let status = node.get("/api/status");
    assert_eq!(status["counters"]["deliveries_blocked"], 1);
    let (_, out, _) = run(folder.path(), &["dead"]);
    assert!(out.contains("held back"), "{out}");
    let (code, _, err) = run(folder.path(), &["redeliver", "--all"]);
    assert_eq!(code, Some(0), "{err}");
    let typed = std::fs::read(format!("{claude}.typed")).expect("it reads");
    assert_eq!(typed, b"\r", "the rest of what the person typed");
}

#[test]
fn the_first_message_to_an_agent_says_how_to_answer_and_none_after_it_does() {
    let folder = Scratch::new();
    let got = folder.path().join("got");
    let said = format!(
        "stty raw -echo; printf '\\033[?2004h> '; exec tee {}",
        got.display()
    );
    let mine = script(folder.path(), "mine", &said);
    configure(
        folder.path(),
        "[profile.mine]\ncomposer = true\n[profile.quiet]\ncomposer = true\nhint = false\n",
    );
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &[&mine]);
    node.ready("ada");
    for text in ["the first", "the second"] {
        let (code, _, err) = run(folder.path(), &["send", "ada", "--wait", text]);
        assert_eq!(code, Some(0), "{err}");
    }
    let text = until("both messages", || {
        let text = std::fs::read_to_string(&got).ok()?;
        text.contains("the second").then_some(text)
    });
    assert_eq!(
        text.matches("relay-broker send NAME 'TEXT'").count(),
        1,
        "{text:?}"
    );
    let first = text
        .find("]: the first\n(This is from")
        .expect("below the words");
    assert!(
        first
            < text
                .find("]: the second\x1b[201~")
                .expect("the bare message")
    );

    let (code, _, err) = run(
        folder.path(),
        &["spawn", "eve", "--profile", "quiet", "--", &mine],
    );
    assert_eq!(code, Some(0), "{err}");
    node.ready("eve");
    let (code, _, err) = run(folder.path(), &["send", "eve", "--wait", "hello"]);
    assert_eq!(code, Some(0), "{err}");
    let text = std::fs::read_to_string(&got).expect("what eve got");
    assert!(text.contains("]: hello\x1b[201~"), "{text:?}");
}
