//! A node gets its identity and its token, keeps them to itself, and says so when it cannot have them.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use relay_broker::identity::derive::{Enrolment, Kept};
use relay_broker::ids::NodeId;
use relay_broker::msg::Secret;
use relay_broker::uplink::enrol::{Enroller, Tokens};
use relay_broker::uplink::rest::RestClient;
use serde_json::{Value, json};

use crate::support::{
    Asked, KEY, Node, Process, Scratch, Scripted, Upgrade, created, http, refused, until,
};

/// Why the broker says that it is not ready.
fn trouble(node: &Node) -> Option<String> {
    let health = node.get("/health");
    assert_eq!(health["nodeConnected"], false, "{health}");
    health["degradedReason"].as_str().map(str::to_owned)
}

fn trouble_that_says(node: &Node, words: &str) -> String {
    until(words, || trouble(node).filter(|why| why.contains(words)))
}

/// The node's cached token, as a file.
fn cache(folder: &Scratch) -> std::path::PathBuf {
    let dir = folder.path().join(".local/share/agent-relay/node-tokens");
    let mut files = std::fs::read_dir(dir).expect("a folder");
    files.next().expect("a cache").expect("readable").path()
}

fn numbered_tokens() -> impl Fn(&Asked) -> Option<(u16, Value)> + Send + Sync {
    let count = AtomicUsize::new(0);
    move |asked| {
        let n = 1 + count.fetch_add(1, Ordering::Relaxed);
        Some(created(asked, &format!("nt_live_{n}")))
    }
}

#[test]
fn the_id_in_the_engines_answer_is_the_one_that_counts_also_after_a_restart() {
    let given = |asked: &Asked| {
        let mut answer = created(asked, "nt_live_1");
        answer.1["data"]["id"] = "node_given".into();
        Some(answer)
    };
    let engine = Scripted::start(given, |_| Upgrade::Yes);
    let folder = Scratch::new();
    for _ in 0..2 {
        let node = Node::up(folder.path(), &engine.flags());
        let mut link = engine.link();
        assert_eq!(link.register()["node_id"], "node_given");
        until("the session knows", || {
            (node.get("/api/session")["node_id"] == "node_given").then_some(())
        });
        assert_eq!(node.process.stop(), Some(0));
    }
    assert_eq!(engine.mints().len(), 1, "the cached token was good");
}

/// N1: the environment's token, else the one of this very node in the cache, else a new one. N3: the environment's is never
/// written down.
#[test]
fn a_token_is_taken_from_the_environment_else_from_the_cache_and_else_asked_for() {
    let engine = Scripted::start(numbered_tokens(), |_| Upgrade::Yes);
    let folder = Scratch::new();
    let token = |variables: &[(&str, &str)]| {
        let node = Node::up_in(folder.path(), &engine.flags(), variables);
        let mut link = engine.link();
        link.register();
        assert_eq!(node.process.stop(), Some(0));
        (link.token.clone(), engine.mints().len())
    };
    let minted = |n: usize| (format!("nt_live_{n}"), n);
    let given = [("RELAY_NODE_TOKEN", "nt_live_given")];
    assert_eq!(token(&given), ("nt_live_given".to_owned(), 0));
    assert_eq!(token(&[]), minted(1));
    assert_eq!(token(&[]), minted(1), "kept");
    assert_eq!(token(&given), ("nt_live_given".to_owned(), 1));
    let none: [std::path::PathBuf; 0] = [];
    assert_eq!(holders(folder.path(), "nt_live_given", &[]), none);
    assert_eq!(token(&[]), minted(1), "kept all the while");
    let another = [("RELAY_NODE_ID", "node_another")];
    assert_eq!(
        token(&another),
        minted(2),
        "that of another node is not ours"
    );
}

/// N3: refused, a token from the environment is neither replaced nor written, and health says why.
#[test]
fn a_token_from_the_environment_that_is_refused_is_named_and_not_replaced() {
    let engine = Scripted::start(numbered_tokens(), |_| Upgrade::Unauthorized);
    let folder = Scratch::new();
    let given = [("RELAY_NODE_TOKEN", "nt_live_given")];
    let node = Node::up_in(folder.path(), &engine.flags(), &given);
    let why = trouble_that_says(&node, "RELAY_NODE_TOKEN");
    assert!(why.contains("401"), "{why}");
    assert_eq!(node.process.stop(), Some(0));
    assert!(engine.mints().is_empty());
    let none: [std::path::PathBuf; 0] = [];
    assert_eq!(holders(folder.path(), "nt_live_given", &[]), none);
}

