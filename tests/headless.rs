//! Agents without a terminal: programs of ours that speak as Claude Code and opencode do over pipes, and everything that
//! may die between a message's writing and its arrival.

use std::path::Path;

use relay_broker::sys::session::alive;
use serde_json::{Value, json};

use crate::support::{Node, Scratch, run, script, until};

/// Claude Code's way over pipes. `BEFORE` is done between a message's reading and its replay; what it was started with and
/// what it read stand in `args` and `heard`.
const CLAUDE: &str = r#"
printf '%s\n' "$*" >> args
echo "a word of its own" >&2
while IFS= read -r line; do
  case $line in *'"type":"user"'*) ;; *) printf '%s\n' "$line" >> asked; continue ;; esac
  printf '%s\n' "$line" >> heard
  key=$(printf %s "$line" | sed 's/.*"uuid":"\([^"]*\)".*/\1/')
  printf '{"type":"system","subtype":"init","session_id":"s-own"}\n'
  BEFORE
  printf 'no JSON\n{"type":"user","uuid":"%s","isReplay":true}\n' "$key"
  printf '{"type":"assistant","message":{"content":[{"type":"text","text":"I have read it"}]}}\n'
  printf '{"type":"result","subtype":"success","is_error":false}\n'
done
"#;

/// opencode's way: a process for each message, which comes on standard input.
const OPENCODE: &str = r#"
printf '%s\n' "$*" >> args
cat > last
BEFORE
printf '{"type":"step_start","sessionID":"ses_1","part":{}}\n'
cat last >> heard; echo >> heard
printf '{"type":"text","sessionID":"ses_1","part":{"text":"done"}}\n'
"#;

fn program(folder: &Path, name: &str, text: &str, before: &str) -> String {
    script(folder, name, &text.replace("BEFORE", before))
}

/// Starts an agent without a terminal from the command line.
fn start(node: &Node, folder: &Path, more: &[&str], program: &str) {
    let args = [&["spawn", "ada", "--headless"], more, &["--", program]].concat();
    let (code, out, err) = run(folder, &args);
    assert_eq!(code, Some(0), "{out}{err}");
    node.ready("ada");
}

fn lines(folder: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The events of that kind about a message, once there are so many.
fn told(node: &Node, kind: &str, id: &str, count: usize) -> Vec<Value> {
    until(kind, || {
        let mut events = node.events(kind);
        events.retain(|event| event["event_id"] == id);
        (events.len() >= count).then_some(events)
    })
}

#[test]
fn a_message_has_arrived_when_claude_replays_it_and_there_is_no_terminal_to_look_at() {
    let folder = Scratch::new();
    let claude = program(folder.path(), "claude", CLAUDE, "");
    let node = Node::up(folder.path(), &[]);
    start(&node, folder.path(), &["--model", "haiku"], &claude);
    let args = lines(folder.path(), "args").join(" ");
    for word in [
        "-p --input-format stream-json --output-format stream-json --replay-user-messages --verbose",
        "--model haiku",
        "--session-id ",
        "--mcp-config=",
    ] {
        assert!(args.contains(word), "{args}");
    }
    assert!(!args.contains("skip-permissions"), "{args}");
    let boss = node.engine.register("boss");
    let id = node.engine.dm(&boss, "ada", "hello there");
    assert_eq!(told(&node, "delivery_verified", &id, 1)[0]["proof"], "hook");
    assert_eq!(told(&node, "turn_started", &id, 1).len(), 1);
    let heard = &lines(folder.path(), "heard")[0];
    assert!(heard.contains("hello there"), "{heard}");
    assert!(
        heard.contains("send_dm"),
        "how to answer, with the first message: {heard}"
    );
    let row = until("its own session", || {
        node.agent("ada").filter(|row| row["sessionId"] == "s-own")
    });
    assert_eq!(
        (&row["runtime"], &row["runtime_kind"]),
        (&json!("headless"), &json!("headless"))
    );
    assert_eq!(node.events("agent_spawned")[0]["runtime"], "headless");
    assert_eq!(node.events("worker_ready")[0]["runtime"], "headless");
    until("idle by its own word", || {
        (!node.events("agent_idle").is_empty()).then_some(())
    });
    let history = node.get("/api/spawned/ada/agent-events/history");
    let kinds: Vec<&Value> = history["events"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|kept| &kept["event"]["kind"])
        .collect();
    assert!(kinds.contains(&&json!("delivery_verified")), "{history}");
    let (status, rests) = node.call("POST", "/api/spawned/ada/interrupt", None);
    assert_eq!(
        (status, &rests["interrupted"]),
        (200, &json!(false)),
        "{rests}"
    );
    for (method, path, body) in [
        ("GET", "/api/spawned/ada/snapshot", None),
        ("POST", "/api/input/ada", Some(json!({"data": "x"}))),
        (
            "POST",
            "/api/resize/ada",
            Some(json!({"rows": 9, "cols": 9})),
        ),
    ] {
        let (status, body) = node.call(method, path, body);
        assert_eq!(
            (status, &body["code"]),
            (409, &json!("unsupported_runtime")),
            "{path}"
        );
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.contains("no terminal (headless)"), "{body}");
    }
    let (code, _, err) = run(folder.path(), &["snapshot", "ada"]);
    assert_ne!(code, Some(0));
    assert!(err.contains("no terminal"), "{err}");
}

