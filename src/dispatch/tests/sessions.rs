//! Sessions and models of agents' programs.

use super::*;
use crate::msg::AgentSpec;

fn wish(name: &str, cli: &str) -> local::SpawnRequest {
    local::SpawnRequest {
        name: name.into(),
        cli: Some(cli.into()),
        ..local::SpawnRequest::default()
    }
}

/// Starts an agent: what its thread was given.
fn start(w: &mut World, wish: local::SpawnRequest) -> AgentSpec {
    let name = wish.name.clone();
    w.call(ApiCall::Spawn(Box::new(wish), SpawnSource::Api));
    w.registered(&name);
    let spec = started(w);
    w.report(&name, w.run_of(&name), AgentReport::Started { pid: 4242 });
    spec
}

fn started(w: &World) -> AgentSpec {
    let mut effects = w.effects.iter().rev();
    let spec = effects.find_map(|e| match e {
        Effect::Spawn(_, spec) => Some((**spec).clone()),
        _ => None,
    });
    spec.expect("it was started")
}

/// Why an agent is not started.
fn refused(w: &mut World, wish: local::SpawnRequest) -> String {
    match w.call(ApiCall::Spawn(Box::new(wish), SpawnSource::Api)) {
        Some(Err(refusal)) => refusal.message,
        other => panic!("{other:?}"),
    }
}

fn shown(w: &mut World, name: &str) -> local::AgentView {
    let Some(Ok(Reply::Agents(list))) = w.call(ApiCall::Agents) else {
        panic!("no list");
    };
    let mut agents = list.agents.into_iter();
    agents
        .find(|agent| agent.name.as_str() == name)
        .expect("it is here")
}

fn ended(w: &mut World, name: &str, code: i32) {
    let how = How {
        code: Some(code),
        ..How::default()
    };
    w.report(name, w.run_of(name), AgentReport::Exited(how));
}

/// Releases an agent, whose program then ends well.
fn let_go(w: &mut World, name: &str) {
    w.call(ApiCall::Release {
        name: AgentName::new(name),
        reason: None,
    });
    ended(w, name, 0);
}

#[test]
fn another_agent_goes_on_with_the_session_of_one_that_was_released_also_after_a_restart_of_the_broker()
 {
    let mut w = World::new();
    w.link_up();
    let first = local::SpawnRequest {
        cwd: Some("/srv".into()),
        model: Some("opus".into()),
        ..wish("ada", "claude")
    };
    let spec = start(&mut w, first);
    let [program, flag, session, rest @ ..] = &spec.argv[..] else {
        panic!("{:?}", spec.argv);
    };
    assert_eq!(
        (&program[..], &flag[..], rest),
        (
            "claude",
            "--session-id",
            &["--model".to_owned(), "opus".into()][..]
        )
    );
    assert_eq!(
        spec.env.get("DISABLE_AUTOUPDATER").map(String::as_str),
        Some("1")
    );
    let view = shown(&mut w, "ada");
    assert_eq!(
        (view.cli.as_str(), view.session_id.as_ref()),
        ("claude", Some(session))
    );

    let go_on = local::SpawnRequest {
        name: "bob".into(),
        resume: Some("ada".into()),
        ..local::SpawnRequest::default()
    };
    assert!(refused(&mut w, go_on.clone()).contains("still runs"));
    let_go(&mut w, "ada");
    let mut w = World::after(w.journal);
    w.link_up();
    let spec = start(&mut w, go_on);
    assert_eq!(
        spec.argv,
        ["claude", "--resume", session, "--model", "opus"]
    );
    assert_eq!(spec.cwd.as_deref(), Some("/srv"));
    assert_eq!(shown(&mut w, "bob").session_id.as_ref(), Some(session));
}

#[test]
fn who_goes_on_with_the_session_of_an_agent_without_a_terminal_has_none_either() {
    let mut w = World::new();
    w.link_up();
    let first = local::SpawnRequest {
        transport: Some("headless".into()),
        ..wish("ada", "claude")
    };
    assert!(start(&mut w, first).headless.is_some());
    let_go(&mut w, "ada");
    let mut w = World::after(w.journal);
    w.link_up();
    let go_on = local::SpawnRequest {
        resume: Some("ada".into()),
        ..local::SpawnRequest::default()
    };
    let same = local::SpawnRequest {
        name: "bob".into(),
        ..go_on.clone()
    };
    assert!(start(&mut w, same).headless.is_some());
    let_go(&mut w, "bob");
    let with_terminal = local::SpawnRequest {
        name: "cy".into(),
        transport: Some("pty".into()),
        ..go_on
    };
    assert!(start(&mut w, with_terminal).headless.is_none());
}

#[test]
fn a_session_that_nobody_here_left_goes_on_only_in_a_program_that_is_named() {
    let mut w = World::new();
    w.link_up();
    let unnamed = local::SpawnRequest {
        name: "ada".into(),
        resume: Some("nobody".into()),
        ..local::SpawnRequest::default()
    };
    let why = refused(&mut w, unnamed.clone());
    assert!(why.contains("'nobody'") && why.contains("program"), "{why}");
    let named = local::SpawnRequest {
        cli: Some("claude".into()),
        ..unnamed
    };
    assert_eq!(start(&mut w, named).argv[1..], ["--resume", "nobody"]);
}

