//! Limits with a voice: what is too much, what is too old, and who hears of it.

use super::*;

fn world_with(limits: Limits) -> World {
    let mut w = World::new();
    w.config().limits = limits;
    w.link_up();
    w
}

fn count(effects: &[Effect], is: impl Fn(&BrokerEvent) -> bool) -> usize {
    let said = |e: &&Effect| matches!(e, Effect::Publish(_, event) if is(event));
    effects.iter().filter(said).count()
}

/// D5: engine mail beyond the limit is deferred with an event, and not lost.
#[test]
fn engine_mail_beyond_the_limit_stays_the_engines_and_is_asked_for_when_half_is_read() {
    let mut w = world_with(Limits {
        engine: 4,
        ..Limits::default()
    });
    w.spawn("w1");
    w.done();
    (1..=6).for_each(|n| w.mail("w1", n));
    let effects = w.done();
    let deferred = |e: &BrokerEvent| matches!(e, BrokerEvent::DeliveryDeferred { .. });
    assert_eq!(count(&effects, deferred), 1, "said once");
    assert_eq!(w.d.ledger().mail().len(), 4, "5 and 6 are not accepted");
    assert_eq!(w.d.ledger().received(&AgentId::new("id_w1")), Seq(4));
    w.land("w1", &DeliveryId::new("del_m1_w1"));
    let sync = |sent: &[Up]| sent.iter().any(|up| matches!(up, Up::InventorySync(_)));
    assert!(!sync(&w.sent()), "three still wait");
    w.land("w1", &DeliveryId::new("del_m2_w1"));
    assert!(
        sync(&w.sent()),
        "half is read: the engine is asked for the rest"
    );
    // The engine sends all it has no acknowledgement for, in order.
    (3..=7).for_each(|n| w.mail("w1", n));
    let waiting: Vec<_> =
        w.d.ledger()
            .mail()
            .all()
            .map(|p| p.delivery.msg_id.to_string())
            .collect();
    assert_eq!(
        waiting,
        ["m3", "m4", "m5", "m6"],
        "in order, and full again"
    );
}

/// N26: the engine was put back to an earlier state and counts on from there.
#[test]
fn a_message_behind_the_cursor_is_taken_however_much_waits_because_acknowledgements_pass_over_it() {
    let mut w = world_with(Limits {
        engine: 2,
        ..Limits::default()
    });
    w.spawn("w1");
    (1..=2).for_each(|n| w.mail("w1", n));
    w.typed_mail("w1", 1, "dm.received", "new1");
    assert_eq!(w.d.ledger().mail().len(), 3);
}

/// The program of `w1` ends, and the next of that name has another identity at the engine.
fn reborn(w: &mut World) {
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    let id = w.effects.iter().rev().find_map(|e| match e {
        Effect::Send(Up::AgentRegister(r)) => r.id.clone(),
        _ => None,
    });
    w.frame(json!({"type":"reply","id":id,"ok":true,"data":{"agent_id":"id_new","token":"t","name":"w1"}}));
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 1 });
    w.report(
        "w1",
        run,
        AgentReport::Ready {
            evidence: "quiet".into(),
        },
    );
}

/// Mail for whoever bears the name `w1` after its first bearer.
fn mail_of_the_next(w: &mut World, seq: u64) {
    w.frame(json!({"type":"deliver","delivery_id":format!("del_x{seq}"),"agent_id":"id_new","agent":"w1",
        "msg_id":format!("x{seq}"),"seq":seq,"mode":"wait",
        "payload":{"type":"dm.received","data":{"from_name":"lead","text":"hello"}}}));
}

#[test]
fn mail_of_a_new_bearer_of_the_name_is_asked_for_when_the_old_ones_mail_is_read() {
    let mut w = world_with(Limits {
        engine: 2,
        ..Limits::default()
    });
    w.spawn("w1");
    (1..=2).for_each(|n| w.mail("w1", n));
    reborn(&mut w);
    mail_of_the_next(&mut w, 1);
    assert_eq!(w.d.ledger().mail().len(), 2, "it stays the engine's");
    w.done();
    w.land("w1", &DeliveryId::new("del_m1_w1"));
    let sync = |sent: &[Up]| sent.iter().any(|up| matches!(up, Up::InventorySync(_)));
    assert!(sync(&w.sent()), "half is read, whosever it was");
}

