//! What a node says to an engine and hears from it while something is odd: links that are open at one end only, work that
//! takes its time, agents that the engine has another idea of, and fleets of programs that serve spawns.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::support::{Node, http, until};
use crate::world::{self, World};

/// How long a node may be away whose link was left half open.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// A way to the engine that can forget its callers and leave the engine in the belief that they are there.
struct Proxy {
    url: String,
    /// Both ends of each way.
    ways: Arc<Mutex<Vec<(TcpStream, TcpStream)>>>,
}

impl Proxy {
    fn to(engine: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let target = engine.trim_start_matches("http://").to_owned();
        let ways = Arc::new(Mutex::new(Vec::new()));
        let kept = ways.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&target) else {
                    continue;
                };
                let (up, down) = (copy_of(&client), copy_of(&server));
                kept.lock()
                    .expect("whole")
                    .push((copy_of(&client), copy_of(&server)));
                std::thread::spawn(move || carry(up, server));
                std::thread::spawn(move || carry(down, client));
            }
        });
        Self { url, ways }
    }

    /// Hangs up on every caller; the engine hears nothing of it.
    fn leave_half_open(&self) {
        for (client, _) in self.ways.lock().expect("whole").iter() {
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

fn copy_of(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("descriptors")
}

/// Carries bytes until one side ends, and says nothing of that to the other.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut some = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut some) {
        if to.write_all(&some[..n]).is_err() {
            break;
        }
    }
}

/// H4, N32: registered again at once, as the same instance, with all agents; and what was answered into the void is not
/// done again by another node.
pub fn a_link_that_is_left_half_open_is_replaced_at_once(age: Option<&'static str>) {
    let world = World::of(age);
    let proxy = Proxy::to(&world.engine.url);
    let one = world.up_through("one", &proxy.url);
    world.connected(&one);
    let boss = world.engine.register("boss");
    let seen = world.keeper(&one, "a0");
    for round in 0..3 {
        let before = world::registered(&one);
        let since = Instant::now();
        proxy.leave_half_open();
        until("a registration over a new link", || {
            (world::registered(&one) > before).then_some(())
        });
        let away = since.elapsed();
        assert!(away < BACK_WITHIN, "away for {away:?} in round {round}");
        world.engine.dm(&boss, "a0", &format!("@@{round}@@"));
        until("its mail", || (seen.words().len() > round).then_some(()));
    }
    assert_eq!(seen.words(), ["0", "1", "2"], "once, in order");
}

/// N32: a list of agents while an action runs does not have it done a second time, by this node or the other.
pub fn slow_work_is_done_once_while_agents_come_and_go(age: Option<&'static str>) {
    let world = World::of(age);
    let (log, gate) = (world.path("work.txt"), world.path("gate"));
    for name in ["one", "two"] {
        let script = format!(
            "echo {name} >> {log}; while [ ! -e {gate} ]; do sleep 0.02; done; echo '{{\"by\":\"{name}\"}}'"
        );
        world.configure(
            name,
            &format!("[action.slow]\ncommand = [\"sh\", \"-c\", {script:?}]\n"),
        );
    }
    let nodes = [world.node("one"), world.node("two")];
    let lead = world.engine.register("lead");
    let (status, body) = world.invoke(&lead, "slow", json!({}));
    assert_eq!(status, 201, "{body}");
    let work = || std::fs::read_to_string(&log).unwrap_or_default();
    until("it to begin", || (!work().is_empty()).then_some(()));
    // Each change of who runs leads to a list, and so does each registration.
    for (n, node) in nodes.iter().enumerate() {
        node.spawn(&format!("w{n}"), &["cat"]);
    }
    until("the engine to count them", || {
        let roster = world.roster();
        let busy = |name: &str| roster[name]["active_agents"] == 1;
        (busy("one") && busy("two")).then_some(())
    });
    std::fs::write(&gate, "").expect("room");
    let over = world.ended("slow", &body);
    assert_eq!(over["status"], "completed", "{over}");
    let by = over["output"]["by"].as_str().expect("who").to_owned();
    assert_eq!(work().lines().collect::<Vec<_>>(), [by.as_str()], "once");
}

