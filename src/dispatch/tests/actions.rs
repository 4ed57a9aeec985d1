//! What the engine asks of the node: spawns, releases, and actions that programs serve.

use super::*;
use crate::msg::{ActionSpec, HandlerRun, Harness};

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

#[test]
fn a_spawn_asked_twice_by_the_engine_starts_once_and_is_answered_alike() {
    let mut w = World::new();
    w.link_up();
    running(&mut w, "inv_1", "w1");
    invoke(
        &mut w,
        "inv_1",
        "spawn:claude",
        json!({"name":"w1","cli":"cat"}),
    );
    let starts = |effects: &[Effect]| {
        let spawn = |e: &&Effect| matches!(e, Effect::Spawn(..));
        effects.iter().filter(spawn).count()
    };
    assert_eq!(starts(&w.done()), 1);
    w.pass(Duration::from_millis(250));
    assert_eq!(answers(&w.sent()), [spawned("w1")]);
    invoke(
        &mut w,
        "inv_1",
        "spawn:claude",
        json!({"name":"w1","cli":"cat"}),
    );
    assert_eq!(
        answers(&w.sent()),
        [spawned("w1")],
        "a repetition is answered alike"
    );
    let mut w = World::after(w.journal);
    w.link_up();
    w.done();
    invoke(
        &mut w,
        "inv_1",
        "spawn:claude",
        json!({"name":"w1","cli":"cat"}),
    );
    assert_eq!(
        answers(&w.sent()),
        [spawned("w1")],
        "also by the next broker"
    );
}

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
    let sent = w.sent();
    assert!(
        matches!(&sent[..], [Up::ActionResult(_), Up::InventorySync(_)]),
        "a list without an open spawn would give it to another node: {sent:?}"
    );
}

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
    w.d.facts.harness_table.insert(
        "claude".into(),
        Harness {
            command: "/opt/claude".into(),
            args: vec!["--careful".into()],
            env: [("MODE".to_owned(), "x".to_owned())].into(),
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
}

fn serving(concurrency: usize) -> World {
    let mut w = World::new();
    w.d.facts.actions.insert(
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
    assert_eq!(answers(&w.sent()), [listed.clone()]);
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