/// N6: from the machine and the folder, by whatever name one comes to it; and an id that is given is taken word for word.
#[test]
fn a_node_is_known_by_its_machine_and_folder_or_by_the_id_that_it_is_given() {
    let engine = Scripted::willing();
    let scratch = Scratch::new();
    let home = scratch.path().to_str().expect("text");
    let [one, two, link] = ["one", "two", "link"].map(|name| scratch.path().join(name));
    std::fs::create_dir(&one).expect("room");
    std::fs::create_dir(&two).expect("room");
    std::os::unix::fs::symlink(&one, &link).expect("room");
    let id = |at: &Path, more: &[(&str, &str)]| {
        let state = at.join(".relay-broker");
        let place = ["--state-dir", state.to_str().expect("text")];
        let variables = [&[("HOME", home)][..], more].concat();
        let node = Node::up_in(at, &[&engine.flags()[..], &place].concat(), &variables);
        let id = engine.link().register()["node_id"].clone();
        assert_eq!(node.process.stop(), Some(0));
        id.as_str().expect("text").to_owned()
    };
    let first = id(&one, &[]);
    assert_eq!(id(&one, &[]), first);
    assert_eq!(id(&link, &[]), first);
    assert_ne!(id(&two, &[]), first);
    let given = "The 3rd box/of Zoë";
    assert_eq!(id(&one, &[("RELAY_NODE_ID", given)]), given);
}

/// N9: at each start, with an empty list where no program is.
#[test]
fn a_node_on_which_no_program_is_found_registers_at_each_start_and_offers_nothing() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    for _ in 0..2 {
        let node = Node::up_in(folder.path(), &engine.flags(), &[("PATH", "/nowhere")]);
        let mut link = engine.link();
        assert_eq!(link.register()["capabilities"], json!([]));
        let beat = link.next_of("node.heartbeat");
        assert_eq!(
            (&beat["capabilities"], &beat["handlers_live"]),
            (&json!([]), &json!(false))
        );
        assert_eq!(node.process.stop(), Some(0));
    }
}

/// What a broker says that ends with that code instead of starting.
fn refuses_to_start(folder: &Scratch, engine: &Scripted, ends_with: i32) -> String {
    let args = [&["up"][..], &engine.flags()].concat();
    let (code, text) = Process::try_start(folder.path(), &args)
        .err()
        .expect("it does not start");
    assert_eq!(code, Some(ends_with));
    text
}

/// N5: no token to be had is a failure before readiness; a line on stdout would count as a start here.
#[test]
fn a_node_that_gets_no_token_does_not_start_and_says_why() {
    let engine = Scripted::start(|_| Some(refused(403, "forbidden")), |_| Upgrade::Yes);
    let folder = Scratch::new();
    let text = refuses_to_start(&folder, &engine, 77);
    assert!(
        text.contains("no node token to be had") && text.contains("forbidden"),
        "{text}"
    );
    assert_eq!(engine.mints().len(), 1, "a no is a no");
}

/// N7: a seed that cannot be read is fatal, named and left as it is.
#[test]
fn a_node_whose_seed_cannot_be_read_does_not_start_as_somebody_else() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let dir = folder.path().join(".local/share/agent-relay");
    std::fs::create_dir_all(&dir).expect("room");
    std::fs::write(dir.join("machine-id"), b"\xff\xff").expect("room");
    let text = refuses_to_start(&folder, &engine, 73);
    assert!(
        text.contains("machine-id") && text.contains("UTF-8"),
        "{text}"
    );
    assert!(engine.mints().is_empty());
}

/// N4: five fresh tokens are asked for, and then health and log say so.
#[test]
fn tokens_that_are_all_refused_are_asked_for_five_times_and_then_the_trouble_is_told() {
    let engine = Scripted::start(numbered_tokens(), |_| Upgrade::Unauthorized);
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &engine.flags());
    let why = trouble_that_says(&node, "no more are asked for");
    assert!(why.contains("401"), "{why}");
    let mints = engine.mints();
    assert_eq!(mints.len(), 6, "one to begin with, and five fresh ones");
    let proofs: Vec<_> = mints
        .iter()
        .map(|m| m.header("x-relaycast-node-token"))
        .collect();
    let spent: Vec<_> = (1..6).map(|n| format!("nt_live_{n}")).collect();
    let wanted = spent.iter().map(|token| Some(token.as_str()));
    assert_eq!(proofs, [None].into_iter().chain(wanted).collect::<Vec<_>>());
    let log = std::fs::read_to_string(folder.path().join("stderr.log")).expect("a log");
    assert!(
        log.contains("ERROR") && log.contains("no more are asked for"),
        "{log}"
    );
    assert!(!log.contains("nt_live_"), "{log}");
}

