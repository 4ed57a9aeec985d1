//! Agents that an operator declares in the configuration file.

use serde_json::json;

use crate::delivering::kept;
use crate::support::{Node, Scratch, run, script, try_http, until};

/// A folder with this configuration file.
fn declaring(text: &str) -> Scratch {
    let folder = Scratch::new();
    std::fs::write(folder.path().join("relay-broker.toml"), text).expect("writable");
    folder
}

fn lines(folder: &Scratch, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path().join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn is_ready(node: &Node) -> bool {
    try_http("GET", &format!("{}/readyz", node.api), "", None)
        .is_ok_and(|(status, _)| status == 200)
}

/// How `up` ends with this configuration and these flags, and what it says.
fn refused(text: &str, flags: &[&str]) -> (Option<i32>, String) {
    let folder = declaring(text);
    let (code, _, err) = run(folder.path(), &[&["up"], flags].concat());
    (code, err)
}

#[test]
fn agents_of_the_file_run_with_the_broker_as_they_are_declared() {
    let folder = declaring(
        r#"
        [harness.shell]
        command = "sh"
        args = ["-c"]
        env = { FROM_HARNESS = "1" }

        [agent.ada]
        harness = "shell"
        args = ["env > ../ada.env; pwd > ../ada.pwd; exec cat > ../ada.txt"]
        cwd = "work"
        env = { STAGE = "test" }
        task = "begin @@task@@"

        [agent.bob]
        command = "sh -c 'env > bob.env; exec cat'"
        env = "clean"
        env_allow = ["KEPT_*"]
        "#,
    );
    std::fs::create_dir(folder.path().join("work")).expect("writable");
    let node = Node::up_in(
        folder.path(),
        &[],
        &[("KEPT_KEY", "yes"), ("DROPPED_KEY", "no")],
    );
    node.ready("ada");
    node.ready("bob");
    let file = folder.path().join("ada.txt");
    until("its task", || (kept(&file) == ["task"]).then_some(()));
    let here = folder.path().join("work").canonicalize().expect("there");
    assert_eq!(lines(&folder, "ada.pwd"), [here.to_string_lossy()]);
    let ada = lines(&folder, "ada.env");
    for set in ["STAGE=test", "FROM_HARNESS=1", "DROPPED_KEY=no"] {
        assert!(ada.iter().any(|line| line == set), "{set}: {ada:?}");
    }
    let bob = lines(&folder, "bob.env");
    let has = |beginning: &str| bob.iter().any(|line| line.starts_with(beginning));
    for kept in [
        "PATH=",
        "HOME=",
        "KEPT_KEY=yes",
        "RELAY_AGENT_TOKEN=",
        "TERM=",
    ] {
        assert!(has(kept), "{kept}: {bob:?}");
    }
    assert!(!has("DROPPED_KEY="), "{bob:?}");
    assert!(is_ready(&node));
}

#[test]
fn a_broker_that_is_killed_comes_back_with_each_declared_agent_once_and_its_task_typed_once() {
    let folder = declaring(
        r#"
        [agent.ada]
        command = "sh -c 'echo start >> ada.starts; exec cat >> ada.txt'"
        task = "begin @@task@@"
        "#,
    );
    let file = folder.path().join("ada.txt");
    let node = Node::up(folder.path(), &[]);
    until("its task", || (kept(&file) == ["task"]).then_some(()));
    until("the note of it", || {
        (node.get("/api/status")["pending_delivery_count"] == 0).then_some(())
    });
    node.process.kill9();
    let node = Node::up(folder.path(), &[]);
    node.ready("ada");
    let boss = node.engine.register("boss");
    node.engine.dm(&boss, "ada", "more @@mail@@");
    until("its mail", || (kept(&file).len() == 2).then_some(()));
    assert_eq!(kept(&file), ["task", "mail"]);
    assert_eq!(lines(&folder, "ada.starts").len(), 2);
    assert_eq!(run(folder.path(), &["release", "ada"]).0, Some(0));
    assert!(node.agent("ada").is_none());
    assert_eq!(node.process.stop(), Some(0));
    let node = Node::up(folder.path(), &[]);
    node.ready("ada");
    until("its task in its new life", || {
        (kept(&file).len() == 3).then_some(())
    });
}

#[test]
fn an_agent_whose_program_comes_later_is_shown_until_then_and_runs_at_last() {
    let folder = declaring(
        r#"
        [agent.ada]
        command = "./late"
        cooldown = "100ms"
        max_failures = 0
        "#,
    );
    let node = Node::up(folder.path(), &[]);
    let told = until("the reason", || {
        let (_, out, _) = run(folder.path(), &["agents"]);
        out.contains("no such file").then_some(out)
    });
    assert!(told.contains("ada is started again in "), "{told}");
    assert!(run(folder.path(), &["status"]).1.contains("no such file"));
    assert!(!is_ready(&node));
    script(folder.path(), "late", "exec cat");
    node.ready("ada");
    until("readiness", || is_ready(&node).then_some(()));
    let shown = node.agent("ada").expect("it runs");
    assert_eq!(shown.get("trouble"), None);
}

#[test]
fn an_agent_that_never_starts_is_given_up_and_started_by_hand_once_it_can_be() {
    let folder = declaring(
        r#"
        [agent.ada]
        command = "./late"
        cooldown = "1ms"
        max_failures = 3
        "#,
    );
    let node = Node::up(folder.path(), &[]);
    until("that it is given up", || {
        node.events("agent_permanently_dead").pop()
    });
    let list = node.get("/api/spawned");
    assert_eq!(list["agents"], json!([]));
    let why = list["departed"][0]["reason"].as_str().expect("a reason");
    assert!(
        why.starts_with("it failed 3 times in a row, at last with: "),
        "{why}"
    );
    assert!(!is_ready(&node));
    script(folder.path(), "late", "exec cat");
    let (code, out, err) = run(folder.path(), &["restart", "ada"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.starts_with("ada had ended and runs again (process "),
        "{out}"
    );
    until("readiness", || is_ready(&node).then_some(()));
}

#[test]
fn the_name_of_a_harness_works_on_the_command_line_of_the_broker_too() {
    let folder = declaring(
        "[harness.shell]\ncommand = \"sh\"\nargs = [\"-c\", \"echo '->pty:ready'; exec cat\"]\n",
    );
    let node = Node::up(folder.path(), &["--agent", "ada=shell"]);
    node.ready("ada");
    let shown = node.agent("ada").expect("it runs");
    assert!(
        shown["command"]
            .as_str()
            .is_some_and(|cli| cli.starts_with("sh -c ")),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_meant_is_said_with_its_place_and_nothing_starts() {
    let (code, err) = refused(
        "\n[agent.ada]\ncommand = \"cat\"\nrestrat = \"never\"\n",
        &[],
    );
    assert_eq!(code, Some(78));
    assert!(
        err.contains(
            "relay-broker.toml:4: [agent.ada] restrat is not a key; did you mean restart?"
        ),
        "{err}"
    );
    let (code, err) = refused("\n[agent.ada]\nharness = \"cat\"\n", &[]);
    assert_eq!(code, Some(78));
    let says = "relay-broker.toml:3: [agent.ada] harness = \"cat\" names no harness (there is no [harness.NAME] in \
                this file); a program goes into command";
    assert!(err.contains(says), "{err}");
    let ada = "[agent.ada]\ncommand = \"cat\"\n";
    let (code, err) = refused(ada, &["--agent", "Ada=cat"]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("--agent Ada=… and [agent.ada] of ") && err.contains("drop one of the two"),
        "{err}"
    );
    let (code, err) = refused(ada, &["--agent", "bob=cat", "--max-agents", "1"]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("2 agents are to start with the broker, and --max-agents 1"),
        "{err}"
    );
}

#[test]
fn agents_start_while_the_engine_is_away_and_are_known_to_it_when_it_is_back() {
    let theirs = Scratch::new();
    let ours = declaring("[agent.ada]\ncommand = \"sh -c 'exec cat > ada.txt'\"\n");
    let engine = Node::up(theirs.path(), &[]);
    let (url, key) = (engine.engine.url.clone(), engine.engine.key.clone());
    let flags = ["--engine", &url, "--workspace-key", &key];
    let node = Node::up(ours.path(), &flags);
    node.ready("ada");
    assert_eq!(node.process.stop(), Some(0));
    assert_eq!(engine.process.stop(), Some(0));

    let node = Node::up(ours.path(), &flags);
    node.ready("ada");
    assert_eq!(node.agent("ada").expect("it runs")["agent_id"], json!(null));
    let (code, out, err) = run(ours.path(), &["spawn", "bob", "--", "cat"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.contains("note: the engine is away: the agent runs"),
        "{out}"
    );
    let (code, _, err) = run(ours.path(), &["send", "ada", "here @@local@@", "--wait"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));

    let engine = Node::up(theirs.path(), &[]);
    for name in ["ada", "bob"] {
        until("its identity", || {
            let agent = node.agent(name)?;
            agent["agent_id"].as_str().map(str::to_owned)
        });
    }
    let boss = engine.engine.register("boss");
    engine.engine.dm(&boss, "ada", "from afar @@engine@@");
    let file = ours.path().join("ada.txt");
    until("the engine's mail", || {
        (kept(&file) == ["local", "engine"]).then_some(())
    });
}
