//! Actions, spawns and releases.

use std::time::Duration;

use serde_json::json;

use super::{KEY, World};
use crate::engine::event::{Event, SocketKind};
use crate::engine::limits;

#[test]
fn a_node_that_falls_silent_is_not_live_and_its_work_moves() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let (one, two) = (w.node("node_1", "a"), w.node("node_2", "b"));
    let a = w.broker(&one, "node_1", "a", &["spawn:x"]);
    let b = w.broker(&two, "node_2", "b", &["spawn:x"]);
    let invoked = w.ok(
        "POST",
        "/v1/actions/spawn/invoke",
        &lead,
        json!({"input": {"name": "w", "cli": "x"}}),
    );
    assert_eq!(invoked["handler_node_id"], "node_1");
    assert_eq!(invoked["status"], "dispatched");
    w.heard(a);
    w.heard(b);
    w.pass(Duration::from_secs(30));
    w.beat(b, 0);
    w.pass(Duration::from_secs(16));
    assert_eq!(w.ok("GET", "/v1/nodes/a", KEY, json!({}))["live"], false);
    assert_eq!(w.ok("GET", "/v1/nodes/b", KEY, json!({}))["live"], true);
    let frames = w.heard(b);
    assert_eq!(frames[0]["type"], "action.invoke");
    assert_eq!(frames[0]["invocation_id"], invoked["invocation_id"]);
    // Too late from the first, in time from the second.
    let id = invoked["invocation_id"].as_str().expect("an id").to_owned();
    let result = json!({"type": "action.result", "invocation_id": id, "output": {"from": "a"}});
    w.send(a, result);
    let path = format!("/v1/actions/spawn/invocations/{id}");
    assert_eq!(w.ok("GET", &path, KEY, json!({}))["status"], "dispatched");
    w.send(
        b,
        json!({"type": "action.result", "invocation_id": id, "output": 5}),
    );
    let done = w.ok("GET", &path, &lead, json!({}));
    assert_eq!(done["status"], "completed");
    assert_eq!(done["output"], json!({"value": 5}));
    w.beat(a, 0);
    assert_eq!(w.ok("GET", "/v1/nodes/a", KEY, json!({}))["live"], true);
}

#[test]
fn a_spawn_goes_to_its_node_or_waits_for_it() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let spawn = |node: &str| json!({"input": {"name": "w", "cli": "codex", "target_node": node}});
    let path = "/v1/actions/spawn/invoke";
    assert_eq!(
        w.refused("POST", path, &lead, spawn("nope")),
        (404, "node_not_found".into())
    );
    assert_eq!(
        w.refused("POST", path, &lead, spawn("box")),
        (409, "capability_mismatch".into())
    );
    assert_eq!(
        w.refused(
            "POST",
            path,
            &lead,
            json!({"input": {"name": "w", "cli": "codex"}})
        ),
        (503, "handler_unavailable".into())
    );
    assert_eq!(
        w.refused("POST", path, &lead, spawn("self")),
        (409, "placement_self_unavailable".into())
    );
    assert_eq!(
        w.refused("POST", path, KEY, spawn("box")),
        (403, "agent_token_required".into())
    );
    let conn = w.broker(&token, "node_1", "box", &["spawn:codex"]);
    w.step(Event::SocketClosed { conn });
    let invoked = w.ok("POST", path, &lead, spawn("box"));
    assert_eq!(invoked["status"], "pending");
    assert_eq!(invoked["handler_node_id"], "node_1");
    let conn = w.broker(&token, "node_1", "box", &["spawn:codex"]);
    let frames = w.heard(conn);
    let sent = frames
        .iter()
        .find(|f| f["type"] == "action.invoke")
        .expect("the spawn");
    assert_eq!(sent["action"], "spawn:codex");
    assert_eq!(sent["input"]["target_node"], "box");
    assert_eq!(
        sent.as_object()
            .expect("a frame")
            .keys()
            .collect::<Vec<_>>(),
        ["action", "input", "invocation_id", "type", "v"]
    );
}

