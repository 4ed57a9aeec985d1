//! What a release leaves: dead letters that tell, an engine that has its acknowledgement, and nothing for the next agent of
//! the name to trip over.

use super::*;

fn w1() -> AgentName {
    AgentName::new("w1")
}

fn send(w: &mut World, to: &str) {
    let request = local::SendRequest {
        to: to.into(),
        text: "from here".into(),
        from: Some("boss".into()),
        ..Default::default()
    };
    w.call(ApiCall::Send(request))
        .expect("at once")
        .expect("taken");
}

/// On hold, with two messages of the engine's and one of this machine.
fn parked() -> World {
    let (mut w, _) = World::with_agent("w1");
    w.call(ApiCall::SetMode(w1(), DeliveryMode::ManualFlush));
    (1..=2).for_each(|n| w.mail("w1", n));
    send(&mut w, "w1");
    w.done();
    w
}

fn release(w: &mut World) -> Option<Answer> {
    w.call(ApiCall::Release {
        name: w1(),
        reason: None,
    })
}

fn released(w: &mut World) {
    let run = w.run_of("w1");
    release(w);
    w.report("w1", run, AgentReport::Exited(How::default()));
}

/// One count of what was dropped, with its senders; one failure per message; the engine has its acknowledgement.
fn all_is_told(w: &mut World, ids: &[&str]) {
    let effects = w.done();
    let dropped: Vec<_> = effects
        .iter()
        .filter_map(|e| match e {
            Effect::Publish(_, BrokerEvent::DeliveryDropped { count, senders, .. }) => {
                Some((*count, senders.join(" ")))
            }
            _ => None,
        })
        .collect();
    assert_eq!(dropped, [(ids.len() as u64, "lead boss".to_owned())]);
    let failed: Vec<_> = effects
        .iter()
        .filter_map(|e| match e {
            Effect::Publish(_, BrokerEvent::MessageDeliveryFailed { from, .. }) => {
                Some(from.as_str())
            }
            _ => None,
        })
        .collect();
    assert_eq!(failed, ids);
    let acked: Vec<_> = effects
        .iter()
        .filter_map(|e| match e {
            Effect::Send(Up::DeliveryAck(ack)) => Some(ack.up_to_seq.0),
            _ => None,
        })
        .collect();
    assert_eq!(acked, [2]);
    assert!(w.d.ledger().mail().is_empty());
    assert_eq!(w.d.ledger().dead().len(), ids.len());
}

/// N35: what waits at a release is told and acknowledged.
#[test]
fn what_waits_at_a_release_becomes_dead_letters_and_everybody_hears_of_it() {
    let mut w = parked();
    released(&mut w);
    all_is_told(&mut w, &["lead", "lead", "boss"]);
}

/// N35: the next agent of the name starts clean, also on the next start of the broker.
#[test]
fn the_next_agent_of_a_released_name_is_not_on_hold_and_gets_no_mail_of_the_last() {
    let mut w = parked();
    released(&mut w);
    for mut w in [World::after(w.journal.clone()), w] {
        w.link_up();
        let task = local::SpawnRequest {
            task: Some("begin".into()),
            ..request("w1")
        };
        w.call(ApiCall::Spawn(Box::new(task), SpawnSource::Api));
        w.registered("w1");
        let run = w.run_of("w1");
        w.report("w1", run, AgentReport::Started { pid: 1 });
        w.done();
        w.report(
            "w1",
            run,
            AgentReport::Ready {
                evidence: "quiet".into(),
            },
        );
        let task = w.injected().expect("its task is not parked");
        assert!(task.text.ends_with("begin"), "{}", task.text);
    }
}

/// N35: a redelivery brings what a release took.
#[test]
fn what_a_release_took_can_be_redelivered_to_the_next_agent_of_the_name() {
    let mut w = parked();
    released(&mut w);
    w.spawn("w1");
    w.done();
    w.call(ApiCall::Redeliver(None));
    assert_eq!(w.d.ledger().mail().waiting(&w1()), 3);
    assert!(w.d.ledger().dead().is_empty());
}

/// N35: an agent that ended by itself can be released, too, with what it left.
#[test]
fn the_release_of_an_agent_that_had_already_ended_is_told_alike() {
    let mut w = parked();
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Exited(How::default()));
    assert_eq!(
        w.d.ledger().mail().len(),
        3,
        "an end by itself keeps the mail"
    );
    w.done();
    assert!(matches!(release(&mut w), Some(Ok(Reply::Released { .. }))));
    all_is_told(&mut w, &["lead", "lead", "boss"]);
    assert_eq!(w.d.ledger().mode(&w1()), DeliveryMode::AutoInject);
    w.done();
    let again = release(&mut w);
    assert!(matches!(again, Some(Err(r)) if r.kind == RefusalKind::UnknownAgent));
}