#[test]
fn a_program_that_is_killed_between_reading_and_replay_gets_the_message_again_and_that_is_said() {
    let folder = Scratch::new();
    let dies_once = "[ -e died ] || { touch died; echo 'out of luck' >&2; kill -9 $$; }";
    let claude = program(folder.path(), "claude", CLAUDE, dies_once);
    let node = Node::up(folder.path(), &[]);
    let policy = ["--restart", "on-failure", "--cooldown", "1ms"];
    start(&node, folder.path(), &policy, &claude);
    let boss = node.engine.register("boss");
    let ids: Vec<String> = ["one", "two"]
        .map(|text| node.engine.dm(&boss, "ada", text))
        .into();
    for id in &ids {
        told(&node, "delivery_verified", id, 1);
    }
    let injected = told(&node, "delivery_injected", &ids[0], 2);
    assert_eq!(injected[1]["redelivered"], true, "{injected:?}");
    let heard = lines(folder.path(), "heard");
    let about = |text: &str| heard.iter().filter(|line| line.contains(text)).count();
    assert_eq!((about("]: one"), about("]: two"), heard.len()), (2, 1, 3));
    assert_eq!(told(&node, "delivery_verified", &ids[0], 1).len(), 1);
    let ended = &node.events("agent_exited")[0];
    assert_eq!(ended["signal"], "SIGKILL", "{ended}");
}

#[test]
fn a_broker_that_is_killed_between_writing_and_replay_delivers_again_and_leaves_no_program_behind()
{
    let folder = Scratch::new();
    let waits = "while [ ! -e go ]; do sleep 0.01; done";
    let claude = program(folder.path(), "claude", CLAUDE, waits);
    let config = format!("[agent.ada]\ncommand = \"{claude}\"\nheadless = true\n");
    std::fs::write(folder.path().join("relay-broker.toml"), config).expect("a file");
    let up = ["--config", "relay-broker.toml"];
    let node = Node::up(folder.path(), &up);
    node.ready("ada");
    let pid = node.agent("ada").expect("it runs")["pid"]
        .as_u64()
        .expect("a number");
    let boss = node.engine.register("boss");
    let id = node.engine.dm(&boss, "ada", "through it all");
    until("it is read", || {
        (lines(folder.path(), "heard").len() == 1).then_some(())
    });
    assert_eq!(node.events("delivery_verified").len(), 0);
    node.process.kill9();
    until("its program's end", || {
        (!alive(u32::try_from(pid).expect("small"))).then_some(())
    });
    std::fs::write(folder.path().join("go"), "").expect("a file");
    let node = Node::up(folder.path(), &up);
    told(&node, "delivery_verified", &id, 1);
    assert_eq!(
        told(&node, "delivery_injected", &id, 1)[0]["redelivered"],
        true
    );
    assert_eq!(lines(folder.path(), "heard").len(), 2);
}

#[test]
fn opencode_runs_once_for_each_message_in_one_session_and_a_run_that_fails_is_tried_again() {
    let folder = Scratch::new();
    let fails_once = "[ -e failed ] || { touch failed; echo 'no such luck' >&2; exit 7; }";
    let opencode = program(folder.path(), "opencode", OPENCODE, fails_once);
    let node = Node::up(folder.path(), &[]);
    let wish = json!({"name": "ada", "cli": opencode, "transport": "headless",
        "args": ["--agent", "build"], "cwd": folder.path()});
    let (status, spawned) = node.call("POST", "/api/spawn", Some(wish));
    assert_eq!(
        (status, &spawned["runtime"]),
        (200, &json!("headless")),
        "{spawned}"
    );
    node.ready("ada");
    let boss = node.engine.register("boss");
    let first = node
        .engine
        .dm(&boss, "ada", "one \"and\" -only\nin two lines");
    told(&node, "delivery_verified", &first, 1);
    let injected = told(&node, "delivery_injected", &first, 2);
    assert_eq!(injected[1]["redelivered"], true);
    let second = node.engine.dm(&boss, "ada", "two");
    told(&node, "delivery_verified", &second, 1);
    let usual = "run --format json --agent build";
    assert_eq!(
        lines(folder.path(), "args"),
        [
            usual.to_owned(),
            usual.to_owned(),
            format!("{usual} --session ses_1")
        ]
    );
    let heard = lines(folder.path(), "heard").join("\n");
    assert!(
        heard.contains("]: one \"and\" -only\nin two lines"),
        "{heard}"
    );
    assert_eq!(node.agent("ada").expect("it runs")["sessionId"], "ses_1");
}

