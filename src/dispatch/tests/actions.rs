//! What the engine asks of the node: spawns, releases, and actions that programs serve.

use super::*;
use crate::msg::{ActionSpec, HandlerRun, Harness, SidecarCall, SidecarPush, Treatment};

fn invoke(w: &mut World, id: &str, action: &str, input: Value) {
    w.tell(Event::Link(LinkReport::Frame(Down::ActionInvoke(
        ActionInvoke {
            invocation_id: InvocationId::new(id),
            action: action.into(),
            agent_id: None,
            agent_name: None,
            input,
        },
    ))));
}

/// An action that this agent serves.
fn invoke_hosted(w: &mut World, id: &str, agent_id: Option<&str>, agent: &str) {
    w.tell(Event::Link(LinkReport::Frame(Down::ActionInvoke(
        ActionInvoke {
            invocation_id: InvocationId::new(id),
            action: "echo".into(),
            agent_id: agent_id.map(AgentId::new),
            agent_name: Some(AgentName::new(agent)),
            input: json!({"q": 1}),
        },
    ))));
}

fn answers(sent: &[Up]) -> Vec<Outcome> {
    let answers = sent.iter().filter_map(|up| match up {
        Up::ActionResult(result) => Some(result.outcome.clone()),
        _ => None,
    });
    answers.collect()
}

fn spawned(name: &str) -> Outcome {
    Outcome::Output(json!({"spawned": true, "name": name}))
}

/// A spawn the engine asked for, whose program runs.
fn running(w: &mut World, id: &str, name: &str) -> Run {
    invoke(w, id, "spawn:claude", json!({"name": name, "cli": "cat"}));
    w.registered(name);
    let run = w.run_of(name);
    w.report(name, run, AgentReport::Started { pid: 9 });
    run
}

/// N30: a repeated invocation is one program and one answer, also for the next broker.
#[test]
fn a_spawn_asked_twice_by_the_engine_starts_once_and_is_answered_alike() {
    let again = |w: &mut World| {
        invoke(w, "inv_1", "spawn:claude", json!({"name":"w1","cli":"cat"}));
    };
    let mut w = World::new();
    w.link_up();
    running(&mut w, "inv_1", "w1");
    again(&mut w);
    let starts = |effects: &[Effect]| {
        let spawn = |e: &&Effect| matches!(e, Effect::Spawn(..));
        effects.iter().filter(spawn).count()
    };
    assert_eq!(starts(&w.done()), 1);
    w.pass(Duration::from_millis(250));
    assert_eq!(answers(&w.sent()), [spawned("w1")]);
    again(&mut w);
    assert_eq!(
        answers(&w.sent()),
        [spawned("w1")],
        "a repetition is answered alike"
    );
    let mut w = World::after(w.journal);
    w.link_up();
    w.done();
    again(&mut w);
    assert_eq!(
        answers(&w.sent()),
        [spawned("w1")],
        "also by the next broker"
    );
}

/// N31: the inventory comes after the result of the engine's own spawn, and never before it.
#[test]
fn a_spawn_counts_as_done_when_its_program_has_lived_for_a_moment_and_the_engine_knows_its_load_first()
 {
    let mut w = World::new();
    w.link_up();
    w.done();
    running(&mut w, "inv_1", "w1");
    let sent = w.sent();
    assert!(
        sent.iter()
            .any(|up| matches!(up, Up::NodeHeartbeat(h) if h.active_agents == 1))
    );
    let listed = |sent: &[Up]| sent.iter().any(|up| matches!(up, Up::InventorySync(_)));
    assert!(!listed(&sent) && answers(&sent).is_empty(), "{sent:?}");
    w.pass(Duration::from_millis(249));
    assert!(w.sent().is_empty());
    w.pass(Duration::from_millis(1));
    w.quiet();
    let sent = w.sent();
    assert!(
        matches!(&sent[..], [Up::ActionResult(_), Up::InventorySync(_)]),
        "a list without an open spawn would give it to another node: {sent:?}"
    );
}

