//! Mail that comes twice, late, or out of its turn.

use super::*;

/// N26: a gap is filled before what is behind it is taken in.
#[test]
fn mail_that_overtakes_a_replay_waits_for_what_is_missing() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.done();
    w.mail("w1", 4);
    let sent = w.sent();
    assert!(
        matches!(&sent[..], [Up::InventorySync(_)]),
        "it asks for what is missing: {sent:?}"
    );
    w.mail("w1", 2);
    w.mail("w1", 3);
    let waiting: Vec<_> =
        w.d.ledger()
            .mail()
            .of(&AgentName::new("w1"))
            .map(|p| p.delivery.msg_id.to_string())
            .collect();
    assert_eq!(waiting, ["m1", "m2", "m3", "m4"]);
}

/// N26: numbers that are gone for good hold nothing up.
#[test]
fn numbers_the_engine_no_longer_has_are_stepped_over_only_after_a_new_link() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.mail("w1", 5);
    w.mail("w1", 6);
    w.done();
    w.pass(Duration::from_secs(11));
    assert!(
        w.done()
            .contains(&Effect::Link(crate::msg::LinkCommand::Reconnect))
    );
    w.tell(Event::Link(LinkReport::Lost("starting over".into())));
    assert_eq!(
        w.d.ledger().mail().len(),
        1,
        "nothing is skipped on a guess"
    );
    w.link_up();
    w.mail("w1", 1);
    w.mail("w1", 5);
    w.mail("w1", 6);
    assert_eq!(
        w.d.ledger().mail().len(),
        3,
        "the engine sent all it has: 2 to 4 are gone"
    );
}

fn asks_for_a_new_link(w: &mut World) -> bool {
    let asks = Effect::Link(crate::msg::LinkCommand::Reconnect);
    w.done().contains(&asks)
}

fn waiting(w: &World) -> Vec<String> {
    let mail = w.d.ledger().mail().all();
    mail.map(|p| p.delivery.msg_id.to_string()).collect()
}

/// N26: what the old link still brings says nothing of what the engine will send on the new one.
#[test]
fn a_frame_of_the_old_link_does_not_pass_for_the_replay_of_the_new_one() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.mail("w1", 3);
    w.pass(Duration::from_secs(11));
    assert!(asks_for_a_new_link(&mut w));
    w.mail("w1", 4);
    assert_eq!(waiting(&w), ["m1"], "2 and 3 are still to come");
    w.tell(Event::Link(LinkReport::Lost("starting over".into())));
    w.link_opens();
    w.mail("w1", 4);
    assert_eq!(waiting(&w), ["m1"], "the engine has not heard who we are");
    w.node_registered(json!({}));
    (1..=4).for_each(|n| w.mail("w1", n));
    assert_eq!(waiting(&w), ["m1", "m2", "m3", "m4"]);
}

/// N26: the engine sends before it takes our registration, and nothing again behind the list.
#[test]
fn numbers_that_are_gone_cost_one_new_link_however_early_the_engine_sends_what_is_left() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.mail("w1", 5);
    w.pass(Duration::from_secs(11));
    assert!(asks_for_a_new_link(&mut w));
    w.tell(Event::Link(LinkReport::Lost("starting over".into())));
    w.link_opens();
    w.mail("w1", 5);
    w.mail("w1", 8);
    w.node_registered(json!({}));
    w.pass(Duration::from_secs(11));
    assert!(!asks_for_a_new_link(&mut w), "it has been asked for");
    assert_eq!(waiting(&w), ["m1", "m5"]);
    w.pass(Duration::from_secs(11));
    assert!(asks_for_a_new_link(&mut w), "6 and 7 have not");
}

#[test]
fn a_replay_that_begins_behind_the_gap_shows_that_it_will_not_close() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.done();
    w.mail("w1", 5);
    assert_eq!(w.d.ledger().mail().len(), 1);
    let asked = w.sent().into_iter().find_map(|up| match up {
        Up::InventorySync(sync) => sync.id,
        _ => None,
    });
    w.mail("w1", 5);
    assert_eq!(
        w.d.ledger().mail().len(),
        1,
        "a frame that comes twice is no replay"
    );
    w.frame(json!({"type":"reply","id":asked,"ok":true,"data":{}}));
    w.mail("w1", 5);
    assert_eq!(w.d.ledger().mail().len(), 2);
}

#[test]
fn a_reaction_that_overtakes_its_message_does_not_swallow_it() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    w.typed_mail("w1", 0, "message.reacted", "m1");
    w.mail("w1", 1);
    assert!(w.injected().is_some());
}

