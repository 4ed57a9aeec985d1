//! What an operator is told of settings before anything starts, and of a broker that is to take others over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::support::{Node, Process, Scratch, command, run, signal, until};

const FILE: &str = "relay-broker.toml";

fn configure(folder: &Path, text: &str) {
    fs::write(folder.join(FILE), text).expect("a file");
}

fn holds(text: &str, all: &[&str]) {
    for one in all {
        assert!(text.contains(one), "{one} is missing in: {text}");
    }
}

#[test]
fn a_check_tells_everything_that_is_wrong_at_once_and_starts_nothing() {
    let folder = Scratch::new();
    configure(
        folder.path(),
        "[harness.one]\ncomand = \"cat\"\n\
         [agent.ada]\ncommand = \"no-such-program\"\n\
         [agent.bob]\ncommand = \"sh no-such-script.sh\"\n\
         [agent.eve]\ncommand = \"cat\"\ncwd = \"nowhere\"\nprofile = \"unheard-of\"\n\
         [action.build]\ncommand = [\"./no-such-handler\"]\n",
    );
    let flags = [
        "check",
        "--name",
        " ",
        "--engine",
        "ftp://x",
        "--log-file",
        "/no/such/x.log",
    ];
    let (code, out, err) = run(folder.path(), &flags);
    assert_eq!((code, err.as_str()), (Some(78), ""), "{out}");
    holds(
        &out,
        &[
            "--name is \"\"",
            "--engine names an engine but no workspace key is given",
            "relay-broker.toml:2: [harness.one] comand is not a key; did you mean command?",
            "relay-broker.toml:4: [agent.ada] command: \"no-such-program\": no such program in PATH",
            "relay-broker.toml:6: [agent.bob] command: there is no script ",
            "relay-broker.toml:10: [agent.eve] profile = \"unheard-of\" names none of",
            "relay-broker.toml:12: [action.build] command: \"./no-such-handler\": there is no file ",
            "--log-file names /no/such/x.log",
        ],
    );
    assert!(!folder.path().join(".relay-broker").exists());
    configure(folder.path(), "[agent.eve]\ncommand = \"cat\"\n");
    let (code, out, _) = run(folder.path(), &["check"]);
    assert_eq!(code, Some(0), "{out}");
    holds(&out, &["ok: ", FILE, "agents 1"]);
}

#[test]
fn a_check_names_flags_variables_and_keys_in_one_run_each_with_its_origin() {
    let folder = Scratch::new();
    configure(folder.path(), "[log]\nlevl = \"info\"\n");
    let mut check = command(
        folder.path(),
        &[
            "check",
            "--json",
            "--grace",
            "soon",
            "--api-port=x",
            "--engine",
            "nowhere",
        ],
    );
    check.env("RELAY_NODE_ID", " ");
    check.env("RELAY_WORKSPACE_KEY", "sk_1");
    check.env("RUST_LOG", "relay_broker=loud");
    let out = check.output().expect("it runs");
    assert_eq!(out.status.code(), Some(78), "{out:?}");
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let findings = said["findings"].as_array().expect("a list");
    let mut origins: Vec<String> = findings
        .iter()
        .map(|one| {
            let origin = &one["origin"];
            let name = origin["name"].as_str().expect("a name");
            let name = name.rsplit('/').next().unwrap_or_default();
            format!("{} {name}", origin["kind"].as_str().expect("a word"))
        })
        .collect();
    origins.sort();
    assert_eq!(
        origins,
        [
            "file relay-broker.toml",
            "flag --api-port",
            "flag --engine",
            "flag --grace",
            "variable RELAY_NODE_ID",
            "variable RELAY_WORKSPACE_KEY",
            "variable RUST_LOG",
        ],
        "{said:#}"
    );
}

