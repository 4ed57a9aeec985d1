//! A broker that dies, in whatever way, goes on where it was.

use crate::delivering::{burst, keeper, kept, numbers};
use relay_broker::sys::session::alive;

use crate::support::{Node, Process, Scratch, run, script, until};

/// The broker is killed with mail on its way to one agent or to ten, and started again on the same folder with the same
/// agents. A kill in the very moment between a program's reading a line and its agent's thread seeing that cannot be told
/// from one just before the reading; that one message comes again rather than not at all. So at most one per agent may
/// stand twice, right beside itself.
fn killed_in_the_middle(count: usize) {
    let folder = Scratch::new();
    let agents: Vec<String> = (0..count).map(|n| format!("k{n}")).collect();
    let flags: Vec<String> = agents
        .iter()
        .map(|a| format!("{a}={}", shell_words::join(keeper(&format!("{a}.txt")))))
        .collect();
    let args: Vec<&str> = flags.iter().flat_map(|f| ["--agent", f]).collect();
    let node = Node::up(folder.path(), &args);
    agents.iter().for_each(|a| node.ready(a));
    let boss = node.engine.register("boss");
    let per_agent = 1000 / count;
    let file = |agent: &str| folder.path().join(format!("{agent}.txt"));
    let all = || agents.iter().map(|a| kept(&file(a)).len()).sum::<usize>();

    // Held, so that the whole burst waits in the ledger and the kill comes while it is being typed.
    for agent in &agents {
        mode(&node, agent, "manual_flush");
    }
    burst(&node.engine, &boss, &agents, per_agent);
    until("the burst in the ledger", || {
        (node.get("/api/status")["pending_delivery_count"] == 1000).then_some(())
    });
    for agent in &agents {
        mode(&node, agent, "auto_inject");
    }
    until("some mail typed", || (all() >= 300).then_some(()));
    // We have just seen something read; a kill right now would always meet the moment after a reading.
    std::thread::sleep(std::time::Duration::from_micros(
        u64::from(std::process::id()) * 7919 % 20_000,
    ));
    node.process.kill9();
    let before: usize = all();
    assert!(before < 1000, "the kill came in the middle");

    let node = Node::up(folder.path(), &args);
    until("nothing pending", || {
        (node.get("/api/status")["pending_delivery_count"] == 0).then_some(())
    });
    for agent in &agents {
        let got = kept(&file(agent));
        let mut once = got.clone();
        once.dedup();
        assert_eq!(
            once,
            numbers(agent, 0..per_agent),
            "all, in order; a copy stands beside its original"
        );
        assert!(
            got.len() <= per_agent + 1,
            "at most the one that was in the terminal came twice"
        );
    }
    eprintln!("{} of {count} agents read one message twice", all() - 1000);
}

fn mode(node: &Node, agent: &str, mode: &str) {
    let path = format!("/api/spawned/{agent}/delivery-mode");
    let (status, body) = node.call("PUT", &path, Some(serde_json::json!({ "mode": mode })));
    assert_eq!(status, 200, "{body}");
}

/// D2: after a `kill -9` what was pending is delivered, in order.
#[test]
fn a_broker_killed_in_the_middle_of_a_thousand_for_one_agent_goes_on() {
    killed_in_the_middle(1);
}

#[test]
fn a_broker_killed_in_the_middle_of_a_thousand_for_ten_agents_goes_on() {
    killed_in_the_middle(10);
}

#[test]
fn mail_that_a_busy_program_never_read_comes_once_after_a_crash() {
    let folder = Scratch::new();
    // Reads nothing until a file appears; before that the kernel holds what we typed, and dies with the terminal.
    let slow = "echo '->pty:ready'; while [ ! -e go ]; do sleep 0.02; done; exec cat >> slow.txt";
    let flag = format!("slow=sh -c {}", shell_words::quote(slow));
    let node = Node::up(folder.path(), &["--agent", &flag]);
    node.ready("slow");
    let boss = node.engine.register("boss");
    for n in 0..20 {
        node.engine.dm(&boss, "slow", &format!("@@slow-{n}@@"));
    }
    until("the first one typed", || {
        node.events("delivery_injected").pop()
    });
    assert!(
        node.events("delivery_ack").is_empty(),
        "typed is not read: nothing is acknowledged"
    );
    node.process.kill9();
    std::fs::write(folder.path().join("go"), "").expect("writable");
    let node = Node::up(folder.path(), &["--agent", &flag]);
    until("nothing pending", || {
        (node.get("/api/status")["pending_delivery_count"] == 0).then_some(())
    });
    assert_eq!(
        kept(&folder.path().join("slow.txt")),
        numbers("slow", 0..20)
    );
}

