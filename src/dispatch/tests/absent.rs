//! Mail for agents that are not here: how long it waits, by which clock, and what becomes of it.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn limited(ttl: Option<Duration>) -> World {
    with_ttl(World::new(), ttl)
}

fn with_ttl(mut w: World, ttl: Option<Duration>) -> World {
    w.config().limits.ttl = ttl;
    w.link_up();
    w
}

/// An agent that crashed with a message unread.
fn awaited(ttl: Option<Duration>) -> World {
    let mut w = limited(ttl);
    let run = w.spawn("w1");
    w.mail("w1", 1);
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    w
}

/// Lets time pass as the broker's thread does: it wakes at each deadline.
fn wait(w: &mut World, time: Duration) {
    let end = w.now.mono + time;
    while let Some(at) = w.d.deadline().filter(|at| *at <= end) {
        w.pass(at.since(w.now.mono).max(Duration::from_millis(1)));
    }
    w.pass(end.since(w.now.mono));
}

fn waiting(w: &World) -> usize {
    w.d.ledger().mail().len()
}

fn reasons(w: &World) -> Vec<String> {
    let dead = w.d.ledger().dead().iter();
    dead.map(|dead| dead.reason.clone()).collect()
}

/// N27, D6: it is a dead letter with its event, and the engine is told that it is over.
#[test]
fn mail_whose_reader_does_not_come_within_its_time_is_a_dead_letter() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, HOUR - Duration::from_secs(1));
    assert_eq!(waiting(&w), 1, "its hour is not over");
    wait(&mut w, Duration::from_secs(1));
    assert_eq!(waiting(&w), 0);
    assert_eq!(
        reasons(&w),
        ["no agent named 'w1' came within 1h to read it"]
    );
    let effects = w.done();
    let told = |e: &Effect| matches!(e, Effect::Publish(_, BrokerEvent::DeadLetterAdded { .. }));
    assert!(effects.iter().any(told));
    let acked =
        |e: &Effect| matches!(e, Effect::Send(Up::DeliveryAck(ack)) if ack.up_to_seq == Seq(1));
    assert!(effects.iter().any(acked));
}

#[test]
fn a_wall_clock_that_jumps_ahead_or_back_ends_nothing_and_keeps_nothing_alive() {
    for hours in [3_i64, -3, 24 * 3650, -72] {
        let mut w = awaited(Some(HOUR));
        wait(&mut w, 30 * MINUTE);
        let wall = w.now.wall.0 as i64 + hours * 3_600_000;
        w.now.wall = Wall(wall.max(0) as u64);
        wait(&mut w, 29 * MINUTE);
        assert_eq!(waiting(&w), 1, "{hours} hours off");
        wait(&mut w, MINUTE);
        assert_eq!(waiting(&w), 0, "{hours} hours off");
    }
}

#[test]
fn a_time_of_seconds_is_a_time_of_seconds() {
    let mut w = awaited(Some(Duration::from_secs(2)));
    wait(&mut w, Duration::from_millis(1900));
    assert_eq!(waiting(&w), 1);
    wait(&mut w, Duration::from_millis(100));
    assert_eq!(waiting(&w), 0);
}

#[test]
fn mail_waits_for_ever_when_told_so() {
    let mut w = awaited(None);
    w.now.wall = Wall(w.now.wall.0 + 10 * 86_400_000);
    (0..100).for_each(|_| wait(&mut w, HOUR));
    assert_eq!(waiting(&w), 1);
    assert!(w.d.deadline().is_none_or(|at| at > w.now.mono + HOUR) || w.d.control.is_up());
}

/// The engine has the agent on this node until it is signed off, so it counts what the node says of it.
#[test]
fn what_ended_for_an_absent_agent_without_a_link_is_acknowledged_on_the_next() {
    let mut w = awaited(Some(HOUR));
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    wait(&mut w, HOUR);
    assert_eq!(waiting(&w), 0);
    assert_eq!(acks(&w.sent()), [0; 0], "there is nobody to tell");
    for mut w in [World::after(w.journal.clone()), w] {
        w.link_up();
        assert_eq!(acks(&w.sent()), [1]);
        w.tell(Event::Link(LinkReport::Lost("reset".into())));
        w.link_up();
        assert_eq!(acks(&w.sent()), [0; 0], "it was said");
    }
}