#[test]
fn what_comes_while_the_first_mail_was_left_to_the_engine_is_not_taken_for_the_base() {
    let mut w = world_with(Limits {
        engine: 4,
        ..Limits::default()
    });
    let new = AgentId::new("id_new");
    w.spawn("w1");
    (1..=4).for_each(|n| w.mail("w1", n));
    reborn(&mut w);
    // The later one first: it was under way when the engine began its replay.
    [2, 1].into_iter().for_each(|n| mail_of_the_next(&mut w, n));
    w.land("w1", &DeliveryId::new("del_m1_w1"));
    w.land("w1", &DeliveryId::new("del_m2_w1"));
    mail_of_the_next(&mut w, 3);
    assert_eq!(
        w.d.ledger().received(&new),
        Seq(0),
        "1 and 2 are still to come"
    );
    (1..=2).for_each(|n| mail_of_the_next(&mut w, n));
    assert_eq!(w.d.ledger().received(&new), Seq(2));
}

#[test]
fn an_engine_that_does_not_send_again_when_asked_gets_a_new_link() {
    let mut w = world_with(Limits {
        engine: 2,
        ..Limits::default()
    });
    w.spawn("w1");
    (1..=3).for_each(|n| w.mail("w1", n));
    w.land("w1", &DeliveryId::new("del_m1_w1"));
    w.done();
    w.pass(Duration::from_secs(11));
    assert!(
        w.done()
            .contains(&Effect::Link(crate::msg::LinkCommand::Reconnect))
    );
}

fn reconnects(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Link(crate::msg::LinkCommand::Reconnect))
}

/// Of the lists of agents that were sent, the last is answered.
fn answer_list(w: &mut World) -> Vec<Effect> {
    let effects = w.done();
    let mut lists = effects.iter().rev().filter_map(|e| match e {
        Effect::Send(Up::InventorySync(list)) => list.id.clone(),
        _ => None,
    });
    if let Some(id) = lists.next() {
        w.frame(json!({"type":"reply","id":id,"ok":true,"data":{}}));
    }
    effects
}

#[test]
fn an_engine_that_answers_and_sends_nothing_again_gets_a_new_link_soon_and_the_next_time_at_once() {
    let mut w = world_with(Limits {
        engine: 2,
        ..Limits::default()
    });
    w.spawn("w1");
    (1..=3).for_each(|n| w.mail("w1", n));
    w.done();
    w.land("w1", &DeliveryId::new("del_m1_w1"));
    assert!(!reconnects(&answer_list(&mut w)), "first it is asked");
    w.pass(Duration::from_millis(300));
    assert!(reconnects(&w.done()));
    w.tell(Event::Link(LinkReport::Lost("asked for".into())));
    w.link_up();
    (2..=4).for_each(|n| w.mail("w1", n));
    w.done();
    w.land("w1", &DeliveryId::new("del_m2_w1"));
    assert!(reconnects(&w.done()), "it is known by now");
}

#[test]
fn an_engine_that_sends_again_when_asked_keeps_its_link() {
    let mut w = world_with(Limits {
        engine: 2,
        ..Limits::default()
    });
    w.spawn("w1");
    (1..=3).for_each(|n| w.mail("w1", n));
    w.done();
    w.land("w1", &DeliveryId::new("del_m1_w1"));
    answer_list(&mut w);
    (2..=4).for_each(|n| w.mail("w1", n));
    w.pass(Duration::from_secs(11));
    assert!(!reconnects(&w.done()));
    w.land("w1", &DeliveryId::new("del_m2_w1"));
    w.land("w1", &DeliveryId::new("del_m3_w1"));
    assert!(!reconnects(&answer_list(&mut w)), "asking is enough");
}

#[test]
fn a_result_that_comes_while_too_much_waits_is_a_dead_letter_because_it_never_comes_again() {
    let mut w = world_with(Limits {
        engine: 1,
        ..Limits::default()
    });
    w.spawn("w1");
    w.mail("w1", 1);
    w.typed_mail("w1", 0, "action.completed", "inv_1");
    assert_eq!(w.d.ledger().mail().len(), 1);
    assert_eq!(w.d.ledger().dead().len(), 1);
}

