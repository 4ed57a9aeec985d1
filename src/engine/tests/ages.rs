//! What a client notices of the engine's age. Each test says which ages it is about.

use std::time::Duration;

use serde_json::{Value, json};

use super::{KEY, World};
use crate::engine::behaviour::UpstreamVersion;
use crate::engine::behaviour::UpstreamVersion::{Hosted, V5_0, V6_0, V8_2, V9_0};
use crate::engine::event::{Event, SocketKind};
use crate::engine::http::call::HttpCall;
use crate::engine::live::ConnId;
use crate::ids::Ticket;

const EACH: [UpstreamVersion; 4] = [V5_0, V6_0, V8_2, V9_0];

fn none() -> Value {
    json!({})
}

/// A workspace with the node `box` connected.
fn with_box(age: UpstreamVersion) -> (World, String, ConnId) {
    let mut w = World::of(age);
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &["spawn:x"]);
    (w, token, conn)
}

fn sync(id: &str, name: &str) -> Value {
    json!({"type": "inventory.sync", "id": "s", "agents": [{"agent_id": id, "name": name}]})
}

/// Asks for a node's token and shows a present one.
fn mint(w: &mut World, body: Value, key: Option<&str>, proof: &str) -> (u16, Value) {
    let entropy = w.entropy();
    let ticket = w.tickets;
    let call = HttpCall {
        method: "POST".into(),
        segments: vec!["v1".into(), "nodes".into()],
        bearer: Some(KEY.into()),
        idempotency_key: key.map(String::from),
        body: Some(body),
        ..HttpCall::default()
    };
    w.step(Event::HttpWithProof {
        ticket: Ticket(ticket),
        call,
        proof: proof.into(),
        entropy,
    });
    w.answers.remove(&ticket).expect("answered")
}

#[test]
fn a_key_the_engine_does_not_know_is_refused_without_naming_the_request() {
    let (mut w, _, conn) = with_box(V5_0);
    w.heard(conn);
    for frame in [
        json!({"type": "agent.register", "id": "mine", "name": "w", "planet": 9}),
        json!({"type": "agent.register", "id": "mine"}),
        json!({"type": "agent.recover", "id": "mine", "name": "w", "expected_agent_id": "1"}),
        json!({"type": "node.heartbeat", "id": "mine", "load": null, "active_agents": 0, "handlers_live": true}),
    ] {
        w.send(conn, frame);
        let answers = w.heard(conn);
        assert_eq!(answers[0]["code"], "invalid_message");
        assert!(answers[0]["id"].is_string() && answers[0]["id"] != "mine");
    }
    let (_, id) = w.hosted(conn, "w");
    assert!(!id.is_empty(), "the socket is still good");
}

#[test]
fn the_reply_to_a_registration_tells_the_engines_age() {
    for age in EACH {
        let (mut w, _, conn) = with_box(age);
        let reply = &w.heard(conn)[0]["data"];
        assert_eq!(reply["id"], "node_1");
        let six = age >= V6_0;
        assert_eq!(reply.get("provider").is_some(), six, "{age:?}");
        assert_eq!(reply.get("accepted_capabilities").is_some(), six, "{age:?}");
        let contract = reply.get("registration_contract").is_some();
        assert_eq!(contract, age == V9_0, "{age:?}");
    }
}

#[test]
fn before_6_a_new_socket_closes_the_older_one_at_once_and_later_the_older_keeps_its_place() {
    let (mut w, token, old) = with_box(V5_0);
    let new = w.socket(SocketKind::Node, &token).expect("admitted");
    assert_eq!(w.closed, [(old, 1000, "superseded")]);
    w.step(Event::SocketClosed { conn: old });
    assert_eq!(w.ok("GET", "/v1/nodes/box", KEY, none())["live"], true);
    w.heard(new);

    let (mut w, token, old) = with_box(V6_0);
    let new = w.broker(&token, "node_1", "box", &[]);
    let refused = w.heard(new);
    assert_eq!(refused[0]["code"], "provider_instance_conflict");
    assert_eq!(refused[0]["id"], "reg");
    assert!(w.closed.is_empty());
    w.pass(Duration::from_secs(36));
    let new = w.broker(&token, "node_1", "box", &[]);
    assert_eq!(w.heard(new)[0]["ok"], true);
    assert_eq!(w.closed, [(old, 1000, "superseded")]);
}