/// What was said on a link that broke may not have been heard.
#[test]
fn what_ended_for_an_absent_agent_is_acknowledged_again_on_the_next_link() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, HOUR);
    assert_eq!(acks(&w.sent()), [1]);
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.link_up();
    assert_eq!(acks(&w.sent()), [1]);
}

/// The engine may have an agent of that name with numbers of its own.
#[test]
fn nothing_is_acknowledged_for_a_name_whose_registration_was_not_answered() {
    let mut w = awaited(Some(HOUR));
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    let mut w = World::after(w.journal);
    w.done();
    w.link_up();
    assert_eq!(acks(&w.sent()), [0; 0]);
}

/// What has waited in one life counts in the next, and what passed in between does not.
#[test]
fn the_waiting_goes_on_over_restarts_and_does_not_count_while_no_broker_runs() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, 40 * MINUTE);
    let mut w = with_ttl(World::after(w.journal), Some(HOUR));
    w.now.wall = Wall(w.now.wall.0 + 86_400_000);
    wait(&mut w, 18 * MINUTE);
    assert_eq!(waiting(&w), 1);
    wait(&mut w, 3 * MINUTE);
    assert_eq!(waiting(&w), 0);
}

/// D2: an orderly stop writes down the last minute, too.
#[test]
fn a_stop_forgets_nothing_of_the_waiting() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, Duration::from_secs(30));
    let deadline = w.now.mono + MINUTE;
    w.tell(Event::Shutdown { deadline });
    let waited = w.d.ledger().mail().all().next().map(|p| p.waited_ms);
    assert_eq!(waited, Some(30_000));
}

#[test]
fn each_message_has_its_own_time() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, 30 * MINUTE);
    w.mail("w1", 2);
    wait(&mut w, 30 * MINUTE);
    assert_eq!(waiting(&w), 1, "the second has half an hour left");
    wait(&mut w, 30 * MINUTE);
    assert_eq!(waiting(&w), 0);
}

#[test]
fn who_is_here_has_no_time_limit_and_what_waited_then_does_not_count() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, 50 * MINUTE);
    let run = w.spawn("w1");
    w.call(ApiCall::SetMode(
        AgentName::new("w1"),
        DeliveryMode::ManualFlush,
    ));
    wait(&mut w, 3 * HOUR);
    assert_eq!(waiting(&w), 1);
    w.report("w1", run, AgentReport::Exited(How::default()));
    wait(&mut w, 9 * MINUTE);
    assert_eq!(waiting(&w), 1);
    wait(&mut w, MINUTE);
    assert_eq!(waiting(&w), 0);
}

#[test]
fn mail_that_has_waited_long_gives_its_reader_a_minute_to_come_back_after_a_start() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, HOUR - Duration::from_secs(1));
    let mut w = with_ttl(World::after(w.journal), Some(HOUR));
    wait(&mut w, Duration::from_secs(59));
    assert_eq!(waiting(&w), 1);
    w.spawn("w1");
    assert!(w.injected().is_some(), "it came in time");
}

#[test]
fn a_spawn_that_comes_to_nothing_does_not_lengthen_or_shorten_the_waiting() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, 30 * MINUTE);
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    w.registered("w1");
    let run = w.run_of("w1");
    let why = "no such program".to_owned();
    w.report("w1", run, AgentReport::NotStarted { why });
    wait(&mut w, 29 * MINUTE);
    assert_eq!(waiting(&w), 1);
    wait(&mut w, MINUTE);
    assert_eq!(waiting(&w), 0);
}

// ---- what the engine keeps --------------------------------------------------------------------------------------------

fn handed(w: &mut World, seq: u64) {
    w.frame(json!({"type":"deliver","delivery_id":format!("del_m{seq}_eve"),"agent_id":"id_eve","agent":"eve",
        "msg_id":format!("m{seq}"),"seq":seq,"mode":"wait","payload":{"type":"dm.received",
        "undelivered":"nobody came within 1h to read it","data":{"from_name":"lead","text":"hello"}}}));
}

