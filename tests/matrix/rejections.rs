//! Agents that the engine does not take from a node's list, as engines of each age say it: by number, by name, by name with a
//! reason, or by refusing the whole list. Whoever is elsewhere ends here, and nobody else is muted.

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::support::{Node, http, until};
use crate::world::{self, Seen, World};

/// Each of them is written to and reads it.
fn each_hears(world: &World, boss: &str, word: &str, all: &[&Seen]) {
    for seen in all {
        world.engine.dm(boss, &seen.agent, &format!("@@{word}@@"));
    }
    for seen in all {
        let last = || seen.words().pop().is_some_and(|last| last == word);
        until("its mail", || last().then_some(()));
    }
}

fn told(node: &Node, agent: &str) -> String {
    let told = until("it to be told", || {
        let mut errors = node.events("worker_error").into_iter();
        errors.find(|e| e["name"] == agent)
    });
    told["code"].as_str().expect("a code").to_owned()
}

fn call(world: &World, method: &str, path: &str, body: Option<Value>) -> Value {
    let url = format!("{}{path}", world.engine.url);
    let (status, answer) = http(method, &url, &world.engine.key, body);
    assert!(status < 300, "{method} {path}: {status} {answer}");
    answer["data"].clone()
}

pub fn an_agent_that_the_engine_has_on_another_node_ends_here_alone(age: Option<&'static str>) {
    let world = World::of(age);
    let (one, _two) = (world.node("one"), world.node("two"));
    let boss = world.engine.register("boss");
    let (good, moved) = (world.keeper(&one, "good"), world.keeper(&one, "moved"));
    each_hears(&world, &boss, "before", &[&good, &moved]);
    let to = Some(json!({"agent_name": "moved"}));
    call(&world, "POST", "/v1/nodes/two/agents", to);
    // Whoever comes leads to a list of all.
    let newcomer = world.keeper(&one, "newcomer");
    until("its end here", || {
        one.agent("moved").is_none().then_some(())
    });
    assert_eq!(told(&one, "moved"), "agent_moved");
    each_hears(&world, &boss, "after", &[&good, &newcomer]);
    let there = world.get("/v1/nodes/two/agents");
    assert_eq!(
        there[0]["agent_name"], "moved",
        "nobody took it away: {there}"
    );
    assert_eq!(moved.words(), ["before"]);
}

/// Another process that serves the node beside the broker.
struct Provider(WebSocket<MaybeTlsStream<TcpStream>>);

impl Provider {
    fn of(world: &World, node: &str) -> Self {
        let rotated = call(world, "POST", "/__behave", Some(json!({"rotate": node})));
        let token = rotated["token"].as_str().expect("a token");
        let url = world.engine.url.replace("http", "ws");
        let url = format!("{url}/v1/node/ws?token={token}");
        let mut provider = Self(tungstenite::connect(url).expect("a connection").0);
        provider.ask(json!({
            "type": "node.register", "name": node, "node_id": world.roster()[node]["id"], "version": "t",
            "capabilities": [], "max_agents": 0, "tags": [], "provider": {"name": "py", "instance_id": "i1"},
        }));
        provider
    }

    /// The data of the answer to a frame.
    fn ask(&mut self, mut frame: Value) -> Value {
        (frame["v"], frame["id"]) = (json!(1), json!("q"));
        let text = Message::text(frame.to_string());
        self.0.send(text).expect("a link");
        loop {
            if let Message::Text(text) = self.0.read().expect("a link") {
                let answer: Value = serde_json::from_str(&text).expect("a frame");
                if answer["id"] == "q" {
                    assert_eq!(answer["ok"], true, "{answer}");
                    return answer["data"].clone();
                }
            }
        }
    }

    fn takes(&mut self, world: &World, age: Option<&str>, agent: &str) {
        let id = call(world, "GET", &format!("/v1/agents/{agent}"), None)["id"].clone();
        let frame = match age {
            Some("8.2" | "9.0") => {
                json!({"type": "agent.recover", "name": agent, "expected_agent_id": id})
            }
            _ => json!({"type": "agent.register", "name": agent}),
        };
        assert_eq!(self.ask(frame)["agent_id"], id);
    }
}

pub fn an_agent_that_another_provider_of_the_node_took_is_had_back_or_ended(
    age: Option<&'static str>,
) {
    if age == Some("5.0.1") {
        return; // it knows no providers
    }
    let world = World::of(age);
    let one = world.node("one");
    let boss = world.engine.register("boss");
    let (good, taken) = (world.keeper(&one, "good"), world.keeper(&one, "taken"));
    each_hears(&world, &boss, "before", &[&good, &taken]);
    let mut py = Provider::of(&world, "one");
    py.takes(&world, age, "taken");
    let newcomer = world.keeper(&one, "newcomer");
    match told(&one, "taken").as_str() {
        "agent_registered_anew" => each_hears(&world, &boss, "after", &[&good, &newcomer, &taken]),
        "agent_moved" => {
            until("its end here", || {
                one.agent("taken").is_none().then_some(())
            });
            each_hears(&world, &boss, "after", &[&good, &newcomer]);
        }
        other => panic!("{other}"),
    }
}

/// With the close code of the engine's age, one of which had a code of its own.
pub fn a_node_whose_socket_is_replaced_comes_back_with_all_of_its_agents(
    age: Option<&'static str>,
) {
    let world = World::of(age);
    let one = world.node("one");
    let boss = world.engine.register("boss");
    let (a0, a1) = (world.keeper(&one, "a0"), world.keeper(&one, "a1"));
    let before = world::registered(&one);
    world.order(json!({"supersede": true}));
    until("a registration over a new link", || {
        (world::registered(&one) > before).then_some(())
    });
    each_hears(&world, &boss, "after", &[&a0, &a1]);
    world.connected(&one);
}