#[test]
fn from_6_a_second_provider_leaves_the_first_alone() {
    let (mut w, token, first) = with_box(V6_0);
    let second = w.socket(SocketKind::Node, &token).expect("admitted");
    w.send(
        second,
        json!({
            "type": "node.register", "id": "r", "name": "box", "node_id": "node_1", "version": "t",
            "capabilities": [], "max_agents": 0, "tags": [],
            "provider": {"name": "other", "instance_id": "i"},
        }),
    );
    assert_eq!(w.heard(second)[0]["data"]["provider"]["name"], "other");
    assert!(w.closed.is_empty());
    w.hosted(first, "w1");
}

#[test]
fn before_6_a_node_that_advertises_spawn_gets_every_spawn() {
    for age in [V5_0, V6_0] {
        let mut w = World::of(age);
        let (lead, _) = w.agent("lead");
        let (one, two) = (w.node("node_1", "a"), w.node("node_2", "b"));
        let greedy = w.broker(&one, "node_1", "a", &["spawn"]);
        let right = w.broker(&two, "node_2", "b", &["spawn:x"]);
        let input = json!({"name": "w", "cli": "x", "target_node": "b"});
        w.ok(
            "POST",
            "/v1/actions/spawn/invoke",
            &lead,
            json!({"input": input}),
        );
        let invoked = |frames: Vec<Value>| {
            frames
                .iter()
                .find(|f| f["type"] == "action.invoke")
                .map(|f| f["action"].as_str().unwrap_or("").to_owned())
        };
        let (greedy, right) = (invoked(w.heard(greedy)), invoked(w.heard(right)));
        match age {
            V5_0 => assert_eq!((greedy.as_deref(), right), (Some("spawn"), None)),
            _ => assert_eq!((greedy, right.as_deref()), (None, Some("spawn:x"))),
        }
    }
}

#[test]
fn before_8_registering_one_agent_brings_the_whole_nodes_mail_again() {
    for (age, expected) in [(V5_0, vec![1]), (V6_0, vec![1]), (V8_2, vec![])] {
        let (mut w, _, conn) = with_box(age);
        let (lead, _) = w.agent("lead");
        w.hosted(conn, "w1");
        w.dm(&lead, "w1", "m");
        assert_eq!(w.seqs(conn), [1]);
        w.send(
            conn,
            json!({"type": "agent.register", "id": "ar", "name": "w2"}),
        );
        assert_eq!(w.seqs(conn), expected, "{age:?}");
    }
}

#[test]
fn the_cursor_is_honoured_from_6_on() {
    for age in EACH {
        let mut w = World::of(age);
        let (lead, _) = w.agent("lead");
        let token = w.node("node_1", "box");
        let capability = "relay:delivery-cursor-v1";
        let conn = w.broker(&token, "node_1", "box", &[capability]);
        w.send(
            conn,
            json!({"type": "agent.register", "id": "ar", "name": "w1"}),
        );
        let reply = w
            .heard(conn)
            .into_iter()
            .find(|f| f["id"] == "ar")
            .expect("a reply");
        let cursor = reply["data"].get("delivery_ack_seq").is_some();
        assert_eq!(cursor, age >= V6_0, "{age:?}");
        w.dm(&lead, "w1", "m");
        w.step(Event::SocketClosed { conn });
        let conn = w.broker(&token, "node_1", "box", &[capability]);
        let replayed = w.seqs(conn).len();
        assert_eq!(replayed, usize::from(age < V6_0), "{age:?}");
    }
}

#[test]
fn at_8_2_an_inventory_does_not_bring_mail_again_that_flows_already() {
    for (age, expected) in [(V6_0, vec![1]), (V8_2, vec![]), (V9_0, vec![1])] {
        let (mut w, _, conn) = with_box(age);
        let (lead, _) = w.agent("lead");
        let (_, id) = w.hosted(conn, "w1");
        w.dm(&lead, "w1", "m");
        assert_eq!(w.seqs(conn), [1]);
        w.send(conn, sync(&id, "w1"));
        assert_eq!(w.seqs(conn), expected, "{age:?}");
    }
}

#[test]
fn an_inventory_moves_open_work_that_it_does_not_list() {
    for age in EACH {
        let (mut w, _, conn) = with_box(age);
        let (lead, _) = w.agent("lead");
        let input = json!({"name": "w2", "cli": "x"});
        let made = w.ok(
            "POST",
            "/v1/actions/spawn/invoke",
            &lead,
            json!({"input": input}),
        );
        let (_, id) = w.hosted(conn, "w1");
        w.heard(conn);
        w.send(conn, sync(&id, "w1"));
        let frames = w.heard(conn);
        assert_eq!(frames[0]["data"]["rescheduled_invocations"], 1);
        assert_eq!(frames[1]["type"], "action.invoke");
        assert_eq!(frames[1]["invocation_id"], made["invocation_id"]);
    }
}