#[test]
fn a_lost_answer_to_a_request_for_a_token_is_asked_for_once_more_under_the_same_key() {
    let count = AtomicUsize::new(0);
    let mint = move |asked: &Asked| match count.fetch_add(1, Ordering::Relaxed) {
        0 => None,
        _ => Some(created(asked, "nt_live_1")),
    };
    let engine = Scripted::start(mint, |_| Upgrade::Yes);
    let folder = Scratch::new();
    let _node = Node::up(folder.path(), &engine.flags());
    engine.link().register();
    let mints = engine.mints();
    let keys: Vec<_> = mints.iter().map(|m| m.header("idempotency-key")).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    assert!(keys[0].is_some_and(|key| key.len() >= 32), "{keys:?}");
    let kept = std::fs::read_to_string(cache(&folder)).expect("readable");
    assert!(!kept.contains("mint_key"), "answered: {kept}");
}

#[test]
fn an_engine_that_wants_proof_of_a_token_gets_it_and_a_node_without_it_says_what_to_do() {
    let engine = Scripted::start(
        |asked| match asked.header("x-relaycast-node-token") {
            None => Some(created(asked, "nt_live_1")),
            Some("nt_live_1") => Some(created(asked, "nt_live_2")),
            Some(_) => Some(refused(409, "node_token_proof_required")),
        },
        |token| match token {
            "nt_live_2" => Upgrade::Yes,
            _ => Upgrade::Unauthorized,
        },
    );
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &engine.flags());
    assert_eq!(engine.link().token, "nt_live_2");
    assert_eq!(node.process.stop(), Some(0));
    // The next one has a token that the engine knows nothing of.
    let path = cache(&folder);
    let kept = std::fs::read_to_string(&path).expect("readable");
    std::fs::write(&path, kept.replace("nt_live_2", "nt_live_old")).expect("room");
    let node = Node::up(folder.path(), &engine.flags());
    let why = trouble_that_says(&node, "RELAY_NODE_TOKEN");
    assert!(why.contains("node_token_proof_required"), "{why}");
}

/// A token cache in memory, which another process may write to.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Kept>>);

impl Shared {
    fn put(&self, token: &str) {
        self.0.lock().expect("whole").enrolment = Some(Enrolment {
            node_id: NodeId::new("node_a"),
            node_name: "box-1".into(),
            token: Secret::new(token),
        });
    }
}

impl Tokens for Shared {
    fn kept(&self) -> Kept {
        self.0.lock().expect("whole").clone()
    }

    fn keep(&self, kept: &Kept) {
        *self.0.lock().expect("whole") = kept.clone();
    }
}

#[test]
fn a_token_that_another_process_with_our_id_got_is_taken_from_the_cache_and_not_replaced() {
    let cache = Shared::default();
    let other = cache.clone();
    let engine = Scripted::start(
        move |_| {
            // While we ask, the other process is faster.
            other.put("nt_live_2");
            Some(refused(409, "node_token_proof_required"))
        },
        |_| Upgrade::Yes,
    );
    cache.put("nt_live_1");
    let enroller = Enroller::new(
        RestClient::new(&engine.url, Secret::new(KEY), None, None),
        NodeId::new("node_a"),
        "box-1".into(),
        Box::new(cache.clone()),
        None,
    );
    let token = |spent: &str| {
        let got = enroller.mint(Some(&Secret::new(spent))).expect("a token");
        got.token.reveal().to_owned()
    };
    assert_eq!(token("nt_live_1"), "nt_live_2", "found after the refusal");
    assert_eq!(engine.mints().len(), 1);
    cache.put("nt_live_3");
    assert_eq!(token("nt_live_2"), "nt_live_3", "found before asking");
    assert_eq!(engine.mints().len(), 1);
}

#[test]
fn a_key_that_was_used_for_another_wish_and_a_name_that_is_taken_are_put_differently() {
    let cache = Shared::default();
    cache.keep(&Kept {
        enrolment: None,
        mint_key: Some("k".repeat(32)),
    });
    let engine = Scripted::start(
        |asked| match (asked.header("idempotency-key"), asked.body["name"].as_str()) {
            (Some(key), _) if key.starts_with("kkk") => {
                Some(refused(409, "idempotency_key_reused"))
            }
            (_, Some("box-1")) => Some(refused(409, "node_name_conflict")),
            _ => Some(created(asked, "nt_live_1")),
        },
        |_| Upgrade::Yes,
    );
    let enroller = Enroller::new(
        RestClient::new(&engine.url, Secret::new(KEY), None, None),
        NodeId::new("node_0123456789"),
        "box-1".into(),
        Box::new(cache.clone()),
        None,
    );
    let got = enroller.enrol().expect("a token");
    assert_eq!(got.node_name, "box-1-23456789");
    assert_eq!(cache.kept().mint_key, None);
    let mints = engine.mints();
    let keys: std::collections::BTreeSet<_> =
        mints.iter().map(|m| m.header("idempotency-key")).collect();
    assert_eq!(
        (mints.len(), keys.len()),
        (3, 3),
        "each wish has a key of its own"
    );
}

