//! Numbers, cursors and kinds of frames: what is typed, what is only acknowledged, and when.

use super::*;

/// Which numbers were acknowledged since the last look.
fn acked(w: &mut World) -> Vec<u64> {
    acks(&w.sent())
}

fn ready(name: &str) -> World {
    let mut w = World::new();
    w.link_up();
    w.spawn(name);
    w.done();
    w
}

#[test]
fn the_first_frame_of_an_agent_is_the_base_whatever_its_number() {
    let mut w = ready("w1");
    w.mail("w1", 41);
    let first = w.injected().expect("typed at once");
    w.land("w1", &first.delivery_id);
    assert_eq!(acked(&mut w), [41]);
    w.mail("w1", 42);
    assert!(w.injected().is_some(), "and the next one follows it");
}

/// N24: acknowledgements are cumulative and grow.
#[test]
fn the_acknowledgement_is_the_longest_settled_prefix_and_never_beyond() {
    let mut w = ready("w1");
    (1..=3).for_each(|n| w.mail("w1", n));
    let first = w.injected().expect("the first");
    assert!(acked(&mut w).is_empty(), "nothing has arrived yet");
    w.land("w1", &first.delivery_id);
    assert_eq!(acked(&mut w), [1], "2 and 3 wait");
    // The one behind ends first: it cannot be typed.
    let second = DeliveryId::new("del_m2_w1");
    let run = w.run_of("w1");
    w.typed_mail("w1", 4, "message.read", "m9");
    assert_eq!(acked(&mut w), [1], "4 is done with and 2 and 3 are not");
    w.report("w1", run, AgentReport::Landed(second, Proof::Echo, None));
    assert_eq!(acked(&mut w), [2]);
    w.land("w1", &DeliveryId::new("del_m3_w1"));
    assert_eq!(acked(&mut w), [4], "and then all of it");
}

/// N26: a message that is numbered anew is the same message.
#[test]
fn a_message_that_comes_again_under_another_number_is_never_typed_twice() {
    let mut w = ready("w1");
    w.typed_mail("w1", 1, "dm.received", "m7");
    let only = w.injected().expect("typed");
    w.typed_mail("w1", 2, "dm.received", "m7");
    assert_eq!(acked(&mut w), [0], "the copy says nothing for its original");
    w.land("w1", &only.delivery_id);
    assert_eq!(acked(&mut w), [2]);
    assert!(w.d.ledger().mail().is_empty(), "no copy waits");
    let mut w = World::after(w.journal);
    w.link_up();
    w.spawn("w1");
    w.done();
    w.typed_mail("w1", 3, "dm.received", "m7");
    assert!(w.injected().is_none(), "nor after a restart");
}

/// All names of a message, and none at all.
const MESSAGES: [&str; 23] = [
    "message.created",
    "message.received",
    "message.new",
    "message.sent",
    "message.delivered",
    "dm.received",
    "dm.created",
    "dm.new",
    "dm.sent",
    "dm.message.created",
    "direct_message.received",
    "direct_message.created",
    "direct_message.new",
    "direct_message.sent",
    "thread.reply",
    "thread.message.created",
    "thread.message.sent",
    "group_dm.received",
    "group_dm.created",
    "group_dm.new",
    "group_dm.sent",
    "group_dm.message.created",
    "",
];

/// N19: all 22 names of a message, and none at all.
#[test]
fn every_name_for_a_message_is_typed() {
    let mut w = ready("w1");
    for (n, word) in (1..).zip(MESSAGES) {
        w.typed_mail("w1", n, word, &format!("m{n}"));
        let one = w.injected().unwrap_or_else(|| panic!("{word:?} is typed"));
        assert!(
            one.text.ends_with(&format!("text {n}")),
            "{word}: {}",
            one.text
        );
        w.land("w1", &one.delivery_id);
        assert_eq!(acked(&mut w), [n], "{word}");
    }
}

/// N19: enveloped in `data`, nested, or flat, with a type or without, and each once.
#[test]
fn a_message_is_the_same_in_every_shape_of_its_payload() {
    let shapes = [
        json!({"data": {"agent_name": "lead", "text": "hello"}}),
        json!({"data": {"from_name": "lead", "body": "hello"}}),
        json!({"data": {"message": {"agent_name": "lead", "text": "hello"}}}),
        json!({"message": {"agent_name": "lead", "text": "hello"}}),
        json!({"payload": {"from": "lead", "text": "hello"}}),
        json!({"from": "lead", "text": "hello"}),
        json!({"sender": "lead", "content": "hello"}),
    ];
    let mut w = ready("w1");
    let cases = MESSAGES
        .iter()
        .flat_map(|word| shapes.iter().map(move |shape| (word, shape)));
    for (n, (word, shape)) in (1u64..).zip(cases) {
        let mut payload = shape.clone();
        if !word.is_empty() {
            payload["type"] = json!(word);
        }
        let frame = json!({"type":"deliver","delivery_id":format!("d{n}"),"agent_id":"id_w1","agent":"w1",
            "msg_id":format!("m{n}"),"seq":n,"mode":"wait","payload":payload});
        w.frame(frame.clone());
        let one = w
            .injected()
            .unwrap_or_else(|| panic!("not typed: {payload}"));
        let line = format!("Relay message from lead [ws / m{n}]: hello");
        assert_eq!(one.text, line, "{payload}");
        w.land("w1", &one.delivery_id);
        w.frame(frame);
        assert!(w.injected().is_none(), "twice: {payload}");
    }
}

