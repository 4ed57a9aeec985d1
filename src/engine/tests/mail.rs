//! Mail, talk and what becomes of them.

use serde_json::{Value, json};

use super::{KEY, World};
use crate::engine::event::{Event, SocketKind};
use crate::engine::limits;
use crate::machine::Machine;

#[test]
fn mail_that_came_while_away_arrives_once_and_in_order_after_a_restart_too() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &[]);
    w.hosted(conn, "w1");
    for n in 1..=3 {
        w.dm(&lead, "w1", &format!("m{n}"));
    }
    assert_eq!(w.seqs(conn), [1, 2, 3]);
    w.ack(conn, "w1", 1);
    w.restart();
    w.dm(&lead, "w1", "m4");
    let conn = w.broker(&token, "node_1", "box", &[]);
    assert_eq!(w.seqs(conn), [2, 3, 4]);
    w.dm(&lead, "w1", "m5");
    assert_eq!(w.seqs(conn), [5]);
}

#[test]
fn a_snapshot_stands_for_all_records() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &["spawn:x", "echo"]);
    w.hosted(conn, "w1");
    w.dm(&lead, "w1", "one");
    w.ok(
        "POST",
        "/v1/channels/general/messages",
        &lead,
        json!({"text": "hi @w1"}),
    );
    w.ok(
        "POST",
        "/v1/actions/echo/invoke",
        &lead,
        json!({"input": {"q": 1}}),
    );
    w.ok(
        "POST",
        "/v1/observer-tokens",
        KEY,
        json!({"name": "ui", "scopes": ["stream:read"]}),
    );
    w.records = vec![w.core.snapshot().expect("an engine has state")];
    w.restart();
    let conn = w.broker(&token, "node_1", "box", &["spawn:x", "echo"]);
    assert_eq!(w.seqs(conn), [1, 2]);
}

#[test]
fn a_full_mailbox_costs_the_sender_a_notice_and_the_post_still_succeeds() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    w.agent("w1");
    let stream = w.socket(SocketKind::Stream, KEY).expect("admitted");
    for n in 0..limits::MAILBOX {
        w.dm(&lead, "w1", &n.to_string());
    }
    w.heard(stream);
    let (status, _) = w.call(
        "POST",
        "/v1/dm",
        &lead,
        json!({"to": "w1", "text": "one more"}),
    );
    assert_eq!(status, 201);
    let events = w.heard(stream);
    let failed = events.iter().find(|e| e["type"] == "delivery.failed");
    let failed = failed.expect("the notice");
    assert_eq!(failed["reason"], "depth_cap");
    assert_eq!(failed["delivery_id"], Value::Null);
    assert_eq!(failed["target_agent_name"], "w1");
}

#[test]
fn mailboxes_that_weigh_too_much_together_are_full_and_the_sender_hears_it_also_after_a_restart() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    w.agent("w1");
    let (away, _) = w.agent("w2");
    let text = "x".repeat(limits::TEXT_BYTES);
    let fit = limits::WAITING_BYTES / limits::TEXT_BYTES;
    let stream = w.socket(SocketKind::Stream, KEY).expect("admitted");
    for _ in 0..fit {
        w.dm(&lead, "w1", &text);
    }
    let failed = |events: &[Value]| {
        let failed = events.iter().filter(|e| e["type"] == "delivery.failed");
        failed.count()
    };
    let before = failed(&w.heard(stream));
    w.dm(&lead, "w2", &text);
    assert_eq!(failed(&w.heard(stream)), 1);
    assert!(before <= 1, "the rows themselves weigh a little: {before}");
    w.restart();
    let inbox = w.ok("GET", "/v1/deliveries", &away, json!({}));
    assert_eq!(inbox, json!([]), "left out is left out");
}

#[test]
fn a_connection_gets_so_many_deliveries_and_then_as_many_as_it_has_written() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &[]);
    w.hosted(conn, "w1");
    w.hosted(conn, "w2");
    for n in 0..limits::CREDIT {
        let text = n.to_string();
        w.ok(
            "POST",
            "/v1/channels/general/messages",
            &lead,
            json!({"text": text}),
        );
    }
    let first = w.seqs(conn).len();
    assert_eq!(first, limits::CREDIT as usize);
    let mut all = first;
    for _ in 0..8 {
        w.step(Event::SocketDrained { conn, frames: 128 });
        all += w.seqs(conn).len();
    }
    assert_eq!(all, 2 * limits::CREDIT as usize);
}

#[test]
fn a_repeated_post_is_one_message_even_after_a_restart() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let (peer, _) = w.agent("w1");
    let body = json!({"to": "w1", "text": "once", "mode": "wait"});
    let first = w.call_with_key("POST", "/v1/dm", &lead, Some("k1"), body.clone());
    w.restart();
    let mut again = body.clone();
    again.as_object_mut().expect("an object").remove("mode");
    assert_eq!(
        w.call_with_key("POST", "/v1/dm", &lead, Some("k1"), again),
        first
    );
    let other = json!({"to": "w1", "text": "twice"});
    let (status, answer) = w.call_with_key("POST", "/v1/dm", &lead, Some("k1"), other);
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("idempotency_key_reused"))
    );
    let (status, _) = w.call_with_key("POST", "/v1/dm", &lead, Some("a b"), body);
    assert_eq!(status, 400);
    let rows = w.ok("GET", "/v1/deliveries", &peer, json!({}));
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
}

#[test]
fn group_conversations_reach_everybody_but_the_speaker() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let (one, _) = w.agent("w1");
    w.agent("w2");
    let (other, _) = w.agent("stranger");
    let made = w.ok(
        "POST",
        "/v1/dm/group",
        &lead,
        json!({"participants": ["w1", "w2"]}),
    );
    let id = made["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/dm/{id}/messages");
    let sent = w.ok("POST", &path, &lead, json!({"text": "all"}));
    let message = sent["message"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        w.refused("GET", &path, &other, json!({})),
        (403, "not_a_member".into())
    );
    assert_eq!(
        w.refused("GET", &format!("/v1/messages/{message}"), &other, json!({})),
        (404, "message_not_found".into())
    );
    let rows = w.ok("GET", "/v1/deliveries", &one, json!({}));
    assert_eq!(rows[0]["message"]["text"], "all");
    let all = w.ok("GET", "/v1/dm/conversations/all", KEY, json!({}));
    assert_eq!(all[0]["participants"], json!(["lead", "w1", "w2"]));
    w.ok(
        "POST",
        &format!("/v1/messages/{message}/replies"),
        &one,
        json!({"text": "me"}),
    );
    let thread = w.ok(
        "GET",
        &format!("/v1/messages/{message}/replies"),
        KEY,
        json!({}),
    );
    assert_eq!(thread["replies"][0]["text"], "me");
    let before = w.ok("GET", "/v1/dm/conversations", &one, json!({}));
    assert_eq!(before[0]["unread_count"], 1);
}
