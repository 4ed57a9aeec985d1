//! One node, engines of every age: enrolment, agents that go and come back, mail, and tokens that die.

use relay_broker::engine::faults::Behave;
use relay_broker::engine::server::{Engine as Server, EngineSettings};
use serde_json::{Value, json};

use crate::support::{Engine, Node, Scratch, http, run, until};

const AGES: [&str; 4] = ["5.0.1", "6.0.3", "8.2", "9.0"];

struct World {
    age: &'static str,
    engine: Engine,
    _server: Server,
    folder: Scratch,
    _engine_folder: Scratch,
}

impl World {
    fn of(age: &'static str) -> Self {
        let engine_folder = Scratch::new();
        let settings = EngineSettings {
            dir: engine_folder.path().to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            workspace_key: None,
            workspace_name: "local".into(),
        };
        let behave = Behave::parse([age]).expect("an age");
        let server = Server::start_behaving(settings, &behave).expect("it starts");
        Self {
            age,
            engine: Engine {
                url: server.url(),
                key: server.workspace_key().to_owned(),
            },
            _server: server,
            folder: Scratch::new(),
            _engine_folder: engine_folder,
        }
    }

    fn up(&self) -> Node {
        let (url, key) = (&self.engine.url, &self.engine.key);
        let flags = ["--engine", url, "--workspace-key", key, "--harness", "cat"];
        let node = Node::up(self.folder.path(), &flags);
        self.connected(&node);
        node
    }

    fn connected(&self, node: &Node) {
        until(&format!("a link to {}", self.age), || {
            (node.get("/health")["nodeConnected"] == true).then_some(())
        });
    }

    /// Says something to `w1` and waits until it was read.
    fn reaches(&self, node: &Node, boss: &str, text: &str) {
        let before = node.events("delivery_ack").len();
        self.engine.dm(boss, "w1", text);
        until(&format!("{text:?} read under {}", self.age), || {
            (node.events("delivery_ack").len() > before).then_some(())
        });
    }

    fn order(&self, orders: Value) {
        let url = format!("{}/__behave", self.engine.url);
        let (status, body) = http("POST", &url, &self.engine.key, Some(orders));
        assert!(status < 300, "{body}");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr.log")).unwrap_or_default()
    }
}

#[test]
fn an_agent_that_was_released_or_whose_broker_died_is_had_back_from_engines_of_every_age() {
    for age in AGES {
        let world = World::of(age);
        let boss = world.engine.register("boss");
        let node = world.up();
        node.spawn("w1", &["cat"]);
        world.reaches(&node, &boss, "one");
        let (status, body) = node.call("DELETE", "/api/spawned/w1", None);
        assert_eq!(status, 200, "{age}: {body}");
        node.spawn("w1", &["cat"]);
        world.reaches(&node, &boss, "two");
        node.process.kill9();
        let node = world.up();
        node.spawn("w1", &["cat"]);
        world.reaches(&node, &boss, "three");
        let log = world.log();
        assert!(!log.contains("complains"), "{age} could not read us: {log}");
    }
}

/// Engines before 8 say 409 `agent_not_node_bound`, later ones 503 `agent_host_unavailable`.
#[test]
fn who_releases_an_agent_that_has_ended_hears_from_engines_of_every_age_that_it_runs_nowhere() {
    for age in AGES {
        let world = World::of(age);
        let node = world.up();
        node.spawn("w1", &["cat"]);
        let release = || run(world.folder.path(), &["release", "w1"]);
        assert_eq!(release().0, Some(0), "{age}");
        let (code, _, err) = release();
        assert_eq!((code, err.lines().count()), (Some(1), 1), "{age}: {err}");
        assert!(err.contains("'w1' runs on no node"), "{age}: {err}");
    }
}

#[test]
fn a_name_that_somebody_else_registered_is_taken_over_from_engines_of_every_age() {
    for age in AGES {
        let world = World::of(age);
        let boss = world.engine.register("boss");
        world.engine.register("w1");
        let node = world.up();
        node.spawn("w1", &["cat"]);
        world.reaches(&node, &boss, "hello");
    }
}

