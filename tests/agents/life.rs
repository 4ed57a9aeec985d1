//! How agents begin and end, and what gets through to them.

use super::*;

#[test]
fn a_program_that_does_not_exist_is_named() {
    let mut agent = Agent::start(spec(&["frobnicate", "--now"]));
    assert_eq!(
        agent.refused(),
        r#"cannot start "frobnicate": no such program in PATH"#
    );
    assert!(agent.handle.join_within(PATIENCE));
    let mut agent = Agent::start(spec(&["/etc/passwd"]));
    assert_eq!(
        agent.refused(),
        r#"cannot start "/etc/passwd": it is not an executable file"#
    );
    let mut agent = Agent::start(spec(&[]));
    assert_eq!(agent.refused(), "cannot start agent: the command is empty");
}

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let mut missing = spec(&["cat"]);
    missing.cwd = Some("/nope".into());
    let mut agent = Agent::start(missing);
    assert_eq!(
        agent.refused(),
        r#"cannot start agent: directory "/nope" does not exist"#
    );
}

/// N12: with its token an agent is told that it has no need to register; without one it is not.
#[test]
fn an_agent_runs_in_its_directory_with_its_environment() {
    let folder = Folder::new();
    let mut wanted = spec(&[
        "sh",
        "-c",
        "{ pwd; echo $PWD $RELAY_AGENT_NAME $RELAY_AGENT_TOKEN $RELAY_SKIP_BOOTSTRAP $EXTRA $TERM $COLUMNS; stty size; ls /proc/self/fd | tr '\\n' ' '; } > out",
    ]);
    wanted.cwd = Some(folder.0.to_str().expect("text").to_owned());
    wanted.env.insert("EXTRA".into(), "more".into());
    wanted.token = Some(relay_broker::msg::Secret::new("at_live_x"));
    let mut agent = Agent::start(wanted);
    assert_eq!(agent.exited().code, Some(0));
    let dir = std::fs::canonicalize(&folder.0).expect("folder");
    let dir = dir.display();
    let out = std::fs::read_to_string(folder.0.join("out")).expect("file");
    assert_eq!(
        out,
        format!("{dir}\n{dir} w1 at_live_x 1 more xterm-256color\n40 120\n0 1 2 3 ")
    );
}

#[test]
fn the_end_of_an_agent_is_told_with_code_or_signal() {
    let mut agent = Agent::sh("exit 7");
    assert_eq!(agent.exited().code, Some(7));
    assert!(matches!(agent.seen[0], AgentReport::Started { .. }));
    let mut agent = Agent::sh("kill -9 $$");
    assert_eq!(agent.exited().signal, Some(9));
}

#[test]
fn the_last_words_of_an_agent_are_heard_before_its_end() {
    let (tx, reports) = crossbeam_channel::unbounded();
    let events: Arc<Topic<Arc<str>>> = Arc::new(Topic::new(0));
    let heard = events.subscribe(None).expect("descriptors");
    let marks = Scratch::new();
    let _agent = agent::start(
        Run(1),
        spec(&["sh", "-c", "i=0; while [ $i -lt 500 ]; do echo some more words 漢字 $i; i=$((i+1)); done; echo the end"]),
        grounds(marks.path(), &Profiles::default()),
        reaper(),
        Box::new(move |report| drop(tx.send(report))),
        events,
    )
    .expect("thread");
    let mut text = String::new();
    until("the end", || {
        let ended = matches!(reports.try_recv(), Ok(AgentReport::Exited(_)));
        // Read as it comes: who lets too much wait is cut off.
        while let Ok(event) = heard.items.try_recv() {
            let event: serde_json::Value = serde_json::from_str(&event).expect("JSON");
            assert_eq!(event["kind"], "worker_stream");
            text += event["chunk"].as_str().expect("text");
            assert!(event.get("seq").is_none());
        }
        ended.then_some(())
    });
    assert!(text.ends_with("漢字 499\r\nthe end\r\n"), "{text:?}");
    assert!(!text.contains('\u{fffd}'));
}