/// D6: what the engine inside has kept long enough is a dead letter here, and only then does the engine let go of it.
#[test]
fn what_the_engine_hands_over_is_a_dead_letter_once_and_acknowledged_each_time() {
    let mut w = limited(Some(HOUR));
    handed(&mut w, 7);
    assert_eq!(reasons(&w), ["nobody came within 1h to read it"]);
    let acked = |w: &mut World| acks(&w.sent()).last().copied();
    assert_eq!(acked(&mut w), Some(7));
    handed(&mut w, 7);
    assert_eq!(acked(&mut w), Some(7));
    assert_eq!(reasons(&w).len(), 1);
    w.spawn("eve");
    w.done();
    w.call(ApiCall::Redeliver(None));
    assert!(w.injected().is_some_and(|i| i.text.ends_with("hello")));
}

/// One end, not two: what waits here and is handed over, too.
#[test]
fn what_waits_here_and_is_handed_over_ends_once() {
    let mut w = limited(Some(HOUR));
    let run = w.spawn("eve");
    w.mail("eve", 1);
    w.report("eve", run, AgentReport::Exited(How::default()));
    w.done();
    handed(&mut w, 1);
    assert_eq!((waiting(&w), reasons(&w).len()), (0, 1));
    assert_eq!(acks(&w.sent()), [1]);
}

/// What came behind it had been read before; the engine's link may break before it hears of it.
#[test]
fn what_is_handed_over_is_acknowledged_with_what_ended_behind_it_and_again_on_the_next_link() {
    let mut w = limited(Some(HOUR));
    let run = w.spawn("eve");
    w.mail("eve", 1);
    w.frame(
        json!({"type":"deliver","delivery_id":"del_m2_eve","agent_id":"id_eve","agent":"eve",
        "msg_id":"m2","seq":2,"mode":"wait","payload":{"type":"nothing.to_show"}}),
    );
    w.report("eve", run, AgentReport::Exited(How::default()));
    w.done();
    handed(&mut w, 1);
    assert_eq!(acks(&w.sent()), [2]);
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.done();
    w.link_up();
    assert_eq!(acks(&w.sent()), [2]);
}

/// A row that was handed over while its agent was being started.
#[test]
fn what_is_handed_over_for_an_agent_that_is_here_by_now_is_typed() {
    let mut w = limited(Some(HOUR));
    w.spawn("eve");
    w.done();
    handed(&mut w, 1);
    assert!(w.injected().is_some());
}

fn failed(w: &mut World, extra: Value) {
    let mut data = json!({"delivery_id":"del_m1_9","message_id":"m1","target_agent_id":"9","target_agent_name":"far",
        "seq":4,"reason":"ttl_expired","error":"delivery TTL expired","retryable":false});
    for (key, value) in extra.as_object().into_iter().flatten() {
        data[key] = value.clone();
    }
    w.frame(
        json!({"type":"context.update","topic":"agent","event":"delivery.failed","channel_id":null,
        "agent_ids":["1"],"data":data}),
    );
}

/// D6: an engine of any make that gives a message up is heard.
#[test]
fn a_delivery_that_the_engine_gave_up_is_a_dead_letter_with_its_event() {
    let mut w = limited(Some(HOUR));
    w.done();
    failed(&mut w, json!({}));
    failed(&mut w, json!({}));
    assert_eq!(reasons(&w), ["the engine gave it up: delivery TTL expired"]);
    let effects = w.done();
    let told = |e: &&Effect| matches!(e, Effect::Publish(_, BrokerEvent::MessageDeliveryFailed { to, .. }) if to == "far");
    assert_eq!(effects.iter().filter(told).count(), 1);
    w.spawn("far");
    w.done();
    let Some(Ok(Reply::Redelivered(answer))) = w.call(ApiCall::Redeliver(None)) else {
        panic!("no answer");
    };
    assert!(
        answer.skipped[0]
            .reason
            .contains("only the engine has its words")
    );
}