/// The engine goes on saying that the agent was born on the other node.
#[test]
fn an_agent_of_another_node_is_had_here_once_that_node_gave_it_up_and_again_after_a_crash() {
    for age in AGES {
        let world = World::of(age);
        let boss = world.engine.register("boss");
        let elsewhere = Scratch::new();
        let (url, key) = (&world.engine.url, &world.engine.key);
        let flags = ["--engine", url, "--workspace-key", key, "--harness", "cat"];
        let first = Node::up(elsewhere.path(), &flags);
        world.connected(&first);
        first.spawn("w1", &["cat"]);
        world.reaches(&first, &boss, "there");
        let (status, body) = first.call("DELETE", "/api/spawned/w1", None);
        assert_eq!(status, 200, "{age}: {body}");
        let node = world.up();
        node.spawn("w1", &["cat"]);
        world.reaches(&node, &boss, "here");
        node.process.kill9();
        let node = world.up();
        node.spawn("w1", &["cat"]);
        world.reaches(&node, &boss, "here again");
    }
}

/// N34: actions hosted by an agent reach the agent; and whether it answers or not, the node's own handlers stay in service.
#[test]
fn an_agent_that_serves_an_action_is_told_of_it_by_engines_of_every_age() {
    for age in AGES {
        let world = World::of(age);
        let boss = world.engine.register("boss");
        let node = world.up();
        node.spawn("w1", &["cat"]);
        let (url, key) = (&world.engine.url, &world.engine.key);
        let action = json!({"name": "sum", "description": "adds", "handler_agent": "w1"});
        let (status, body) = http("POST", &format!("{url}/v1/actions"), key, Some(action));
        assert_eq!(status, 201, "{age}: {body}");
        let path = format!("{url}/v1/actions/sum/invoke");
        let (status, body) = http("POST", &path, &boss, Some(json!({"input": {"a": 1}})));
        assert_eq!(status, 201, "{age}: {body}");
        let invocation = &body["data"]["invocation_id"];
        until(&format!("the agent told under {age}"), || {
            let typed = node.events("delivery_verified");
            typed
                .iter()
                .any(|e| e["event_id"] == *invocation)
                .then_some(())
        });
        let path = format!(
            "{url}/v1/actions/sum/invocations/{}",
            invocation.as_str().expect("an id")
        );
        let (_, body) = http("GET", &path, key, None);
        assert_eq!(body["data"]["completed_at"], json!(null), "{age}: {body}");
        let (_, nodes) = http("GET", &format!("{url}/v1/nodes"), key, None);
        let broker = nodes["data"].as_array().into_iter().flatten();
        let live = broker
            .filter(|n| n["role"] == "broker")
            .all(|n| n["handlers_live"] == true);
        assert!(live, "{age}: {nodes}");
    }
}

#[test]
fn a_link_that_is_cut_comes_back_with_its_agents_under_engines_of_every_age() {
    for age in AGES {
        let world = World::of(age);
        let boss = world.engine.register("boss");
        let node = world.up();
        node.spawn("w1", &["cat"]);
        for n in 0..3 {
            let before = node.events("node_registered").len();
            world.order(json!({"cut": true}));
            until("registered again", || {
                (node.events("node_registered").len() > before).then_some(())
            });
            world.reaches(&node, &boss, &format!("after cut {n}"));
        }
    }
}

#[test]
fn a_token_that_dies_is_replaced_before_9_0_and_from_then_on_only_with_proof() {
    for age in AGES {
        let world = World::of(age);
        let boss = world.engine.register("boss");
        let node = world.up();
        node.spawn("w1", &["cat"]);
        world.order(json!({"refuse": 401, "times": 1, "cut": true}));
        until("a new token", || {
            let log = world.log();
            log.contains("asking for a new node token").then_some(())
        });
        world.connected(&node);
        world.reaches(&node, &boss, "with a new token");
        // Now the token that we have is really dead, and proves nothing any more.
        world.order(json!({"forget": true, "cut": true}));
        if age == "9.0" {
            until("it says what to do", || {
                let why = node.get("/health")["degradedReason"].as_str()?.to_owned();
                why.contains("RELAY_NODE_TOKEN").then_some(())
            });
        } else {
            until("another token", || {
                (world.log().matches("asking for a new node token").count() >= 2).then_some(())
            });
            world.connected(&node);
            world.reaches(&node, &boss, "with another token");
        }
    }
}
