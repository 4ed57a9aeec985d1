//! Mail for agents that are on no node: how long it waits, where it can be seen, and who gets it in the end.

use super::*;
use crate::engine::limits::DELIVERY_TTL;

const MINUTE: Duration = Duration::from_secs(60);

/// A node, an agent that lived on it and left, and one that writes to it.
struct Stage {
    w: World,
    node: String,
    lead: String,
    conn: ConnId,
}

impl Stage {
    fn new() -> Self {
        Self::on(World::new())
    }

    fn on(mut w: World) -> Self {
        let (lead, _) = w.agent("lead");
        let node = w.node("node_1", "box");
        let conn = w.broker(&node, "node_1", "box", &[]);
        let (_, id) = w.hosted(conn, "eve");
        w.send(
            conn,
            json!({"type": "agent.deregister", "agent_id": id, "name": "eve"}),
        );
        let mut stage = Self {
            w,
            node,
            lead,
            conn,
        };
        stage.w.heard(conn);
        stage
    }

    fn write(&mut self, text: &str) -> Value {
        let lead = self.lead.clone();
        self.w
            .ok("POST", "/v1/dm", &lead, json!({"to": "eve", "text": text}))
    }

    fn waiting(&mut self) -> Vec<Value> {
        let list = self
            .w
            .ok("GET", "/v1/deliveries/waiting?agent=eve", KEY, json!({}));
        list.as_array().cloned().unwrap_or_default()
    }

    /// Lets time pass as the engine's thread does: it wakes at each deadline.
    fn wait(&mut self, time: Duration) {
        let end = self.w.now.mono + time;
        while let Some(at) = self.w.core.deadline().filter(|at| *at <= end) {
            self.w.beat(self.conn, 0);
            self.w.pass(at.since(self.w.now.mono));
        }
        self.w.pass(end.since(self.w.now.mono));
    }

    /// What was handed over as undelivered since the last look: number and reason.
    fn handed(&mut self) -> Vec<(u64, String)> {
        let mut handed = Vec::new();
        for frame in self.w.heard(self.conn) {
            let why = frame["payload"]["undelivered"].as_str();
            if let (Some(seq), Some(why)) = (frame["seq"].as_u64(), why) {
                handed.push((seq, why.to_owned()));
            }
        }
        // What is not acknowledged comes again every minute.
        handed.dedup();
        handed
    }
}

/// D6: a message that lies here can be seen, and who wrote it is told so.
#[test]
fn mail_for_an_agent_that_is_on_no_node_is_listed_and_its_sender_told_how_long_it_waits() {
    let mut s = Stage::new();
    let hour = DELIVERY_TTL.as_millis() as u64;
    assert_eq!(s.write("hello")["waits"], json!({"left_ms": hour}));
    s.wait(30 * MINUTE);
    let list = s.waiting();
    assert_eq!(list.len(), 1);
    assert_eq!(
        (&list[0]["text"], &list[0]["from"], &list[0]["target"]),
        (&json!("hello"), &json!("lead"), &json!("eve"))
    );
    assert_eq!(list[0]["left_ms"], hour / 2);
    s.w.hosted(s.conn, "eve");
    assert!(s.waiting().is_empty(), "a node has it now");
    assert_eq!(s.write("again")["waits"], Value::Null);
}

/// D6: it does not vanish when its time is over, but is a broker's from then on.
#[test]
fn mail_whose_time_is_over_is_handed_to_the_last_node_and_kept_until_that_has_it() {
    let mut s = Stage::new();
    let stream = s.w.socket(SocketKind::Stream, KEY).expect("admitted");
    s.write("one");
    s.write("two");
    s.wait(DELIVERY_TTL - MINUTE);
    assert!(s.handed().is_empty());
    s.wait(2 * MINUTE);
    let why = "nobody came within 1h to read it".to_owned();
    assert_eq!(s.handed(), [(1, why)], "one at a time");
    assert_eq!(s.waiting().len(), 2, "not before it is acknowledged");
    s.w.heard(stream);
    s.w.ack(s.conn, "eve", 1);
    assert_eq!(s.waiting().len(), 1);
    let told = s.w.heard(stream);
    assert_eq!(
        (&told[0]["type"], &told[0]["kept_by"]),
        (&json!("delivery.failed"), &json!("node_1"))
    );
    // A new link: what was not acknowledged is handed over again.
    s.w.step(Event::SocketClosed { conn: s.conn });
    s.conn = s.w.broker(&s.node, "node_1", "box", &[]);
    s.wait(MINUTE);
    let seqs: Vec<u64> = s.handed().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [2]);
    s.w.ack(s.conn, "eve", 2);
    assert!(s.waiting().is_empty());
    s.w.restart();
    assert!(s.waiting().is_empty());
}

#[test]
fn an_engine_without_any_broker_keeps_what_is_overdue_and_sleeps() {
    let mut w = World::new();
    let (lead, _) = w.agent("lead");
    w.agent("eve");
    w.dm(&lead, "eve", "hello");
    w.pass(DELIVERY_TTL + MINUTE);
    assert_eq!(w.core.deadline(), None);
    let list = w.ok("GET", "/v1/deliveries/waiting", KEY, json!({}));
    assert_eq!(
        (list.as_array().map(Vec::len), &list[0]["left_ms"]),
        (Some(1), &json!(0))
    );
    let node = w.node("node_1", "box");
    let conn = w.broker(&node, "node_1", "box", &[]);
    w.pass(Duration::from_secs(1));
    assert_eq!(w.seqs(conn), [1], "the first broker that comes gets it");
}

