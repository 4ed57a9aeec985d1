//! What a release leaves: dead letters that tell, an engine that has its acknowledgement, and nothing for the next agent of
//! the name to trip over.

use super::*;
use crate::wire::rest::{LEFTOVERS_PAGE, LeftoverRow, LeftoverWords};

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
        w.engine_has_nothing();
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
    w.engine_has_nothing();
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
    release(&mut w);
    w.engine_has_nothing();
    assert!(is_answered(&w));
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
    release(&mut w);
    w.engine_has_nothing();
    assert!(is_answered(&w));
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

// ---- what lies with the engine ----------------------------------------------------------------------------------------

/// A message that the engine has for w1.
fn row(seq: u64) -> LeftoverRow {
    LeftoverRow {
        id: DeliveryId::new(format!("del_m{seq}_w1")),
        message_id: MsgId::new(format!("m{seq}")),
        seq: Seq(seq),
        mode: Some("immediate".into()),
        reason: Some("dm".into()),
        channel_id: Some("dmch_1".into()),
        message: Some(LeftoverWords {
            agent_name: Some("lead".into()),
            text: Some(format!("text {seq}")),
            thread_id: None,
        }),
    }
}

fn have(rows: Vec<LeftoverRow>) -> RestDone {
    RestDone::Leftovers(Secret::new("at_live_y"), rows)
}

/// What the engine is told to close, and that it has.
fn closed(w: &mut World) -> Vec<String> {
    let close = w.effects.iter().rev().find_map(|e| match e {
        Effect::RestJob(id, RestCall::Close { ids, .. }) => Some((*id, ids.clone())),
        _ => None,
    });
    let (job, ids) = close.expect("it closes what it took over");
    w.tell(Event::RestJob(job, RestDone::Closed));
    ids.iter().map(DeliveryId::to_string).collect()
}

/// Its program ended with one message unread here, and somebody releases it.
fn released_after_its_end() -> World {
    let (mut w, run) = World::with_agent("w1");
    w.mail("w1", 1);
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    assert!(release(&mut w).is_none(), "the engine has its mail");
    w
}

fn is_answered(w: &World) -> bool {
    let answered = |e: &Effect| matches!(e, Effect::Reply(_, Ok(Reply::Released { .. })));
    w.effects.iter().any(answered)
}

fn asks(w: &World) -> usize {
    let asked = |e: &&Effect| matches!(e, Effect::RestJob(_, RestCall::Leftovers { .. }));
    w.effects.iter().filter(asked).count()
}

fn is_asked_for(w: &World) -> bool {
    let asked = |e: &Effect| matches!(e, Effect::Send(Up::AgentRegister(_)));
    w.effects.iter().any(asked)
}

/// N35, D2: mail that came after the program had ended lies with the engine; a release ends it as it does all other.
#[test]
fn what_the_engine_has_for_a_released_agent_is_a_dead_letter_and_closed_there() {
    let mut w = released_after_its_end();
    w.leftovers(have(vec![row(1), row(2), row(3)]));
    let dropped = w.effects.iter().filter_map(|e| match e {
        Effect::Publish(_, BrokerEvent::DeliveryDropped { count, .. }) => Some(*count),
        _ => None,
    });
    assert_eq!(dropped.collect::<Vec<_>>(), [1, 2], "of here, and of there");
    let failed = |e: &&Effect| {
        matches!(e, Effect::Publish(_, BrokerEvent::MessageDeliveryFailed { from, last_error, .. })
            if from == "lead" && last_error.contains("released"))
    };
    assert_eq!(w.effects.iter().filter(failed).count(), 3);
    assert!(!is_answered(&w), "it is not closed yet");
    assert_eq!(closed(&mut w), ["del_m1_w1", "del_m2_w1", "del_m3_w1"]);
    assert!(is_answered(&w));
    assert!(w.d.ledger().mail().is_empty());
    assert_eq!(w.d.ledger().uncleared(&w1()), None);
    let dead = w.d.ledger().dead().iter().map(|d| &d.pending.delivery);
    let dead: Vec<_> = dead.map(|d| (d.body.as_str(), d.target.as_str())).collect();
    assert_eq!(dead.len(), 3);
    assert_eq!(dead[1..], [("text 2", "w1"), ("text 3", "w1")]);
    // The next bearer has the same identity, and gets what comes from then on.
    w.spawn("w1");
    w.done();
    w.mail("w1", 2);
    assert!(w.injected().is_none(), "sent before it was closed");
    w.mail("w1", 4);
    assert!(w.injected().is_some_and(|i| i.text.ends_with("text 4")));
    let id = DeliveryId::new("del_m4_w1");
    w.land("w1", &id);
    w.done();
    w.call(ApiCall::Redeliver(None));
    assert_eq!(w.d.ledger().mail().waiting(&w1()), 3);
}

#[test]
fn nobody_bears_the_name_before_the_engine_has_nothing_of_the_last() {
    let mut w = released_after_its_end();
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    assert!(!is_asked_for(&w));
    w.leftovers(have(vec![row(2)]));
    assert!(!is_asked_for(&w), "it is not closed yet");
    closed(&mut w);
    assert!(is_asked_for(&w));
}