/// A hosted variant closes the socket that it had with 4000, and has no code for an agent that runs on another node.
#[test]
fn a_hosted_variant_speaks_in_words_and_with_a_code_of_its_own() {
    let mut w = World::of(Hosted);
    let token = w.node("node_1", "box");
    let same = |conn: ConnId, w: &mut World| {
        let provider = json!({"name": "default", "instance_id": "i1"});
        w.send(
            conn,
            json!({"type": "node.register", "name": "box", "node_id": "node_1", "capabilities": [],
            "max_agents": 0, "tags": [], "version": "v", "provider": provider}),
        );
    };
    let first = w.socket(SocketKind::Node, &token).expect("admitted");
    same(first, &mut w);
    let second = w.socket(SocketKind::Node, &token).expect("admitted");
    same(second, &mut w);
    assert_eq!(w.closed.last(), Some(&(first, 4000, "superseded")));
    let other = w.node("node_2", "b");
    let b = w.broker(&other, "node_2", "b", &[]);
    w.hosted(second, "w1");
    w.send(
        b,
        json!({"type": "agent.register", "id": "x", "name": "w1"}),
    );
    let no = w.heard(b).pop().expect("a no");
    assert_eq!(no["code"], "node_control_failed");
    assert!(
        no["message"]
            .as_str()
            .is_some_and(|m| m.contains("another node")),
        "{no}"
    );
}

#[test]
fn an_action_is_sent_again_after_thirty_seconds() {
    let (mut w, _, conn) = with_box(V6_0);
    let (lead, _) = w.agent("lead");
    let body = json!({"input": {"name": "w", "cli": "x"}});
    w.ok("POST", "/v1/actions/spawn/invoke", &lead, body);
    w.heard(conn);
    w.pass(Duration::from_secs(20));
    w.send(
        conn,
        json!({"type": "node.heartbeat", "load": 0, "active_agents": 0, "handlers_live": true}),
    );
    assert!(w.heard(conn).is_empty());
    w.pass(Duration::from_secs(11));
    assert_eq!(w.heard(conn)[0]["type"], "action.invoke");
}

#[test]
fn before_8_a_node_is_known_by_its_name_and_keeps_its_first_id() {
    for age in EACH {
        let mut w = World::of(age);
        let token = w.node("node_1", "box");
        let (status, other) = mint(
            &mut w,
            json!({"node_id": "node_2", "name": "box"}),
            None,
            &token,
        );
        assert_eq!((status, &other["data"]["id"]), (201, &json!("node_1")));
        let token = other["data"]["token"].as_str().expect("a token").to_owned();
        let conn = w.broker(&token, "node_2", "box", &[]);
        assert_eq!(w.heard(conn)[0]["code"], "node_id_mismatch");
        let (status, renamed) = mint(
            &mut w,
            json!({"node_id": "node_1", "name": "bin"}),
            None,
            &token,
        );
        match age >= V8_2 {
            true => assert_eq!(renamed["data"]["id"], "node_1"),
            false => assert_eq!(
                (status, &renamed["error"]["code"]),
                (500, &json!("internal_error"))
            ),
        }
    }
}

#[test]
fn from_8_a_name_that_another_node_has_is_refused_to_a_known_id() {
    let mut w = World::of(V8_2);
    w.node("node_1", "a");
    w.node("node_2", "b");
    let body = json!({"node_id": "node_2", "name": "a"});
    assert_eq!(
        w.refused("POST", "/v1/nodes", KEY, body),
        (409, "node_name_conflict".into())
    );
}

#[test]
fn a_node_id_of_another_workspace_is_a_failure_of_the_engine() {
    let mut w = World::of(V9_0);
    w.node("node_1", "box");
    let made = w.ok("POST", "/v1/workspaces", "", json!({"name": "other"}));
    let key = made["api_key"].as_str().expect("a key").to_owned();
    let body = json!({"node_id": "node_1", "name": "box"});
    let refused = w.refused("POST", "/v1/nodes", &key, body);
    assert_eq!(refused, (500, "internal_error".into()));
}

#[test]
fn from_8_an_agent_is_registered_once_and_then_recovered() {
    for age in EACH {
        let (mut w, _, conn) = with_box(age);
        let (token, id) = w.hosted(conn, "w1");
        w.send(
            conn,
            json!({"type": "agent.register", "id": "again", "name": "w1"}),
        );
        let again = w.heard(conn).remove(0);
        if age < V8_2 {
            assert_eq!(again["data"]["agent_id"], id, "{age:?}");
            continue;
        }
        assert_eq!(
            (&again["id"], &again["code"]),
            (&json!("again"), &json!("agent_already_exists"))
        );
        w.ok("GET", "/v1/agent", &token, none());
        let recover =
            json!({"type": "agent.recover", "id": "r", "name": "w1", "expected_agent_id": id});
        w.send(conn, recover);
        assert_eq!(w.heard(conn)[0]["data"]["agent_id"], id);
    }
}

