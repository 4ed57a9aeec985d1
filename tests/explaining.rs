//! Twelve troubles made on purpose: each time `explain` names the true cause, and the way out that it prints works when it is
//! copied into a shell.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::answering::AgentEnv;
use crate::attaching::Terminal;
use crate::delivering::{keeper, kept};
use crate::support::{Node, Process, Scratch, command, run, script, signal, until};
use crate::tracing::traced_until;

/// What `explain` says of an agent, or of the broker.
fn explained(folder: &Path, about: &[&str]) -> Value {
    let args: Vec<&str> = ["explain", "--json"].iter().chain(about).copied().collect();
    let (_, out, err) = run(folder, &args);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("explain {about:?}: {e}: {out}{err}"))
}

/// Waits until that is the worst cause of all; the commands that lead out of it.
fn worst(folder: &Path, about: &[&str], cause: &str) -> Vec<String> {
    until(&format!("{cause} as the cause"), || {
        let told = explained(folder, about);
        (told["causes"][0]["cause"] == cause).then(|| commands(&told["causes"][0]))
    })
}

fn commands(cause: &Value) -> Vec<String> {
    let ways = cause["ways"].as_array().expect("ways out").iter();
    ways.map(|way| way["command"].as_str().expect("a command").to_owned())
        .collect()
}