#[test]
fn mail_of_an_earlier_bearer_of_the_name_does_not_acknowledge_the_new_ones() {
    let (mut w, run) = World::with_agent("w1");
    w.mail("w1", 1);
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.tell(Event::Link(LinkReport::Frame(Down::Ping)));
    let bound = Record::Bound {
        agent: AgentName::new("w1"),
        agent_id: AgentId::new("id_other"),
    };
    w.journal.push(bound);
    let mut w = World::after(w.journal);
    w.link_up();
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    let id = w
        .effects
        .iter()
        .rev()
        .find_map(|e| match e {
            Effect::Send(Up::AgentRegister(r)) => r.id.clone(),
            _ => None,
        })
        .expect("it asked");
    w.frame(json!({"type":"reply","id":id,"ok":true,"data":{"agent_id":"id_other","token":"t"}}));
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 1 });
    w.report(
        "w1",
        run,
        AgentReport::Ready {
            evidence: "quiet".into(),
        },
    );
    let old = w.injected().expect("the old message is typed all the same");
    w.land("w1", &old.delivery_id);
    assert!(acks(&w.sent()).is_empty());
}

/// N26, D3: what is sent again is not typed again, and is acknowledged once it was read.
#[test]
fn mail_sent_again_is_answered_from_the_ledger() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    let first = w.injected().expect("typed");
    w.mail("w1", 1);
    assert!(
        w.done().is_empty(),
        "it is being typed: no second copy, no early acknowledgement"
    );
    w.land("w1", &first.delivery_id);
    w.done();
    w.mail("w1", 1);
    assert_eq!(acks(&w.sent()), [1]);
}

#[test]
fn a_reaction_behind_waiting_mail_does_not_acknowledge_that_mail() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.done();
    w.typed_mail("w1", 0, "message.reacted", "r1");
    assert_eq!(acks(&w.sent()), [0]);
}

/// N26: an engine that was put back to an earlier state counts on from there, and gives known numbers to new messages.
#[test]
fn messages_of_an_engine_that_counts_anew_are_all_typed_and_each_once() {
    let (mut w, _) = World::with_agent("w1");
    for n in 1..=5 {
        w.mail("w1", n);
        w.land("w1", &DeliveryId::new(format!("del_m{n}_w1")));
    }
    w.done();
    for n in [1, 2, 3, 4, 5, 6, 7] {
        let id = format!("new{n}");
        w.typed_mail("w1", n, "dm.received", &id);
        let one = w.injected().expect("another message");
        assert_eq!(one.delivery_id.as_str(), format!("del_{id}_w1"));
        w.land("w1", &one.delivery_id);
        assert_eq!(acks(&w.sent()), [n], "in the numbers that count now");
        w.typed_mail("w1", n, "dm.received", &id);
        assert_eq!(acks(&w.sent()), [n], "and not typed again");
    }
    let mut w = World::after(w.journal);
    w.link_up();
    w.spawn("w1");
    w.done();
    w.typed_mail("w1", 7, "dm.received", "new7");
    assert!(w.injected().is_none(), "nor after a restart");
}

/// N26: what waits from before goes on waiting, and nothing of it is acknowledged in its stead.
#[test]
fn mail_that_waits_while_the_engine_counts_anew_is_typed_too() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    (1..=3).for_each(|n| w.mail("w1", n));
    w.typed_mail("w1", 1, "dm.received", "new1");
    let sent = w.done();
    let acked =
        |e: &Effect| matches!(e, Effect::Send(Up::DeliveryAck(ack)) if ack.up_to_seq != Seq(0));
    assert!(!sent.iter().any(acked), "{sent:?}");
    w.effects = sent;
    for id in ["m1", "m2", "m3", "new1"] {
        let one = w.injected().expect("the next");
        assert_eq!(one.delivery_id.as_str(), format!("del_{id}_w1"));
        w.land("w1", &one.delivery_id);
    }
    assert_eq!(acks(&w.sent()), [1]);
}

#[test]
fn what_an_agent_read_before_it_ended_is_acknowledged_before_it_is_signed_off_also_on_the_next_link()
 {
    let (mut w, run) = World::with_agent("w1");
    w.mail("w1", 1);
    let read = w.injected().expect("typed");
    w.tell(Event::Link(LinkReport::Lost("gone".into())));
    w.land("w1", &read.delivery_id);
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    w.link_up();
    let mut sent = w.done();
    Dispatcher::arrange(&mut sent);
    let told = sent.iter().filter_map(|effect| match effect {
        Effect::Send(Up::DeliveryAck(ack)) => Some(ack.up_to_seq.0),
        Effect::Send(Up::AgentDeregister(_)) => Some(0),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [1, 0]);
}
