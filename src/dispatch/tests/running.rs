//! How agents and the broker itself start, idle and stop.

use super::*;

#[test]
fn a_spawn_is_answered_when_the_program_runs_and_the_engine_knows_first() {
    let mut w = World::new();
    w.link_up();
    w.done();
    assert_eq!(
        w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api)),
        None
    );
    w.registered("w1");
    let spec = w.effects.iter().find_map(|e| {
        if let Effect::Spawn(_, spec) = e {
            Some(spec.clone())
        } else {
            None
        }
    });
    let spec = spec.expect("the thread is started");
    assert_eq!(spec.argv, ["cat", "-v"]);
    assert_eq!(
        spec.token.map(|t| t.reveal().to_owned()).as_deref(),
        Some("at_live_x")
    );
    let run = w.run_of("w1");
    w.done();
    w.report("w1", run, AgentReport::Started { pid: 9 });
    let order: Vec<_> = w
        .done()
        .into_iter()
        .filter(|e| matches!(e, Effect::Send(_) | Effect::Reply(..)))
        .collect();
    assert!(
        matches!(
            &order[..],
            [
                Effect::Send(Up::InventorySync(_)),
                Effect::Send(Up::NodeHeartbeat(_)),
                Effect::Reply(_, Ok(Reply::Spawned(local::Spawned { pid: Some(9), .. })))
            ]
        ),
        "{order:?}"
    );
}

/// N17: a failed start is refused, and its agent is taken back at the engine.
#[test]
fn a_command_that_cannot_start_is_refused_and_taken_back_at_the_engine() {
    let why = "no such program".to_owned();
    let full = "no terminal left".to_owned();
    for (report, kind) in [
        (AgentReport::NotStarted { why }, RefusalKind::SpawnFailed),
        // It may be asked for again, unlike the other.
        (AgentReport::NoRoom { why: full }, RefusalKind::NoRoom),
    ] {
        let mut w = World::new();
        w.link_up();
        w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
        w.registered("w1");
        let run = w.run_of("w1");
        w.done();
        w.report("w1", run, report);
        let effects = w.done();
        assert!(
            effects
                .iter()
                .any(|e| matches!(e, Effect::Send(Up::AgentDeregister(_))))
        );
        assert!(
            effects
                .iter()
                .any(|e| matches!(e, Effect::Reply(_, Err(r)) if r.kind == kind)),
            "{effects:?}"
        );
        assert!(
            w.call(ApiCall::Agents)
                .is_some_and(|a| a == Ok(Reply::Agents(local::AgentList::default())))
        );
    }
}

#[test]
fn a_name_can_be_taken_once() {
    let (mut w, _) = World::with_agent("w1");
    let answer = w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    assert!(matches!(answer, Some(Err(r)) if r.kind == RefusalKind::NameTaken));
}

#[test]
fn a_spawn_on_behalf_of_an_engine_that_went_away_fails_with_the_reason() {
    let mut w = World::new();
    w.tell(Event::Link(LinkReport::Lost("connection refused".into())));
    let served = SpawnSource::Served(InvocationId::new("i1"));
    assert_eq!(
        w.call(ApiCall::Spawn(Box::new(request("w1")), served)),
        None
    );
    w.pass(Duration::from_secs(21));
    let refused = w.done().into_iter().any(|e| {
        matches!(e, Effect::Reply(_, Err(r)) if r.kind == RefusalKind::Engine && r.message.contains("connection refused"))
    });
    assert!(refused);
}

