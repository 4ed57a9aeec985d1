//! An engine of some age in this process, and brokers of its workspace as processes of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use relay_broker::engine::faults::Behave;
use relay_broker::engine::server::{Engine as Server, EngineSettings};
use serde_json::{Value, json};

use crate::support::{Engine, Node, Scratch, http, until};

/// A number from the environment.
pub fn number(name: &str, usual: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => usual,
    }
}

/// The lines of a file, none if it is not there.
fn lines(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// How many threads and descriptors a broker has.
pub fn holds(node: &Node) -> (usize, usize) {
    let count = |what: &str| {
        let dir = format!("/proc/{}/{what}", node.process.pid());
        fs::read_dir(dir).expect("it runs").count()
    };
    (count("task"), count("fd"))
}

/// The number of a broker's last event that says it registered; 0 before the first.
pub fn registered(node: &Node) -> u64 {
    let last = node.events("node_registered").pop();
    last.map_or(0, |event| event["seq"].as_u64().expect("a number"))
}

/// An agent that keeps what it reads.
pub struct Seen {
    pub agent: String,
    path: String,
}

impl Seen {
    /// The token that the program was given.
    pub fn token(&self) -> String {
        let path = format!("{}.token", self.path);
        until("its token", || lines(&path).pop())
    }

    /// What stood between `@@` in each line.
    pub fn words(&self) -> Vec<String> {
        let words = lines(&self.path).into_iter();
        words
            .filter_map(|line| line.split("@@").nth(1).map(str::to_owned))
            .collect()
    }
}

/// A program that writes down where and as which process it was started, and keeps running.
pub struct Starts {
    path: String,
}

impl Starts {
    pub fn of(world: &World) -> Self {
        Self {
            path: world.path("starts.txt"),
        }
    }

    /// The input of a spawn that every node can serve.
    pub fn spawn(&self) -> Value {
        let script = format!("echo $$ $RELAY_BROKER_STATE_DIR >> {}; exec cat", self.path);
        json!({"name": "w1", "capability": "spawn:cat", "cli": "sh", "args": ["-c", script]})
    }

    /// Process and state folder of each start.
    pub fn all(&self) -> Vec<(String, String)> {
        let lines = lines(&self.path).into_iter();
        lines
            .map(|line| {
                let (pid, folder) = line.split_once(' ').expect("two words");
                (pid.to_owned(), folder.to_owned())
            })
            .collect()
    }

    /// On which node each start was.
    pub fn nodes(&self) -> Vec<&'static str> {
        let all = self.all().into_iter();
        all.map(|(_, folder)| {
            let node = ["one", "two"].into_iter();
            let mut node = node.filter(|name| folder.contains(&format!("/{name}/")));
            node.next().expect("a node's folder")
        })
        .collect()
    }

    /// How many of them run; a dead one that nobody has waited for does not.
    pub fn running(&self) -> usize {
        let all = self.all().into_iter();
        all.filter(|(pid, _)| {
            let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = status.rsplit(") ").next().unwrap_or_default();
            !state.is_empty() && !state.starts_with('Z')
        })
        .count()
    }
}

pub struct World {
    pub engine: Engine,
    age: Option<&'static str>,
    server: Option<Server>,
    folder: Scratch,
}

impl World {
    /// `None` is the engine as it comes.
    pub fn of(age: Option<&'static str>) -> Self {
        crate::frames::keep();
        let folder = Scratch::new();
        fs::create_dir_all(folder.path().join("engine")).expect("room");
        let mut world = Self {
            engine: Engine {
                url: "http://127.0.0.1:0".into(),
                key: String::new(),
            },
            age,
            server: None,
            folder,
        };
        world.serve();
        world
    }

    fn serve(&mut self) {
        let listen = self.engine.url.trim_start_matches("http://");
        let settings = EngineSettings {
            dir: self.folder.path().join("engine"),
            listen: listen.parse().expect("an address"),
            workspace_key: None,
            workspace_name: "local".into(),
        };
        let behave = Behave::parse(self.age).expect("an age");
        let server = until("the engine's place", || {
            Server::start_behaving(settings.clone(), &behave).ok()
        });
        self.engine = Engine {
            url: server.url(),
            key: server.workspace_key().to_owned(),
        };
        self.server = Some(server);
    }

    /// Ends the engine.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again in its place, and waits until each of these nodes has registered anew.
    pub fn resume(&mut self, nodes: &[Node]) {
        let before: Vec<u64> = nodes.iter().map(registered).collect();
        self.serve();
        for (node, before) in nodes.iter().zip(before) {
            until("a registration at the engine's new life", || {
                (registered(node) > before).then_some(())
            });
        }
    }