#[test]
fn release_ends_a_process_group_that_ignores_a_hang_up() {
    let folder = Folder::new();
    let pids = folder.file("pids");
    let mut agent = Agent::sh(&format!(
        "trap '' HUP TERM; set -m; sleep 1000 & echo $! $$ > {pids}; echo '->pty:ready'; while :; do wait; done"
    ));
    agent.ready();
    agent.command(AgentCommand::Stop {
        grace: Duration::from_millis(50),
    });
    assert_eq!(agent.exited().signal, Some(9));
    for pid in std::fs::read_to_string(&pids)
        .expect("file")
        .split_whitespace()
    {
        gone(pid);
    }
}

#[test]
fn a_grandchild_that_keeps_the_terminal_does_not_hold_up_the_end() {
    let folder = Folder::new();
    let pid = folder.file("pid");
    let mut agent = Agent::sh(&format!(
        "trap '' HUP; setsid sh -c 'echo $$ > {pid}; exec yes' & while ! [ -s {pid} ]; do sleep 0.01; done; exit 3"
    ));
    let began = Instant::now();
    assert_eq!(agent.exited().code, Some(3));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(agent.handle.join_within(PATIENCE));
    // It dies of its terminal, now that nobody holds the other side.
    gone(std::fs::read_to_string(&pid).expect("file").trim());
}

/// Waits until no process of that number runs; a zombie does not run.
fn gone(pid: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => return,
            Ok(stat) if stat.contains(") Z ") => return,
            Ok(stat) => assert!(Instant::now() < end, "still there: {stat}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_persons_keys_and_the_size_of_the_terminal_get_through() {
    let folder = Folder::new();
    let got = folder.file("got");
    let mut agent = Agent::sh(&format!(
        "trap 'stty size > {got}; exit 0' WINCH; echo '->pty:ready'; while :; do read line; echo \"<$line>\"; done"
    ));
    agent.ready();
    let heard = agent.line.output.subscribe(None).expect("descriptors");
    assert_eq!(agent.press(b"hello\r"), Ok(6));
    let mut text = Vec::new();
    let end = Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&text).contains("<hello>") {
        assert!(Instant::now() < end);
        wait_readable(&heard.items);
        heard.items.clear();
        while let Ok(chunk) = heard.items.try_recv() {
            text.extend_from_slice(&chunk.bytes);
        }
    }
    agent
        .line
        .input
        .send(AgentInput::Resize(Size { rows: 33, cols: 77 }))
        .expect("alive");
    assert_eq!(agent.exited().code, Some(0));
    assert_eq!(std::fs::read_to_string(&got).expect("file"), "33 77\n");
}

#[test]
fn what_made_a_session_of_its_own_ends_with_a_release_and_what_others_started_does_not() {
    let folder = Folder::new();
    let out = folder.0.join("pids");
    let mut stranger = std::process::Command::new("setsid")
        .args(["sleep", "1000"])
        .spawn()
        .expect("setsid");
    let script = format!(
        "setsid sh -c 'trap \"\" HUP; echo $$; sleep 1000 & echo $!; wait' > {out}.part & until [ \"$(wc -l < {out}.part)\" -ge 2 ]; do sleep 0.05; \
         done; mv {out}.part {out}; cat",
        out = out.display()
    );
    let mut agent = Agent::sh(&script);
    while !out.exists() {
        std::thread::yield_now();
    }
    let pids: Vec<u32> = std::fs::read_to_string(&out)
        .expect("written")
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert!(
        pids.iter().all(|pid| alive(*pid)) && pids.len() == 2,
        "{pids:?}"
    );
    agent.command(AgentCommand::Stop {
        grace: Duration::from_secs(1),
    });
    agent.exited();
    // The last of it is killed and taken away by whoever adopted it.
    while pids.iter().any(|pid| alive(*pid)) {
        std::thread::yield_now();
    }
    assert!(stranger.try_wait().expect("ours").is_none());
    stranger.kill().expect("ours");
    stranger.wait().expect("ours");
}