#[test]
fn a_wall_clock_that_jumps_ahead_or_back_changes_nothing() {
    for hours in [3_i64, -3, 24 * 3650, -72] {
        let mut s = Stage::new();
        s.write("hello");
        s.wait(30 * MINUTE);
        let wall = s.w.now.wall.0 as i64 + hours * 3_600_000;
        s.w.now.wall = Wall(wall.max(0) as u64);
        s.wait(29 * MINUTE);
        assert!(s.handed().is_empty(), "{hours} hours off");
        s.wait(2 * MINUTE);
        assert_eq!(s.handed().len(), 1, "{hours} hours off");
    }
}

#[test]
fn the_waiting_goes_on_over_a_restart_and_does_not_count_while_no_engine_runs() {
    let mut s = Stage::new();
    s.write("hello");
    s.wait(40 * MINUTE);
    s.w.restart();
    s.w.now.wall = Wall(s.w.now.wall.0 + 86_400_000);
    s.conn = s.w.broker(&s.node, "node_1", "box", &[]);
    s.wait(18 * MINUTE);
    assert!(s.handed().is_empty());
    s.wait(4 * MINUTE);
    assert_eq!(s.handed().len(), 1);
}

#[test]
fn the_time_is_the_one_that_was_asked_for() {
    let mut s = Stage::new();
    s.w.core.keep_mail_for(Some(Duration::from_secs(2)));
    s.write("hello");
    s.wait(Duration::from_millis(1900));
    assert!(s.handed().is_empty());
    s.wait(Duration::from_millis(200));
    assert_eq!(s.handed().len(), 1);
    let mut s = Stage::new();
    s.w.core.keep_mail_for(None);
    assert_eq!(s.write("hello")["waits"], json!({"left_ms": null}));
    s.wait(Duration::from_secs(86_400));
    assert!(s.handed().is_empty());
    assert_eq!(s.waiting()[0]["left_ms"], Value::Null);
}

#[test]
fn mail_that_a_node_has_does_not_age() {
    let mut s = Stage::new();
    s.w.hosted(s.conn, "eve");
    s.write("hello");
    assert_eq!(s.w.seqs(s.conn), [1]);
    s.wait(3 * DELIVERY_TTL);
    assert!(s.handed().is_empty());
    s.w.ack(s.conn, "eve", 1);
    assert!(s.waiting().is_empty());
}

/// N35: nobody is waited for whose release was asked for.
#[test]
fn mail_for_an_agent_that_is_released_while_it_is_away_is_handed_over_at_once() {
    let mut s = Stage::new();
    s.w.hosted(s.conn, "eve");
    s.w.send(
        s.conn,
        json!({"type": "inventory.sync", "id": "i", "agents": []}),
    );
    s.write("hello");
    let lead = s.lead.clone();
    s.w.ok("POST", "/v1/agents/release", &lead, json!({"name": "eve"}));
    let invoked =
        s.w.heard(s.conn)
            .into_iter()
            .find(|f| f["type"] == "action.invoke");
    let id = invoked.expect("the node is asked")["invocation_id"].clone();
    s.w.send(
        s.conn,
        json!({"type": "action.result", "invocation_id": id, "output": {"released": true}}),
    );
    s.wait(Duration::from_secs(1));
    let handed = s.handed();
    assert_eq!(handed.len(), 1);
    assert!(handed[0].1.contains("was released"));
}

/// An agent that is deleted takes its mailbox along, but not in silence.
#[test]
fn the_words_of_mail_for_an_agent_that_is_deleted_go_to_a_broker() {
    let mut s = Stage::new();
    s.write("hello");
    s.w.ok("DELETE", "/v1/agents/eve", KEY, json!({}));
    let news =
        s.w.heard(s.conn)
            .into_iter()
            .find(|f| f["event"] == "delivery.failed");
    let data = news.expect("it is told")["data"].clone();
    assert_eq!(
        (&data["text"], &data["from_name"]),
        (&json!("hello"), &json!("lead"))
    );
}

/// Who never was on a broker's node and only listens to channels gets no dead letters for them.
#[test]
fn channel_mail_that_a_client_without_a_node_does_not_fetch_ends_as_with_other_engines() {
    let mut s = Stage::new();
    s.w.agent("screen");
    let stream = s.w.socket(SocketKind::Stream, KEY).expect("admitted");
    let lead = s.lead.clone();
    s.w.ok(
        "POST",
        "/v1/channels/general/messages",
        &lead,
        json!({"text": "hello"}),
    );
    s.w.heard(stream);
    s.wait(DELIVERY_TTL + MINUTE);
    let failed: Vec<Value> =
        s.w.heard(stream)
            .into_iter()
            .filter(|e| e["type"] == "delivery.failed")
            .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(
        (&failed[0]["target_agent_name"], &failed[0]["reason"]),
        (&json!("screen"), &json!("ttl_expired"))
    );
    assert_eq!(s.handed().len(), 1, "and eve's is handed over");
}

/// Engine-wire 4.6.
#[test]
fn engines_of_other_makes_drop_it_and_tell_the_sender() {
    for (_, age) in UpstreamVersion::ALL {
        let mut s = Stage::on(World::of(age));
        let stream = s.w.socket(SocketKind::Stream, KEY).expect("admitted");
        s.write("hello");
        s.w.heard(stream);
        s.wait(DELIVERY_TTL + MINUTE);
        let failed =
            s.w.heard(stream)
                .into_iter()
                .find(|e| e["type"] == "delivery.failed");
        assert_eq!(
            failed.expect("told")["reason"],
            "ttl_expired",
            "{}",
            age.as_str()
        );
        assert!(s.handed().is_empty());
    }
}