/// N35: one that waits to be started again, and so has no program at the moment.
#[test]
fn the_release_of_an_agent_between_two_runs_is_told_alike() {
    let mut w = World::new();
    w.link_up();
    let policy = local::RestartPolicy::default();
    let asked = local::SpawnRequest {
        restart_policy: Some(policy),
        ..request("w1")
    };
    w.call(ApiCall::Spawn(Box::new(asked), SpawnSource::Api));
    w.registered("w1");
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 1 });
    w.call(ApiCall::SetMode(w1(), DeliveryMode::ManualFlush));
    (1..=2).for_each(|n| w.mail("w1", n));
    send(&mut w, "w1");
    let crash = How {
        code: Some(1),
        ..How::default()
    };
    w.report("w1", run, AgentReport::Exited(crash));
    assert_eq!(
        w.d.ledger().mode(&w1()),
        DeliveryMode::ManualFlush,
        "a restart keeps the hold"
    );
    w.done();
    assert!(matches!(release(&mut w), Some(Ok(Reply::Released { .. }))));
    all_is_told(&mut w, &["lead", "lead", "boss"]);
    assert_eq!(w.d.ledger().mode(&w1()), DeliveryMode::AutoInject);
}

/// N35: frames that came too early go with the agent; the engine may send them to whoever bears the name next.
#[test]
fn frames_behind_a_gap_do_not_outlive_a_release() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.mail("w1", 3);
    assert!(w.d.mail.has_gaps());
    released(&mut w);
    assert!(!w.d.mail.has_gaps());
}

/// D2: an agent that ended with the broker, and not by anybody's wish, keeps its mail and its hold.
#[test]
fn a_stop_keeps_what_waits_and_says_how_much_and_for_whom() {
    let mut w = parked();
    let deadline = w.now.mono + Duration::from_secs(5);
    w.tell(Event::Shutdown { deadline });
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Exited(How::default()));
    let said = w.done().into_iter().find_map(|e| match e {
        Effect::Publish(_, BrokerEvent::DeliveriesKept { count, names }) => Some((count, names)),
        _ => None,
    });
    assert_eq!(said, Some((3, vec![w1()])));
    let w = World::after(w.journal);
    assert_eq!(w.d.ledger().mail().len(), 3);
    assert_eq!(w.d.ledger().mode(&w1()), DeliveryMode::ManualFlush);
}

/// Who is deregistered can acknowledge nothing any more.
#[test]
fn what_a_released_agent_leaves_unread_is_acknowledged_before_it_is_deregistered() {
    let (mut w, run) = World::with_agent("w1");
    w.mail("w1", 1);
    release(&mut w);
    w.done();
    w.report("w1", run, AgentReport::Exited(How::default()));
    let sent = w.sent();
    let ack = sent.iter().position(|up| matches!(up, Up::DeliveryAck(_)));
    let end = sent
        .iter()
        .position(|up| matches!(up, Up::AgentDeregister(_)));
    assert!(ack.is_some() && ack < end, "{sent:?}");
}

/// A hold that is left over is no silent trap.
#[test]
fn who_starts_an_agent_under_a_name_that_is_on_hold_is_told() {
    let mut w = parked();
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    w.spawn("w1");
    let warning = w.done().into_iter().find_map(|e| match e {
        Effect::Reply(_, Ok(Reply::Spawned(spawned))) => spawned.warning,
        _ => None,
    });
    assert!(warning.is_some_and(|words| words.contains("relay-broker auto w1")));
}

/// N30: who never was here counts as released.
#[test]
fn names_that_an_engine_makes_up_are_not_released_and_leave_no_trace() {
    let mut w = World::new();
    w.link_up();
    for n in 0..100 {
        w.frame(
            json!({"type":"action.invoke","invocation_id":format!("i{n}"),"action":"release",
            "input":{"name":format!("../../nobody-{n}")}}),
        );
    }
    let ended = |r: &&Record| matches!(r, Record::Ended { .. });
    assert_eq!(w.journal.iter().filter(ended).count(), 0);
    let answered = w.sent();
    let refused = |up: &&Up| {
        matches!(up, Up::ActionResult(r)
            if matches!(&r.outcome, Outcome::Error(why) if why.starts_with("release_failed: ")))
    };
    assert_eq!(
        answered.iter().filter(refused).count(),
        100,
        "what never was cannot be released"
    );
}
