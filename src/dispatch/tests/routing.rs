//! Whom a frame means: by the id of the agent, and by the name only where there is no id.

use super::*;

fn frame(w: &mut World, agent_id: &str, agent: &str, seq: u64) {
    w.frame(json!({"type":"deliver","delivery_id":format!("d{agent_id}{seq}"),"agent_id":agent_id,"agent":agent,
        "msg_id":format!("m{agent_id}{seq}"),"seq":seq,"mode":"wait",
        "payload":{"type":"dm.received","data":{"from_name":"lead","text":"hello"}}}));
}

fn with_ada() -> World {
    let (mut w, _) = World::with_agent("ada");
    w.done();
    w
}

fn acked_names(w: &mut World) -> Vec<String> {
    let sent = w.sent().into_iter();
    sent.filter_map(|up| match up {
        Up::DeliveryAck(ack) => Some(ack.agent.to_string()),
        _ => None,
    })
    .collect()
}

fn buried(w: &mut World) -> Vec<String> {
    let dead = w.d.ledger().dead().iter();
    dead.map(|dead| dead.reason.clone()).collect()
}

/// N23: the id says whom a frame means, and the engine is answered in the name that it used.
#[test]
fn mail_with_an_agents_id_reaches_it_under_whatever_name_the_engine_has_for_it() {
    let mut w = with_ada();
    frame(&mut w, "id_ada", "ada-lovelace", 1);
    let one = w.injected().expect("typed into ada");
    w.land("ada", &one.delivery_id);
    assert_eq!(acked_names(&mut w), ["ada-lovelace"]);
}

/// N23, N24: the acknowledgement goes under the name that the engine used last.
#[test]
fn a_name_that_the_engine_used_once_does_not_stay() {
    let mut w = with_ada();
    frame(&mut w, "id_ada", "zed", 1);
    let one = w.injected().expect("typed into ada");
    frame(&mut w, "id_ada", "ada", 2);
    w.land("ada", &one.delivery_id);
    assert_eq!(acked_names(&mut w), ["ada"]);
}

/// N23: a name alone is no address where the id is another one's.
#[test]
fn mail_for_a_namesake_is_never_typed_but_a_dead_letter_that_says_why() {
    let mut w = with_ada();
    frame(&mut w, "id_other", "ada", 1);
    assert!(w.injected().is_none());
    assert!(buried(&mut w)[0].contains("another agent of this name"));
    frame(&mut w, "id_ada", "ada", 1);
    assert!(w.injected().is_some(), "ada's own mail goes on");
}

/// N23: two agents whose names the engine has exchanged.
#[test]
fn mail_of_two_agents_whose_names_were_exchanged_goes_by_their_ids() {
    let mut w = with_ada();
    w.spawn("bob");
    w.done();
    frame(&mut w, "id_ada", "bob", 1);
    let to = w.done().into_iter().find_map(|e| match e {
        Effect::Agent(name, _, AgentCommand::Inject(_)) => Some(name),
        _ => None,
    });
    assert_eq!(to, Some(AgentName::new("ada")));
    assert!(w.d.ledger().dead().is_empty());
}

/// N23: engines of the 4.x line name no id.
#[test]
fn mail_without_an_id_goes_by_the_name() {
    let mut w = with_ada();
    frame(&mut w, "", "ada", 1);
    assert!(w.injected().is_some());
}

/// N23: an agent that is not here at the moment keeps its mail by its id, too.
#[test]
fn mail_for_a_namesake_of_an_agent_that_crashed_does_not_wait_for_it() {
    let mut w = with_ada();
    let run = w.run_of("ada");
    w.report("ada", run, AgentReport::Exited(How::default()));
    frame(&mut w, "id_other", "ada", 1);
    frame(&mut w, "id_ada", "ada-lovelace", 1);
    assert_eq!(w.d.ledger().dead().len(), 1);
    assert_eq!(w.d.ledger().mail().waiting(&AgentName::new("ada")), 1);
}

/// N27: nobody here has that name or that id.
#[test]
fn mail_for_an_unknown_agent_is_acknowledged_and_told() {
    let mut w = with_ada();
    frame(&mut w, "id_eve", "eve", 1);
    let effects = w.done();
    let told = |e: &Effect| matches!(e, Effect::Publish(_, BrokerEvent::MessageDeliveryFailed { name, .. }) if name.as_str() == "eve");
    assert!(effects.iter().any(told), "{effects:?}");
    let acks =
        |e: &Effect| matches!(e, Effect::Send(Up::DeliveryAck(ack)) if ack.up_to_seq == Seq(1));
    assert!(effects.iter().any(acks), "{effects:?}");
    assert!(w.d.ledger().mail().is_empty());
}
