use super::*;
use crate::sys::disk::tests::Scratch;
use serde_json::json;

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("room");
}

fn letter(n: u64) -> Value {
    json!({
        "worker_name": "ada", "attempts": 1, "queued_at_ms": 1000 - n, "last_error": null, "failed_attempts": 0,
        "delivery": {
            "delivery_id": format!("del_{n}"), "event_id": format!("http_{n}"), "workspace_id": "w",
            "workspace_alias": null, "from": "lead", "target": "ada", "body": format!("words {n}"),
            "thread_id": null, "priority": 2, "injection_mode": "steer", "of_a_newer_version": true,
        },
    })
}

#[test]
fn mail_is_taken_in_the_order_in_which_it_was_queued() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    let mut engines = letter(3);
    engines["delivery"]["event_id"] = json!("1905");
    let entries = json!([letter(1), letter(2), engines]);
    write(dir, "pending-shop.json", &entries.to_string());
    let import = find(dir);
    let mail = &import.estate.mail;
    let bodies: Vec<&str> = mail.iter().map(|d| d.body.as_str()).collect();
    assert_eq!(bodies, ["words 3", "words 2", "words 1"]);
    assert_eq!(
        (&mail[0].origin, &mail[1].origin),
        (&Origin::Acknowledged, &Origin::Local)
    );
    assert_eq!((mail[0].mode, mail[0].agent.as_str()), (Mode::Steer, "ada"));
    import.put_aside(dir).expect("room");
    assert!(dir.join("imported/pending-shop.json").is_file());
    assert_eq!(find(dir).files.len(), 0, "once");
    // The same again, from a broker that ran here in between.
    write(dir, "pending-shop.json", &entries.to_string());
    find(dir).put_aside(dir).expect("room");
    assert!(dir.join("imported/pending-shop.json.1").is_file());
}

#[test]
fn dead_letters_and_agents_are_taken_with_what_is_known_of_them() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    let mut dead = letter(1);
    dead["reason"] = json!("recipient gone");
    write(dir, "dead-letters-shop.json", &json!([dead]).to_string());
    let agent = json!({
        "runtime": "pty", "parent": "Dashboard", "channels": ["general"], "pid": 1, "started_at": 7,
        "spec": {"name": "ada", "runtime": "pty", "cli": "cat", "args": ["-u"], "channels": ["general"]},
    });
    write(
        dir,
        "state-shop.json",
        &json!({"agents": {"ada": agent, "@bad": agent}}).to_string(),
    );
    let import = find(dir);
    assert_eq!(import.estate.dead[0].1, "recipient gone");
    let (name, departed) = &import.estate.agents[0];
    assert_eq!(
        (name.as_str(), departed.command.as_str()),
        ("ada", "cat -u")
    );
    assert_eq!((departed.at, import.unreadable.len()), (Wall(7000), 1));
}

#[test]
fn what_is_torn_or_of_a_newer_version_stays_and_the_rest_is_taken() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    let whole = json!([letter(1)]).to_string();
    write(dir, "pending-torn.json", &whole[..whole.len() / 2]);
    write(dir, "pending-newer.json", r#"{"version":2,"pending":[]}"#);
    write(dir, "dead-letters-newer.json", r#"[{"letter":1}]"#);
    write(dir, "state-newer.json", r#"{"version":2}"#);
    write(dir, "pending-empty.json", "");
    let one_bad = json!([letter(1), {"worker_name": "ada"}]).to_string();
    write(dir, "pending-shop.json", &one_bad);
    write(dir, "others.json", "[]");
    let import = find(dir);
    assert_eq!((import.estate.mail.len(), import.unreadable.len()), (1, 1));
    import.put_aside(dir).expect("room");
    for stays in [
        "pending-torn.json",
        "pending-newer.json",
        "dead-letters-newer.json",
        "state-newer.json",
        "pending-empty.json",
        "others.json",
    ] {
        assert!(dir.join(stays).is_file(), "{stays}");
    }
    assert!(!dir.join("pending-shop.json").exists());
}

#[test]
fn a_folder_in_which_upstreams_broker_runs_is_taken() {
    let scratch = Scratch::new();
    let path = scratch.path().join("broker-shop.lock");
    let file = File::create(&path).expect("room");
    check_free(scratch.path()).expect("nobody has it");
    file.lock().expect("free");
    write(scratch.path(), "connection.json", r#"{"pid":4711}"#);
    let refused = check_free(scratch.path()).expect_err("held");
    assert!(
        refused
            .text
            .contains("another broker instance is already running in this directory (pid: 4711")
    );
}

#[test]
fn what_is_passed_over_is_named_with_the_reason_and_what_stands_twice_counts_once() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    let mut early = letter(2);
    early["queued_at_ms"] = json!(-5);
    let twice = json!([letter(1), letter(1), early]).to_string();
    write(dir, "pending-shop.json", &twice);
    let agent = json!({"spec": {"cli": "cat"}});
    write(
        dir,
        "state-shop.json",
        &json!({"agents": {"ada": agent}}).to_string(),
    );
    let import = find(dir);
    assert_eq!(import.estate.mail.len(), 1);
    let told = import.unreadable.join("\n");
    assert!(
        told.contains("pending-shop.json, entry 2: ") && told.contains("twice"),
        "{told}"
    );
    assert!(told.contains("entry 3: ") && told.contains("-5"), "{told}");
    assert!(
        import.estate.agents[0].1.at > Wall(0),
        "nobody left in 1970"
    );
}
