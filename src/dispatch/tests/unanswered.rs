//! Registrations whose answer never came: the engine may have made the agent, and have mail for it, although nobody here
//! knows.

use super::*;
use crate::wire::rest::LeftoverRow;

fn w1() -> AgentName {
    AgentName::new("w1")
}

fn ask(w: &mut World) {
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
}

fn release(w: &mut World) {
    let call = ApiCall::Release {
        name: w1(),
        reason: None,
    };
    w.tell(Event::Call(Ticket(78), call));
}

fn is_released(w: &World) -> bool {
    let answered = |e: &Effect| matches!(e, Effect::Reply(Ticket(78), Ok(Reply::Released { .. })));
    w.effects.iter().any(answered)
}

fn lose_link(w: &mut World) {
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
}

/// Asked for on a link that breaks before the answer.
fn asked_in_vain() -> World {
    let mut w = World::new();
    w.link_up();
    ask(&mut w);
    lose_link(&mut w);
    w
}

/// The request on the link that asks for an identity, if there is one.
fn registration(w: &World) -> Option<String> {
    w.effects.iter().rev().find_map(|e| match e {
        Effect::Send(Up::AgentRegister(frame)) => frame.id.clone(),
        _ => None,
    })
}

/// Whom the broker looks for at the engine.
fn looked_for(w: &World) -> Vec<JobId> {
    let jobs = w.effects.iter().filter_map(|e| match e {
        Effect::RestJob(id, RestCall::Find { wanted, .. }) if wanted.name == w1() => Some(*id),
        _ => None,
    });
    jobs.collect()
}

fn found(w: &mut World, done: RestDone) {
    let job = looked_for(w);
    w.tell(Event::RestJob(*job.last().expect("it looks for it"), done));
}

fn bearer() -> RestDone {
    RestDone::Found(Some(AgentId::new("id_w1")))
}

fn away() -> RestDone {
    RestDone::Failed {
        status: None,
        code: "unreachable".into(),
        message: "nobody answers".into(),
    }
}

/// Who is signed off, by identity.
fn signed_off(w: &World) -> Vec<&str> {
    let off = w.effects.iter().filter_map(|e| match e {
        Effect::Send(Up::AgentDeregister(frame)) => Some(frame.agent_id.as_str()),
        _ => None,
    });
    off.collect()
}

/// The engine has one message for the agent, and lets go of it.
fn cleared(w: &mut World) {
    let row: LeftoverRow = serde_json::from_value(json!({
        "id": "del_m1_w1", "message_id": "m1", "seq": 1, "mode": "immediate", "reason": "dm",
        "channel_id": "dmch_1", "message": {"agent_name": "lead", "text": "for the last"},
    }))
    .expect("a row as engines have it");
    w.leftovers(RestDone::Leftovers(Secret::new("at_live_y"), vec![row]));
    let close = w.effects.iter().rev().find_map(|e| match e {
        Effect::RestJob(id, RestCall::Close { .. }) => Some(*id),
        _ => None,
    });
    w.tell(Event::RestJob(
        close.expect("it closes what it took over"),
        RestDone::Closed,
    ));
}

#[test]
fn mail_of_an_agent_that_was_released_before_its_answer_came_is_not_the_next_ones() {
    let mut w = asked_in_vain();
    release(&mut w);
    assert!(is_released(&w), "the engine is away");
    // What is owed outlives the broker.
    for mut w in [World::after(w.journal.clone()), w] {
        w.done();
        ask(&mut w);
        w.link_up();
        assert_eq!(registration(&w), None, "the last bearer's mail is there");
        found(&mut w, bearer());
        assert_eq!(signed_off(&w), ["id_w1"]);
        assert_eq!(registration(&w), None, "it is not closed yet");
        cleared(&mut w);
        assert!(registration(&w).is_some());
        let dead = w.d.ledger().dead().iter().map(|d| &d.pending.delivery.body);
        assert_eq!(dead.collect::<Vec<_>>(), ["for the last"]);
        w.registered("w1");
        let run = w.run_of("w1");
        w.report("w1", run, AgentReport::Started { pid: 1 });
        w.done();
        w.mail("w1", 1);
        w.report(
            "w1",
            run,
            AgentReport::Ready {
                evidence: "quiet".into(),
            },
        );
        assert!(w.injected().is_none(), "sent before it was closed");
    }
}

#[test]
fn what_the_engine_sends_before_it_is_asked_who_was_released_is_not_the_next_ones() {
    let mut w = asked_in_vain();
    release(&mut w);
    ask(&mut w);
    w.link_up();
    w.mail("w1", 1);
    assert_eq!(w.d.ledger().mail().len(), 0, "nobody may read it");
    let dead = w.d.ledger().dead().iter().map(|d| d.reason.as_str());
    assert_eq!(
        dead.collect::<Vec<_>>(),
        ["the agent was released from this node"]
    );
}