#[test]
fn who_may_renew_an_agents_token_depends_on_the_engines_age() {
    for age in EACH {
        let (mut w, node, conn) = with_box(age);
        let (token, id) = w.hosted(conn, "w1");
        let (other, _) = w.agent("other");
        let recover = "/v1/agents/w1/recover";
        let body = |id: &str| json!({"expected_agent_id": id, "reason": "restart", "actor": "test", "node_id": "node_1", "session_ref": "s"});
        if age < V8_2 {
            w.ok("POST", "/v1/agents/w1/rotate-token", KEY, none());
            let absent = (404, "not_found".into());
            assert_eq!(w.refused("POST", recover, KEY, body(&id)), absent);
            assert_eq!(
                w.refused("POST", "/v1/agents/w1/takeover", KEY, body(&id)),
                absent
            );
            continue;
        }
        let rotate = "/v1/agents/w1/rotate-token";
        assert_eq!(w.refused("POST", rotate, KEY, none()).0, 401);
        let denied = (403, "agent_recovery_not_authorized".into());
        assert_eq!(w.refused("POST", rotate, &other, none()), denied);
        assert_eq!(w.refused("POST", recover, &other, body(&id)), denied);
        assert_eq!(w.refused("POST", recover, KEY, body(&id)), denied);
        let by_itself = w.ok("POST", recover, &token, body(&id));
        assert_eq!(by_itself["agent_id"], id);
        assert!(by_itself["token"].as_str() != Some(&token));
        w.ok("POST", recover, &node, body(&id));
        let conflict = (409, "agent_identity_conflict".into());
        assert_eq!(
            w.refused("POST", "/v1/agents/w1/takeover", KEY, body("1")),
            conflict
        );
        let taken = w.ok("POST", "/v1/agents/w1/takeover", KEY, body(&id));
        let fresh = taken["token"].as_str().expect("a token").to_owned();
        w.ok("GET", "/v1/agent", &fresh, none());
    }
}

#[test]
fn from_9_a_nodes_token_is_renewed_only_for_who_shows_it() {
    let (mut w, token, conn) = with_box(V9_0);
    let body = json!({"node_id": "node_1", "name": "box"});
    let refused = (409, "node_token_proof_required".to_owned());
    assert_eq!(w.refused("POST", "/v1/nodes", KEY, body.clone()), refused);
    let (status, wrong) = mint(&mut w, body.clone(), None, "nt_live_wrong");
    assert_eq!((status, &wrong["error"]["code"]), (409, &json!(refused.1)));
    assert!(w.closed.is_empty(), "nothing has changed");
    w.hosted(conn, "w1");
    let (status, renewed) = mint(&mut w, body, None, &token);
    assert_eq!(status, 201);
    let renewed = renewed["data"]["token"].as_str().expect("a token");
    assert!(w.socket(SocketKind::Node, &token).is_err());
    assert!(w.socket(SocketKind::Node, renewed).is_ok());
}

