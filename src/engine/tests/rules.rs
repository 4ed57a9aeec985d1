//! What engines of each age do, rule by rule, played against the embedded engine as each of them. The rules were read in
//! the conformance tests of the real engine (AgentWorkforce/relaycast, `packages/engine/src/__tests__/conformance/`), in
//! the sources that they test (`packages/engine/src/engine/`), and in its changelog; each rule names its file and the
//! version that brought it. An age has a rule from its version on.
//!
//! Not played, because no client could tell or none should have to: the minute for which a replaced agent token still
//! works (8.0.4), a release that never ends because the agent has spoken (before 8.0.3), capacities reserved by other
//! spawns (8.5.0), canceled spawns of a migration, delivery over HTTP push, and enrolment by machine id (8.3.1), which
//! needs a call that names no node id.

mod nodes;

use serde_json::{Value, json};

use super::{KEY, World};
use crate::engine::behaviour::UpstreamVersion;
use crate::engine::live::ConnId;

/// One rule.
struct Rule {
    says: &'static str,
    /// The version that brought it; `5.0` for what always was so.
    since: &'static str,
    source: &'static str,
    /// Which of the ages have it, oldest first: 5.0.1, 6.0.3, 8.2, 9.0.
    ages: [bool; 4],
    holds: fn(&mut Stage) -> bool,
}

const ALWAYS: [bool; 4] = [true; 4];
const FROM_6: [bool; 4] = [false, true, true, true];
const FROM_8_2_2: [bool; 4] = [false, false, false, true];
const FROM_8_2: [bool; 4] = [false, false, true, true];
const BEFORE_8_2: [bool; 4] = [true, true, false, false];

/// Two connected nodes, `a` and `b`, and an agent `lead` of its own.
struct Stage {
    w: World,
    tokens: [String; 2],
    a: ConnId,
    b: ConnId,
    lead: String,
}

impl Stage {
    fn of(age: UpstreamVersion) -> Self {
        let mut w = World::of(age);
        let tokens = [w.node("node_a", "a"), w.node("node_b", "b")];
        let a = w.broker(&tokens[0], "node_a", "a", &["spawn:x"]);
        let b = w.broker(&tokens[1], "node_b", "b", &["spawn:y"]);
        let (lead, _) = w.agent("lead");
        w.heard(a);
        w.heard(b);
        Self {
            w,
            tokens,
            a,
            b,
            lead,
        }
    }

    /// What the engine answers a frame of `id` "q" with.
    fn asks(&mut self, conn: ConnId, mut frame: Value) -> Value {
        frame["id"] = json!("q");
        self.w.heard(conn);
        self.w.send(conn, frame);
        let heard = self.w.heard(conn);
        let answer = heard.into_iter().find(|f| f["id"] == "q");
        answer.unwrap_or_default()
    }

    fn register(&mut self, conn: ConnId, name: &str) -> Value {
        self.asks(conn, json!({"type": "agent.register", "name": name}))
    }

    fn recover(&mut self, conn: ConnId, name: &str, id: &str) -> Value {
        let frame = json!({"type": "agent.recover", "name": name, "expected_agent_id": id});
        self.asks(conn, frame)
    }

    fn lists(&mut self, conn: ConnId, agents: Value) -> Value {
        self.asks(conn, json!({"type": "inventory.sync", "agents": agents}))
    }

