//! A stop that lets messages arrive that are being typed.

use super::*;
use crate::msg::ExitReason;

const SECOND: Duration = Duration::from_secs(1);

/// A broker whose agent has one message in its terminal and one behind it, and that was told to drain for ten seconds.
fn draining() -> (World, Injection) {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.mail("w1", 2);
    let typed = w.injected().expect("typed");
    w.done();
    let until = w.now.mono + SECOND * 10;
    w.tell(Event::Drain {
        until,
        rest: SECOND * 5,
    });
    (w, typed)
}

fn hung_up(effects: &[Effect]) -> bool {
    let stops = |e: &Effect| matches!(e, Effect::Agent(_, _, AgentCommand::Stop { .. }));
    effects.iter().any(stops)
}

#[test]
fn what_is_being_typed_arrives_and_is_acknowledged_before_agents_are_ended_and_nothing_new_is_taken()
 {
    let (mut w, typed) = draining();
    let effects = w.done();
    assert!(!hung_up(&effects), "{effects:?}");
    assert!(
        effects.iter().any(|e| matches!(
            e,
            Effect::Send(Up::NodeHeartbeat(NodeHeartbeat {
                handlers_live: false,
                ..
            }))
        )),
        "no more spawns are placed here: {effects:?}"
    );
    w.mail("w1", 3);
    assert_eq!(w.d.ledger().mail().len(), 2, "it stays the engine's");
    let answer = w.call(ApiCall::Send(local::SendRequest {
        to: "w1".into(),
        text: "hello".into(),
        ..local::SendRequest::default()
    }));
    let refused = answer.expect("at once").expect_err("no more is taken");
    assert_eq!(refused.kind, RefusalKind::Stopping);
    w.done();
    w.land("w1", &typed.delivery_id);
    let effects = w.done();
    assert!(hung_up(&effects), "{effects:?}");
    let injects = |e: &Effect| matches!(e, Effect::Agent(_, _, AgentCommand::Inject(_)));
    assert!(!effects.iter().any(injects), "{effects:?}");
    let acknowledged = |e: &Effect| matches!(e, Effect::Send(Up::DeliveryAck(_)));
    assert!(effects.iter().any(acknowledged), "{effects:?}");
    assert_eq!(w.d.ledger().mail().len(), 1, "the second waits on disk");
}

#[test]
fn a_message_that_does_not_arrive_is_waited_for_as_long_as_was_said() {
    let (mut w, _) = draining();
    w.pass(SECOND * 9);
    assert!(!hung_up(&w.done()));
    w.pass(SECOND * 2);
    assert!(hung_up(&w.done()));
    // And from there on it ends as any stop does, in the time that it has.
    w.pass(SECOND * 6);
    w.pass(SECOND);
    let exits = |e: &Effect| matches!(e, Effect::Exit(ExitReason::DeadlinePassed));
    assert!(w.done().iter().any(exits));
}

#[test]
fn a_second_stop_waits_for_nothing() {
    let (mut w, _) = draining();
    w.done();
    let deadline = w.now.mono + SECOND / 2;
    w.tell(Event::Shutdown { deadline });
    let kills = |e: &Effect| {
        let grace = Duration::ZERO;
        matches!(e, Effect::Agent(_, _, AgentCommand::Stop { grace: g }) if *g == grace)
    };
    assert!(w.done().iter().any(kills));
}

#[test]
fn a_drain_with_nothing_in_a_terminal_is_a_stop() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    let until = w.now.mono + SECOND * 10;
    w.tell(Event::Drain {
        until,
        rest: SECOND * 5,
    });
    assert!(hung_up(&w.done()));
    let mut w = World::new();
    w.tell(Event::Drain {
        until: w.now.mono + SECOND,
        rest: SECOND,
    });
    let exits = |e: &Effect| matches!(e, Effect::Exit(ExitReason::Stopped));
    assert!(w.done().iter().any(exits));
}