#[test]
fn a_release_on_a_link_that_lives_waits_for_the_answer_to_the_registration() {
    let mut w = World::new();
    w.link_up();
    w.done();
    ask(&mut w);
    let request = registration(&w).expect("asked");
    release(&mut w);
    assert!(!is_released(&w), "the engine may have mail by now");
    assert_eq!(looked_for(&w), [], "it would not be found yet");
    w.frame(json!({"type":"reply","id":request,"ok":true,
        "data":{"agent_id":"id_w1","token":"at_live_x","name":"w1"}}));
    assert_eq!(signed_off(&w), ["id_w1"]);
    cleared(&mut w);
    assert!(is_released(&w));
    assert_eq!(w.d.ledger().unanswered(&w1()), None);
}

/// The engine believes that the agent runs here, and would send its mail to nobody.
#[test]
fn an_agent_that_a_killed_broker_had_asked_for_is_signed_off_by_the_next() {
    let mut w = World::new();
    w.link_up();
    ask(&mut w);
    let mut w = World::after(w.journal);
    w.link_up();
    found(&mut w, bearer());
    assert_eq!(signed_off(&w), ["id_w1"]);
    assert_eq!(w.d.ledger().unanswered(&w1()), None);
    assert_eq!(w.d.ledger().uncleared(&w1()), None, "its mail waits");
}

#[test]
fn an_agent_that_a_killed_broker_had_asked_for_can_be_released() {
    let mut w = World::new();
    w.link_up();
    ask(&mut w);
    let mut w = World::after(w.journal);
    w.link_up();
    w.frame(
        json!({"type":"action.invoke","invocation_id":"i1","action":"release","input":{"name":"w1"}}),
    );
    found(&mut w, bearer());
    cleared(&mut w);
    let released = w.effects.iter().any(|e| {
        matches!(e, Effect::Send(Up::ActionResult(r)) if matches!(r.outcome, Outcome::Output(_)))
    });
    assert!(released);
    assert_eq!(w.d.ledger().dead().len(), 1);
}

#[test]
fn an_error_instead_of_the_answer_does_not_say_that_the_engine_made_nobody() {
    let mut w = World::new();
    w.link_up();
    w.done();
    ask(&mut w);
    let request = registration(&w).expect("asked");
    w.frame(
        json!({"type":"error","id":request,"ok":false,"code":"node_control_failed",
        "message":"database is locked"}),
    );
    found(&mut w, bearer());
    assert_eq!(signed_off(&w), ["id_w1"]);
    assert_eq!(w.d.ledger().unanswered(&w1()), None);
}

#[test]
fn a_program_that_ran_unknown_to_the_engine_and_ended_after_it_was_asked_is_signed_off() {
    let mut w = World::new();
    lose_link(&mut w);
    ask(&mut w);
    w.pass(Duration::from_secs(25));
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 1 });
    w.link_up();
    assert!(registration(&w).is_some(), "its identity is asked for");
    lose_link(&mut w);
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    w.link_up();
    found(&mut w, bearer());
    assert_eq!(signed_off(&w), ["id_w1"]);
}

/// Who is signed off can acknowledge nothing any more.
#[test]
fn what_ended_for_an_identity_is_acknowledged_before_it_is_found_and_signed_off() {
    let mut w = World::new();
    w.link_up();
    let run = w.spawn("w1");
    w.mail("w1", 1);
    w.report("w1", run, AgentReport::Exited(How::default()));
    ask(&mut w);
    lose_link(&mut w);
    w.pass(Duration::from_secs(25));
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 1 });
    release(&mut w);
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    w.link_up();
    found(&mut w, bearer());
    let told = w.effects.iter().filter_map(|e| match e {
        Effect::Send(Up::DeliveryAck(ack)) => Some(format!("done up to {}", ack.up_to_seq)),
        Effect::Send(Up::AgentDeregister(_)) => Some("signed off".to_owned()),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), ["done up to 1", "signed off"]);
}

#[test]
fn who_comes_back_under_the_name_gets_the_identity_and_nobody_is_signed_off() {
    let mut w = asked_in_vain();
    w.pass(Duration::from_secs(25));
    w.done();
    w.link_up();
    let job = looked_for(&w);
    w.registered("w1");
    for job in job {
        w.tell(Event::RestJob(job, bearer()));
    }
    assert_eq!(signed_off(&w), [""; 0]);
    assert_eq!(w.d.ledger().unanswered(&w1()), None);
}

#[test]
fn a_name_that_the_engine_never_got_is_free() {
    let mut w = asked_in_vain();
    release(&mut w);
    ask(&mut w);
    w.done();
    w.link_up();
    found(&mut w, RestDone::Found(None));
    assert!(registration(&w).is_some());
}

#[test]
fn an_engine_that_does_not_say_who_bears_the_name_is_asked_now_and_then_and_callers_do_not_wait_for_it()
 {
    let mut w = asked_in_vain();
    w.link_up();
    w.done();
    release(&mut w);
    assert!(!is_released(&w));
    lose_link(&mut w);
    w.done();
    w.link_up();
    found(&mut w, away());
    assert_eq!(looked_for(&w).len(), 1, "not at once");
    w.pass(Duration::from_secs(3));
    assert!(is_released(&w));
    assert_eq!(looked_for(&w).len(), 2);
    found(&mut w, bearer());
    cleared(&mut w);
}