/// One agent whose name the engine gave to somebody else mutes nobody, and is healed or ended, and told.
pub fn an_agent_that_is_somebody_elses_by_now_mutes_no_other(age: Option<&'static str>) {
    let world = World::of(age);
    let nodes = [world.node("one")];
    let boss = world.engine.register("boss");
    let good = world.keeper(&nodes[0], "good");
    let bad = world.keeper(&nodes[0], "bad");
    let url = format!("{}/v1/agents/bad", world.engine.url);
    let (status, body) = http("DELETE", &url, &world.engine.key, None);
    assert!(status < 300, "{body}");
    world.engine.register("bad");
    world.cut(&nodes);
    world.engine.dm(&boss, "good", "@@on@@");
    until("the other's mail", || {
        (good.words() == ["on"]).then_some(())
    });
    if age == Some("5.0.1") {
        return; // it knows agents by their names only
    }
    let told = until("it to be told", || nodes[0].events("worker_error").pop());
    match told["code"].as_str() {
        Some("agent_registered_anew") => {
            world.engine.dm(&boss, "bad", "@@healed@@");
            until("its mail again", || {
                (bad.words() == ["healed"]).then_some(())
            });
        }
        Some("agent_moved") => until("its end", || nodes[0].agent("bad").is_none().then_some(())),
        other => panic!("{other:?}: {told}"),
    }
}

/// A program that serves `spawn:codex` by asking its broker for the agent, as fleets do (local-api 6.1), once a file is
/// there.
fn serve_spawns(node: &Node, gate: Option<String>) {
    let url = format!("{}/api/fleet/ws", node.api.replace("http", "ws"));
    let mut request = url.into_client_request().expect("a request");
    let key = node.key.parse().expect("a header");
    request.headers_mut().insert("x-api-key", key);
    let (mut socket, _) = tungstenite::connect(request).expect("a connection");
    let manifest =
        json!({"name": "fleet", "capabilities": [{"name": "spawn:codex", "kind": "spawn"}]});
    say(
        &mut socket,
        "register_node",
        "1",
        json!({"manifest": manifest}),
    );
    say(
        &mut socket,
        "register_handlers",
        "2",
        json!({"names": ["spawn:codex"]}),
    );
    for _ in 0..2 {
        let answer = hear(&mut socket).expect("an answer");
        assert_eq!(answer["type"], "ok", "{answer}");
    }
    std::thread::spawn(move || {
        while let Some(frame) = hear(&mut socket) {
            if let Some(gate) = gate.as_ref().filter(|_| frame["type"] == "invoke_handler") {
                std::fs::write(format!("{gate}.asked"), "").expect("room");
                until("the gate", || Path::new(gate).exists().then_some(()));
            }
            answer(&mut socket, &frame);
        }
    });
}

type Socket = WebSocket<MaybeTlsStream<TcpStream>>;

fn say(socket: &mut Socket, kind: &str, id: &str, payload: Value) {
    let frame = json!({"v": 2, "type": kind, "request_id": id, "payload": payload});
    let _ = socket.send(Message::text(frame.to_string()));
}

fn hear(socket: &mut Socket) -> Option<Value> {
    loop {
        if let Message::Text(text) = socket.read().ok()? {
            return serde_json::from_str(&text).ok();
        }
    }
}

/// An invocation leads to a spawn, and the answer to the spawn, whose request bears the invocation's id, to the result.
fn answer(socket: &mut Socket, frame: &Value) {
    let payload = &frame["payload"];
    match frame["type"].as_str() {
        Some("invoke_handler") => {
            let id = payload["invocation_id"].as_str().expect("an id");
            let name = payload["input"]["name"].clone();
            let agent = json!({"name": name, "cli": "cat"});
            let wish = json!({"agent": agent, "invocation_id": id});
            say(socket, "spawn_agent", id, wish);
        }
        Some("ok") if payload["result"]["name"].is_string() => {
            let output = json!({"spawned": true, "name": payload["result"]["name"]});
            let result = json!({"invocation_id": frame["request_id"], "output": output});
            say(socket, "handler_result", "r", result);
        }
        Some("error") => {
            let why = payload["message"].as_str().unwrap_or_default();
            let result = json!({"invocation_id": frame["request_id"], "error": why});
            say(socket, "handler_result", "r", result);
        }
        _ => {}
    }
}