#[test]
fn no_session_and_no_model_is_a_flag_that_switches_questions_off() {
    let mut w = World::new();
    w.link_up();
    let flag = || Some("--dangerously-skip-permissions".to_owned());
    for bad in [
        local::SpawnRequest {
            resume: flag(),
            ..wish("ada", "claude")
        },
        local::SpawnRequest {
            session_id: flag(),
            ..wish("ada", "claude")
        },
        local::SpawnRequest {
            model: flag(),
            ..wish("ada", "codex")
        },
        local::SpawnRequest {
            resume: Some(String::new()),
            ..wish("ada", "claude")
        },
    ] {
        let why = refused(&mut w, bad);
        assert!(
            why.contains("the session") || why.contains("the model"),
            "{why}"
        );
    }
}

#[test]
fn a_program_that_is_started_again_begins_a_session_of_its_own_and_the_engine_hears_which() {
    let mut w = World::new();
    w.link_up();
    let policy = local::RestartPolicy {
        cooldown_ms: 10,
        ..local::RestartPolicy::default()
    };
    let kept = local::SpawnRequest {
        restart_policy: Some(policy),
        ..wish("ada", "claude")
    };
    let first = start(&mut w, kept).argv[2].clone();
    ended(&mut w, "ada", 1);
    w.done();
    w.pass(Duration::from_millis(20));
    let second = started(&w).argv[2].clone();
    assert_ne!(first, second, "an id that is in use would be refused");
    w.report("ada", w.run_of("ada"), AgentReport::Started { pid: 4243 });
    assert_eq!(shown(&mut w, "ada").session_id, Some(second.clone()));
    let told = w.sent().into_iter().rev().find_map(|up| match up {
        Up::InventorySync(list) => list
            .agents
            .first()
            .and_then(|agent| agent.session_ref.clone()),
        _ => None,
    });
    assert_eq!(told, Some(second));
}

#[test]
fn nothing_that_was_wanted_of_a_program_is_dropped_in_silence() {
    let mut w = World::new();
    w.link_up();
    let unknown = local::SpawnRequest {
        resume: Some("s-1".into()),
        ..wish("w1", "cat")
    };
    assert!(refused(&mut w, unknown).contains("'cat'"));
    let by_id = local::SpawnRequest {
        resume: Some("s-1".into()),
        ..wish("w2", "codex -a never")
    };
    assert_eq!(
        start(&mut w, by_id).argv,
        ["codex", "resume", "s-1", "-a", "never"]
    );
    let modelled = local::SpawnRequest {
        model: Some("opus".into()),
        continue_from: Some("nobody".into()),
        ..wish("w3", "cat")
    };
    w.done();
    w.call(ApiCall::Spawn(Box::new(modelled), SpawnSource::Api));
    w.registered("w3");
    w.report("w3", w.run_of("w3"), AgentReport::Started { pid: 1 });
    let warning = w.done().into_iter().find_map(|e| match e {
        Effect::Reply(_, Ok(Reply::Spawned(spawned))) => spawned.warning,
        _ => None,
    });
    let warning = warning.expect("it is said");
    assert!(
        warning.contains("opus") && warning.contains("'nobody'"),
        "{warning}"
    );
}

#[test]
fn a_model_is_changed_by_the_programs_own_command_or_not_at_all() {
    let mut w = World::new();
    w.link_up();
    start(&mut w, wish("ada", "claude"));
    let ready = AgentReport::Ready {
        evidence: "quiet".into(),
    };
    w.report("ada", w.run_of("ada"), ready);
    w.done();
    let changed = w.call(ApiCall::SetModel(AgentName::new("ada"), "haiku".into()));
    assert!(matches!(changed, Some(Ok(Reply::Sent(_)))), "{changed:?}");
    let typed = w.injected().expect("it is typed");
    assert_eq!((typed.text.as_str(), typed.raw), ("/model haiku", true));
    assert_eq!(shown(&mut w, "ada").model.as_deref(), Some("haiku"));
    w.spawn("w1");
    let silent = local::SpawnRequest {
        transport: Some("headless".into()),
        ..wish("cy", "claude")
    };
    start(&mut w, silent);
    for (name, kind) in [
        ("w1", RefusalKind::Unsupported),
        ("cy", RefusalKind::Unsupported),
        ("nobody", RefusalKind::UnknownAgent),
    ] {
        match w.call(ApiCall::SetModel(AgentName::new(name), "haiku".into())) {
            Some(Err(refusal)) => assert_eq!(refusal.kind, kind),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shown(&mut w, "w1").model, None);
}

#[test]
fn one_that_was_started_for_its_task_alone_leaves_when_it_falls_silent_after_it() {
    let mut w = World::new();
    w.link_up();
    let once = local::SpawnRequest {
        task: Some("count".into()),
        exit_after_task: true,
        skip_relay_prompt: true,
        ..wish("w1", "cat")
    };
    let spec = start(&mut w, once);
    assert_eq!(spec.token, None, "it does not speak in the workspace");
    let run = w.run_of("w1");
    let silent = Duration::from_secs(30);
    let stops = |w: &mut World| {
        let mut effects = w.done().into_iter();
        effects.any(|e| matches!(e, Effect::Agent(_, _, AgentCommand::Stop { .. })))
    };
    let ready = AgentReport::Ready {
        evidence: "quiet".into(),
    };
    w.report("w1", run, ready);
    let task = w.injected().expect("its task");
    w.report("w1", run, AgentReport::Idle { silent });
    assert!(!stops(&mut w), "it has not read its task yet");
    w.land("w1", &task.delivery_id);
    w.report("w1", run, AgentReport::Working);
    w.report("w1", run, AgentReport::Idle { silent });
    assert!(stops(&mut w));
    ended(&mut w, "w1", 0);
    let events = w.done();
    assert!(
        events
            .iter()
            .any(|e| matches!(e, Effect::Publish(_, BrokerEvent::AgentReleased { .. }))),
        "{events:?}"
    );
}
