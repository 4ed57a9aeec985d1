//! Who writes a message learns when it is given up.

use super::*;
use crate::wire::local::SendRequest;

fn sent(w: &mut World, from: &str, to: &str, text: &str) {
    let request = SendRequest {
        to: to.into(),
        text: text.into(),
        from: Some(from.into()),
        by_agent: true,
        ..SendRequest::default()
    };
    let answer = w.call(ApiCall::Send(request));
    assert!(matches!(answer, Some(Ok(Reply::Sent(_)))), "{answer:?}");
}

/// An agent that writes, and one whose terminal takes nothing.
fn two() -> World {
    let mut w = World::new();
    w.link_up();
    w.spawn("ada");
    w.spawn("bob");
    w.done();
    w
}

fn release(w: &mut World, name: &str) {
    let call = ApiCall::Release {
        name: AgentName::new(name),
        reason: None,
    };
    w.call(call);
    let run = w.run_of(name);
    w.report(name, run, AgentReport::Exited(How::default()));
}

fn waiting(w: &World, name: &str) -> Vec<String> {
    let name = AgentName::new(name);
    let mail = w.d.ledger().mail().of(&name);
    mail.map(|pending| pending.delivery.body.clone()).collect()
}

#[test]
fn the_writer_of_a_message_that_cannot_be_typed_is_told_in_one_line() {
    let mut w = two();
    sent(&mut w, "ada", "bob", "hello");
    let order = w.injected().expect("it is typed");
    let run = w.run_of("bob");
    w.report(
        "bob",
        run,
        AgentReport::Failed(order.delivery_id, "too long".into()),
    );
    let told = w.injected().expect("a line for ada");
    assert!(told.text.contains("Your message http_"), "{}", told.text);
    assert!(
        told.text.contains("to bob was not delivered: too long."),
        "{}",
        told.text
    );
    assert!(
        !told.text.contains('\n') && !told.text.contains("hello"),
        "{}",
        told.text
    );
}

#[test]
fn one_line_tells_of_all_that_was_given_up_at_once() {
    let mut w = two();
    for text in ["one", "two", "three"] {
        sent(&mut w, "ada", "bob", text);
    }
    release(&mut w, "bob");
    let lines = waiting(&w, "ada");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("and 2 more were not delivered"),
        "{lines:?}"
    );
}

#[test]
fn such_a_line_that_is_given_up_itself_is_told_to_nobody() {
    let mut w = two();
    sent(&mut w, "ada", "bob", "hello");
    release(&mut w, "bob");
    assert_eq!(waiting(&w, "ada").len(), 1);
    release(&mut w, "ada");
    assert_eq!(
        (w.d.ledger().mail().len(), w.d.ledger().dead().len()),
        (0, 2)
    );
}

#[test]
fn people_and_agents_that_are_gone_are_told_nothing() {
    let mut w = two();
    sent(&mut w, "ann", "bob", "hello");
    release(&mut w, "bob");
    assert!(w.d.ledger().mail().is_empty());
    let mut w = two();
    sent(&mut w, "ada", "bob", "hello");
    release(&mut w, "ada");
    release(&mut w, "bob");
    assert!(w.d.ledger().mail().is_empty());
}

#[test]
fn being_told_is_no_persons_word_and_lets_no_loop_go() {
    let mut w = two();
    w.spawn("eve");
    w.config().limits.talk.pair = 1;
    for _ in 0..2 {
        sent(&mut w, "bob", "ada", "thanks");
    }
    sent(&mut w, "ada", "eve", "hello");
    release(&mut w, "eve");
    let lines = waiting(&w, "ada");
    assert!(
        lines.iter().any(|line| line.contains("was not delivered")),
        "{lines:?}"
    );
    assert_eq!(w.d.ledger().mail().suspended(&AgentName::new("ada")), 1);
}

fn engine_failed(w: &mut World, extra: Value) {
    let mut data = json!({"delivery_id":null,"message_id":"m1","target_agent_id":"9","target_agent_name":"far",
        "reason":"depth_cap","error":"mailbox depth cap exceeded","retryable":false});
    for (key, value) in extra.as_object().into_iter().flatten() {
        data[key] = value.clone();
    }
    w.frame(
        json!({"type":"context.update","topic":"agent","event":"delivery.failed","channel_id":null,
        "agent_ids":["id_ada"],"data":data}),
    );
}

#[test]
fn who_wrote_what_the_engine_gives_up_is_told_once_and_the_letter_bears_the_name() {
    let mut w = two();
    engine_failed(&mut w, json!({}));
    engine_failed(&mut w, json!({}));
    let lines = waiting(&w, "ada");
    let expected = "Your message m1 to far was not delivered: the engine gave it up: mailbox depth cap exceeded. Nothing is \
                    sent again by itself.";
    assert_eq!(lines, [expected]);
    let from: Vec<_> =
        w.d.ledger()
            .dead()
            .iter()
            .map(|dead| dead.pending.delivery.from.clone())
            .collect();
    assert_eq!(from, ["ada"]);
}

#[test]
fn what_another_node_keeps_is_told_to_its_writer_here_and_is_no_letter_here() {
    let mut w = two();
    engine_failed(
        &mut w,
        json!({"kept_by": "node_far", "reason": "ttl_expired", "error": "delivery TTL expired"}),
    );
    assert_eq!(waiting(&w, "ada").len(), 1);
    assert!(w.d.ledger().dead().is_empty());
    let own = w.config().node_name.clone();
    engine_failed(&mut w, json!({"kept_by": own}));
    engine_failed(
        &mut w,
        json!({"kept_by": "node_far", "message_id": "told_7"}),
    );
    assert_eq!(
        waiting(&w, "ada").len(),
        1,
        "the one that keeps it tells, and of such a line nobody"
    );
}