/// N12, N31, N32: each spawn ends as one agent on one node, also when several come at once from an engine that moves work
/// which a list does not name. One that comes by itself, just when a list is on its way, no node can hold in one place.
pub fn a_fleet_of_programs_that_serve_spawns_starts_each_agent_once(age: Option<&'static str>) {
    // All four may go to one node, which has room for four: an engine from 8.5 on counts one that has begun twice until it
    // has the result, and is asked again.
    let world = World::of(age);
    let nodes = [world.node("one"), world.node("two")];
    nodes.iter().for_each(|node| serve_spawns(node, None));
    until("the engine to know of both", || {
        let offering = world.get("/v1/nodes?capability=spawn%3Acodex");
        (offering.as_array().map(Vec::len) == Some(2)).then_some(())
    });
    let lead = world.engine.register("lead");
    let spawn = |n: usize| {
        let input = json!({"name": format!("w{n}"), "cli": "codex"});
        let (status, body) = world.invoke(&lead, "spawn", input);
        assert_eq!(status, 201, "{body}");
        body
    };
    let asked: Vec<Value> = (0..4).map(spawn).collect();
    for body in asked {
        let over = world.ended("spawn", &body);
        assert_eq!(over["status"], "completed", "{over}");
        assert_eq!(over["output"]["spawned"], true, "{over}");
    }
    for n in 0..4 {
        let name = format!("w{n}");
        let here = nodes.iter().filter(|node| node.agent(&name).is_some());
        assert_eq!(here.count(), 1, "{name}");
    }
    for node in &nodes {
        let moved = node.events("worker_error");
        assert!(moved.is_empty(), "{moved:?}");
    }
}

/// An agent's program may tell the engine that it leaves, and stay: some engines take it from its node then, and keep its
/// mail to themselves until the node says that it runs.
pub fn an_agent_that_signs_off_by_itself_keeps_its_mail(age: Option<&'static str>) {
    let world = World::of(age);
    let one = world.node("one");
    let boss = world.engine.register("boss");
    let (good, left) = (world.keeper(&one, "good"), world.keeper(&one, "left"));
    for agent in ["good", "left"] {
        world.engine.dm(&boss, agent, "@@before@@");
    }
    until("its mail", || (left.words() == ["before"]).then_some(()));
    let url = format!("{}/v1/agents/disconnect", world.engine.url);
    let leaves = json!({"deregister": true});
    let (status, body) = http("POST", &url, &left.token(), Some(leaves));
    assert_eq!(status, 200, "{body}");
    until("its place at the node", || {
        let here = world.get("/v1/nodes/one/agents");
        let mut here = here.as_array().into_iter().flatten();
        here.any(|row| row["agent_name"] == "left" && row["status"] == "active")
            .then_some(())
    });
    for agent in ["good", "left"] {
        world.engine.dm(&boss, agent, "@@after@@");
    }
    for seen in [&good, &left] {
        until("mail again", || {
            (seen.words() == ["before", "after"]).then_some(())
        });
    }
    assert!(one.events("worker_error").is_empty());
}

/// A place that an engine keeps for a spawn, while somebody wants one here: from 8.5 on it is the spawn's, before that who
/// comes first has it. Nobody is sent a second spawn for it, and it is free once the agent has gone.
pub fn the_last_place_of_a_node_goes_to_one_agent_and_is_free_again(age: Option<&'static str>) {
    let world = World::of(age);
    let one = world.node("one");
    let gate = world.path("gate");
    serve_spawns(&one, Some(gate.clone()));
    let lead = world.engine.register("lead");
    for n in 0..3 {
        one.spawn(&format!("w{n}"), &["cat"]);
    }
    let counts = |agents: u64| {
        until("the engine to count them", || {
            let offering = world.get("/v1/nodes?capability=spawn%3Acodex");
            (offering[0]["active_agents"] == agents).then_some(())
        });
    };
    counts(3);
    let wish = |name: &str| json!({"name": name, "cli": "codex"});
    let (status, ordered) = world.invoke(&lead, "spawn", wish("ordered"));
    assert_eq!(status, 201, "{ordered}");
    let asked = format!("{gate}.asked");
    until("the order", || Path::new(&asked).exists().then_some(()));
    let (status, body) = world.invoke(&lead, "spawn", wish("late"));
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("handler_unavailable"))
    );
    let url = format!("{}/api/spawn", one.api);
    let local = json!({"name": "local", "cli": "cat"});
    let (status, body) = http("POST", &url, &one.key, Some(local));
    std::fs::write(&gate, "").expect("room");
    let over = world.ended("spawn", &ordered);
    if age == Some("9.0") {
        assert_eq!(
            (status, &body["code"]),
            (429, &json!("queue_full")),
            "{body}"
        );
        assert_eq!(over["status"], "completed", "{over}");
    } else {
        assert!(status < 300, "{body}");
        assert_eq!(over["status"], "failed", "{over}");
    }
    counts(4);
    let url = format!("{}/api/spawned/w0", one.api);
    let (status, body) = http("DELETE", &url, &one.key, None);
    assert!(status < 300, "{body}");
    counts(3);
    let output = world.spawned(&lead, wish("again"));
    assert_eq!(output["spawned"], true, "{output}");
    one.ready("again");
}
