//! Faults on order, as clients meet it.

use serde_json::{Value, json};

use super::{KEY, World};
use crate::engine::behaviour::UpstreamVersion;
use crate::engine::event::{Event, SocketKind};
use crate::engine::faults::NO_GOODBYE;

/// A workspace with the node `box` connected, and its token.
fn with_box() -> (World, String, u64) {
    let mut w = World::of(UpstreamVersion::V6_0);
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &[]);
    (w, token, conn)
}

fn order(w: &mut World, orders: Value) -> Value {
    w.ok("POST", "/__behave", "", orders)
}

#[test]
fn an_engine_that_is_no_test_double_takes_no_orders() {
    let mut w = World::new();
    let refused = w.refused("POST", "/__behave", "", json!({"cut": true}));
    assert_eq!(refused, (404, "not_found".into()));
    let (mut w, ..) = with_box();
    let refused = w.refused("POST", "/__behave", "", json!({"cats": true}));
    assert_eq!(refused, (400, "invalid_request".into()));
}

#[test]
fn a_cut_ends_every_node_socket_without_a_goodbye() {
    let (mut w, token, conn) = with_box();
    let stream = w.socket(SocketKind::Stream, KEY).expect("admitted");
    let seen = order(&mut w, json!({"cut": true}));
    assert_eq!(seen["age"], "6.0.3");
    assert_eq!(w.closed, [(conn, NO_GOODBYE, "cut")]);
    assert_eq!(w.ok("GET", "/v1/nodes/box", KEY, json!({}))["live"], false);
    w.step(Event::SocketClosed { conn });
    w.send(stream, json!({"type": "ping"}));
    assert_eq!(w.heard(stream).len(), 1);
    let conn = w.broker(&token, "node_1", "box", &[]);
    assert_eq!(w.heard(conn)[0]["ok"], true);
    let seen = w.ok("GET", "/__behave", "", json!({}));
    assert_eq!(
        (&seen["cuts"], &seen["node_sockets"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn a_cut_after_some_frames_lets_the_last_one_work_and_swallows_its_reply() {
    let (mut w, _, conn) = with_box();
    w.heard(conn);
    order(&mut w, json!({"cut_after": 1}));
    let ask = json!({"type": "agent.register", "id": "a", "name": "w1"});
    w.send(conn, ask);
    assert!(w.heard(conn).is_empty());
    assert_eq!(w.closed.len(), 1);
    w.ok("GET", "/v1/agents/w1", KEY, json!({}));
}

#[test]
fn tries_to_connect_are_refused_as_often_as_ordered() {
    let (mut w, token, _) = with_box();
    for (status, code) in [
        (401, "node_token_invalid"),
        (429, "rate_limit_exceeded"),
        (500, "internal_error"),
    ] {
        order(&mut w, json!({"refuse": status, "times": 2}));
        for _ in 0..2 {
            let refused = w.socket(SocketKind::Node, &token);
            assert_eq!(refused, Err((status, code.into())));
        }
        assert!(w.socket(SocketKind::Node, &token).is_ok());
    }
    assert!(w.socket(SocketKind::Stream, KEY).is_ok());
    let seen = w.ok("GET", "/__behave", "", json!({}));
    assert_eq!(seen["refused"], 6);
}

#[test]
fn forgotten_tokens_open_nothing_and_leave_open_sockets_alone() {
    let (mut w, token, conn) = with_box();
    order(&mut w, json!({"forget": true}));
    let refused = w.socket(SocketKind::Node, &token);
    assert_eq!(refused, Err((401, "node_token_invalid".into())));
    w.hosted(conn, "w1");
    w.restart();
    assert!(w.socket(SocketKind::Node, &token).is_err());
    let token = w.node("node_1", "box");
    assert!(w.socket(SocketKind::Node, &token).is_ok());
}

#[test]
fn a_rotated_token_is_told_to_whoever_rotated_it() {
    let (mut w, token, _) = with_box();
    let told = order(&mut w, json!({"rotate": "box"}));
    let fresh = told["token"].as_str().expect("a token").to_owned();
    assert!(w.socket(SocketKind::Node, &token).is_err());
    assert!(w.socket(SocketKind::Node, &fresh).is_ok());
    let refused = w.refused("POST", "/__behave", "", json!({"rotate": "none"}));
    assert_eq!(refused, (404, "node_not_found".into()));
}

#[test]
fn a_superseded_node_is_told_so() {
    let (mut w, _, conn) = with_box();
    order(&mut w, json!({"supersede": true}));
    assert_eq!(w.closed, [(conn, 1000, "superseded")]);
}

#[test]
fn a_call_that_fails_on_order_is_carried_out_all_the_same() {
    let (mut w, ..) = with_box();
    let (lead, _) = w.agent("lead");
    w.agent("w1");
    order(&mut w, json!({"fail": 1, "fail_path": "/v1/dm"}));
    w.agent("not-this-one");
    let body = json!({"to": "w1", "text": "m"});
    let key = Some("once");
    let failed = w.call_with_key("POST", "/v1/dm", &lead, key, body.clone());
    assert_eq!(
        (failed.0, &failed.1["error"]["code"]),
        (500, &json!("internal_error"))
    );
    let again = w.call_with_key("POST", "/v1/dm", &lead, key, body);
    assert_eq!(again.0, 201);
    let agent = w.ok("GET", "/v1/agents/w1", KEY, json!({}));
    assert_eq!(agent["pending_deliveries"], 1);
}
