//! Agents and messages that come back: restarts by policy, letters given another chance, limits that speak.

use serde_json::{Value, json};

use crate::delivering::{keeper, kept, numbers};
use crate::support::{Node, Scratch, run, until};

fn spawn(folder: &Scratch, args: &[&str]) {
    let (code, _, err) = run(folder.path(), &[&["spawn"], args].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

/// A program that writes down what it was started with and what it reads.
fn diarist(file: &str) -> String {
    format!("echo start >> {file}; exec cat >> {file}")
}

fn lines(folder: &Scratch, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path().join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn pid(node: &Node, agent: &str) -> Option<u64> {
    node.agent(agent)?["pid"].as_u64()
}

#[test]
fn an_agent_that_crashes_is_started_again_and_goes_on_with_its_mail() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let args = [
        "ada",
        "--restart",
        "on-failure",
        "--cooldown",
        "50ms",
        "--task",
        "begin @@task@@",
    ];
    spawn(
        &folder,
        &[&args[..], &["--", "sh", "-c", &diarist("ada.txt")]].concat(),
    );
    let task = |folder: &Scratch| kept(&folder.path().join("ada.txt"));
    until("its first task", || {
        (task(&folder) == ["task"]).then_some(())
    });
    let first = pid(&node, "ada").expect("it runs");
    crate::support::signal(u32::try_from(first).expect("a pid"), "KILL");
    until("another process", || {
        pid(&node, "ada").filter(|now| *now != first)
    });
    node.ready("ada");
    let boss = node.engine.register("boss");
    node.engine.dm(&boss, "ada", "more @@mail@@");
    until("its mail", || (task(&folder).len() == 2).then_some(()));
    assert_eq!(task(&folder), ["task", "mail"], "and its task only once");
    assert_eq!(node.events("agent_restarted").len(), 1);
    let metrics = node.get("/api/metrics");
    assert_eq!(metrics["broker"]["total_restarts"], 1);
}

#[test]
fn a_kept_agent_comes_back_with_a_killed_broker_and_one_that_was_released_does_not() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    for name in ["kept", "gone"] {
        let diary = diarist(&format!("{name}.txt"));
        let task = format!("begin @@{name}@@");
        spawn(
            &folder,
            &[
                name,
                "--restart",
                "always",
                "--task",
                &task,
                "--",
                "sh",
                "-c",
                &diary,
            ],
        );
        let file = format!("{name}.txt");
        until("its first task", || {
            (lines(&folder, &file).len() == 2).then_some(())
        });
    }
    assert_eq!(run(folder.path(), &["release", "gone"]).0, Some(0));
    node.process.kill9();
    let node = Node::up(folder.path(), &[]);
    node.ready("kept");
    until("its second start", || {
        (lines(&folder, "kept.txt").len() == 3).then_some(())
    });
    let boss = node.engine.register("boss");
    node.engine.dm(&boss, "kept", "more @@mail@@");
    until("its mail", || {
        (lines(&folder, "kept.txt").len() == 4).then_some(())
    });
    assert_eq!(kept(&folder.path().join("kept.txt")), ["kept", "mail"]);
    assert_eq!(
        lines(&folder, "gone.txt").len(),
        2,
        "neither started nor written to again"
    );
    assert!(node.agent("gone").is_none());
}

#[test]
fn a_letter_that_failed_is_listed_and_redelivered() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    let long = "x".repeat(5000);
    let ask = |args: &[&str]| run(folder.path(), args);
    let (code, out, err) = ask(&["send", "ada", &long, "--wait"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(
        err.contains("ada: failed: line 1 of the message has"),
        "{err}"
    );
    let (_, out, _) = ask(&["dead", "--json"]);
    let dead: Value = serde_json::from_str(&out).expect("JSON");
    let id = dead["dead_letters"][0]["delivery_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert!(
        ask(&["dead"]).1.contains(&id),
        "what `redeliver` wants is what `dead` shows"
    );

    assert_eq!(ask(&["release", "ada"]).0, Some(0));
    let (code, _, err) = ask(&["redeliver", &id]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("no agent named 'ada' runs here; spawn it"),
        "{err}"
    );
    // Read raw, the same line has no limit.
    node.spawn("ada", &["sh", "-c", "stty raw -echo; exec cat > ada.txt"]);
    let (code, out, err) = ask(&["redeliver", "--all"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("waits for ada again"), "{out}");
    until("all of it", || {
        let got = std::fs::read(folder.path().join("ada.txt")).unwrap_or_default();
        (got.iter().filter(|b| **b == b'x').count() >= 5000).then_some(())
    });
    until("no dead letters", || {
        (node.get("/api/dead-letters")["count"] == 0).then_some(())
    });
    let (status, body) = node.call(
        "POST",
        "/api/dead-letters/redeliver",
        Some(json!({"id": "d?"})),
    );
    assert_eq!(
        (status, &body["code"]),
        (404, &json!("dead_letter_not_found"))
    );
    let (code, _, err) = ask(&["redeliver"]);
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn mail_beyond_the_limit_waits_at_the_engine_and_arrives_in_order_all_the_same() {
    let folder = Scratch::new();
    let slow = format!(
        "while [ ! -e go ]; do sleep 0.02; done; {}",
        keeper("slow.txt")[2]
    );
    let flag = format!("slow=sh -c {}", shell_words::quote(&slow));
    let node = Node::up(folder.path(), &["--max-pending", "20", "--agent", &flag]);
    node.ready("slow");
    let boss = node.engine.register("boss");
    for n in 0..100 {
        node.engine.dm(&boss, "slow", &format!("@@slow-{n}@@"));
    }
    until("the limit", || node.events("delivery_deferred").pop());
    let status = node.get("/api/status");
    assert_eq!(status["pending_delivery_count"], 20);
    assert!(status["counters"]["deliveries_refused"].as_u64() > Some(0));
    std::fs::write(folder.path().join("go"), "").expect("writable");
    let file = folder.path().join("slow.txt");
    until("all hundred", || (kept(&file).len() == 100).then_some(()));
    assert_eq!(kept(&file), numbers("slow", 0..100));
}

#[test]
fn an_agent_that_crashed_is_looked_into_afterwards_and_forgotten_by_a_release() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    spawn(&folder, &["ada", "--", "sh", "-c", "echo no key; exit 3"]);
    until("its end", || node.agent("ada").is_none().then_some(()));
    let list = |args: &[&str]| run(folder.path(), args).1;
    let shown: Value = serde_json::from_str(&list(&["agents", "--json"])).expect("JSON");
    assert_eq!(shown["agents"], json!([]), "it does not run");
    let gone = &shown["departed"][0];
    assert_eq!(
        (&gone["name"], &gone["code"], &gone["signal"]),
        (&json!("ada"), &json!(3), &Value::Null)
    );
    assert_eq!(gone["last_lines"], json!(["no key"]));
    let status = list(&["status"]);
    assert!(status.contains("ada ended at "), "{status}");
    assert!(status.contains(": exit code 3 (sh -c "), "{status}");
    assert!(status.contains("\n    no key\n"), "{status}");
    assert_eq!(run(folder.path(), &["release", "ada"]).0, Some(0));
    assert!(!list(&["status"]).contains("ada"));
}

#[test]
fn an_agent_is_started_again_as_often_as_was_said_and_then_given_up() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let often = [
        "--restart",
        "always",
        "--max-restarts",
        "4",
        "--cooldown",
        "0s",
    ];
    let program = ["--", "sh", "-c", "echo start >> ada.txt; exit 1"];
    spawn(&folder, &[&["ada"], &often[..], &program].concat());
    until("that it is given up", || {
        node.events("agent_permanently_dead").pop()
    });
    assert_eq!(
        lines(&folder, "ada.txt").len(),
        5,
        "once, and four times again"
    );
    let (_, out, _) = run(folder.path(), &["agents"]);
    let told = "it ended (exit code 1) and was started again 4 times already";
    assert!(
        out.contains(&format!(": {told}")) && out.contains("ada was given up at "),
        "{out}"
    );
    let flags = ["spawn", "bob", "--max-restarts", "4", "--", "cat"];
    let (code, _, err) = run(folder.path(), &flags);
    assert_eq!(code, Some(2));
    assert!(err.contains("add --restart on-failure"), "{err}");
}

#[test]
fn an_agent_is_restarted_by_one_word_whether_it_runs_or_has_ended() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let diary = diarist("ada.txt");
    spawn(&folder, &["ada", "--", "sh", "-c", &diary]);
    node.ready("ada");
    let first = pid(&node, "ada").expect("it runs");
    assert_eq!(run(folder.path(), &["hold", "ada"]).0, Some(0));
    assert_eq!(
        run(folder.path(), &["send", "ada", "more @@mail@@"]).0,
        Some(0)
    );
    let (code, out, err) = run(folder.path(), &["restart", "ada"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let second = pid(&node, "ada").expect("it runs");
    assert_ne!(second, first);
    let told = format!("ada was ended and runs again (process {second}); a message waits for it\n");
    assert!(out.starts_with(&told), "{out}");
    assert_eq!(run(folder.path(), &["auto", "ada"]).0, Some(0));
    let file = folder.path().join("ada.txt");
    until("its mail", || (kept(&file) == ["mail"]).then_some(()));

    crate::support::signal(u32::try_from(second).expect("a pid"), "KILL");
    until("its end", || node.agent("ada").is_none().then_some(()));
    let (code, out, err) = run(folder.path(), &["restart", "ada", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let done: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(done["was"], "departed");
    assert_eq!(done["pid"].as_u64(), pid(&node, "ada"));
    until("its third start", || {
        let starts = lines(&folder, "ada.txt");
        (starts.iter().filter(|line| *line == "start").count() == 3).then_some(())
    });
    let (code, _, err) = run(folder.path(), &["restart", "bob"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no agent is named 'bob' (here: ada)"), "{err}");
}