#[test]
fn event_numbers_and_the_node_are_the_same_after_a_restart() {
    let folder = Scratch::new();
    let seqs = |node: &Node| -> Vec<u64> {
        let all = node.get("/api/events/replay?sinceSeq=0");
        all["events"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["seq"].as_u64())
            .collect()
    };
    let node = Node::up(folder.path(), &[]);
    until("registered", || node.events("node_registered").pop());
    let (id, last) = (
        node.get("/api/session")["node_id"].clone(),
        seqs(&node).pop(),
    );
    node.process.kill9();
    let node = Node::up(folder.path(), &[]);
    until("registered", || node.events("node_registered").pop());
    assert_eq!(node.get("/api/session")["node_id"], id);
    assert!(seqs(&node).first() > last.as_ref());
}

#[test]
fn a_second_broker_in_the_same_folder_is_refused_and_names_the_first() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let (code, text) = Process::try_start(folder.path(), &["up", "--engine-listen", "127.0.0.1:0"])
        .err()
        .expect("it is refused");
    assert_eq!(code, Some(75));
    let pid = node.process.pid();
    assert!(
        text.contains(&format!(
            "another broker instance is already running in this directory (pid: {pid},"
        )),
        "{text}"
    );
    node.get("/api/status");
}

#[test]
fn a_journal_of_a_newer_version_is_named_kept_and_refused() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    assert_eq!(node.process.stop(), Some(0));
    let dir = folder.path().join(".relay-broker/journal");
    let file = std::fs::read_dir(&dir)
        .expect("the journal")
        .next()
        .expect("a file")
        .expect("readable")
        .path();
    std::fs::write(&file, "relay-journal 99 broker\n").expect("writable");
    let (code, _, text) = run(folder.path(), &["up", "--engine-listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(73));
    assert!(
        text.contains(&*file.to_string_lossy()) && text.contains("99"),
        "{text}"
    );
    assert_eq!(
        std::fs::read_to_string(&file).expect("kept"),
        "relay-journal 99 broker\n"
    );
}

#[test]
fn a_stopped_broker_leaves_no_agents_and_no_connection_file() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    node.spawn(
        "deaf",
        &[
            "sh",
            "-c",
            "trap '' HUP TERM; echo ->pty:ready; while :; do sleep 1; done",
        ],
    );
    let pid = node
        .agent("deaf")
        .and_then(|a| a["pid"].as_u64())
        .expect("a pid");
    let connection = folder.path().join(".relay-broker/connection.json");
    let Node { process, .. } = node;
    assert_eq!(process.stop(), Some(0));
    assert!(!connection.exists());
    let alive = std::path::Path::new(&format!("/proc/{pid}")).exists();
    assert!(!alive, "agent {pid} is still there");
    let (code, _, text) = run(folder.path(), &["status"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("no broker is running here"), "{text}");
}

/// One that starts with the broker, and one that somebody spawned and that does not come back.
#[test]
fn agents_that_ignore_the_hang_up_of_a_killed_broker_end_before_the_next_ones_start() {
    let folder = Scratch::new();
    let stubborn = script(
        folder.path(),
        "stubborn",
        "trap '' HUP; echo $$ >> \"$1\"; while :; do sleep 1; done",
    );
    let flag = format!("ada={stubborn} ada");
    let pids = |name: &str| -> Vec<u32> {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    };
    let node = Node::up(folder.path(), &["--agent", &flag]);
    node.spawn("bob", &[&stubborn, "bob"]);
    let first: Vec<u32> = until("both", || {
        let all = [pids("ada"), pids("bob")].concat();
        (all.len() == 2).then_some(all)
    });
    node.process.kill9();
    assert!(first.iter().all(|pid| alive(*pid)), "they ignore it");

    let node = Node::up(folder.path(), &["--agent", &flag]);
    assert!(!first.iter().any(|pid| alive(*pid)));
    until("ada again", || (pids("ada").len() == 2).then_some(()));
    let told = node.events("agent_exited");
    let outlived = |name: &str| {
        let about = told.iter().filter(|event| event["name"] == name);
        let reasons = about.filter_map(|event| event["reason"].as_str());
        reasons.filter(|why| why.contains("outlived")).count()
    };
    assert_eq!((outlived("ada"), outlived("bob")), (1, 1), "{told:?}");
    assert_eq!(node.process.stop(), Some(0));
    assert!(
        !alive(pids("ada")[1]),
        "nor does it outlive an orderly stop"
    );
}