/// A mailbox that is full, or an agent that was deleted: no delivery id, or the words.
#[test]
fn the_other_ways_of_an_engine_to_give_up_are_heard_too() {
    let mut w = limited(Some(HOUR));
    failed(
        &mut w,
        json!({"delivery_id": null, "reason": "depth_cap", "error": "mailbox depth cap exceeded"}),
    );
    failed(
        &mut w,
        json!({"delivery_id": "d2", "message_id": "m2", "text": "hello", "from_name": "lead"}),
    );
    assert_eq!(reasons(&w).len(), 2);
    w.spawn("far");
    w.done();
    w.call(ApiCall::Redeliver(None));
    assert!(w.injected().is_some_and(|i| i.text.ends_with("hello")));
}

/// What some broker keeps, and what is here, has its own end.
#[test]
fn news_of_a_failed_delivery_that_somebody_has_makes_no_second_end() {
    let mut w = limited(Some(HOUR));
    w.spawn("w1");
    w.mail("w1", 1);
    let of_w1 =
        json!({"delivery_id": "del_m1_w1", "target_agent_id": "id_w1", "target_agent_name": "w1"});
    failed(&mut w, of_w1.clone());
    w.land("w1", &DeliveryId::new("del_m1_w1"));
    failed(&mut w, of_w1);
    failed(&mut w, json!({"kept_by": "node_2"}));
    assert!(reasons(&w).is_empty());
}

/// D6: `pending` of an agent that is not here shows what lies here and what lies at the engine, and until when.
#[test]
fn pending_shows_where_the_mail_of_an_absent_agent_lies_and_until_when() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, 30 * MINUTE);
    w.done();
    assert!(
        w.call(ApiCall::Pending(AgentName::new("w1"))).is_none(),
        "the engine is asked"
    );
    let job = w.done().into_iter().find_map(|e| match e {
        Effect::RestJob(id, RestCall::Waiting(_)) => Some(id),
        _ => None,
    });
    let row = |id: &str| crate::wire::rest::WaitingRow {
        delivery_id: DeliveryId::new(id),
        message_id: MsgId::new(id),
        from: "lead".into(),
        target: "w1".into(),
        text: "hello".into(),
        mode: crate::domain::Mode::Wait,
        posted_at_ms: Wall(5),
        left_ms: Some(60_000),
    };
    let rows = vec![row("del_m1_w1"), row("del_m2_w1")];
    w.tell(Event::RestJob(
        job.expect("a REST job"),
        crate::msg::RestDone::Waiting(rows),
    ));
    let list = w.done().into_iter().find_map(|e| match e {
        Effect::Reply(_, Ok(Reply::Pending(list))) => Some(list.pending),
        _ => None,
    });
    let list: Vec<_> = list
        .expect("an answer")
        .into_iter()
        .map(|p| (p.lies_at.unwrap_or_default(), p.until_ms))
        .collect();
    let now = w.now.wall;
    let half = now + 30 * MINUTE;
    assert_eq!(
        list,
        [
            ("broker".to_owned(), Some(half)),
            ("engine".to_owned(), Some(now + MINUTE))
        ]
    );
}

/// An engine that has no such list, or does not answer, hides nothing of what lies here.
#[test]
fn pending_shows_what_lies_here_also_when_the_engine_cannot_say_more() {
    for name in ["w1", "nobody"] {
        let mut w = awaited(Some(HOUR));
        w.call(ApiCall::Pending(AgentName::new(name)));
        let job = w.done().into_iter().find_map(|e| match e {
            Effect::RestJob(id, RestCall::Waiting(_)) => Some(id),
            _ => None,
        });
        w.tell(Event::RestJob(
            job.expect("a REST job"),
            crate::msg::RestDone::Busy,
        ));
        let answer = w.done().into_iter().find_map(|e| match e {
            Effect::Reply(_, answer) => Some(answer),
            _ => None,
        });
        match answer.expect("an answer") {
            Ok(Reply::Pending(list)) => assert_eq!((name, list.pending.len()), ("w1", 1)),
            other => assert!(name == "nobody" && other.is_err(), "{other:?}"),
        }
    }
}
