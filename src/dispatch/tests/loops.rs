//! Agents that answer each other without end are stopped; nothing of theirs is lost, and a person's word lets them go on.

use super::*;
use crate::dispatch::{SteerFrom, TalkLimits};
use crate::wire::local::SendRequest;

fn name(text: &str) -> AgentName {
    AgentName::new(text)
}

fn sent(w: &mut World, from: Option<&str>, to: &str, steer: bool) -> local::Sent {
    let request = SendRequest {
        to: to.into(),
        text: "thank you".into(),
        from: from.map(str::to_owned),
        mode: steer.then(|| "steer".to_owned()),
        by_agent: from.is_some(),
        ..SendRequest::default()
    };
    match w.call(ApiCall::Send(request)) {
        Some(Ok(Reply::Sent(sent))) => sent,
        other => panic!("{other:?}"),
    }
}

fn team(names: &[&str]) -> World {
    let mut w = World::new();
    w.link_up();
    for name in names {
        w.spawn(name);
    }
    w.done();
    w
}

/// Each agent reads what it is given, and answers whomever `next` says, until nothing moves any more; how many were read.
fn endless(w: &mut World, next: impl Fn(&str, &str) -> String) -> u32 {
    let mut read = 0;
    loop {
        let orders: Vec<(AgentName, Injection)> =
            w.done().into_iter().filter_map(injection).collect();
        if orders.is_empty() {
            return read;
        }
        w.pass(Duration::from_secs(2));
        for (reader, order) in orders {
            read += 1;
            assert!(read < 10_000, "it never ends");
            let from = order.text.split(' ').nth(3).expect("who speaks").to_owned();
            w.land(reader.as_str(), &order.delivery_id);
            let to = next(&from, reader.as_str());
            sent(w, Some(reader.as_str()), &to, false);
        }
    }
}

fn injection(effect: Effect) -> Option<(AgentName, Injection)> {
    match effect {
        Effect::Agent(name, _, AgentCommand::Inject(order)) => Some((name, *order)),
        _ => None,
    }
}

fn back(from: &str, _: &str) -> String {
    from.to_owned()
}

fn suspicions(w: &World) -> Vec<(String, String, u32, u32)> {
    let told = w.effects.iter().filter_map(|effect| match effect {
        Effect::Publish(
            _,
            BrokerEvent::LoopSuspected {
                name,
                from,
                count,
                limit,
                ..
            },
        ) => Some((name.to_string(), from.to_string(), *count, *limit)),
        _ => None,
    });
    told.collect()
}

fn held(w: &World) -> usize {
    w.d.ledger().mail().all().filter(|p| p.suspended).count()
}

#[test]
fn two_that_thank_each_other_are_stopped_at_the_limit_and_a_persons_word_lets_them_go_on() {
    let mut w = team(&["ada", "bob"]);
    let limit = 10;
    w.config().limits.talk.pair = limit;
    sent(&mut w, Some("ada"), "bob", false);
    assert_eq!(endless(&mut w, back), limit);
    assert_eq!(
        (held(&w), w.d.ledger().mail().len()),
        (1, 1),
        "held and not lost"
    );
    let view = shown(&mut w, "bob");
    assert_eq!((view.suspended_messages, view.pending_messages), (1, 1));

    w.done();
    assert!(
        sent(&mut w, Some("ada"), "bob", true).suspended,
        "nothing overtakes it"
    );
    assert!(suspicions(&w).is_empty(), "it is told once");
    assert!(w.injected().is_none());

    sent(&mut w, None, "bob", false);
    assert_eq!(held(&w), 0);
    let texts = endless(&mut w, |_, reader| {
        if reader == "bob" { "ada" } else { "bob" }.into()
    });
    assert!(texts > 3, "{texts} went on");
    assert_eq!(w.d.ledger().dead().len(), 0);
}

