//! Who may do what, and what is said to those who may not.

use serde_json::json;

use super::{KEY, World};
use crate::engine::core::EngineCore;
use crate::engine::event::{Event, SocketKind};
use crate::msg::Right;

#[test]
fn taking_a_name_again_keeps_the_identity_and_kills_the_old_token() {
    let mut w = World::new();
    let (one, two) = (w.node("node_1", "a"), w.node("node_2", "b"));
    let a = w.broker(&one, "node_1", "a", &[]);
    let b = w.broker(&two, "node_2", "b", &[]);
    let (first, id) = w.hosted(a, "w1");
    w.send(
        b,
        json!({"type": "agent.register", "id": "x", "name": "w1"}),
    );
    assert!(
        w.heard(b)
            .iter()
            .any(|f| f["code"] == "agent_location_conflict")
    );
    let (_, again) = w.hosted(a, "w1");
    assert_eq!(again, id);
    assert_eq!(
        w.refused("GET", "/v1/agent", &first, json!({})),
        (401, "agent_token_invalid".into())
    );
    w.step(Event::SocketClosed { conn: a });
    let (_, moved) = w.hosted(b, "w1");
    assert_eq!(moved, id);
    let recover = |id: &str| json!({"type": "agent.recover", "id": "r", "name": "w1", "expected_agent_id": id});
    for (conn, expected) in [(b, id.as_str()), (b, "1")] {
        w.send(conn, recover(expected));
        let answer = &w.heard(conn)[0];
        assert_eq!(answer["code"], "agent_recovery_not_authorized", "{answer}");
    }
    let a = w.broker(&one, "node_1", "a", &[]);
    w.heard(a);
    w.send(a, recover(&id));
    assert_eq!(w.heard(a)[0]["data"]["agent_id"], id, "it came from there");
}

#[test]
fn every_call_of_the_node_route_replaces_the_token() {
    let mut w = World::new();
    let old = w.node("node_1", "box");
    let new = w.node("node_1", "box");
    assert_eq!(
        w.socket(SocketKind::Node, &old),
        Err((401, "node_token_invalid".into()))
    );
    assert!(w.socket(SocketKind::Node, &new).is_ok());
    let body = json!({"node_id": "node_2", "name": "box"});
    assert_eq!(
        w.refused("POST", "/v1/nodes", KEY, body),
        (409, "node_name_conflict".into())
    );
    let renamed = w.ok(
        "POST",
        "/v1/nodes",
        KEY,
        json!({"node_id": "node_1", "name": "box-b"}),
    );
    assert_eq!(
        (&renamed["id"], &renamed["name"]),
        (&json!("node_1"), &json!("box-b"))
    );
}

#[test]
fn a_broken_frame_is_answered_and_an_unknown_key_is_not_minded() {
    let mut w = World::new();
    let token = w.node("node_1", "box");
    let conn = w.socket(SocketKind::Node, &token).expect("admitted");
    w.send(
        conn,
        json!({"type": "agent.register", "id": "early", "name": "w"}),
    );
    assert_eq!(w.heard(conn)[0]["id"], "early");
    w.send(
        conn,
        json!({
            "type": "node.register", "name": "box", "node_id": "node_1", "version": "t", "tags": [],
            "capabilities": [], "max_agents": 0, "machine_id": "m", "repo_keys": [], "planet": 9,
            "resume_cursor": null, "provider": {"name": "default", "instance_id": "i"},
        }),
    );
    let reply = &w.heard(conn)[0];
    assert!(reply["id"].is_string());
    assert_eq!(reply["data"]["provider"]["instance_id"], "i");
    assert_eq!(reply["data"]["load"].as_f64(), Some(0.0));
    for (frame, id) in [
        (json!({"type": "agent.register", "id": "a", "name": 5}), "a"),
        (json!({"type": "planet.aligned", "id": "b"}), "b"),
        (
            json!({"type": "action.result", "id": "c", "invocation_id": "i", "output": 1, "error": null}),
            "c",
        ),
    ] {
        w.send(conn, frame);
        let error = &w.heard(conn)[0];
        assert_eq!(error["code"], "invalid_message", "{error}");
        assert_eq!(error["id"], id);
        assert_eq!(error["ok"], false);
    }
    w.step(Event::SocketFrame {
        conn,
        text: "{".into(),
        entropy: [0; 32],
    });
    assert_eq!(w.heard(conn)[0]["code"], "invalid_message");
    w.beat(conn, 3);
    assert!(w.heard(conn).is_empty());
    assert_eq!(
        w.ok("GET", "/v1/nodes/box", KEY, json!({}))["active_agents"],
        3
    );
}