fn result(delivery: &str, msg: &str, kind: &str, data: &Value) -> Value {
    json!({"type":"deliver","delivery_id":delivery,"agent_id":"id_w1","agent":"w1","msg_id":msg,"seq":0,
        "mode":"wait","payload":{"type":kind,"data":data}})
}

/// N20, N25: results are shown in readable words, each once, outside the sequence.
#[test]
fn the_result_of_an_action_is_shown_as_what_came_out_of_it_once_and_moves_no_cursor() {
    let mut w = ready("w1");
    w.mail("w1", 5);
    let mail = w.injected().expect("typed");
    w.land("w1", &mail.delivery_id);
    w.done();
    let cases = [
        (
            "action.completed",
            json!({"invocation_id":"inv_1","output":{"v":1},"error":null}),
            r#"{"v":1}"#,
        ),
        (
            "action.failed",
            json!({"invocation_id":"inv_2","output":null,"error":"boom"}),
            "boom",
        ),
    ];
    for (n, (kind, data, shown)) in (1..).zip(cases) {
        let msg = format!("inv_{n}");
        w.frame(result(&format!("evt_{kind}"), &msg, kind, &data));
        let one = w.injected().expect("shown");
        assert!(one.text.ends_with(shown), "{}", one.text);
        assert!(!one.text.contains("invocation_id"), "no envelope");
        w.land("w1", &one.delivery_id);
        assert_eq!(acked(&mut w), [5], "the cursor stays where it is");
        w.frame(result(&format!("evt_{kind}_again"), &msg, kind, &data));
        assert!(w.injected().is_none(), "not under another delivery id");
    }
}