#[test]
fn the_event_names_the_pair_with_its_count_and_limit() {
    let mut w = team(&["ada", "bob"]);
    w.config().limits.talk.pair = 3;
    for _ in 0..2 {
        sent(&mut w, Some("ada"), "bob", false);
        sent(&mut w, Some("bob"), "ada", false);
    }
    assert_eq!(suspicions(&w), [("ada".into(), "bob".into(), 4, 3)]);
    let reason = SUSPENDED_WORDS;
    let pending = match w.call(ApiCall::Status) {
        Some(Ok(Reply::Status(status))) => status.pending_deliveries,
        other => panic!("{other:?}"),
    };
    let why: Vec<_> = pending
        .iter()
        .filter_map(|row| row.last_error.as_deref())
        .collect();
    assert_eq!(why.len(), 1);
    assert!(why[0].contains(reason), "{why:?}");
}

const SUSPENDED_WORDS: &str = "answer each other without end";

#[test]
fn a_ring_of_three_and_a_star_of_eight_are_stopped_and_nothing_is_lost() {
    let few = TalkLimits {
        pair: 12,
        chain: 30,
        ..TalkLimits::default()
    };
    let mut w = team(&["a0", "a1", "a2"]);
    w.config().limits.talk = few;
    sent(&mut w, Some("a0"), "a1", false);
    let ring = |_: &str, reader: &str| match reader {
        "a0" => "a1".to_owned(),
        "a1" => "a2".to_owned(),
        _ => "a0".to_owned(),
    };
    let read = endless(&mut w, ring);
    assert_eq!(
        read, few.chain,
        "each is counted once, wherever it is in the ring"
    );
    assert_eq!((held(&w), w.d.ledger().dead().len()), (1, 0));
    let reader = w.d.ledger().mail().all().find(|p| p.suspended);
    let reader = reader.map(|p| p.delivery.agent.to_string()).expect("held");
    sent(&mut w, None, &reader, false);
    assert_eq!(held(&w), 0, "a word to its reader lets it go");

    let leaves: Vec<String> = (1..=8).map(|n| format!("leaf{n}")).collect();
    let mut names = vec!["hub"];
    names.extend(leaves.iter().map(String::as_str));
    let mut w = team(&names);
    w.config().limits.talk = few;
    for leaf in &leaves {
        sent(&mut w, Some("hub"), leaf, false);
    }
    assert_eq!(endless(&mut w, back), 8 * few.pair);
    assert_eq!((held(&w), w.d.ledger().dead().len()), (8, 0));
    sent(&mut w, None, "hub", false);
    assert_eq!(held(&w), 0, "a word to the hub lets all of its pairs go on");
}

#[test]
fn flush_lets_go_what_is_held_and_says_how_much() {
    let mut w = team(&["ada", "bob"]);
    w.config().limits.talk.pair = 1;
    sent(&mut w, Some("bob"), "ada", false);
    let first = w.injected().expect("the first goes through");
    w.land("ada", &first.delivery_id);
    for _ in 0..3 {
        sent(&mut w, Some("bob"), "ada", false);
    }
    assert!(w.injected().is_none());
    assert_eq!(
        w.call(ApiCall::Flush(name("ada"))),
        Some(Ok(Reply::Flushed(3)))
    );
    assert_eq!(held(&w), 0);
    assert!(w.injected().is_some());
}

#[test]
fn of_an_agent_on_hold_a_flush_lets_go_both_what_is_parked_and_what_is_held() {
    let mut w = team(&["ada", "bob"]);
    w.config().limits.talk.pair = 1;
    let hold = ApiCall::SetMode(name("ada"), DeliveryMode::ManualFlush);
    w.call(hold);
    for _ in 0..3 {
        sent(&mut w, Some("bob"), "ada", false);
    }
    assert_eq!(held(&w), 2);
    assert_eq!(
        w.call(ApiCall::Flush(name("ada"))),
        Some(Ok(Reply::Flushed(3)))
    );
    for _ in 0..3 {
        let order = w.injected().expect("all three go out");
        w.land("ada", &order.delivery_id);
    }
}