/// Runs a line as a person does who has copied it; exit code and output.
fn copied(folder: &Path, line: &str) -> (Option<i32>, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_relay-broker"));
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", program.parent().expect("a folder").display());
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(folder).env_clear();
    shell
        .env("PATH", path)
        .env("HOME", folder)
        .env("LANG", "C.UTF-8");
    let out = shell.output().expect("a shell");
    let text = [out.stdout, out.stderr].concat();
    (
        out.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// The same for a line that must work.
#[track_caller]
fn works(folder: &Path, line: &str) -> String {
    let (code, said) = copied(folder, line);
    assert_eq!(code, Some(0), "{line}: {said}");
    said
}

fn send(node: &Node, to: &str, text: &str) -> Value {
    let body = json!({"to": to, "text": text, "from": "me"});
    let (status, answer) = node.call("POST", "/api/send", Some(body));
    assert_eq!(status, 200, "{answer}");
    answer["event_id"].clone()
}

/// The program with an input line has read that text, and Enter behind it.
fn entered(folder: &Path, text: &str) {
    until("text and Enter", || {
        let got = std::fs::read(folder.join("got.txt")).unwrap_or_default();
        let got = String::from_utf8_lossy(&got).into_owned();
        let (_, after) = got.split_once(text)?;
        after.contains('\r').then_some(())
    });
}

/// An agent that keeps what it reads.
fn kept_by_ada(folder: &Path, args: &[&str]) -> Node {
    let ada = format!("ada={}", shell_words::join(keeper("ada.txt")));
    let args: Vec<&str> = ["--agent", &ada].iter().chain(args).copied().collect();
    let node = Node::up(folder, &args);
    node.ready("ada");
    node
}

fn read(folder: &Path, count: usize) {
    until(&format!("{count} messages read"), || {
        (kept(&folder.join("ada.txt")).len() == count).then_some(())
    });
}

/// A program with an input line, as Claude Code draws it, behind a question if one is wanted.
fn composer(folder: &Path, question: bool) -> String {
    let asks = match question {
        true => {
            "printf '\\033[?2004hQuick safety check: is it yours?\\r\\n\\r\\n ❯ 1. Yes, I trust this folder\\r\\n'; \
             printf '   2. No, exit\\r\\n\\r\\n Enter to confirm\\033[3;2H'; dd bs=1 count=1 of=/dev/null 2>/dev/null; "
        }
        false => "printf '\\033[?2004h'; ",
    };
    let text = format!("stty raw -echo; {asks} printf '\\033[2J\\033[H❯ '; exec tee got.txt");
    script(folder, "claude", &text)
}

/// The agent's terminal as somebody has it who has copied the command that leads there.
fn attached(folder: &Path, ways: &[String]) -> Terminal {
    let line = ways.iter().find(|line| line.contains(" attach "));
    let words = shell_words::split(line.expect("a way through the terminal")).expect("words");
    let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    Terminal::run(folder, &args)
}

#[test]
fn an_agent_behind_a_dialog_is_answered_in_its_terminal() {
    let folder = Scratch::new();
    let claude = composer(folder.path(), true);
    let node = Node::up(folder.path(), &[]);
    let body = json!({"name": "ada", "harness_config": {"command": claude}, "cwd": folder.path()});
    assert_eq!(node.call("POST", "/api/spawn", Some(body)).0, 200);
    let ways = worst(folder.path(), &["ada"], "dialog");
    let told = explained(folder.path(), &["ada"]);
    assert!(
        told["screen"].to_string().contains("1. Yes, I trust"),
        "{told}"
    );
    assert!(
        told["verdict"]
            .as_str()
            .is_some_and(|v| v.contains("trust the files")),
        "{told}"
    );
    send(&node, "ada", "@@one@@");
    let mut terminal = attached(folder.path(), &ways);
    terminal.shows("Quick safety check");
    traced_until(folder.path(), "ada", "Yes, I trust this folder");
    terminal.press(b"1");
    entered(folder.path(), "@@one@@");
}

#[test]
fn words_that_somebody_left_in_the_input_line_are_named_and_passed_over_on_demand() {
    let folder = Scratch::new();
    let claude = composer(folder.path(), false);
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &[&claude]);
    let typed = json!({"data": "half a li"});
    assert_eq!(node.call("POST", "/api/input/ada", Some(typed)).0, 200);
    send(&node, "ada", "@@one@@");
    let ways = worst(folder.path(), &["ada"], "draft");
    let told = explained(folder.path(), &["ada"]);
    assert!(told["screen"].to_string().contains("half a li"), "{told}");
    assert_eq!(told["terminal"]["step"], "held_up", "{told}");
    traced_until(folder.path(), "ada", "words stand in the input line");
    let flush = ways.iter().find(|line| line.contains(" flush "));
    works(folder.path(), flush.expect("a way without a terminal"));
    entered(folder.path(), "@@one@@");
}

#[test]
fn an_agent_whose_messages_are_held_is_let_have_them() {
    let folder = Scratch::new();
    let node = kept_by_ada(folder.path(), &[]);
    run(folder.path(), &["hold", "ada"]);
    send(&node, "ada", "@@one@@");
    let ways = worst(folder.path(), &["ada"], "held");
    let (code, shown, err) = run(folder.path(), &["explain", "ada"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        shown.contains("@@one@@") && shown.contains("relay-broker auto ada"),
        "{shown}"
    );
    traced_until(folder.path(), "ada", "messages are held");
    works(folder.path(), &ways[0]);
    read(folder.path(), 1);
    traced_until(folder.path(), "ada", "verified");
}

#[test]
fn a_program_that_is_dead_is_started_again_and_has_its_mail() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let life = "[ -e dead ] || { while [ ! -e go ]; do sleep 0.02; done; echo 'no key found'; touch dead; exit 3; }; \
                exec cat >> ada.txt";
    node.spawn("ada", &["sh", "-c", life]);
    run(folder.path(), &["hold", "ada"]);
    send(&node, "ada", "@@one@@");
    std::fs::write(folder.path().join("go"), "").expect("room");
    let ways = worst(folder.path(), &["ada"], "ended");
    let told = explained(folder.path(), &["ada"]);
    let sentence = told["causes"][0]["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.contains("exit code 3") && sentence.contains("no key found"),
        "{sentence}"
    );
    traced_until(folder.path(), "ada", "program has ended (exit code 3)");
    works(folder.path(), &ways[0]);
    works(folder.path(), "relay-broker auto ada");
    read(folder.path(), 1);
    traced_until(folder.path(), "ada", "verified");
}

#[test]
fn a_line_that_is_too_long_is_sent_again_in_lines_that_fit() {
    let folder = Scratch::new();
    let node = kept_by_ada(folder.path(), &[]);
    let words = format!("{} @@one@@", "words ".repeat(1000));
    std::fs::write(folder.path().join("MESSAGE.txt"), &words).expect("room");
    let sent = json!({"to": "ada", "text": words, "from": "me"});
    node.call("POST", "/api/send", Some(sent));
    let ways = worst(folder.path(), &["ada"], "line_too_long");
    assert!(
        ways.iter().any(|line| line.contains("redeliver")),
        "{ways:?}"
    );
    let fold = ways[0].clone();
    traced_until(folder.path(), "ada", "takes at most");
    let told = explained(folder.path(), &["ada"]);
    assert_eq!(told["takes_messages"], true, "others go on: {told}");
    works(folder.path(), &fold);
    // In line mode a message is one line, so it has to be short altogether: the program says so again, or reads it.
    until("an end", || {
        let dead = node.events("dead_letter_added").len();
        (dead == 2 || !kept(&folder.path().join("ada.txt")).is_empty()).then_some(())
    });
}

#[test]
fn a_program_that_is_frozen_is_let_go_on() {
    let folder = Scratch::new();
    let node = kept_by_ada(folder.path(), &[]);
    let pid = node.agent("ada").expect("it runs")["pid"]
        .as_u64()
        .expect("a process");
    signal(u32::try_from(pid).expect("small"), "STOP");
    let ways = worst(folder.path(), &["ada"], "frozen");
    send(&node, "ada", "@@one@@");
    let told = traced_until(folder.path(), "ada", "waiting");
    assert!(told["steps"].to_string().contains("given"), "{told}");
    works(folder.path(), &ways[0]);
    read(folder.path(), 1);
    until("no cause left", || {
        (explained(folder.path(), &["ada"])["takes_messages"] == true).then_some(())
    });
}

#[test]
fn an_engine_that_is_away_is_named_and_messages_of_this_machine_go_on() {
    let (folder, far) = (Scratch::new(), Scratch::new());
    let args = ["engine", "--listen", "127.0.0.1:0", "--dir", "e"];
    let engine = Process::start(far.path(), &args);
    let url = engine
        .first_line
        .split_whitespace()
        .last()
        .expect("a URL")
        .to_owned();
    let key = std::fs::read_to_string(far.path().join("e/workspace-key")).expect("the key");
    let node = kept_by_ada(
        folder.path(),
        &["--engine", &url, "--workspace-key", key.trim()],
    );
    engine.kill9();
    let ways = worst(folder.path(), &["ada"], "engine_away");
    let told = explained(folder.path(), &["ada"]);
    assert_eq!(told["takes_messages"], true, "{told}");
    assert!(
        told["verdict"].as_str().is_some_and(|v| v.contains(&url)),
        "{told}"
    );
    send(&node, "ada", "@@one@@");
    read(folder.path(), 1);
    traced_until(folder.path(), "ada", "verified");
    let (code, said) = copied(folder.path(), &ways[0]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&url), "{said}");
    assert_eq!(
        explained(folder.path(), &[])["causes"][0]["cause"],
        "engine_away"
    );
}

