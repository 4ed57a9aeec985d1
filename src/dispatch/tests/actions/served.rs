//! Actions that programs of the operator's serve.

use super::*;

#[test]
fn a_configured_action_is_advertised_and_served_once_per_invocation() {
    let mut w = serving(1);
    let advertised = w.sent().iter().any(|up| match up {
        Up::NodeRegister(r) => r
            .capabilities
            .iter()
            .any(|c| c.name == "deploy" && c.kind.as_deref() == Some("action")),
        _ => false,
    });
    assert!(advertised);
    invoke(&mut w, "i1", "deploy", json!({"to": "prod"}));
    invoke(&mut w, "i1", "deploy", json!({"to": "prod"}));
    let started = runs(&mut w);
    assert_eq!(started.len(), 1, "a copy of one that runs is ignored");
    assert_eq!(started[0].1.input, json!({"to": "prod"}));
    assert_eq!(started[0].1.env["RELAY_INVOCATION_ID"], "i1");
    let known = w
        .journal
        .iter()
        .any(|r| matches!(r, Record::Invoked { id } if id.as_str() == "i1"));
    assert!(known, "known before its program runs");
    w.tell(Event::Handled(InvocationId::new("i1"), Ok(json!([1]))));
    let listed = Outcome::Output(json!({"value": [1]}));
    assert_eq!(answers(&w.sent()).first(), Some(&listed));
    invoke(&mut w, "i1", "deploy", json!({}));
    assert_eq!(
        answers(&w.sent()),
        [listed],
        "answered alike, not run again"
    );
    w.tell(Event::Handled(InvocationId::new("i1"), Ok(Value::Null)));
    assert!(answers(&w.sent()).is_empty(), "the first completion counts");
}

#[test]
fn more_invocations_than_places_wait_their_turn_and_too_many_are_refused() {
    let mut w = serving(2);
    for n in 0..=102 {
        invoke(&mut w, &format!("i{n}"), "deploy", json!({}));
    }
    let effects = w.done();
    let started = effects
        .iter()
        .filter(|e| matches!(e, Effect::Handle(..)))
        .count();
    assert_eq!(started, 2);
    let refused = effects.iter().any(|e| {
        matches!(e, Effect::Send(Up::ActionResult(r)) if r.invocation_id.as_str() == "i102"
            && matches!(&r.outcome, Outcome::Error(why) if why.contains("wait here already")))
    });
    assert!(refused);
    w.tell(Event::Handled(
        InvocationId::new("i1"),
        Err("exit code 3: no".into()),
    ));
    let effects = runs(&mut w);
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].0, "i2", "in the order they came");
}

#[test]
fn an_action_nobody_serves_is_answered_so() {
    let mut w = World::new();
    w.link_up();
    w.done();
    invoke(&mut w, "i1", "dance", json!({}));
    assert_eq!(
        answers(&w.sent()),
        [Outcome::Error("handler_unavailable".into())]
    );
}
