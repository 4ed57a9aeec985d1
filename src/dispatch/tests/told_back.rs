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
