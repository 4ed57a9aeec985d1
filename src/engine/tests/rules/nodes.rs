//! Rules of nodes: who serves what of one node, who is bound to it, and which node a call means. Read whole at the commits
//! that the rules name: `nodeProviders.test.ts` at 01db911 (6.0.0) and 44024dc (6.0.1), `nodeDeliveryContracts.test.ts` at
//! 1618178 (8.x), `nodeMachineIdDedupe.test.ts` at d0ed8bc (8.3.1) and 20cbb08 (8.x), with `nodeProvider.ts` and `node.ts`.
//!
//! Not played besides what the rules' own file says: capacity that a spawn reserves (no client sees the number), delivery
//! over HTTP push and what is blotted out of its settings, news of presence by `context.update` (best effort, and nobody
//! waits for them), and the frame `node.message` of one build of 6.0.0.

use serde_json::{Value, json};

use super::super::KEY;
use super::{ALWAYS, FROM_6, Rule, Stage};
use crate::engine::SocketKind;
use crate::engine::live::ConnId;

/// A mint needs the old token from 9.0 on.
const BEFORE_9: [bool; 4] = [true, true, true, false];

impl Stage {
    /// A provider of node `a` on a socket of its own, and what its registration is answered with.
    fn provider(&mut self, name: &str, instance: &str, capabilities: Value) -> (ConnId, Value) {
        let token = self.tokens[0].clone();
        let conn = self.w.socket(SocketKind::Node, &token).expect("admitted");
        let provider = json!({"name": name, "instance_id": instance});
        let answer = self.registers(conn, Some(provider), capabilities);
        let beat =
            json!({"type": "node.heartbeat", "load": 0, "active_agents": 0, "handlers_live": true});
        self.w.send(conn, beat);
        (conn, answer)
    }

    fn registers(&mut self, conn: ConnId, provider: Option<Value>, capabilities: Value) -> Value {
        let mut frame = json!({
            "type": "node.register", "name": "a", "node_id": "node_a", "version": "t", "tags": [],
            "capabilities": capabilities, "max_agents": 4,
        });
        if let Some(provider) = provider {
            frame["provider"] = provider;
        }
        self.asks(conn, frame)
    }

    /// Invokes something as `lead`; the status, and what the answer's data says of it.
    fn invokes(&mut self, path: &str, input: Value) -> (u16, Value) {
        let lead = self.lead.clone();
        let (status, body) = self.w.call("POST", path, &lead, json!({ "input": input }));
        (status, body["data"]["status"].clone())
    }

    /// The actions that a connection was asked for since the last look.
    fn asked(&mut self, conn: ConnId) -> Vec<Value> {
        let frames = self.w.heard(conn).into_iter();
        let invokes = frames.filter(|f| f["type"] == "action.invoke");
        invokes.map(|f| f["action"].clone()).collect()
    }

    /// The names of all actions that can be invoked.
    fn actions(&mut self) -> Vec<Value> {
        let list = self.w.ok("GET", "/v1/actions", KEY, json!({}));
        let list = list.as_array().cloned().unwrap_or_default().into_iter();
        list.map(|a| a["name"].clone()).collect()
    }

    fn writes(&mut self, to: &str) {
        let lead = self.lead.clone();
        let body = json!({"to": to, "text": "hi"});
        self.w.call("POST", "/v1/dm", &lead, body);
    }

    fn leaves(&mut self, conn: ConnId) {
        self.w.step(crate::engine::Event::SocketClosed { conn });
    }

    fn enrols(&mut self, body: Value) -> (u16, Value) {
        let (status, body) = self.w.call("POST", "/v1/nodes", KEY, body);
        (status, body["data"].clone())
    }
}

/// A capability that is an action.
fn action(name: &str) -> Value {
    json!([{"name": name, "kind": "action"}])
}

const SPAWN: &str = "/v1/actions/spawn/invoke";

