//! Messages that interrupt go before those that wait.

use super::*;

/// An agent that takes messages, and has been given the first of three.
fn busy() -> (World, Run) {
    let (mut w, run) = World::with_agent("w1");
    w.done();
    (1..=3).for_each(|n| w.mail("w1", n));
    assert_eq!(given(&mut w), Some(1));
    (w, run)
}

fn id(seq: u64) -> DeliveryId {
    DeliveryId::new(format!("del_m{seq}_w1"))
}

/// Which message was given to the agent's thread since the last look.
fn given(w: &mut World) -> Option<u64> {
    let injection = w.injected()?;
    let (_, number) = injection.text.rsplit_once(' ').expect("text N");
    number.parse().ok()
}

/// Which it was asked to give back.
fn asked_back(w: &mut World) -> Option<DeliveryId> {
    w.done().into_iter().find_map(|effect| match effect {
        Effect::Agent(_, _, AgentCommand::Withdraw(id)) => Some(id),
        _ => None,
    })
}

fn attempts(w: &World, seq: u64) -> u32 {
    w.d.ledger().mail().get(&id(seq)).map_or(0, |p| p.attempts)
}

#[test]
fn a_message_that_interrupts_goes_before_those_that_wait() {
    let (mut w, _) = busy();
    w.urgent_mail("w1", 4);
    w.urgent_mail("w1", 5);
    // Something of the first is in the terminal, so it stays there.
    assert_eq!(asked_back(&mut w), Some(id(1)));
    for (landed, next) in [(1, 4), (4, 5), (5, 2), (2, 3)] {
        w.land("w1", &id(landed));
        assert_eq!(given(&mut w), Some(next), "after {landed}");
    }
    w.land("w1", &id(3));
    assert_eq!(w.d.ledger().settled(&AgentId::new("id_w1")), Some(Seq(5)));
}

#[test]
fn a_message_of_which_nothing_is_typed_makes_way_for_one_that_interrupts_and_keeps_its_place() {
    let (mut w, run) = busy();
    w.urgent_mail("w1", 4);
    assert_eq!(asked_back(&mut w), Some(id(1)));
    w.report("w1", run, AgentReport::Withdrawn(id(1)));
    assert_eq!(given(&mut w), Some(4));
    assert!(w.d.ledger().dead().is_empty(), "it is not given up");
    // Another that interrupts waits for it.
    w.urgent_mail("w1", 5);
    assert_eq!(asked_back(&mut w), None);
    for (landed, next) in [(4, 5), (5, 1), (1, 2)] {
        w.land("w1", &id(landed));
        assert_eq!((given(&mut w), attempts(&w, next)), (Some(next), 1));
    }
}

#[test]
fn a_message_that_a_wedged_thread_did_not_take_makes_way_without_being_asked_for() {
    let (mut w, run) = busy();
    w.report("w1", run, AgentReport::NotTaken(id(1), "wedged".into()));
    w.urgent_mail("w1", 4);
    assert_eq!(given(&mut w), Some(4));
    w.land("w1", &id(4));
    assert_eq!((given(&mut w), attempts(&w, 1)), (Some(1), 1));
}

#[test]
fn what_is_parked_goes_out_in_the_order_in_which_it_came() {
    let (mut w, _) = busy();
    w.land("w1", &id(1));
    w.land("w1", &id(2));
    w.land("w1", &id(3));
    w.done();
    w.call(ApiCall::SetMode(
        AgentName::new("w1"),
        DeliveryMode::ManualFlush,
    ));
    w.mail("w1", 4);
    w.urgent_mail("w1", 5);
    w.call(ApiCall::Flush(AgentName::new("w1")));
    assert_eq!(given(&mut w), Some(4));
    w.land("w1", &id(4));
    assert_eq!(given(&mut w), Some(5));
}