#[test]
fn an_unanswered_action_is_sent_again_under_the_same_id_and_given_up_in_the_end() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &["echo"]);
    let invoked = w.ok("POST", "/v1/actions/echo/invoke", &lead, json!({}));
    let mut sent = 0;
    for _ in 0..limits::DISPATCHES * 8 {
        w.beat(conn, 0);
        w.pass(Duration::from_secs(20));
        let frames = w.heard(conn);
        let again = frames.iter().filter(|f| f["type"] == "action.invoke");
        for frame in again {
            assert_eq!(frame["invocation_id"], invoked["invocation_id"]);
            sent += 1;
        }
    }
    assert_eq!(sent, limits::DISPATCHES);
    let id = invoked["invocation_id"].as_str().expect("an id");
    let path = format!("/v1/actions/echo/invocations/{id}");
    let over = w.ok("GET", &path, KEY, json!({}));
    assert_eq!(
        (&over["status"], &over["error"]),
        (&json!("failed"), &json!("dispatch_timeout"))
    );
}

#[test]
fn the_result_of_an_action_reaches_its_caller_outside_the_sequence() {
    let mut w = World::new();
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &["spawn:x"]);
    let (caller, _) = w.hosted(conn, "boss");
    let body = json!({"input": {"name": "w2", "cli": "x", "target_node": "self"}});
    let id = w.ok("POST", "/v1/actions/spawn/invoke", &caller, body)["invocation_id"].clone();
    w.heard(conn);
    w.send(
        conn,
        json!({"type": "action.result", "invocation_id": id, "error": "spawn_failed"}),
    );
    let frames = w.heard(conn);
    assert_eq!(frames[0]["seq"], 0);
    assert_eq!(frames[0]["agent"], "boss");
    assert_eq!(frames[0]["payload"]["type"], "action.failed");
    assert_eq!(frames[0]["payload"]["data"]["error"], "spawn_failed");
    assert_eq!(frames[0]["msg_id"], id);
    w.send(
        conn,
        json!({"type": "action.result", "invocation_id": id, "output": {}}),
    );
    assert!(w.heard(conn).is_empty(), "only the first end counts");
}

#[test]
fn releasing_an_agent_sends_it_home_and_frees_its_place() {
    let mut w = World::new();
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &["spawn:x"]);
    let (agent, id) = w.hosted(conn, "w1");
    assert_eq!(
        w.refused("POST", "/v1/agent/node-token", &agent, json!({})),
        (409, "agent_bound_to_node".into())
    );
    let body = json!({"name": "w1", "reason": "done"});
    let data = w.ok("POST", "/v1/agents/release", KEY, body.clone());
    assert_eq!(data["action_name"], "release");
    let inv = data["invocation_id"].clone();
    w.send(
        conn,
        json!({"type": "action.result", "invocation_id": inv, "output": {"released": true}}),
    );
    assert_eq!(
        w.refused("POST", "/v1/agents/release", KEY, body),
        (409, "agent_not_node_bound".into())
    );
    assert_eq!(
        w.ok("GET", "/v1/nodes/box", KEY, json!({}))["active_agents"],
        0
    );
    let direct = w.ok("POST", "/v1/agent/node-token", &agent, json!({}));
    assert_eq!(direct["node_id"], format!("node_direct_{id}"));
}

