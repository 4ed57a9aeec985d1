//! Frames that are too large to be taken in.

use super::*;
use crate::msg::LinkReport;

fn giant(w: &mut World, seq: u64) {
    let frame = json!({"type": "deliver", "delivery_id": format!("del_m{seq}_w1"), "agent_id": "id_w1", "agent": "w1",
        "msg_id": format!("m{seq}"), "seq": seq, "payload": {"type": "message.created", "data": {"from_name": "lead"}}});
    let frame = serde_json::from_value(frame).expect("a whole frame");
    w.tell(Event::Link(LinkReport::TooLarge(frame, 5_000_000)));
}

fn reasons(effects: &[Effect]) -> Vec<String> {
    let events = effects.iter().filter_map(|e| match e {
        Effect::Publish(_, event) => Some(event),
        _ => None,
    });
    events
        .filter_map(|event| match event {
            BrokerEvent::DeadLetterAdded { reason, from, .. } => Some(format!("{from}: {reason}")),
            _ => None,
        })
        .collect()
}

#[test]
fn a_message_that_is_too_large_is_a_dead_letter_of_its_sender_and_what_comes_behind_it_is_typed() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    let first = w.injected().expect("the first");
    w.land("w1", &first.delivery_id);
    w.done();
    giant(&mut w, 2);
    let effects = w.done();
    assert!(reasons(&effects)[0].starts_with("lead: its frame is larger"));
    w.mail("w1", 3);
    let third = w.injected().expect("what is behind it");
    w.land("w1", &third.delivery_id);
    assert_eq!(acks(&w.sent()).last(), Some(&3));
    giant(&mut w, 2);
    assert!(reasons(&w.done()).is_empty(), "sent again it is stale");
}

#[test]
fn one_that_is_too_large_waits_for_its_turn() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    let first = w.injected().expect("the first");
    w.land("w1", &first.delivery_id);
    giant(&mut w, 3);
    assert!(reasons(&w.done()).is_empty(), "number 2 may still come");
    w.mail("w1", 2);
    assert_eq!(reasons(&w.done()).len(), 1);
}

#[test]
fn an_action_whose_input_is_too_large_is_answered_once_and_alike() {
    let mut w = World::new();
    w.link_up();
    w.done();
    let invoke = |w: &mut World| {
        let frame = json!({"type": "action.invoke", "invocation_id": "inv_1", "action": "echo"});
        let frame = serde_json::from_value(frame).expect("a whole frame");
        w.tell(Event::Link(LinkReport::TooLarge(frame, 5_000_000)));
        let sent = w.sent();
        let results = sent.iter().filter_map(|up| match up {
            Up::ActionResult(result) => Some(result.outcome.clone()),
            _ => None,
        });
        results.collect::<Vec<_>>()
    };
    let said = invoke(&mut w);
    assert!(matches!(&said[..], [Outcome::Error(why)] if why.starts_with("input_too_large")));
    assert_eq!(invoke(&mut w), said, "its first answer may have been lost");
}
