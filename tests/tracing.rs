//! The life of a message, as `trace` tells it: while a broker runs, without one, after a kill, and long afterwards.

use std::path::Path;

use serde_json::{Value, json};

use crate::delivering::{keeper, kept};
use crate::support::{Node, Scratch, run, until};

/// What `trace` says; it must know the message.
#[track_caller]
pub fn traced(folder: &Path, args: &[&str]) -> Value {
    let args: Vec<&str> = ["trace", "--json"].iter().chain(args).copied().collect();
    let (code, out, err) = run(folder, &args);
    assert_eq!(code, Some(0), "{args:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
}

/// Waits until the last message for an agent has ended so; its life.
pub fn traced_until(folder: &Path, name: &str, words: &str) -> Value {
    until(
        &format!("{words:?} in the life of the last message for {name}"),
        || {
            let (_, out, _) = run(folder, &["trace", "--json", "--last", name]);
            let told: Value = serde_json::from_str(&out).ok()?;
            let verdict = told["verdict"].as_str()?.to_owned();
            (told["end"] == words || verdict.contains(words)).then_some(told)
        },
    )
}

fn steps(told: &Value) -> Vec<&str> {
    let steps = told["steps"].as_array().expect("steps").iter();
    steps
        .map(|step| step["step"].as_str().expect("a word"))
        .collect()
}

fn has_in_order(told: &Value, words: &[&str]) {
    let all = steps(told);
    let mut rest = all.iter();
    for word in words {
        assert!(
            rest.any(|step| step == word),
            "{word} of {words:?} in {all:?}"
        );
    }
}

fn node_of_ada(folder: &Path) -> Node {
    let ada = format!("ada={}", shell_words::join(keeper("ada.txt")));
    let node = Node::up(folder, &["--agent", &ada]);
    node.ready("ada");
    node
}

fn send(node: &Node, text: &str) -> String {
    let body = json!({"to": "ada", "text": text, "from": "me"});
    let (status, answer) = node.call("POST", "/api/send", Some(body));
    assert_eq!(status, 200, "{answer}");
    answer["event_id"].as_str().expect("an id").to_owned()
}

fn read(folder: &Path, count: usize) {
    until(&format!("{count} messages read"), || {
        (kept(&folder.join("ada.txt")).len() == count).then_some(())
    });
}

#[test]
fn a_message_of_the_engine_is_followed_from_its_number_to_its_acknowledgement() {
    let folder = Scratch::new();
    let node = node_of_ada(folder.path());
    let boss = node.engine.register("boss");
    node.engine.dm(&boss, "ada", "@@one@@");
    read(folder.path(), 1);
    let told = until("the acknowledgement", || {
        let told = traced_until(folder.path(), "ada", "verified");
        steps(&told).contains(&"acknowledged").then_some(told)
    });
    has_in_order(
        &told,
        &["accepted", "given", "typed", "settled", "acknowledged"],
    );
    assert_eq!((&told["from"], &told["tries"]), (&json!("boss"), &json!(1)));
    let seen = told["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .find(|step| step["step"] == "seen");
    let seen = seen.unwrap_or_else(|| panic!("what the terminal showed: {told}"));
    assert!(seen["rows"].to_string().contains("@@one@@"), "{seen}");
    let (_, shown, _) = run(folder.path(), &["trace", "--from", "boss"]);
    assert!(shown.contains("from the engine, as number 1"), "{shown}");
    assert!(
        shown.trim_end().ends_with("after it was accepted"),
        "{shown}"
    );
    let mode = std::process::Command::new("stat");
    let mut mode = mode;
    let mode = mode
        .args(["-c", "%a", ".relay-broker/history/steps.jsonl"])
        .current_dir(folder.path());
    assert_eq!(mode.output().expect("stat").stdout, b"600\n");
}

#[test]
fn a_message_behind_others_says_behind_whom_and_a_held_one_that_it_is_held() {
    let folder = Scratch::new();
    let node = node_of_ada(folder.path());
    run(folder.path(), &["hold", "ada"]);
    let (one, two) = (send(&node, "@@one@@"), send(&node, "@@two@@"));
    let told = traced_until(folder.path(), "ada", "are held");
    assert_eq!(
        (&told["message"], &told["end"]),
        (&json!(two), &json!("waiting"))
    );
    assert_eq!(told["behind"], json!([one]));
    run(folder.path(), &["auto", "ada"]);
    read(folder.path(), 2);
    let told = traced_until(folder.path(), "ada", "verified");
    has_in_order(
        &told,
        &["accepted", "parked", "mode", "given", "typed", "settled"],
    );
}

#[test]
fn without_a_broker_it_is_all_there_and_a_kill_is_told() {
    let folder = Scratch::new();
    let node = node_of_ada(folder.path());
    let one = send(&node, "@@one@@");
    traced_until(folder.path(), "ada", "verified");
    run(folder.path(), &["hold", "ada"]);
    let two = send(&node, "@@two@@");
    node.process.kill9();
    assert_eq!(traced(folder.path(), &[&one])["end"], "verified");
    assert_eq!(traced(folder.path(), &[&two])["end"], "waiting");
    let node = node_of_ada(folder.path());
    run(folder.path(), &["auto", "ada"]);
    read(folder.path(), 2);
    let told = traced_until(folder.path(), "ada", "verified");
    assert_eq!(told["message"], two);
    has_in_order(&told, &["accepted", "opened", "given", "typed", "settled"]);
    let (_, shown, _) = run(folder.path(), &["trace", &two]);
    assert!(shown.contains("the one before it was killed"), "{shown}");
    assert_eq!(node.process.stop(), Some(0));
    assert_eq!(traced(folder.path(), &[&one])["end"], "verified");
}

#[test]
fn an_id_that_several_have_is_answered_by_a_list_and_one_that_nobody_has_by_how_far_it_goes_back() {
    let folder = Scratch::new();
    let node = node_of_ada(folder.path());
    let (one, two) = (send(&node, "@@one@@"), send(&node, "@@two@@"));
    traced_until(folder.path(), "ada", "verified");
    let common = one
        .chars()
        .zip(two.chars())
        .take_while(|(a, b)| a == b)
        .count();
    let (code, out, err) = run(folder.path(), &["trace", &one[..common]]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.contains("@@one@@") && out.contains("@@two@@"), "{out}");
    let (code, out, _) = run(folder.path(), &["trace", "--json", &one[..common]]);
    let list: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, list["matches"].as_array().map(Vec::len)),
        (Some(3), Some(2))
    );
    let (code, _, err) = run(folder.path(), &["trace", "nothing-like-it"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("'nothing-like-it'") && err.contains("goes back to 20"),
        "{err}"
    );
    let (code, _, err) = run(folder.path(), &["trace"]);
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn whoever_wants_no_history_has_none_and_the_journal_still_tells_of_what_waits() {
    let folder = Scratch::new();
    std::fs::write(
        folder.path().join("relay-broker.toml"),
        "[history]\nmebibytes = 0\n",
    )
    .expect("room");
    let node = node_of_ada(folder.path());
    run(folder.path(), &["hold", "ada"]);
    let one = send(&node, "@@one@@");
    assert!(!folder.path().join(".relay-broker/history").exists());
    let told = traced(folder.path(), &[&one]);
    assert_eq!(
        (&told["end"], &told["history_since_ms"]),
        (&json!("waiting"), &Value::Null)
    );
}

/// Killed at each place where a message passes, and started again: what `trace` says of each message is what the agent read.
#[cfg(debug_assertions)]
#[test]
fn what_it_says_of_messages_after_kills_is_what_the_agent_read() {
    let folder = Scratch::new();
    let ada = format!("ada={}", shell_words::join(keeper("ada.txt")));
    let mut sent = Vec::new();
    for (round, place) in [
        "inject.durable:2",
        "agent.wrote:2",
        "agent.landed:2",
        "agent.noted:2",
        "commit.durable:14",
        "ack.durable:2",
    ]
    .iter()
    .enumerate()
    {
        let node = Node::up_with(folder.path(), &["--agent", &ada], &format!("die={place}"));
        for n in 0..4 {
            let text = format!("@@{round}-{n}@@");
            let body = json!({"to": "ada", "text": text, "from": "me"});
            let url = format!("{}/api/send", node.api);
            if let Ok((200, answer)) = crate::support::try_http("POST", &url, &node.key, Some(body))
            {
                sent.push((
                    answer["event_id"].as_str().expect("an id").to_owned(),
                    format!("{round}-{n}"),
                ));
            }
        }
        node.process.kill9();
    }
    let node = node_of_ada(folder.path());
    until("nothing waits", || {
        (node.get("/api/status")["pending_delivery_count"] == 0).then_some(())
    });
    traced_until(folder.path(), "ada", "verified");
    let all = kept(&folder.path().join("ada.txt"));
    assert!(sent.len() > 6, "{sent:?}");
    for (id, text) in &sent {
        let told = traced(folder.path(), &[id]);
        let times = all.iter().filter(|read| *read == text).count();
        assert!(times >= 1, "{text} was read: {told}");
        assert!(
            ["verified", "unverified"].contains(&told["end"].as_str().unwrap_or_default()),
            "{text}: {told}"
        );
        assert!(
            times == 1 || told["redelivered"] == true,
            "{text}, read {times} times: {told}"
        );
    }
}