#[test]
fn a_start_names_the_first_that_is_wrong_and_how_many_more_there_are() {
    let folder = Scratch::new();
    configure(folder.path(), "[log]\nlevl = \"info\"\n[agnt.ada]\n");
    let (code, _, err) = run(folder.path(), &["up"]);
    assert_eq!(code, Some(78));
    holds(
        &err,
        &[
            "relay-broker.toml:2: [log] levl is not a key",
            "; and 1 more, which `relay-broker check`",
        ],
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn what_is_no_file_is_refused_as_the_configuration_at_once() {
    let folder = Scratch::new();
    mkfifoat(CWD, folder.path().join("pipe"), Mode::RWXU).expect("room");
    for (path, says) in [
        ("pipe", "it is a pipe and not a file"),
        ("/dev/zero", "it is a device and not a file"),
        (".", "it is a folder and not a file"),
        ("missing", "No such file"),
    ] {
        for command in ["up", "check"] {
            let (code, out, err) = run(folder.path(), &[command, "--config", path]);
            assert_eq!(code, Some(78), "{command} {path}: {out}{err}");
            holds(&format!("{out}{err}"), &["--config names ", says]);
        }
    }
}

#[test]
fn what_is_in_force_is_shown_with_who_said_so_and_without_secrets() {
    let folder = Scratch::new();
    let key = folder.path().join("key");
    fs::write(&key, "rk_live_hidden\n").expect("room");
    configure(
        folder.path(),
        "[log]\nlevel = \"debug\"\n[agent.ada]\ncommand = \"cat\"\nenv = { TOKEN = \"hidden\" }\n",
    );
    let key = key.to_str().expect("text");
    let args = [
        "config",
        "show",
        "--grace",
        "9s",
        "--workspace-key-file",
        key,
        "--engine",
        "http://127.0.0.1:1",
    ];
    let (code, out, err) = run(folder.path(), &args);
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.contains("hidden"), "{out}");
    let row = |name: &str| {
        let found = out
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        found.unwrap_or_else(|| panic!("{name}: {out}")).to_owned()
    };
    holds(&row("grace"), &["9s", "--grace"]);
    holds(&row("drain"), &["0s", "default"]);
    holds(&row("workspace-key"), &["set", "--workspace-key-file"]);
    holds(&row("log-level"), &["debug", "relay-broker.toml:2"]);
    holds(
        &row("agent.ada.command"),
        &["\"cat\"", "relay-broker.toml:4"],
    );
    holds(&row("agent.ada.env.TOKEN"), &["set", "relay-broker.toml:5"]);
}

#[test]
fn a_reload_answers_what_was_taken_over_and_what_needs_a_restart_and_ends_nobody() {
    let folder = Scratch::new();
    configure(
        folder.path(),
        "[harness.one]\ncommand = \"cat\"\n[agent.ada]\ncommand = \"cat\"\n",
    );
    let node = Node::up(folder.path(), &[]);
    node.ready("ada");
    let before = node.call("GET", "/api/spawned", None).1["agents"][0]["pid"].clone();
    configure(
        folder.path(),
        "[log]\nlevel = \"debug\"\n[harness.two]\ncommand = \"cat\"\n",
    );
    let (code, out, err) = run(folder.path(), &["reload"]);
    assert_eq!(code, Some(0), "{out}{err}");
    holds(
        &out,
        &[
            "relay-broker.toml",
            "taken over: log level: debug, harness one: gone, harness two: new",
            "needs a restart: the agents that start with the broker",
        ],
    );
    let (_, again, _) = run(folder.path(), &["reload"]);
    holds(
        &again,
        &[
            "nothing that a running broker takes over has changed",
            "needs a restart: ",
        ],
    );
    configure(
        folder.path(),
        "[harness.three]\ncommand = \"cat\"\ncolour = \"red\"\n",
    );
    let (code, _, err) = run(folder.path(), &["reload"]);
    assert_eq!(code, Some(78), "{err}");
    holds(
        &err,
        &[
            "relay-broker.toml:3: [harness.three] colour is not a key",
            "all settings stay as they are",
        ],
    );
    until("the log of it", || {
        let log = fs::read_to_string(folder.path().join("stderr.log")).unwrap_or_default();
        let all = log.contains("reload: harnesses, actions, profiles")
            && log.contains("harness two: new");
        (all && log.contains("which counts from the next start")).then_some(())
    });
    let after = node.call("GET", "/api/spawned", None).1["agents"][0]["pid"].clone();
    assert_eq!(before, after, "the same process");
    for wrong in [&["reload", "ada"][..], &["reload", "--all"]] {
        let (code, _, err) = run(folder.path(), wrong);
        assert_eq!(code, Some(2), "{err}");
        assert!(
            !err.contains("'release'") && !err.contains("'stop'"),
            "{err}"
        );
    }
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn a_configuration_file_that_is_gone_at_a_reload_is_told_and_what_it_said_stays() {
    let folder = Scratch::new();
    configure(folder.path(), "[harness.one]\ncommand = \"cat\"\n");
    let node = Node::up(folder.path(), &[]);
    let moved = folder.path().join("moved.toml");
    fs::rename(folder.path().join(FILE), &moved).expect("ours");
    let (code, out, err) = run(folder.path(), &["reload"]);
    assert_eq!((code, out.as_str()), (Some(78), ""), "{err}");
    holds(&err, &[FILE, "is gone; all settings stay as they are"]);
    let (code, _, err) = run(folder.path(), &["spawn", "ada", "--", "one"]);
    assert_eq!(code, Some(0), "{err}");
    fs::rename(&moved, folder.path().join(FILE)).expect("ours");
    assert_eq!(run(folder.path(), &["reload"]).0, Some(0));
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn authorities_without_an_engine_to_vouch_for_are_refused_and_the_file_that_is_read_is_shown() {
    let folder = Scratch::new();
    let (code, out, _) = run(folder.path(), &["check", "--ca-file", "ca.pem"]);
    assert_eq!(code, Some(78), "{out}");
    holds(
        &out,
        &[
            "--ca-file is for an engine elsewhere",
            "; name one with --engine",
        ],
    );
    configure(folder.path(), "[log]\nlevel = \"info\"\n");
    let (code, out, _) = run(folder.path(), &["config", "show"]);
    assert_eq!(code, Some(0), "{out}");
    let row = out.lines().find(|line| line.starts_with("config "));
    holds(row.unwrap_or_default(), &[FILE]);
}

#[test]
fn what_an_agents_terminal_has_of_its_own_broker_is_no_setting_of_another() {
    let folder = Scratch::new();
    for words in [&["check"][..], &["config", "show"], &["doctor"]] {
        let mut asked = command(folder.path(), words);
        asked.env("RELAY_BASE_URL", "http://127.0.0.1:1");
        let alone = asked.output().expect("it runs");
        assert_ne!(alone.status.code(), Some(0), "an operator's is: {words:?}");
        asked.env("RELAY_AGENT_TOKEN", "at_live_1");
        let out = asked.output().expect("it runs");
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(out.status.code(), Some(0), "{words:?}: {said}");
        assert!(!said.contains("no workspace key"), "{said}");
    }
}

#[test]
fn a_doctor_names_a_damaged_journal_and_a_broker_that_does_not_answer() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    holds(&run(folder.path(), &["doctor"]).1, &["journal.1 is whole"]);
    signal(node.process.pid(), "STOP");
    let (code, out, _) = run(folder.path(), &["doctor"]);
    signal(node.process.pid(), "CONT");
    assert_eq!(code, Some(1), "{out}");
    holds(&out, &["error   broker", "does not answer"]);
    assert_eq!(node.process.stop(), Some(0));
    let journal = folder.path().join(".relay-broker/journal");
    let file = fs::read_dir(&journal).expect("a folder").flatten().next();
    let file = file.expect("a file").path();
    let mut bytes = fs::read(&file).expect("ours");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("ours");
    let (code, out, _) = run(folder.path(), &["doctor"]);
    assert_eq!(code, Some(1), "{out}");
    holds(
        &out,
        &[
            "error   journal",
            " is damaged from byte ",
            "`relay-broker journal check`",
        ],
    );
}

#[test]
fn a_doctor_does_not_blame_the_disk_for_an_engine_that_is_away() {
    let (folder, elsewhere) = (Scratch::new(), Scratch::new());
    let args = ["engine", "--listen", "127.0.0.1:0", "--dir", "e"];
    let engine = Process::start(elsewhere.path(), &args);
    let url = engine.first_line.split_whitespace().last().expect("a URL");
    let key = fs::read_to_string(elsewhere.path().join("e/workspace-key")).expect("the key");
    let up = ["--engine", url, "--workspace-key", key.trim()];
    let node = Node::up(folder.path(), &up);
    until("a link", || {
        (node.get("/health")["status"] == "ok").then_some(())
    });
    engine.kill9();
    until("no link", || {
        (node.get("/health")["status"] == "degraded").then_some(())
    });
    let (_, out, _) = run(folder.path(), &["doctor"]);
    holds(
        &out,
        &[
            "warning broker    no link to the engine at ",
            "it tries again by itself",
        ],
    );
    assert!(!out.contains("make the disk writable"), "{out}");
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn an_action_is_tried_as_the_broker_would_run_it() {
    let folder = Scratch::new();
    configure(
        folder.path(),
        "[action.echo]\ncommand = [\"cat\"]\n\
         [action.who]\ncommand = [\"sh\", \"-c\", 'printf \"{\\\"a\\\":\\\"%s\\\",\\\"s\\\":\\\"%s\\\"}\" \"$RELAY_ACTION\" \"$STAGE\"']\nenv = { STAGE = \"test\" }\n\
         [action.bad]\ncommand = [\"sh\", \"-c\", \"echo broken >&2; exit 3\"]\n\
         [action.slow]\ncommand = [\"sleep\", \"600\"]\ntimeout = \"100ms\"\n",
    );
    let tried = |args: &[&str]| run(folder.path(), &[&["actions", "run"], args].concat());
    let (code, out, err) = tried(&["echo", "--input", "{\"x\": [1]}"]);
    assert_eq!(code, Some(0), "{err}");
    holds(&out, &["{\"x\":[1]}", "echo is well: exit code 0 after "]);
    let (_, out, _) = tried(&["who"]);
    holds(&out, &["{\"a\":\"who\",\"s\":\"test\"}"]);
    let (code, out, _) = tried(&["bad"]);
    assert_eq!(code, Some(1));
    holds(&out, &["bad failed after ", "exit code 3: broken"]);
    let (code, out, _) = tried(&["slow"]);
    assert_eq!(code, Some(1));
    holds(&out, &["took longer than 0.1 s and was killed"]);
    let (code, _, err) = tried(&["none"]);
    assert_eq!(code, Some(2));
    holds(&err, &["there is bad, echo, slow, who"]);
    let (code, _, err) = tried(&["echo", "--input", "x"]);
    assert_eq!(code, Some(2));
    holds(&err, &["--input", "no JSON"]);
}

#[test]
fn a_doctor_names_what_is_wrong_with_the_repair_with_and_without_a_broker() {
    let folder = Scratch::new();
    let (code, out, err) = run(folder.path(), &["doctor"]);
    assert_eq!(code, Some(0), "{out}{err}");
    for area in [
        "settings",
        "folder",
        "keys",
        "disk",
        "limits",
        "terminals",
        "home",
        "engine",
        "broker",
        "programs",
    ] {
        let told = |line: &str| line.split_whitespace().nth(1) == Some(area);
        assert!(out.lines().any(told), "{area}: {out}");
    }
    let node = Node::up(folder.path(), &[]);
    let (code, out, err) = run(folder.path(), &["doctor"]);
    assert_eq!(code, Some(0), "{out}{err}");
    holds(
        &out,
        &[
            &format!("process {} runs at http://", node.process.pid()),
            "knows the workspace key",
        ],
    );
    let connection = folder.path().join(".relay-broker/connection.json");
    fs::set_permissions(&connection, fs::Permissions::from_mode(0o644)).expect("ours");
    let (code, out, _) = run(folder.path(), &["doctor"]);
    assert_eq!(code, Some(1), "{out}");
    holds(
        &out,
        &[
            "error   keys",
            "connection.json can be read by other users; chmod 600 ",
        ],
    );
    assert_eq!(node.process.stop(), Some(0));
    fs::create_dir(&connection).expect("room");
    let (code, out, _) = run(folder.path(), &["doctor"]);
    assert_eq!(code, Some(1), "{out}");
    holds(&out, &["connection.json is a folder; remove it"]);
    let (code, _, err) = run(folder.path(), &["status"]);
    assert_eq!(code, Some(1));
    holds(
        &err,
        &["connection.json is a folder, in the place of", "remove it"],
    );
    let (code, _, err) = run(folder.path(), &["up"]);
    assert_eq!(code, Some(73));
    holds(
        &err,
        &[
            "connection.json",
            "it is a folder, in the place of",
            "remove it",
        ],
    );
}

#[test]
fn whoever_waits_for_nobody_is_told_so_in_one_line() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let (code, _, err) = run(folder.path(), &["wait", "nobody", "--timeout", "10ms"]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    holds(
        &err,
        &["no agent named nobody runs on this broker", "waited 10ms"],
    );
    assert_eq!(node.process.stop(), Some(0));
}