#[test]
fn a_token_that_is_replaced_under_a_running_node_is_replaced_by_the_node_in_turn() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    until("registered", || node.events("node_registered").pop());
    let session = node.get("/api/session");
    let body = json!({"node_id": session["node_id"], "name": session["node_name"]});
    let url = format!("{}/v1/nodes", node.engine.url);
    let (status, stolen) = http("POST", &url, &node.engine.key, Some(body));
    assert_eq!(status, 201, "{stolen}");
    until("registered again", || {
        (node.events("node_registered").len() >= 2).then_some(())
    });
    until("ready", || {
        (node.get("/health")["nodeConnected"] == true).then_some(())
    });
    let token = node.get("/api/session")["node_token"].clone();
    assert_ne!(token, stolen["data"]["token"]);
    assert_ne!(token, session["node_token"]);
}

/// Every file below a folder whose bytes hold `needle`, and is not named in `may`.
fn holders(dir: &Path, needle: &str, may: &[&str]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holders(&path, needle, may));
        } else if !may.iter().any(|name| path.ends_with(name)) {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let holds = bytes.windows(needle.len()).any(|w| w == needle.as_bytes());
            found.extend(holds.then_some(path));
        }
    }
    found
}

#[test]
fn tokens_are_in_their_own_private_files_and_in_no_log_event_journal_or_command_line() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    until("registered", || node.events("node_registered").pop());
    node.spawn("w1", &["cat"]);
    let boss = node.engine.register("boss");
    node.engine.dm(&boss, "w1", "hello");
    until("it arrived", || node.events("delivery_ack").pop());
    let session = node.get("/api/session");
    let events = node.get("/api/events/replay?sinceSeq=0").to_string();
    let pids = [
        Some(u64::from(node.process.pid())),
        node.agent("w1").and_then(|a| a["pid"].as_u64()),
    ];
    for prefix in ["nt_live_", "at_live_", "rk_live_"] {
        assert!(!events.contains(prefix), "{events}");
        for pid in pids.iter().flatten() {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
            assert!(!String::from_utf8_lossy(&line).contains(prefix));
        }
    }
    assert_eq!(node.process.stop(), Some(0));
    // Who opens the workspace is what `connection.json` and the engine's own key file are for.
    let own = ["workspace-key", "connection.json"];
    let none: [std::path::PathBuf; 0] = [];
    assert_eq!(holders(folder.path(), "rk_live_", &own), none);
    assert_eq!(holders(folder.path(), "at_live_", &[]), none);
    let cache = cache(&folder);
    let token = session["node_token"].as_str().expect("a token");
    assert_eq!(holders(folder.path(), token, &[]), [cache]);
}

/// An engine whose sockets are out of order and whose agents go by HTTP.
fn without_sockets(agents: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static) -> Scripted {
    let answer = move |asked: &Asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/v1/nodes") => Some(created(asked, "nt_live_1")),
        (method, path) => Some(agents(&format!("{method} {path}"))),
    };
    Scripted::answering(answer, |_| Upgrade::Unavailable)
}

fn given(data: Value) -> (u16, Value) {
    (200, json!({"ok": true, "data": data}))
}

fn writes_its_token() -> Value {
    let script = "printf %s $RELAY_AGENT_TOKEN > token; exec cat";
    json!({"name": "w1", "harness_config": {"command": "sh", "args": ["-c", script]}})
}