/// D5: the event names count, reason and sender.
#[test]
fn a_local_send_beyond_the_limit_is_refused_with_429_and_an_event() {
    let mut w = world_with(Limits {
        local: 2,
        ..Limits::default()
    });
    w.spawn("w1");
    let send = || {
        ApiCall::Send(local::SendRequest {
            to: "w1".into(),
            text: "hello".into(),
            ..Default::default()
        })
    };
    for _ in 0..2 {
        assert!(matches!(w.call(send()), Some(Ok(Reply::Sent(_)))));
    }
    w.done();
    let refused = w.call(send());
    assert!(matches!(refused, Some(Err(r)) if r.kind == RefusalKind::Full));
    let effects = w.done();
    // D5: the cap names who sent it.
    let dropped = |e: &BrokerEvent| matches!(e, BrokerEvent::DeliveryDropped { count: 1, senders, .. } if *senders == ["box-1"]);
    assert_eq!(count(&effects, dropped), 1);
    assert_eq!(w.d.ledger().mail().len(), 2, "nothing is evicted");
}

#[test]
fn what_is_refused_for_want_of_room_is_counted_be_it_a_message_or_an_agent() {
    let mut w = world_with(Limits {
        local: 1,
        ..Limits::default()
    });
    w.config().max_agents = 1;
    w.spawn("w1");
    for text in ["taken", "one too many"] {
        w.call(ApiCall::Send(local::SendRequest {
            to: "w1".into(),
            text: text.into(),
            ..Default::default()
        }));
    }
    let second = ApiCall::Spawn(Box::new(request("w2")), SpawnSource::Api);
    let refused = w.call(second);
    assert!(matches!(refused, Some(Err(r)) if r.kind == RefusalKind::Full));
    let counters = w.counters();
    assert_eq!(
        (counters.deliveries_refused, counters.agents_refused),
        (1, 1)
    );
}

#[test]
fn mail_of_an_earlier_bearer_of_the_name_does_not_keep_the_new_ones_away_for_ever() {
    let mut w = world_with(Limits {
        engine: 4,
        ..Limits::default()
    });
    let run = w.spawn("w1");
    (1..=4).for_each(|n| w.mail("w1", n));
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    // The name was deleted at the engine, and belongs to somebody new.
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    let id = w.done().into_iter().find_map(|e| match e {
        Effect::Send(Up::AgentRegister(r)) => r.id,
        _ => None,
    });
    w.frame(json!({"type":"reply","id":id,"ok":true,
        "data":{"agent_id":"id_new","token":"t","name":"w1"}}));
    let mail = json!({"type":"deliver","delivery_id":"d","agent_id":"id_new","agent":"w1","msg_id":"n1","seq":1,
        "payload":{"type":"message.created","data":{"text":"new"}}});
    w.frame(mail.clone());
    assert_eq!(w.d.ledger().mail().len(), 4, "too much waits");
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 7 });
    w.report(
        "w1",
        run,
        AgentReport::Ready {
            evidence: "quiet".into(),
        },
    );
    for n in 1..=2 {
        w.land("w1", &DeliveryId::new(format!("del_m{n}_w1")));
    }
    w.done();
    w.frame(mail);
    assert_eq!(w.d.ledger().received(&AgentId::new("id_new")), Seq(1));
}

/// Mail of the engine whose words weigh so many bytes.
fn heavy(w: &mut World, name: &str, seq: u64, bytes: usize) {
    w.frame(json!({"type":"deliver","delivery_id":format!("del_m{seq}_{name}"),"agent_id":format!("id_{name}"),
        "agent":name,"msg_id":format!("m{seq}"),"seq":seq,"mode":"wait",
        "payload":{"type":"dm.received","data":{"from_name":"lead","text":"x".repeat(bytes)}}}));
}

fn by_bytes(bytes: usize) -> World {
    world_with(Limits {
        bytes,
        total_bytes: 2 * bytes,
        ..Limits::default()
    })
}

