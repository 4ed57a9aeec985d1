//! Programs as the operator described them.

use super::*;

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
            headless: false,
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
        let (mut argv, described) = argv(&mut w, name).expect("started");
        if argv[1] == "--session-id" {
            argv.drain(1..3);
        }
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