#[test]
fn tokens_open_what_they_are_for_and_nothing_else() {
    let mut w = World::new();
    let (agent, _) = w.agent("lead");
    let node = w.node("node_1", "box");
    let none = json!({});
    for (method, path, token, status, code) in [
        ("GET", "/v1/nothing", KEY, 404, "not_found"),
        ("PUT", "/v1/agents", KEY, 404, "not_found"),
        ("GET", "/v1/agents", "", 401, "unauthorized"),
        ("GET", "/v1/agents", "rk_live_x", 401, "unauthorized"),
        ("GET", "/v1/agents", "at_live_x", 401, "agent_token_invalid"),
        ("GET", "/v1/agents", "nt_live_x", 401, "node_token_invalid"),
        (
            "GET",
            "/v1/agents",
            "ot_live_x",
            401,
            "observer_token_invalid",
        ),
        (
            "GET",
            "/v1/agents",
            node.as_str(),
            401,
            "node_token_forbidden",
        ),
        ("POST", "/v1/agents", agent.as_str(), 401, "unauthorized"),
        ("POST", "/v1/channels", KEY, 401, "unauthorized"),
        (
            "POST",
            "/v1/channels/general/messages",
            KEY,
            403,
            "agent_token_required",
        ),
        ("POST", "/v1/agents", KEY, 400, "invalid_request"),
        ("POST", "/v1/agents/lead/recover", KEY, 404, "not_found"),
        ("GET", "/v1/agents/nobody", KEY, 404, "agent_not_found"),
    ] {
        let refused = w.refused(method, path, token, none.clone());
        assert_eq!(
            refused,
            (status, code.to_owned()),
            "{method} {path} {token}"
        );
    }
    for token in [agent.as_str(), KEY, "nt_live_bogus"] {
        assert_eq!(
            w.socket(SocketKind::Node, token),
            Err((401, "node_token_invalid".into()))
        );
    }
    assert!(w.socket(SocketKind::Stream, &agent).is_err());
    let taken = w.refused("POST", "/v1/agents", KEY, json!({"name": "lead"}));
    assert_eq!(taken, (409, "agent_already_exists".into()));
    let taken = w.refused("POST", "/v1/workspaces", "", json!({"name": "local"}));
    assert_eq!(taken, (409, "workspace_already_exists".into()));
    let (status, _) = w.call("POST", "/v1/workspaces", KEY, json!({"name": "local"}));
    assert_eq!(status, 200);
}

#[test]
fn an_observer_sees_what_its_scopes_say_until_it_is_revoked() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    w.agent("w1");
    let body = json!({"name": "ui", "scopes": ["stream:read", "messages:read"]});
    let made = w.ok("POST", "/v1/observer-tokens", KEY, body);
    let token = made["token"].as_str().expect("a token").to_owned();
    w.ok("GET", "/v1/channels/general/messages", &token, json!({}));
    assert_eq!(
        w.refused("GET", "/v1/agents", &token, json!({})),
        (403, "insufficient_scope".into())
    );
    assert_eq!(
        w.refused("POST", "/v1/channels", &token, json!({"name": "x"})),
        (401, "observer_token_forbidden".into())
    );
    let stream = w.socket(SocketKind::Stream, &token).expect("admitted");
    w.dm(&lead, "w1", "secret");
    w.ok(
        "POST",
        "/v1/channels/general/messages",
        &lead,
        json!({"text": "open"}),
    );
    let events = w.heard(stream);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["message"]["text"], "open");
    w.send(stream, json!({"type": "ping"}));
    assert_eq!(w.heard(stream), [json!({"type": "pong"})]);
    let path = format!(
        "/v1/observer-tokens/{}",
        made["id"].as_str().expect("an id")
    );
    w.ok("DELETE", &path, KEY, json!({}));
    assert_eq!(w.closed.last().map(|c| (c.0, c.1)), Some((stream, 1008)));
}

#[test]
fn agents_of_nodes_do_what_the_broker_of_the_engine_lets_them() {
    let refused = Err((403, "not_permitted".to_owned()));
    for (may, spawns, releases) in [
        (vec![], refused.clone(), refused.clone()),
        (vec![Right::Spawn], Ok(()), refused.clone()),
        (vec![Right::Spawn, Right::Release], Ok(()), Ok(())),
    ] {
        let mut core = EngineCore::new();
        core.let_agents(may);
        let mut w = World::with(core);
        let node = w.node("node_1", "box");
        let conn = w.broker(&node, "node_1", "box", &["spawn:codex", "release"]);
        let (ada, _) = w.hosted(conn, "ada");
        w.hosted(conn, "bob");
        let (script, _) = w.agent("script");
        let eve = json!({"name": "eve", "cli": "codex"});
        let bob = json!({"name": "bob"});
        for (path, body, wanted) in [
            ("/v1/agents/spawn", eve.clone(), &spawns),
            ("/v1/actions/spawn/invoke", json!({"input": eve}), &spawns),
            (
                "/v1/nodes/box/actions/spawn:codex/invoke",
                json!({"input": eve}),
                &spawns,
            ),
            ("/v1/agents/release", bob.clone(), &releases),
            (
                "/v1/actions/release/invoke",
                json!({"input": bob}),
                &releases,
            ),
        ] {
            let (status, answer) = w.call("POST", path, &ada, body.clone());
            let code = answer["error"]["code"].as_str().unwrap_or_default();
            let came = match status {
                201 => Ok(()),
                status => Err((status, code.to_owned())),
            };
            assert_eq!(came, *wanted, "{path}: {answer}");
            // An identity that the key made is its owner's.
            assert_eq!(w.call("POST", path, &script, body).0, 201, "{path}");
        }
    }
}
