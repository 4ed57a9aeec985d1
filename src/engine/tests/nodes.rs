//! Nodes and the agents on them.

use serde_json::json;

use super::{KEY, World};
use crate::engine::event::Event;

#[test]
fn an_inventory_brings_all_unacknowledged_mail_again_over_the_same_connection() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &[]);
    let (_, id) = w.hosted(conn, "w1");
    w.dm(&lead, "w1", "m1");
    w.dm(&lead, "w1", "m2");
    assert_eq!(w.seqs(conn), [1, 2]);
    let sync =
        json!({"type": "inventory.sync", "id": "s", "agents": [{"agent_id": id, "name": "w1"}]});
    w.send(conn, sync.clone());
    let frames = w.heard(conn);
    assert_eq!(frames[0]["id"], "s");
    assert_eq!(frames.len(), 3);
    w.ack(conn, "w1", 2);
    w.send(conn, sync);
    assert_eq!(w.seqs(conn), [0u64; 0]);
}

#[test]
fn an_agent_that_the_inventory_leaves_out_is_offline_and_its_mail_waits() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let conn = w.broker(&token, "node_1", "box", &[]);
    w.hosted(conn, "w1");
    w.send(conn, json!({"type": "inventory.sync", "agents": []}));
    assert_eq!(
        w.ok("GET", "/v1/agents/w1", KEY, json!({}))["status"],
        "offline"
    );
    w.heard(conn);
    w.dm(&lead, "w1", "later");
    assert!(w.heard(conn).is_empty());
    w.send(
        conn,
        json!({"type": "agent.register", "id": "again", "name": "w1"}),
    );
    let frames = w.heard(conn);
    assert_eq!(frames[0]["id"], "again");
    assert_eq!(frames[1]["seq"], 1);
}

#[test]
fn with_the_cursor_negotiated_nothing_flows_before_an_agent_is_named() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let capability = "relay:delivery-cursor-v1";
    let conn = w.broker(&token, "node_1", "box", &[capability]);
    let register = w.heard(conn);
    assert_eq!(
        register[0]["data"]["accepted_capabilities"][0]["accepted"],
        true
    );
    w.hosted(conn, "w1");
    w.dm(&lead, "w1", "m1");
    w.dm(&lead, "w1", "m2");
    w.ack(conn, "w1", 1);
    let conn = w.broker(&token, "node_1", "box", &[capability]);
    assert!(w.seqs(conn).is_empty());
    w.send(
        conn,
        json!({"type": "agent.register", "id": "ar", "name": "w1"}),
    );
    let frames = w.heard(conn);
    assert_eq!(frames[0]["data"]["delivery_ack_seq"], 1);
    assert_eq!(frames[1]["seq"], 2);
}

#[test]
fn a_newer_socket_supersedes_the_older_whose_end_takes_nothing_offline() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    let token = w.node("node_1", "box");
    let old = w.broker(&token, "node_1", "box", &["spawn:x"]);
    w.hosted(old, "w1");
    let new = w.broker(&token, "node_1", "box", &["spawn:x"]);
    assert_eq!(w.closed, [(old, 1000, "superseded")]);
    w.step(Event::SocketClosed { conn: old });
    assert_eq!(w.ok("GET", "/v1/nodes/box", KEY, json!({}))["live"], true);
    w.heard(new);
    w.dm(&lead, "w1", "m");
    assert_eq!(w.seqs(new), [1]);
}