/// N14: registered and bound by HTTP, and that token is in the program's environment.
#[test]
fn an_agent_of_a_node_without_a_link_is_registered_and_bound_by_http_and_gets_that_token() {
    for newest in [true, false] {
        let engine = without_sockets(move |asked| match asked {
            "POST /v1/agents" => refused(409, "agent_already_exists"),
            "GET /v1/agents/w1" => given(json!({"id": "2001", "status": "offline"})),
            "POST /v1/agents/w1/takeover" if newest => {
                given(json!({"agent_id": "2001", "token": "at_live_w1"}))
            }
            "POST /v1/agents/w1/rotate-token" => {
                given(json!({"name": "w1", "token": "at_live_w1"}))
            }
            "POST /v1/nodes/box/agents" => given(json!({"agent_id": "2001"})),
            _ => refused(404, "not_found"),
        });
        let folder = Scratch::new();
        let node = Node::up(
            folder.path(),
            &[&["--name", "box"][..], &engine.flags()].concat(),
        );
        let (status, body) = node.call("POST", "/api/spawn", Some(writes_its_token()));
        assert_eq!(status, 200, "{body}");
        let file = folder.path().join("token");
        until("its token", || {
            let token = std::fs::read_to_string(&file).ok()?;
            (token == "at_live_w1").then_some(())
        });
        let agents = engine.requests("/v1/agents");
        let last = if newest { "takeover" } else { "rotate-token" };
        assert_eq!(agents.last(), Some(&format!("POST /v1/agents/w1/{last}")));
        let bound = engine.requests("/v1/nodes/");
        assert_eq!(bound, ["POST /v1/nodes/box/agents"]);
    }
}

/// N15: and the identity is taken back.
#[test]
fn an_agent_that_gets_no_place_on_this_node_is_not_started_and_leaves_nothing_at_the_engine() {
    let engine = without_sockets(|asked| match asked {
        "POST /v1/agents" => given(json!({"id": "2001", "token": "at_live_w1"})),
        "DELETE /v1/agents/w1" => given(json!({})),
        _ => refused(409, "node_capacity_exceeded"),
    });
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &engine.flags());
    let (status, body) = node.call("POST", "/api/spawn", Some(writes_its_token()));
    assert_eq!(status, 429, "{body}");
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|m| m.contains("node_capacity_exceeded"))
    );
    assert_eq!(
        engine.requests("/v1/agents"),
        ["POST /v1/agents", "DELETE /v1/agents/w1"]
    );
    assert!(node.agent("w1").is_none() && !folder.path().join("token").exists());
}

/// N17: the caller hears why, and the name is free here and at the engine.
#[test]
fn a_name_whose_program_could_not_be_started_is_free_for_everybody() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    until("registered", || node.events("node_registered").pop());
    let wish = json!({"name": "w1", "harness_config": {"command": "/no/such/program"}});
    let (status, body) = node.call("POST", "/api/spawn", Some(wish));
    let why = body["message"].as_str().unwrap_or_default();
    assert!(status >= 400 && why.contains("/no/such/program"), "{body}");
    assert!(node.agent("w1").is_none());
    node.spawn("w1", &["cat"]);
    let wish = json!({"name": "w2", "harness_config": {"command": "/no/such/program"}});
    assert!(node.call("POST", "/api/spawn", Some(wish)).0 >= 400);
    let url = format!("{}/v1/agents", node.engine.url);
    until("the name for somebody else", || {
        let wish = json!({"name": "w2"});
        (http("POST", &url, &node.engine.key, Some(wish)).0 == 201).then_some(())
    });
}

/// N13, on the wire: who the token belongs to is asked with it, and then the agent is bound; nothing else is asked.
#[test]
fn an_agent_with_a_token_of_its_own_keeps_it_and_one_with_somebody_elses_is_not_started() {
    for (owner, runs) in [("w1", true), ("w2", false)] {
        let engine = without_sockets(move |asked| match asked {
            "GET /v1/agent" => given(json!({"id": "2001", "name": owner, "status": "active"})),
            "POST /v1/nodes/box/agents" => given(json!({"agent_id": "2001"})),
            _ => refused(404, "not_found"),
        });
        let folder = Scratch::new();
        let node = Node::up(
            folder.path(),
            &[&["--name", "box"][..], &engine.flags()].concat(),
        );
        let mut wish = writes_its_token();
        wish["agentToken"] = json!("at_live_given");
        let (status, body) = node.call("POST", "/api/spawn", Some(wish));
        assert_eq!(engine.requests("/v1/agent"), ["GET /v1/agent"]);
        if !runs {
            assert!(
                status >= 400 && body["message"].to_string().contains("agent w2"),
                "{body}"
            );
            assert!(node.agent("w1").is_none());
            continue;
        }
        assert_eq!(status, 200, "{body}");
        let file = folder.path().join("token");
        until("its token", || {
            let token = std::fs::read_to_string(&file).ok()?;
            (token == "at_live_given").then_some(())
        });
        let bound = engine.requests("/v1/nodes/");
        assert_eq!(bound, ["POST /v1/nodes/box/agents"]);
    }
}