    /// A path for a file of the test's.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn folder_of(&self, name: &str) -> PathBuf {
        let dir = self.folder.path().join(name);
        fs::create_dir_all(&dir).expect("room");
        dir
    }

    /// A broker of that name that has a link; it offers `spawn:cat` and `spawn:<its name>`.
    pub fn node(&self, name: &str) -> Node {
        let node = self.up(name, &[]);
        self.connected(&node);
        node
    }

    /// A broker of that name, with more in its environment.
    pub fn up(&self, name: &str, variables: &[(&str, &str)]) -> Node {
        let data = self.folder_of(name).join("data");
        self.start(name, data, variables)
    }

    /// A broker that shares the node tokens of another one.
    pub fn up_beside(&self, name: &str, other: &str, variables: &[(&str, &str)]) -> Node {
        let data = self.folder_of(other).join("data");
        self.start(name, data, variables)
    }

    /// A broker of that name under that home, and with more in its environment.
    pub fn up_at_home(&self, name: &str, home: &str, variables: &[(&str, &str)]) -> Node {
        let mut all = vec![("XDG_DATA_HOME", ""), ("HOME", home)];
        all.extend(variables);
        self.up(name, &all)
    }

    /// A broker that reaches the engine at another address.
    pub fn up_through(&self, name: &str, url: &str) -> Node {
        let data = self.folder_of(name).join("data");
        self.start_at(url, name, data, &[])
    }

    /// What stands in the configuration file of a broker that is still to come.
    pub fn configure(&self, name: &str, text: &str) {
        let file = self.folder_of(name).join("relay-broker.toml");
        fs::write(file, text).expect("room");
    }

    fn start(&self, name: &str, data: PathBuf, variables: &[(&str, &str)]) -> Node {
        self.start_at(&self.engine.url, name, data, variables)
    }

    fn start_at(&self, url: &str, name: &str, data: PathBuf, variables: &[(&str, &str)]) -> Node {
        let key = &self.engine.key;
        let args = [
            "--engine",
            url,
            "--workspace-key",
            key,
            "--name",
            name,
            "--max-agents",
            "4",
            "--harness",
            "cat",
            "--harness",
            name,
        ];
        let data = data.to_string_lossy().into_owned();
        let mut all = vec![("XDG_DATA_HOME", data.as_str())];
        all.extend(variables);
        Node::up_in(&self.folder_of(name), &args, &all)
    }

    /// Waits for a link; one that was just cut may still be believed in, see [`World::cut`].
    pub fn connected(&self, node: &Node) {
        until("a link", || {
            (node.get("/health")["nodeConnected"] == true).then_some(())
        });
    }

    /// An agent on that node that keeps what it reads.
    pub fn keeper(&self, node: &Node, agent: &str) -> Seen {
        let path = self.path(&format!("{agent}.txt"));
        let script = format!("echo \"$RELAY_AGENT_TOKEN\" > {path}.token; exec cat >> {path}");
        node.spawn(agent, &["sh", "-c", &script]);
        Seen {
            agent: agent.to_owned(),
            path,
        }
    }

    /// Trouble on order.
    pub fn order(&self, orders: Value) {
        let url = format!("{}/__behave", self.engine.url);
        let (status, body) = http("POST", &url, &self.engine.key, Some(orders));
        assert!(status < 300, "{body}");
    }

    /// Cuts all links and waits until each of these nodes has registered anew.
    pub fn cut(&self, nodes: &[Node]) {
        let before: Vec<u64> = nodes.iter().map(registered).collect();
        self.order(json!({"cut": true}));
        for (node, before) in nodes.iter().zip(before) {
            until("a registration over a new link", || {
                (registered(node) > before).then_some(())
            });
        }
    }

    /// What became of the orders.
    pub fn trouble(&self) -> Value {
        let url = format!("{}/__behave", self.engine.url);
        let (status, body) = http("GET", &url, &self.engine.key, None);
        assert_eq!(status, 200, "{body}");
        body["data"].clone()
    }

    /// What the engine answers to somebody with the workspace key.
    pub fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.engine.url);
        let (status, body) = http("GET", &url, &self.engine.key, None);
        assert_eq!(status, 200, "GET {path}: {body}");
        body["data"].clone()
    }

    /// The brokers by name.
    pub fn roster(&self) -> BTreeMap<String, Value> {
        let rows = self.get("/v1/nodes");
        let rows = rows.as_array().cloned().unwrap_or_default().into_iter();
        rows.filter(|row| row["role"] == "broker")
            .map(|row| (row["name"].as_str().unwrap_or_default().to_owned(), row))
            .collect()
    }

    pub fn invoke(&self, token: &str, action: &str, input: Value) -> (u16, Value) {
        let url = format!("{}/v1/actions/{action}/invoke", self.engine.url);
        http("POST", &url, token, Some(json!({ "input": input })))
    }

    /// The end of an invocation, well or not.
    pub fn ended(&self, action: &str, invoked: &Value) -> Value {
        let id = invoked["data"]["invocation_id"].as_str().expect("an id");
        until(&format!("the end of {action} {id}"), || {
            let now = self.get(&format!("/v1/actions/{action}/invocations/{id}"));
            matches!(now["status"].as_str(), Some("completed" | "failed")).then_some(now)
        })
    }

    /// Spawns and gives the output.
    pub fn spawned(&self, token: &str, input: Value) -> Value {
        let (status, body) = self.invoke(token, "spawn", input);
        assert_eq!(status, 201, "{body}");
        let over = self.ended("spawn", &body);
        assert_eq!(over["status"], "completed", "{over}");
        over["output"].clone()
    }
}
