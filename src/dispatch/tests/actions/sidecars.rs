//! Actions that connected programs serve.

use super::*;

fn last_registered(sent: &[Up]) -> (Vec<(String, String)>, u64, Vec<String>) {
    let last = sent.iter().rev().find_map(|up| match up {
        Up::NodeRegister(r) => Some(r),
        _ => None,
    });
    let last = last.expect("it registered again");
    let kinds = last.capabilities.iter().map(|c| {
        let kind = c.kind.clone().unwrap_or_default();
        (c.name.clone(), kind)
    });
    (kinds.collect(), last.max_agents, last.tags.clone())
}

/// N33: a capability is withdrawn with the program that serves it.
#[test]
fn what_a_connected_program_serves_is_offered_while_it_is_connected_and_no_longer() {
    let mut w = World::new();
    w.link_up();
    w.done();
    connected(&mut w, &["echo", "spawn:special", "spawn"], false);
    let sent = w.sent();
    let (offered, max_agents, tags) = last_registered(&sent);
    let pairs = [
        ("echo", "action"),
        ("spawn:claude", "capacity"),
        ("spawn:special", "capacity"),
    ];
    assert_eq!(
        offered,
        pairs.map(|(a, b)| (a.to_owned(), b.to_owned())),
        "never a bare spawn"
    );
    assert_eq!((max_agents, tags), (7, vec!["gpu".to_owned()]));
    assert!(
        sent.iter().any(|up| matches!(up, Up::NodeHeartbeat(_))),
        "at once"
    );
    sidecar(&mut w, SidecarCall::Gone);
    let (offered, ..) = last_registered(&w.sent());
    assert_eq!(
        offered,
        [("spawn:claude".to_owned(), "capacity".to_owned())]
    );
}

/// H2: one denominator in registration, heartbeat and load: the operator's limit, else that of a connected program.
#[test]
fn load_is_measured_by_the_limit_of_a_connected_program_unless_the_operator_set_one() {
    for (operators, limit, load) in [(0, 7, 1.0 / 7.0), (4, 4, 0.25)] {
        let mut w = World::new();
        w.config().max_agents = operators;
        w.link_up();
        w.spawn("w1");
        connected(&mut w, &["echo"], false);
        let figures = |w: &mut World| {
            let sent = w.sent();
            let beats = sent.iter().rev().find_map(|up| match up {
                Up::NodeHeartbeat(beat) => Some((beat.max_agents, beat.load)),
                _ => None,
            });
            (last_registered(&sent).1, beats.expect("at once"))
        };
        assert_eq!(figures(&mut w), (limit, (Some(limit), Some(load))));
        sidecar(&mut w, SidecarCall::Gone);
        let load = if operators == 0 { 0.0 } else { load };
        assert_eq!(figures(&mut w), (operators, (Some(operators), Some(load))));
    }
}

/// N33: a sidecar's handler wins over the built-in one.
#[test]
fn a_connected_program_is_invoked_before_anybody_else_and_its_result_is_the_answer() {
    let mut w = serving(1);
    connected(&mut w, &["deploy", "spawn:claude"], false);
    w.done();
    invoke(&mut w, "i1", "spawn:claude", json!({"name": "w1"}));
    invoke(&mut w, "i2", "deploy", json!({"to": "prod"}));
    let pushed: Vec<_> = w
        .done()
        .into_iter()
        .filter_map(|e| match e {
            Effect::Sidecar(
                S,
                SidecarPush::Invoke {
                    invocation_id,
                    name,
                    ..
                },
            ) => Some((invocation_id.to_string(), name)),
            _ => None,
        })
        .collect();
    let pairs = [("i1", "spawn:claude"), ("i2", "deploy")];
    assert_eq!(pushed, pairs.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let result = SidecarCall::Result(InvocationId::new("i2"), Outcome::Output(json!("done")));
    assert!(matches!(sidecar(&mut w, result.clone()), Some(Ok(_))));
    let said = Outcome::Output(json!({"value": "done"}));
    assert_eq!(answers(&w.sent()).first(), Some(&said));
    let again = sidecar(&mut w, result);
    assert!(matches!(again, Some(Err(r)) if r.kind == RefusalKind::UnknownInvocation));
    w.done();
    invoke(&mut w, "i2", "deploy", json!({"to": "prod"}));
    assert_eq!(answers(&w.sent()), [said], "a repetition is answered alike");
}

/// N33: the errors of a sidecar are the errors that its caller hears, and the action stays offered.
#[test]
fn what_a_connected_program_fails_with_is_the_answer_word_for_word() {
    let mut w = World::new();
    w.link_up();
    connected(&mut w, &["echo"], false);
    w.done();
    for (id, why) in [("i1", "out of paper"), ("i2", "")] {
        invoke(&mut w, id, "echo", json!({}));
        w.done();
        let error = Outcome::Error(why.into());
        let result = SidecarCall::Result(InvocationId::new(id), error.clone());
        assert!(matches!(sidecar(&mut w, result), Some(Ok(_))));
        let sent = w.sent();
        assert_eq!(answers(&sent), [error]);
        let offers_anew = |up: &Up| matches!(up, Up::NodeRegister(_));
        assert!(!sent.iter().any(offers_anew), "{sent:?}");
    }
}

/// N33: what a sidecar leaves behind when it vanishes is given back to the engine.
#[test]
fn what_runs_with_a_program_that_goes_is_given_back_and_may_come_again() {
    let mut w = World::new();
    w.link_up();
    connected(&mut w, &["echo"], false);
    invoke(&mut w, "i1", "echo", json!({}));
    w.done();
    sidecar(&mut w, SidecarCall::Gone);
    let unavailable = Outcome::Error("handler_unavailable".into());
    assert_eq!(answers(&w.sent()), [unavailable]);
    connected(&mut w, &["echo"], false);
    w.done();
    invoke(&mut w, "i1", "echo", json!({}));
    assert!(
        w.done().iter().any(|e| matches!(e, Effect::Sidecar(..))),
        "the same invocation is served now"
    );
}

/// N33: a sidecar under supervision comes back.
#[test]
fn a_program_that_asked_for_it_is_started_again_until_that_is_hopeless() {
    let mut w = World::new();
    w.link_up();
    connected(&mut w, &["echo"], true);
    let launched = |w: &mut World| w.done().iter().any(|e| matches!(e, Effect::Launch(_)));
    sidecar(&mut w, SidecarCall::Gone);
    w.pass(Duration::from_millis(1999));
    assert!(!launched(&mut w), "after its cooldown");
    for _ in 0..3 {
        w.pass(Duration::from_secs(2));
        assert!(launched(&mut w));
        w.tell(Event::LaunchEnded(
            vec!["./serve".into()],
            "exit code 1".into(),
        ));
    }
    w.pass(Duration::from_secs(10));
    assert!(!launched(&mut w), "three failures in a row are enough");

    connected(&mut w, &["echo"], true);
    sidecar(&mut w, SidecarCall::Deregister);
    w.pass(Duration::from_secs(10));
    assert!(!launched(&mut w), "who says goodbye stays away");
}