/// N20: whatever JSON an action gives, its caller reads words, and by the id of the invocation of which call they are.
#[test]
fn the_result_of_an_action_is_readable_whatever_kind_of_json_it_is() {
    let (done, failed, denied) = ("action.completed", "action.failed", "action.denied");
    let cases = [
        (done, json!("high at six"), json!(null), "high at six"),
        (done, json!(3.5), json!(null), "3.5"),
        (done, json!(0), json!(null), "0"),
        (done, json!(false), json!(null), "false"),
        (done, json!([1, "two"]), json!(null), r#"[1,"two"]"#),
        (done, json!([]), json!(null), "[]"),
        (
            done,
            json!({"high_m": 3.5}),
            json!(null),
            r#"{"high_m":3.5}"#,
        ),
        (
            done,
            json!(null),
            json!(null),
            "tide-table completed without a result",
        ),
        (
            done,
            json!(""),
            json!(null),
            "tide-table completed without a result",
        ),
        (failed, json!(null), json!("it is frozen"), "it is frozen"),
        (failed, json!(null), json!({"code": 7}), r#"{"code":7}"#),
        (
            failed,
            json!(null),
            json!(null),
            "tide-table failed without a reason",
        ),
        (
            denied,
            json!(null),
            json!("only the master may"),
            "only the master may",
        ),
        (
            denied,
            json!(null),
            json!(null),
            "tide-table denied without a reason",
        ),
    ];
    let mut w = ready("w1");
    for (n, (kind, output, error, shown)) in (1..).zip(cases) {
        let id = format!("inv_{n}");
        let data = json!({"invocation_id": id, "action_name": "tide-table", "output": output, "error": error});
        w.frame(result(&format!("evt_{n}"), &id, kind, &data));
        let one = w.injected().unwrap_or_else(|| panic!("not shown: {data}"));
        let end = format!(" [ws / {id}]: {shown}");
        assert!(one.text.ends_with(&end), "{} for {data}", one.text);
        w.land("w1", &one.delivery_id);
    }
}

/// N25: a message outside the sequence is known by its own id, whatever delivery brings it, also over a restart.
#[test]
fn a_message_outside_the_sequence_is_typed_once_whatever_its_delivery_is_called() {
    let mut w = ready("w1");
    let words = json!({"agent_name":"lead","text":"hello"});
    w.frame(result("d1", "m1", "dm.received", &words));
    let one = w.injected().expect("shown");
    w.frame(result("d2", "m1", "dm.received", &words));
    assert_eq!(w.d.ledger().mail().len(), 1, "while it waits");
    w.land("w1", &one.delivery_id);
    w.frame(result("d3", "m1", "dm.received", &words));
    assert!(w.injected().is_none(), "when it was read");
    let mut w = World::after(w.journal);
    w.link_up();
    w.spawn("w1");
    w.done();
    w.frame(result("d4", "m1", "dm.received", &words));
    assert!(w.injected().is_none(), "after a restart");
}

/// N25: the memory of ids holds 512, and the first in is the first out.
#[test]
fn the_memory_of_messages_outside_the_sequence_is_bounded() {
    let mut w = ready("w1");
    let words = json!({"agent_name":"lead","text":"hello"});
    let say = |w: &mut World, n: u64, copy: u64| {
        w.frame(result(
            &format!("d{n}_{copy}"),
            &format!("m{n}"),
            "dm.received",
            &words,
        ));
        let one = w.injected();
        if let Some(one) = &one {
            w.land("w1", &one.delivery_id);
            w.done();
        }
        one.is_some()
    };
    assert!((0..513).all(|n| say(&mut w, n, 0)));
    assert!(!say(&mut w, 1, 1), "the last 512 are known");
    assert!(say(&mut w, 0, 1), "the one before them no longer");
}

/// N20: an action that is refused twice says so twice; the engine gives both refusals the same ids.
#[test]
fn every_refusal_of_an_action_is_shown_also_while_another_waits() {
    let mut w = ready("w1");
    let data = json!({"action_name":"echo","caller_name":"w1","error":"not allowed"});
    for _ in 0..3 {
        w.frame(result(
            "evt_action.denied_echo_id_w1",
            "echo",
            "action.denied",
            &data,
        ));
    }
    for _ in 0..3 {
        let one = w.injected().expect("each of them");
        assert!(one.text.ends_with("not allowed"), "{}", one.text);
        w.land("w1", &one.delivery_id);
    }
    assert!(w.injected().is_none());
}

/// N21: reads, reactions and unknown types are acknowledged and not typed.
#[test]
fn receipts_and_types_of_tomorrow_are_acknowledged_and_never_typed_nor_sent_for_ever() {
    let mut w = ready("w1");
    for (n, word) in (1..).zip(["message.reacted", "message.read", "planet.aligned"]) {
        w.typed_mail("w1", n, word, &format!("m{n}"));
        let sent = w.done();
        assert!(
            !sent.iter().any(|e| matches!(e, Effect::Agent(..))),
            "{word}"
        );
        w.typed_mail("w1", n, word, &format!("m{n}"));
        assert_eq!(
            acked(&mut w),
            [n],
            "{word}: and so again when it comes again"
        );
    }
    assert!(w.d.ledger().mail().is_empty() && w.d.ledger().dead().is_empty());
}

/// N27: mail for a released agent is acknowledged, and a dead letter.
#[test]
fn mail_for_an_agent_that_was_released_is_acknowledged_and_a_dead_letter_that_says_so() {
    let mut w = ready("w1");
    let run = w.run_of("w1");
    w.mail("w1", 1);
    let first = w.injected().expect("typed");
    w.land("w1", &first.delivery_id);
    w.call(ApiCall::Release {
        name: AgentName::new("w1"),
        reason: None,
    });
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    w.mail("w1", 2);
    let effects = w.done();
    let said = effects.iter().any(|e| {
        matches!(e, Effect::Publish(_, BrokerEvent::DeadLetterAdded { reason, .. }) if reason.contains("released"))
    });
    assert!(said, "{effects:?}");
    assert_eq!(w.d.ledger().dead().len(), 1);
    w.mail("w1", 2);
    assert_eq!(acked(&mut w), [2]);
}

#[test]
fn an_engine_that_sends_much_out_of_order_cannot_make_us_hold_more_than_we_can() {
    let mut w = ready("w1");
    w.config().limits.bytes = usize::MAX;
    w.config().limits.total_bytes = usize::MAX;
    w.mail("w1", 1);
    let words = "x".repeat(3 << 20);
    for seq in 3..20 {
        w.frame(json!({"type":"deliver","delivery_id":format!("d{seq}"),"agent_id":"id_w1","agent":"w1",
            "msg_id":format!("m{seq}"),"seq":seq,"payload":{"type":"message.created","data":{"text":words}}}));
    }
    let held: usize = w.d.mail.held_in_gaps();
    assert!((1 << 20..=32 << 20).contains(&held), "{held}");
    w.done();
    w.mail("w1", 2);
    let taken = w.d.ledger().received(&AgentId::new("id_w1"));
    assert!(
        taken > Seq(9) && taken < Seq(19),
        "as far as was held: {taken}"
    );
    let asks = w.sent().iter().any(|up| matches!(up, Up::InventorySync(_)));
    assert!(asks, "the rest is asked for");
    assert!(!w.d.mail.has_gaps());
}

#[test]
fn the_highest_number_there_is_does_not_upset_the_sequence() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", u64::MAX);
    w.mail("w1", u64::MAX);
    w.mail("w1", 1);
    assert_eq!(w.d.ledger().mail().len(), 2, "counted anew");
    w.mail("w1", 2);
    assert_eq!(w.d.ledger().mail().len(), 3);
}