/// N29: the program is named by the input or by the action's suffix, and the input may be flat or one level down.
#[test]
fn a_spawn_is_understood_in_every_form() {
    let flat = json!({"name": "w1", "cli": "cat -v"});
    let nested = json!({"agent": {"name": "w1", "cli": "cat -v"}});
    let by_suffix = [
        json!({"name": "w1"}),
        json!({"agent": {"agent_name": "w1"}}),
    ];
    let cases = [
        ("spawn", flat.clone(), "cat -v"),
        ("spawn", nested.clone(), "cat -v"),
        ("spawn:claude", flat, "cat -v"),
        ("spawn:claude", nested, "cat -v"),
        ("spawn:claude", by_suffix[0].clone(), "claude"),
        ("spawn:claude", by_suffix[1].clone(), "claude"),
        (
            "spawn",
            json!({"agent_name": "w1", "command": "top"}),
            "top",
        ),
        ("spawn", json!({"agent": "w1", "provider": "top"}), "top"),
    ];
    for (action, input, line) in cases {
        let mut w = World::new();
        w.link_up();
        w.done();
        invoke(&mut w, "i1", action, input.clone());
        w.registered("w1");
        let argv = w.done().into_iter().find_map(|e| match e {
            Effect::Spawn(_, spec) => Some(spec.argv.join(" ")),
            _ => None,
        });
        assert_eq!(argv.as_deref(), Some(line), "{action} {input}");
    }
}

/// N29: what is missing is named, and what is empty is missing.
#[test]
fn an_action_that_lacks_something_is_answered_with_what_it_lacks() {
    let cases = [
        ("spawn", json!({"cli": "cat"}), "spawn_missing_agent_name"),
        (
            "spawn:claude",
            json!({"name": ""}),
            "spawn_missing_agent_name",
        ),
        ("spawn:claude", json!(null), "spawn_missing_agent_name"),
        ("spawn", json!({"name": "w1"}), "spawn_missing_cli"),
        (
            "spawn:",
            json!({"name": "w1", "cli": ""}),
            "spawn_missing_cli",
        ),
        ("release", json!({}), "release_missing_agent_name"),
    ];
    for (action, input, lacks) in cases {
        let mut w = World::new();
        w.link_up();
        w.done();
        invoke(&mut w, "i1", action, input.clone());
        let said = answers(&w.sent());
        assert_eq!(said, [Outcome::Error(lacks.into())], "{action} {input}");
    }
}

/// N30: a name in use is told by a word of its own, and whoever bears it goes on.
#[test]
fn a_spawn_under_a_name_in_use_fails_and_leaves_its_bearer_alone() {
    let mut w = World::new();
    w.link_up();
    let run = w.spawn("w1");
    w.done();
    invoke(
        &mut w,
        "i1",
        "spawn:claude",
        json!({"name": "w1", "cli": "cat"}),
    );
    let in_use = Outcome::Error("spawn_agent_name_in_use".into());
    assert_eq!(answers(&w.sent()), [in_use]);
    assert_eq!(w.run_of("w1"), run);
}

/// N30: repeated over a new link while its program starts, it has that one program and one answer.
#[test]
fn a_spawn_that_is_asked_for_again_over_a_new_link_has_one_program_and_the_same_answer() {
    let mut w = World::new();
    w.link_up();
    running(&mut w, "inv_1", "w1");
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.link_up();
    invoke(
        &mut w,
        "inv_1",
        "spawn:claude",
        json!({"name":"w1","cli":"cat"}),
    );
    w.pass(Duration::from_millis(250));
    let effects = w.done();
    let spawns = effects.iter().filter(|e| matches!(e, Effect::Spawn(..)));
    assert_eq!(spawns.count(), 1);
    w.effects = effects;
    assert_eq!(answers(&w.sent()).last(), Some(&spawned("w1")));
}

/// N30: a release is answered when its program has ended, at once where it had ended by itself, and alike when repeated.
#[test]
fn a_release_by_the_engine_tells_what_became_of_the_agent() {
    let released = || Outcome::Output(json!({"released": true, "name": "w1"}));
    let release = |w: &mut World, id: &str| invoke(w, id, "release", json!({"name": "w1"}));
    let mut w = World::new();
    w.link_up();
    let run = w.spawn("w1");
    w.done();
    release(&mut w, "i1");
    assert!(answers(&w.sent()).is_empty(), "its program still runs");
    w.report("w1", run, AgentReport::Exited(How::default()));
    assert_eq!(answers(&w.sent()), [released()]);
    release(&mut w, "i1");
    assert_eq!(answers(&w.sent()), [released()], "repeated");

    let run = w.spawn("w1");
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    release(&mut w, "i2");
    assert_eq!(answers(&w.sent()), [released()], "ended already");
}