#[test]
fn a_run_of_opencode_does_not_outlive_a_broker_that_is_killed() {
    let folder = Scratch::new();
    let waits = "echo $$ > run; exec sleep 300";
    let opencode = program(folder.path(), "opencode", OPENCODE, waits);
    let node = Node::up(folder.path(), &[]);
    start(&node, folder.path(), &[], &opencode);
    let boss = node.engine.register("boss");
    node.engine.dm(&boss, "ada", "on and on");
    let pid: u32 = until("a run", || {
        let text = std::fs::read_to_string(folder.path().join("run")).ok()?;
        text.trim().parse().ok()
    });
    let between = node.agent("ada").expect("it runs")["pid"]
        .as_u64()
        .expect("a number");
    node.process.kill9();
    until("its end", || (!alive(pid)).then_some(()));
    until("the end of what ran it", || {
        (!alive(u32::try_from(between).expect("small"))).then_some(())
    });
}

#[test]
fn a_message_that_opencode_never_takes_ends_as_a_dead_letter_with_the_reason() {
    let folder = Scratch::new();
    let fails = "printf '{\"type\":\"error\",\"error\":{\"name\":\"UnknownError\",\"data\":{\"message\":\"no such model\"}}}'; exit 1";
    let opencode = program(folder.path(), "opencode", OPENCODE, fails);
    let node = Node::up(folder.path(), &[]);
    start(&node, folder.path(), &[], &opencode);
    let boss = node.engine.register("boss");
    let id = node.engine.dm(&boss, "ada", "anybody?");
    let failed = told(&node, "delivery_failed", &id, 1);
    let reason = failed[0]["reason"].as_str().expect("said");
    assert!(reason.contains("no such model (exit code 1)"), "{reason}");
    let dead = node.get("/api/dead-letters");
    assert_eq!(dead["dead_letters"][0]["event_id"], id.as_str(), "{dead}");
    assert_eq!(lines(folder.path(), "args").len(), 4);
}

#[test]
fn its_release_ends_all_it_started_also_what_ignores_a_hang_up() {
    let folder = Scratch::new();
    let child = "(trap '' HUP; exec sleep 300) & echo $! > child";
    let claude = program(folder.path(), "claude", CLAUDE, child);
    let node = Node::up(folder.path(), &[]);
    start(&node, folder.path(), &[], &claude);
    let boss = node.engine.register("boss");
    let id = node.engine.dm(&boss, "ada", "start something");
    told(&node, "delivery_verified", &id, 1);
    let child = std::fs::read_to_string(folder.path().join("child")).expect("it was started");
    let child: u32 = child.trim().parse().expect("a number");
    assert!(alive(child));
    let (code, out, err) = run(folder.path(), &["release", "ada"]);
    assert_eq!(code, Some(0), "{out}{err}");
    until("the end of all", || (!alive(child)).then_some(()));
}

#[test]
fn its_own_end_is_told_with_code_and_last_lines() {
    let folder = Scratch::new();
    let claude = program(folder.path(), "claude", CLAUDE, "exit 3");
    let node = Node::up(folder.path(), &[]);
    start(&node, folder.path(), &[], &claude);
    let boss = node.engine.register("boss");
    node.engine.dm(&boss, "ada", "leave");
    let ended = until("its end", || node.events("agent_exited").first().cloned());
    assert_eq!(ended["code"], 3, "{ended}");
    let departed = node.get("/api/status")["departed"].clone();
    let lines = departed[0]["last_lines"].to_string();
    assert!(lines.contains("a word of its own"), "{departed}");
}

#[test]
fn what_cannot_do_without_a_terminal_is_refused_with_what_can() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    for (cli, word) in [
        ("cat", "claude and opencode do"),
        ("/no/such/opencode", "no such file"),
    ] {
        let wish = json!({"name": "ada", "cli": cli, "transport": "headless"});
        let (status, refusal) = node.call("POST", "/api/spawn", Some(wish));
        assert!(status >= 400, "{refusal}");
        assert!(refusal["error"].to_string().contains(word), "{refusal}");
    }
}