#[test]
fn a_spawn_that_waits_for_such_a_name_without_a_link_wakes_the_broker_now_and_then_only() {
    let mut w = released_after_its_end();
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.call(ApiCall::Spawn(
        Box::new(request("w1")),
        SpawnSource::CommandLine,
    ));
    (0..60).for_each(|_| w.pass(Duration::from_secs(1)));
    assert!(!is_asked_for(&w));
    w.leftovers(have(Vec::new()));
    w.link_up();
    assert!(is_asked_for(&w));
}

/// What is being listed is older than the second release.
#[test]
fn a_name_that_is_released_again_while_the_engine_is_asked_is_looked_for_again() {
    let mut w = released_after_its_end();
    w.call(ApiCall::Spawn(
        Box::new(request("w1")),
        SpawnSource::CommandLine,
    ));
    release(&mut w);
    assert_eq!(asks(&w), 1, "it is being asked");
    w.leftovers(have(vec![row(2)]));
    assert_eq!(closed(&mut w), ["del_m2_w1"]);
    assert!(!is_answered(&w), "what came meanwhile is not known");
    w.leftovers(have(vec![row(3)]));
    assert_eq!(closed(&mut w), ["del_m3_w1"]);
    assert!(is_answered(&w));
}

#[test]
fn what_is_more_than_a_page_is_looked_for_again() {
    let mut w = released_after_its_end();
    let page = |from: u64| (from..from + LEFTOVERS_PAGE as u64).map(row).collect();
    for from in [2, 102] {
        w.leftovers(have(page(from)));
        w.done().into_iter().for_each(|e| w.effects.push(e));
        assert_eq!(closed(&mut w).len(), LEFTOVERS_PAGE);
    }
    assert!(w.d.ledger().uncleared(&w1()).is_some(), "there may be more");
    w.engine_has_nothing();
    assert!(w.d.ledger().uncleared(&w1()).is_none());
    assert_eq!(w.d.ledger().dead().len(), 201);
}

/// D2: what is owed outlives the broker, and an engine that is away.
#[test]
fn an_engine_that_is_away_at_a_release_is_asked_once_it_is_back() {
    let away = || RestDone::Failed {
        status: None,
        code: "unreachable".into(),
        message: "nobody answers".into(),
    };
    let mut w = released_after_its_end();
    w.leftovers(away());
    assert!(is_answered(&w), "it is not waited for");
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.done();
    w.pass(Duration::from_secs(60));
    assert_eq!(asks(&w), 1, "now and then");
    w.leftovers(away());
    w.done();
    w.link_up();
    assert_eq!(asks(&w), 1, "and as soon as it is there");
    for mut w in [World::after(w.journal.clone()), w] {
        w.link_up();
        w.leftovers(have(vec![row(2)]));
        closed(&mut w);
        assert_eq!(w.d.ledger().dead().len(), 2);
        w.spawn("w1");
    }
}

#[test]
fn what_the_engine_will_not_close_is_looked_at_again_and_buried_once() {
    let mut w = released_after_its_end();
    w.leftovers(have(vec![row(2)]));
    let close = w.effects.iter().rev().find_map(|e| match e {
        Effect::RestJob(id, RestCall::Close { .. }) => Some(*id),
        _ => None,
    });
    w.tell(Event::RestJob(close.expect("asked"), RestDone::Busy));
    w.done();
    w.pass(Duration::from_secs(5));
    w.leftovers(have(vec![row(2)]));
    assert_eq!(closed(&mut w), ["del_m2_w1"]);
    assert_eq!(w.d.ledger().dead().len(), 2);
    assert!(w.d.ledger().uncleared(&w1()).is_none());
}

/// Another engine may know no such calls: what it refuses is not asked for ever.
#[test]
fn an_engine_that_refuses_does_not_keep_the_name_from_its_next_bearer() {
    let mut w = released_after_its_end();
    w.leftovers(RestDone::Failed {
        status: Some(404),
        code: "not_found".into(),
        message: "no such route".into(),
    });
    w.spawn("w1");
    let mut w = released_after_its_end();
    w.leftovers(RestDone::NobodysMail);
    w.spawn("w1");
}

/// The broker was killed before the engine heard that the agent is gone: it sends all of it again, to whoever comes next.
#[test]
fn mail_of_the_last_bearer_that_comes_over_the_link_is_not_the_next_ones() {
    let w = released_after_its_end();
    let mut w = World::after(w.journal);
    w.link_up();
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    w.mail("w1", 2);
    w.mail("w1", 4);
    assert!(w.d.ledger().mail().is_empty());
    assert_eq!(
        w.d.ledger().dead().len(),
        2,
        "the one unread before, and this"
    );
    assert!(w.d.mail.has_gaps());
    w.leftovers(have(vec![row(2), row(3), row(4)]));
    assert_eq!(closed(&mut w).len(), 3);
    assert!(!w.d.mail.has_gaps());
    assert_eq!(w.d.ledger().dead().len(), 4);
}