/// H5: a stop says first that no handler is live, and last that the node leaves.
#[test]
fn stopping_hangs_up_on_everybody_and_then_says_goodbye() {
    let (mut w, run) = World::with_agent("w1");
    w.mail("w1", 1);
    w.done();
    w.tell(Event::Shutdown {
        deadline: w.now.mono + Duration::from_secs(5),
    });
    let effects = w.done();
    assert!(
        matches!(
            &effects[..],
            [
                Effect::Send(Up::NodeHeartbeat(NodeHeartbeat {
                    handlers_live: false,
                    ..
                })),
                Effect::Agent(_, _, AgentCommand::Stop { .. })
            ]
        ),
        "no more spawns are placed here: {effects:?}"
    );
    w.mail("w1", 2);
    assert_eq!(w.d.ledger().mail().len(), 1, "new mail stays the engine's");
    w.report(
        "w1",
        run,
        AgentReport::Exited(How {
            signal: Some(1),
            ..How::default()
        }),
    );
    let effects = w.done();
    assert!(matches!(
        &effects[effects.len() - 3..],
        [
            Effect::Send(Up::NodeDeregister(_)),
            Effect::Link(_),
            Effect::Exit(crate::msg::ExitReason::Stopped)
        ]
    ));
    assert_eq!(
        World::after(w.journal).d.ledger().mail().len(),
        1,
        "the half-typed one is kept for the next life"
    );
}

#[test]
fn a_second_stop_kills_and_a_passed_deadline_kills_before_leaving() {
    let (mut w, _) = World::with_agent("deaf");
    w.done();
    w.tell(Event::Shutdown {
        deadline: w.now.mono + Duration::from_secs(5),
    });
    w.done();
    w.tell(Event::Shutdown {
        deadline: w.now.mono + Duration::from_secs(1),
    });
    let kills = |effects: Vec<Effect>| {
        effects.iter().any(|e| {
            matches!(
                e,
                Effect::Agent(
                    _,
                    _,
                    AgentCommand::Stop {
                        grace: Duration::ZERO
                    }
                )
            )
        })
    };
    assert!(kills(w.done()));
    w.pass(Duration::from_secs(1));
    assert!(kills(w.done()), "once more before leaving");
    w.pass(Duration::from_secs(1));
    assert!(
        w.done()
            .contains(&Effect::Exit(crate::msg::ExitReason::DeadlinePassed))
    );
}

#[test]
fn an_idle_broker_wakes_for_its_heartbeat_and_nothing_else() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    assert_eq!(w.d.deadline(), Some(w.now.mono + HEARTBEAT));
    w.pass(HEARTBEAT);
    assert!(matches!(&w.sent()[..], [Up::NodeHeartbeat(h)] if h.active_agents == 1));
}

#[test]
fn while_nothing_can_be_written_signs_of_life_looks_and_ends_go_on_and_nothing_changes() {
    let (w, run) = World::with_agent("w1");
    let before = w.d.ledger().image();
    let aside = |event: Event| {
        let mut effects = Vec::new();
        let all = w.d.meanwhile(w.now, &event, &mut effects);
        (all, effects)
    };
    let (all, effects) = aside(Event::Tick);
    assert!(
        !all && matches!(&effects[..], [Effect::Send(Up::NodeHeartbeat(h))] if h.active_agents == 1)
    );
    for look in [ApiCall::Agents, ApiCall::Status, ApiCall::DeadLetters] {
        let (all, effects) = aside(Event::Call(Ticket(1), look));
        assert!(
            all && matches!(&effects[..], [Effect::Reply(Ticket(1), Ok(_))]),
            "{effects:?}"
        );
    }
    let end = Effect::Agent(
        AgentName::new("w1"),
        run,
        AgentCommand::Stop {
            grace: Duration::from_secs(1),
        },
    );
    let name = AgentName::new("w1");
    let release = Event::Call(
        Ticket(2),
        ApiCall::Release {
            name: name.clone(),
            reason: None,
        },
    );
    let releasing = Effect::Reply(Ticket(2), Ok(Reply::Releasing { name }));
    assert_eq!(aside(release), (false, vec![end.clone(), releasing]));
    assert_eq!(
        aside(Event::Shutdown { deadline: Mono(9) }),
        (false, vec![end])
    );
    let other = Event::Call(Ticket(3), ApiCall::Redeliver(None));
    assert_eq!(aside(other), (false, Vec::new()));
    assert_eq!(w.d.ledger().image(), before);
}
