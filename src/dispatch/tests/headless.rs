//! Agents without a terminal, and programs that drop what they were given.

use super::*;

fn dropped(w: &mut World, id: &DeliveryId) {
    let why = "exit code 1".to_owned();
    w.report("w1", w.run_of("w1"), AgentReport::Dropped(id.clone(), why));
}

fn attempts(w: &World, id: &DeliveryId) -> u32 {
    w.d.ledger().mail().get(id).map_or(0, |p| p.attempts)
}

#[test]
fn what_a_program_drops_is_given_to_it_again_as_another_attempt_and_before_what_came_later() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.mail("w1", 2);
    let first = w.injected().expect("given").delivery_id;
    for attempt in 2..=4 {
        w.done();
        dropped(&mut w, &first);
        assert!(w.injected().is_none(), "not at once");
        w.pass(Duration::from_secs(6));
        assert_eq!(w.injected().expect("given again").delivery_id, first);
        assert_eq!(attempts(&w, &first), attempt);
    }
    assert!(acks(&w.sent()).is_empty());
    w.land("w1", &first);
    w.pass(Duration::from_secs(6));
    assert_eq!(acks(&w.sent()), [1]);
}

#[test]
fn what_a_program_drops_each_time_is_a_dead_letter_with_the_reason_and_the_next_has_its_turn() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    w.mail("w1", 2);
    let first = w.injected().expect("given").delivery_id;
    for _ in 0..3 {
        dropped(&mut w, &first);
        w.pass(Duration::from_secs(6));
    }
    w.done();
    dropped(&mut w, &first);
    assert_eq!(acks(&w.sent()), [1], "given up is over");
    w.pass(Duration::from_secs(6));
    let next = w.injected().expect("the next").delivery_id;
    assert_ne!(next, first);
    let dead: Vec<_> = w.d.ledger().dead().iter().collect();
    assert_eq!(dead.len(), 1);
    dropped(&mut w, &first);
    assert_eq!(w.d.ledger().dead().iter().count(), 1, "it is not in hand");
}

#[test]
fn an_agent_without_a_terminal_shows_no_picture_and_is_started_so_by_whoever_says_so() {
    let mut w = World::new();
    w.config().harness_table.insert(
        "mine".into(),
        crate::msg::Harness {
            command: "/opt/claude".into(),
            headless: true,
            ..Default::default()
        },
    );
    w.link_up();
    for (name, cli, transport, headless) in [
        ("a", "mine", None, true),
        ("b", "mine", Some("pty"), false),
        ("c", "opencode", Some("headless"), true),
        ("d", "claude", None, false),
    ] {
        let wish = local::SpawnRequest {
            cli: Some(cli.into()),
            transport: transport.map(str::to_owned),
            ..request(name)
        };
        w.call(ApiCall::Spawn(Box::new(wish), SpawnSource::Api));
        w.registered(name);
        w.report(name, w.run_of(name), AgentReport::Started { pid: 4242 });
        let Some(Ok(Reply::Agents(list))) = w.call(ApiCall::Agents) else {
            panic!("no list");
        };
        let row = list.agents.iter().find(|row| row.name.as_str() == name);
        let runtime = &row.expect("it is here").runtime;
        assert_eq!(runtime == "headless", headless, "{name}: {runtime}");
        let picture = w.call(ApiCall::Snapshot {
            name: AgentName::new(name),
            ansi: false,
        });
        let refused =
            matches!(picture, Some(Err(refusal)) if refusal.kind == RefusalKind::NoTerminal);
        assert_eq!(refused, headless, "{name}");
    }
}