/// N30: a program that ended at once is a failed spawn, with its last words.
#[test]
fn a_program_that_ends_at_once_fails_its_spawn_with_its_status_and_last_words() {
    let mut w = World::new();
    w.link_up();
    let run = running(&mut w, "inv_1", "w1");
    w.done();
    let how = How {
        code: Some(2),
        last: Some("claude: unknown option --x".into()),
        ..How::default()
    };
    w.report("w1", run, AgentReport::Exited(how));
    let said = "spawn_failed: exit code 2: claude: unknown option --x";
    assert_eq!(answers(&w.sent()), [Outcome::Error(said.into())]);
}

#[test]
fn a_spawn_that_is_released_before_it_counts_says_so() {
    let mut w = World::new();
    w.link_up();
    let run = running(&mut w, "inv_1", "w1");
    w.call(ApiCall::Release {
        name: AgentName::new("w1"),
        reason: None,
    });
    w.done();
    w.report("w1", run, AgentReport::Exited(How::default()));
    assert_eq!(
        answers(&w.sent()),
        [Outcome::Error("spawn_released_before_ready".into())]
    );
}

#[test]
fn a_program_is_started_as_the_operator_described_it_by_what_the_caller_or_the_capability_names() {
    let mut w = World::new();
    w.config().harness_table.insert(
        "claude".into(),
        Harness {
            command: "/opt/claude".into(),
            args: vec!["--careful".into()],
            env: [("MODE".to_owned(), "x".to_owned())].into(),
            treatment: Treatment::default(),
        },
    );
    w.link_up();
    let argv = |w: &mut World, name: &str| {
        w.registered(name);
        w.done().into_iter().find_map(|e| match e {
            Effect::Spawn(_, spec) => Some((spec.argv.clone(), spec.env.contains_key("MODE"))),
            _ => None,
        })
    };
    invoke(
        &mut w,
        "i1",
        "spawn:claude",
        json!({"name": "a", "args": ["-p"]}),
    );
    let wanted = ["/opt/claude", "--careful", "-p"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(argv(&mut w, "a"), Some((wanted, true)), "by the capability");
    invoke(
        &mut w,
        "i2",
        "spawn:claude",
        json!({"name": "b", "cli": "codex"}),
    );
    let wanted = vec!["codex".to_owned()];
    assert_eq!(
        argv(&mut w, "b"),
        Some((wanted, false)),
        "what the caller names comes first"
    );
    for (name, line) in [("c", "claude -p"), ("d", "claude")] {
        let wish = local::SpawnRequest {
            name: name.into(),
            cli: Some(line.into()),
            args: vec!["--last".into()],
            ..Default::default()
        };
        w.call(ApiCall::Spawn(Box::new(wish), SpawnSource::Api));
        let (argv, described) = argv(&mut w, name).expect("started");
        assert_eq!(
            (argv[0].as_str(), argv[1].as_str(), described),
            ("/opt/claude", "--careful", true)
        );
        assert_eq!(argv.last().map(String::as_str), Some("--last"));
        assert_eq!(
            argv.len(),
            2 + line.split(' ').count(),
            "by whoever is at this machine: {argv:?}"
        );
    }
}

fn serving(concurrency: usize) -> World {
    let mut w = World::new();
    w.config().actions.insert(
        "deploy".into(),
        ActionSpec {
            command: vec!["./deploy.sh".into()],
            cwd: None,
            env: BTreeMap::new(),
            timeout: Duration::from_secs(5),
            concurrency,
            output_max: 100,
        },
    );
    w.link_up();
    w
}

fn runs(w: &mut World) -> Vec<(String, HandlerRun)> {
    let runs = w.done().into_iter().filter_map(|e| match e {
        Effect::Handle(id, run) => Some((id.to_string(), *run)),
        _ => None,
    });
    runs.collect()
}

#[test]
fn a_configured_action_is_advertised_and_served_once_per_invocation() {
    let mut w = serving(1);
    let advertised = w.sent().iter().any(|up| match up {
        Up::NodeRegister(r) => r
            .capabilities
            .iter()
            .any(|c| c.name == "deploy" && c.kind.as_deref() == Some("action")),
        _ => false,
    });
    assert!(advertised);
    invoke(&mut w, "i1", "deploy", json!({"to": "prod"}));
    invoke(&mut w, "i1", "deploy", json!({"to": "prod"}));
    let started = runs(&mut w);
    assert_eq!(started.len(), 1, "a copy of one that runs is ignored");
    assert_eq!(started[0].1.input, json!({"to": "prod"}));
    assert_eq!(started[0].1.env["RELAY_INVOCATION_ID"], "i1");
    let known = w
        .journal
        .iter()
        .any(|r| matches!(r, Record::Invoked { id } if id.as_str() == "i1"));
    assert!(known, "known before its program runs");
    w.tell(Event::Handled(InvocationId::new("i1"), Ok(json!([1]))));
    let listed = Outcome::Output(json!({"value": [1]}));
    assert_eq!(answers(&w.sent()).first(), Some(&listed));
    invoke(&mut w, "i1", "deploy", json!({}));
    assert_eq!(
        answers(&w.sent()),
        [listed],
        "answered alike, not run again"
    );
    w.tell(Event::Handled(InvocationId::new("i1"), Ok(Value::Null)));
    assert!(answers(&w.sent()).is_empty(), "the first completion counts");
}

#[test]
fn more_invocations_than_places_wait_their_turn_and_too_many_are_refused() {
    let mut w = serving(2);
    for n in 0..=102 {
        invoke(&mut w, &format!("i{n}"), "deploy", json!({}));
    }
    let effects = w.done();
    let started = effects
        .iter()
        .filter(|e| matches!(e, Effect::Handle(..)))
        .count();
    assert_eq!(started, 2);
    let refused = effects.iter().any(|e| {
        matches!(e, Effect::Send(Up::ActionResult(r)) if r.invocation_id.as_str() == "i102"
            && matches!(&r.outcome, Outcome::Error(why) if why.contains("wait here already")))
    });
    assert!(refused);
    w.tell(Event::Handled(
        InvocationId::new("i1"),
        Err("exit code 3: no".into()),
    ));
    let effects = runs(&mut w);
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].0, "i2", "in the order they came");
}