#[test]
fn from_9_a_lost_reply_to_a_mint_is_given_again_for_a_day_and_over_a_restart() {
    let mut w = World::of(V9_0);
    let key = Some("0123456789abcdef0123456789abcdef");
    let body = json!({"node_id": "node_1", "name": "box"});
    let first = w.call_with_key("POST", "/v1/nodes", KEY, key, body.clone());
    assert_eq!(first.0, 201);
    let token = first.1["data"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert!(w.socket(SocketKind::Node, &token).is_ok());
    let again = w.call_with_key("POST", "/v1/nodes", KEY, key, body.clone());
    assert_eq!(
        (again.0, again.1["data"]["token"].as_str()),
        (201, Some(token.as_str()))
    );
    let other = json!({"node_id": "node_1", "name": "bin"});
    let reused = w.call_with_key("POST", "/v1/nodes", KEY, key, other);
    assert_eq!(reused.1["error"]["code"], "idempotency_key_reused");
    let short = w.call_with_key("POST", "/v1/nodes", KEY, Some("short"), body.clone());
    assert_eq!(short.1["error"]["code"], "invalid_idempotency_key");
    w.pass(Duration::from_secs(25 * 3_600));
    let late = w.call_with_key("POST", "/v1/nodes", KEY, key, body.clone());
    assert_eq!(late.1["error"]["code"], "node_token_proof_required");
    w.restart();
    let again = w.call_with_key("POST", "/v1/nodes", KEY, key, body);
    assert_eq!(again.1["data"]["token"].as_str(), Some(token.as_str()));
}

#[test]
fn deregistering_an_agent_is_replied_to_from_9_and_binding_tells_the_cursor() {
    for age in EACH {
        let (mut w, _, conn) = with_box(age);
        let (_, id) = w.hosted(conn, "w1");
        w.send(
            conn,
            json!({"type": "agent.deregister", "id": "d", "agent_id": id}),
        );
        assert_eq!(w.heard(conn).len(), usize::from(age == V9_0), "{age:?}");
        let bound = w.ok(
            "POST",
            "/v1/nodes/box/agents",
            KEY,
            json!({"agent_name": "w1"}),
        );
        let tells = bound.get("delivery_ack_seq").is_some();
        assert_eq!(tells, age == V9_0, "{age:?}");
    }
}

#[test]
fn before_6_a_node_may_not_speak_for_its_agents() {
    for age in [V5_0, V6_0] {
        let (mut w, token, conn) = with_box(age);
        w.hosted(conn, "w1");
        let path = "/v1/channels/general/messages";
        let (status, _) = w.call("POST", path, &token, json!({"text": "hi", "from": "w1"}));
        assert_eq!(status, if age == V5_0 { 401 } else { 201 });
    }
}

/// Who lives on the node, active or not.
fn bound(w: &mut World) -> Vec<String> {
    let rows = w.ok("GET", "/v1/nodes/box/agents", KEY, none());
    let rows = rows.as_array().into_iter().flatten();
    let names = rows.filter_map(|row| row["agent_name"].as_str());
    names.map(str::to_owned).collect()
}

#[test]
fn before_6_2_an_agent_that_signs_off_leaves_its_node_and_later_if_it_asks_for_that() {
    for age in EACH {
        let (mut w, _, conn) = with_box(age);
        let (_, other) = w.hosted(conn, "other");
        let (token, id) = w.hosted(conn, "w1");
        let both = json!({"type": "inventory.sync", "id": "s", "agents": [
            {"agent_id": other, "name": "other"}, {"agent_id": id, "name": "w1"}]});
        w.send(conn, both.clone());
        w.heard(conn);
        w.ok("POST", "/v1/agents/disconnect", &token, none());
        let stays = age >= V8_2;
        assert_eq!(bound(&mut w).contains(&"w1".to_owned()), stays, "{age:?}");
        w.ok(
            "POST",
            "/v1/agents/disconnect",
            &token,
            json!({"deregister": true}),
        );
        assert_eq!(bound(&mut w), ["other"], "{age:?}");
        let news = w.heard(conn).pop().expect("news");
        assert_eq!(
            (&news["type"], &news["topic"]),
            (&json!("context.update"), &json!("presence"))
        );
        assert_eq!(
            news["data"],
            json!({"agent_id": id, "agent_name": "w1", "status": "offline"})
        );
        assert_eq!(news["agent_ids"], json!([other]));
        w.send(conn, both);
        assert_eq!(bound(&mut w), ["other", "w1"], "{age:?}");
    }
}

#[test]
fn from_8_5_the_place_that_a_spawn_keeps_is_its_own() {
    for age in EACH {
        let (mut w, _, conn) = with_box(age);
        let (lead, _) = w.agent("lead");
        w.send(
            conn,
            json!({"type": "node.heartbeat", "load": 0.0, "active_agents": 0, "handlers_live": true, "max_agents": 1}),
        );
        let spawn = |name: &str| json!({"input": {"name": name, "cli": "x"}});
        let path = "/v1/actions/spawn/invoke";
        let kept = w.ok("POST", path, &lead, spawn("kept"));
        w.heard(conn);
        let full = w.refused("POST", path, &lead, spawn("late"));
        assert_eq!(full, (503, "handler_unavailable".into()), "{age:?}");
        w.send(
            conn,
            json!({"type": "agent.register", "id": "a", "name": "local"}),
        );
        let taken = w
            .heard(conn)
            .into_iter()
            .find(|f| f["id"] == "a")
            .expect("answered");
        assert_eq!(taken["ok"], json!(age < V9_0), "{age:?}: {taken}");
        let id = &kept["invocation_id"];
        w.send(
            conn,
            json!({"type": "agent.register", "id": "b", "name": "kept", "invocation_id": id}),
        );
        let last = w
            .heard(conn)
            .into_iter()
            .find(|f| f["id"] == "b")
            .expect("answered");
        assert_eq!(last["ok"], json!(age >= V9_0), "{age:?}: {last}");
    }
}
