//! Mail that is held back, and how long.

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

/// An agent with two messages, the first of which cannot be typed.
fn blocked(limit: Option<Duration>) -> (World, Run) {
    let mut w = World::new();
    w.config().limits.blocked = limit;
    w.link_up();
    let run = w.spawn("w1");
    w.mail("w1", 1);
    w.mail("w1", 2);
    w.done();
    stalled(&mut w, run, 1);
    (w, run)
}

fn id(seq: u64) -> DeliveryId {
    DeliveryId::new(format!("del_m{seq}_w1"))
}

fn stalled(w: &mut World, run: Run, seq: u64) {
    let why = "a dialog is open".to_owned();
    w.report("w1", run, AgentReport::Stalled(id(seq), why));
}

/// Which message the agent's thread was asked to forget since the last look.
fn withdrawing(w: &mut World) -> Option<DeliveryId> {
    w.done().into_iter().find_map(|e| match e {
        Effect::Agent(_, _, AgentCommand::Withdraw(id)) => Some(id),
        _ => None,
    })
}

fn dead(w: &World) -> Vec<String> {
    let letters = w.d.ledger().dead().iter();
    letters.map(|dead| dead.reason.clone()).collect()
}

#[test]
fn a_message_is_held_back_for_as_long_as_it_takes_unless_the_operator_says_how_long() {
    let (mut w, _) = blocked(None);
    for _ in 0..100 {
        w.pass(Duration::from_secs(3600));
    }
    assert_eq!(withdrawing(&mut w), None);
    assert_eq!((w.d.ledger().mail().len(), dead(&w).len()), (2, 0));
}

#[test]
fn a_message_that_was_held_back_too_long_is_a_dead_letter_with_the_reason_and_can_be_redelivered() {
    let (mut w, run) = blocked(Some(LIMIT));
    w.pass(LIMIT - Duration::from_millis(1));
    assert_eq!(withdrawing(&mut w), None);
    w.pass(Duration::from_millis(1));
    assert_eq!(withdrawing(&mut w), Some(id(1)));
    assert_eq!(dead(&w).len(), 0, "not before the thread has forgotten it");
    w.report("w1", run, AgentReport::Withdrawn(id(1)));
    assert!(
        matches!(&dead(&w)[..], [why] if why.contains("held back for 60 s") && why.ends_with("a dialog is open"))
    );
    assert_eq!(w.counters().deliveries_blocked, 1);
    let effects = w.done();
    let acks: Vec<Up> = effects
        .iter()
        .filter_map(|e| match e {
            Effect::Send(up) => Some(up.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(super::acks(&acks), [1], "it is over for the engine too");
    assert!(effects.iter().any(|e| matches!(
        e,
        Effect::Agent(_, _, AgentCommand::Inject(injection)) if injection.delivery_id == id(2)
    )));

    stalled(&mut w, run, 2);
    w.pass(Duration::from_millis(1));
    assert_eq!(withdrawing(&mut w), Some(id(2)), "it has waited as long");
    w.report("w1", run, AgentReport::Withdrawn(id(2)));
    w.mail("w1", 3);
    stalled(&mut w, run, 3);
    w.pass(LIMIT / 2);
    assert_eq!(withdrawing(&mut w), None, "this one has not");
    w.land("w1", &id(3));

    assert!(matches!(
        w.call(ApiCall::Redeliver(Some(id(1)))),
        Some(Ok(Reply::Redelivered(local::Redelivered { redelivered, .. }))) if redelivered.len() == 1
    ));
    assert!(
        w.injected()
            .is_some_and(|again| again.text.contains("text 1"))
    );
}

#[test]
fn a_message_whose_text_stands_in_the_terminal_is_not_given_up() {
    let (mut w, _) = blocked(Some(LIMIT));
    w.pass(LIMIT);
    assert_eq!(withdrawing(&mut w), Some(id(1)));
    w.pass(Duration::from_secs(9));
    assert_eq!(withdrawing(&mut w), None);
    w.pass(Duration::from_secs(1));
    assert_eq!(withdrawing(&mut w), Some(id(1)), "asked again");
    w.land("w1", &id(1));
    assert_eq!(dead(&w).len(), 0);
    w.pass(LIMIT * 2);
    assert_eq!(withdrawing(&mut w), None, "the next one is not held back");
}

#[test]
fn a_message_that_a_threads_queue_did_not_take_is_given_up_without_asking() {
    let mut w = World::new();
    w.config().limits.blocked = Some(LIMIT);
    w.link_up();
    let run = w.spawn("w1");
    w.mail("w1", 1);
    let wedged = |w: &mut World| {
        let report = AgentReport::NotTaken(id(1), "wedged".into());
        w.report("w1", run, report);
    };
    wedged(&mut w);
    for _ in 0..59 {
        w.pass(Duration::from_secs(1));
        wedged(&mut w);
    }
    assert_eq!(dead(&w).len(), 0);
    w.done();
    w.pass(Duration::from_secs(1));
    assert!(matches!(&dead(&w)[..], [why] if why.ends_with("wedged")));
    assert_eq!(w.injected(), None, "nor is it given to the thread again");
    w.pass(LIMIT);
    assert_eq!(w.injected(), None);
}