#[test]
fn an_action_nobody_serves_is_answered_so() {
    let mut w = World::new();
    w.link_up();
    w.done();
    invoke(&mut w, "i1", "dance", json!({}));
    assert_eq!(
        answers(&w.sent()),
        [Outcome::Error("handler_unavailable".into())]
    );
}

const S: crate::ids::SidecarId = crate::ids::SidecarId(1);

fn sidecar(w: &mut World, call: SidecarCall) -> Option<Answer> {
    w.call(ApiCall::Sidecar(S, call))
}

/// A connected program that serves the named actions, with supervision if asked for.
fn connected(w: &mut World, names: &[&str], supervised: bool) {
    let manifest = local::Manifest {
        capabilities: names
            .iter()
            .map(|name| local::ManifestCapability {
                name: (*name).to_owned(),
                kind: Some("odd".into()),
                metadata: None,
            })
            .collect(),
        max_agents: Some(7),
        tags: vec!["gpu".into()],
        ..local::Manifest::default()
    };
    let supervision = supervised.then(|| {
        Box::new(local::Supervision {
            argv: vec!["./serve".into()],
            ..local::Supervision::default()
        })
    });
    sidecar(w, SidecarCall::Node(Box::new(manifest), supervision));
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    sidecar(w, SidecarCall::Handlers(names));
}

fn last_registered(sent: &[Up]) -> (Vec<(String, String)>, u64, Vec<String>) {
    let last = sent.iter().rev().find_map(|up| match up {
        Up::NodeRegister(r) => Some(r),
        _ => None,
    });
    let last = last.expect("it registered again");
    let kinds = last.capabilities.iter().map(|c| {
        let kind = c.kind.clone().unwrap_or_default();
        (c.name.clone(), kind)
    });
    (kinds.collect(), last.max_agents, last.tags.clone())
}

/// N33: a capability is withdrawn with the program that serves it.
#[test]
fn what_a_connected_program_serves_is_offered_while_it_is_connected_and_no_longer() {
    let mut w = World::new();
    w.link_up();
    w.done();
    connected(&mut w, &["echo", "spawn:special", "spawn"], false);
    let sent = w.sent();
    let (offered, max_agents, tags) = last_registered(&sent);
    let pairs = [
        ("echo", "action"),
        ("spawn:claude", "capacity"),
        ("spawn:special", "capacity"),
    ];
    assert_eq!(
        offered,
        pairs.map(|(a, b)| (a.to_owned(), b.to_owned())),
        "never a bare spawn"
    );
    assert_eq!((max_agents, tags), (7, vec!["gpu".to_owned()]));
    assert!(
        sent.iter().any(|up| matches!(up, Up::NodeHeartbeat(_))),
        "at once"
    );
    sidecar(&mut w, SidecarCall::Gone);
    let (offered, ..) = last_registered(&w.sent());
    assert_eq!(
        offered,
        [("spawn:claude".to_owned(), "capacity".to_owned())]
    );
}