    /// A spawn that node `a` is asked for; its invocation.
    fn spawn(&mut self, name: &str) -> String {
        let body = json!({"input": {"name": name, "cli": "x"}});
        let lead = self.lead.clone();
        let made = self.w.ok("POST", "/v1/actions/spawn/invoke", &lead, body);
        made["invocation_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn invocation(&mut self, id: &str) -> Value {
        let path = format!("/v1/actions/spawn/invocations/{id}");
        self.w.ok("GET", &path, KEY, json!({}))
    }

    /// Has node `a` release an agent, and answers as the node does; `first` is what the node says before its result.
    fn releases(&mut self, name: &str, delete: bool, first: Option<Value>) -> Value {
        let lead = self.lead.clone();
        let body = json!({"name": name, "reason": "t", "delete_agent": delete});
        let made = self.w.ok("POST", "/v1/agents/release", &lead, body);
        let id = made["invocation_id"].as_str().unwrap_or_default();
        if let Some(frame) = first {
            self.w.send(self.a, frame);
        }
        let result =
            json!({"type": "action.result", "invocation_id": id, "output": {"released": true}});
        self.w.send(self.a, result);
        let path = format!("/v1/actions/release/invocations/{id}");
        self.w.ok("GET", &path, KEY, json!({}))
    }

    /// An agent that node `a` made and runs; its id.
    fn hosted(&mut self, name: &str) -> String {
        self.w.hosted(self.a, name).1
    }

    /// Node `a` says that the agent is gone.
    fn ends(&mut self, id: &str) {
        let frame = json!({"type": "agent.deregister", "agent_id": id});
        self.w.send(self.a, frame);
    }

    fn takes_over(&mut self, name: &str, id: &str, node: &str) -> (u16, Value) {
        let body = json!({
            "expected_agent_id": id, "actor": "t", "reason": "t", "session_ref": "s", "node_id": node,
        });
        self.w
            .call("POST", &format!("/v1/agents/{name}/takeover"), KEY, body)
    }

    fn shown(&mut self, name: &str) -> Value {
        self.w
            .ok("GET", &format!("/v1/agents/{name}"), KEY, json!({}))
    }

    fn takes_http_name(&mut self, name: &str) -> u16 {
        let body = json!({"name": name});
        self.w.call("POST", "/v1/agents", KEY, body).0
    }
}

const RULES: &[Rule] = &[
    Rule {
        says: "a release leaves the agent offline, on no node, and its name taken",
        since: "5.0",
        source: "action.ts, releaseAfterNodeDeregister.test.ts",
        ages: ALWAYS,
        holds: |s| {
            s.hosted("w");
            let done = s.releases("w", false, None)["status"] == "completed";
            let bound = s.w.ok("GET", "/v1/nodes/a/agents", KEY, json!({}));
            let shown = s.shown("w");
            done && bound == json!([])
                && shown["status"] == "offline"
                && shown["metadata"]["release"]["reason"] == "t"
                && s.takes_http_name("w") == 409
        },
    },
    Rule {
        says: "only a release with delete_agent frees the name, for somebody with another id",
        since: "5.0",
        source: "action.ts, nodeCompletedRelease.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let (token, id) = s.w.hosted(s.a, "w");
            let done = s.releases("w", true, None)["status"] == "completed";
            let dead = s.w.call("GET", "/v1/agent", &token, json!({})).0 == 401;
            done && dead && s.w.agent("w").1 != id
        },
    },
    Rule {
        says: "a release without a live host is refused, or done at once if it deletes",
        since: "8.0",
        source: "action.ts, agentLifecycle.test.ts",
        ages: FROM_8_2,
        holds: |s| {
            let id = s.hosted("w");
            s.ends(&id);
            let body = json!({"name": "w"});
            let refused = s.w.refused("POST", "/v1/agents/release", KEY, body);
            if refused != (503, "agent_host_unavailable".into()) {
                return false;
            }
            let body = json!({"name": "w", "delete_agent": true});
            let done = s.w.ok("POST", "/v1/agents/release", KEY, body);
            done["status"] == "completed" && s.takes_http_name("w") == 201
        },
    },
    Rule {
        says: "a release is done although the node gave the agent up before its result",
        since: "5.0",
        source: "releaseAfterNodeDeregister.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let id = s.hosted("w");
            let gone = json!({"type": "agent.deregister", "agent_id": id});
            let done = s.releases("w", false, Some(gone));
            done["status"] == "completed" && s.shown("w")["status"] == "offline"
        },
    },
    Rule {
        says: "an agent that its node gave up is offline and keeps its name",
        since: "5.0",
        source: "agentNodeExitEvents.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let id = s.hosted("w");
            s.ends(&id);
            s.shown("w")["status"] == "offline" && s.takes_http_name("w") == 409
        },
    },
    Rule {
        says: "a node has a name that was given up, with the same id and a new token, by registering",
        since: "5.0",
        source: "node.ts",
        ages: BEFORE_8_2,
        holds: |s| {
            let (token, id) = s.w.hosted(s.a, "w");
            s.ends(&id);
            let again = s.register(s.b, "w");
            again["data"]["agent_id"] == id.as_str() && again["data"]["token"] != token.as_str()
        },
    },
    Rule {
        says: "a name is given out once, whatever became of who has it",
        since: "8.2",
        source: "legacyIdentityClaim.test.ts",
        ages: FROM_8_2,
        holds: |s| {
            let id = s.hosted("w");
            s.ends(&id);
            let (a, b) = (s.a, s.b);
            [a, b]
                .iter()
                .all(|conn| s.register(*conn, "w")["code"] == "agent_already_exists")
        },
    },
    Rule {
        says: "the node that an agent comes from has it back, and no other has",
        since: "8.2",
        source: "legacyIdentityClaim.test.ts",
        ages: FROM_8_2,
        holds: |s| {
            let id = s.hosted("w");
            s.ends(&id);
            s.recover(s.b, "w", &id)["code"] == "agent_recovery_not_authorized"
                && s.recover(s.a, "w", "1")["code"] == "agent_recovery_not_authorized"
                && s.recover(s.a, "w", &id)["data"]["agent_id"] == id.as_str()
        },
    },
    Rule {
        says: "a takeover wants to know who, why, for which session and for which node",
        since: "8.2",
        source: "agentIdentityRecovery.test.ts",
        ages: FROM_8_2,
        holds: |s| {
            let id = s.hosted("w");
            let path = "/v1/agents/w/takeover";
            let body = json!({"expected_agent_id": id, "actor": "t", "reason": "t"});
            let (status, data) = s.takes_over("w", &id, "node_b");
            let audit = data["data"]["audit_id"].as_str().unwrap_or_default();
            s.w.call("POST", path, KEY, body).0 == 400 && status == 200 && audit.starts_with("aid_")
        },
    },
    Rule {
        says: "a takeover leaves an agent where it came from: the node it names has no claim by it",
        since: "8.2",
        source: "agentIdentityRecovery.test.ts, node.ts",
        ages: FROM_8_2,
        holds: |s| {
            let id = s.hosted("w");
            s.ends(&id);
            let taken = s.takes_over("w", &id, "node_b").0 == 200;
            taken
                && s.recover(s.b, "w", &id)["code"] == "agent_recovery_not_authorized"
                && s.recover(s.a, "w", &id)["ok"] == true
        },
    },
    Rule {
        says: "an agent that no node had comes from the first that lists it, not from one it was bound to",
        since: "8.2",
        source: "node.ts",
        ages: FROM_8_2,
        holds: |s| {
            let (_, id) = s.w.agent("w");
            let body = json!({"agent_name": "w"});
            s.w.ok("POST", "/v1/nodes/a/agents", KEY, body);
            let bound = s.recover(s.a, "w", &id);
            s.lists(s.a, json!([{"agent_id": id, "name": "w"}]));
            bound["code"] == "agent_recovery_not_authorized"
                && s.recover(s.a, "w", &id)["ok"] == true
        },
    },
    Rule {
        says: "over HTTP only the agent itself and its node recover it, by its id, and each other proof is told the same",
        since: "8.2",
        source: "agentIdentityRecovery.test.ts, routes/agent.ts",
        ages: FROM_8_2,
        holds: |s| {
            let (token, id) = s.w.hosted(s.a, "w");
            let tokens = s.tokens.clone();
            let mut tried = |token: &str, id: &str| {
                let body = json!({"expected_agent_id": id});
                s.w.call("POST", "/v1/agents/w/recover", token, body).0
            };
            tried(&token, "1") == 403
                && tried(&tokens[1], &id) == 403
                && tried(&tokens[0], &id) == 200
        },
    },
    Rule {
        says: "the answer to a list counts: agents, and invocations that are open, done, and moved",
        since: "5.0",
        source: "inventoryPresenceIsolation.test.ts, node.ts",
        ages: ALWAYS,
        holds: |s| {
            let id = s.hosted("w");
            let (done, open) = (s.spawn("w2"), s.spawn("w3"));
            let (_, id2) = s.w.hosted(s.a, "w2");
            let list = json!([
                {"agent_id": id, "name": "w"}, {"agent_id": id2, "name": "w2", "invocation_id": done},
            ]);
            let data = s.lists(s.a, list)["data"].clone();
            let counts = ["rebound", "open", "completed", "rescheduled"];
            let keys = counts.map(|c| match c {
                "rebound" => "rebound_agents".to_owned(),
                c => format!("{c}_invocations"),
            });
            keys.map(|key| data[key].as_u64()) == [2, 2, 1, 1].map(Some)
                && s.invocation(&done)["status"] == "completed"
                && s.invocation(&open)["status"] != "completed"
        },
    },
    Rule {
        says: "a name that nobody has is passed over in a list, yet the spawn it is named for is done",
        since: "5.0",
        source: "node.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let spawn = s.spawn("ghost");
            let list = json!([{"agent_id": "1", "name": "ghost", "invocation_id": spawn}]);
            let listed = s.lists(s.a, list)["ok"] == true;
            listed && s.invocation(&spawn)["output"]["name"] == "ghost"
        },
    },
    Rule {
        says: "an agent that a list leaves out is offline, its mail waits, and flows when it is listed again",
        since: "5.0",
        source: "agentNodeExitEvents.test.ts, node.ts",
        ages: ALWAYS,
        holds: |s| {
            let id = s.hosted("w");
            s.lists(s.a, json!([]));
            let offline = s.shown("w")["status"] == "offline";
            let lead = s.lead.clone();
            s.w.dm(&lead, "w", "hi");
            let waits = s.w.seqs(s.a).is_empty();
            s.w.send(
                s.a,
                json!({"type": "inventory.sync", "agents": [{"agent_id": id, "name": "w"}]}),
            );
            offline && waits && s.w.seqs(s.a) == [1]
        },
    },
    Rule {
        says: "an agent that runs on another live node may not be listed; alone, it fails the list",
        since: "5.0",
        source: "inventoryPresenceIsolation.test.ts, node.test.ts",
        ages: ALWAYS,
        holds: |s| {
            let id = s.hosted("w");
            let list = json!([{"agent_id": id, "name": "w"}, {"agent_id": "1", "name": "ghost"}]);
            s.lists(s.b, list)["code"] == "agent_location_conflict"
        },
    },
    Rule {
        says: "an id that does not go with the name fails the list",
        since: "6.0.3",
        source: "node.ts at 8.2",
        ages: FROM_6,
        holds: |s| {
            s.hosted("w");
            let answer = s.lists(s.a, json!([{"agent_id": "1", "name": "w"}]));
            answer["code"] == "agent_identity_mismatch"
        },
    },
    Rule {
        says: "one bad agent among good ones is counted as rejected, and stays what it was",
        since: "8.2.2",
        source: "inventoryPresenceIsolation.test.ts",
        ages: FROM_8_2_2,
        holds: |s| {
            let (good, _) = (s.hosted("good"), s.hosted("drifted"));
            let list =
                json!([{"agent_id": good, "name": "good"}, {"agent_id": "1", "name": "drifted"}]);
            let data = s.lists(s.a, list)["data"].clone();
            data["rebound_agents"] == 1
                && data["rejected_agents"] == 1
                && s.shown("drifted")["status"] != "offline"
        },
    },
    Rule {
        says: "a list that rejects nobody says so by the number 0",
        since: "8.2.2",
        source: "inventoryPresenceIsolation.test.ts",
        ages: FROM_8_2_2,
        holds: |s| {
            let id = s.hosted("w");
            let data = s.lists(s.a, json!([{"agent_id": id, "name": "w"}]))["data"].clone();
            data["rejected_agents"] == 0
        },
    },
];

#[test]
fn engines_of_every_age_keep_the_rules_of_their_time() {
    let mut wrong = Vec::new();
    for rule in RULES.iter().chain(nodes::RULES) {
        let numbered = UpstreamVersion::ALL
            .into_iter()
            .filter(|(_, age)| *age != UpstreamVersion::Hosted);
        for ((name, age), expected) in numbered.zip(rule.ages) {
            if (rule.holds)(&mut Stage::of(age)) != expected {
                let Rule {
                    says,
                    since,
                    source,
                    ..
                } = rule;
                wrong.push(format!("{name}: {says} (since {since}, {source})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