#[cfg(debug_assertions)]
#[test]
fn a_disk_that_is_full_is_named_and_goes_on_by_itself() {
    let folder = Scratch::new();
    let full = folder.path().join("full");
    let ada = format!("ada={}", shell_words::join(keeper("ada.txt")));
    let faults = format!("full={}", full.display());
    let node = Node::up_with(folder.path(), &["--agent", &ada], &faults);
    node.ready("ada");
    std::fs::write(&full, "").expect("room");
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| send(&node, "ada", &format!("{}@@one@@", "x".repeat(3000))));
        let ways = worst(folder.path(), &["ada"], "journal");
        assert_eq!(worst(folder.path(), &[], "journal"), ways);
        let told = explained(folder.path(), &[]);
        assert_eq!(told["takes_messages"], false, "{told}");
        works(folder.path(), &ways[0]);
        std::fs::remove_file(&full).expect("ours");
        sent.join().expect("it is taken at last");
    });
    read(folder.path(), 1);
    let told = traced_until(folder.path(), "ada", "verified");
    let accepted = told["steps"][0]["words"].as_str().expect("words");
    let (_, late) = accepted
        .split_once("on disk ")
        .expect("when it was on disk");
    assert!(
        !late.starts_with("0 ms"),
        "the disk was full for a while: {accepted}"
    );
}

#[test]
fn agents_that_answer_each_other_without_end_are_let_go_on() {
    let folder = Scratch::new();
    let config = folder.path().join("relay-broker.toml");
    std::fs::write(&config, "[loops]\npair_limit = 2\n").expect("room");
    let config = config.to_string_lossy().into_owned();
    let node = kept_by_ada(folder.path(), &["--config", &config]);
    let bob = AgentEnv::of(&node, folder.path(), "bob");
    for n in 0..3 {
        let (code, said) = bob.run(folder.path(), &["send", "ada", &format!("@@{n}@@")]);
        assert_eq!(code, Some(0), "{said}");
    }
    let ways = worst(folder.path(), &["ada"], "loop");
    read(folder.path(), 2);
    traced_until(folder.path(), "ada", "answer each other without end");
    works(folder.path(), &ways[0]);
    read(folder.path(), 3);
    traced_until(folder.path(), "ada", "verified");
}