/// H2: one denominator in registration, heartbeat and load: the operator's limit, else that of a connected program.
#[test]
fn load_is_measured_by_the_limit_of_a_connected_program_unless_the_operator_set_one() {
    for (operators, limit, load) in [(0, 7, 1.0 / 7.0), (4, 4, 0.25)] {
        let mut w = World::new();
        w.config().max_agents = operators;
        w.link_up();
        w.spawn("w1");
        connected(&mut w, &["echo"], false);
        let figures = |w: &mut World| {
            let sent = w.sent();
            let beats = sent.iter().rev().find_map(|up| match up {
                Up::NodeHeartbeat(beat) => Some((beat.max_agents, beat.load)),
                _ => None,
            });
            (last_registered(&sent).1, beats.expect("at once"))
        };
        assert_eq!(figures(&mut w), (limit, (Some(limit), Some(load))));
        sidecar(&mut w, SidecarCall::Gone);
        let load = if operators == 0 { 0.0 } else { load };
        assert_eq!(figures(&mut w), (operators, (Some(operators), Some(load))));
    }
}

/// N33: a sidecar's handler wins over the built-in one.
#[test]
fn a_connected_program_is_invoked_before_anybody_else_and_its_result_is_the_answer() {
    let mut w = serving(1);
    connected(&mut w, &["deploy", "spawn:claude"], false);
    w.done();
    invoke(&mut w, "i1", "spawn:claude", json!({"name": "w1"}));
    invoke(&mut w, "i2", "deploy", json!({"to": "prod"}));
    let pushed: Vec<_> = w
        .done()
        .into_iter()
        .filter_map(|e| match e {
            Effect::Sidecar(
                S,
                SidecarPush::Invoke {
                    invocation_id,
                    name,
                    ..
                },
            ) => Some((invocation_id.to_string(), name)),
            _ => None,
        })
        .collect();
    let pairs = [("i1", "spawn:claude"), ("i2", "deploy")];
    assert_eq!(pushed, pairs.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let result = SidecarCall::Result(InvocationId::new("i2"), Outcome::Output(json!("done")));
    assert!(matches!(sidecar(&mut w, result.clone()), Some(Ok(_))));
    let said = Outcome::Output(json!({"value": "done"}));
    assert_eq!(answers(&w.sent()).first(), Some(&said));
    let again = sidecar(&mut w, result);
    assert!(matches!(again, Some(Err(r)) if r.kind == RefusalKind::UnknownInvocation));
    w.done();
    invoke(&mut w, "i2", "deploy", json!({"to": "prod"}));
    assert_eq!(answers(&w.sent()), [said], "a repetition is answered alike");
}

/// N33: the errors of a sidecar are the errors that its caller hears, and the action stays offered.
#[test]
fn what_a_connected_program_fails_with_is_the_answer_word_for_word() {
    let mut w = World::new();
    w.link_up();
    connected(&mut w, &["echo"], false);
    w.done();
    for (id, why) in [("i1", "out of paper"), ("i2", "")] {
        invoke(&mut w, id, "echo", json!({}));
        w.done();
        let error = Outcome::Error(why.into());
        let result = SidecarCall::Result(InvocationId::new(id), error.clone());
        assert!(matches!(sidecar(&mut w, result), Some(Ok(_))));
        let sent = w.sent();
        assert_eq!(answers(&sent), [error]);
        let offers_anew = |up: &Up| matches!(up, Up::NodeRegister(_));
        assert!(!sent.iter().any(offers_anew), "{sent:?}");
    }
}

/// N33: what a sidecar leaves behind when it vanishes is given back to the engine.
#[test]
fn what_runs_with_a_program_that_goes_is_given_back_and_may_come_again() {
    let mut w = World::new();
    w.link_up();
    connected(&mut w, &["echo"], false);
    invoke(&mut w, "i1", "echo", json!({}));
    w.done();
    sidecar(&mut w, SidecarCall::Gone);
    let unavailable = Outcome::Error("handler_unavailable".into());
    assert_eq!(answers(&w.sent()), [unavailable]);
    connected(&mut w, &["echo"], false);
    w.done();
    invoke(&mut w, "i1", "echo", json!({}));
    assert!(
        w.done().iter().any(|e| matches!(e, Effect::Sidecar(..))),
        "the same invocation is served now"
    );
}

/// N33: a sidecar under supervision comes back.
#[test]
fn a_program_that_asked_for_it_is_started_again_until_that_is_hopeless() {
    let mut w = World::new();
    w.link_up();
    connected(&mut w, &["echo"], true);
    let launched = |w: &mut World| w.done().iter().any(|e| matches!(e, Effect::Launch(_)));
    sidecar(&mut w, SidecarCall::Gone);
    w.pass(Duration::from_millis(1999));
    assert!(!launched(&mut w), "after its cooldown");
    for _ in 0..3 {
        w.pass(Duration::from_secs(2));
        assert!(launched(&mut w));
        w.tell(Event::LaunchEnded(
            vec!["./serve".into()],
            "exit code 1".into(),
        ));
    }
    w.pass(Duration::from_secs(10));
    assert!(!launched(&mut w), "three failures in a row are enough");

    connected(&mut w, &["echo"], true);
    sidecar(&mut w, SidecarCall::Deregister);
    w.pass(Duration::from_secs(10));
    assert!(!launched(&mut w), "who says goodbye stays away");
}

#[test]
fn an_agent_is_treated_as_the_operator_wrote_it_down_for_the_program_that_was_named() {
    let mut w = World::new();
    let treatment = Treatment {
        profile: Some("claude".into()),
        ..Treatment::default()
    };
    let mine = Harness {
        command: "/opt/my-claude".into(),
        treatment,
        ..Harness::default()
    };
    w.config().harness_table.insert("mine".into(), mine);
    w.link_up();
    let mut profile = |name: &str, wish: local::SpawnRequest| {
        let wish = local::SpawnRequest {
            name: name.into(),
            ..wish
        };
        let own = SpawnSource::Restart;
        w.tell(Event::Call(Ticket(9), ApiCall::Spawn(Box::new(wish), own)));
        w.registered(name);
        w.done().into_iter().find_map(|e| match e {
            Effect::Spawn(_, spec) => Some(spec.treatment.profile),
            _ => None,
        })
    };
    let cli = |line: &str| local::SpawnRequest {
        cli: Some(line.into()),
        ..local::SpawnRequest::default()
    };
    let like = |cli: local::SpawnRequest, name: &str| local::SpawnRequest {
        profile: Some(name.into()),
        ..cli
    };
    let claude = Some(Some("claude".to_owned()));
    assert_eq!(profile("a", cli("mine --resume")), claude);
    assert_eq!(
        profile("b", cli("/bin/mine")),
        Some(None),
        "another program"
    );
    assert_eq!(profile("c", like(cli("wrap"), "claude")), claude);
    let gone = Some(Some("gone".to_owned()));
    assert_eq!(
        profile("d", like(cli("wrap"), "gone")),
        gone,
        "it starts all the same"
    );
    let other = local::HarnessConfig {
        command: Some("/bin/other".into()),
        ..local::HarnessConfig::default()
    };
    let other = local::SpawnRequest {
        harness_config: Some(other),
        ..cli("mine")
    };
    assert_eq!(
        profile("e", other),
        Some(None),
        "another program by that name"
    );
}

#[test]
fn a_wish_for_a_profile_that_nobody_knows_is_refused() {
    let mut w = World::new();
    w.link_up();
    w.done();
    let wish = local::SpawnRequest {
        name: "a".into(),
        profile: Some("clade".into()),
        ..local::SpawnRequest::default()
    };
    w.tell(Event::Call(
        Ticket(9),
        ApiCall::Spawn(Box::new(wish), SpawnSource::Api),
    ));
    let refusal = w.done().into_iter().find_map(|e| match e {
        Effect::Reply(Ticket(9), Err(refusal)) => Some(refusal.message),
        _ => None,
    });
    assert!(
        refusal.is_some_and(|why| why.contains("no profile is named 'clade'; there are claude"))
    );
}

/// N34: actions hosted by an agent reach the agent.
#[test]
fn an_agent_that_serves_an_action_is_told_once_and_answers_by_itself() {
    let mut w = World::new();
    w.link_up();
    w.spawn("w1");
    w.done();
    invoke_hosted(&mut w, "inv_1", Some("id_w1"), "w1");
    let told = w.injected().expect("it is told");
    for words in [
        "Action echo",
        "inv_1",
        r#"{"q":1}"#,
        "http://127.0.0.1:1/v1/actions/echo/invocations/inv_1/complete",
    ] {
        assert!(told.text.contains(words), "{}", told.text);
    }
    w.land("w1", &told.delivery_id);
    assert!(answers(&w.sent()).is_empty(), "the answer is the agent's");
    invoke_hosted(&mut w, "inv_1", Some("id_w1"), "w1");
    assert!(w.injected().is_none(), "told once");
    invoke_hosted(&mut w, "inv_2", None, "w1");
    assert!(w.injected().is_some(), "by its name, where no id comes");
}

/// N34: what can never reach its agent has an error of its own; `handler_unavailable` would take the whole node's
/// handlers away (engine-protocol 5.3).
#[test]
fn an_action_of_an_agent_that_is_not_here_fails_by_itself() {
    let mut w = World::new();
    w.link_up();
    w.spawn("w1");
    w.done();
    for (n, agent_id, name) in [
        (1, Some("id_w2"), "w2"),
        (2, None, "w2"),
        (3, Some("id_other"), "w1"),
    ] {
        invoke_hosted(&mut w, &format!("inv_{n}"), agent_id, name);
        let said = answers(&w.sent());
        let [Outcome::Error(why)] = &said[..] else {
            panic!("{said:?}");
        };
        assert!(why.starts_with("agent_unavailable: "), "{why}");
    }
}

/// N34: an agent that is released before it read of an invocation never answers it.
#[test]
fn an_invocation_that_its_agent_never_read_fails_with_the_reason() {
    let mut w = World::new();
    w.link_up();
    let run = w.spawn("w1");
    w.mail("w1", 1);
    w.done();
    invoke_hosted(&mut w, "inv_1", Some("id_w1"), "w1");
    w.call(ApiCall::Release {
        name: AgentName::new("w1"),
        reason: None,
    });
    w.report("w1", run, AgentReport::Exited(How::default()));
    let said = answers(&w.sent());
    let [Outcome::Error(why)] = &said[..] else {
        panic!("one answer, without being asked again: {said:?}");
    };
    let reason = "agent_unavailable: the agent was released before it read the message";
    assert_eq!(why, reason);
    invoke_hosted(&mut w, "inv_1", Some("id_w1"), "w1");
    assert_eq!(answers(&w.sent()), said, "asked again, answered alike");
}

// ---- the list of agents, and what is open here --------------------------------------------------------------------

fn lists(sent: &[Up]) -> Vec<&crate::wire::up::InventorySync> {
    let lists = sent.iter().filter_map(|up| match up {
        Up::InventorySync(list) => Some(list),
        _ => None,
    });
    lists.collect()
}

/// A new agent is a change that a list tells of, at once or later.
fn a_change(w: &mut World) {
    w.spawn("new");
}

/// N31: an engine gives to another node what it has open on this one and does not find in a list, and two would do it
/// (engine-protocol 3.9).
#[test]
fn a_list_waits_until_nothing_that_the_engine_asked_for_runs_here() {
    let handler = |w: &mut World, over: bool| match over {
        false => invoke(w, "i1", "deploy", json!({})),
        true => w.tell(Event::Handled(InvocationId::new("i1"), Ok(json!({})))),
    };
    let program = |w: &mut World, over: bool| match over {
        false => {
            connected(w, &["dance"], false);
            invoke(w, "i1", "dance", json!({}));
        }
        true => {
            let done = SidecarCall::Result(InvocationId::new("i1"), Outcome::Output(json!({})));
            sidecar(w, done);
        }
    };
    let release = |w: &mut World, over: bool| match over {
        false => invoke(w, "i1", "release", json!({"name": "old"})),
        true => {
            let run = w.run_of("old");
            w.report("old", run, AgentReport::Exited(How::default()));
        }
    };
    type Act<'a> = &'a dyn Fn(&mut World, bool);
    let kinds: [Act; 3] = [&handler, &program, &release];
    for (n, act) in kinds.iter().enumerate() {
        let mut w = serving(1);
        w.spawn("old");
        act(&mut w, false);
        w.done();
        a_change(&mut w);
        w.pass(Duration::from_secs(120));
        assert_eq!(lists(&w.sent()).len(), 0, "{n}: it may take its time");
        act(&mut w, true);
        w.quiet();
        let sent = w.sent();
        let result = sent.iter().position(|up| matches!(up, Up::ActionResult(_)));
        let list = sent
            .iter()
            .rposition(|up| matches!(up, Up::InventorySync(_)));
        assert!(result.is_some() && result < list, "{n}: {sent:?}");
    }
}

/// An order that crosses a list on its way looks as if nobody here knew of it, and is given to another node too.
#[test]
fn a_list_waits_for_the_orders_that_follow_a_registration_or_one_another() {
    let mut w = serving(2);
    w.spawn("old");
    w.tell(Event::Link(LinkReport::Lost("cut".into())));
    w.done();
    let moment = Duration::from_millis(100);
    let answered = |w: &mut World, id: &str| {
        w.tell(Event::Handled(InvocationId::new(id), Ok(json!({}))));
        let result = |up: &Up| matches!(up, Up::ActionResult(_));
        w.sent().iter().any(result)
    };
    w.link_opens();
    let id = w.sent().iter().find_map(|up| match up {
        Up::NodeRegister(frame) => frame.id.clone(),
        _ => None,
    });
    w.frame(json!({"type": "reply", "id": id, "ok": true, "data": {}}));
    w.pass(moment);
    // What had waited for this node comes behind the answer.
    invoke(&mut w, "i1", "deploy", json!({}));
    w.pass(moment);
    invoke(&mut w, "i2", "deploy", json!({}));
    assert!(lists(&w.sent()).is_empty());
    assert!(answered(&mut w, "i1") && answered(&mut w, "i2"));
    w.pass(moment);
    invoke(&mut w, "i3", "deploy", json!({}));
    w.pass(moment);
    assert!(answered(&mut w, "i3"));
    w.pass(moment);
    assert!(lists(&w.sent()).is_empty(), "one more may come");
    w.pass(moment);
    assert_eq!(lists(&w.sent()).len(), 1, "none came");
    a_change(&mut w);
    assert_eq!(lists(&w.sent()).len(), 1, "nothing is expected now");
}

/// On a new link no mail flows before a list, and what runs here for longer than engines wait has gone elsewhere by then.
#[test]
fn mail_waits_for_slow_work_no_longer_than_the_engine_does() {
    let mut w = serving(1);
    w.spawn("old");
    invoke(&mut w, "i1", "deploy", json!({}));
    w.tell(Event::Link(LinkReport::Lost("cut".into())));
    w.done();
    w.link_up();
    w.pass(Duration::from_secs(44));
    assert_eq!(lists(&w.sent()).len(), 0);
    w.pass(Duration::from_secs(1));
    assert_eq!(lists(&w.sent()).len(), 1);
}

/// Missing mail is asked for with a list. A new link in its stead would have the work done twice.
#[test]
fn missing_mail_that_cannot_be_asked_for_yet_cuts_no_link() {
    let mut w = serving(1);
    w.spawn("old");
    w.mail("old", 1);
    invoke(&mut w, "i1", "deploy", json!({}));
    w.mail("old", 3);
    w.pass(Duration::from_secs(30));
    let reconnects = Effect::Link(crate::msg::LinkCommand::Reconnect);
    assert!(!w.done().contains(&reconnects));
    w.tell(Event::Handled(InvocationId::new("i1"), Ok(json!({}))));
    w.quiet();
    assert_eq!(lists(&w.sent()).len(), 1);
    w.pass(Duration::from_secs(10));
    assert!(w.done().contains(&reconnects), "the engine does not answer");
}

/// N12, N31: what a connected program spawns for an invocation that it serves is known to the engine by it, and the list
/// that shows the agent comes after the result.
#[test]
fn an_agent_that_a_connected_program_spawns_for_an_invocation_is_known_by_it() {
    let mut w = World::new();
    w.link_up();
    connected(&mut w, &["spawn:codex"], false);
    invoke(&mut w, "i1", "spawn:codex", json!({"name": "w1"}));
    w.done();
    let source = SpawnSource::Served(InvocationId::new("i1"));
    w.call(ApiCall::Spawn(Box::new(request("w1")), source));
    let born_of = w.effects.iter().find_map(|e| match e {
        Effect::Send(Up::AgentRegister(frame)) => frame.invocation_id.clone(),
        _ => None,
    });
    assert_eq!(born_of, Some(InvocationId::new("i1")));
    w.registered("w1");
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 9 });
    let sent = w.sent();
    assert!(
        lists(&sent).is_empty() && answers(&sent).is_empty(),
        "{sent:?}"
    );
    let done = SidecarCall::Result(InvocationId::new("i1"), spawned("w1"));
    sidecar(&mut w, done);
    w.quiet();
    let sent = w.sent();
    assert!(
        matches!(&sent[..], [Up::ActionResult(_), Up::InventorySync(_)]),
        "{sent:?}"
    );
    assert_eq!(lists(&sent)[0].agents[0].invocation_id, born_of);
}