pub const RULES: &[Rule] = &[
    Rule {
        says: "who names no provider is the provider `default`, and each capability is answered for",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let data = s.registers(s.a, None, action("etl"))["data"].clone();
            data["provider"]["name"] == "default"
                && data["accepted_capabilities"]
                    == json!([{"name": "etl", "kind": "action", "accepted": true}])
        },
    },
    Rule {
        says: "another instance of a provider that is connected is refused, and taken once that one is gone",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let (first, _) = s.provider("py", "i1", action("etl"));
            let (_, second) = s.provider("py", "i2", action("etl"));
            s.leaves(first);
            let (_, third) = s.provider("py", "i3", action("etl"));
            second["code"] == "provider_instance_conflict"
                && third["data"]["provider"]["instance_id"] == "i3"
        },
    },
    Rule {
        says: "an action that another provider of the node offers refuses the whole registration",
        since: "6.0.0",
        source: "nodeProviders.test.ts, nodeProvider.ts",
        ages: FROM_6,
        holds: |s| {
            s.provider("py", "i1", action("etl"));
            let both =
                json!([{"name": "etl", "kind": "action"}, {"name": "build", "kind": "action"}]);
            let (_, answer) = s.provider("rb", "i1", both.clone());
            let again = s.registers(s.a, None, both);
            let nodes = s.w.ok("GET", "/v1/nodes?capability=build", KEY, json!({}));
            answer["code"] == "action_name_conflict"
                && again["code"] == "action_name_conflict"
                && nodes == json!([])
        },
    },
    Rule {
        says: "the provider `default` of a second node is accepted with an action that the first node has",
        since: "6.0.0",
        source: "nodeProvider.ts",
        ages: FROM_6,
        holds: |s| {
            s.registers(s.a, None, action("etl"));
            let frame = json!({
                "type": "node.register", "name": "b", "node_id": "node_b", "version": "t", "tags": [],
                "capabilities": action("etl"), "max_agents": 0,
            });
            s.asks(s.b, frame)["data"]["accepted_capabilities"][0]["accepted"] == true
        },
    },
    Rule {
        says: "a name for the whole workspace that an agent's action has refuses the registration",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let lead = s.lead.clone();
            s.w.ok(
                "POST",
                "/v1/actions",
                &lead,
                json!({"name": "etl", "description": "d"}),
            );
            let global = json!([{"name": "etl", "kind": "action", "global": true}]);
            s.provider("py", "i1", global).1["code"] == "action_name_conflict"
        },
    },
    Rule {
        says: "only actions can be invoked by their names, and a capability without a kind is what its name says",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let provider = json!({"name": "default", "instance_id": "i1"});
            let capabilities = json!([
                {"name": "etl", "kind": "action"}, {"name": "deploy"}, {"name": "spawn:claude", "kind": "capacity"},
                {"name": "spawn:codex"}, {"name": "release"},
            ]);
            s.leaves(s.a);
            let (_, answer) = s.provider("default", "i1", capabilities);
            answer["data"]["provider"] == provider && s.actions() == ["etl", "deploy"]
        },
    },
    Rule {
        says: "an action of a node goes to the provider that offers it",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let (py, _) = s.provider("py", "i1", action("etl"));
            let (rb, _) = s.provider("rb", "i1", action("build"));
            s.w.heard(py);
            let (status, _) = s.invokes("/v1/nodes/a/actions/etl/invoke", json!({}));
            status == 201 && s.asked(py) == ["etl"] && s.asked(rb).is_empty()
        },
    },
    Rule {
        says: "a spawn goes to who offers it as an action, and to nobody else of the node while that one is away",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let (policy, _) = s.provider("policy", "i1", action("spawn:x"));
            let input = json!({"cli": "x", "name": "w"});
            let first = s.invokes(SPAWN, input.clone()).0;
            let asked = (s.asked(policy), s.asked(s.a));
            s.leaves(policy);
            let second = s.invokes(SPAWN, input.clone()).0;
            let third = s.invokes("/v1/nodes/a/actions/spawn:x/invoke", input).0;
            [first, second, third] == [201, 503, 503]
                && asked == (vec![json!("spawn:x")], vec![])
                && s.asked(s.a).is_empty()
        },
    },
    Rule {
        says: "a handler's own spawn goes to who can start agents on its node, past the action and to no other node",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let (policy, _) = s.provider("policy", "i1", action("spawn:x"));
            s.w.heard(s.a);
            let frame = json!({"type": "node.spawn", "input": {"cli": "x", "name": "w"}});
            let data = s.asks(policy, frame)["data"].clone();
            s.asked(s.a) == ["spawn:x"]
                && s.asked(s.b).is_empty()
                && data["invocation_id"].is_string()
                && data["handler_node_id"] == "node_a"
        },
    },
    Rule {
        says: "a provider that is away fails its own actions at once and no other's, and the node still shows them",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let (py, _) = s.provider("py", "i1", action("etl"));
            let (rb, _) = s.provider("rb", "i1", action("build"));
            s.leaves(py);
            s.w.heard(rb);
            let node = s.w.ok("GET", "/v1/nodes/a", KEY, json!({}));
            let shown = node["capabilities"].to_string();
            let etl = s.invokes("/v1/nodes/a/actions/etl/invoke", json!({})).0;
            let build = s.invokes("/v1/nodes/a/actions/build/invoke", json!({})).0;
            shown.contains("etl") && (etl, build) == (503, 201) && s.asked(rb) == ["build"]
        },
    },
    Rule {
        says: "an action that may wait waits for its provider",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let waits = json!([{"name": "etl", "kind": "action", "queue": true}]);
            let (py, _) = s.provider("py", "i1", waits);
            s.leaves(py);
            s.invokes("/v1/nodes/a/actions/etl/invoke", json!({})) == (201, json!("pending"))
        },
    },
    Rule {
        says: "an agent's mail goes to the provider that registered it",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let (py, _) = s.provider("py", "i1", action("etl"));
            let made = s.register(py, "worker")["ok"] == true;
            s.w.heard(s.a);
            s.writes("worker");
            made && s.w.seqs(py) == [1] && s.w.seqs(s.a).is_empty()
        },
    },
    Rule {
        says: "a provider that leaves takes its capabilities and actions along, and no other's",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            let (py, _) = s.provider("py", "i1", action("etl"));
            let global = json!([{"name": "build", "kind": "action", "global": true}]);
            s.provider("rb", "i1", global);
            s.w.send(
                py,
                json!({"type": "node.deregister", "provider": {"name": "py", "instance_id": "i1"}}),
            );
            let node = s.w.ok("GET", "/v1/nodes/a", KEY, json!({}));
            !node["capabilities"].to_string().contains("etl") && s.actions() == ["build"]
        },
    },
    Rule {
        says: "a registration replaces all that the provider offered before",
        since: "5.0",
        source: "nodeProviders.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let both =
                json!([{"name": "etl", "kind": "action"}, {"name": "sync", "kind": "action"}]);
            s.registers(s.a, None, both);
            let before = s.actions() == ["etl", "sync"];
            s.registers(s.a, None, action("etl"));
            before && s.actions() == ["etl"]
        },
    },
    Rule {
        says: "a node posts for any agent of its workspace that it names, and an agent for nobody else",
        since: "6.0.1",
        source: "nodeProviders.test.ts at 44024dc",
        ages: FROM_6,
        holds: |s| {
            let (node, lead) = (s.tokens[0].clone(), s.lead.clone());
            let mut posts = |token: &str, body: Value| {
                let (status, answer) =
                    s.w.call("POST", "/v1/channels/general/messages", token, body);
                let code = answer["error"]["code"].as_str().unwrap_or_default();
                (status, code.to_owned())
            };
            posts(&node, json!({"text": "hi", "from": "lead"})).0 == 201
                && posts(&node, json!({"text": "hi"})) == (400, "from_required".into())
                && posts(&node, json!({"text": "hi", "from": "ghost"}))
                    == (404, "agent_not_found".into())
                && posts(&lead, json!({"text": "hi", "from": "ghost"}))
                    == (400, "from_not_allowed".into())
        },
    },
    Rule {
        says: "the workspace key takes a provider away",
        since: "6.0.0",
        source: "nodeProviders.test.ts",
        ages: FROM_6,
        holds: |s| {
            s.provider("py", "i1", action("etl"));
            let status =
                s.w.call("DELETE", "/v1/nodes/a/providers/py", KEY, json!({}))
                    .0;
            let node = s.w.ok("GET", "/v1/nodes/a", KEY, json!({}));
            status == 204 && !node["capabilities"].to_string().contains("etl")
        },
    },
    Rule {
        says: "a node with room for one agent is bound to one, and to the next when that one is unbound",
        since: "5.0",
        source: "nodeDeliveryContracts.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let frame = json!({
                "type": "node.register", "name": "a", "node_id": "node_a", "version": "t", "tags": [],
                "capabilities": [], "max_agents": 1,
            });
            s.asks(s.a, frame);
            s.w.agent("bob");
            s.w.agent("carol");
            let mut binds = |name: &str| {
                let body = json!({"agent_name": name});
                let (status, answer) = s.w.call("POST", "/v1/nodes/a/agents", KEY, body);
                (status, answer["error"]["code"].clone())
            };
            let (bob, carol) = (binds("bob").0, binds("carol"));
            let unbound =
                s.w.call("DELETE", "/v1/nodes/a/agents/bob", KEY, json!({}))
                    .0;
            let body = json!({"agent_name": "carol"});
            let again = s.w.call("POST", "/v1/nodes/a/agents", KEY, body).0;
            (bob, unbound, again) == (201, 204, 201)
                && carol == (409, json!("node_capacity_exceeded"))
        },
    },
    Rule {
        says: "a node that is some agent's own has room for exactly that one",
        since: "5.0",
        source: "nodeDeliveryContracts.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let mut enrols = |most: u64| {
                s.enrols(json!({"name": "own", "role": "direct", "max_agents": most}))
                    .0
            };
            enrols(0) == 400 && enrols(2) == 400 && enrols(1) == 201
        },
    },
    Rule {
        says: "a mint that names a node and nothing else leaves its role, room and capabilities as they were",
        since: "5.0",
        source: "nodeDeliveryContracts.test.ts, node.ts",
        ages: BEFORE_9,
        holds: |s| {
            let direct = json!({"name": "own", "role": "direct", "max_agents": 1});
            let broker = json!({"name": "c", "max_agents": 3, "capabilities": ["spawn:z"]});
            let before = (s.enrols(direct).0, s.enrols(broker).0);
            let (own, c) = (
                s.enrols(json!({"name": "own"})),
                s.enrols(json!({"name": "c"})),
            );
            let more = s.enrols(json!({"name": "c", "max_agents": 4})).1;
            before == (201, 201)
                && own.0 == 201
                && own.1["role"] == "direct"
                && c.1["max_agents"] == 3
                && more["capabilities"].to_string().contains("spawn:z")
        },
    },
    Rule {
        says: "an agent's token opens no stream of the workspace, and trying leaves the agent where it is bound",
        since: "5.0",
        source: "nodeDeliveryContracts.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let (token, id) = s.w.agent("bob");
            s.w.ok(
                "POST",
                "/v1/nodes/a/agents",
                KEY,
                json!({"agent_name": "bob"}),
            );
            let opened = s.w.socket(SocketKind::Stream, &token);
            let bound = s.w.ok("GET", "/v1/nodes/a/agents", KEY, json!({}));
            opened.is_err() && bound[0]["agent_id"] == id.as_str()
        },
    },
    Rule {
        says: "mail is shown as delivered once it was sent to the agent's node, and before that as queued",
        since: "5.0",
        source: "nodeDeliveryContracts.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let (token, _) = s.w.hosted(s.a, "w");
            let shown = |s: &mut Stage| {
                s.writes("w");
                let list = s.w.ok("GET", "/v1/deliveries", &token, json!({}));
                let list = list.as_array().cloned().unwrap_or_default();
                list.last().map(|row| row["status"].clone())
            };
            let there = shown(s);
            s.leaves(s.a);
            (there, shown(s)) == (Some(json!("delivered")), Some(json!("queued")))
        },
    },
    Rule {
        says: "nodes that name their ids are two, also on one machine",
        since: "5.0",
        source: "nodeMachineIdDedupe.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let mut enrols = |id: &str, name: &str| {
                let body =
                    json!({"node_id": id, "name": name, "machine_id": "m", "role": "broker"});
                s.enrols(body).1["id"].clone()
            };
            (enrols("node_c", "c"), enrols("node_d", "d")) == (json!("node_c"), json!("node_d"))
        },
    },
    Rule {
        says: "a mint with nothing but a name means the node of that name",
        since: "5.0",
        source: "nodeMachineIdDedupe.test.ts",
        ages: BEFORE_9,
        holds: |s| {
            let (first, second) = (
                s.enrols(json!({"name": "c"})),
                s.enrols(json!({"name": "c"})),
            );
            second.0 == 201
                && first.1["id"] == second.1["id"]
                && first.1["token"] != second.1["token"]
        },
    },
    Rule {
        says: "a registration that names no machine leaves the one that the mint named",
        since: "5.0",
        source: "nodeMachineIdDedupe.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let body = json!({"node_id": "node_c", "name": "c", "machine_id": "m"});
            let token = s.enrols(body).1["token"].clone();
            s.w.broker(token.as_str().unwrap_or_default(), "node_c", "c", &[]);
            s.w.ok("GET", "/v1/nodes/c", KEY, json!({}))["machine_id"] == "m"
        },
    },
    Rule {
        says: "another provider of its node has a running agent by registering it",
        since: "6.0.0",
        source: "node.ts at 01db911",
        ages: [false, true, false, false],
        holds: |s| {
            let id = s.hosted("w");
            let (py, _) = s.provider("py", "i1", json!([]));
            let taken = s.register(py, "w")["data"]["agent_id"] == id.as_str();
            s.w.heard(s.a);
            s.writes("w");
            let list = s.lists(s.a, json!([{"agent_id": id, "name": "w"}]));
            taken && s.w.seqs(s.a).is_empty() && list["code"] == "agent_provider_conflict"
        },
    },
    Rule {
        says: "an agent that another provider of the node has refuses the list of one that had it",
        since: "6.0.3",
        source: "node.ts at d0ed8bc",
        ages: FROM_6,
        holds: |s| {
            let id = s.hosted("w");
            let (py, _) = s.provider("py", "i1", json!([]));
            s.register(py, "w");
            s.recover(py, "w", &id);
            s.lists(s.a, json!([{"agent_id": id, "name": "w"}]))["code"]
                == "agent_provider_conflict"
        },
    },
];
