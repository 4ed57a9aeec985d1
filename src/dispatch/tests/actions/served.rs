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

fn reload(w: &mut World, change: impl FnOnce(&mut ProgramTables)) {
    let config = w.config();
    let mut tables = ProgramTables {
        harnesses: config.harnesses.clone(),
        harness_table: config.harness_table.clone(),
        actions: config.actions.clone(),
        profiles: config.profiles.clone(),
    };
    change(&mut tables);
    w.tell(Event::Reload(Box::new(tables)));
}

#[test]
fn an_action_that_a_reload_takes_away_is_offered_no_more_and_whoever_waits_for_it_is_told() {
    let mut w = serving(1);
    w.done();
    invoke(&mut w, "inv_1", "deploy", json!({}));
    invoke(&mut w, "inv_2", "deploy", json!({}));
    assert_eq!(runs(&mut w).len(), 1);
    reload(&mut w, |tables| tables.actions.clear());
    let sent = w.sent();
    let why = "the action deploy is not served here any more";
    assert_eq!(answers(&sent), [Outcome::Error(why.into())]);
    let offers = sent.iter().find_map(|up| match up {
        Up::NodeRegister(register) => Some(register.capabilities.clone()),
        _ => None,
    });
    let offers = offers.expect("registered again");
    assert!(
        offers.iter().all(|offer| offer.name != "deploy"),
        "{offers:?}"
    );
    // What runs is answered.
    let done = Ok(json!({"done": true}));
    w.tell(Event::Handled(InvocationId::new("inv_1"), done));
    assert_eq!(answers(&w.sent()), [Outcome::Output(json!({"done": true}))]);
}

#[test]
fn a_reload_that_lets_more_run_at_once_starts_them_and_one_that_changes_nothing_says_nothing() {
    let mut w = serving(1);
    w.done();
    for id in ["inv_1", "inv_2", "inv_3"] {
        invoke(&mut w, id, "deploy", json!({}));
    }
    assert_eq!(runs(&mut w).len(), 1);
    reload(&mut w, |_| {});
    assert_eq!(w.done(), []);
    reload(&mut w, |tables| {
        tables
            .actions
            .values_mut()
            .for_each(|action| action.concurrency = 2);
    });
    assert_eq!(runs(&mut w).len(), 1);
}