#[test]
fn what_is_held_is_held_after_a_restart_too() {
    let mut w = team(&["ada", "bob"]);
    w.config().limits.talk.pair = 1;
    for _ in 0..2 {
        sent(&mut w, Some("bob"), "ada", false);
    }
    let first = w.injected().expect("the first");
    w.land("ada", &first.delivery_id);
    let mut w = World::after(w.journal);
    w.link_up();
    w.spawn("ada");
    w.spawn("bob");
    assert_eq!(held(&w), 1);
    assert!(w.injected().is_none(), "a restart is no person's word");
    sent(&mut w, None, "ada", false);
    let next = w.injected().expect("what was held, and then the word");
    assert!(
        next.text.starts_with("Relay message from bob"),
        "{}",
        next.text
    );
}

#[test]
fn mail_of_others_passes_what_is_held() {
    let mut w = team(&["ada", "bob", "eve"]);
    w.config().limits.talk.pair = 1;
    for _ in 0..2 {
        sent(&mut w, Some("bob"), "ada", false);
    }
    let first = w.injected().expect("the first");
    w.land("ada", &first.delivery_id);
    sent(&mut w, Some("eve"), "ada", false);
    let next = w.injected().expect("hers");
    assert!(
        next.text.starts_with("Relay message from eve"),
        "{}",
        next.text
    );
    assert_eq!(held(&w), 1);
}

#[test]
fn who_is_released_leaves_what_is_held_as_dead_letters() {
    let mut w = team(&["ada", "bob"]);
    w.config().limits.talk.pair = 1;
    for _ in 0..2 {
        sent(&mut w, Some("bob"), "ada", false);
    }
    let release = ApiCall::Release {
        name: name("ada"),
        reason: None,
    };
    w.call(release);
    let run = w.run_of("ada");
    w.report("ada", run, AgentReport::Exited(How::default()));
    let ledger = w.d.ledger();
    assert_eq!(
        (ledger.mail().waiting(&name("ada")), ledger.dead().len()),
        (0, 2)
    );
    assert_eq!(held(&w), 0);
}

#[test]
fn an_agent_may_not_interrupt_where_only_people_may() {
    let mut w = team(&["ada", "bob"]);
    let mode = |w: &World| w.d.ledger().mail().all().last().map(|p| p.delivery.mode);
    assert!(!sent(&mut w, Some("bob"), "ada", true).steer_refused);
    assert_eq!(mode(&w), Some(Mode::Steer));
    w.config().limits.talk.steer_from = SteerFrom::People;
    assert!(sent(&mut w, Some("bob"), "ada", true).steer_refused);
    assert_eq!(mode(&w), Some(Mode::Wait), "it waits its turn");
    assert!(!sent(&mut w, Some("ann"), "ada", true).steer_refused);
    assert_eq!(mode(&w), Some(Mode::Steer));
}

fn shown(w: &mut World, agent: &str) -> local::AgentView {
    match w.call(ApiCall::Agents) {
        Some(Ok(Reply::Agents(list))) => list
            .agents
            .into_iter()
            .find(|a| a.name.as_str() == agent)
            .expect("it runs"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_speaks_in_an_agents_name_with_the_brokers_key_is_a_person() {
    let mut w = team(&["ada", "bob"]);
    w.config().limits.talk.pair = 1;
    w.config().limits.talk.steer_from = SteerFrom::People;
    for _ in 0..3 {
        sent(&mut w, Some("bob"), "ada", false);
    }
    assert_eq!(held(&w), 2);
    let request = SendRequest {
        to: "ada".into(),
        text: "that is enough".into(),
        from: Some("bob".into()),
        mode: Some("steer".into()),
        ..SendRequest::default()
    };
    let answer = match w.call(ApiCall::Send(request)) {
        Some(Ok(Reply::Sent(sent))) => sent,
        other => panic!("{other:?}"),
    };
    assert!(!answer.suspended && !answer.steer_refused, "{answer:?}");
    assert_eq!(held(&w), 0, "a person's word lets go what is held");
    assert!(
        !sent(&mut w, Some("bob"), "ada", false).suspended,
        "and it was not counted"
    );
}