#[test]
fn mail_of_an_agent_that_never_came_is_given_another_chance() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--message-ttl", "100ms"]);
    node.spawn("ada", &["cat"]);
    run(folder.path(), &["hold", "ada"]);
    send(&node, "ada", "hello");
    let pid = node.agent("ada").expect("it runs")["pid"]
        .as_u64()
        .expect("a process");
    signal(u32::try_from(pid).expect("small"), "KILL");
    until("its mail has expired", || {
        node.events("dead_letter_added").pop()
    });
    let told = explained(folder.path(), &["ada"]);
    let causes = told["causes"].as_array().expect("causes");
    let dead = causes.iter().find(|cause| cause["cause"] == "given_up");
    let dead = dead.unwrap_or_else(|| panic!("what was given up: {told}"));
    traced_until(folder.path(), "ada", "given up");
    works(folder.path(), &commands(&causes[0])[0]);
    node.ready("ada");
    let ways = commands(dead);
    let redeliver = ways.iter().find(|line| line.contains("redeliver"));
    works(folder.path(), redeliver.expect("a way for the letter"));
    run(folder.path(), &["auto", "ada"]);
    let told = traced_until(folder.path(), "ada", "verified");
    assert_eq!(
        told["deliveries"].as_array().map(Vec::len),
        Some(2),
        "{told}"
    );
}

#[test]
fn a_message_that_a_limit_refuses_finds_room_after_a_flush() {
    let folder = Scratch::new();
    let node = kept_by_ada(folder.path(), &["--max-pending-local", "2"]);
    run(folder.path(), &["hold", "ada"]);
    for n in 0..2 {
        send(&node, "ada", &format!("@@{n}@@"));
    }
    let body = json!({"to": "ada", "text": "@@2@@", "from": "me"});
    assert_eq!(node.call("POST", "/api/send", Some(body)).0, 429);
    let told = explained(folder.path(), &["ada"]);
    let causes = told["causes"].as_array().expect("causes");
    let full = causes.iter().find(|cause| cause["cause"] == "full");
    let ways = commands(full.unwrap_or_else(|| panic!("the limit: {told}")));
    let told = traced_until(folder.path(), "ada", "messages are held");
    assert_eq!(
        told["behind"].as_array().map(Vec::len),
        Some(1),
        "the last that was taken: {told}"
    );
    let listed = works(folder.path(), &ways[0]);
    assert!(listed.contains("@@1@@"), "{listed}");
    works(folder.path(), &ways[1]);
    read(folder.path(), 2);
    send(&node, "ada", "@@2@@");
    let told = works(folder.path(), "relay-broker explain");
    assert!(told.contains("1 refused by a limit"), "{told}");
}

#[test]
fn a_broker_that_was_killed_in_the_middle_is_started_again_and_goes_on() {
    let folder = Scratch::new();
    let declared = "[agent.ada]\ncommand = \"sh\"\nargs = [\"-c\", \"exec cat >> ada.txt\"]\n";
    std::fs::write(folder.path().join("relay-broker.toml"), declared).expect("room");
    let node = Node::up(folder.path(), &[]);
    node.ready("ada");
    run(folder.path(), &["hold", "ada"]);
    send(&node, "ada", "@@one@@");
    node.process.kill9();
    let ways = worst(folder.path(), &["ada"], "no_broker");
    let (code, shown, _) = run(folder.path(), &["explain", "ada"]);
    assert_eq!(code, Some(1));
    assert!(shown.contains("was killed"), "{shown}");
    traced_until(folder.path(), "ada", "messages are held");
    works(folder.path(), &ways[0]);
    let shown = works(folder.path(), &ways[1]);
    assert!(shown.contains("ada"), "{shown}");
    works(folder.path(), "relay-broker auto ada");
    read(folder.path(), 1);
    let told = traced_until(folder.path(), "ada", "verified");
    assert!(told["steps"].to_string().contains("opened"), "{told}");
    let stop = command(folder.path(), &["stop"]).output();
    assert!(stop.is_ok_and(|out| out.status.success()));
}

#[test]
fn somebody_who_never_was_is_said_to_be_unknown() {
    let folder = Scratch::new();
    let _node = Node::up(folder.path(), &[]);
    worst(folder.path(), &["nobody"], "never_was");
    let (code, _, err) = run(folder.path(), &["explain", "no/such name\u{7}"]);
    assert_ne!(code, Some(0), "{err}");
}