#[test]
fn reactions_and_read_marks_reach_every_member_outside_the_sequence() {
    let mut w = World::new();
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &[]);
    let (one, _) = w.hosted(conn, "w1");
    let (two, _) = w.hosted(conn, "w2");
    let posted = w.ok(
        "POST",
        "/v1/channels/general/messages",
        &one,
        json!({"text": "hi"}),
    );
    let id = posted["id"].as_str().expect("an id").to_owned();
    w.heard(conn);
    w.ok(
        "POST",
        &format!("/v1/messages/{id}/reactions"),
        &two,
        json!({"emoji": "eyes"}),
    );
    let frames = w.heard(conn);
    let to: Vec<_> = frames.iter().map(|f| (&f["agent"], &f["seq"])).collect();
    assert_eq!(to, [(&json!("w1"), &json!(0)), (&json!("w2"), &json!(0))]);
    assert_eq!(frames[0]["payload"]["data"]["action"], "added");
    w.ok("POST", &format!("/v1/messages/{id}/read"), &two, json!({}));
    assert_eq!(w.heard(conn)[0]["payload"]["type"], "message.read");
    let groups = w.ok(
        "GET",
        &format!("/v1/messages/{id}/reactions"),
        KEY,
        json!({}),
    );
    assert_eq!(
        groups,
        json!([{"emoji": "eyes", "count": 1, "agents": ["w2"]}])
    );
    let readers = w.ok("GET", &format!("/v1/messages/{id}/readers"), KEY, json!({}));
    assert_eq!(readers[0]["agent_name"], "w2");
    w.ok(
        "DELETE",
        &format!("/v1/messages/{id}/reactions/eyes"),
        &two,
        json!({}),
    );
    assert_eq!(w.heard(conn)[0]["payload"]["data"]["action"], "removed");
}

#[test]
fn two_providers_share_a_node_and_each_gets_its_own_work() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let broker = w.broker(&token, "node_1", "box", &["spawn:x"]);
    w.hosted(broker, "w1");
    let side = w.socket(SocketKind::Node, &token).expect("admitted");
    w.send(
        side,
        json!({
            "type": "node.register", "id": "r", "name": "box", "node_id": "node_1", "version": "t",
            "capabilities": [{"name": "deploy", "kind": "action", "global": true}], "max_agents": 0,
            "tags": [], "provider": {"name": "ops", "instance_id": "i1"},
        }),
    );
    assert!(w.closed.is_empty());
    let entry = w.ok("GET", "/v1/nodes?capability=deploy", KEY, json!({}));
    assert_eq!(entry[0]["capabilities"].as_array().map(Vec::len), Some(2));
    w.heard(side);
    w.heard(broker);
    w.ok(
        "POST",
        "/v1/actions/deploy/invoke",
        &lead,
        json!({"input": {"v": 1}}),
    );
    assert_eq!(w.heard(side)[0]["action"], "deploy");
    w.dm(&lead, "w1", "m");
    assert_eq!(w.seqs(broker), [1]);
    w.step(Event::SocketClosed { conn: side });
    assert_eq!(
        w.refused("POST", "/v1/actions/deploy/invoke", &lead, json!({})),
        (503, "handler_unavailable".into())
    );
    assert_eq!(w.ok("GET", "/v1/nodes/box", KEY, json!({}))["live"], true);
}

#[test]
fn an_action_that_an_agent_handles_goes_to_that_agent_and_back() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &[]);
    let (worker, id) = w.hosted(conn, "w1");
    let body = json!({"name": "sum", "description": "adds", "available_to": ["lead"]});
    let (status, _) = w.call("POST", "/v1/actions", &worker, body.clone());
    assert_eq!(status, 201);
    let (status, _) = w.call("POST", "/v1/actions", &worker, body);
    assert_eq!(status, 200);
    assert_eq!(
        w.refused("POST", "/v1/actions/sum/invoke", &worker, json!({})),
        (403, "action_denied".into())
    );
    let started = w.ok(
        "POST",
        "/v1/actions/sum/invoke",
        &lead,
        json!({"input": {"a": 1}}),
    );
    assert_eq!(started["status"], "invoked");
    let frames = w.heard(conn);
    let frame = frames.last().expect("the invoke");
    assert_eq!(
        (&frame["agent_id"], &frame["agent_name"]),
        (&json!(id), &json!("w1"))
    );
    let inv = started["invocation_id"].as_str().expect("an id");
    let path = format!("/v1/actions/sum/invocations/{inv}/complete");
    let done = w.ok(
        "POST",
        &path,
        &worker,
        json!({"output": {"sum": 1}, "duration_ms": 7}),
    );
    assert_eq!(
        (&done["status"], &done["duration_ms"]),
        (&json!("completed"), &json!(7))
    );
}