/// D5: the limit in bytes speaks, and what it keeps out stays the engine's.
#[test]
fn engine_mail_beyond_the_limit_in_bytes_stays_the_engines_until_half_is_read() {
    let mut w = by_bytes(100_000);
    w.spawn("w1");
    w.done();
    (1..=5).for_each(|n| heavy(&mut w, "w1", n, 30_000));
    let said: Vec<_> = w
        .done()
        .into_iter()
        .filter_map(|e| match e {
            Effect::Publish(_, BrokerEvent::DeliveryDeferred { reason, .. }) => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(said.len(), 1, "said once: {said:?}");
    assert!(
        said[0].contains("89 KiB of messages wait for 'w1'"),
        "{said:?}"
    );
    assert_eq!(w.d.ledger().mail().len(), 3);
    w.land("w1", &DeliveryId::new("del_m1_w1"));
    let sync = |sent: &[Up]| sent.iter().any(|up| matches!(up, Up::InventorySync(_)));
    assert!(!sync(&w.sent()), "60 KB still wait");
    w.land("w1", &DeliveryId::new("del_m2_w1"));
    assert!(sync(&w.sent()), "half is read");
}

#[test]
fn a_message_heavier_than_the_limit_is_taken_when_nothing_else_waits() {
    let mut w = by_bytes(1_000);
    w.spawn("w1");
    heavy(&mut w, "w1", 1, 500_000);
    heavy(&mut w, "w1", 2, 10);
    assert_eq!(w.d.ledger().mail().len(), 1);
    assert_eq!(w.d.ledger().received(&AgentId::new("id_w1")), Seq(1));
}

#[test]
fn mail_of_others_leaves_room_for_one_message_and_makes_room_when_it_is_read() {
    let mut w = by_bytes(100_000);
    ["w1", "w2", "w3"].into_iter().for_each(|name| {
        w.spawn(name);
    });
    for name in ["w1", "w2"] {
        (1..=3).for_each(|n| heavy(&mut w, name, n, 30_000));
    }
    (1..=2).for_each(|n| heavy(&mut w, "w3", n, 30_000));
    assert_eq!(w.d.ledger().mail().waiting(&AgentName::new("w3")), 1);
    w.done();
    let sync = |sent: &[Up]| sent.iter().any(|up| matches!(up, Up::InventorySync(_)));
    for n in 1..=3 {
        w.land("w1", &DeliveryId::new(format!("del_m{n}_w1")));
    }
    assert!(!sync(&w.sent()), "120 KB of 200 still wait");
    w.land("w2", &DeliveryId::new("del_m1_w2"));
    assert!(sync(&w.sent()), "less than half waits, whosever it is");
}

#[test]
fn a_local_message_beyond_the_limit_in_bytes_is_refused_and_the_sender_told() {
    let mut w = by_bytes(100_000);
    w.spawn("w1");
    let send = || {
        ApiCall::Send(local::SendRequest {
            to: "w1".into(),
            text: "x".repeat(60_000),
            ..Default::default()
        })
    };
    assert!(matches!(w.call(send()), Some(Ok(_))));
    match w.call(send()) {
        Some(Err(refusal)) => {
            assert_eq!(refusal.kind, RefusalKind::Full);
            assert!(refusal.message.contains("KiB"), "{}", refusal.message);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(w.d.ledger().mail().len(), 1);
}

#[test]
fn large_dead_letters_push_the_oldest_out_and_each_is_told() {
    let (mut w, _) = World::with_agent("w1");
    let third = crate::ledger::dead_letters::KEPT_BYTES / 3;
    let mut told = 0;
    for n in 1..=4 {
        heavy(&mut w, "w1", n, third);
        let id = DeliveryId::new(format!("del_m{n}_w1"));
        // Past the pause after a failure.
        w.pass(Duration::from_secs(60));
        let run = w.run_of("w1");
        w.report("w1", run, AgentReport::Failed(id, "too long".into()));
        let effects = w.done();
        told += count(
            &effects,
            |e| matches!(e, BrokerEvent::DeliveryDropped { reason, .. } if reason.contains("forgotten")),
        );
    }
    let dead = w.d.ledger().dead();
    assert_eq!((dead.len(), told), (2, 2));
    assert!(dead.bytes() <= crate::ledger::dead_letters::KEPT_BYTES);
}
