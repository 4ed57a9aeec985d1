//! Agents that start while the engine is away, and get to know it later.

use super::*;

/// A broker whose engine has been away for a while, and what its program was started with.
fn away(agents: Vec<local::SpawnRequest>) -> World {
    let mut w = World::after_declaring(Vec::new(), agents);
    w.tell(Event::Link(LinkReport::Lost("connection refused".into())));
    w.pass(Duration::from_secs(5));
    w
}

/// Nothing answers by HTTP either.
fn unreachable(w: &mut World) {
    w.pass(Duration::ZERO);
    let asked = w.done().into_iter().find_map(|e| match e {
        Effect::RestJob(id, RestCall::Identify(_)) => Some(id),
        _ => None,
    });
    let failed = RestDone::Failed {
        status: None,
        code: "unreachable".into(),
        message: "connection refused".into(),
    };
    w.tell(Event::RestJob(asked.expect("it asks by HTTP"), failed));
}

/// The tokens of the programs that were started since the last look.
fn programs(w: &mut World) -> Vec<Option<Secret>> {
    let started = |effect| match effect {
        Effect::Spawn(_, spec) => Some(spec.token),
        _ => None,
    };
    w.done().into_iter().filter_map(started).collect()
}

fn runs(w: &mut World) -> Run {
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 7 });
    run
}

fn is_ready(w: &mut World, run: Run) {
    let evidence = "quiet".into();
    w.report("w1", run, AgentReport::Ready { evidence });
}

fn view(w: &mut World) -> local::AgentView {
    match w.call(ApiCall::Agents) {
        Some(Ok(Reply::Agents(list))) => list.agents[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_spawn_while_the_engine_is_away_is_answered_at_once_and_known_to_it_later() {
    let mut w = away(Vec::new());
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    unreachable(&mut w);
    assert_eq!(programs(&mut w), [None], "without an identity");
    let run = runs(&mut w);
    let spawned = w.done().into_iter().find_map(|e| match e {
        Effect::Reply(_, Ok(Reply::Spawned(spawned))) => Some(spawned),
        _ => None,
    });
    let spawned = spawned.expect("the caller hears");
    assert!(!spawned.pre_registered);
    assert!(
        spawned
            .warning
            .is_some_and(|w| w.contains("the engine is away"))
    );
    is_ready(&mut w, run);
    w.call(ApiCall::Send(local::SendRequest {
        to: "w1".into(),
        text: "local".into(),
        ..Default::default()
    }));
    let words = w.injected().expect("what this machine has to say");
    w.land("w1", &words.delivery_id);

    w.link_up();
    w.registered("w1");
    w.quiet();
    let sent = w.sent();
    let listed = |up: &Up| matches!(up, Up::InventorySync(list) if list.agents.len() == 1);
    assert!(sent.iter().any(listed), "{sent:?}");
    assert_eq!(view(&mut w).agent_id.as_deref(), Some("id_w1"));
    w.mail("w1", 1);
    assert!(
        w.injected()
            .expect("the engine's mail")
            .text
            .ends_with("text 1")
    );

    w.call(ApiCall::Restart(AgentName::new("w1")));
    w.report("w1", run, AgentReport::Exited(How::default()));
    assert_eq!(
        programs(&mut w),
        [Some(Secret::new("at_live_x"))],
        "from now on"
    );
}

#[test]
fn declared_agents_start_with_the_broker_though_the_engine_is_away() {
    let mut w = away(vec![request("w1")]);
    unreachable(&mut w);
    assert_eq!(programs(&mut w), [None]);
    let run = runs(&mut w);
    is_ready(&mut w, run);
    assert_eq!(view(&mut w).phase, "ready");
}

#[test]
fn an_agent_that_the_engine_refuses_later_runs_on_and_says_so_and_is_offered_on_the_next_link() {
    let mut w = away(vec![request("w1")]);
    unreachable(&mut w);
    runs(&mut w);
    let offered = |w: &mut World| {
        let frames = w.effects.iter().rev();
        let mut ids = frames.filter_map(|e| match e {
            Effect::Send(Up::AgentRegister(frame)) => frame.id.clone(),
            _ => None,
        });
        ids.next().expect("it is offered")
    };
    w.link_up();
    let id = offered(&mut w);
    w.frame(json!({"type":"error","id":id,"code":"node_capacity_exceeded","message":"full"}));
    assert!(w.d.agents.is_running(&AgentName::new("w1")));
    let why = view(&mut w).trouble.expect("the reason");
    assert!(
        why.starts_with("it runs unknown to the engine: ") && why.contains("full"),
        "{why}"
    );
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.done();
    w.link_up();
    offered(&mut w);
    w.registered("w1");
    assert_eq!(view(&mut w).trouble, None);
}

#[test]
fn an_agent_that_ends_before_the_engine_knows_it_leaves_nothing_there() {
    let mut w = away(vec![request("w1")]);
    unreachable(&mut w);
    let run = runs(&mut w);
    w.link_up();
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.registered("w1");
    let farewell = |up: &Up| matches!(up, Up::AgentDeregister(_));
    assert!(
        w.sent().iter().any(farewell),
        "an identity that comes for nobody is given back"
    );
}
